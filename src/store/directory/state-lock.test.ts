import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemRandom } from '../../system/random.ts';
import { lockState, StateInUse } from './state-lock.ts';

function folderFor(t: TestContext): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-lock-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('a second owner is told who the first is, and gets in once it has left', (t) => {
  const folder = folderFor(t);
  const unlock = lockState(folder, systemRandom);
  assert.throws(
    () => lockState(folder, systemRandom),
    (error: Error) => {
      assert.ok(error instanceof StateInUse);
      assert.match(error.message, new RegExp(`in use by process ${process.pid} on .*remove .*lock\\.$`));
      return true;
    },
  );
  unlock();
  lockState(folder, systemRandom)();
  assert.deepEqual(fs.readdirSync(folder), []);
});

const script = `import { lockState } from ${JSON.stringify(path.join(import.meta.dirname, 'state-lock.ts'))};
import { systemRandom } from ${JSON.stringify(path.join(import.meta.dirname, '../../system/random.ts'))};
try { lockState(process.argv[1], systemRandom); console.log('locked'); setInterval(() => {}, 1000); } catch (error) { console.log(error.name); process.exit(1); }`;

test('another process keeps the lock while it lives and loses it when it is killed', async (t) => {
  const folder = folderFor(t);
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const [first] = (await once(child.stdout, 'data')) as [Buffer];
  assert.equal(first.toString().trim(), 'locked');
  assert.throws(() => lockState(folder, systemRandom), StateInUse);
  child.kill('SIGKILL');
  await once(child, 'exit');
  lockState(folder, systemRandom)();
});

test('a later process with the same pid is not taken for the owner', (t) => {
  const folder = folderFor(t);
  const owner = { pid: process.pid, started: 'boot/1', host: os.hostname(), nonce: 'x' };
  fs.writeFileSync(path.join(folder, 'lock'), JSON.stringify(owner));
  lockState(folder, systemRandom)();
});

test('INV-04: an owner on another host is never taken for dead', (t) => {
  const folder = folderFor(t);
  fs.writeFileSync(path.join(folder, 'lock'), JSON.stringify({ pid: 1, started: '', host: 'elsewhere', nonce: 'x' }));
  assert.throws(() => lockState(folder, systemRandom), StateInUse);
});

test('of several that start at once over a dead owner’s lock, one gets it', (t) => {
  const folder = folderFor(t);
  const dead = spawnSync(process.execPath, ['-e', '']).pid;
  fs.writeFileSync(
    path.join(folder, 'lock'),
    JSON.stringify({ pid: dead, started: '', host: os.hostname(), nonce: 'x' }),
  );
  const taken: (() => void)[] = [];
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      taken.push(lockState(folder, systemRandom));
    } catch (error) {
      assert.ok(error instanceof StateInUse);
    }
  }
  assert.equal(taken.length, 1);
});
