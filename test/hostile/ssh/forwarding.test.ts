// Forwards against raw peers, message by message: a target that opens what nobody asked for, a client that spells its
// destination in other ways, and both that break what they agreed on. Rules and relay are the real ones.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decide } from '../../../src/policy/decide.ts';
import type { SessionPolicy } from '../../../src/policy/session-policy.ts';
import type { AuthenticatedSession, HoldOutcome } from '../../../src/protocols/protocol.ts';
import {
  bare,
  channelData,
  channelOpen,
  channelRequest,
  dataOf,
  globalRequest,
  windowAdjust,
} from '../../../src/protocols/ssh/channels/messages.ts';
import { type Relay, runRelay } from '../../../src/protocols/ssh/channels/relay.ts';
import { ALL_RIGHTS, type LoginRights } from '../../../src/protocols/ssh/keys/certificate.ts';
import { ed25519Signer } from '../../../src/protocols/ssh/keys/signer.ts';
import type { Transport } from '../../../src/protocols/ssh/transport/transport.ts';
import { type Field, readData, writeData } from '../../../src/protocols/ssh/wire/data.ts';
import { MSG, OPEN_FAILURE } from '../../../src/protocols/ssh/wire/message-numbers.ts';
import { authGateway, type FakeTransport, transportPair } from '../../support/ssh-auth.ts';
import { sshPolicy } from '../../support/ssh-rules.ts';

interface Bed {
  relay: Relay;
  /** What each end got, in order. */
  client: Buffer[];
  target: Buffer[];
  targetEnd: FakeTransport;
  clientEnd: FakeTransport;
  records: { kind: string; channel: number | undefined; body: Record<string, unknown> }[];
  policy: SessionPolicy;
  ended: string[];
  withdrawn: number;
  release(outcome: HoldOutcome): void;
  fromClient(...payloads: Buffer[]): Promise<void>;
  fromTarget(...payloads: Buffer[]): Promise<void>;
}

const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

function handOverOf(transport: Transport) {
  return (handlers: Pick<Transport, 'onMessage' | 'onClose'>): void => {
    transport.onMessage = handlers.onMessage;
    transport.onClose = handlers.onClose;
  };
}

async function bedOf(forwarding: readonly string[], rights: LoginRights = ALL_RIGHTS): Promise<Bed> {
  const ofClient = transportPair();
  const ofTarget = transportPair();
  const hold = Promise.withResolvers<HoldOutcome>();
  const { context } = authGateway({ grants: () => undefined });
  const allow = (ssh: Record<string, unknown>) => ({ action: 'Allow' as const, ssh });
  const bed: Bed = {
    relay: undefined as unknown as Relay,
    client: [],
    target: [],
    targetEnd: ofTarget.server,
    clientEnd: ofClient.server,
    records: [],
    policy: sshPolicy({
      ...(forwarding.length === 0 ? {} : { forwards: allow({ forwarding }) }),
      run: allow({ commands: ['sleep *'] }),
    }),
    ended: [],
    withdrawn: 0,
    release: (outcome) => hold.resolve(outcome),
    async fromClient(...payloads) {
      for (const payload of payloads) ofClient.client.send(payload);
      await settle();
    },
    async fromTarget(...payloads) {
      for (const payload of payloads) ofTarget.server.send(payload);
      await settle();
    },
  };
  ofClient.client.onMessage = (payload) => void bed.client.push(payload);
  ofTarget.server.onMessage = (payload) => void bed.target.push(payload);
  let denials = 0;
  const session = {
    principal: { username: 'ana' },
    grant: { name: 'g', uid: 'u', policy: 'p', expiresAtMs: 0 },
    account: 'admin',
    record: {
      append: (kind: string, body: object, channel?: number) =>
        void bed.records.push({ kind, channel, body: structuredClone(body) as Record<string, unknown> }),
      whenWritten: (callback: (error: undefined) => void) => void setImmediate(() => callback(undefined)),
      writable: true,
      close: () => undefined,
    },
    gate: () => undefined,
    decide: (command: Parameters<typeof decide>[1]) => decide(bed.policy, command),
    denialId: () => `d-${(denials += 1)}`,
    hold: () => ({
      name: 'h-1',
      untilMs: Date.now() + 1000,
      preapproved: false,
      outcome: hold.promise,
      withdraw: () => {
        bed.withdrawn += 1;
        hold.resolve({ kind: 'Withdrawn' });
      },
    }),
    observe: { decision: () => undefined, masked: () => undefined, latency: () => undefined },
    ended: (reason: string) => void bed.ended.push(reason),
  } as unknown as AuthenticatedSession;
  const { connection } = context;
  bed.relay = runRelay({
    context: {
      ...context,
      connection: {
        ...connection,
        spec: { ...connection.spec, ssh: { host: 'web1.internal', port: 2222, hostKeys: [] } },
      },
    },
    session,
    services: { prefix: 'sallyport', filterFor: () => undefined, transferOf: () => undefined },
    user: 'deploy',
    rights,
    client: ofClient.server,
    handOver: handOverOf(ofClient.server),
    hostKeys: [ed25519Signer(Buffer.alloc(32, 3))],
    connect: async () => ({ transport: ofTarget.client, handOver: handOverOf(ofTarget.client) }),
  });
  await settle();
  bed.client.length = 0;
  return bed;
}

