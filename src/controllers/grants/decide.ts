// What a grant's status is to be, from everything that bears on it. Pure. The fold (fold.ts) says how votes and time
// move it; here is what the fold is fed: proven votes, the policy it runs under, its parent if it extends one. Nothing
// unsealed is believed: a status with a bad seal is decided again from the approvals.
import { specHash } from '../../api/canonical.ts';
import { formatDuration, parseDuration } from '../../api/duration.ts';
import type { AccessApproval, AccessGrant, AccessGrantStatus } from '../../api/grant.ts';
import type { AccessPolicy } from '../../api/policy.ts';
import type { Condition } from '../../api/schema.ts';
import { DEFAULT_GRANT_MS, maxDurationOf } from '../../policy/eligibility.ts';
import { excluded, samePerson } from '../../policy/persons.ts';
import type { Principal } from '../../policy/principal.ts';
import { matchesAny, subjectText } from '../../policy/subjects.ts';
import { rfc3339, withCondition } from '../conditions.ts';
import type { Sealer } from '../seal.ts';
import { foldGrant, isTerminal, type SealedLife, type Vote } from './fold.ts';
import { provenVotes } from './votes.ts';
import { conditionsOf, described, messageOf, waitingText } from './wording.ts';

/** How long a request waits for its approvers when its policy does not say. */
export const DEFAULT_APPROVAL_TIMEOUT_MS = 3_600_000;

/** What eligibility said: the one policy it runs under and the account, or why there is none. */
export type Choice =
  | { kind: 'Eligible'; policy: AccessPolicy; account: string; durationMs: number }
  | { kind: 'Refused'; message: string };

export interface GrantFacts {
  grant: AccessGrant;
  approvals: readonly AccessApproval[];
  /** Asked while nothing is sealed; `pinned` names the policy it waited under so far. */
  choose(principal: Principal, pinned: string | undefined): Choice;
  /** The AccessPolicy of this name and uid, accepted or not. */
  policy(namespace: string | undefined, name: string, uid: string): AccessPolicy | undefined;
  /** The grant of this name in the same namespace. */
  find(name: string): AccessGrant | undefined;
  /** Grants that extend the same parent, this one left out. */
  siblings: readonly AccessGrant[];
  /** Other grants, of any Connection, with the same client key. */
  sameKey: readonly AccessGrant[];
  /** Why it is in force and yet gives no access: its policy no longer means its requester. */
  withheld?: string;
  nowMs: number;
  /** `sallyport` or `kubectl access`. */
  prefix: string;
}

export interface GrantDecision {
  status: AccessGrantStatus;
  /** By uid of the approval: whether it counts and the sentence that says so. */
  votes: ReadonlyMap<string, { counted: boolean; reason: string; message: string }>;
  nextMs?: number;
}

const PURPOSE = 'AccessGrant';

function sealedFacts(hash: string, status: AccessGrantStatus): unknown {
  const { phase, policy, account, approvals, deadline, notBefore, expiresAt, finishedAt, finishedBy } = status;
  return { hash, phase, policy, account, approvals, deadline, notBefore, expiresAt, finishedAt, finishedBy };
}

/** The status if the operator sealed it over this very grant. */
export function sealedStatus(grant: AccessGrant, sealer: Pick<Sealer, 'checkFacts'>): AccessGrantStatus | undefined {
  const { status } = grant;
  if (status?.seal === undefined) return undefined;
  const facts = sealedFacts(specHash(grant.spec), status);
  return sealer.checkFacts(PURPOSE, grant.metadata.uid, facts, status.seal) ? status : undefined;
}

const ms = (text: string | undefined): number | undefined => (text === undefined ? undefined : Date.parse(text));

function lifeOf(status: AccessGrantStatus): SealedLife {
  const startMs = ms(status.expiresAt) === undefined ? undefined : ms(status.notBefore);
  return {
    phase: status.phase,
    counted: (status.approvals ?? []).map((each) => ({
      step: each.step,
      approver: each.approver,
      vote: each.approval,
      atMs: Date.parse(each.at),
      ...(each.reason ? { reason: each.reason } : {}),
    })),
    deadlineMs: ms(status.deadline) ?? 0,
    ...(startMs !== undefined ? { startMs, endMs: ms(status.expiresAt)! } : {}),
    ...(status.finishedAt ? { finishedAtMs: Date.parse(status.finishedAt) } : {}),
    ...(status.finishedBy ? { finishedBy: status.finishedBy } : {}),
  };
}

