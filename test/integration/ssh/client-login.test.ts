// Real OpenSSH clients log in at the gateway's side: keys, an agent, certificates, a ticket at a prompt.

import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { Proof } from '../../../src/protocols/protocol.ts';
import { mintHostCertificate } from '../../../src/protocols/ssh/keys/certificate.ts';
import { hostKeysOf } from '../../../src/protocols/ssh/keys/derive.ts';
import {
  certAuthorityLine,
  knownHostsLine,
  publicKeyLine,
  readPublicKeyLine,
} from '../../../src/protocols/ssh/keys/known-hosts.ts';
import { ed25519Signer } from '../../../src/protocols/ssh/keys/signer.ts';
import { systemRandom } from '../../../src/system/random.ts';
import { type AuthGateway, authGateway } from '../../support/ssh-auth.ts';
import { type SshLoginServer, startSshLoginServer } from '../../support/ssh-login-server.ts';
import { missing, tools } from '../../support/tools.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-ssh-login-'));
const at = (name: string): string => path.join(folder, name);
const keygen = (...args: string[]): void => void execFileSync('ssh-keygen', ['-q', ...args], { stdio: 'pipe' });
const blobOf = (name: string): Buffer => readPublicKeyLine(fs.readFileSync(at(name), 'utf8')).blob;
const rawOf = (name: string): string => blobOf(name).subarray(-32).toString('base64url');

const seed = randomBytes(32);
const hostAuthority = ed25519Signer(randomBytes(32));
let hostCertificates: string[] = [];
const hostKeys = hostKeysOf({ seed, certificates: () => [] });
let gateway: AuthGateway;
let server: SshLoginServer;
let granted: (proof: Proof) => boolean = () => false;
let recognised: (raw: string) => boolean = () => true;
let refusal: { message: string; hint?: string } | undefined;

before(async () => {
  keygen('-t', 'ed25519', '-N', '', '-f', at('grant'));
  keygen('-t', 'ed25519', '-N', '', '-f', at('other'));
  keygen('-t', 'ed25519', '-N', '', '-f', at('ca'));
  keygen('-t', 'rsa', '-b', '2048', '-N', '', '-f', at('ca-rsa'));
  keygen('-t', 'ecdsa', '-b', '384', '-N', '', '-f', at('ca-ecdsa'));
  for (const [type, bits] of [
    ['ed25519', '256'],
    ['rsa', '3072'],
    ['ecdsa', '256'],
    ['ecdsa', '384'],
    ['ecdsa', '521'],
  ] as const)
    keygen('-t', type, '-b', bits, '-N', '', '-f', at(`user-${type}-${bits}`));
  gateway = authGateway({
    grants: (proof) =>
      granted(proof)
        ? 'Granted'
        : refusal === undefined
          ? undefined
          : { kind: 'Refused', code: 'NotActive', ...refusal },
    recognises: (offer) => offer.kind === 'Certificate' || recognised(offer.publicKey),
    address: '127.0.0.1',
    limits: { handshakeMs: 20_000 },
  });
  const own = { seed, certificates: () => hostCertificates };
  server = await startSshLoginServer(hostKeysOf(own), gateway.context);
  fs.writeFileSync(
    at('known_hosts'),
    `${hostKeys.map((key) => knownHostsLine([{ host: '127.0.0.1', port: server.port }], key.blob)).join('\n')}\n`,
  );
});
after(async () => {
  await server?.close();
  fs.rmSync(folder, { recursive: true, force: true });
});

interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

function ssh(args: readonly string[], env: NodeJS.ProcessEnv = {}, port = server.port): Promise<Ran> {
  // The first of a kind wins.
  const all = [
    ...args,
    '-F',
    '/dev/null',
    '-p',
    String(port),
    '-o',
    'StrictHostKeyChecking=yes',
    '-o',
    `UserKnownHostsFile=${at('known_hosts')}`,
    '-o',
    'GlobalKnownHostsFile=/dev/null',
    'deploy@127.0.0.1',
    'true',
  ];
  return new Promise((resolve) => {
    execFile(
      'ssh',
      all,
      { env: { PATH: process.env.PATH, HOME: folder, ...env }, timeout: 30_000 },
      (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr });
      },
    );
  });
}
const batch = ['-o', 'BatchMode=yes', '-o', 'IdentitiesOnly=yes'];

test('the key of a grant opens the door, bound to our host key, and is proven once', async () => {
  granted = (proof) => proof.kind === 'Key' && proof.publicKey === rawOf('grant.pub');
  gateway.proofs.length = 0;
  const ran = await ssh([...batch, '-v', '-i', at('grant')]);
  assert.equal(ran.code, 0, ran.stderr);
  assert.equal(ran.stdout, 'in as deploy\n');
  assert.equal(gateway.proofs.length, 1);
  assert.match(ran.stderr, /publickey-hostbound@openssh\.com/);
});