const open = (type: string, sender: number, fields: readonly Field[], window = 100_000): Buffer =>
  Buffer.concat([channelOpen({ type, sender, window, maxPacket: 32_768 }), writeData(...fields)]);
const direct = (host: string, port: number, sender = 7): Buffer =>
  open('direct-tcpip', sender, [{ string: host }, { uint32: port }, { string: '127.0.0.1' }, { uint32: 4 }]);
const came = (host: string, port: number, sender = 3): Buffer =>
  open('forwarded-tcpip', sender, [{ string: host }, { uint32: port }, { string: '10.9.9.9' }, { uint32: 5 }]);
const listen = (host: string, port: number, type = 'tcpip-forward'): Buffer =>
  globalRequest(type, true, { string: host }, { uint32: port });
const confirm = (recipient: number, sender = 9, window = 100_000): Buffer =>
  writeData(
    { byte: MSG.CHANNEL_OPEN_CONFIRMATION },
    { uint32: recipient },
    { uint32: sender },
    { uint32: window },
    { uint32: 32_768 },
  );
const success = (port?: number): Buffer =>
  writeData({ byte: MSG.REQUEST_SUCCESS }, ...(port === undefined ? [] : [{ uint32: port }]));
const numbers = (payloads: readonly Buffer[]): number[] => payloads.map((payload) => payload[0]!);
const commandsOf = (bed: Bed) => bed.records.filter(({ kind }) => kind === 'command').map(({ body }) => body);
const texts = (bed: Bed): string[] =>
  commandsOf(bed).map(({ text, decision }) => `${String(text)} ${String(decision)}`);
const failure = (payload: Buffer | undefined): { code: number; text: string } => {
  assert.equal(payload?.[0], MSG.CHANNEL_OPEN_FAILURE);
  const reader = readData(payload!, 5);
  return { code: reader.uint32(), text: reader.text() };
};
const untilEnded = async (bed: Bed): Promise<void> => {
  for (let wait = 0; wait < 300 && bed.ended.length === 0; wait += 1)
    await new Promise((resolve) => setTimeout(resolve, 20));
};

test('one destination has many spellings, and each is the same to a rule; what is dialled is what was judged', async () => {
  const spellings = [
    '127.0.0.1',
    '127.1',
    '0x7f.1',
    '0x7f000001',
    '2130706433',
    '017700000001',
    '::ffff:127.0.0.1',
    '::FFFF:7f00:1',
    '[::ffff:127.0.0.1]',
    '127.0.0.1.',
    '0177.0.0.01',
  ];
  for (const spelling of spellings) {
    const bed = await bedOf(['127.0.0.1:5432']);
    await bed.fromClient(direct(spelling, 5432));
    const reader = readData(bed.target[0] ?? assert.fail(spelling), 1);
    assert.equal(reader.text(), 'direct-tcpip');
    for (let skip = 0; skip < 3; skip += 1) reader.uint32();
    assert.equal(reader.text(), '127.0.0.1', spelling);
    const denied = await bedOf(['127.0.0.2:5432']);
    await denied.fromClient(direct(spelling, 5432));
    assert.equal(failure(denied.client[0]).code, OPEN_FAILURE.ADMINISTRATIVELY_PROHIBITED, spelling);
    assert.equal(denied.target.length, 0, spelling);
  }
});

