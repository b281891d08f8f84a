// How results of policy tests are told: for people, for programs (JSON) and for CI (JUnit XML). Pure.
import { alignColumns, safeText } from '../wording.ts';
import { type CaseResult, refName } from './run.ts';

export interface FileResult {
  /** Relative to where the person is, as they would open it. */
  file: string;
  suite: string | undefined;
  results: readonly (CaseResult & { line: number })[];
}

export interface Totals {
  passed: number;
  failed: number;
  errors: number;
}

export function totalsOf(files: readonly FileResult[]): Totals {
  const totals: Totals = { passed: 0, failed: 0, errors: 0 };
  for (const { outcome } of files.flatMap(({ results }) => results)) {
    if (outcome === 'Passed') totals.passed++;
    else if (outcome === 'Failed') totals.failed++;
    else totals.errors++;
  }
  return totals;
}

const MARK: Readonly<Record<CaseResult['outcome'], string>> = { Passed: 'pass', Failed: 'FAIL', Error: 'ERROR' };

export function tableReport(files: readonly FileResult[]): string {
  const lines: string[] = [];
  for (const { file, results } of files) {
    lines.push(
      file,
      ...alignColumns(
        results.map(({ outcome, name, got, misses, by }) => [
          MARK[outcome],
          safeText(name, 72),
          outcome === 'Passed' ? got : misses.join('; '),
          outcome === 'Passed' ? by.map((ref) => `${ref.policy} "${ref.rule}"`).join(', ') : '',
        ]),
      ),
      '',
    );
  }
  for (const { file, results } of files) {
    for (const result of results.filter(({ outcome }) => outcome !== 'Passed')) {
      lines.push(`${file}:${result.line}: ${safeText(result.name, 120)}`);
      if (result.text !== undefined) lines.push(`  ${safeText(result.text.replace(/\s+/g, ' ').trim(), 200)}`);
      lines.push(
        ...result.why
          .trimEnd()
          .split('\n')
          .map((line) => (line === '' ? '' : `  ${line}`)),
        '',
      );
    }
  }
  const { passed, failed, errors } = totalsOf(files);
  lines.push(`${passed} passed, ${failed} failed${errors === 0 ? '' : `, ${errors} could not be run`}`);
  return `${lines.join('\n')}\n`;
}

export function jsonReport(files: readonly FileResult[]): string {
  const report = {
    ...totalsOf(files),
    files: files.map(({ file, suite, results }) => ({
      file,
      suite,
      cases: results.map(({ path: _path, by, ...result }) => ({ ...result, by: by.map(refName) })),
    })),
  };
  return `${JSON.stringify(report, null, 2)}\n`;
}

/** JUnit's XML as CI systems read it: one testsuite a file, one testcase a case. */
export function junitReport(files: readonly FileResult[]): string {
  const all = totalsOf(files);
  const lines = [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="sallyport policy test" tests="${all.passed + all.failed + all.errors}" failures="${all.failed}" errors="${all.errors}">`,
  ];
  for (const entry of files) {
    const own = totalsOf([entry]);
    lines.push(
      `  <testsuite name="${xml(entry.suite ?? entry.file)}" tests="${entry.results.length}" failures="${own.failed}" errors="${own.errors}">`,
    );
    for (const { name, outcome, misses, why, line } of entry.results) {
      const head = `    <testcase classname="${xml(entry.file)}" name="${xml(name)}" file="${xml(entry.file)}" line="${line}"`;
      if (outcome === 'Passed') {
        lines.push(`${head}/>`);
        continue;
      }
      const tag = outcome === 'Failed' ? 'failure' : 'error';
      lines.push(
        `${head}>`,
        `      <${tag} message="${xml(misses.join('; '))}">${xml(why)}</${tag}>`,
        '    </testcase>',
      );
    }
    lines.push('  </testsuite>');
  }
  lines.push('</testsuites>');
  return `${lines.join('\n')}\n`;
}

/** XML 1.0 (2.2) knows no other control characters, escaped or not: they become U+FFFD. */
function xml(text: string): string {
  return text
    .toWellFormed()
    .replace(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '\ufffd')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
