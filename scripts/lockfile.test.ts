// `npm ci` on a fresh clone refuses a lock file that leaves out an optional package, even one for another platform.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

interface Locked {
  version?: string;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

test('the lock file names every package that an install may want, on any platform', () => {
  const file = path.resolve(import.meta.dirname, '../package-lock.json');
  const { packages } = JSON.parse(fs.readFileSync(file, 'utf8')) as { packages: Record<string, Locked> };
  const wanted = Object.values(packages).flatMap((each) =>
    Object.keys({ ...each.dependencies, ...each.optionalDependencies }),
  );
  assert.ok(wanted.length > 50);
  assert.deepEqual(
    wanted.filter((name) => !Object.keys(packages).some((at) => at.endsWith(`node_modules/${name}`))),
    [],
  );
});