test('metadata, other sshds and the target’s own are not reached by wide rules, however they are spelled', async () => {
  const wide = ['*:*', '0.0.0.0/0:*', '[::/0]:*'];
  const tricks: [string, number][] = [
    ...[
      '169.254.169.254',
      '169.254.43518',
      '0xa9fea9fe',
      '2852039166',
      '0251.0376.0251.0376',
      '::ffff:169.254.169.254',
      '::ffff:a9fe:a9fe',
      '64:ff9b::169.254.169.254',
      'metadata.google.internal',
      'METADATA.GOOGLE.INTERNAL.',
      'metadata',
      'instance-data.ec2.internal',
      '169.254.169.254.nip.io',
      '169-254-169-254.sslip.io',
      'fd00:ec2::254',
      '[fd00:ec2:0::254]',
      'fe80::a9fe:a9fe%eth0',
      '100.100.100.200',
    ].map((host): [string, number] => [host, 80]),
    ...[
      '127.0.0.1',
      '0',
      '',
      '*',
      '::',
      '::1',
      'localhost',
      'LOCALHOST.',
      'web1.internal',
      'Web1.Internal.',
      '10.0.0.9',
    ].flatMap((host): [string, number][] => [
      [host, 22],
      [host, 2222],
    ]),
  ];
  for (const [host, port] of tricks) {
    const bed = await bedOf(wide);
    await bed.fromClient(direct(host, port));
    assert.equal(failure(bed.client[0]).code, OPEN_FAILURE.ADMINISTRATIVELY_PROHIBITED, `${host}:${port}`);
    assert.equal(bed.target.length, 0, `${host}:${port}`);
    assert.equal(commandsOf(bed)[0]?.['decision'], 'Deny', `${host}:${port}`);
  }
  const bed = await bedOf(wide);
  await bed.fromClient(direct('10.0.0.9', 443));
  assert.equal(bed.target.length, 1);
  const spelledOut = await bedOf(['169.254.169.254:80', 'web1.internal:2222']);
  await spelledOut.fromClient(direct('0xa9fea9fe', 80, 1), direct('WEB1.internal.', 2222, 2));
  assert.deepEqual(numbers(spelledOut.target), [MSG.CHANNEL_OPEN, MSG.CHANNEL_OPEN]);
});

test('what is no destination is refused: controls, ports out of range, sockets that are not plain paths, NUL', async () => {
  const bed = await bedOf(['*:*', '/**']);
  const sockets = [
    'relative.sock',
    '/run/../run/docker.sock',
    '/run//docker.sock',
    '/run/./a',
    '/run/a\0b',
    '@abstract',
    '\0abstract',
    '',
    '/',
    '/run/a/',
    `/${'x'.repeat(108)}`,
  ];
  const opens = [
    direct('a\nb', 80),
    direct('a\0.b', 80),
    direct('host name', 80),
    direct('a;id', 80),
    direct('x', 65_536),
    direct('x', 2 ** 32 - 1),
    ...sockets.map((path) =>
      open('direct-streamlocal@openssh.com', 7, [{ string: path }, { string: '' }, { uint32: 0 }]),
    ),
  ];
  await bed.fromClient(...opens);
  assert.deepEqual(
    numbers(bed.client),
    opens.map(() => MSG.CHANNEL_OPEN_FAILURE),
  );
  assert.equal(bed.target.length, 0);
  assert.equal(bed.records.filter(({ body }) => body['event'] === 'ForwardRefused').length, opens.length);
  assert.deepEqual(bed.ended, []);
});

test('INV-09: tunnels and unknown channels are refused and leave the connection as it is', async () => {
  const bed = await bedOf(['*:*', 'agent', 'x11']);
  await bed.fromClient(
    open('tun@openssh.com', 1, [{ uint32: 1 }, { uint32: 0x7fffffff }]),
    open('x11', 2, [{ string: '127.0.0.1' }, { uint32: 1 }]),
    open('auth-agent@openssh.com', 3, []),
    came('127.0.0.1', 80),
    direct('10.0.0.1', 443, 4),
  );
  assert.deepEqual(
    bed.client.map((payload) => failure(payload).code),
    [1, 3, 3, 3],
  );
  assert.equal(commandsOf(bed)[0]?.['text'], 'tun forwarding');
  assert.deepEqual(numbers(bed.target), [MSG.CHANNEL_OPEN]);
});

