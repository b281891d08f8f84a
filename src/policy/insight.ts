// What somebody who is to approve a request should know beside the request itself: how often this person had access
// here, and what about it is unusual. Pure, and advice only: nothing is decided by it. It knows what it is given; in a
// cluster grants are kept for some days after their end, so an absence there proves little.
import { parseDuration } from '../api/duration.ts';
import type { AccessGrant } from '../api/grant.ts';
import type { AccessPolicy, Rule } from '../api/policy.ts';
import { DEFAULT_GRANT_MS, maxDurationOf } from './eligibility.ts';
import { samePerson } from './persons.ts';

export const HISTORY_MS = 90 * 86_400_000;

export interface History {
  /** Requests of the same person for the same Connection in the last 90 days, this one left out. */
  requested: number;
  approved: number;
  /** Denied, expired unanswered or revoked. */
  refused: number;
  /** Start of the newest that was approved, ms since 1970. */
  lastMs?: number;
}

export type RiskKind =
  | 'BreakGlass'
  | 'NewRequester'
  | 'RefusedBefore'
  | 'PrivilegedAccount'
  | 'Unbounded'
  | 'OutsideHours'
  | 'LongestAllowed'
  | 'OnBehalf';

export interface Risk {
  kind: RiskKind;
  /** A clause for people. */
  message: string;
}

export interface Insight {
  history: History;
  risks: readonly Risk[];
}

export interface InsightInput {
  grant: AccessGrant;
  /** Under which it would run; undefined: not known, or may not be read. */
  policy: AccessPolicy | undefined;
  /** Of the namespace, as far as the one who looks may read them; undefined: not at all. */
  grants: readonly AccessGrant[] | undefined;
  nowMs: number;
  /** Hour (0–23) and day (0: Sunday) where the one who looks is. Default: this machine's. */
  localTime?: (ms: number) => { hour: number; day: number };
}

const machineTime = (ms: number): { hour: number; day: number } => {
  const at = new Date(ms);
  return { hour: at.getHours(), day: at.getDay() };
};

/** Whose access it would be, as stamps and names tell. */
function ownerName({ spec }: AccessGrant): { username: string; uid?: string; aliases?: readonly string[] } {
  if (spec.beneficiary !== undefined) return { username: spec.beneficiary.name ?? '' };
  return spec.requester ?? { username: '' };
}

export function insightOf(input: InsightInput): Insight {
  const { grant, policy, nowMs } = input;
  const history = historyOf(grant, input.grants ?? [], nowMs);
  const risks: Risk[] = [];
  const warn = (kind: RiskKind, message: string): void => void risks.push({ kind, message });
  const { spec, status } = grant;
  if (spec.breakGlass === true) warn('BreakGlass', 'taken as an emergency, without approval');
  if (spec.beneficiary !== undefined)
    warn('OnBehalf', `asked by ${spec.requester?.username ?? 'nobody known'} for ${spec.beneficiary.name ?? '?'}`);
  if (input.grants !== undefined && history.approved === 0)
    warn('NewRequester', 'has had no access here in the grants that are kept');
  if (history.refused > history.approved) warn('RefusedBefore', `was refused here ${history.refused} times`);
  if (policy !== undefined) {
    const account = status?.account ?? spec.account;
    const allows = (policy.spec.rules ?? []).filter((rule) => rule.action === 'Allow' || rule.preset !== undefined);
    if (account !== undefined && account !== policy.spec.accounts[0])
      warn('PrivilegedAccount', `uses account ${account}, not the usual ${policy.spec.accounts[0]}`);
    else if (allows.some(changesSchema)) warn('PrivilegedAccount', 'may change schema or privileges');
    if (allows.some(writes) && !stopsUnbounded(policy))
      warn('Unbounded', 'no rule of the policy stops an UPDATE or DELETE without WHERE');
    const durationMs = parseDuration(spec.duration ?? '') ?? DEFAULT_GRANT_MS;
    const most = maxDurationOf(policy, spec.breakGlass === true);
    if (durationMs >= most && most > DEFAULT_GRANT_MS) warn('LongestAllowed', 'as long as the policy allows');
  }
  const startMs = Math.max(nowMs, Date.parse(spec.notBefore ?? '') || nowMs);
  const { hour, day } = (input.localTime ?? machineTime)(startMs);
  if (day === 0 || day === 6 || hour < 7 || hour >= 19) warn('OutsideHours', 'begins outside working hours');
  return { history, risks };
}

function historyOf(grant: AccessGrant, grants: readonly AccessGrant[], nowMs: number): History {
  const owner = ownerName(grant);
  const found = grants.filter(
    (other) =>
      other.metadata.uid !== grant.metadata.uid &&
      other.metadata.namespace === grant.metadata.namespace &&
      other.spec.connectionRef.name === grant.spec.connectionRef.name &&
      nowMs - Date.parse(other.metadata.creationTimestamp) <= HISTORY_MS &&
      samePerson(ownerName(other), owner),
  );
  const approved = found.filter((other) => other.status?.expiresAt !== undefined);
  const starts = approved.map((other) => Date.parse(other.status?.notBefore ?? '')).filter((at) => at <= nowMs);
  const refused = found.filter(
    ({ status }) =>
      status?.phase === 'Revoked' ||
      status?.phase === 'Denied' ||
      (status?.phase === 'Expired' && status.expiresAt === undefined),
  );
  return {
    requested: found.length,
    approved: approved.length,
    refused: refused.length,
    ...(starts.length === 0 ? {} : { lastMs: Math.max(...starts) }),
  };
}

const all = (rule: Rule): boolean => rule.action === 'Allow' && rule.sql === undefined && rule.ssh === undefined;
const effectsOf = (rule: Rule): readonly string[] => rule.sql?.effects ?? [];

const changesSchema = (rule: Rule): boolean =>
  all(rule) ||
  (rule.action === 'Allow' &&
    (effectsOf(rule).some((effect) => effect === 'Define' || effect === 'Grant') ||
      (rule.sql?.statements ?? []).some((tag) => /^(\*|ALTER|CREATE|DROP|GRANT|REVOKE)/i.test(tag))));

/** Programs and shells may write whatever their user may. */
const changesFiles = ({ commands, shell, paths, effects }: NonNullable<Rule['ssh']>): boolean =>
  commands !== undefined ||
  shell === true ||
  (paths !== undefined && effects?.some((effect) => effect !== 'Read') !== false);

const writes = (rule: Rule): boolean =>
  all(rule) ||
  rule.preset === 'ReadWrite' ||
  (rule.action === 'Allow' && rule.ssh !== undefined && changesFiles(rule.ssh)) ||
  (rule.action === 'Allow' &&
    (effectsOf(rule).includes('Write') ||
      (rule.sql?.statements ?? []).some((tag) => /^(\*|UPDATE|DELETE|TRUNCATE)/i.test(tag))));

const stopsUnbounded = (policy: AccessPolicy): boolean =>
  policy.spec.enforcement !== 'Warn' &&
  (policy.spec.rules ?? []).some(
    (rule) => (rule.action === 'Deny' || rule.action === 'Hold') && rule.sql?.unbounded === true,
  );
