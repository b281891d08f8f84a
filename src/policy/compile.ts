// Compiles what a Connection needs to know of policy: from resources as authors wrote them to the `policy` shard that a
// proxy enforces. Pure. Defaults are filled, presets expanded, durations in milliseconds, names made complete.
// Guarantees: every policy that may select the Connection is in the result; one with any problem is in it as not
// accepted, and then everything on the Connection is denied (fail closed). It does not judge commands (decide.ts) and
// does not choose whose allows apply (eligibility.ts, prepare-session.ts).
import type { Connection } from '../api/connection.ts';
import type { AccessPolicy, AccessPolicySpec, ClusterAccessPolicy, ClusterAccessPolicySpec } from '../api/policy.ts';
import type { ConnectionSelector, Subject } from '../api/schema.ts';
import type { CompiledPolicy, PolicyShard } from './bundle.ts';
import { bounded, checkUnique, LONGEST_GRANT_MS, withNamespace } from './compile-checks.ts';
import { compileMasks, compileRules } from './compile-rules.ts';
import { reservedProblems } from './reserved.ts';
import { policySelects, type Selectable } from './selectors.ts';
import type { ProtocolRules } from './session-policy.ts';
import { stepUpNeed } from './step-up.ts';

const DAY_MS = 24 * 3_600_000;

/** An object that its store could not read whole. What is not readable is taken to select the most it could. */
export interface BrokenResource {
  /** As far as it can be read; a kind that is not known is taken for a policy. */
  kind?: string | undefined;
  /** Absent where even that is unreadable: every namespace. */
  namespace?: string | undefined;
  name?: string | undefined;
  /** What is wrong and what to write instead, with file and line where there is one. */
  problem: string;
  selector?: ConnectionSelector | undefined;
  /** Of a ClusterAccessPolicy. */
  namespaces?: readonly string[] | undefined;
}

export interface CompileInput {
  connection: Connection;
  /** Of any namespace; only the Connection's own count. */
  policies: readonly AccessPolicy[];
  clusterPolicies: readonly ClusterAccessPolicy[];
  broken: readonly BrokenResource[];
  protocol: ProtocolRules;
}