/** With one listener on 127.0.0.1:8080 that the target has confirmed. */
async function listening(...more: string[]): Promise<Bed> {
  const bed = await bedOf(['listen:127.0.0.1:8080', ...more]);
  await bed.fromClient(listen('localhost', 8080));
  assert.deepEqual(numbers(bed.target), [MSG.GLOBAL_REQUEST]);
  await bed.fromTarget(success());
  assert.deepEqual(numbers(bed.client), [MSG.REQUEST_SUCCESS]);
  bed.client.length = 0;
  bed.target.length = 0;
  return bed;
}

test('a target opens nothing that was not let through: other ports, addresses, sockets, agent, X11', async () => {
  const bed = await listening('agent', 'x11');
  const foreign = [
    came('127.0.0.1', 8081),
    came('10.0.0.1', 8080),
    came('', 8080),
    came('0.0.0.0', 8080),
    open('forwarded-streamlocal@openssh.com', 3, [{ string: '/run/x.sock' }, { string: '' }]),
    open('auth-agent@openssh.com', 3, []),
    open('x11', 3, [{ string: '127.0.0.1' }, { uint32: 1 }]),
    open('session', 3, []),
    direct('127.0.0.1', 22),
    open('tun@openssh.com', 3, [{ uint32: 1 }, { uint32: 0 }]),
  ];
  await bed.fromTarget(...foreign);
  assert.deepEqual(
    numbers(bed.target),
    foreign.map(() => MSG.CHANNEL_OPEN_FAILURE),
  );
  assert.deepEqual(bed.client, []);
  assert.equal(bed.records.filter(({ body }) => body['by'] === 'Target').length, foreign.length);
  // What was asked for still comes in, under the name that the client gave it.
  await bed.fromTarget(came('127.0.0.1', 8080));
  assert.deepEqual(numbers(bed.client), [MSG.CHANNEL_OPEN]);
  const reader = readData(bed.client[0]!, 1);
  assert.equal(reader.text(), 'forwarded-tcpip');
  for (let skip = 0; skip < 3; skip += 1) reader.uint32();
  assert.equal(reader.text(), 'localhost');
});

test('a listener that is denied, pending, failed or cancelled lets nothing in', async () => {
  const denied = await bedOf([]);
  await denied.fromClient(listen('', 8080));
  assert.deepEqual(numbers(denied.client), [MSG.REQUEST_FAILURE]);
  assert.equal(denied.target.length, 0);
  const wildcard = await bedOf(['listen:127.0.0.1:8080']);
  await wildcard.fromClient(listen('', 8080), listen('0.0.0.0', 8080), listen('::', 8080), listen('10.0.0.1', 8080));
  assert.deepEqual(numbers(wildcard.client), [82, 82, 82, 82]);
  const pending = await bedOf(['listen:127.0.0.1:8080']);
  await pending.fromClient(listen('127.0.0.1', 8080));
  await pending.fromTarget(came('127.0.0.1', 8080));
  assert.equal(pending.target.at(-1)?.[0], MSG.CHANNEL_OPEN_FAILURE);
  await pending.fromTarget(Buffer.from([MSG.REQUEST_FAILURE]), came('127.0.0.1', 8080));
  assert.deepEqual(numbers(pending.client), [MSG.REQUEST_FAILURE]);
  assert.equal(pending.target.at(-1)?.[0], MSG.CHANNEL_OPEN_FAILURE);
  const cancelled = await listening();
  await cancelled.fromClient(listen('localhost', 8080, 'cancel-tcpip-forward'));
  await cancelled.fromTarget(came('127.0.0.1', 8080));
  assert.deepEqual(numbers(cancelled.target), [MSG.GLOBAL_REQUEST, MSG.CHANNEL_OPEN_FAILURE]);
  // Nothing to cancel is answered here.
  await cancelled.fromTarget(success());
  await cancelled.fromClient(listen('localhost', 9999, 'cancel-tcpip-forward'));
  assert.deepEqual(numbers(cancelled.client), [MSG.REQUEST_SUCCESS, MSG.REQUEST_FAILURE]);
});

