// Runs named test suites with node:test and says at the end what passed, failed and was skipped, with reasons.
import { execFileSync, spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import path from 'node:path';

interface Suite {
  files: readonly string[];
  concurrency: number;
  timeoutMs: number;
  /** Why it can not run here and what to do; undefined: it can. */
  missing?: () => string | undefined;
}

const SUITES: Readonly<Record<string, Suite>> = {
  unit: { files: ['src/**/*.test.ts', 'scripts/**/*.test.ts'], concurrency: 2, timeoutMs: 120_000 },
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
  const child = spawn(
    process.execPath,
    [
      '--test',
      `--test-concurrency=${suite.concurrency}`,
      `--test-timeout=${suite.timeoutMs}`,
      '--test-reporter=./scripts/test-reporter.ts',
      ...files,
    ],
    { stdio: 'inherit', env: { ...process.env, NODE_NO_WARNINGS: '1' } },
  );
  const code = await new Promise<number | null>((resolve) => child.once('exit', resolve));
  console.log(`# ${name}: ${code === 0 ? 'ok' : 'FAILED'} in ${((performance.now() - started) / 1000).toFixed(1)} s`);
  return code === 0;
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
