// Criteria of getting in: what is tried at a login without a right to, against a whole gateway over TCP. A claim holds where
// none of its attacks gets in, the target has seen no connection, and what differs from them by being right alone gets in.
import assert from 'node:assert/strict';
import net from 'node:net';
import { ed25519Signer, signerOfKeyObject } from '../../../src/protocols/ssh/keys/signer.ts';
import {
  type Meddle,
  prefixCutter,
  type RawBehaviour,
  rawClient,
} from '../../../src/protocols/ssh/transport/test-peers.ts';
import { writeData } from '../../../src/protocols/ssh/wire/data.ts';
import { MSG } from '../../../src/protocols/ssh/wire/message-numbers.ts';
import { idleSockets } from '../../support/idle-sockets.ts';
import { rightCertificate, wrongCertificates } from '../../support/ssh-certificate-client.ts';
import { type AttackClass, type LoginAttack, loginAttacks, rsaAuthority } from '../../support/ssh-login-attacks.ts';
import {
  certificateSigner,
  keyOffer,
  keyRequest,
  promptAnswer,
  promptRequest,
  serviceRequest,
} from '../../support/ssh-login-messages.ts';
import { type GrantState, getsIn, type LoginScene, OTHER_UID, startLoginScene } from '../../support/ssh-login-scene.ts';
import { echo, rawConnection } from '../../support/ssh-raw-client.ts';
import type { CriteriaGroup, Criterion } from '../criterion.ts';

let scene: LoginScene;

const figure = (attempts: number, neighbours: number): string =>
  `${attempts} attempts, 0 in, 0 reached the target; ${neighbours} right ones in`;

/** Runs attacks, each of which answers whether it got in. */
async function keptOut(attacks: readonly { name: string; run(): Promise<boolean> }[]): Promise<void> {
  const before = scene.reached();
  for (const { name, run } of attacks) assert.equal(await run(), false, `${name}: got in`);
  assert.equal(scene.reached(), before, 'something reached the target');
}

async function classHolds({ attacks, neighbours }: Pick<AttackClass, 'attacks' | 'neighbours'>): Promise<string> {
  const tried = (attack: LoginAttack): Promise<boolean> => scene.attempt(attack).then(({ said }) => said !== undefined);
  await keptOut(attacks.map((attack) => ({ name: attack.name, run: () => tried(attack) })));
  for (const neighbour of neighbours) await getsIn(scene, neighbour);
  return figure(attacks.length, neighbours.length);
}

const byTicket = (name: string, ticket: () => string): LoginAttack => ({
  name,
  script: () => [promptRequest(scene.sshd.user), promptAnswer(ticket())],
});
const byKey = (name: string, state: GrantState, user = scene.sshd.user): LoginAttack => {
  const signer = signerOfKeyObject(scene.keys[state].privateKey);
  return { name, script: (end) => [keyOffer(end, { user, signer }), keyRequest(end, { user, signer })] };
};
const byCertificate = (name: string, principal: string, user = scene.sshd.user): LoginAttack => {
  const signer = certificateSigner(ed25519Signer(Buffer.alloc(32, 0x71)), {
    authority: scene.cast.authorities[0],
    principals: [principal],
  });
  return { name, script: (end) => [keyRequest(end, { user, signer })] };
};

const NOT_IN_FORCE = ['Expired', 'NotYet', 'Withdrawn', 'Locked', 'OtherConnection'] as const;
const PEOPLE = ['emil', 'nora', 'willi', 'lou', 'olga'];