test('a key that opens nothing is never signed with; the one behind it opens', async () => {
  granted = (proof) => proof.kind === 'Key' && proof.publicKey === rawOf('grant.pub');
  recognised = (raw) => raw === rawOf('grant.pub');
  gateway.proofs.length = 0;
  const ran = await ssh([...batch, '-i', at('other'), '-i', at('user-rsa-3072'), '-i', at('grant')]);
  assert.equal(ran.code, 0, ran.stderr);
  assert.equal(gateway.proofs.length, 1);
  const refused = await ssh([...batch, '-i', at('other')]);
  assert.equal(refused.code, 255);
  assert.match(refused.stderr, /Permission denied \(publickey,keyboard-interactive\)/);
  assert.equal(gateway.proofs.length, 1);
  recognised = () => true;
});

test('an agent holds the key', async () => {
  granted = (proof) => proof.kind === 'Key' && proof.publicKey === rawOf('grant.pub');
  const socket = at('agent');
  const agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' });
  try {
    for (let tries = 0; !fs.existsSync(socket) && tries < 100; tries += 1)
      await new Promise((resolve) => setTimeout(resolve, 50));
    execFileSync('ssh-add', ['-q', at('other'), at('user-ecdsa-256'), at('grant')], {
      env: { ...process.env, SSH_AUTH_SOCK: socket },
      stdio: 'pipe',
    });
    const ran = await ssh(['-o', 'BatchMode=yes'], { SSH_AUTH_SOCK: socket });
    assert.equal(ran.code, 0, ran.stderr);
  } finally {
    agent.kill();
  }
});

for (const authority of ['ca', 'ca-rsa', 'ca-ecdsa'])
  for (const key of ['ed25519-256', 'rsa-3072', 'ecdsa-256', 'ecdsa-384', 'ecdsa-521'])
    test(`a certificate for ${key} by ${authority} opens the door, and takes away what it does not permit`, async () => {
      const name = `user-${key}`;
      keygen(
        '-s',
        at(authority),
        '-I',
        'ana',
        '-n',
        'ana@corp.example',
        '-V',
        '-1m:+5m',
        '-z',
        '42',
        '-O',
        'clear',
        '-O',
        'permit-pty',
        '-O',
        'source-address=127.0.0.0/8,10.0.0.0/8',
        at(`${name}.pub`),
      );
      const expected = blobOf(`${authority}.pub`).toString('base64');
      granted = (proof) => proof.kind === 'Certificate' && proof.certificate.authority === expected;
      const ran = await ssh([...batch, '-i', at(name)]);
      assert.equal(ran.code, 0, ran.stderr);
      const proof = gateway.proofs.at(-1);
      assert.equal(proof?.kind, 'Certificate');
      if (proof?.kind !== 'Certificate') return;
      assert.deepEqual(proof.certificate.principals, ['ana@corp.example']);
      assert.equal(proof.certificate.serial, 42n);
      assert.equal(proof.certificate.keyId, 'ana');
      const login = server.logins.at(-1);
      assert.equal(login?.kind, 'Granted');
      if (login?.kind !== 'Granted') return;
      const rights = { pty: true, portForwarding: false, agentForwarding: false, x11Forwarding: false };
      assert.deepEqual(login.rights, rights);
      fs.rmSync(at(`${name}-cert.pub`));
    });

test('a certificate that has expired, or is for another address, is not even asked for a signature', async () => {
  granted = () => true;
  gateway.proofs.length = 0;
  // The plain key beside it is an RSA key, which opens nothing by itself.
  for (const options of [
    ['-V', '-10m:-5m'],
    ['-V', '+5m:+10m'],
    ['-O', 'source-address=10.0.0.0/8'],
    ['-O', 'force-command=/bin/true'],
    ['-O', 'critical:verify-me@corp.example'],
    ['-h', '-n', 'ana@corp.example'],
  ]) {
    keygen('-s', at('ca'), '-I', 'ana', '-n', 'ana@corp.example', ...options, at('user-rsa-3072.pub'));
    const ran = await ssh([...batch, '-i', at('user-rsa-3072')]);
    assert.equal(ran.code, 255, options.join(' '));
    fs.rmSync(at('user-rsa-3072-cert.pub'));
  }
  assert.deepEqual(gateway.proofs, []);
});

test('a ticket is taken at a prompt, once; the prompt hides it', async () => {
  granted = (proof) => proof.kind === 'Password' && proof.secret === 'the-ticket' && proof.once === true;
  fs.writeFileSync(at('askpass'), '#!/bin/sh\necho "$1" >> "$HOME/asked"\necho the-ticket\n', { mode: 0o700 });
  const ran = await ssh(['-o', 'PubkeyAuthentication=no'], {
    SSH_ASKPASS: at('askpass'),
    SSH_ASKPASS_REQUIRE: 'force',
    DISPLAY: ':0',
  });
  assert.equal(ran.code, 0, ran.stderr);
  assert.match(fs.readFileSync(at('asked'), 'utf8'), /Ticket: /);
});

