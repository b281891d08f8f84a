// Which lock, if any, holds somebody. A lock excludes, so it is read generously: any identifier of the person, folded;
// any group they have or had when they logged in. Pure.
import type { LockEntry } from '../policy/bundle.ts';
import { foldIdentifier, namesPerson } from '../policy/persons.ts';
import type { Principal } from '../policy/principal.ts';

/**
 * The first lock in force at `nowMs` that reaches the principal, or undefined. `groupsAtLogin` may differ from the
 * principal's groups of now: either counts. A lock that says what it locks in no way known here locks everything.
 */
export function lockHolding(
  locks: readonly LockEntry[],
  principal: Principal,
  groupsAtLogin: readonly string[],
  nowMs: number,
): LockEntry | undefined {
  return locks.find(
    (lock) => (lock.untilMs === undefined || lock.untilMs > nowMs) && reaches(lock, principal, groupsAtLogin),
  );
}

function reaches({ target }: LockEntry, principal: Principal, groupsAtLogin: readonly string[]): boolean {
  if (target.everything === true || target.connection === true) return true;
  if (target.user !== undefined) return namesPerson(target.user, principal);
  if (target.group !== undefined) {
    const name = foldIdentifier(target.group);
    return [...principal.groups, ...groupsAtLogin].some((group) => foldIdentifier(group) === name);
  }
  return true;
}
