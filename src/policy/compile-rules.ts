// Rules and masks of one policy, compiled and checked deeper than their schema can. Pure. Every problem is one sentence
// that says where and what to write instead; the caller turns any problem into a policy that is not accepted.
import type { Mask, Rule } from '../api/policy.ts';
import type { Subject } from '../api/schema.ts';
import type { CompiledMask, CompiledRule } from './bundle.ts';
import { bounded, checkUnique, DEFAULT_HOLD_TIMEOUT_MS, withNamespace } from './compile-checks.ts';
import type { ProtocolRules } from './session-policy.ts';
import { safeText } from './wording.ts';

export interface RuleContext {
  policy: string;
  namespace: string | undefined;
  clusterScoped: boolean;
  problems: string[];
}

/** Members of a rule that are no matcher. */
const RULE_MEMBERS: readonly string[] = ['name', 'action', 'preset', 'exempt', 'message', 'hold'];
const LONGEST_HOLD_MS = 24 * 3_600_000;

export function compileRules(
  rules: readonly Rule[],
  enforce: boolean,
  protocol: ProtocolRules,
  context: RuleContext,
): CompiledRule[] {
  checkUnique(
    'spec.rules',
    rules.map((rule) => rule.name),
    context.problems,
  );
  return rules.flatMap((rule) =>
    rule.preset === undefined
      ? compileRule(rule, enforce, protocol, context)
      : expandPreset(rule, rule.preset, enforce, protocol, context),
  );
}

function compileRule(rule: Rule, enforce: boolean, protocol: ProtocolRules, context: RuleContext): CompiledRule[] {
  const { problems } = context;
  const where = `rule "${rule.name}"`;
  const { action } = rule;
  if (action !== 'Allow' && action !== 'Deny' && action !== 'Hold') {
    problems.push(`${where}: give one of action (Allow, Deny, Hold) and preset`);
    return [];
  }
  if (action === 'Allow' && context.clusterScoped)
    problems.push(
      `${where}: a ClusterAccessPolicy only tightens; write Deny or Hold here, and the Allow in an AccessPolicy`,
    );
  if (action === 'Allow' && rule.exempt !== undefined)
    problems.push(`${where}: exempt belongs to Deny and Hold rules; name who is allowed in spec.subjects`);
  if (action !== 'Hold' && rule.hold !== undefined)
    problems.push(`${where}: hold belongs to action Hold; write action: Hold, or remove hold`);
  const hold = action === 'Hold' ? compileHold(rule, where, context) : undefined;
  const matcher = compileMatcher(rule, where, protocol, problems);
  return [
    {
      ref: { policy: context.policy, rule: rule.name },
      action,
      enforce,
      ...(matcher === undefined ? {} : { matcher }),
      exempt: exemptOf(rule.exempt, where, context),
      ...(rule.message === undefined ? {} : { message: harmlessMessage(rule.message) }),
      ...(hold === undefined ? {} : { hold }),
    },
  ];
}

/** The rules of a preset, named `RULE.PRESET-RULE`: a rule's own name holds no dot, so no other can be taken for it. */
function expandPreset(
  rule: Rule,
  preset: string,
  enforce: boolean,
  protocol: ProtocolRules,
  context: RuleContext,
): CompiledRule[] {
  const { problems } = context;
  const where = `rule "${rule.name}"`;
  if (rule.action !== undefined) problems.push(`${where}: give one of action and preset, not both`);
  const template = Object.hasOwn(protocol.presets, preset) ? protocol.presets[preset] : undefined;
  if (template === undefined) {
    problems.push(
      `${where}: there is no preset ${preset} for this Connection; write one of ${Object.keys(protocol.presets).join(', ')}`,
    );
    return [];
  }
  for (const member of matcherMembers(rule))
    problems.push(`${where}: a preset brings its own matchers; remove ${member}, or write a rule with action`);
  const actions = new Set(template.map(({ action }) => action));
  if (context.clusterScoped && actions.has('Allow'))
    problems.push(
      `${where}: preset ${preset} allows, and a ClusterAccessPolicy only tightens; use it in an AccessPolicy`,
    );
  if (rule.exempt !== undefined && actions.size === 1 && actions.has('Allow'))
    problems.push(`${where}: preset ${preset} only allows, so nobody can be exempt from it; remove exempt`);
  if (rule.hold !== undefined && !actions.has('Hold'))
    problems.push(`${where}: preset ${preset} holds nothing; remove hold`);
  const hold = actions.has('Hold') ? compileHold(rule, where, context) : undefined;
  const exempt = exemptOf(rule.exempt, where, context);
  return template.map((entry) => {
    const message = rule.message === undefined ? entry.message : harmlessMessage(rule.message);
    const matcher = entry.matcher === undefined ? undefined : { member: protocol.member, value: entry.matcher };
    if (matcher !== undefined) checkMatcher(matcher.value, `${where} (preset ${preset})`, protocol, problems);
    return {
      ref: { policy: context.policy, rule: `${rule.name}.${entry.name}` },
      action: entry.action,
      enforce,
      ...(matcher === undefined ? {} : { matcher }),
      exempt: entry.action === 'Allow' ? [] : exempt,
      ...(message === undefined ? {} : { message }),
      ...(entry.action === 'Hold' && hold !== undefined ? { hold } : {}),
    };
  });
}