test('what a grant lacks is told by a banner, once the key was proven', async () => {
  granted = () => false;
  refusal = { message: 'Sallyport: grant bastion-7fk2p waits for approval', hint: 'kubectl access pending' };
  const ran = await ssh([...batch, '-i', at('grant')]);
  refusal = undefined;
  assert.equal(ran.code, 255);
  assert.match(ran.stderr, /grant bastion-7fk2p waits for approval\r?\nkubectl access pending/);
});

test('host certificates are shown where there are some, and believed by one line', async () => {
  granted = (proof) => proof.kind === 'Key';
  hostCertificates = hostKeys.map(({ blob }) =>
    publicKeyLine(
      mintHostCertificate({
        authority: hostAuthority,
        key: blob,
        keyId: 'bastion',
        principals: ['bastion.corp.example'],
        validAfterMs: Date.now() - 60_000,
        validBeforeMs: Date.now() + 60_000,
        random: systemRandom,
      }),
    ),
  );
  const certifiedServer = await startSshLoginServer(
    hostKeysOf({ seed, certificates: () => hostCertificates }),
    gateway.context,
  );
  try {
    fs.writeFileSync(
      at('authorities'),
      `${certAuthorityLine([{ host: 'bastion.corp.example' }], hostAuthority.blob)}\n`,
    );
    const args = [...batch, '-i', at('grant'), '-o', `UserKnownHostsFile=${at('authorities')}`];
    for (const algorithm of ['ssh-ed25519-cert-v01@openssh.com', 'ecdsa-sha2-nistp256-cert-v01@openssh.com']) {
      const only = ['-o', `HostKeyAlgorithms=${algorithm}`, '-o', 'HostKeyAlias=bastion.corp.example'];
      const ran = await ssh([...args, ...only], {}, certifiedServer.port);
      assert.equal(ran.code, 0, ran.stderr);
    }
  } finally {
    hostCertificates = [];
    await certifiedServer.close();
  }
});

const PYTHON: Record<string, string> = {
  // Signs without asking first, and asks for the service before each attempt.
  'paramiko: a key': `
import paramiko, sys
t = paramiko.Transport(('127.0.0.1', int(sys.argv[1])))
t.start_client()
try:
    t.auth_publickey('deploy', paramiko.Ed25519Key.from_private_key_file(sys.argv[3]))
    sys.exit('the other key got in')
except paramiko.AuthenticationException:
    pass
t.auth_publickey('deploy', paramiko.Ed25519Key.from_private_key_file(sys.argv[2]))
c = t.open_session(); c.exec_command('true'); print(c.recv(100).decode().strip(), c.recv_exit_status()); t.close()`,
  'paramiko: a ticket': `
import paramiko, sys
t = paramiko.Transport(('127.0.0.1', int(sys.argv[1])))
t.start_client()
t.auth_interactive('deploy', lambda title, instructions, prompts: ['the-ticket'])
c = t.open_session(); c.exec_command('true'); print(c.recv(100).decode().strip(), c.recv_exit_status()); t.close()`,
  'asyncssh: a key, after one that opens nothing': `
import asyncio, asyncssh, sys
async def main():
    async with asyncssh.connect('127.0.0.1', port=int(sys.argv[1]), username='deploy', known_hosts=None, config=[],
                                agent_path=None, client_keys=[sys.argv[3], sys.argv[2]]) as c:
        r = await c.run('true'); print(r.stdout.strip(), r.exit_status)
asyncio.run(main())`,
  'asyncssh: a ticket': `
import asyncio, asyncssh, sys
class Client(asyncssh.SSHClient):
    def kbdint_auth_requested(self): return ''
    def kbdint_challenge_received(self, name, instructions, lang, prompts):
        assert [echo for _, echo in prompts] == [False]
        return ['the-ticket']
async def main():
    async with asyncssh.connect('127.0.0.1', port=int(sys.argv[1]), username='deploy', known_hosts=None, config=[],
                                agent_path=None, client_keys=None, client_factory=Client) as c:
        r = await c.run('true'); print(r.stdout.strip(), r.exit_status)
asyncio.run(main())`,
};
for (const [name, script] of Object.entries(PYTHON))
  test(name, { skip: missing('sshPython') }, async () => {
    granted = (proof) =>
      proof.kind === 'Key'
        ? proof.publicKey === rawOf('grant.pub')
        : proof.kind === 'Password' && proof.secret === 'the-ticket';
    const ran = await new Promise<Ran>((resolve) => {
      execFile(
        tools.sshPython!,
        ['-c', script, String(server.port), at('grant'), at('other')],
        { timeout: 30_000 },
        (error, stdout, stderr) => resolve({ code: error === null ? 0 : 1, stdout, stderr }),
      );
    });
    assert.equal(ran.stdout, 'in as deploy 0\n', ran.stderr);
  });
