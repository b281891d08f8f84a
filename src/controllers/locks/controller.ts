// Records that a lock was set and says that it is in force or over. Enforcement is the bundle's overlay.
import type { AccessLock } from '../../api/lock.ts';
import type { ControlBody } from '../../recording/envelope.ts';
import { conditionIs, withCondition } from '../conditions.ts';
import { actorOf, objectOf, recordAct } from '../grants/controller.ts';
import type { ControllerContext } from '../ports.ts';
import { type Reconcile, splitKey } from '../runtime.ts';
import { writeStatus } from '../status.ts';

export function createLockReconciler(context: ControllerContext): Reconcile {
  const { cache, clock, records } = context;
  return async (key) => {
    const { namespace, name } = splitKey(key);
    const lock = cache.get<AccessLock>({ kind: 'AccessLock', ...(namespace ? { namespace } : {}), name });
    if (lock === undefined) return undefined;
    const nowMs = clock.now();
    const untilMs = lock.spec.until === undefined ? Infinity : Date.parse(lock.spec.until);
    const over = untilMs <= nowMs;
    if (lock.status === undefined) {
      const body: ControlBody = {
        act: 'lock.create',
        actor: lock.spec.author ? actorOf(lock.spec.author) : { username: 'files' },
        object: objectOf(lock),
        details: {
          target: lock.spec.target,
          reason: lock.spec.reason,
          ...(lock.spec.until ? { until: lock.spec.until } : {}),
        },
      };
      await recordAct(context, body, true);
    } else if (over && conditionIs(lock.status.conditions, 'Active', 'True')) {
      await records.write({ act: 'lock.end', actor: { username: 'sallyport' }, object: objectOf(lock) });
    }
    const conditions = withCondition(
      lock.status?.conditions,
      over
        ? { type: 'Active', status: 'False', reason: 'Over', message: `It ended at ${lock.spec.until}.` }
        : {
            type: 'Active',
            status: 'True',
            reason: 'InForce',
            message: 'Sessions it reaches are cut and new ones refused.',
          },
      nowMs,
    );
    await writeStatus(context, lock, { conditions });
    return Number.isFinite(untilMs) && !over ? { againInMs: untilMs - nowMs } : undefined;
  };
}
