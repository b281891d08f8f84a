import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CommandHold, CommandHoldStatus } from '../../api/hold.ts';
import type { ResourceStore } from '../../store/resource-store.ts';
import { manualClock } from '../../system/manual-clock.ts';
import { createControlPlane } from './control-plane.ts';

const HOLD = { name: 'h-2b7', namespace: 'payments', uid: 'u-1' };

/** A store that holds one CommandHold, or none. */
function storeWith(
  status: CommandHoldStatus | undefined,
): Pick<ResourceStore, 'get' | 'applyStatus'> & { status(): CommandHoldStatus | undefined } {
  let current = status;
  return {
    get: (async () =>
      current === undefined
        ? undefined
        : { metadata: { uid: HOLD.uid, resourceVersion: '1' }, status: current }) as ResourceStore['get'],
    applyStatus: (async (_actor: unknown, _key: unknown, _version: unknown, next: CommandHoldStatus) => {
      current = next;
      return { kind: 'Ok', value: {} as CommandHold };
    }) as unknown as ResourceStore['applyStatus'],
    status: () => current,
  };
}

test('INV-01: an approval is used once: the second use is an error, so nothing runs', async () => {
  const store = storeWith({ phase: 'Approved' });
  const plane = createControlPlane(store as unknown as ResourceStore, manualClock());
  await plane.closeHold(HOLD, 'Used');
  assert.ok(store.status()?.usedAt);
  await assert.rejects(plane.closeHold(HOLD, 'Used'), /used before/);
});

test('INV-01: an approval that is gone or was never given can not be used', async () => {
  for (const [status, problem] of [
    [undefined, /gone/],
    [{ phase: 'Denied' }, /not approved/],
    [{ phase: 'Waiting' }, /not approved/],
  ] as const) {
    const plane = createControlPlane(storeWith(status) as unknown as ResourceStore, manualClock());
    await assert.rejects(plane.closeHold(HOLD, 'Used'), problem);
  }
});

test('withdrawing what was decided in the same moment changes nothing', async () => {
  const store = storeWith({ phase: 'Approved' });
  await createControlPlane(store as unknown as ResourceStore, manualClock()).closeHold(HOLD, 'Withdrawn');
  assert.deepEqual(store.status(), { phase: 'Approved' });
});
