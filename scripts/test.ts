// Runs named test suites with node:test and says at the end what passed, failed and was skipped, with reasons.
import { execFileSync, spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import path from 'node:path';

interface Suite {
  files: readonly string[];
  concurrency: number;
  timeoutMs: number;
  /** All its files share `concurrency` processes. Default: each has its own, which starts and compiles everything anew. */
  shared?: true;
  /** Why it can not run here and what to do; undefined: it can. */
  missing?: () => string | undefined;
}

const SUITES: Readonly<Record<string, Suite>> = {
  unit: { files: ['src/**/*.test.ts', 'scripts/**/*.test.ts'], concurrency: 2, timeoutMs: 120_000, shared: true },
  integration: { files: ['test/integration/**/*.test.ts'], concurrency: 1, timeoutMs: 300_000 },
  hostile: { files: ['test/hostile/**/*.test.ts'], concurrency: 1, timeoutMs: 300_000 },
  fuzz: { files: ['test/fuzz/**/*.test.ts'], concurrency: 1, timeoutMs: 600_000 },
  chart: { files: ['test/chart/**/*.test.ts'], concurrency: 1, timeoutMs: 300_000 },
  cluster: {
    files: ['test/cluster/**/*.test.ts'],
    concurrency: 1,
    timeoutMs: 600_000,
    missing: () =>
      hasKubernetes()
        ? undefined
        : 'there is no Kubernetes API server here; `scripts/cluster/binaries.sh control` builds one with Go (some minutes, once), or set KUBEBUILDER_ASSETS',
  },
  conformance: { files: ['test/conformance/**/*.test.ts'], concurrency: 1, timeoutMs: 600_000 },
};

function hasKubernetes(): boolean {
  try {
    execFileSync(path.join(import.meta.dirname, 'cluster/binaries.sh'), ['--check', 'control'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Without it every process strips and compiles what it imports anew. */
const COMPILED = path.join(import.meta.dirname, '../node_modules/.cache/compiled');
const MOST_SAID = 64 * 1024;

/** The exit code of one `node --test`. What tests write to stderr is shown where one failed, or with TEST_OUTPUT=1. */
async function runFiles(files: readonly string[], options: readonly string[]): Promise<number | null> {
  const child = spawn(
    process.execPath,
    ['--test', ...options, '--test-reporter=./scripts/test-reporter.ts', ...files],
    {
      stdio: ['ignore', 'inherit', 'pipe'],
      env: { ...process.env, NODE_NO_WARNINGS: '1', NODE_COMPILE_CACHE: COMPILED },
    },
  );
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-MOST_SAID);
  });
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  if (code !== 0 || process.env['TEST_OUTPUT'] === '1') process.stderr.write(said);
  return code;
}

async function runSuite(name: string): Promise<boolean> {
  const suite = SUITES[name];
  if (suite === undefined) {
    console.error(`test: no suite "${name}"; there are ${Object.keys(SUITES).join(', ')}`);
    return false;
  }
  const missing = suite.missing?.();
  if (missing !== undefined) {
    console.log(`\n# ${name}: SKIPPED: ${missing}`);
    return true;
  }
  const files = suite.files.flatMap((pattern) => globSync(pattern)).sort();
  if (files.length === 0) {
    console.error(`test: suite ${name} has no file`);
    return false;
  }
  console.log(`\n# ${name}: ${files.length} files`);
  const started = performance.now();
  const shards = suite.shared === true ? suite.concurrency : 1;
  const codes = await Promise.all(
    Array.from({ length: shards }, (_, at) =>
      runFiles(files, [
        `--test-timeout=${suite.timeoutMs}`,
        ...(suite.shared === true
          ? ['--test-isolation=none', `--test-shard=${at + 1}/${shards}`]
          : [`--test-concurrency=${suite.concurrency}`]),
      ]),
    ),
  );
  const ok = codes.every((code) => code === 0);
  console.log(`# ${name}: ${ok ? 'ok' : 'FAILED'} in ${((performance.now() - started) / 1000).toFixed(1)} s`);
  return ok;
}

/** TEST_ATTEMPTS=2: a suite that failed runs once more, and says so. For machines that others load too. */
const attempts = Number(process.env['TEST_ATTEMPTS'] ?? 1);

async function passes(name: string): Promise<boolean> {
  for (let attempt = 1; ; attempt += 1) {
    if (await runSuite(name)) {
      if (attempt > 1) console.log(`# ${name}: PASSED ONLY ON ATTEMPT ${attempt}; look at what failed above`);
      return true;
    }
    if (attempt >= attempts) return false;
  }
}

const names = process.argv.slice(2);
let ok = names.length > 0;
for (const name of names) ok = (await passes(name)) && ok;
process.exitCode = ok ? 0 : 1;
