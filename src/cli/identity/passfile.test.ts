import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { openPassFile } from './passfile.ts';

const folder = (): string => fs.mkdtempSync(path.join(os.tmpdir(), 'pass-'));

test('the file is for one host and port, for its owner alone, and goes with the client', () => {
  const home = folder();
  const file = openPassFile(home, {}, { host: '::1', port: 5432 }, 'one');
  assert.equal(fs.readFileSync(file.path, 'utf8'), '\\:\\:1:5432:*:*:one\n');
  assert.equal(fs.statSync(file.path).mode & 0o777, 0o600);
  assert.equal(fs.statSync(path.dirname(file.path)).mode & 0o777, 0o700);
  file.replace('two:\\');
  assert.equal(fs.readFileSync(file.path, 'utf8'), '\\:\\:1:5432:*:*:two\\:\\\\\n');
  file.remove();
  assert.deepEqual(fs.readdirSync(path.dirname(file.path)), []);
});

test('files of processes that died are removed by the next, those of the living are not', () => {
  const home = folder();
  const dead = spawnSync('true').pid;
  fs.mkdirSync(path.join(home, 'run'));
  const left = path.join(home, 'run', `pass-${dead}-0123456789abcdef`);
  const living = path.join(home, 'run', `pass-${process.ppid}-0123456789abcdef`);
  fs.writeFileSync(left, 'x');
  fs.writeFileSync(living, 'x');
  const file = openPassFile(home, {}, { host: 'h', port: 1 }, 'p');
  assert.ok(!fs.existsSync(left));
  assert.ok(fs.existsSync(living));
  file.remove();
});

test('a runtime folder of the system’s is preferred where it is ours', () => {
  const [home, runtime] = [folder(), folder()];
  const file = openPassFile(home, { XDG_RUNTIME_DIR: runtime }, { host: 'h', port: 1 }, 'p');
  assert.ok(file.path.startsWith(`${runtime}/sallyport/`));
  file.remove();
  const fallback = openPassFile(home, { XDG_RUNTIME_DIR: '/nowhere/at/all' }, { host: 'h', port: 1 }, 'p');
  assert.ok(fallback.path.startsWith(home));
  fallback.remove();
});
