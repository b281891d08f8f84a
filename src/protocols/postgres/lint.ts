// Problems of a SQL matcher that its schema does not see: patterns and combinations that can never match anything.
import type { SqlMatcher } from '../../api/policy.ts';
import { globMatches } from '../../policy/glob.ts';
import { parsePattern } from './pattern.ts';

export function lintMatcher(matcher: SqlMatcher, tags: readonly string[]): string[] {
  const problems: string[] = [];
  for (const pattern of matcher.statements ?? []) {
    if (tags.some((tag) => globMatches(pattern.toUpperCase(), tag))) continue;
    const near = nearest(pattern.toUpperCase(), tags);
    problems.push(`statements: no statement is called "${pattern}"${near ? `; did you mean "${near}"?` : ''}`);
  }
  for (const pattern of matcher.tables ?? []) name(problems, 'tables', pattern, 2, 'schema.table');
  for (const pattern of matcher.columns ?? []) name(problems, 'columns', pattern, 3, 'schema.table.column');
  for (const pattern of matcher.functions ?? []) name(problems, 'functions', pattern, 2, 'schema.function');
  const effects = matcher.effects;
  const only = (...allowed: string[]) => effects?.every((effect) => allowed.includes(effect));
  if (effects && (matcher.tables || matcher.columns) && only('Execute', 'Session')) {
    problems.push(
      `effects: ${effects.join(', ')} never have a table; the rule can not match together with tables or columns`,
    );
  }
  if (effects && matcher.unbounded === true && !effects.includes('Write')) {
    problems.push('unbounded: only writes are unbounded; add Write to effects');
  }
  return problems;
}

function name(problems: string[], field: string, pattern: string, most: number, form: string): void {
  const parts = parsePattern(pattern);
  if (parts === undefined) {
    problems.push(`${field}: "${pattern}" is not a name; write ${form}, with \`*\` for any characters`);
  } else if (parts.length > most) {
    problems.push(`${field}: "${pattern}" has ${parts.length} parts and can never match; write ${form}`);
  }
}

function nearest(pattern: string, tags: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.max(3, Math.floor(pattern.length / 2));
  for (const tag of tags) {
    const distance = tag.startsWith(`${pattern} `) ? 1 : editDistance(pattern, tag);
    if (distance < least) {
      least = distance;
      best = tag;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, substitute));
    }
    row = next;
  }
  return row[b.length]!;
}
