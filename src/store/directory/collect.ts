// Which objects nobody needs any more. Pure. Records keep their story; the store need not.
import type { AccessApprovalSpec, AccessGrantStatus } from '../../api/grant.ts';
import type { CommandHoldSpec, CommandHoldStatus } from '../../api/hold.ts';
import type { Resource } from '../../api/resource.ts';
import type { StoredObject } from './state.ts';

/** How long what is over stays visible, milliseconds. */
export const KEEP_MS = 7 * 24 * 3_600_000;

/** Keys of objects that were over more than KEEP_MS ago, and of what hangs on objects that are gone. */
export function collectable(objects: ReadonlyMap<string, StoredObject>, nowMs: number): string[] {
  const over = new Set<string>();
  const uids = new Set<string>();
  for (const [key, { object, file }] of objects) {
    const ended = file === undefined ? endOf(object) : undefined;
    if (ended !== undefined && ended + KEEP_MS < nowMs) over.add(key);
    else uids.add(object.metadata.uid);
  }
  for (const [key, { object, file }] of objects) {
    if (file !== undefined || over.has(key)) continue;
    const age = nowMs - time(object.metadata.creationTimestamp, nowMs);
    if (age <= KEEP_MS) continue;
    const owners = object.metadata.ownerReferences ?? [];
    const orphan = owners.length > 0 && owners.every((owner) => !uids.has(owner.uid));
    const idle = object.kind === 'AccessApproval' && !uids.has((object.spec as AccessApprovalSpec).targetRef.uid);
    if (orphan || idle) over.add(key);
  }
  return [...over];
}

/** When the object was over, milliseconds; undefined if it is not, or it can not be told. */
function endOf(object: Resource): number | undefined {
  if (object.kind === 'AccessGrant') {
    const status = object.status as AccessGrantStatus | undefined;
    if (status === undefined || status.phase === 'Pending' || status.phase === 'Active') return undefined;
    return time(status.finishedAt ?? status.expiresAt ?? object.metadata.creationTimestamp, undefined);
  }
  if (object.kind === 'CommandHold') {
    const status = object.status as CommandHoldStatus | undefined;
    const until = time((object.spec as CommandHoldSpec).until, undefined);
    // A hold is over at its time-out, whatever became of whoever should have said so.
    const last = [until, time(status?.decidedAt, until), time(status?.usableUntil, until)];
    return last.every((ms) => ms !== undefined) ? Math.max(...last) : undefined;
  }
  return undefined;
}

function time<Fallback>(text: string | undefined, fallback: Fallback): number | Fallback {
  const ms = Date.parse(text ?? '');
  return Number.isNaN(ms) ? fallback : ms;
}