function compileHold(rule: Rule, where: string, context: RuleContext): CompiledRule['hold'] {
  const { hold } = rule;
  if (hold === undefined) {
    context.problems.push(`${where}: it holds commands but says not who may consent; write hold.approvers`);
    return undefined;
  }
  const timeoutMs = bounded(`${where}: hold.timeout`, hold.timeout, 1_000, LONGEST_HOLD_MS, context.problems);
  return {
    count: hold.count ?? 1,
    approvers: namedSubjects(hold.approvers, `${where}: hold.approvers`, context),
    timeoutMs: timeoutMs ?? DEFAULT_HOLD_TIMEOUT_MS,
  };
}

function exemptOf(exempt: readonly Subject[] | undefined, where: string, context: RuleContext): Subject[] {
  return namedSubjects(exempt ?? [], `${where}: exempt`, context);
}

function namedSubjects(subjects: readonly Subject[], field: string, context: RuleContext): Subject[] {
  return subjects.map((subject) => {
    if (subject.kind === 'ServiceAccount' && subject.namespace === undefined && context.namespace === undefined)
      context.problems.push(`${field} names a ServiceAccount without its namespace; write namespace`);
    return withNamespace(subject, context.namespace);
  });
}

/** Lines stay lines; nothing else in it can move a cursor, end a protocol's string or change what is read after it. */
function harmlessMessage(message: string): string {
  return message
    .trim()
    .split(/\r?\n/)
    .map((line) => safeText(line, 512))
    .join('\n');
}

function matcherMembers(rule: Rule): string[] {
  return Object.entries(rule)
    .filter(([member, value]) => value !== undefined && !RULE_MEMBERS.includes(member))
    .map(([member]) => member);
}

function compileMatcher(
  rule: Rule,
  where: string,
  protocol: ProtocolRules,
  problems: string[],
): CompiledRule['matcher'] {
  const members = matcherMembers(rule);
  for (const member of members) {
    if (member !== protocol.member)
      problems.push(
        `${where}: ${member} does not fit this Connection, whose commands are matched by ${protocol.member}; select other Connections or write ${protocol.member}`,
      );
  }
  if (!members.includes(protocol.member)) return undefined;
  const value: unknown = (rule as unknown as Record<string, unknown>)[protocol.member];
  checkMatcher(value, where, protocol, problems);
  return { member: protocol.member, value };
}

/** A matcher that can not be prepared now could not be enforced later. */
function checkMatcher(value: unknown, where: string, protocol: ProtocolRules, problems: string[]): void {
  try {
    const found = protocol.lint(value);
    for (const problem of found) problems.push(`${where}: ${protocol.member}: ${problem}`);
    if (found.length === 0) protocol.prepare(value);
  } catch (error) {
    problems.push(`${where}: ${protocol.member} can not be used: ${error instanceof Error ? error.message : error}`);
  }
}

export function compileMasks(masks: readonly Mask[], context: RuleContext): CompiledMask[] {
  checkUnique(
    'spec.masking',
    masks.map((mask) => mask.name),
    context.problems,
  );
  return masks.map((mask) => {
    const where = `mask "${mask.name}"`;
    const columns = mask.columns ?? [];
    const detectors = mask.detectors ?? [];
    if (columns.length > 0 === detectors.length > 0)
      context.problems.push(`${where}: give one of columns and detectors, not empty`);
    return {
      ref: { policy: context.policy, rule: mask.name },
      columns: columns.map((pattern) => {
        const full = completeColumnPattern(pattern);
        if (full === undefined)
          context.problems.push(
            `${where}: "${pattern}" names no column; write schema.table.column, for example *.customers.email`,
          );
        return full ?? pattern;
      }),
      detectors: [...detectors],
      with: mask.with ?? 'Redact',
      predicates: mask.predicates ?? 'Deny',
      exempt: exemptOf(mask.exempt, where, context),
    };
  });
}

/**
 * `schema.table.column` with what was left out as `*`: `customers.email` is a column of that table in any schema, so
 * that a short pattern masks more and never silently nothing. undefined: not a column pattern.
 */
export function completeColumnPattern(pattern: string): string | undefined {
  const parts = splitName(pattern);
  if (parts.length > 3 || parts.some((part) => part === '')) return undefined;
  return [...Array.from({ length: 3 - parts.length }, () => '*'), ...parts].join('.');
}

/** Splits at dots outside double quotes. */
function splitName(pattern: string): string[] {
  const parts: string[] = [];
  let part = '';
  let quoted = false;
  for (const char of pattern) {
    if (char === '"') quoted = !quoted;
    if (char === '.' && !quoted) {
      parts.push(part);
      part = '';
    } else {
      part += char;
    }
  }
  return quoted ? [''] : [...parts, part];
}