export function decideGrant(facts: GrantFacts, sealer: Sealer): GrantDecision {
  const { grant, nowMs } = facts;
  const hash = specHash(grant.spec);
  const before = sealedStatus(grant, sealer);
  const { votes, rejected } = provenVotes(
    {
      kind: 'AccessGrant',
      namespace: grant.metadata.namespace,
      name: grant.metadata.name,
      uid: grant.metadata.uid,
      specHash: hash,
    },
    facts.approvals,
    sealer,
  );
  const verdicts = new Map<string, { counted: boolean; reason: string; message: string }>();
  for (const [uid, message] of rejected) verdicts.set(uid, { counted: false, reason: 'Invalid', message });

  const finish = (status: AccessGrantStatus, extra: Partial<GrantDecision> = {}): GrantDecision => {
    const sealed = { ...status, seal: sealer.sealFacts(PURPOSE, grant.metadata.uid, sealedFacts(hash, status)) };
    return { status: sealed, votes: verdicts, ...extra };
  };
  const refuse = (message: string): GrantDecision => {
    const status: AccessGrantStatus = { phase: 'Denied', finishedAt: rfc3339(nowMs), message: message.slice(0, 1024) };
    return finish({ ...status, conditions: conditionsOf(grant, status, 'Invalid', nowMs) });
  };

  const stamp = sealer.checkStamp(grant.spec.requester, grant.spec, grant.metadata.creationTimestamp);
  if (stamp.kind === 'Bad') return refuse(`Nobody vouches for who asked: ${stamp.message}. Request it again.`);
  const requester = stamp.principal;

  if (before !== undefined && isTerminal(before.phase)) {
    for (const vote of votes)
      if (vote.decision !== 'SignOff') verdicts.set(vote.uid, described('TooLate', before.phase));
    const signed = withSignOff(facts, before, votes, requester, verdicts);
    return { status: signed, votes: verdicts };
  }
  if (grant.spec.beneficiary !== undefined) {
    return refuse('Grants on behalf of others need a delegator, and this mode has none. Leave spec.beneficiary out.');
  }

  const approvedBefore = before?.expiresAt !== undefined;
  if (before?.expiresAt === undefined) {
    const stranger = facts.sameKey.find((other) => {
      const theirs = sealer.checkStamp(other.spec.requester, other.spec, other.metadata.creationTimestamp);
      // The later one is refused: public keys can be read, and copying one must not shut its owner out.
      const earlier =
        theirs.kind === 'Good' &&
        (theirs.atMs < stamp.atMs || (theirs.atMs === stamp.atMs && other.metadata.uid < grant.metadata.uid));
      return earlier && !samePerson(theirs.principal, requester);
    });
    if (stranger !== undefined)
      return refuse('Its client key is in somebody else’s grant too. Request it again; a new key is made.');
  }
  const choice: Choice = approvedBefore
    ? { kind: 'Refused', message: '' }
    : facts.choose(requester, before?.policy?.name);
  const pinned = before?.policy;
  const policy = approvedBefore
    ? pinned && facts.policy(pinned.namespace, pinned.name, pinned.uid)
    : choice.kind === 'Eligible'
      ? choice.policy
      : undefined;
  const account = approvedBefore ? before.account : choice.kind === 'Eligible' ? choice.account : undefined;

  let parent: { endMs: number; cutAtMs?: number } | undefined;
  if (grant.spec.extends !== undefined) {
    const found = checkParent(facts, sealer, {
      requester,
      policy,
      account,
      durationMs: choice.kind === 'Eligible' ? choice.durationMs : 0,
      approvedBefore,
    });
    if (found.kind === 'Refused') return refuse(found.message);
    parent = found.parent;
  }
  const breakGlass = policy !== undefined && isBreakGlass(grant, policy, requester);
  const steps =
    policy === undefined
      ? // Nobody can approve what no policy allows; the request waits for one until its deadline.
        [{ name: 'policy', count: 1, approvers: [] }]
      : breakGlass || policy.spec.access === 'Standing'
        ? []
        : (policy.spec.approval?.steps ?? []).map((step) => ({
            name: step.name,
            count: step.count ?? 1,
            approvers: step.approvers,
          }));
  const notBeforeMs = ms(grant.spec.notBefore);
  const foldVotes = votes.filter((vote): vote is Vote => vote.decision !== 'SignOff' && vote.decision !== 'Keep');
  const life = foldGrant(
    {
      t0Ms: stamp.atMs,
      ...(notBeforeMs !== undefined ? { notBeforeMs } : {}),
      // Once approved its end is sealed; before a policy allows it, only the deadline hangs on this.
      durationMs:
        choice.kind === 'Eligible' ? choice.durationMs : (parseDuration(grant.spec.duration ?? '') ?? DEFAULT_GRANT_MS),
      timeoutMs: parseDuration(policy?.spec.approval?.timeout ?? '') ?? DEFAULT_APPROVAL_TIMEOUT_MS,
      requester,
      steps,
      objectors: objectorsOf(policy, breakGlass),
      namespace: grant.metadata.namespace ?? '',
      ...(parent !== undefined ? { parent } : {}),
    },
    foldVotes,
    before === undefined ? undefined : lifeOf(before),
    nowMs,
  );
  for (const [uid, verdict] of life.verdicts) verdicts.set(uid, described(verdict, life.phase));

  const policyRef = policy
    ? {
        kind: policy.kind,
        name: policy.metadata.name,
        ...(policy.metadata.namespace ? { namespace: policy.metadata.namespace } : {}),
        uid: policy.metadata.uid,
      }
    : pinned;
  const status: AccessGrantStatus = {
    phase: life.phase,
    ...(policyRef ? { policy: policyRef } : {}),
    ...(account !== undefined ? { account } : {}),
    ...(life.counted.length > 0
      ? {
          approvals: life.counted.map((each) => ({
            step: each.step,
            approver: each.approver,
            approval: each.vote,
            at: rfc3339(each.atMs),
            ...(each.reason ? { reason: each.reason } : {}),
          })),
        }
      : {}),
    deadline: rfc3339(Math.min(life.deadlineMs, 8.64e15)),
    ...(life.startMs !== undefined ? { notBefore: rfc3339(life.startMs), expiresAt: rfc3339(life.endMs!) } : {}),
    ...(life.finishedAtMs !== undefined ? { finishedAt: rfc3339(life.finishedAtMs) } : {}),
    ...(life.finishedBy !== undefined ? { finishedBy: life.finishedBy } : {}),
    ...(life.open !== undefined
      ? { waitingFor: (choice.kind === 'Refused' ? choice.message : waitingText(life.open)).slice(0, 1024) }
      : {}),
    ...messageOf(life, choice),
    ...(life.phase === 'Active' || (life.phase === 'Pending' && life.startMs !== undefined)
      ? { connectCommand: `${facts.prefix} connect ${grant.spec.connectionRef.name}` }
      : {}),
  };
  const withConditions = {
    ...status,
    conditions: conditionsOf(
      grant,
      status,
      life.ending ?? (breakGlass ? 'BreakGlass' : undefined),
      nowMs,
      facts.withheld,
    ),
  };
  const done = withSignOff(facts, withConditions, votes, requester, verdicts, breakGlass ? policy : undefined);
  return finish(done, life.nextMs !== undefined ? { nextMs: life.nextMs } : {});
}

