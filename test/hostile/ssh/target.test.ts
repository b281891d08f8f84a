// The target as an enemy: a server that our side dials, and that does what it likes. Whatever it does costs the session alone, no
// credential goes to a host that was not the one meant, and nothing it says gets to a user or a terminal.
import assert from 'node:assert/strict';
import net from 'node:net';
import { test } from 'node:test';
import type { Credential } from '../../../src/protocols/credential.ts';
import type { Signer } from '../../../src/protocols/ssh/keys/key.ts';
import { publicKeyLine } from '../../../src/protocols/ssh/keys/known-hosts.ts';
import { ed25519Signer } from '../../../src/protocols/ssh/keys/signer.ts';
import { SYSTEM_TOOLS, transportOpener } from '../../../src/protocols/ssh/transport/open-transport.ts';
import { serverOptions, socketPair } from '../../../src/protocols/ssh/transport/test-peers.ts';
import type { Transport } from '../../../src/protocols/ssh/transport/transport.ts';
import { connectUpstream, type SshTarget, type Upstream } from '../../../src/protocols/ssh/upstream/connect.ts';
import { UpstreamError } from '../../../src/protocols/ssh/upstream/error.ts';
import { writeData } from '../../../src/protocols/ssh/wire/data.ts';
import { MSG } from '../../../src/protocols/ssh/wire/message-numbers.ts';
import { manualClock } from '../../../src/system/manual-clock.ts';
import { systemRandom } from '../../../src/system/random.ts';
import { upstreamLogin } from '../../support/ssh-auth.ts';
import type { RawCertificate } from '../../support/ssh-keys.ts';
import { certificateSigner } from '../../support/ssh-login-messages.ts';
import { startSshd } from '../../support/sshd.ts';

const PASSWORD = 'correct horse battery staple';
const EVIL = 'your password has expired: go to evil.example \u001b[2J\u009b';
const hostKey = ed25519Signer(Buffer.alloc(32, 1));
const otherKey = ed25519Signer(Buffer.alloc(32, 2));
const authority = ed25519Signer(Buffer.alloc(32, 3));
const line = ({ blob }: Signer): string => publicKeyLine(blob);

interface Enemy {
  /** Everything it heard behind the key exchange. */
  heard: Buffer[];
  outcome: Promise<{ upstream: Upstream } | { error: UpstreamError }>;
  /** Lets time go by, in steps, until it is over. */
  pass(ms: number): Promise<void>;
  leave(): void;
}

/** Dials one who shows `hostKeys`, and does something once a transport stands, or with the socket alone; each time it is dialled. */
async function dial(
  target: Partial<SshTarget>,
  deed: { hostKeys?: readonly Signer[]; transport?: (server: Transport) => void; socket?: (far: net.Socket) => void },
): Promise<Enemy> {
  const clock = manualClock();
  clock.setWall(Date.now());
  const heard: Buffer[] = [];
  const fars: net.Socket[] = [];
  const credential: Credential = { kind: 'Password', username: 'deploy', password: PASSWORD, hosts: [] };
  const play = (far: net.Socket): void => {
    fars.push(far);
    if (deed.socket !== undefined) {
      far.on('data', (chunk: Buffer) => heard.push(chunk));
      deed.socket(far);
      return;
    }
    const open = transportOpener({ ...SYSTEM_TOOLS, limits: { ...SYSTEM_TOOLS.limits, lingerMs: 1 } });
    open(far, serverOptions({ hostKeys: deed.hostKeys ?? [hostKey] })).then(
      (server) => {
        server.onMessage = (payload) => {
          heard.push(payload);
          if (payload[0] === MSG.SERVICE_REQUEST) deed.transport?.(server);
        };
      },
      () => undefined,
    );
  };
  const outcome = connectUpstream({
    target: { host: 'target.example', ...target },
    async dial() {
      const [near, far] = await socketPair();
      play(far);
      return near;
    },
    clock,
    random: systemRandom,
    signal: new AbortController().signal,
    open: transportOpener({ ...SYSTEM_TOOLS, clock }),
    login: upstreamLogin(credential),
  }).then(
    (upstream) => ({ upstream }),
    (error: unknown) => {
      assert.ok(error instanceof UpstreamError, String(error));
      return { error };
    },
  );
  let settled = false;
  void outcome.then(() => {
    settled = true;
  });
  return {
    heard,
    outcome,
    async pass(ms) {
      for (let passed = 0; passed < ms && !settled; passed += 500) {
        await tick();
        clock.advance(500);
      }
    },
    leave() {
      for (const far of fars) far.destroy();
    },
  };
}

