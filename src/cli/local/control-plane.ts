// What the gateway may ask of the control plane in one process: open a hold, and tell how it ended on its side. The
// decision itself comes back signed, in the bundle.

import type { CommandHold, CommandHoldStatus } from '../../api/hold.ts';
import { API_GROUP_VERSION } from '../../api/schema.ts';
import { rfc3339 } from '../../controllers/conditions.ts';
import type { ControlPlane } from '../../gateway/ports.ts';
import type { Actor, ResourceStore } from '../../store/resource-store.ts';
import type { Clock } from '../../system/clock.ts';

const PROXY: Actor = { kind: 'Proxy', replica: 'local' };
const TRIES = 5;

export function createControlPlane(store: ResourceStore, clock: Clock): ControlPlane {
  return {
    async openHold({ name, namespace, spec }) {
      const result = await store.create<CommandHold>(PROXY, {
        apiVersion: API_GROUP_VERSION,
        kind: 'CommandHold',
        metadata: { name, namespace },
        spec,
      });
      if (result.kind === 'Ok') return { uid: result.value.metadata.uid };
      const why =
        result.kind === 'Invalid' ? result.problems.join('; ') : 'message' in result ? result.message : result.kind;
      throw new Error(`the hold could not be opened: ${why}`);
    },
    async closeHold({ name, namespace, uid }, event) {
      for (let attempt = 0; attempt < TRIES; attempt += 1) {
        const hold = await store.get<CommandHold>({ kind: 'CommandHold', namespace, name });
        if (hold === undefined || hold.metadata.uid !== uid) {
          // An approval that can not be marked as used could be used again: the gateway then runs nothing.
          if (event === 'Used') throw new Error('the hold is gone, so its approval can not be used');
          return;
        }
        const status = hold.status;
        const now = rfc3339(clock.now());
        let next: CommandHoldStatus;
        if (event === 'Used') {
          if (status?.phase !== 'Approved') throw new Error('the hold is not approved');
          if (status.usedAt !== undefined) throw new Error('its approval was used before');
          next = { ...status, usedAt: now };
        } else {
          if (status !== undefined && status.phase !== 'Waiting') return; // decided in the same moment: that stands
          next = { phase: event, decidedAt: now };
        }
        const result = await store.applyStatus(
          PROXY,
          { kind: 'CommandHold', namespace, name },
          hold.metadata.resourceVersion,
          next,
        );
        if (result.kind === 'Ok' || (result.kind === 'NotFound' && event !== 'Used')) return;
        if (result.kind !== 'Conflict') throw new Error(`the hold could not be closed: ${result.kind}`);
      }
      throw new Error('the hold could not be closed: it kept changing');
    },
  };
}