const tickets: Criterion = {
  claim: 'INV-01: tickets: used twice, of other Connections, keys, times and grants not in force: none gets in',
  check: async () => {
    const used = scene.ticket();
    await getsIn(
      scene,
      byTicket('first use', () => used),
    );
    const voided = scene.ticket();
    const { jti } = JSON.parse(Buffer.from(voided.split('.')[1]!, 'base64url').toString()) as { jti: string };
    const now = Date.now();
    const overlay = { locks: [{ name: 'left', target: { user: 'corp:lou' }, reason: 'left' }] };
    scene.harness.overlay({ ...overlay, voidTickets: [jti] });
    const wrongKey = scene.keys.Locked.privateKey;
    const ticket = scene.ticket();
    const [head, body, signature] = ticket.split('.') as [string, string, string];
    const none = Buffer.from('{"alg":"none"}').toString('base64url');
    return await classHolds({
      attacks: [
        byTicket('used before', () => used),
        byTicket('made void', () => voided),
        byTicket('for another Connection', () => scene.ticket('InForce', { connectionUid: OTHER_UID })),
        byTicket('for any Connection', () => scene.ticket('InForce', { connectionUid: '*' })),
        byTicket('expired', () => scene.ticket('InForce', { nowMs: now - 3_600_000 })),
        byTicket('from the future', () => scene.ticket('InForce', { nowMs: now + 3_600_000 })),
        byTicket('living too long', () => scene.ticket('InForce', { lifetimeMs: 30 * 86_400_000 })),
        byTicket('signed by another’s key', () => scene.ticket('InForce', { privateKey: wrongKey })),
        byTicket('unsigned', () => `${none}.${body}.`),
        byTicket('without its signature', () => `${head}.${body}.`),
        byTicket('with another’s signature', () => `${head}.${scene.ticket().split('.')[1]}.${signature}`),
        ...NOT_IN_FORCE.map((state) => byTicket(`of a grant: ${state}`, () => scene.ticket(state))),
      ],
      neighbours: [byTicket('right', () => ticket)],
    });
  },
};

const grants: Criterion = {
  claim: 'INV-01: grants expired, not begun, given up, locked, of others or of other Connections: none gets in',
  check: () =>
    classHolds({
      attacks: [
        ...NOT_IN_FORCE.map((state) => byKey(`by key: ${state}`, state)),
        ...PEOPLE.map((name) => byCertificate(`by certificate: ${name}`, name)),
        ...NOT_IN_FORCE.map((state) =>
          byKey(`naming it: ${state}`, 'InForce', `${scene.sshd.user}+web-${state.toLowerCase()}`),
        ),
        ...NOT_IN_FORCE.map((state) =>
          byCertificate(`naming it: ${state}`, 'ana', `${scene.sshd.user}+web-${state.toLowerCase()}`),
        ),
      ],
      neighbours: [
        byKey('by key', 'InForce'),
        byKey('by key, naming it', 'InForce', `${scene.sshd.user}+web-inforce`),
        byCertificate('by certificate', 'ana'),
      ],
    }),
};

const replayed: Criterion = {
  claim: 'INV-01: what one connection signed opens no other, nor itself again',
  check: async () => {
    const { user, grantKey } = scene.cast;
    const certificate = certificateSigner(ed25519Signer(Buffer.alloc(32, 0x71)), {
      authority: scene.cast.authorities[0],
      principals: ['ana'],
    });
    let attempts = 0;
    const kinds = [grantKey, certificate];
    for (const signer of kinds) {
      const [first, second] = [await scene.connect(), await scene.connect()];
      const signed = keyRequest(first.transport, { user, signer });
      const replay = { name: 'replay', script: () => [signed] };
      await keptOut([{ name: 'replayed', run: () => scene.send(second, replay) }]);
      assert.ok(await scene.send(first, replay), 'where it was signed, it opens');
      // Behind SUCCESS it is nothing, and so is another's right proof: who is in stays who they are.
      first.transport.send(signed);
      first.transport.send(
        keyRequest(first.transport, { user, signer: signerOfKeyObject(scene.keys.Locked.privateKey) }),
      );
      first.transport.send(keyRequest(first.transport, { user: `${user}2`, signer }));
      assert.equal(await echo(first, 'still'), 'still');
      assert.ok(first.seen.every((payload) => payload[0]! < MSG.USERAUTH_REQUEST || payload[0]! > 79));
      attempts += 4;
      for (const raw of [first, second]) raw.transport.destroy();
    }
    return figure(attempts, kinds.length);
  },
};

const IGNORE = writeData({ byte: MSG.IGNORE }, { string: 'x' });
const DEBUG = writeData({ byte: MSG.DEBUG }, { boolean: false }, { string: 'x' }, { string: '' });
const UNIMPLEMENTED = writeData({ byte: MSG.UNIMPLEMENTED }, { uint32: 0 });

