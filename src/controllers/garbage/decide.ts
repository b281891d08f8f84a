// What has had its time in the API. Pure. Records are the memory; objects are for what goes on and for those who still
// look. Deleting any of these takes a right away or nothing at all, so a status that somebody forged costs no more than
// its own object.
import type { AccessApproval, AccessGrant } from '../../api/grant.ts';
import type { CommandHold } from '../../api/hold.ts';
import type { AccessSession } from '../../api/session.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
export const SESSION_KEPT_MS = HOUR_MS;
export const GRANT_KEPT_MS = 7 * DAY_MS;
/** An emergency is looked into afterwards. */
export const EMERGENCY_KEPT_MS = 90 * DAY_MS;
export const HOLD_KEPT_MS = 7 * DAY_MS;
/** An approval may be told before the request that it is for. */
export const ORPHAN_KEPT_MS = HOUR_MS;
const NEW_SESSION_MS = 60_000;

export type Fate = { kind: 'Keep' } | { kind: 'Delete' } | { kind: 'Lost'; reason: string };
const KEEP: Fate = { kind: 'Keep' };

/** `NaN` is never over, so what can not be read is kept. */
const isOver = (moment: string | undefined, keptMs: number, nowMs: number): boolean =>
  nowMs - Date.parse(moment ?? '') > keptMs;
const after = (over: boolean): Fate => (over ? { kind: 'Delete' } : KEEP);

/** `hasReplica`: whether the ProxyReplica that serves it is there. */
export function sessionFate(session: AccessSession, hasReplica: boolean, nowMs: number): Fate {
  const { status, metadata, spec } = session;
  if (status?.phase === 'Ended' || status?.phase === 'Lost')
    return after(isOver(status.endedAt ?? metadata.creationTimestamp, SESSION_KEPT_MS, nowMs));
  if (hasReplica || !isOver(metadata.creationTimestamp, NEW_SESSION_MS, nowMs)) return KEEP;
  return { kind: 'Lost', reason: `its proxy ${spec.replica} is gone` };
}

/** `continued`: whether a grant that is not over continues it. */
export function grantFate(grant: AccessGrant, continued: boolean, nowMs: number): Fate {
  const { status, spec } = grant;
  if (continued || status === undefined || status.phase === 'Pending' || status.phase === 'Active') return KEEP;
  // An emergency waits for its review, however long that takes.
  const emergency = (spec.breakGlass === true && status.expiresAt !== undefined) || status.sealedUses !== undefined;
  if (emergency && status.signOff === undefined) return KEEP;
  const ended = status.finishedAt ?? status.expiresAt ?? grant.metadata.creationTimestamp;
  return after(
    isOver(
      ended,
      spec.breakGlass === true || status.sealedUses !== undefined ? EMERGENCY_KEPT_MS : GRANT_KEPT_MS,
      nowMs,
    ),
  );
}

export function holdFate(hold: CommandHold, nowMs: number): Fate {
  if (hold.status === undefined || hold.status.phase === 'Waiting') return KEEP;
  return after(isOver(hold.status.decidedAt ?? hold.spec.until, HOLD_KEPT_MS, nowMs));
}

/** `targetUid`: of the object that now has the name it was given for. */
export function approvalFate(approval: AccessApproval, targetUid: string | undefined, nowMs: number): Fate {
  if (approval.spec.targetRef.uid === targetUid) return KEEP;
  return after(isOver(approval.metadata.creationTimestamp, ORPHAN_KEPT_MS, nowMs));
}
