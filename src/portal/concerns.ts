// What of all there is concerns somebody, and what they may do about it. Pure. The portal's account can read every
// namespace, so this is what keeps people from each other's: default deny, exact comparison. One's own requests, grants
// and held commands; requests and grants whose policy names one as an approver or reviewer; commands that one may consent to.
// Does not decide what a vote is worth: the controllers do, from the votes themselves.
import type { AccessApproval, AccessApprovalSpec, AccessGrant } from '../api/grant.ts';
import type { CommandHold } from '../api/hold.ts';
import type { AccessPolicy } from '../api/policy.ts';
import type { Stamp } from '../api/schema.ts';
import { excluded } from '../policy/persons.ts';
import type { Principal } from '../policy/principal.ts';
import { matchesAny } from '../policy/subjects.ts';

export type Decision = AccessApprovalSpec['decision'];

/** To allow: by uid; by name only where neither side has a uid, or where the provider repeats the cluster's own mapping. */
export function isOwn(
  principal: Principal,
  owner: (Pick<Stamp, 'username' | 'uid'> & { via?: Stamp['via']; kubernetes?: string }) | undefined,
): boolean {
  if (owner === undefined) return false;
  const ours = principal.uid ?? '';
  const theirs = owner.uid ?? '';
  if (ours !== '' && ours === theirs) return true;
  if (ours === '' && theirs === '') return principal.username !== '' && principal.username === owner.username;
  return owner.via === 'Kubernetes' && (principal.kubernetes ?? '') !== '' && principal.kubernetes === owner.username;
}

/** Who looks at the page. `provider`: name of the IdentityProvider that vouches for them. */
export type Reader = Principal & { provider?: string };

/** The subject a grant is for, where a delegator asked: by exact name of a person, of the provider that was named. */
function isBeneficiary(principal: Reader, grant: AccessGrant): boolean {
  const { beneficiary } = grant.spec;
  if (beneficiary?.provider !== undefined && beneficiary.provider !== principal.provider) return false;
  return beneficiary?.kind === 'User' && matchesAny([beneficiary], principal, grant.metadata.namespace);
}

export const ownsGrant = (principal: Reader, grant: AccessGrant): boolean =>
  isOwn(principal, grant.spec.requester) || isBeneficiary(principal, grant);

/** The policy the operator put the grant under, if it is still that one. */
export function policyOf(grant: AccessGrant, policies: readonly AccessPolicy[]): AccessPolicy | undefined {
  const ref = grant.status?.policy;
  if (ref === undefined) return undefined;
  return policies.find(
    ({ metadata }) =>
      metadata.uid === ref.uid && metadata.name === ref.name && metadata.namespace === grant.metadata.namespace,
  );
}

export interface StepView {
  name: string;
  count: number;
  have: number;
  state: 'Done' | 'Open' | 'Later';
  /** Whether the reader may approve in it. */
  mine: boolean;
}

export function stepsOf(grant: AccessGrant, policy: AccessPolicy | undefined, principal: Principal): StepView[] {
  const counted = grant.status?.approvals ?? [];
  let open = false;
  return (policy?.spec.approval?.steps ?? []).map((step) => {
    const count = step.count ?? 1;
    const have = counted.filter((each) => each.step === step.name).length;
    const state = have >= count ? 'Done' : open ? 'Later' : 'Open';
    if (state === 'Open') open = true;
    return {
      name: step.name,
      count,
      have,
      state,
      mine: matchesAny(step.approvers, principal, policy?.metadata.namespace),
    };
  });
}

/** Whether the person is named by the grant's policy to approve, object or review. Their own requests do not count. */
function decides(principal: Principal, grant: AccessGrant, policy: AccessPolicy): boolean {
  const subjects = [
    ...(policy.spec.approval?.steps ?? []).flatMap((step) => step.approvers),
    ...(grant.spec.breakGlass === true ? (policy.spec.breakGlass?.reviewers ?? []) : []),
  ];
  return matchesAny(subjects, principal, policy.metadata.namespace) && !isSelf(principal, grant);
}

/** Generously: whoever might be the requester under any name decides nothing. */
function isSelf(principal: Principal, grant: AccessGrant): boolean {
  const { requester, beneficiary } = grant.spec;
  const barred = [
    ...(requester === undefined ? [] : [requester]),
    ...(beneficiary?.kind === 'User' && beneficiary.name !== undefined ? [{ username: beneficiary.name }] : []),
  ];
  return excluded(principal, barred);
}

export type GrantRole = 'Own' | 'Approver';

