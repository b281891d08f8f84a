import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { generateClientKey, KeyFileError, loadClientKey, saveClientKey } from './keys.ts';

function folder(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-keys-'));
}

test('a key is kept for its owner alone and comes back the same', () => {
  const home = folder();
  const file = path.join(home, 'grants', 'g.pem');
  const key = generateClientKey();
  saveClientKey(file, key);
  assert.match(key.publicKey, /^[A-Za-z0-9_-]{43}$/);
  assert.equal(fs.statSync(file).mode & 0o777, 0o600);
  assert.equal(fs.statSync(path.dirname(file)).mode & 0o777, 0o700);
  assert.match(fs.readFileSync(file, 'utf8'), /^-----BEGIN PRIVATE KEY-----/);
  assert.equal(loadClientKey(file).publicKey, key.publicKey);
  fs.rmSync(home, { recursive: true });
});

test('a key that others can read, a link, or something else is refused without telling what is in it', () => {
  const home = folder();
  const file = path.join(home, 'g.pem');
  saveClientKey(file, generateClientKey());
  fs.chmodSync(file, 0o640);
  const code = (expected: KeyFileError['code']) => (error: unknown) =>
    error instanceof KeyFileError && error.code === expected && !error.message.includes('PRIVATE');
  assert.throws(() => loadClientKey(file), code('TooOpen'));
  fs.chmodSync(file, 0o600);
  fs.symlinkSync(file, path.join(home, 'link.pem'));
  assert.throws(() => loadClientKey(path.join(home, 'link.pem')), code('Missing'));
  assert.throws(() => loadClientKey(path.join(home, 'none.pem')), code('Missing'));
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  fs.writeFileSync(file, privateKey.export({ type: 'pkcs8', format: 'pem' }));
  assert.throws(() => loadClientKey(file), code('NotAKey'));
  fs.writeFileSync(file, 'hunter2');
  assert.throws(
    () => loadClientKey(file),
    (error) => code('NotAKey')(error) && !(error as Error).message.includes('hunter2'),
  );
  fs.rmSync(home, { recursive: true });
});
