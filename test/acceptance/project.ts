// The project's own promises about itself: every invariant tested by number, lines covered, figures measured.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { CriteriaGroup } from './criterion.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');

function* testFiles(): Generator<string> {
  for (const folder of ['src', 'test', 'scripts']) {
    for (const name of fs.readdirSync(path.join(ROOT, folder), { recursive: true, encoding: 'utf8' })) {
      if (name.endsWith('.test.ts')) yield path.join(ROOT, folder, name);
    }
  }
}

/** How many tests carry each invariant's number in their name. */
function counted(): Map<string, number> {
  const stated = fs.readFileSync(path.join(ROOT, 'docs/invariants.md'), 'utf8').matchAll(/^\| (INV-\d\d) \|/gm);
  const counts = new Map([...stated].map(([, number]) => [number!, 0]));
  for (const file of testFiles()) {
    for (const [, name] of fs.readFileSync(file, 'utf8').matchAll(/\b(?:test|it)\(\s*(['"`].*)/g)) {
      for (const [number] of name!.matchAll(/INV-\d\d/g)) {
        assert.ok(
          counts.has(number),
          `${path.relative(ROOT, file)} tests ${number}, which docs/invariants.md does not state`,
        );
        counts.set(number, counts.get(number)! + 1);
      }
    }
  }
  return counts;
}

async function invariants(): Promise<string> {
  const counts = [...counted()];
  assert.equal(counts.length, 12);
  const untested = counts.filter(([, count]) => count === 0).map(([number]) => number);
  assert.deepEqual(untested, [], 'invariants without a test of their number');
  return counts.map(([number, count]) => `${number} ${count}`).join(', ');
}

function coverage(): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [path.join(ROOT, 'scripts/coverage.ts')], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout.on('data', (bytes: Buffer) => (output += bytes.toString()));
    child.stderr.on('data', (bytes: Buffer) => (output += bytes.toString()));
    child.once('error', reject);
    child.once('close', (code) => {
      const judged = [...output.matchAll(/^(src\/\S+) \(all\)\s+(\d+(?:\.\d+)?) %/gm)];
      if (code !== 0 || judged.length === 0) reject(new Error(`coverage exited ${code}:\n${output.slice(-2000)}`));
      else resolve(judged.map(([, folder, percent]) => `${folder} ${percent} %`).join(', '));
    });
  });
}

async function measured(): Promise<string> {
  const text = fs.readFileSync(path.join(ROOT, 'docs/performance.md'), 'utf8');
  const rows = text.split('\n').filter((line) => /^\|.*\d/.test(line));
  // A ratio stands with its spread: `0.68 (0.60–0.76)`.
  const ratios = rows.filter((line) => /\d\.\d\d \(\d\.\d\d–\d+\.\d\d\)/.test(line));
  assert.ok(rows.length >= 5 && ratios.length >= 3, `${rows.length} rows, ${ratios.length} with ratios`);
  return `${rows.length} rows, ${ratios.length} with ratios`;
}

export const project: CriteriaGroup = {
  name: 'project',
  criteria: [
    { claim: 'every invariant has a test that carries its number', check: invariants },
    { claim: 'at least 85 % of the lines of src/policy and src/protocols/postgres are covered', check: coverage },
    { claim: 'docs/performance.md has its figures, as ratios', check: measured },
  ],
};