test('port 0: the target’s choice is passed on, and a choice that is no port ends the session', async () => {
  const bed = await bedOf(['listen:127.0.0.1:0']);
  await bed.fromClient(listen('localhost', 0));
  await bed.fromTarget(success(40_000));
  assert.equal(bed.client[0]?.readUInt32BE(1), 40_000);
  await bed.fromTarget(came('localhost', 40_000));
  assert.equal(bed.client[1]?.[0], MSG.CHANNEL_OPEN);
  for (const port of [0, 65_536]) {
    const broken = await bedOf(['listen:127.0.0.1:0']);
    await broken.fromClient(listen('localhost', 0));
    await broken.fromTarget(success(port));
    await untilEnded(broken);
    assert.deepEqual(broken.ended, ['TargetFault']);
  }
});

test('INV-11: an answer to nothing, data beyond the window or before the end, cost the sender the session', async () => {
  const unasked = await listening();
  await unasked.fromTarget(success());
  await untilEnded(unasked);
  assert.deepEqual(unasked.ended, ['TargetFault']);
  const live = async (): Promise<Bed> => {
    const bed = await bedOf(['10.0.0.1:443']);
    await bed.fromClient(direct('10.0.0.1', 443));
    await bed.fromTarget(confirm(0, 9, 1_000));
    assert.deepEqual(numbers(bed.client), [MSG.CHANNEL_OPEN_CONFIRMATION]);
    return bed;
  };
  const faults: [string, (bed: Bed) => Promise<void>][] = [
    // The client may send what the target takes, 1,000 bytes.
    ['ClientFault', (bed) => bed.fromClient(channelData(0, Buffer.alloc(1_001)))],
    ['ClientFault', (bed) => bed.fromClient(bare(MSG.CHANNEL_EOF, 0), channelData(0, Buffer.from('x')))],
    ['ClientFault', (bed) => bed.fromClient(bare(MSG.CHANNEL_CLOSE, 0), bare(MSG.CHANNEL_CLOSE, 0))],
    ['ClientFault', (bed) => bed.fromClient(confirm(0))],
    ['ClientFault', (bed) => bed.fromClient(windowAdjust(0, 2 ** 32 - 1), windowAdjust(0, 2 ** 32 - 1))],
    ['TargetFault', (bed) => bed.fromTarget(channelData(0, Buffer.alloc(100_001)))],
    ['TargetFault', (bed) => bed.fromTarget(confirm(0))],
    ['TargetFault', (bed) => bed.fromTarget(bare(MSG.CHANNEL_CLOSE, 0), channelData(0, Buffer.from('x')))],
    ['TargetFault', (bed) => bed.fromTarget(Buffer.from([MSG.CHANNEL_DATA, 0, 0, 0, 0, 0, 0, 0, 9, 1]))],
  ];
  for (const [at, [reason, fault]] of faults.entries()) {
    const bed = await live();
    await fault(bed);
    await untilEnded(bed);
    assert.deepEqual(bed.ended, [reason], `fault ${at}`);
  }
  const early = await bedOf(['10.0.0.1:443']);
  await early.fromClient(direct('10.0.0.1', 443), channelData(0, Buffer.from('x')));
  await untilEnded(early);
  assert.deepEqual(early.ended, ['ClientFault']);
});

test('a window given by one side is what the other may send; a keepalive on the channel is answered here', async () => {
  const bed = await bedOf(['10.0.0.1:443']);
  await bed.fromClient(direct('10.0.0.1', 443));
  await bed.fromTarget(confirm(0, 9, 1_000));
  assert.equal(bed.client[0]?.readUInt32BE(9), 1_000);
  await bed.fromClient(channelData(0, Buffer.alloc(1_000, 1)));
  assert.equal(dataOf(bed.target.at(-1)!)!.length, 1_000);
  assert.equal(bed.client.length, 1);
  await bed.fromTarget(windowAdjust(0, 50_000));
  assert.deepEqual([bed.client[1]?.[0], bed.client[1]?.readUInt32BE(5)], [MSG.CHANNEL_WINDOW_ADJUST, 50_000]);
  await bed.fromTarget(channelRequest(0, 'keepalive@openssh.com', true));
  assert.deepEqual([bed.target.at(-1)?.[0], bed.target.at(-1)?.readUInt32BE(1)], [MSG.CHANNEL_FAILURE, 9]);
  assert.equal(bed.client.length, 2);
  await bed.fromClient(bare(MSG.CHANNEL_EOF, 0), bare(MSG.CHANNEL_CLOSE, 0));
  await bed.fromTarget(bare(MSG.CHANNEL_CLOSE, 0));
  assert.equal(bed.client.at(-1)?.[0], MSG.CHANNEL_CLOSE);
  assert.deepEqual(numbers(bed.target).slice(-2), [MSG.CHANNEL_EOF, MSG.CHANNEL_CLOSE]);
  // Its number is free again.
  await bed.fromClient(direct('10.0.0.1', 443));
  assert.equal(readData(bed.target.at(-1)!, 5 + 'direct-tcpip'.length).uint32(), 0);
});

