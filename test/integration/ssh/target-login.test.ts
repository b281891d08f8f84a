// The proxy logs in at a real sshd: by keys of every kind, by certificates of its own making; and is told why when it can not.

import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { Credential } from '../../../src/protocols/credential.ts';
import { type LoggedIn, LoginError, logIn, type UpstreamLogin } from '../../../src/protocols/ssh/auth/client.ts';
import { userAuthorityOf } from '../../../src/protocols/ssh/keys/derive.ts';
import { hostTrustOf } from '../../../src/protocols/ssh/keys/host-trust.ts';
import { publicKeyLine } from '../../../src/protocols/ssh/keys/known-hosts.ts';
import { signerOf } from '../../../src/protocols/ssh/keys/signer.ts';
import { openTransport } from '../../../src/protocols/ssh/transport/open-transport.ts';
import type { Transport } from '../../../src/protocols/ssh/transport/transport.ts';
import { readData, writeData } from '../../../src/protocols/ssh/wire/data.ts';
import { MSG } from '../../../src/protocols/ssh/wire/message-numbers.ts';
import { upstreamLogin } from '../../support/ssh-auth.ts';
import { missing, tools } from '../../support/tools.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-ssh-target-'));
const at = (name: string): string => path.join(folder, name);
const text = (name: string): string => fs.readFileSync(at(name), 'utf8');
const keygen = (...args: string[]): void => void execFileSync('ssh-keygen', ['-q', ...args], { stdio: 'pipe' });
const user = os.userInfo().username;
const keys = { seed: randomBytes(32), certificates: () => [] };

let sshd: ChildProcess;
let port = 0;
const KINDS = [
  ['ed25519', '256'],
  ['rsa', '2048'],
  ['rsa', '4096'],
  ['ecdsa', '256'],
  ['ecdsa', '384'],
  ['ecdsa', '521'],
] as const;

before(async () => {
  fs.chmodSync(folder, 0o755);
  keygen('-t', 'ed25519', '-N', '', '-f', at('host'));
  keygen('-t', 'rsa', '-b', '2048', '-N', '', '-f', at('host-rsa'));
  keygen('-t', 'ecdsa', '-N', '', '-f', at('host-ecdsa'));
  keygen('-t', 'ed25519', '-N', '', '-f', at('host-ca'));
  keygen('-s', at('host-ca'), '-I', 'target', '-h', '-n', 'target.corp.example', at('host.pub'));
  keygen('-s', at('host-ca'), '-I', 'target', '-h', '-n', 'target.corp.example', at('host-rsa.pub'));
  keygen('-t', 'ed25519', '-N', '', '-f', at('stranger'));
  for (const [type, bits] of KINDS) keygen('-t', type, '-b', bits, '-N', '', '-f', at(`${type}-${bits}`));
  fs.writeFileSync(at('authorized_keys'), KINDS.map(([type, bits]) => text(`${type}-${bits}.pub`)).join(''));
  fs.writeFileSync(at('authorities'), `${publicKeyLine(userAuthorityOf(keys).blob)}\n`);
  port = await freePort();
  fs.writeFileSync(
    at('sshd_config'),
    [
      `Port ${port}`,
      'ListenAddress 127.0.0.1',
      ...['host', 'host-rsa', 'host-ecdsa'].map((name) => `HostKey ${at(name)}`),
      ...['host', 'host-rsa'].map((name) => `HostCertificate ${at(`${name}-cert.pub`)}`),
      `AuthorizedKeysFile ${at('authorized_keys')}`,
      `TrustedUserCAKeys ${at('authorities')}`,
      `PidFile ${at('pid')}`,
      'StrictModes no',
      'UsePAM no',
      'PasswordAuthentication yes',
      'PermitRootLogin yes',
      'LogLevel VERBOSE',
      'Banner /etc/passwd',
      '',
    ].join('\n'),
  );
  if (process.getuid?.() === 0) fs.mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  sshd = spawn('/usr/sbin/sshd', ['-D', '-f', at('sshd_config'), '-E', at('log')], { stdio: 'inherit' });
  for (let tries = 0; tries < 200; tries += 1) {
    if (await canConnect()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('sshd did not start');
});
after(() => {
  sshd?.kill();
  fs.rmSync(folder, { recursive: true, force: true });
});

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port: free } = server.address() as net.AddressInfo;
      server.close(() => resolve(free));
    });
  });
}