function isBreakGlass(grant: AccessGrant, policy: AccessPolicy, requester: Principal): boolean {
  return (
    grant.spec.breakGlass === true &&
    (grant.spec.reason ?? '').trim() !== '' &&
    matchesAny(policy.spec.breakGlass?.subjects ?? [], requester, policy.metadata.namespace)
  );
}

function objectorsOf(policy: AccessPolicy | undefined, breakGlass: boolean) {
  return [
    ...(policy?.spec.approval?.steps ?? []).flatMap((step) => step.approvers),
    ...(breakGlass ? (policy?.spec.breakGlass?.reviewers ?? []) : []),
  ];
}

type ParentCheck = { kind: 'Good'; parent: { endMs: number; cutAtMs?: number } } | { kind: 'Refused'; message: string };

function checkParent(
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
  const cutAtMs = status.phase === 'Revoked' ? Date.parse(status.finishedAt!) : undefined;
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
  if (!same) return refused(`Grant ${ref.name} is somebody else's; only its requester can extend it.`);
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

/** Break-glass access is kept while its review is due; a reviewer unrelated to the requester signs it off. */
function withSignOff(
  facts: GrantFacts,
  status: AccessGrantStatus,
  votes: readonly { uid: string; decision: string; voter: Principal }[],
  requester: Principal,
  verdicts: Map<string, { counted: boolean; reason: string; message: string }>,
  known?: AccessPolicy,
): AccessGrantStatus {
  const ref = status.policy;
  const policy = known ?? (ref && facts.policy(ref.namespace, ref.name, ref.uid));
  if (facts.grant.spec.breakGlass !== true || policy?.spec.breakGlass === undefined || status.expiresAt === undefined)
    return status;
  const reviewers = policy.spec.breakGlass.reviewers;
  let by: string | undefined;
  for (const vote of votes.filter((each) => each.decision === 'SignOff')) {
    const self = excluded(
      vote.voter,
      [requester],
      votes.map((each) => each.voter),
    );
    const counts = !self && matchesAny(reviewers, vote.voter, policy.metadata.namespace);
    verdicts.set(vote.uid, described(counts ? 'Counted' : self ? 'Requester' : 'NotApprover', status.phase));
    if (counts) by ??= vote.voter.username;
  }
  const signed = status.conditions?.some((each) => each.type === 'SignedOff' && each.status === 'True');
  if (signed) return status;
  const condition: Omit<Condition, 'lastTransitionTime'> = by
    ? { type: 'SignedOff', status: 'True', reason: 'Reviewed', message: `Signed off by ${by}.` }
    : {
        type: 'SignedOff',
        status: 'False',
        reason: 'ReviewDue',
        message: `Taken without approval; ${reviewers.map(subjectText).join(' or ') || 'nobody (the policy names no reviewers)'} is to sign it off.`,
      };
  return { ...status, conditions: withCondition(status.conditions, condition, facts.nowMs) };
}
