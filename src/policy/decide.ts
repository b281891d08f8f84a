// The decision. Pure (but for a memo) and total: every command gets Allow, Deny or Hold, and which policy and rule said so.
// Deny beats Hold beats Allow. A command is allowed only when each of its effects is permitted by some Allow; a Hold
// never permits, it only delays what is allowed. Rules under `enforcement: Warn` are collected and stop nothing; they
// also permit nothing that no Allow permits.
import type { Command } from './command.ts';
import type { Decision, HoldRequirement, RuleRef } from './decision.ts';
import type { SessionPolicy, SessionRule } from './session-policy.ts';
import { brokenTitle, commandTitle, distinct, effectText, listText, sentence } from './wording.ts';

const NONE: readonly never[] = [];

/** Decisions remembered for one session's policy; more would only keep memory. */
const MOST_REMEMBERED = 128;
const remembered = new WeakMap<SessionPolicy, { decisions: WeakMap<Command, Decision>; count: number }>();

/**
 * Judges one command. Never throws: a matcher that does is taken to restrict and not to permit. The same command object
 * under the same policy object is judged once; neither may be changed after it was made.
 */
export function decide(policy: SessionPolicy, command: Command): Decision {
  let memo = remembered.get(policy);
  const known = memo?.decisions.get(command);
  if (known !== undefined) return known;
  const decision = judge(policy, command);
  if (memo === undefined || memo.count >= MOST_REMEMBERED) {
    memo = { decisions: new WeakMap(), count: 0 };
    remembered.set(policy, memo);
  }
  memo.decisions.set(command, decision);
  memo.count++;
  return decision;
}

function judge(policy: SessionPolicy, command: Command): Decision {
  if (policy.broken.length > 0) return denyBroken(policy, command);
  if (command.effects.length === 0) return denyNotUnderstood(policy, command, 'it has no known effect');
  if (command.notUnderstood !== undefined) {
    if (command.effects.some(({ named }) => named === 'Always'))
      return denyNotUnderstood(policy, command, command.notUnderstood);
    return decideNotUnderstood(policy, command.notUnderstood, command);
  }

  let warnings: RuleRef[] | undefined;
  let denial: SessionRule | undefined;
  for (const rule of policy.denies) {
    if (!restricts(rule, command)) continue;
    if (!rule.source.enforce) (warnings ??= []).push(rule.source.ref);
    else denial ??= rule;
  }
  let requirements: HoldRequirement[] | undefined;
  let reason: string | undefined;
  for (const rule of policy.holds) {
    if (!restricts(rule, command)) continue;
    if (!rule.source.enforce) {
      (warnings ??= []).push(rule.source.ref);
      continue;
    }
    (requirements ??= []).push(requirementOf(rule));
    reason ??= rule.source.message;
  }
  if (denial !== undefined) return denyByRule(denial, command, warnings ?? NONE);

  const by: RuleRef[] = [];
  for (let index = 0; index < command.effects.length; index++) {
    const rule = permitting(policy, command, index);
    if (rule === undefined) return denyUncovered(policy, command, warnings ?? NONE);
    if (!by.includes(rule.source.ref)) by.push(rule.source.ref);
  }
  if (requirements !== undefined) {
    return {
      kind: 'Hold',
      reason: reason ?? `${commandTitle(command)} needs consent`,
      requirements,
      warnings: warnings ?? NONE,
    };
  }
  return { kind: 'Allow', by, warnings: warnings ?? NONE };
}

/**
 * Judges several commands that run or fail together (the statements of one text) as one: any Deny denies all, else what
 * any of them needs is needed. No command at all (an empty text) does nothing and is allowed unless a policy is broken.
 */
export function decideAll(policy: SessionPolicy, commands: readonly Command[]): Decision {
  const first = commands[0];
  if (commands.length === 1 && first !== undefined) return decide(policy, first);
  if (first === undefined && policy.broken.length > 0) return denyBroken(policy, undefined);
  const decisions = commands.map((command) => decide(policy, command));
  return combine(decisions);
}

/** One decision for several: the first Deny, else all holds (once a rule), else Allow. Warnings of all are kept. */
export function combine(decisions: readonly Decision[]): Decision {
  const [only] = decisions;
  if (decisions.length === 1 && only !== undefined) return only;
  const warnings = uniqueRefs(decisions.flatMap((decision) => decision.warnings));
  const denial = decisions.find((decision) => decision.kind === 'Deny');
  if (denial !== undefined) return { ...denial, warnings };
  const holds = decisions.filter((decision) => decision.kind === 'Hold');
  if (holds.length > 0) {
    const requirements: HoldRequirement[] = [];
    for (const requirement of holds.flatMap((hold) => hold.requirements)) {
      if (!requirements.some(({ by }) => sameRef(by, requirement.by))) requirements.push(requirement);
    }
    return { kind: 'Hold', reason: distinct(holds.map((hold) => hold.reason)).join('; '), requirements, warnings };
  }
  const by = uniqueRefs(decisions.flatMap((decision) => (decision.kind === 'Allow' ? decision.by : [])));
  return { kind: 'Allow', by, warnings };
}

/**
 * The answer to a text its protocol could not understand: denied, unless the session's policy is one unconditional
 * Allow and nothing else (INV-02). `reason` is for people and holds no piece of the text.
 */
