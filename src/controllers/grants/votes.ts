// Which AccessApprovals are votes at all: stamped and sealed by the operator, bound to this very object and to the spec
// its author saw, and not a copy of another's stamp. What a vote is worth is decided by the folds.
import type { AccessApproval } from '../../api/grant.ts';
import { isTicketName } from '../../api/notifier.ts';
import type { Principal } from '../../policy/principal.ts';
import { type LoginFacts, loginOf } from '../../policy/step-up.ts';
import type { Sealer } from '../seal.ts';

export interface ProvenVote {
  uid: string;
  name: string;
  atMs: number;
  decision: AccessApproval['spec']['decision'];
  voter: Principal;
  reason?: string;
  /** How its author had logged in, where somebody says so. */
  login?: LoginFacts;
}

export interface VoteTarget {
  kind: 'AccessGrant' | 'CommandHold';
  namespace: string | undefined;
  name: string;
  uid: string;
  specHash: string;
}

/**
 * Time as it has been by the operator's own seals: a replica whose clock is a little ahead may have stamped a vote, and
 * the one that decides must neither wait for its own clock nor forget to look again. Stamps lie within two seconds of the
 * API server's clock.
 */
export const provenNow = (nowMs: number, votes: readonly Pick<ProvenVote, 'atMs'>[]): number =>
  votes.reduce((latest, { atMs }) => Math.max(latest, atMs), nowMs);

/** `rejected`: uid of the approval to a sentence that says why it is no vote. */
export function provenVotes(
  target: VoteTarget,
  approvals: readonly AccessApproval[],
  sealer: Pick<Sealer, 'checkStamp'>,
): { votes: ProvenVote[]; rejected: Map<string, string> } {
  const rejected = new Map<string, string>();
  const proven: (ProvenVote & { nonce: string })[] = [];
  for (const approval of approvals) {
    const { spec, metadata } = approval;
    if (metadata.namespace !== target.namespace) continue; // never across namespaces
    if (spec.targetRef.kind !== target.kind || spec.targetRef.name !== target.name) continue;
    if (spec.targetRef.uid !== target.uid) {
      rejected.set(metadata.uid, 'It is about an earlier object of the same name.');
      continue;
    }
    if (spec.specHash !== target.specHash) {
      rejected.set(metadata.uid, 'Its author was shown another request than this one (specHash differs).');
      continue;
    }
    const check = sealer.checkStamp(spec.approver, spec, metadata.creationTimestamp);
    if (check.kind === 'Bad') {
      rejected.set(metadata.uid, `Nobody vouches for who made it: ${check.message}.`);
      continue;
    }
    const login = loginOf(check.auth);
    if (isTicketName(check.principal.username) !== (spec.approver?.via === 'Ticket')) {
      rejected.set(metadata.uid, 'Only a ticket system votes under a name that begins with “ticket:”.');
      continue;
    }
    proven.push({
      uid: metadata.uid,
      name: metadata.name,
      atMs: check.atMs,
      decision: spec.decision,
      voter: check.principal,
      nonce: check.nonce,
      ...(login === undefined ? {} : { login }),
      ...(spec.reason ? { reason: spec.reason } : {}),
    });
  }
  proven.sort((a, b) => a.atMs - b.atMs || (a.uid < b.uid ? -1 : 1));
  const nonces = new Set<string>();
  const votes: ProvenVote[] = [];
  for (const { nonce, ...vote } of proven) {
    if (nonces.has(nonce)) rejected.set(vote.uid, 'Its stamp was used before.');
    else votes.push(vote);
    nonces.add(nonce);
  }
  return { votes, rejected };
}
