// Why a command was decided as it was: every rule that was considered, whether it matched, and which of its fields did
// not. The decision in an explanation is decide()'s own, so that the two can not disagree.
import type { Command } from './command.ts';
import { decide, permits, permitsUnnamed, restricts } from './decide.ts';
import type { Decision, RuleRef } from './decision.ts';
import type { ProtocolRules, SessionPolicy, SessionRule } from './session-policy.ts';
import { alignColumns, brokenTitle, commandTitle, distinct, effectText, safeText } from './wording.ts';

export interface ExplainedRule {
  ref: RuleRef;
  action: 'Allow' | 'Deny' | 'Hold';
  enforcement: 'Enforce' | 'Warn';
  matched: boolean;
  /** For Allow: the effects it permits, as indexes into `effects`. */
  permits?: readonly number[];
  /** One phrase for people. */
  why: string;
}

/** Plain data: the JSON form is this object. */
export interface Explanation {
  title: string;
  effects: readonly string[];
  decision: Decision;
  /** Denies, then holds, then allows; each by policy and rule. */
  rules: readonly ExplainedRule[];
  /** Rules and masks that the principal is exempt from. */
  exempted: readonly RuleRef[];
  /** Masks in force in the session, whatever the command. */
  masks: readonly { ref: RuleRef; covers: readonly string[] }[];
  /** Policies not in order; if any, everything is denied. */
  broken: readonly { policy: string; problem: string }[];
}

/** `rules`, if given, lets the explanation name the field of a matcher that did not fit. */
export function explain(policy: SessionPolicy, command: Command, rules?: ProtocolRules): Explanation {
  const explained = [
    ...policy.denies.map((rule) => explainRestriction(rule, command, rules)),
    ...policy.holds.map((rule) => explainRestriction(rule, command, rules)),
    ...policy.allows.map((rule) => explainAllow(policy, rule, command, rules)),
  ];
  return {
    title: commandTitle(command),
    effects: command.effects.map(effectText),
    decision: decide(policy, command),
    rules: explained,
    exempted: policy.exempted ?? [],
    masks: policy.masks.map((mask) => ({ ref: mask.ref, covers: [...mask.columns, ...mask.detectors] })),
    broken: policy.broken,
  };
}

function explainRestriction(rule: SessionRule, command: Command, rules: ProtocolRules | undefined): ExplainedRule {
  const matched = restricts(rule, command);
  return {
    ...headOf(rule),
    matched,
    why: matched
      ? rule.source.matcher === undefined
        ? 'it is about every command'
        : 'every field fits'
      : missText(rule, rules, (prepared) => restricts({ ...rule, prepared }, command)),
  };
}

function explainAllow(
  policy: SessionPolicy,
  rule: SessionRule,
  command: Command,
  rules: ProtocolRules | undefined,
): ExplainedRule {
  const permitted: number[] = [];
  const reasons: string[] = [];
  command.effects.forEach((effect, index) => {
    if (permits(policy, rule, command, index)) permitted.push(index);
    else {
      const miss = permitsUnnamed(rule, command, index)
        ? 'it does not name it'
        : missText(rule, rules, (prepared) => permits(policy, { ...rule, prepared }, command, index));
      reasons.push(`not ${effectText(effect)}: ${miss}`);
    }
  });
  const granted = distinct(permitted.map((index) => effectText(command.effects[index]!)));
  return {
    ...headOf(rule),
    matched: permitted.length > 0,
    permits: permitted,
    why: [...(granted.length > 0 ? [`permits ${granted.join(', ')}`] : []), ...distinct(reasons)].join('; '),
  };
}

function headOf(rule: SessionRule): Pick<ExplainedRule, 'ref' | 'action' | 'enforcement'> {
  const { ref, action, enforce } = rule.source;
  return { ref, action, enforcement: enforce ? 'Enforce' : 'Warn' };
}

/** Fields of a matcher are and-ed, so each can be tried alone to find those that stand in the way. */
function missText(
  rule: SessionRule,
  rules: ProtocolRules | undefined,
  fits: (prepared: SessionRule['prepared']) => boolean,
): string {
  const value = rule.source.matcher?.value;
  if (rules === undefined || typeof value !== 'object' || value === null) return 'its matcher does not fit';
  const misses: string[] = [];
  for (const [field, wanted] of Object.entries(value)) {
    try {
      if (!fits(rules.prepare({ [field]: wanted }))) misses.push(`${field} is ${valueText(wanted)}`);
    } catch {
      // A field that can not stand alone explains nothing by itself.
    }
  }
  return misses.length > 0 ? misses.join(', ') : 'its fields fit one by one, but not together';
}

function valueText(value: unknown): string {
  if (!Array.isArray(value)) return safeText(String(value));
  const shown = value.slice(0, 4).map((item) => safeText(String(item)));
  return `${shown.join(' or ')}${value.length > 4 ? ` or ${value.length - 4} others` : ''}`;
}

/** Aligned text for a terminal; no colour, no line longer than its parts. */
export function explanationText(explanation: Explanation): string {
  const { decision } = explanation;
  const lines = [`${explanation.title}: ${decisionText(decision)}`];
  if (decision.kind === 'Deny') lines.push(`  ${decision.message}`, ...(decision.hint ? [`  ${decision.hint}`] : []));
  if (decision.kind === 'Hold')
    for (const { by, count, approvers } of decision.requirements)
      lines.push(
        `  needs ${count} of ${approvers.length === 0 ? 'nobody' : approvers.map((each) => each.name ?? each.kind).join(', ')} (${by.policy}, "${by.rule}")`,
      );
  for (const { policy, problem } of explanation.broken)
    lines.push(`  ${brokenTitle(policy)} is not in order: ${problem}`);
  if (explanation.effects.length > 0) {
    lines.push('', 'What it does');
    explanation.effects.forEach((effect) => lines.push(`  ${effect}`));
  }
  if (explanation.rules.length > 0) {
    lines.push('', 'Rules, in the order in which they count');
    lines.push(
      ...alignColumns(
        explanation.rules.map((rule) => [
          rule.enforcement === 'Warn' ? `${rule.action} (Warn)` : rule.action,
          `${rule.ref.policy} "${rule.ref.rule}"`,
          rule.matched ? 'matched' : 'no match',
          rule.why,
        ]),
      ),
    );
  }
  if (explanation.exempted.length > 0) {
    lines.push('', 'Exempt from');
    lines.push(...explanation.exempted.map((ref) => `  ${ref.policy} "${ref.rule}"`));
  }
  if (explanation.masks.length > 0) {
    lines.push('', 'Masks in force');
    lines.push(
      ...alignColumns(explanation.masks.map(({ ref, covers }) => [`${ref.policy} "${ref.rule}"`, covers.join(', ')])),
    );
  }
  return `${lines.join('\n')}\n`;
}

export function decisionText(decision: Decision): string {
  const warned =
    decision.warnings.length === 0
      ? ''
      : `, with ${decision.warnings.length === 1 ? '1 warning' : `${decision.warnings.length} warnings`}`;
  switch (decision.kind) {
    case 'Allow':
      return `allowed${decision.by.length === 0 ? '' : ` by ${decision.by.map((ref) => `${ref.policy} "${ref.rule}"`).join(', ')}`}${warned}`;
    case 'Hold':
      return `held by ${decision.requirements.map(({ by }) => `${by.policy} "${by.rule}"`).join(', ')}${warned}`;
    case 'Deny':
      return `denied${decision.by === undefined ? ` (${decision.code})` : ` by ${decision.by.policy} "${decision.by.rule}"`}${warned}`;
    default:
      return 'undecided';
  }
}
