import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { systemRandom } from '../../system/random.ts';
import { hostKeysOf } from './keys/derive.ts';
import { sshOwnKeys } from './own-keys.ts';

const seeds = { connection: Buffer.alloc(32, 1), installation: Buffer.alloc(32, 2) };
const names = [{ host: 'web1.payments.sallyport' }, { host: 'localhost', port: 4022 }];

test('the status names the authority, the keys and every name; it is the same each time and holds no seed', () => {
  const { ssh } = sshOwnKeys.publish(seeds, names);
  assert.deepEqual(sshOwnKeys.publish(seeds, names), { ssh });
  assert.match(ssh?.userAuthority ?? '', /^ssh-ed25519 \S+ web1\.payments\.sallyport$/);
  assert.equal(ssh?.knownHosts?.length, 3);
  const [authority, ...plain] = ssh?.knownHosts ?? [];
  assert.match(authority!, /^@cert-authority web1\.payments\.sallyport,\[localhost\]:4022 ssh-ed25519 /);
  for (const line of plain)
    assert.match(line, /^web1\.payments\.sallyport,\[localhost\]:4022 (ssh-ed25519|ecdsa-sha2-nistp256) /);
  const other = sshOwnKeys.publish({ ...seeds, connection: Buffer.alloc(32, 3) }, names).ssh;
  assert.notEqual(other?.userAuthority, ssh?.userAuthority);
  assert.equal(other?.knownHosts?.[0], authority, 'the installation has one host authority');
  for (const form of ['hex', 'base64', 'base64url'] as const) {
    for (const seed of Object.values(seeds)) assert.ok(!JSON.stringify(ssh).includes(seed.toString(form)));
  }
});

test('host certificates are what OpenSSH reads: for the keys, the names without ports, the time', (t) => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  const lines = sshOwnKeys.certify(seeds, names, {
    validAfterMs: now,
    validBeforeMs: now + 86_400_000,
    random: systemRandom,
  });
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-keys-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  for (const line of lines) {
    const file = path.join(folder, 'key-cert.pub');
    fs.writeFileSync(file, `${line}\n`);
    const told = execFileSync('ssh-keygen', ['-L', '-f', file], { env: { ...process.env, TZ: 'UTC' } }).toString();
    assert.match(told, /host certificate/);
    assert.match(told, /Key ID: "web1\.payments\.sallyport"/);
    assert.match(told, /Valid: from 2026-01-01T00:00:00 to 2026-01-02T00:00:00/);
    assert.match(told, /Principals: \s+web1\.payments\.sallyport\s+localhost\s+Critical Options: \(none\)/);
  }
  const shown = hostKeysOf({ seed: seeds.connection, certificates: () => lines });
  assert.deepEqual(
    shown.map(({ algorithms }) => algorithms[0]),
    [
      'ssh-ed25519-cert-v01@openssh.com',
      'ecdsa-sha2-nistp256-cert-v01@openssh.com',
      'ssh-ed25519',
      'ecdsa-sha2-nistp256',
    ],
  );
});