test('INV-11: 64 channels altogether, whoever opens them', async () => {
  const bed = await listening('10.0.0.1:443');
  await bed.fromClient(...Array.from({ length: 40 }, (_, at) => direct('10.0.0.1', 443, at)));
  await bed.fromTarget(...Array.from({ length: 30 }, (_, at) => came('127.0.0.1', 8080, at)));
  assert.equal(bed.client.filter((payload) => payload[0] === MSG.CHANNEL_OPEN).length, 24);
  assert.equal(bed.target.filter((payload) => payload[0] === MSG.CHANNEL_OPEN_FAILURE).length, 6);
  await bed.fromClient(direct('10.0.0.1', 443, 99));
  assert.equal(failure(bed.client.at(-1)).code, OPEN_FAILURE.RESOURCE_SHORTAGE);
  assert.deepEqual(bed.ended, []);
});

test('INV-11: a target that opens without end what nobody asked for costs itself the session', async () => {
  const bed = await bedOf([]);
  bed.policy = sshPolicy({ run: { action: 'Allow', ssh: { commands: ['sleep *'] } } });
  await bed.fromClient(
    channelOpen({ type: 'session', sender: 1, window: 1_000, maxPacket: 1_000 }),
    channelRequest(0, 'exec', true, { string: 'sleep 1' }),
  );
  await bed.fromTarget(...Array.from({ length: 3_000 }, () => came('127.0.0.1', 1)));
  await untilEnded(bed);
  assert.deepEqual(bed.ended, ['TargetFault']);
});

const COOKIE = 'c0ffee00c0ffee00c0ffee00c0ffee00';
const x11Request = (single: boolean, cookie = COOKIE, protocol = 'MIT-MAGIC-COOKIE-1'): Buffer =>
  channelRequest(0, 'x11-req', true, { boolean: single }, { string: protocol }, { string: cookie }, { uint32: 0 });

/** A session that runs `sleep`, with these requests in front of it, each answered by the target with success. */
async function running(bed: Bed, ...requests: Buffer[]): Promise<void> {
  await bed.fromClient(
    channelOpen({ type: 'session', sender: 1, window: 100_000, maxPacket: 32_768 }),
    ...requests,
    channelRequest(0, 'exec', true, { string: 'sleep 9' }),
  );
  await bed.fromTarget(confirm(0));
  for (let request = 0; request < 3; request += 1) {
    const asked = bed.target.at(-1);
    if (asked?.[0] !== MSG.CHANNEL_REQUEST || readData(asked, 5).text() === 'exec') break;
    await bed.fromTarget(bare(MSG.CHANNEL_SUCCESS, 0));
  }
  await bed.fromTarget(bare(MSG.CHANNEL_SUCCESS, 0));
}

const x11Came = (sender: number): Buffer => open('x11', sender, [{ string: '127.0.0.1' }, { uint32: 1 }]);

