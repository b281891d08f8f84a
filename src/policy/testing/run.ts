// Runs policy tests: each case goes the way a session goes (compile, choose the policy, prepare, classify, decide), with
// the engine's own functions, so that a green test means what it says. Pure: the protocol's classifier is handed in.
import type { Connection, ConnectionSpec } from '../../api/connection.ts';
import type { AccessPolicy, ClusterAccessPolicy } from '../../api/policy.ts';
import type { PolicyShard } from '../bundle.ts';
import type { Command } from '../command.ts';
import { type BrokenResource, compilePolicies } from '../compile.ts';
import { decideAll, decideNotUnderstood } from '../decide.ts';
import type { Decision, RuleRef } from '../decision.ts';
import { eligiblePolicy } from '../eligibility.ts';
import { decisionText, explain, explanationText } from '../explain.ts';
import { prepareSessionPolicy } from '../prepare-session.ts';
import type { Principal } from '../principal.ts';
import type { ProtocolRules, SessionPolicy } from '../session-policy.ts';
import { safeText } from '../wording.ts';
import type { ReadyCase } from './format.ts';

/** What a protocol lends to tests. `schema` is what a case's schema file holds, untouched; undefined without one. */
export interface TestProtocol {
  rules: ProtocolRules;
  classify(
    text: string,
    context: {
      schema: unknown;
      parameters: readonly (string | number | boolean | null)[];
      /** What the text is for, where a protocol reads it by that. */
      connection?: ConnectionSpec;
      account?: string;
    },
  ): { kind: 'Commands'; commands: readonly Command[] } | { kind: 'NotUnderstood'; reason: string };
  /** Columns of the answer that the session's masks cover; absent: the protocol masks nothing. */
  masked?(
    commands: readonly Command[],
    session: SessionPolicy,
    schema: unknown,
  ): { kind: 'Columns'; columns: readonly string[] } | { kind: 'Unknown'; reason: string };
}

export interface TestWorld {
  connections: readonly Connection[];
  policies: readonly AccessPolicy[];
  clusterPolicies: readonly ClusterAccessPolicy[];
  broken: readonly BrokenResource[];
  protocolFor(type: string): TestProtocol | undefined;
}

export interface CaseResult {
  name: string;
  /** Error: the case itself can not be run, e.g. its Connection does not exist. */
  outcome: 'Passed' | 'Failed' | 'Error';
  expected: string;
  got: string;
  /** What is not as expected, in a few words each; of an error, why it can not be run. None of what passed. */
  misses: readonly string[];
  /** Rules that said so. */
  by: readonly RuleRef[];
  /** The text that gave the result; of several, the first that went wrong. */
  text: string | undefined;
  /** Why, for people; several lines. Only of what did not pass. */
  why: string;
  path: string;
}

/** A runner keeps what it compiled: policies are compiled once a Connection, however many cases there are. */
export function createTestRunner(world: TestWorld): (one: ReadyCase, schema: unknown) => CaseResult {
  const shards = new Map<string, PolicyShard>();
  return (one, schema) => {
    const { namespace, name } = one.connection;
    const connection = world.connections.find(
      ({ metadata }) => metadata.namespace === namespace && metadata.name === name,
    );
    if (connection === undefined) {
      const known = world.connections.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
      return failedToRun(one, `there is no Connection ${namespace}/${name}; there are ${known.join(', ') || 'none'}`);
    }
    const protocol = world.protocolFor(connection.spec.type);
    if (protocol === undefined)
      return failedToRun(one, `Connections of type ${connection.spec.type} can not be tested`);
    const key = `${namespace}/${name}`;
    let shard = shards.get(key);
    if (shard === undefined) {
      shard = compilePolicies({ ...world, connection, protocol: protocol.rules });
      shards.set(key, shard);
    }
    return runCase(one, schema, shard, world.policies, protocol);
  };
}

interface Verdict {
  got: Decision['kind'] | 'NoAccess';
  decision?: Decision;
  masked?: readonly string[];
  text?: string;
  why: string;
  /** What is not as expected, in a few words each. */
  misses: readonly string[];
}

function runCase(
  one: ReadyCase,
  schema: unknown,
  shard: PolicyShard,
  policies: readonly AccessPolicy[],
  protocol: TestProtocol,
): CaseResult {
  const principal: Principal = { username: one.user, groups: one.groups, aliases: [] };
  const policyRef = one.policy?.startsWith(`${one.connection.namespace}/`)
    ? one.policy.slice(one.connection.namespace.length + 1)
    : one.policy;
  const chosen = eligiblePolicy({
    shard,
    policies,
    request: {
      principal,
      ...(one.account === undefined ? {} : { account: one.account }),
      ...(policyRef === undefined ? {} : { policyRef }),
    },
  });
  if (chosen.kind === 'NotEligible') {
    const misses = one.expect === 'NoAccess' ? [] : [`expected ${expectedText(one)}, got NoAccess`];
    return resultOf(one, { got: 'NoAccess', misses, why: `${chosen.message}\n${chosen.hint}` });
  }
  if (one.expect === 'NoAccess') {
    const why = `Policy ${chosen.compiled.name} gives ${safeText(one.user)} access as account ${chosen.account}.`;
    return resultOf(one, { got: 'Allow', misses: ['expected NoAccess, got access'], why });
  }
  const request = { policy: chosen.compiled.name, principal, account: chosen.account, generation: 1 };
  const session = prepareSessionPolicy(shard, request, protocol.rules);
  let last: Verdict | undefined;
  for (const text of one.texts) {
    last = judge(one, text, session, { schema, connection: shard.connection.spec, account: chosen.account }, protocol);
    if (last.misses.length > 0) break;
  }
  return last === undefined ? failedToRun(one, 'it has no statement') : resultOf(one, last);
}

