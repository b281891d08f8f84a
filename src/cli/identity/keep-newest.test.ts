import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { keepNewest } from './keep-newest.ts';
import { workloadToken } from './workload-token.ts';

const until = async (holds: () => boolean): Promise<void> => {
  for (let left = 1000; !holds(); left -= 1) {
    assert.ok(left > 0, 'it did not come to that');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

test('a token that is renewed on disk reaches the client’s password file, as a pod’s volume renews it', async () => {
  // A projected volume: the file is a link into a folder that is replaced whole.
  const volume = fs.mkdtempSync(path.join(os.tmpdir(), 'token-'));
  const give = (name: string, token: string): void => {
    fs.mkdirSync(path.join(volume, name));
    fs.writeFileSync(path.join(volume, name, 'token'), `${token}\n`);
    fs.symlinkSync(name, path.join(volume, '..fresh'));
    fs.renameSync(path.join(volume, '..fresh'), path.join(volume, '..data'));
  };
  give('..one', 'a.b.one');
  fs.symlinkSync('..data/token', path.join(volume, 'token'));
  const tokens = workloadToken({ tokenFile: path.join(volume, 'token') }, { env: {} }, () => 0);
  const written: string[] = [];
  let said = '';
  const over = new AbortController();
  const first = await tokens.token();
  const keeping = keepNewest({
    file: { replace: (token) => void written.push(token) },
    tokens,
    first,
    io: { err: (text) => void (said += text) },
    signal: over.signal,
    lookMs: 2,
  });
  give('..two', 'a.b.two');
  await until(() => written.length === 1);
  // What is no token never replaces one, and is said once.
  give('..three', 'nothing');
  await until(() => said !== '');
  await new Promise((resolve) => setTimeout(resolve, 30));
  give('..four', 'a.b.four');
  await until(() => written.length === 2);
  over.abort();
  await keeping;
  assert.deepEqual(written, ['a.b.two', 'a.b.four']);
  assert.match(said, /^[^\n]* holds no token \(JWT\); new connections use the token of before\.\n$/);
  assert.ok(!said.includes('nothing'), 'nothing of the file is printed');
});