test('X11: only as let through, a single connection once, its cookie in no record', async () => {
  const bed = await bedOf(['x11']);
  await running(bed, x11Request(true));
  const asked = bed.target.find((payload) => payload[0] === MSG.CHANNEL_REQUEST)!;
  assert.ok(asked.includes(COOKIE));
  bed.client.length = 0;
  bed.target.length = 0;
  await bed.fromTarget(x11Came(4), x11Came(5));
  assert.deepEqual(numbers(bed.client), [MSG.CHANNEL_OPEN]);
  assert.deepEqual(numbers(bed.target), [MSG.CHANNEL_OPEN_FAILURE]);
  await bed.fromClient(confirm(1, 6));
  await bed.fromTarget(channelData(1, Buffer.from(`l\0\0\0${COOKIE}`)));
  assert.ok(dataOf(bed.client.at(-1)!)!.includes(COOKIE));
  assert.ok(!JSON.stringify(bed.records).includes(COOKIE));
  assert.ok(!JSON.stringify(bed.records).includes(Buffer.from(COOKIE).toString('base64').slice(4, 20)));
  const many = await bedOf(['x11']);
  await running(many, x11Request(false));
  await many.fromTarget(x11Came(4), x11Came(5));
  assert.equal(many.client.filter((payload) => payload[0] === MSG.CHANNEL_OPEN).length, 2);
});

test('X11 words that a shell or xauth could read otherwise, and features too late or twice, are refused', async () => {
  const bed = await bedOf(['x11', 'agent']);
  const agent = channelRequest(0, 'auth-agent-req@openssh.com', true);
  await bed.fromClient(
    channelOpen({ type: 'session', sender: 1, window: 100_000, maxPacket: 32_768 }),
    x11Request(false, 'zz; id'),
    x11Request(false, COOKIE, 'a b'),
    x11Request(false, COOKIE, '-x\n'),
    agent,
    agent,
  );
  assert.deepEqual(numbers(bed.client).slice(1), [100, 100, 100, 99, 100]);
  await bed.fromClient(channelRequest(0, 'exec', true, { string: 'sleep 9' }));
  await bed.fromClient(x11Request(false));
  await bed.fromTarget(confirm(0), bare(MSG.CHANNEL_SUCCESS, 0), bare(MSG.CHANNEL_SUCCESS, 0));
  assert.deepEqual(numbers(bed.client).slice(-2), [99, 100]);
});

test('the agent is reached while the session runs that it was let through for, and not afterwards', async () => {
  const agent = channelRequest(0, 'auth-agent-req@openssh.com', true);
  const opening = (sender: number): Buffer => open('auth-agent@openssh.com', sender, []);
  const unasked = await bedOf(['agent']);
  await running(unasked);
  await unasked.fromTarget(opening(4));
  assert.equal(unasked.target.at(-1)?.[0], MSG.CHANNEL_OPEN_FAILURE);
  const bed = await bedOf(['agent']);
  await running(bed, agent);
  await bed.fromTarget(opening(4));
  assert.equal(bed.client.at(-1)?.[0], MSG.CHANNEL_OPEN);
  bed.policy = sshPolicy({ run: { action: 'Allow', ssh: { commands: ['sleep *'] } } });
  await bed.fromTarget(opening(5));
  assert.equal(bed.target.at(-1)?.[0], MSG.CHANNEL_OPEN_FAILURE);
  bed.policy = sshPolicy({ agents: { action: 'Allow', ssh: { forwarding: ['agent'] } } });
  await bed.fromTarget(bare(MSG.CHANNEL_CLOSE, 0), opening(6));
  assert.equal(bed.target.at(-1)?.[0], MSG.CHANNEL_OPEN_FAILURE);
  const wide = await bedOf(['*:*', '0.0.0.0/0:*', '/**']);
  await wide.fromClient(
    channelOpen({ type: 'session', sender: 1, window: 1_000, maxPacket: 1_000 }),
    agent,
    x11Request(false),
  );
  assert.deepEqual(numbers(wide.client).slice(1), [100, 100]);
  assert.deepEqual(texts(wide), ['agent forwarding Deny', 'x11 forwarding Deny']);
});

test('what a certificate does not permit no rule gives', async () => {
  const bed = await bedOf(['*:*', 'listen:*:*', 'agent', 'x11', '/**'], {
    ...ALL_RIGHTS,
    portForwarding: false,
    agentForwarding: false,
    x11Forwarding: false,
  });
  await bed.fromClient(
    direct('10.0.0.1', 443),
    listen('localhost', 8080),
    globalRequest('streamlocal-forward@openssh.com', true, { string: '/run/x.sock' }),
    channelOpen({ type: 'session', sender: 1, window: 1_000, maxPacket: 1_000 }),
    channelRequest(0, 'auth-agent-req@openssh.com', true),
    x11Request(false),
  );
  assert.deepEqual(numbers(bed.client), [92, 82, 82, 91, 100, 100]);
  assert.equal(bed.target.length, 0);
  assert.ok(commandsOf(bed).every(({ decision }) => decision === 'Deny'));
  assert.equal(commandsOf(bed).length, 5);
});