function judge(
  one: ReadyCase,
  text: string,
  session: SessionPolicy,
  about: { schema: unknown; connection: ConnectionSpec; account: string },
  protocol: TestProtocol,
): Verdict {
  const classified = protocol.classify(text, { ...about, parameters: one.parameters });
  const decision =
    classified.kind === 'NotUnderstood'
      ? decideNotUnderstood(session, classified.reason)
      : decideAll(session, classified.commands);
  const misses: string[] = [];
  if (decision.kind !== one.expect) misses.push(`expected ${expectedText(one)}, got ${decisionText(decision)}`);
  const by = refsOf(decision);
  if (one.rule !== undefined && decision.kind === one.expect && !by.some((ref) => refMeans(ref, one.rule!)))
    misses.push(`expected rule ${one.rule}, got ${by.map(refName).join(', ') || 'no rule'}`);
  if (one.code !== undefined && decision.kind === 'Deny' && decision.code !== one.code)
    misses.push(`expected code ${one.code}, got ${decision.code}`);
  if (one.warnings !== undefined) {
    const { missing, extra } = compareRefs(decision.warnings, one.warnings);
    if (missing.length > 0) misses.push(`expected a warning of ${missing.join(', ')}`);
    if (extra.length > 0) misses.push(`unexpected warning of ${extra.join(', ')}`);
  }
  const commands = classified.kind === 'Commands' ? classified.commands : [];
  let masked: readonly string[] | undefined;
  if (one.masked !== undefined && misses.length === 0) {
    const found = protocol.masked?.(commands, session, about.schema) ?? { kind: 'Columns', columns: [] };
    if (found.kind === 'Unknown') misses.push(`which columns are masked can not be told: ${found.reason}`);
    else {
      masked = found.columns;
      const missing = one.masked.filter((wanted) => !found.columns.some((column) => columnMeans(column, wanted)));
      const extra = found.columns.filter((column) => !one.masked!.some((wanted) => columnMeans(column, wanted)));
      if (missing.length > 0) misses.push(`expected ${missing.join(', ')} masked, and it is not`);
      if (extra.length > 0) misses.push(`${extra.join(', ')} masked too`);
    }
  }
  const why =
    misses.length === 0
      ? ''
      : classified.kind === 'NotUnderstood'
        ? `The statement was not understood: ${classified.reason}`
        : commands.map((command) => explanationText(explain(session, command, protocol.rules))).join('\n');
  return { got: decision.kind, decision, text, why, misses, ...(masked === undefined ? {} : { masked }) };
}

function resultOf(one: ReadyCase, verdict: Verdict): CaseResult {
  const masked =
    verdict.masked === undefined || verdict.masked.length === 0 ? '' : `, masked ${verdict.masked.join(', ')}`;
  return {
    name: one.name,
    outcome: verdict.misses.length === 0 ? 'Passed' : 'Failed',
    expected: expectedText(one),
    got: `${verdict.got}${masked}`,
    misses: verdict.misses,
    by: verdict.decision === undefined ? [] : refsOf(verdict.decision),
    text: verdict.text,
    why: verdict.misses.length === 0 ? '' : [...verdict.misses, verdict.why].filter((line) => line !== '').join('\n'),
    path: one.path,
  };
}

function failedToRun(one: ReadyCase, why: string): CaseResult {
  return {
    name: one.name,
    outcome: 'Error',
    expected: expectedText(one),
    got: 'nothing',
    misses: [why],
    by: [],
    text: undefined,
    why,
    path: one.path,
  };
}

function expectedText(one: ReadyCase): string {
  return [
    one.expect,
    ...(one.code === undefined ? [] : [`(${one.code})`]),
    ...(one.rule === undefined ? [] : [`by ${one.rule}`]),
  ].join(' ');
}

export function refsOf(decision: Decision): readonly RuleRef[] {
  switch (decision.kind) {
    case 'Allow':
      return decision.by;
    case 'Hold':
      return decision.requirements.map(({ by }) => by);
    case 'Deny':
      return decision.by === undefined ? [] : [decision.by];
    default:
      return [];
  }
}

export function refName(ref: RuleRef): string {
  return `${ref.policy}/${ref.rule}`;
}

/** `rule`, `policy/rule` or `namespace/policy/rule`; the name of a rule with a preset means each of the preset's rules. */
export function refMeans(ref: RuleRef, wanted: string): boolean {
  const cut = wanted.lastIndexOf('/');
  const policy = cut < 0 ? undefined : wanted.slice(0, cut);
  const rule = wanted.slice(cut + 1);
  if (ref.rule !== rule && !ref.rule.startsWith(`${rule}.`)) return false;
  return policy === undefined || ref.policy === policy || ref.policy.slice(ref.policy.indexOf('/') + 1) === policy;
}

function compareRefs(found: readonly RuleRef[], wanted: readonly string[]): { missing: string[]; extra: string[] } {
  return {
    missing: wanted.filter((name) => !found.some((ref) => refMeans(ref, name))),
    extra: found.filter((ref) => !wanted.some((name) => refMeans(ref, name))).map(refName),
  };
}

/** `orders.number` and `public.orders.number` mean the same where one leaves out what the other says. */
function columnMeans(a: string, b: string): boolean {
  return a === b || a.endsWith(`.${b}`) || b.endsWith(`.${a}`);
}
