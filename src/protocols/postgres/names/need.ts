// Whether unqualified names matter to a decision at all: most policies name no schema, most statements then cost nothing.
// Pure, remembered per policy and per command.
import type { SqlMatcher } from '../../../api/policy.ts';
import type { SessionPolicy, SessionRule } from '../../../policy/session-policy.ts';
import { isBuiltinFunction } from '../classify/functions.ts';
import { mustBe, parsePattern } from '../pattern.ts';
import type { SqlCommand, SqlFacts } from '../statement.ts';

interface PolicyNeeds {
  /** Some rule is about tables or columns of named schemas. */
  relations: boolean;
  /** Some rule is about functions of named schemas. */
  functions: boolean;
  /** One more Execute effect could change a decision. */
  executes: boolean;
}

const policies = new WeakMap<SessionPolicy, PolicyNeeds>();

function needsOf(policy: SessionPolicy): PolicyNeeds {
  let needs = policies.get(policy);
  if (needs !== undefined) return needs;
  const matchers = [...policy.denies, ...policy.holds, ...policy.allows].flatMap((rule) => matcherOf(rule) ?? []);
  const restricting = [...policy.denies, ...policy.holds].flatMap((rule) => matcherOf(rule) ?? []);
  const allowsAll = policy.allows.some(({ source }) => source.matcher === undefined);
  needs = {
    relations: matchers.some(({ tables, columns }) => namesSchema(tables, 2) || namesSchema(columns, 3)),
    functions: matchers.some(({ functions }) => namesSchema(functions, 2)),
    executes:
      !allowsAll ||
      restricting.some(({ effects, functions }) => functions !== undefined || effects?.includes('Execute') === true),
  };
  policies.set(policy, needs);
  return needs;
}

function matcherOf(rule: SessionRule): SqlMatcher | undefined {
  return rule.source.matcher?.value as SqlMatcher | undefined;
}

/** `length`: parts of a pattern that begins with a schema. */
function namesSchema(patterns: readonly string[] | undefined, length: number): boolean {
  return (
    patterns?.some((pattern) => {
      const parts = parsePattern(pattern);
      return parts !== undefined && parts.length === length && !mustBe(parts[0]!, '*');
    }) === true
  );
}

interface Unqualified {
  relations: boolean;
  functions: boolean;
  builtins: boolean;
}

const commands = new WeakMap<SqlFacts, Unqualified>();

function unqualifiedOf(facts: SqlFacts): Unqualified {
  let found = commands.get(facts);
  if (found !== undefined) return found;
  const bare = (use: { schema?: string; schemas?: readonly string[] }): boolean =>
    use.schema === undefined && use.schemas === undefined;
  found = {
    relations:
      facts.relations.some((use) => bare(use) && use.name !== '*') ||
      facts.columns.some((use) => bare(use) && use.relation !== undefined),
    functions: facts.functions.some(bare),
    builtins: facts.functions.some((use) => bare(use) && isBuiltinFunction(use.name)),
  };
  commands.set(facts, found);
  return found;
}

/** Whether what the command's unqualified names mean can make a difference under the policy. */
export function needsNames(policy: SessionPolicy, command: SqlCommand): boolean {
  const needs = needsOf(policy);
  const has = unqualifiedOf(command.facts);
  return (has.relations && needs.relations) || (has.functions && needs.functions) || (has.builtins && needs.executes);
}
