// Whether a grant may continue another one, and when that one ends. Pure. An extension has votes of its own; it keeps
// requester, Connection, account and policy, is the only one of its parent, and the chain is no longer than one grant
// may be. What cuts the parent cuts it.
import { canonicalJson } from '../../api/canonical.ts';
import { formatDuration } from '../../api/duration.ts';
import type { AccessGrant, AccessGrantStatus } from '../../api/grant.ts';
import type { AccessPolicy } from '../../api/policy.ts';
import { maxDurationOf } from '../../policy/eligibility.ts';
import type { Principal } from '../../policy/principal.ts';
import type { Sealer } from '../seal.ts';
import type { GrantFacts } from './decide.ts';
import { isTerminal } from './fold.ts';
import { sealedStatus } from './sealed.ts';

type ParentCheck = { kind: 'Good'; parent: { endMs: number; cutAtMs?: number } } | { kind: 'Refused'; message: string };

export function checkParent(
  facts: GrantFacts,
  sealer: Sealer,
  own: {
    requester: Principal;
    policy: AccessPolicy | undefined;
    account: string | undefined;
    durationMs: number;
    approvedBefore: boolean;
  },
): ParentCheck {
  const { grant } = facts;
  const ref = grant.spec.extends!;
  const refused = (message: string): ParentCheck => ({ kind: 'Refused', message });
  const parent = facts.find(ref.name);
  const status = parent?.metadata.uid === ref.uid ? sealedStatus(parent, sealer) : undefined;
  if (parent === undefined || status === undefined) {
    // Its record may have been collected since; what was granted by then goes on to its own end.
    return own.approvedBefore
      ? { kind: 'Good', parent: { endMs: Date.parse(grant.status!.notBefore!) } }
      : refused(`It extends grant ${ref.name}, which is not there any more. Request access without --extend.`);
  }
  // Taken back before it began it is Denied; what was to follow on it is cut just so.
  const cut = status.phase === 'Revoked' || (status.phase === 'Denied' && status.expiresAt !== undefined);
  const cutAtMs = cut ? Date.parse(status.finishedAt!) : undefined;
  if (own.approvedBefore || status.expiresAt === undefined) {
    if (status.expiresAt === undefined)
      return refused(`Grant ${ref.name} was never approved, so nothing can extend it.`);
    return {
      kind: 'Good',
      parent: { endMs: Date.parse(status.expiresAt), ...(cutAtMs !== undefined ? { cutAtMs } : {}) },
    };
  }
  if (grant.spec.notBefore !== undefined)
    return refused('An extension begins when its parent ends; leave --not-before out.');
  const stamp = sealer.checkStamp(parent.spec.requester, parent.spec, parent.metadata.creationTimestamp);
  const same =
    stamp.kind === 'Good' &&
    (stamp.principal.uid !== undefined || own.requester.uid !== undefined
      ? stamp.principal.uid === own.requester.uid
      : stamp.principal.username === own.requester.username);
  if (!same || canonicalJson(parent.spec.beneficiary ?? null) !== canonicalJson(grant.spec.beneficiary ?? null))
    return refused(`Grant ${ref.name} is somebody else's; only its requester can extend it.`);
  if (parent.spec.connectionRef.name !== grant.spec.connectionRef.name) {
    return refused(
      `Grant ${ref.name} is for Connection ${parent.spec.connectionRef.name}; an extension keeps the Connection.`,
    );
  }
  if (own.policy !== undefined) {
    if (status.account !== own.account)
      return refused(`Grant ${ref.name} uses account ${status.account ?? '(none)'}; an extension keeps the account.`);
    if (status.policy?.uid !== own.policy.metadata.uid) {
      return refused(
        `Grant ${ref.name} runs under policy ${status.policy?.name ?? '(none)'}; an extension keeps the policy.`,
      );
    }
    const rootStart = chainStart(facts, sealer, parent, status);
    const most = maxDurationOf(own.policy);
    if (Date.parse(status.expiresAt) + own.durationMs - rootStart > most) {
      return refused(
        `With this extension the access would last longer than the ${formatDuration(most)} that policy ${own.policy.metadata.name} allows in one go. Request new access instead.`,
      );
    }
  }
  const rival = facts.siblings.find((other) => {
    const theirs = sealedStatus(other, sealer);
    const dead = theirs !== undefined && isTerminal(theirs.phase) && theirs.expiresAt === undefined;
    const at = (each: AccessGrant): string => `${each.spec.requester?.at ?? ''} ${each.metadata.uid}`;
    return !dead && at(other) < at(grant);
  });
  if (rival !== undefined) return refused(`Grant ${rival.metadata.name} extends ${ref.name} already; extend that one.`);
  return {
    kind: 'Good',
    parent: { endMs: Date.parse(status.expiresAt), ...(cutAtMs !== undefined ? { cutAtMs } : {}) },
  };
}

function chainStart(facts: GrantFacts, sealer: Sealer, parent: AccessGrant, status: AccessGrantStatus): number {
  let start = Date.parse(status.notBefore!);
  let at = parent;
  for (let depth = 0; depth < 64 && at.spec.extends !== undefined; depth += 1) {
    const above = facts.find(at.spec.extends.name);
    const theirs = above?.metadata.uid === at.spec.extends.uid ? sealedStatus(above, sealer) : undefined;
    if (above === undefined || theirs?.notBefore === undefined || Date.parse(theirs.expiresAt!) < start) break;
    start = Date.parse(theirs.notBefore);
    at = above;
  }
  return start;
}