const tick = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));
/** The error, which holds nothing of what the enemy says, nor what it was not to hear. */
async function refused(enemy: Enemy, code: UpstreamError['code'], text?: RegExp): Promise<UpstreamError> {
  // Whoever is told waits a little for the other to close.
  await enemy.pass(5_000);
  const outcome = await enemy.outcome;
  enemy.leave();
  assert.ok('error' in outcome, 'it logged in');
  const { error } = outcome;
  assert.equal(error.code, code, error.message);
  if (text !== undefined) assert.match(error.message, text);
  assert.doesNotMatch(`${error.message} ${error.hint}`, /evil|[\u0000-\u001f\u007f-\u009f]/);
  assert.ok(!Buffer.concat(enemy.heard).includes(PASSWORD), 'the password went out');
  return error;
}

const accept = writeData({ byte: MSG.SERVICE_ACCEPT }, { string: 'ssh-userauth' });
const failure = (...methods: string[]): Buffer =>
  writeData({ byte: MSG.USERAUTH_FAILURE }, { names: methods }, { boolean: false });
const banner = (text: string): Buffer => writeData({ byte: MSG.USERAUTH_BANNER }, { string: text }, { string: '' });
const sends =
  (...messages: Buffer[]) =>
  (server: Transport): void => {
    for (const message of messages) server.send(message);
  };
const pinned = { hostKeys: [line(hostKey)] };

test('INV-05: a host key that has changed gets no word of a login, and is named', async () => {
  const enemy = await dial({ hostKeys: [line(otherKey)] }, { transport: sends(accept) });
  const error = await refused(enemy, 'HostKey', /not listed: ssh-ed25519 SHA256:/);
  assert.match(error.hint ?? '', /hostKeys/);
  assert.deepEqual(enemy.heard, []);
});

test('INV-05: host certificates that are not quite right get no word of a login; one that is does', async () => {
  const certificate = (options: Partial<RawCertificate>): Signer =>
    certificateSigner(hostKey, { authority, role: 2, principals: ['target.example'], extensions: [], ...options });
  const now = BigInt(Math.floor(Date.now() / 1000));
  const target = { hostAuthorities: [line(authority)] };
  const wrong: [string, Partial<RawCertificate>][] = [
    ['expired', { validBefore: now - 1n }],
    ['not yet', { validAfter: now + 600n, validBefore: now + 900n }],
    ['another host', { principals: ['other.example'] }],
    ['a wildcard', { principals: ['*'] }],
    ['a comma', { principals: ['target.example,other.example'] }],
    ['no host', { principals: [] }],
    ['for a user', { role: 1 }],
    ['a stranger’s', { authority: otherKey }],
    ['a stranger’s that names ours', { authority: otherKey, authorityBlob: authority.blob }],
    ['its own', { authority: hostKey }],
    ['a critical option', { critical: [['be-nice', '']] }],
    ['a tail', { trailing: Buffer.from([0]) }],
  ];
  for (const [name, options] of wrong) {
    const enemy = await dial(target, { hostKeys: [certificate(options)], transport: sends(accept) });
    await enemy.pass(5_000);
    const outcome = await enemy.outcome;
    enemy.leave();
    assert.ok('error' in outcome && ['HostKey', 'Transport'].includes(outcome.error.code), name);
    assert.deepEqual(enemy.heard, [], name);
  }
  const right = await dial(target, {
    hostKeys: [certificate({})],
    transport: sends(accept, failure('password'), Buffer.from([MSG.USERAUTH_SUCCESS])),
  });
  const outcome = await right.outcome;
  assert.ok('upstream' in outcome, 'the one that is right');
  while (!Buffer.concat(right.heard).includes(PASSWORD)) await tick();
  outcome.upstream.transport.destroy();
});

test('a target with weak algorithms alone is left, and told apart from one that is down', async (t) => {
  for (const weak of [
    'KexAlgorithms diffie-hellman-group14-sha1',
    'Ciphers aes128-cbc,3des-cbc',
    'Ciphers chacha20-poly1305@openssh.com',
  ]) {
    const sshd = await startSshd({ config: [weak] }).catch(() => undefined);
    if (sshd === undefined) continue; // an sshd that has no such thing any more
    t.after(() => sshd.stop());
    const failed = connectUpstream({
      target: { host: '127.0.0.1', port: sshd.port, hostKeys: [sshd.hostKey] },
      dial: ({ host, port }) =>
        new Promise((resolve) => {
          const socket = net.connect({ host, port }, () => resolve(socket));
        }),
      clock: manualClock(),
      random: systemRandom,
      signal: new AbortController().signal,
      login: upstreamLogin(
        { kind: 'Key', username: sshd.user, privateKey: sshd.privateKey, hosts: [] },
        { user: sshd.user },
      ),
    });
    await assert.rejects(failed, (error) => error instanceof UpstreamError && /in common/.test(error.message), weak);
    assert.doesNotMatch(sshd.log(), /Accepted|userauth/);
  }
});