export function compilePolicies(input: CompileInput): PolicyShard {
  const { connection } = input;
  const target: Selectable = {
    namespace: connection.metadata.namespace ?? '',
    name: connection.metadata.name,
    labels: connection.metadata.labels ?? {},
  };
  const compiled: CompiledPolicy[] = [];
  for (const policy of input.policies) {
    if (selects(policy, target)) compiled.push(compilePolicy(policy, connection, input.protocol));
  }
  for (const policy of input.clusterPolicies) {
    if (selects(policy, target)) compiled.push(compilePolicy(policy, connection, input.protocol));
  }
  for (const item of input.broken) {
    const entry = compileBroken(item, target);
    if (entry === undefined) continue;
    const last = compiled.findIndex((policy) => policy.kind === entry.kind && policy.name === entry.name);
    if (last >= 0) compiled[last] = { ...compiled[last]!, accepted: false, problem: entry.problem ?? 'unreadable' };
    else compiled.push(entry);
  }
  compiled.sort((a, b) => compareText(a.kind, b.kind) || compareText(a.name, b.name));
  return {
    connection: {
      uid: connection.metadata.uid,
      name: target.name,
      namespace: target.namespace,
      generation: connection.metadata.generation,
      spec: connection.spec,
    },
    policies: compiled,
  };
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Whether a policy is about a Connection. A policy whose selector can not even be looked at selects all that it might. */
export function selects(policy: AccessPolicy | ClusterAccessPolicy, target: Selectable): boolean {
  const home = policy.metadata.namespace ?? '';
  try {
    return policy.kind === 'AccessPolicy'
      ? policySelects({ kind: 'AccessPolicy', namespace: home, selector: policy.spec.connectionSelector }, target)
      : policySelects(
          {
            kind: 'ClusterAccessPolicy',
            namespaces: policy.spec.namespaces,
            selector: policy.spec.connectionSelector,
          },
          target,
        );
  } catch {
    return policy.kind === 'ClusterAccessPolicy' || home === target.namespace;
  }
}

/** `namespace/name`, or the bare name of a cluster-scoped policy. */
export function policyName(policy: AccessPolicy | ClusterAccessPolicy): string {
  return policy.kind === 'AccessPolicy'
    ? `${policy.metadata.namespace ?? ''}/${policy.metadata.name}`
    : policy.metadata.name;
}

/** Problems of one policy on one Connection it selects, one sentence each; empty if it is accepted there. */
export function policyProblems(
  policy: AccessPolicy | ClusterAccessPolicy,
  connection: Connection,
  protocol: ProtocolRules,
): string[] {
  const problems: string[] = [];
  const { problem } = compilePolicy(policy, connection, protocol, problems);
  return problems.length > 0 || problem === undefined ? problems : [problem];
}

/** Problems that a ClusterAccessPolicy has wherever it applies, one sentence each. */
export function guardrailProblems(policy: ClusterAccessPolicy, protocol: ProtocolRules): string[] {
  const problems: string[] = [];
  compileKnown(policy, undefined, protocol, blankOf(policy), problems);
  return problems;
}

/** One policy for one Connection it selects. Never throws: what can not be compiled is not accepted. */
export function compilePolicy(
  policy: AccessPolicy | ClusterAccessPolicy,
  connection: Connection,
  protocol: ProtocolRules,
  problems: string[] = [],
): CompiledPolicy {
  const blank = blankOf(policy);
  try {
    return compileKnown(policy, connection, protocol, blank, problems);
  } catch (error) {
    return {
      ...blank,
      problem: `it can not be compiled (${error instanceof Error ? error.message : String(error)}); check it against the reference of its kind`,
    };
  }
}

const blankOf = (policy: AccessPolicy | ClusterAccessPolicy): CompiledPolicy => ({
  kind: policy.kind,
  name: policyName(policy),
  uid: policy.metadata.uid,
  generation: policy.metadata.generation,
  accepted: false,
  subjects: [],
  accounts: [],
  rules: [],
  masks: [],
  trustedFunctions: [],
  session: { ticketUntilExpiry: false },
});

/** `connection`: only what is namespaced looks at it. */
function compileKnown(
  policy: AccessPolicy | ClusterAccessPolicy,
  connection: Connection | undefined,
  protocol: ProtocolRules,
  blank: CompiledPolicy,
  problems: string[],
): CompiledPolicy {
  const namespace = policy.kind === 'AccessPolicy' ? policy.metadata.namespace : undefined;
  const { spec } = policy;
  const context = { policy: blank.name, namespace, clusterScoped: policy.kind === 'ClusterAccessPolicy', problems };
  const enforce = spec.enforcement !== 'Warn';
  const rules = compileRules(spec.rules ?? [], enforce, protocol, context);
  const masks = compileMasks(spec.masking ?? [], context);
  const own =
    policy.kind === 'AccessPolicy' && connection !== undefined
      ? compileOwn(policy.spec, connection, context)
      : { subjects: [] as Subject[], accounts: [] as string[] };
  problems.push(...reservedProblems(policy));
  const session = compileSession(blank.name, spec, policy.kind === 'ClusterAccessPolicy', problems);
  return {
    ...blank,
    ...own,
    rules,
    masks,
    trustedFunctions: [...(spec.trustedFunctions ?? [])],
    session,
    ...(problems.length === 0 ? { accepted: true } : { accepted: false, problem: problems.join('; ') }),
  };
}

/** What only an AccessPolicy has: who gets its allows, and with which accounts. */
function compileOwn(
  spec: AccessPolicySpec,
  connection: Connection,
  context: { namespace: string | undefined; problems: string[] },
): { subjects: Subject[]; accounts: string[] } {
  const { problems } = context;
  const known = connection.spec.accounts.map((account) => account.name);
  for (const account of spec.accounts) {
    if (!known.includes(account))
      problems.push(
        `spec.accounts names "${account}", which Connection ${connection.metadata.name} has not; write one of ${known.join(', ')}`,
      );
  }
  checkUnique(
    'spec.approval.steps',
    (spec.approval?.steps ?? []).map((step) => step.name),
    problems,
  );
  bounded('spec.maxDuration', spec.maxDuration, 60_000, LONGEST_GRANT_MS, problems);
  bounded('spec.approval.timeout', spec.approval?.timeout, 1_000, LONGEST_GRANT_MS, problems);
  bounded('spec.approval.stepUp.maxAge', spec.approval?.stepUp?.maxAge, 30_000, DAY_MS, problems);
  bounded('spec.breakGlass.maxDuration', spec.breakGlass?.maxDuration, 60_000, LONGEST_GRANT_MS, problems);
  if (spec.access === 'Standing' && spec.approval !== undefined)
    problems.push('spec.approval has no meaning with access Standing, which asks nobody; remove one of the two');
  return {
    subjects: spec.subjects.map((subject) => withNamespace(subject, context.namespace)),
    accounts: [...spec.accounts],
  };
}

/** Where an absent `ticketUntilExpiry` of a guardrail means that it does not mind. */
function compileSession(
  policy: string,
  spec: AccessPolicySpec | ClusterAccessPolicySpec,
  guardrail: boolean,
  problems: string[],
): CompiledPolicy['session'] {
  const { session } = spec;
  const idleTimeoutMs = bounded('spec.session.idleTimeout', session?.idleTimeout, 1_000, LONGEST_GRANT_MS, problems);
  const maxDurationMs = bounded('spec.session.maxDuration', session?.maxDuration, 1_000, LONGEST_GRANT_MS, problems);
  const reauthenticateMs = bounded('spec.session.reauthenticate', session?.reauthenticate, 60_000, DAY_MS, problems);
  const stepUp = session?.stepUp;
  bounded('spec.session.stepUp.maxAge', stepUp?.maxAge, 30_000, DAY_MS, problems);
  return {
    ...(stepUp === undefined ? {} : { stepUp: [stepUpNeed(policy, stepUp)] }),
    ...(idleTimeoutMs === undefined ? {} : { idleTimeoutMs }),
    ...(maxDurationMs === undefined ? {} : { maxDurationMs }),
    ...(reauthenticateMs === undefined ? {} : { reauthenticateMs }),
    ticketUntilExpiry: session?.ticketUntilExpiry ?? guardrail,
  };
}

/** Kinds that can neither allow nor tighten anything by what they say: broken ones deny nothing more. */
const HARMLESS_WHEN_BROKEN: readonly string[] = [
  'Secret',
  'AccessGrant',
  'AccessApproval',
  'CommandHold',
  'Notifier',
  'ClusterNotifier',
];

function compileBroken(item: BrokenResource, target: Selectable): CompiledPolicy | undefined {
  const { kind, namespace, name } = item;
  if (kind !== undefined && HARMLESS_WHEN_BROKEN.includes(kind)) return undefined;
  if (kind === 'ClusterAccessPolicy') {
    if (!policySelects({ kind, namespaces: item.namespaces, selector: item.selector }, target)) return undefined;
    return brokenEntry(kind, name ?? '(unreadable)', item.problem);
  }
  if (namespace !== undefined && namespace !== target.namespace) return undefined;
  if (kind === 'Connection' && name !== undefined && name !== target.name) return undefined;
  if (kind === 'AccessPolicy' && item.selector !== undefined) {
    const home = namespace ?? target.namespace;
    if (!policySelects({ kind, namespace: home, selector: item.selector }, target)) return undefined;
  }
  const what = kind === 'AccessPolicy' ? '' : `${kind ?? 'file'} `;
  return brokenEntry('AccessPolicy', `${what}${namespace ?? target.namespace}/${name ?? '(unreadable)'}`, item.problem);
}

function brokenEntry(kind: CompiledPolicy['kind'], name: string, problem: string): CompiledPolicy {
  return {
    kind,
    name,
    uid: '',
    generation: 0,
    accepted: false,
    problem,
    subjects: [],
    accounts: [],
    rules: [],
    masks: [],
    trustedFunctions: [],
    session: { ticketUntilExpiry: false },
  };
}
