// `make coverage`: lines of the policy engine and the PostgreSQL protocol that the tests run, a table a folder. Exit code 1
// below the least that is asked for. Generated files and tests do not count; what a daemon of its own process runs is
// not seen, so the figure is a lower bound.
import { spawn } from 'node:child_process';
import fs, { globSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const LEAST = 85;
const JUDGED = ['src/policy', 'src/protocols/postgres'];
const SUITES = [
  'src/**/*.test.ts',
  'test/integration/**/*.test.ts',
  'test/hostile/**/*.test.ts',
  'test/fuzz/**/*.test.ts',
];

interface Lines {
  covered: number;
  total: number;
}

/** Runs the tests; writes their coverage in lcov's form to `file`. Resolves with whether they passed. */
function measure(file: string): Promise<boolean> {
  const tests = SUITES.flatMap((pattern) => globSync(pattern)).sort();
  const child = spawn(
    process.execPath,
    [
      '--test',
      '--test-concurrency=2',
      '--test-timeout=300000',
      '--experimental-test-coverage',
      ...JUDGED.map((folder) => `--test-coverage-include=${folder}/**/*.ts`),
      '--test-coverage-exclude=**/*.test.ts',
      '--test-coverage-exclude=**/*.generated.ts',
      '--test-reporter=lcov',
      `--test-reporter-destination=${file}`,
      '--test-reporter=./scripts/test-reporter.ts',
      '--test-reporter-destination=stdout',
      ...tests,
    ],
    { stdio: 'inherit', env: { ...process.env, NODE_NO_WARNINGS: '1' } },
  );
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code === 0));
  });
}

/** Lines of each file (`SF`) that can run (`LF`) and did (`LH`): the tracefile of geninfo(1). */
function readTrace(text: string): Map<string, Lines> {
  const files = new Map<string, Lines>();
  for (const entry of text.split('end_of_record')) {
    const value = (name: string): string | undefined => new RegExp(`^${name}:(.*)$`, 'm').exec(entry)?.[1];
    const file = value('SF');
    if (file === undefined) continue;
    files.set(path.relative('.', path.resolve(file)), { covered: Number(value('LH')), total: Number(value('LF')) });
  }
  return files;
}

function sum(files: ReadonlyMap<string, Lines>, folder: string, deep: boolean): Lines {
  const lines = { covered: 0, total: 0 };
  for (const [file, { covered, total }] of files) {
    if (deep ? !file.startsWith(`${folder}/`) : path.dirname(file) !== folder) continue;
    lines.covered += covered;
    lines.total += total;
  }
  return lines;
}

const percent = ({ covered, total }: Lines): number => (total === 0 ? 0 : (100 * covered) / total);
const row = (name: string, lines: Lines): string =>
  `${name.padEnd(44)}${percent(lines).toFixed(1).padStart(6)} %${`${lines.covered} of ${lines.total}`.padStart(18)}`;

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-coverage-'));
try {
  const trace = path.join(folder, 'lcov.info');
  const passed = await measure(trace);
  const files = readTrace(fs.readFileSync(trace, 'utf8'));
  for (const name of [...new Set([...files.keys()].map((file) => path.dirname(file)))].sort())
    console.log(row(name, sum(files, name, false)));
  let enough = passed;
  for (const name of JUDGED) {
    const lines = sum(files, name, true);
    console.log(row(`${name} (all)`, lines));
    if (percent(lines) >= LEAST) continue;
    enough = false;
    console.error(`coverage: ${name} is below ${LEAST} %`);
  }
  if (!passed) console.error('coverage: a test failed, so its figures are not to be relied on');
  process.exitCode = enough ? 0 : 1;
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
