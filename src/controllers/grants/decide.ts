// What a grant's status is to be, from everything that bears on it. Pure. The fold (fold.ts) says how votes and time
// move it; here is what the fold is fed: proven votes, the policy it runs under, its parent if it extends one. Nothing
// unsealed is believed: a status with a bad seal is decided again from the approvals.
import { specHash } from '../../api/canonical.ts';
import { parseDuration } from '../../api/duration.ts';
import type { AccessApproval, AccessGrant, AccessGrantStatus } from '../../api/grant.ts';
import { isTicketName } from '../../api/notifier.ts';
import type { AccessPolicy, ApprovalStep } from '../../api/policy.ts';
import { DEFAULT_GRANT_MS } from '../../policy/eligibility.ts';
import { samePerson } from '../../policy/persons.ts';
import type { Principal } from '../../policy/principal.ts';
import { loginOf, stepUpLack } from '../../policy/step-up.ts';
import { matchesAny } from '../../policy/subjects.ts';
import { rfc3339 } from '../conditions.ts';
import { ticketFault, ticketSteps } from '../notifiers/tickets/decide.ts';
import type { Sealer } from '../seal.ts';
import { checkParent } from './extension.ts';
import { foldGrant, isTerminal, type Vote } from './fold.ts';
import { beneficiaryFault, delegationFault, ownerOf } from './people.ts';
import { commandsFault, requestFault, stepUpFault, stepUpOn } from './request-faults.ts';
import { lifeOf, ms, PURPOSE, sealedFacts, sealedStatus } from './sealed.ts';
import { withSignOff } from './sign-off.ts';
import { type ProvenVote, provenNow, provenVotes } from './votes.ts';
import { conditionsOf, described, messageOf, waitingText } from './wording.ts';

/** How long a request waits for its approvers when its policy does not say. */
export const DEFAULT_APPROVAL_TIMEOUT_MS = 3_600_000;

/** How long a vote may take from its stamp to the operator, where nothing is wrong. */
export const VOTE_GRACE_MS = 2_000;

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
  /** One that has the name now, whatever its uid. */
  policyNamed?(namespace: string | undefined, name: string): AccessPolicy | undefined;
  /** Hashes of statements as the grant's account would send them; undefined: its protocol has none. */
  commandHashes?(account: string, commands: readonly string[]): readonly string[] | undefined;
  /** What proxies tell of its uses, where it is sealed. */
  sealedUses?: NonNullable<AccessGrantStatus['sealedUses']>;
  /** Address of the approval page, for hints. */
  portal?: string;
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

