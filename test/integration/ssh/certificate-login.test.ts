// A person's certificate from their identity provider's authority, all the way: made by ssh-keygen, shown by ssh, judged by a
// real gateway, and a real sshd behind it that sees our certificate, never theirs.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { EVERY_CONNECTION } from '../../../src/policy/bundle.ts';
import { plainHostKeysOf, userAuthorityOf } from '../../../src/protocols/ssh/keys/derive.ts';
import { knownHostsLine, publicKeyLine } from '../../../src/protocols/ssh/keys/known-hosts.ts';
import { createSshProtocol } from '../../../src/protocols/ssh/protocol.ts';
import { CONNECTION_UID, grantFor, type Harness, rule, startHarness, until } from '../../support/gateway-harness.ts';
import { newSeed, type Sshd, startSshd } from '../../support/sshd.ts';
import { tokenIssuer } from '../../support/token-issuer.ts';

const seed = newSeed();
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-certificates-'));
const at = (name: string): string => path.join(folder, name);
const keygen = (...args: string[]): void => void execFileSync('ssh-keygen', ['-q', ...args], { stdio: 'pipe' });
let sshd: Sshd;

before(async () => {
  for (const name of ['authority', 'stranger', 'user']) keygen('-t', 'ed25519', '-N', '', '-C', '', '-f', at(name));
  sshd = await startSshd({ userAuthority: publicKeyLine(userAuthorityOf({ seed }).blob) });
});
after(async () => {
  await sshd?.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

async function start(t: TestContext): Promise<Harness> {
  const h = await startHarness(t, {
    bare: true,
    protocols: [createSshProtocol()],
    keysFor: () => ({ seed, certificates: () => [] }),
  });
  h.clock.setWall(Date.now());
  h.policy(
    { rules: [rule('all', 'Allow')] },
    {
      type: 'SSH',
      ssh: { host: '127.0.0.1', port: sshd.port, hostKeys: [sshd.hostKey] },
      accounts: [{ name: 'reader', certificate: { users: [sshd.user] } }],
    },
  );
  const ssh = {
    userAuthorities: [fs.readFileSync(at('authority.pub'), 'utf8').split(' ')[1]!.trim()],
    principals: 'Username' as const,
  };
  h.publish('identity', { providers: [tokenIssuer(h.clock).provider({ ssh })] }, { connectionUid: EVERY_CONNECTION });
  h.grants(grantFor(h.clock, { principal: { username: 'corp:ana', groups: ['payments'], aliases: [] } }));
  h.overlay();
  h.heartbeat();
  await until(() => h.gateway.endpoints().size > 0, 'it listens');
  return h;
}

interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

/** Certifies the user's key anew, then runs `ssh … echo in`. */
function ssh(
  h: Harness,
  certificate: readonly string[],
  command = 'echo in',
  authority = 'authority',
  more: Readonly<Record<string, string>> = {},
): Promise<Ran> {
  const { port } = h.gateway.endpoints().get(CONNECTION_UID)!;
  keygen('-s', at(authority), '-I', 'ana@laptop', ...certificate, at('user.pub'));
  fs.writeFileSync(
    at('known_hosts'),
    `${plainHostKeysOf({ seed })
      .map(({ blob }) => knownHostsLine([{ host: '127.0.0.1', port }], blob))
      .join('\n')}\n`,
  );
  const options = {
    UserKnownHostsFile: at('known_hosts'),
    GlobalKnownHostsFile: 'none',
    StrictHostKeyChecking: 'yes',
    IdentitiesOnly: 'yes',
    BatchMode: 'yes',
    IdentityFile: at('user'),
    CertificateFile: at('user-cert.pub'),
    ...more,
  };
  const args = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  return new Promise((resolve) => {
    execFile(
      'ssh',
      ['-F', 'none', ...args, '-p', String(port), '-l', sshd.user, '127.0.0.1', command],
      { timeout: 30_000 },
      (error, stdout, stderr) => resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr }),
    );
  });
}

const GOOD = ['-n', 'ana', '-V', '-1m:+5m'];

test('a certificate of the provider’s authority opens the grant of the person it names', async (t) => {
  const h = await start(t);
  const ran = await ssh(h, GOOD);
  assert.equal(ran.stdout, 'in\n', ran.stderr);
  assert.match(sshd.log(), /Accepted publickey for \S+ .* ID sallyport session=\S+ grant=\S+ user=corp:ana /);
  assert.doesNotMatch(sshd.log(), /ana@laptop/);
  const several = await ssh(h, ['-n', 'somebody,ana', '-V', '-1m:+5m', '-z', '77']);
  assert.equal(several.stdout, 'in\n', several.stderr);
});

test('INV-01: a certificate that is not quite that opens nothing, and the target never hears of it', async (t) => {
  const h = await start(t);
  const heard = (): number => sshd.log().match(/^Connection from/gm)?.length ?? 0;
  const before = heard();
  const attacks: [string[], string?][] = [
    [['-n', 'bob', '-V', '-1m:+5m']],
    [['-n', 'corp:ana', '-V', '-1m:+5m']],
    [['-n', '*', '-V', '-1m:+5m']],
    [['-n', 'Ana', '-V', '-1m:+5m']],
    [['-V', '-1m:+5m']],
    [['-n', 'ana', '-V', '-10m:-5m']],
    [['-n', 'ana', '-V', '+5m:+10m']],
    [[...GOOD, '-h']],
    [[...GOOD, '-O', 'force-command=id']],
    [[...GOOD, '-O', 'source-address=192.0.2.0/24']],
    [[...GOOD, '-O', 'critical:be-nice@corp.example=yes']],
    [GOOD, 'stranger'],
  ];
  for (const [certificate, authority] of attacks) {
    const ran = await ssh(h, certificate, 'echo in', authority);
    assert.equal(ran.code, 255, `${certificate.join(' ')}: ${ran.stderr}`);
    assert.equal(ran.stdout, '');
    assert.match(ran.stderr, /Permission denied|Too many/);
  }
  assert.equal(heard(), before);
});

test('a certificate that permits no terminal gets none, here and at the target; what policy allows still runs', async (t) => {
  const h = await start(t);
  const onTerminal = (certificate: string[]): Promise<Ran> =>
    ssh(h, certificate, 'tty || true', 'authority', { RequestTTY: 'force' });
  const without = await onTerminal([...GOOD, '-O', 'clear']);
  assert.match(without.stderr, /PTY allocation request failed/);
  assert.equal(without.stdout, '', 'a client that insists gives up then');
  const plain = await ssh(h, [...GOOD, '-O', 'clear'], 'tty || true');
  assert.match(plain.stdout, /not a tty/, plain.stderr);
  const permitted = await onTerminal(GOOD);
  assert.match(permitted.stdout, /\/dev\/pts/, permitted.stderr);
});

test('a certificate that is bound to an address opens from there', async (t) => {
  const h = await start(t);
  const ran = await ssh(h, [...GOOD, '-O', 'source-address=127.0.0.0/8']);
  assert.equal(ran.stdout, 'in\n', ran.stderr);
});