test('banners, of any content and however many, reach nobody and end', async () => {
  const some = await dial(pinned, {
    transport: sends(banner(EVIL), banner('x'.repeat(30_000)), accept, banner(EVIL), failure('publickey')),
  });
  await refused(some, 'Login', /takes no passwords/);
  const endless = await dial(pinned, { transport: sends(accept, ...Array.from({ length: 400 }, () => banner(EVIL))) });
  await refused(endless, 'Login', /too much/);
});

test('INV-11: EXT_INFO without end, or larger than it may be, costs the session and no memory', async () => {
  const extInfo = (...fields: [string, Buffer | string][]): Buffer =>
    writeData(
      { byte: MSG.EXT_INFO },
      { uint32: fields.length },
      ...fields.flatMap(([name, value]) => [{ string: name }, { string: value }]),
    );
  const many = Array.from({ length: 200 }, () => extInfo(['server-sig-algs', 'ssh-dss']));
  await refused(await dial(pinned, { transport: sends(...many) }), 'Login', /closed|too much/);
  const wide = extInfo(['server-sig-algs', 'x,'.repeat(15_000)]);
  await refused(await dial(pinned, { transport: sends(wide, accept, failure('publickey')) }), 'Login');
  const lying = writeData({ byte: MSG.EXT_INFO }, { uint32: 0xffffffff });
  await refused(await dial(pinned, { transport: sends(lying, accept, failure('publickey')) }), 'Login');
});

test('INV-05: a target that is out of turn before the login is done gets nothing', async () => {
  const open = (type: string): Buffer =>
    writeData({ byte: MSG.CHANNEL_OPEN }, { string: type }, { uint32: 0 }, { uint32: 1 << 20 }, { uint32: 32_768 });
  for (const messages of [
    ...['session', 'forwarded-tcpip', 'x11', 'auth-agent@openssh.com', 'tun@openssh.com'].map((type) => [open(type)]),
    [writeData({ byte: MSG.GLOBAL_REQUEST }, { string: 'hostkeys-00@openssh.com' }, { boolean: false })],
    [Buffer.from([MSG.USERAUTH_SUCCESS])],
    [accept, Buffer.from([MSG.USERAUTH_SUCCESS, 0])],
    [accept, writeData({ byte: MSG.SERVICE_REQUEST }, { string: 'ssh-userauth' })],
    [accept, writeData({ byte: MSG.USERAUTH_REQUEST }, { string: 'x' }, { string: '' }, { string: 'none' })],
    [accept, accept],
    [accept, failure(EVIL.replaceAll(/[^a-z]/g, ''))],
  ])
    await refused(await dial(pinned, { transport: sends(...messages) }), 'Login');
});

test('a target’s last words, at any time, are for the log alone', async () => {
  const goodbye = (server: Transport): void => server.disconnect(2, EVIL);
  await refused(await dial(pinned, { transport: goodbye }), 'Login', /closed the connection/);
  const words = writeData({ byte: MSG.DISCONNECT }, { uint32: 2 }, { string: EVIL }, { string: '' });
  const padding = 16 - ((5 + words.length) % 8);
  const packet = Buffer.concat([Buffer.alloc(5), words, Buffer.alloc(padding)]);
  packet.writeUInt32BE(1 + words.length + padding, 0);
  packet[4] = padding;
  const early = await dial(pinned, {
    socket: (far) => far.write(Buffer.concat([Buffer.from('SSH-2.0-x\r\n'), packet])),
  });
  await refused(early, 'Transport', /talk to the target/);
  const rude = await dial(pinned, { socket: (far) => far.end(`${EVIL}\r\n`) });
  await rude.pass(60_000);
  await refused(rude, 'Busy', /closes them without a word/);
});

test('INV-11: a target that never answers is given up, before its name and behind the key exchange', async () => {
  const silent = await dial(pinned, { socket: () => undefined });
  await silent.pass(60_000);
  await refused(silent, 'Transport', /too long/);
  const mute = await dial(pinned, {});
  while (mute.heard.length === 0) await tick();
  await mute.pass(60_000);
  await refused(mute, 'Login', /did not answer/);
});

test('INV-11: packets larger than a login has are not taken', async () => {
  const large = await dial(pinned, { transport: sends(accept, banner('x'.repeat(40_000))) });
  await refused(large, 'Login', /closed/);
  const claims = await dial(pinned, {
    socket: (far) => far.write(Buffer.concat([Buffer.from('SSH-2.0-x\r\n'), Buffer.from([0x7f, 0xff, 0xff, 0xf0])])),
  });
  await refused(claims, 'Transport', /is not taken/);
});