export function decideNotUnderstood(policy: SessionPolicy, reason: string, command?: Command): Decision {
  if (policy.broken.length > 0) return denyBroken(policy, command);
  if (policy.transparent !== undefined) return { kind: 'Allow', by: [policy.transparent], warnings: NONE };
  return denyNotUnderstood(policy, command, reason);
}

/** Whether a Deny or Hold rule is about the command. */
export function restricts(rule: SessionRule, command: Command): boolean {
  if (rule.prepared === undefined) return true;
  try {
    return rule.prepared.restricts(command);
  } catch {
    return true;
  }
}

/** Whether an Allow rule permits one effect, were it not for effects that must be named. */
export function permitsUnnamed(rule: SessionRule, command: Command, index: number): boolean {
  if (rule.prepared === undefined) return rule.source.matcher === undefined;
  try {
    return rule.prepared.permits(command, index);
  } catch {
    return false;
  }
}

/** Whether an Allow rule of the policy permits one effect of the command. */
export function permits(policy: SessionPolicy, rule: SessionRule, command: Command, index: number): boolean {
  const named = command.effects[index]?.named;
  if (named === undefined || (named === 'WhereRestricted' && !isRestricted(policy)))
    return permitsUnnamed(rule, command, index);
  try {
    return rule.prepared?.names?.(command, index) === true;
  } catch {
    return false;
  }
}

function permitting(policy: SessionPolicy, command: Command, index: number): SessionRule | undefined {
  for (const rule of policy.allows) if (permits(policy, rule, command, index)) return rule;
  return undefined;
}

/** Whether a Deny or Hold is in force, for some command at least. */
function isRestricted({ denies, holds }: SessionPolicy): boolean {
  return denies.some(({ source }) => source.enforce) || holds.some(({ source }) => source.enforce);
}

/** A Hold whose rule carries nobody to ask asks nobody: it can only time out. */
function requirementOf(rule: SessionRule): HoldRequirement {
  const { hold, ref } = rule.source;
  return hold === undefined ? { by: ref, count: 1, approvers: [], timeoutMs: 60_000 } : { by: ref, ...hold };
}

function denyByRule(rule: SessionRule, command: Command, warnings: readonly RuleRef[]): Decision {
  const { message, ref } = rule.source;
  return {
    kind: 'Deny',
    code: 'RuleDenied',
    by: ref,
    message: `Sallyport refused ${commandTitle(command)}${message === undefined ? '' : `: ${message}`}`,
    warnings,
  };
}

/** Built only when something is denied: the hot path never formats text. */
function denyUncovered(policy: SessionPolicy, command: Command, warnings: readonly RuleRef[]): Decision {
  const uncovered = command.effects.filter((_, index) => permitting(policy, command, index) === undefined);
  const effects = listText(distinct(uncovered.map(effectText)), 5);
  const name = policy.policy ?? policy.allows[0]?.source.ref.policy;
  const subject = name === undefined ? 'No policy' : `Policy ${name}`;
  const unnamed = uncovered.some((effect) =>
    policy.allows.some(
      (rule) => effect.named !== undefined && permitsUnnamed(rule, command, command.effects.indexOf(effect)),
    ),
  );
  return {
    kind: 'Deny',
    code: 'NoRuleAllows',
    by: undefined,
    message: `Sallyport refused ${commandTitle(command)}: no rule allows ${effects}`,
    hint: unnamed
      ? `${subject} allows it only in general, and it needs an Allow rule that names it; ask its authors for one, or request access under another policy.`
      : `${subject} has no Allow rule for ${effects}; ask its authors for one, or request access under another policy.`,
    warnings,
  };
}

function denyBroken(policy: SessionPolicy, command: Command | undefined): Decision {
  const first = policy.broken[0]!;
  const title = brokenTitle(first.policy);
  const more = policy.broken.length > 1 ? ` (and ${policy.broken.length - 1} more)` : '';
  return {
    kind: 'Deny',
    code: 'PolicyNotAccepted',
    by: undefined,
    message: `Sallyport refused ${command === undefined ? 'the command' : commandTitle(command)}: ${title} is not in order, so everything here is denied`,
    hint: `${title.charAt(0).toUpperCase()}${title.slice(1)}${more}: ${sentence(first.problem)} Ask its authors to mend it, then run the command again.`,
    warnings: NONE,
  };
}

function denyNotUnderstood(policy: SessionPolicy, command: Command | undefined, reason: string): Decision {
  const name = policy.policy ?? policy.allows[0]?.source.ref.policy;
  return {
    kind: 'Deny',
    code: 'NotUnderstood',
    by: undefined,
    message: `Sallyport refused ${command === undefined ? 'the command' : commandTitle(command)}: ${reason}`,
    hint: `${name === undefined ? 'The policy' : `Policy ${name}`} has rules that must be judged, and what is not understood can not be. Write the command in a plainer form.`,
    warnings: NONE,
  };
}

function sameRef(a: RuleRef, b: RuleRef): boolean {
  return a.policy === b.policy && a.rule === b.rule;
}

function uniqueRefs(refs: readonly RuleRef[]): readonly RuleRef[] {
  const unique: RuleRef[] = [];
  for (const ref of refs) if (!unique.some((seen) => sameRef(seen, ref))) unique.push(ref);
  return unique;
}
