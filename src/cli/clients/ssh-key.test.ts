import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { generateClientKey } from '../../identity/keys.ts';
import { systemRandom } from '../../system/random.ts';
import { openSshPrivateKey, publicBlob } from './ssh-key.ts';

test('OpenSSH reads the private key of a grant, and it is that key', (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-ssh-key-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  for (const comment of ['', 'a', 'web1-7fk2p', 'orders-db-1234567']) {
    const key = generateClientKey();
    const file = path.join(folder, 'identity');
    fs.writeFileSync(file, openSshPrivateKey(key, comment, systemRandom), { mode: 0o600 });
    const told = execFileSync('ssh-keygen', ['-y', '-f', file]).toString().trim();
    assert.equal(told, `ssh-ed25519 ${publicBlob(key).toString('base64')} ${comment}`.trim());
    fs.rmSync(file);
  }
});