function canConnect(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

interface Trust {
  hostKeys?: string[];
  hostAuthorities?: string[];
  hostPrincipal?: string;
}

async function open(trust: Trust = { hostKeys: [text('host.pub').trim()] }, to = port): Promise<Transport> {
  const socket = net.connect(to, '127.0.0.1');
  await new Promise((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  const hosts = hostTrustOf({ host: '127.0.0.1', ...trust });
  return await openTransport(socket, {
    role: 'Client',
    software: 'Sallyport',
    signal: new AbortController().signal,
    handshakeMs: 10_000,
    hostKeyAlgorithms: hosts.algorithms,
    verifyHostKey: (blob) => hosts.fault(blob, Date.now()),
  });
}

const login = (credential: Credential, more: Partial<UpstreamLogin> = {}): UpstreamLogin =>
  upstreamLogin(credential, {
    user,
    keys,
    session: {
      id: 's-1',
      grant: 'bastion-7fk2p',
      person: 'ana@corp.example',
      grantExpiresAtMs: Date.now() + 3_600_000,
    },
    deadlineMs: 10_000,
    ...more,
  });

/** Runs a command the plainest way there is, and answers what it printed. */
function exec(transport: Transport, { handOver }: LoggedIn, command: string): Promise<string> {
  return new Promise((resolve) => {
    let output = '';
    handOver({
      onMessage(payload) {
        const reader = readData(payload, 1);
        if (payload[0] === MSG.CHANNEL_OPEN_CONFIRMATION) {
          const request = [{ uint32: 0 }, { string: 'exec' }, { boolean: true }, { string: command }];
          transport.send(writeData({ byte: MSG.CHANNEL_REQUEST }, ...request));
        } else if (payload[0] === MSG.CHANNEL_DATA) {
          reader.uint32();
          output += reader.string().toString();
        } else if (payload[0] === MSG.CHANNEL_CLOSE) {
          transport.disconnect(11, 'done');
          resolve(output);
        }
      },
      onClose: () => resolve(`${output} (closed)`),
    });
    const channel = [{ string: 'session' }, { uint32: 0 }, { uint32: 1024 * 1024 }, { uint32: 32 * 1024 }];
    transport.send(writeData({ byte: MSG.CHANNEL_OPEN }, ...channel));
  });
}

const keyOf = (name: string): Credential => ({ kind: 'Key', username: user, privateKey: text(name), hosts: [] });

for (const [type, bits] of KINDS)
  test(`a ${type} key of ${bits} bits, as ssh-keygen writes it`, async () => {
    const transport = await open();
    const done = await logIn(transport, login(keyOf(`${type}-${bits}`)));
    assert.equal(await exec(transport, done, 'echo in'), 'in\n');
  });

for (const [form, args] of [
  ['PKCS8', ['-m', 'PKCS8']],
  ['PEM', ['-m', 'PEM']],
] as const)
  for (const type of ['rsa-2048', 'ecdsa-256', 'ecdsa-384', 'ecdsa-521'])
    test(`${type} as ${form}`, async () => {
      fs.copyFileSync(at(type), at('converted'));
      fs.chmodSync(at('converted'), 0o600);
      keygen('-p', '-N', '', ...args, '-f', at('converted'));
      assert.match(text('converted'), form === 'PKCS8' ? /BEGIN PRIVATE KEY/ : /BEGIN (RSA|EC) PRIVATE KEY/);
      const transport = await open();
      const done = await logIn(transport, login(keyOf('converted')));
      assert.equal(await exec(transport, done, 'echo in'), 'in\n');
    });

test('an Ed25519 key as PKCS#8', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const signer = signerOf(privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
  assert.deepEqual(signer.blob.subarray(-32).toString('base64url'), publicKey.export({ format: 'jwk' }).x);
});

test('a certificate that was minted for this login: the target’s log names session, grant and person', async () => {
  const transport = await open();
  const done = await logIn(transport, login({ kind: 'Authority', users: [user] }, { permits: { pty: true } }));
  assert.equal(await exec(transport, done, 'echo in'), 'in\n');
  assert.match(text('log'), /Accepted publickey.*ID sallyport session=s-1 grant=bastion-7fk2p user=ana@corp\.example/);
  assert.doesNotMatch(text('log').split('Accepted publickey').at(-1) ?? '', /Agent forwarding enabled/);
});

test('an authority the target does not believe, and a user that is not the account’s', async () => {
  const foreign = { seed: randomBytes(32), certificates: () => [] };
  await assert.rejects(logIn(await open(), login({ kind: 'Authority', users: [user] }, { keys: foreign })), (error) => {
    assert.ok(error instanceof LoginError);
    assert.equal(error.code, 'Refused');
    assert.match(error.hint ?? '', /TrustedUserCAKeys/);
    return true;
  });
  const other = logIn(await open(), login({ kind: 'Authority', users: ['somebody'] }));
  await assert.rejects(other, (error) => error instanceof LoginError && error.code === 'BadCredential');
});

test('INV-05: a refused key and a refused password are told without either', async () => {
  const stranger = logIn(await open(), login(keyOf('stranger')));
  const seen: LoginError[] = [];
  const keep = (error: unknown): boolean => {
    assert.ok(error instanceof LoginError);
    seen.push(error);
    return true;
  };
  await assert.rejects(stranger, keep);
  const password = 'correct horse battery staple';
  await assert.rejects(logIn(await open(), login({ kind: 'Password', username: user, password, hosts: [] })), keep);
  const spoilt = text('ed25519-256').replace(/^(.{100})/s, (all) => all.toUpperCase().replace('A', 'B'));
  const broken: Credential = { kind: 'Key', username: user, privateKey: spoilt, hosts: [] };
  await assert.rejects(logIn(await open(), login(broken)), keep);
  assert.deepEqual(
    seen.map(({ code }) => code),
    ['Refused', 'Refused', 'BadCredential'],
  );
  const told = seen.map((error) => `${error.message} ${error.hint} ${error.stack} ${String(error.cause)}`).join('\n');
  assert.ok(!told.includes(password));
  for (const line of text('ed25519-256').split('\n').slice(1, -2)) assert.ok(!told.includes(line));
  assert.equal((text('log').match(/Failed password/g) ?? []).length, 1, 'the password went out once');
});

test('a host certificate by the listed authority, under the listed name, of each kind', async () => {
  const trust = { hostAuthorities: [text('host-ca.pub').trim()], hostPrincipal: 'target.corp.example' };
  const transport = await open(trust);
  assert.match(transport.algorithms.hostKey, /-cert-v01@openssh\.com$/);
  const done = await logIn(transport, login(keyOf('ed25519-256')));
  assert.equal(await exec(transport, done, 'echo in'), 'in\n');
  await assert.rejects(open({ ...trust, hostPrincipal: 'other.corp.example' }), /does not name/);
  await assert.rejects(open({ ...trust, hostAuthorities: [text('stranger.pub').trim()] }), /authority/);
});

for (const name of ['host', 'host-rsa', 'host-ecdsa'])
  test(`a pinned key of the target’s: ${name}`, async () => {
    const transport = await open({ hostKeys: [text(`${name}.pub`).trim()] });
    const done = await logIn(transport, login(keyOf('ed25519-256')));
    assert.equal(await exec(transport, done, 'echo in'), 'in\n');
  });

test('a target that shows another key than the pinned one gets no credential', async () => {
  await assert.rejects(open({ hostKeys: [text('stranger.pub').trim()] }), /not listed: ssh-ed25519 SHA256:/);
});

test('a session that ends during the login leaves no login unfinished', async () => {
  const abort = new AbortController();
  const transport = await open();
  const pending = logIn(transport, login(keyOf('ed25519-256'), { signal: abort.signal }));
  abort.abort();
  const before = (text('log').match(/Accepted publickey/g) ?? []).length;
  await assert.rejects(pending, (error) => error instanceof LoginError && error.code === 'Aborted');
  const deadline = Date.now() + 5_000;
  const accepted = (): number => (text('log').match(/Accepted publickey/g) ?? []).length;
  while (accepted() === before && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(accepted(), before + 1);
});

// Another target than OpenSSH's, as sshd asks passwords interactively only through PAM.
const ASYNCSSH = `
import asyncio, asyncssh, sys
mode = sys.argv[1]
asked = 0
class Server(asyncssh.SSHServer):
    def begin_auth(self, user): return True
    def password_auth_supported(self): return mode == 'password'
    def validate_password(self, user, password):
        print('password', flush=True)
        return user == 'deploy' and password == 'correct horse'
    def kbdint_auth_supported(self): return mode != 'password'
    def get_kbdint_challenge(self, user, lang, submethods):
        return ('', 'Welcome', 'en', [('Password: ', mode == 'echo')])
    def validate_kbdint_response(self, user, responses):
        global asked
        print('answer', len(responses), flush=True)
        asked += 1
        if mode == 'twice' and asked == 1: return ('', '', '', [('Token: ', False)])
        return responses == ['correct horse']
async def main():
    server = await asyncssh.listen('127.0.0.1', 0, server_factory=Server, server_host_keys=[sys.argv[2]],
                                   process_factory=lambda process: (process.stdout.write('in\\n'), process.exit(0)))
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.wait_closed()
asyncio.run(main())`;

for (const [mode, password, expected, seen] of [
  ['password', 'correct horse', 'in', ['password']],
  ['password', 'wrong horse', 'Refused', ['password']],
  ['prompt', 'correct horse', 'in', ['answer 1']],
  ['prompt', 'wrong horse', 'Refused', ['answer 1']],
  ['echo', 'correct horse', 'MoreWanted', []],
  ['twice', 'correct horse', 'MoreWanted', ['answer 1']],
] as const)
  test(`INV-05: a password to another kind of server, once: ${mode}, ${password}`, {
    skip: missing('sshPython'),
  }, async () => {
    const server = spawn(tools.sshPython!, ['-c', ASYNCSSH, mode, at('host')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      let output = '';
      const listening = await new Promise<number>((resolve) => {
        server.stdout.on('data', (chunk: Buffer) => {
          output += chunk.toString();
          if (output.includes('\n')) resolve(Number(output.split('\n')[0]));
        });
      });
      const transport = await open({ hostKeys: [text('host.pub').trim()] }, listening);
      const credential: Credential = { kind: 'Password', username: 'deploy', password, hosts: [] };
      let outcome = 'in';
      try {
        const done = await logIn(transport, login(credential, { user: 'deploy' }));
        assert.equal(await exec(transport, done, 'anything'), 'in\n');
      } catch (error) {
        assert.ok(error instanceof LoginError, String(error));
        outcome = error.code;
      }
      assert.equal(outcome, expected);
      const all = new Promise((resolve) => server.stdout.once('close', resolve));
      server.kill();
      await all;
      assert.deepEqual(output.trim().split('\n').slice(1), seen);
    } finally {
      server.kill();
    }
  });