export interface GrantConcern {
  grant: AccessGrant;
  policy: AccessPolicy | undefined;
  role: GrantRole;
  steps: StepView[];
  actions: readonly Decision[];
  /** Taken by break-glass and not signed off. */
  signOffDue: boolean;
}

export function grantConcern(
  principal: Reader,
  grant: AccessGrant,
  policies: readonly AccessPolicy[],
  nowMs: number,
): GrantConcern | undefined {
  const policy = policyOf(grant, policies);
  const own = ownsGrant(principal, grant);
  const approver = policy !== undefined && decides(principal, grant, policy);
  if (!own && !approver) return undefined;
  const steps = stepsOf(grant, policy, principal);
  const signOffDue =
    grant.status?.conditions?.some((each) => each.type === 'SignedOff' && each.status === 'False') ?? false;
  return {
    grant,
    policy,
    role: own ? 'Own' : 'Approver',
    steps,
    actions: own ? ownActions(grant) : approverActions({ grant, policy: policy!, principal, steps, signOffDue, nowMs }),
    signOffDue,
  };
}

function ownActions(grant: AccessGrant): Decision[] {
  const phase = grant.status?.phase ?? 'Pending';
  return phase === 'Pending' || phase === 'Active' ? ['Withdraw'] : [];
}

function approverActions(input: {
  grant: AccessGrant;
  policy: AccessPolicy;
  principal: Principal;
  steps: readonly StepView[];
  signOffDue: boolean;
  nowMs: number;
}): Decision[] {
  const { grant, policy, principal, steps } = input;
  const { status } = grant;
  const approver = steps.some((step) => step.mine);
  const reviewer = matchesAny(policy.spec.breakGlass?.reviewers ?? [], principal, policy.metadata.namespace);
  const actions: Decision[] = [];
  if (status?.phase === 'Pending' && status.expiresAt === undefined) {
    const inTime = status.deadline === undefined || input.nowMs < Date.parse(status.deadline);
    if (inTime && steps.some((step) => step.mine && step.state === 'Open')) actions.push('Approve');
    if (approver) actions.push('Deny');
  } else if (status?.phase === 'Pending' && approver) {
    actions.push('Deny');
  } else if (status?.phase === 'Active' && (approver || (grant.spec.breakGlass === true && reviewer))) {
    actions.push('Revoke');
  }
  if (input.signOffDue && reviewer) actions.push('SignOff');
  return actions;
}

export interface HoldConcern {
  hold: CommandHold;
  role: GrantRole;
  actions: readonly Decision[];
}

export function holdConcern(principal: Principal, hold: CommandHold, nowMs: number): HoldConcern | undefined {
  const { spec, metadata } = hold;
  const waiting = (hold.status?.phase ?? 'Waiting') === 'Waiting' && nowMs < Date.parse(spec.until);
  if (isOwn(principal, spec.requester)) return { hold, role: 'Own', actions: waiting ? ['Withdraw'] : [] };
  const named = spec.requirements.some((each) => matchesAny(each.approvers, principal, metadata.namespace));
  if (!named || excluded(principal, [spec.requester])) return undefined;
  return { hold, role: 'Approver', actions: waiting ? ['Approve', 'Deny'] : [] };
}

/** Whether the person's vote is among those on the object. */
export function hasVoted(principal: Principal, targetUid: string, approvals: readonly AccessApproval[]): boolean {
  return approvals.some(({ spec }) => spec.targetRef.uid === targetUid && isOwn(principal, spec.approver));
}

/** Of this requester on this Connection before, for who decides about the next. */
export interface History {
  grants: number;
  denied: number;
  /** Of the last grant before, ms. */
  lastAtMs?: number;
}
export const HISTORY_MS = 90 * 86_400_000;

export function historyOf(grant: AccessGrant, grants: readonly AccessGrant[], nowMs: number): History {
  const { requester } = grant.spec;
  const before = grants.filter(
    (each) =>
      each.metadata.uid !== grant.metadata.uid &&
      each.metadata.namespace === grant.metadata.namespace &&
      each.spec.connectionRef.name === grant.spec.connectionRef.name &&
      requester !== undefined &&
      each.spec.requester !== undefined &&
      (requester.uid
        ? each.spec.requester.uid === requester.uid
        : each.spec.requester.username === requester.username) &&
      nowMs - Date.parse(each.metadata.creationTimestamp) <= HISTORY_MS,
  );
  const given = before.filter((each) => each.status?.expiresAt !== undefined);
  const last = Math.max(...given.map((each) => Date.parse(each.metadata.creationTimestamp)));
  return {
    grants: given.length,
    denied: before.filter((each) => each.status?.phase === 'Denied').length,
    ...(given.length > 0 ? { lastAtMs: last } : {}),
  };
}
