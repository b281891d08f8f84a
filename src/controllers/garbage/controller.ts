// Takes away what has had its time (decide.ts), and calls sessions lost whose proxy is gone. Looks at everything every
// minute instead of holding a timer an object. In a cluster only: in a directory people keep what they like.
import type { AccessApproval, AccessGrant } from '../../api/grant.ts';
import type { CommandHold } from '../../api/hold.ts';
import type { Resource } from '../../api/resource.ts';
import type { AccessSession, AccessSessionStatus } from '../../api/session.ts';
import type { KindName, ObjectKey, ResourceStore, StoreResult } from '../../store/resource-store.ts';
import type { Clock } from '../../system/clock.ts';
import { rfc3339 } from '../conditions.ts';
import { type Cache, createQueue, keyOf, type Log, splitKey } from '../runtime.ts';
import { approvalFate, type Fate, grantFate, holdFate, sessionFate } from './decide.ts';

/** Kinds that the cache must hold beside what the operator holds anyway. */
export const GARBAGE_KINDS: readonly KindName[] = ['AccessSession'];
const SWEPT = ['AccessSession', 'AccessGrant', 'CommandHold', 'AccessApproval'] as const;
const SWEEP_MS = 60_000;

export interface Garbage {
  readonly idle: boolean;
  /** Looks at everything now. */
  sweep(): void;
  stop(): Promise<void>;
}

export function startGarbage(options: { store: ResourceStore; cache: Cache; clock: Clock; log: Log }): Garbage {
  const { store, cache, clock } = options;

  const fateOf = (object: Resource): Fate => {
    const nowMs = clock.now();
    const within = object.metadata.namespace === undefined ? {} : { namespace: object.metadata.namespace };
    switch (object.kind) {
      case 'AccessSession': {
        const session = object as AccessSession;
        const replica = cache.get({ kind: 'ProxyReplica', ...within, name: session.spec.replica });
        return sessionFate(session, replica !== undefined, nowMs);
      }
      case 'AccessGrant': {
        const continued = cache
          .indexed<AccessGrant>('AccessGrant', 'parent', object.metadata.uid)
          .some(({ status }) => status === undefined || status.phase === 'Pending' || status.phase === 'Active');
        return grantFate(object as AccessGrant, continued, nowMs);
      }
      case 'CommandHold':
        return holdFate(object as CommandHold, nowMs);
      case 'AccessApproval': {
        const approval = object as AccessApproval;
        const { kind, name } = approval.spec.targetRef;
        // A kind that this version does not hold may well be there.
        if (kind !== 'AccessGrant' && kind !== 'CommandHold') return { kind: 'Keep' };
        return approvalFate(approval, cache.get({ kind, ...within, name })?.metadata.uid, nowMs);
      }
      default:
        return { kind: 'Keep' };
    }
  };

  const queue = createQueue({
    name: 'garbage',
    clock,
    log: options.log,
    concurrency: 2,
    async reconcile(id) {
      const space = id.indexOf(' ');
      const { namespace, name } = splitKey(id.slice(space + 1));
      const key: ObjectKey = { kind: id.slice(0, space) as KindName, name, ...(namespace ? { namespace } : {}) };
      const object = cache.get(key);
      if (object === undefined) return undefined;
      const fate = fateOf(object);
      if (fate.kind === 'Delete') check(key, await store.delete({ kind: 'Operator' }, key, object.metadata.uid));
      if (fate.kind === 'Lost') {
        const status: AccessSessionStatus = { phase: 'Lost', endedAt: rfc3339(clock.now()), reason: fate.reason };
        const { resourceVersion } = object.metadata;
        const written = await store.applyStatus({ kind: 'Operator' }, key, resourceVersion, status);
        if (written.kind === 'Ok') cache.remember(written.value as Resource);
        else check(key, written);
      }
      return undefined;
    },
  });

  const sweep = (): void => {
    for (const kind of SWEPT) {
      for (const object of cache.list(kind)) {
        if (fateOf(object).kind === 'Keep') continue;
        queue.add(`${kind} ${keyOf(object.metadata.namespace, object.metadata.name)}`);
      }
    }
  };
  let cancel = (): void => undefined;
  const arm = (): void => {
    cancel = clock.after(SWEEP_MS, () => {
      sweep();
      arm();
    });
  };
  sweep();
  arm();
  return {
    sweep,
    get idle() {
      return queue.idle;
    },
    async stop() {
      cancel();
      await queue.stop();
    },
  };
}

/** Throws on what is worth another try; a conflict comes round again with the watch's news. */
function check(key: ObjectKey, result: StoreResult<unknown>): void {
  if (result.kind === 'Ok' || result.kind === 'NotFound' || result.kind === 'Conflict') return;
  const why = result.kind === 'Forbidden' ? result.message : result.kind;
  throw new Error(`${key.kind} ${keyOf(key.namespace, key.name)} can not be cleared away: ${why}`);
}