export function decideGrant(facts: GrantFacts, sealer: Sealer): GrantDecision {
  const { grant } = facts;
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
  const nowMs = provenNow(facts.nowMs, votes);
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
    const used: AccessGrantStatus = { ...before, ...usesOf(facts, before) };
    const signed = withSignOff(facts, used, votes, requester, verdicts);
    return signed.signOff === before.signOff ? { status: signed, votes: verdicts } : finish(signed);
  }
  const owner = ownerOf(grant.spec, requester);
  const fault = before?.expiresAt === undefined ? (beneficiaryFault(grant.spec) ?? requestFault(grant)) : undefined;
  if (fault !== undefined) return refuse(fault);

  const approvedBefore = before?.expiresAt !== undefined;
  if (before?.expiresAt === undefined) {
    const stranger = facts.sameKey.find((other) => {
      const theirs = sealer.checkStamp(other.spec.requester, other.spec, other.metadata.creationTimestamp);
      // The later one is refused: public keys can be read, and copying one must not shut its owner out.
      const earlier =
        theirs.kind === 'Good' &&
        (theirs.atMs < stamp.atMs || (theirs.atMs === stamp.atMs && other.metadata.uid < grant.metadata.uid));
      return earlier && !samePerson(ownerOf(other.spec, theirs.principal), owner);
    });
    if (stranger !== undefined)
      return refuse('Its client key is in somebody else’s grant too. Request it again; a new key is made.');
  }
  const choice: Choice = approvedBefore ? { kind: 'Refused', message: '' } : facts.choose(owner, before?.policy?.name);
  const pinned = before?.policy;
  const policy = approvedBefore
    ? pinned && facts.policy(pinned.namespace, pinned.name, pinned.uid)
    : choice.kind === 'Eligible'
      ? choice.policy
      : undefined;
  const account = approvedBefore ? before.account : choice.kind === 'Eligible' ? choice.account : undefined;

  if (!approvedBefore && policy !== undefined) {
    const undue =
      (grant.spec.beneficiary === undefined ? undefined : delegationFault(policy, requester, stamp.atMs)) ??
      stepUpFault(policy, loginOf(stamp.auth), stamp.atMs, facts) ??
      commandsFault(grant, account, facts);
    if (undue !== undefined) return refuse(undue);
  }
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
  const needed = policy === undefined || breakGlass ? [] : ticketSteps(policy);
  const noTicket = needed.length > 0 && !approvedBefore ? ticketFault(policy!, grant) : undefined;
  if (noTicket !== undefined) return refuse(noTicket);
  const steps =
    policy === undefined
      ? // Nobody can approve what no policy allows; the request waits for one until its deadline.
        [{ name: 'policy', count: 1, approvers: [] }]
      : [
          ...stepsOf(policy, grant, breakGlass).map((step) => ({
            name: step.name,
            count: step.count ?? 1,
            approvers: step.approvers,
          })),
          ...needed,
        ];
  const notBeforeMs = ms(grant.spec.notBefore);
  const voteNeeds = stepUpOn(policy, 'Approve');
  const lacking = (vote: ProvenVote): string | undefined =>
    (vote.decision === 'Approve' || vote.decision === 'SignOff') && !isTicketName(vote.voter.username)
      ? stepUpLack(voteNeeds, vote.login, vote.atMs)
      : undefined;
  const lacks = new Map(
    votes.flatMap((vote) => {
      const lack = lacking(vote);
      return lack === undefined ? [] : [[vote.uid, lack] as const];
    }),
  );
  const foldVotes = votes
    .filter((vote): vote is ProvenVote & Vote => vote.decision !== 'SignOff' && vote.decision !== 'Keep')
    .map((vote): Vote => {
      const lack = lacks.get(vote.uid);
      return lack === undefined ? vote : { ...vote, lacks: lack };
    });
  const life = foldGrant(
    {
      t0Ms: stamp.atMs,
      ...(notBeforeMs !== undefined ? { notBeforeMs } : {}),
      // Once approved its end is sealed; before a policy allows it, only the deadline hangs on this.
      durationMs:
        grant.spec.sealed !== undefined
          ? (parseDuration(grant.spec.sealed.validFor) ?? 0)
          : choice.kind === 'Eligible'
            ? choice.durationMs
            : (parseDuration(grant.spec.duration ?? '') ?? DEFAULT_GRANT_MS),
      timeoutMs: parseDuration(policy?.spec.approval?.timeout ?? '') ?? DEFAULT_APPROVAL_TIMEOUT_MS,
      graceMs: VOTE_GRACE_MS,
      requester,
      ...(grant.spec.beneficiary === undefined ? {} : { beneficiary: owner }),
      steps,
      objectors: [
        ...objectorsOf(policy, breakGlass || grant.spec.sealed !== undefined),
        ...needed.flatMap((step) => step.approvers),
      ],
      namespace: grant.metadata.namespace ?? '',
      ...(parent !== undefined ? { parent } : {}),
    },
    foldVotes,
    before === undefined ? undefined : lifeOf(before),
    nowMs,
  );
  for (const [uid, verdict] of life.verdicts) verdicts.set(uid, described(verdict, life.phase, lacks.get(uid)));

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
    ...(before?.signOff !== undefined ? { signOff: before.signOff } : {}),
    ...usesOf(facts, before),
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

/** Uses of a sealed grant that were told of, now or ever: a proxy that is gone takes none back. */
function usesOf(facts: GrantFacts, before: AccessGrantStatus | undefined): Pick<AccessGrantStatus, 'sealedUses'> {
  if (facts.grant.spec.sealed === undefined) return {};
  const known = before?.sealedUses ?? [];
  const more = (facts.sealedUses ?? []).filter(
    (use) => !known.some((each) => each.replica === use.replica && each.startedAt === use.startedAt),
  );
  const all = [...known, ...more].slice(0, 200);
  return all.length === 0 ? {} : { sealedUses: all };
}

function isBreakGlass(grant: AccessGrant, policy: AccessPolicy, requester: Principal): boolean {
  return (
    grant.spec.breakGlass === true &&
    (grant.spec.reason ?? '').trim() !== '' &&
    matchesAny(policy.spec.breakGlass?.subjects ?? [], requester, policy.metadata.namespace)
  );
}

/** What is sealed is never without somebody's consent: where no step asks anybody, reviewers of emergencies are asked. */
function stepsOf(policy: AccessPolicy, { spec }: AccessGrant, breakGlass: boolean): readonly ApprovalStep[] {
  if (breakGlass) return [];
  const steps = policy.spec.approval?.steps ?? [];
  if (spec.sealed === undefined) return policy.spec.access === 'Standing' ? [] : steps;
  if (steps.length > 0) return steps;
  return [{ name: 'seal', approvers: policy.spec.breakGlass?.reviewers ?? [] }];
}

function objectorsOf(policy: AccessPolicy | undefined, breakGlass: boolean) {
  return [
    ...(policy?.spec.approval?.steps ?? []).flatMap((step) => step.approvers),
    ...(breakGlass ? (policy?.spec.breakGlass?.reviewers ?? []) : []),
  ];
}