/** Whether a client without any checks gets in with the right key, after such a key exchange. */
async function exchanged(behaviour: RawBehaviour): Promise<boolean> {
  const socket = net.connect(scene.port, '127.0.0.1');
  socket.on('error', () => undefined);
  try {
    const peer = await rawClient(socket, behaviour);
    if (peer.sessionId.length === 0) return false;
    peer.output.send(serviceRequest());
    peer.output.send(keyRequest(peer, { user: scene.cast.user, signer: scene.cast.grantKey }));
    for (let next = await peer.next(); next !== undefined; next = await peer.next())
      if (next[0] === MSG.USERAUTH_SUCCESS) return true;
      else if (next[0] === MSG.DISCONNECT) return false;
    return false;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

const strictExchange: Criterion = {
  claim: 'INV-11: key exchanges that are not as they should be (strict order, values, rights in clear): none gets in',
  check: async () => {
    const login = writeData({ byte: MSG.USERAUTH_REQUEST }, { string: scene.cast.user }, { string: 'ssh-connection' });
    const notStrict: RawBehaviour['offer'] = (init) => ({
      ...init,
      kex: init.kex.filter((name) => !name.startsWith('kex-strict')),
    });
    const ctr = { clientToServer: ['aes128-ctr'], serverToClient: ['aes128-ctr'] };
    const low: RawBehaviour = {
      offer: (init) => ({ ...init, kex: ['curve25519-sha256', ...init.kex.slice(-1)] }),
      init: () => Buffer.alloc(32),
    };
    const behaviours: [string, RawBehaviour][] = [
      ...[IGNORE, DEBUG, UNIMPLEMENTED].flatMap((stray) =>
        (['beforeKexInit', 'afterKexInit', 'beforeNewKeys'] as const).map((place): [string, RawBehaviour] => [
          `${stray[0]} ${place}`,
          { [place]: [stray] },
        ]),
      ),
      ...[serviceRequest(), login, Buffer.from([MSG.NEWKEYS]), Buffer.from([MSG.USERAUTH_SUCCESS])].map(
        (message): [string, RawBehaviour] => [`${message[0]} in clear`, { afterKexInit: [message] }],
      ),
      ['a point of low order', low],
      ['AES-CTR without strict exchange', { offer: (init) => ({ ...notStrict(init), cipher: ctr }) }],
      ['no cipher', { offer: (init) => ({ ...init, cipher: { clientToServer: ['none'], serverToClient: ['none'] } }) }],
      ['SHA-1', { offer: (init) => ({ ...init, kex: ['diffie-hellman-group14-sha1'] }) }],
    ];
    await keptOut(behaviours.map(([name, behaviour]) => ({ name, run: () => exchanged(behaviour) })));
    for (const behaviour of [{}, { offer: notStrict }, { offer: notStrict, beforeNewKeys: [IGNORE] }])
      assert.ok(await exchanged(behaviour), 'the client without checks gets in where it behaves');
    return figure(behaviours.length, 3);
  },
};

/** Somebody between the client and the gateway. */
async function onTheWay<T>(
  meddle: { toServer?: Meddle; toClient?: Meddle },
  run: (port: number) => Promise<T>,
): Promise<T> {
  const through: Meddle = (chunk, push) => push(chunk);
  const sockets = new Set<net.Socket>();
  const server = net.createServer((client) => {
    const gateway = net.connect(scene.port, '127.0.0.1');
    for (const [from, to, change] of [
      [client, gateway, meddle.toServer ?? through],
      [gateway, client, meddle.toClient ?? through],
    ] as const) {
      sockets.add(from);
      from.setNoDelay(true);
      from.on('error', () => undefined);
      from.on('data', (chunk: Buffer) => change(chunk, (bytes) => to.writable && to.write(bytes)));
      from.on('end', () => to.end());
      from.on('close', () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    return await run((server.address() as net.AddressInfo).port);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

const terrapin: Criterion = {
  claim: 'INV-11: Terrapin, from either side, against OpenSSH’s client and a raw one: none gets in',
  check: async () => {
    const { seed, cast } = scene;
    const gcm = { Ciphers: 'aes128-gcm@openssh.com', ConnectTimeout: '10' };
    const openssh = async (port: number): Promise<boolean> => {
      const ran = await scene.openssh.ssh(
        { port, user: cast.user, seed },
        { certificate: rightCertificate('ana'), options: gcm },
      );
      return ran.stdout === 'in\n';
    };
    const raw = async (port: number): Promise<boolean> => {
      try {
        const client = await rawConnection(port);
        const login = {
          name: 'login',
          script: () => [keyRequest(client.transport, { user: cast.user, signer: cast.grantKey })],
        };
        const isIn = await scene.send(client, login).catch(() => false);
        client.transport.destroy();
        return isIn;
      } catch {
        return false;
      }
    };
    const attacks = [openssh, raw].flatMap((client) =>
      (['toServer', 'toClient'] as const).flatMap((side) =>
        [
          prefixCutter('first', { inject: true, drop: true }),
          prefixCutter('afterKexInit', { inject: true, drop: true }),
          prefixCutter('first', { inject: true, drop: false }),
        ].map((meddle, at) => ({
          name: `${client.name} ${side} ${at}`,
          run: () => onTheWay({ [side]: meddle }, client),
        })),
      ),
    );
    await keptOut(attacks);
    const quiet = { inject: false, drop: false };
    for (const client of [openssh, raw])
      assert.ok(
        await onTheWay({ toServer: prefixCutter('first', quiet), toClient: prefixCutter('first', quiet) }, client),
        'through somebody who changes nothing it gets in',
      );
    return figure(attacks.length, 2);
  },
};

const realClient: Criterion = {
  claim: 'INV-01: OpenSSH’s client with certificates of ssh-keygen’s that are not quite right: none gets in',
  check: async () => {
    const to = { port: scene.port, user: scene.sshd.user, seed: scene.seed };
    scene.harness.clock.setWall(Date.now());
    const runs = wrongCertificates('ana');
    await keptOut(
      runs.map((run) => ({
        name: run.certificate.join(' '),
        run: () => scene.openssh.ssh(to, run).then(({ code, stdout }) => code !== 255 || stdout !== ''),
      })),
    );
    const ran = await scene.openssh.ssh(to, { certificate: rightCertificate('ana') });
    assert.equal(ran.stdout, 'in\n', ran.stderr);
    return figure(runs.length, 1);
  },
};

const IDLE = 1000;
const LOGINS = 10;
const LOGIN_MS = 1_000;

const crowded: Criterion = {
  claim: 'INV-11: sockets that say nothing, from one address or from many, keep nobody else waiting for 1 s',
  check: async () => {
    const right = byKey('right', 'InForce');
    const figures: string[] = [];
    for (const [from, what] of [
      [['127.0.0.1'], 'one address'],
      [Array.from({ length: 20 }, (_, at) => `127.0.1.${at + 1}`), '20 addresses'],
    ] as const) {
      const idle = await idleSockets(scene.port, { from, count: IDLE, words: 'SSH-2.0-Idle\r\n' });
      const times: number[] = [];
      for (let at = 0; at < LOGINS; at += 1) {
        const started = performance.now();
        const { said, told } = await scene.attempt(right, '127.0.0.2');
        assert.equal(said, 'in', told);
        times.push(performance.now() - started);
      }
      idle.leave();
      times.sort((a, b) => a - b);
      const [median, worst] = [times[LOGINS / 2]!, times.at(-1)!];
      assert.ok(median < LOGIN_MS, `${what}: ${median.toFixed(0)} ms`);
      figures.push(
        `${IDLE} from ${what}: login and first command p50 ${median.toFixed(0)} ms, worst ${worst.toFixed(0)} ms`,
      );
    }
    return figures.join('; ');
  },
};

/** Named before there is a scene: the claims are the same whoever plays. */
const NAMES = loginAttacks({
  user: 'user',
  grantKey: ed25519Signer(Buffer.alloc(32, 1)),
  principal: 'ana',
  authorities: [ed25519Signer(Buffer.alloc(32, 2)), rsaAuthority()],
  ownAuthorities: [],
  ticket: () => '',
}).map(({ name }) => name);

let classes: AttackClass[];

export const auth: CriteriaGroup = {
  name: 'auth',
  async start() {
    scene = await startLoginScene();
    classes = loginAttacks(scene.cast);
  },
  criteria: [
    ...NAMES.map((name, at) => ({ claim: `INV-01: ${name}: none gets in`, check: () => classHolds(classes[at]!) })),
    replayed,
    grants,
    tickets,
    strictExchange,
    terrapin,
    realClient,
    crowded,
  ],
  stop: async () => scene?.stop(),
};