test('INV-03: after a cut nothing passes in either direction, nor does what is opened late', async () => {
  const bed = await listening('10.0.0.1:443');
  await bed.fromClient(direct('10.0.0.1', 443, 1), direct('10.0.0.1', 443, 2));
  await bed.fromTarget(confirm(0, 11));
  await bed.fromTarget(came('127.0.0.1', 8080, 12));
  await bed.fromClient(confirm(2, 13));
  bed.client.length = 0;
  bed.target.length = 0;
  bed.relay.cut({ code: 'Killed', message: 'killed by bob' });
  await settle();
  // Both ends at the target are closed, and it is told to listen no longer; the client hears CLOSE, and why.
  const closes = bed.target
    .filter((payload) => payload[0] === MSG.CHANNEL_CLOSE)
    .map((payload) => payload.readUInt32BE(1));
  assert.deepEqual(new Set(closes), new Set([11, 12]));
  assert.equal(closes.length, 2);
  assert.ok(bed.target.some((payload) => payload.includes('cancel-tcpip-forward')));
  assert.ok(numbers(bed.client).every((number) => number === MSG.CHANNEL_CLOSE || number === MSG.CHANNEL_OPEN_FAILURE));
  const before = bed.client.length;
  await bed.fromTarget(
    channelData(0, Buffer.from('late')),
    channelData(2, Buffer.from('late')),
    came('127.0.0.1', 8080, 14),
    confirm(1, 15),
  );
  await bed.fromClient(channelData(0, Buffer.from('late')));
  assert.equal(bed.client.length, before);
  assert.ok(!bed.target.some((payload) => payload[0] === MSG.CHANNEL_DATA));
  assert.ok(bed.target.some((payload) => payload[0] === MSG.CHANNEL_OPEN_FAILURE && payload.readUInt32BE(1) === 14));
  assert.ok(bed.target.some((payload) => payload[0] === MSG.CHANNEL_CLOSE && payload.readUInt32BE(1) === 15));
  const errors = bed.records.filter(({ kind, body }) => kind === 'result' && body['error'] !== undefined);
  assert.equal(errors.length, 3);
});

test('a hold of an open is withdrawn with the connection; one that is not granted is refused', async () => {
  const held = async (): Promise<Bed> => {
    const bed = await bedOf([]);
    bed.policy = sshPolicy({
      forwards: { action: 'Allow', ssh: { forwarding: ['10.0.0.1:443'] } },
      ask: { action: 'Hold', ssh: { forwarding: ['*:*'] } },
    });
    await bed.fromClient(direct('10.0.0.1', 443));
    assert.deepEqual([bed.client.length, bed.target.length], [0, 0]);
    return bed;
  };
  const gone = await held();
  gone.relay.cut({ code: 'Killed', message: 'killed' });
  await settle();
  assert.equal(gone.withdrawn, 1);
  assert.equal(gone.target.length, 0);
  const refused = await held();
  refused.release({ kind: 'TimedOut' });
  await settle();
  assert.match(failure(refused.client[0]).text, /nobody consented in time/);
  const released = await held();
  released.release({ kind: 'Approved', by: ['bob'] });
  await settle();
  assert.deepEqual(numbers(released.target), [MSG.CHANNEL_OPEN]);
});

test('a target that goes away takes its forwards with it, and the next open dials anew', async () => {
  const bed = await listening('10.0.0.1:443');
  await bed.fromClient(direct('10.0.0.1', 443, 1), direct('10.0.0.1', 443, 2));
  await bed.fromTarget(confirm(0, 11));
  bed.client.length = 0;
  bed.targetEnd.destroy();
  await settle();
  assert.deepEqual(numbers(bed.client), [MSG.CHANNEL_CLOSE, MSG.CHANNEL_OPEN_FAILURE]);
  assert.deepEqual(bed.ended, []);
  await bed.fromClient(bare(MSG.CHANNEL_CLOSE, 0));
  assert.equal(bed.records.filter(({ kind }) => kind === 'result').length, 3);
});
