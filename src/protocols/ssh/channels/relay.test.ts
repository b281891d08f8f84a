// The relay between a client and a target that send what they like, message by message.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { authGateway, type FakeTransport, transportPair } from '../../../../test/support/ssh-auth.ts';
import type { Decision } from '../../../policy/decision.ts';
import type { AuthenticatedSession, HoldOutcome } from '../../protocol.ts';
import { ALL_RIGHTS } from '../keys/certificate.ts';
import { ed25519Signer } from '../keys/signer.ts';
import { verifySignature } from '../keys/verify.ts';
import type { Transport } from '../transport/transport.ts';
import { readData, writeData } from '../wire/data.ts';
import { MSG } from '../wire/message-numbers.ts';
import { bare, channelData, channelOpen, channelRequest, dataOf, globalRequest, windowAdjust } from './messages.ts';
import { type Relay, runRelay } from './relay.ts';

const hostKey = ed25519Signer(Buffer.alloc(32, 3));

interface Bed {
  relay: Relay;
  client: FakeTransport;
  /** The relay's own end towards the client. */
  server: FakeTransport;
  /** What the client got, in order. */
  got: Buffer[];
  target: FakeTransport;
  targetGot: Buffer[];
  dials: number;
  ended: { reason: string }[];
  decide: (text: string) => Decision;
  releaseHold: (outcome: HoldOutcome) => void;
  withdrawn: number;
  send(...payloads: Buffer[]): Promise<void>;
  fromTarget(...payloads: Buffer[]): Promise<void>;
}

const ALLOW: Decision = { kind: 'Allow', by: [], warnings: [] };
const HOLD: Decision = {
  kind: 'Hold',
  reason: 'why',
  requirements: [{ by: { policy: 'p', rule: 'r' }, count: 1, approvers: [], timeoutMs: 1000 }],
  warnings: [],
};

const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 12; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

function handOverOf(transport: Transport) {
  return (handlers: Pick<Transport, 'onMessage' | 'onClose'>): void => {
    transport.onMessage = handlers.onMessage;
    transport.onClose = handlers.onClose;
  };
}

async function bedOf(): Promise<Bed> {
  const clientSide = transportPair();
  const targetSide = transportPair();
  const got: Buffer[] = [];
  const targetGot: Buffer[] = [];
  clientSide.client.onMessage = (payload) => void got.push(payload);
  targetSide.server.onMessage = (payload) => void targetGot.push(payload);
  const hold = Promise.withResolvers<HoldOutcome>();
  const { context } = authGateway({ grants: () => undefined });
  const bed: Bed = {
    relay: undefined as unknown as Relay,
    client: clientSide.client,
    server: clientSide.server,
    got,
    target: targetSide.server,
    targetGot,
    dials: 0,
    ended: [],
    decide: () => ALLOW,
    releaseHold: (outcome) => hold.resolve(outcome),
    withdrawn: 0,
    async send(...payloads) {
      for (const payload of payloads) clientSide.client.send(payload);
      await settle();
    },
    async fromTarget(...payloads) {
      for (const payload of payloads) targetSide.server.send(payload);
      await settle();
    },
  };
  let denials = 0;
  const session = {
    principal: { username: 'ana' },
    grant: { name: 'g', uid: 'u', policy: 'p', expiresAtMs: 0 },
    account: 'admin',
    record: {
      append: () => undefined,
      whenWritten: (callback: (error: undefined) => void) => void setImmediate(() => callback(undefined)),
      writable: true,
      close: () => undefined,
    },
    gate: () => undefined,
    decide: (command: { text: string }) => bed.decide(command.text),
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
    ended: (reason: string) => void bed.ended.push({ reason }),
  } as unknown as AuthenticatedSession;
  bed.relay = runRelay({
    context,
    session,
    services: { prefix: 'sallyport', filterFor: () => undefined, transferOf: () => undefined },
    user: 'deploy',
    rights: ALL_RIGHTS,
    client: clientSide.server,
    handOver: handOverOf(clientSide.server),
    hostKeys: [hostKey],
    connect: async () => {
      bed.dials += 1;
      return { transport: targetSide.client, handOver: handOverOf(targetSide.client) };
    },
  });
  await settle();
  return bed;
}

const open = (sender = 5, window = 100_000): Buffer =>
  channelOpen({ type: 'session', sender, window, maxPacket: 32_768 });
const exec = (line: string | Buffer, channel = 0): Buffer => channelRequest(channel, 'exec', true, { string: line });
const numbers = (payloads: readonly Buffer[]): number[] => payloads.map((payload) => payload[0]!);
const confirm = (window = 100_000): Buffer =>
  writeData(
    { byte: MSG.CHANNEL_OPEN_CONFIRMATION },
    { uint32: 0 },
    { uint32: 9 },
    { uint32: window },
    { uint32: 32_768 },
  );
const stderrOf = (payloads: readonly Buffer[]): string =>
  payloads
    .filter((payload) => payload[0] === MSG.CHANNEL_EXTENDED_DATA)
    .map((payload) => dataOf(payload)!.toString())
    .join('');

/** With a command that runs at the target. */
async function runningBed(): Promise<Bed> {
  const bed = await bedOf();
  await bed.send(open(), exec('cat'));
  await bed.fromTarget(confirm());
  await bed.fromTarget(bare(MSG.CHANNEL_SUCCESS, 0));
  bed.got.length = 0;
  return bed;
}

test('each request is answered in order, without waiting for the next', async () => {
  const bed = await bedOf();
  await bed.send(open());
  bed.got.length = 0;
  const pty = channelRequest(0, 'pty-req', true, { string: 'xterm' }, ...[80, 24, 0, 0].map((uint32) => ({ uint32 })), {
    string: Buffer.from([0]),
  });
  await bed.send(pty);
  assert.deepEqual(numbers(bed.got), [MSG.CHANNEL_SUCCESS]);
  await bed.send(pty, channelRequest(0, 'env', true, { string: 'LANG' }, { string: 'C' }));
  assert.deepEqual(numbers(bed.got), [MSG.CHANNEL_SUCCESS, MSG.CHANNEL_FAILURE, MSG.CHANNEL_SUCCESS]);
  await bed.send(channelRequest(0, 'frobnicate@example', true));
  assert.equal(bed.got.at(-1)?.[0], MSG.CHANNEL_FAILURE);
  assert.equal(bed.dials, 0);
});

test('a request behind a command that is not answered yet is answered after it', async () => {
  const bed = await bedOf();
  await bed.send(open(), exec('cat'), channelRequest(0, 'frobnicate@example', true), exec('second'));
  bed.got.length = 0;
  await bed.fromTarget(confirm());
  assert.deepEqual(numbers(bed.got), []);
  await bed.fromTarget(bare(MSG.CHANNEL_SUCCESS, 0));
  assert.deepEqual(numbers(bed.got), [MSG.CHANNEL_SUCCESS, MSG.CHANNEL_FAILURE, MSG.CHANNEL_FAILURE]);
});

test('what comes before the target is there waits in order, with its EOF', async () => {
  const bed = await bedOf();
  await bed.send(open(), exec('cat'), channelData(0, Buffer.from('abc')), bare(MSG.CHANNEL_EOF, 0));
  await bed.fromTarget(confirm());
  const onChannel = bed.targetGot.filter((payload) => payload[0]! > MSG.CHANNEL_OPEN);
  assert.deepEqual(numbers(onChannel), [MSG.CHANNEL_REQUEST, MSG.CHANNEL_DATA, MSG.CHANNEL_EOF]);
  assert.equal(dataOf(onChannel[1]!)!.toString(), 'abc');
  assert.ok(onChannel.every((payload) => payload.readUInt32BE(1) === 9));
});

test('INV-11: a byte a message is kept as what it is, not as a message each', async () => {
  const bed = await bedOf();
  bed.decide = () => HOLD;
  await bed.send(open(), exec('cat'));
  for (let at = 0; at < 20; at += 1)
    await bed.send(...Array.from({ length: 500 }, () => channelData(0, Buffer.from('x'))));
  bed.releaseHold({ kind: 'Approved', by: ['bob'] });
  await settle();
  await bed.fromTarget(confirm());
  const data = bed.targetGot.filter((payload) => payload[0] === MSG.CHANNEL_DATA);
  assert.ok(data.length <= 4, `${data.length} messages`);
  assert.equal(data.map((payload) => dataOf(payload)!.toString()).join(''), 'x'.repeat(10_000));
});

test('the client gets window as the target takes', async () => {
  const bed = await runningBed();
  await bed.send(channelData(0, Buffer.alloc(50_000)));
  assert.deepEqual(numbers(bed.got), []);
  await bed.fromTarget(windowAdjust(0, 2_000_000));
  assert.deepEqual(numbers(bed.got), [MSG.CHANNEL_WINDOW_ADJUST]);
  // 256 KiB at first, 50,000 used; the target takes 100,000 - 50,000 + 2,000,000.
  assert.equal(bed.got[0]!.readUInt32BE(5), 2_050_000 - (256 * 1024 - 50_000));
});

test('INV-11: a client that sends more than its window, or to no channel, or twice EOF, costs itself its connection', async () => {
  const floods: ((bed: Bed) => Promise<void>)[] = [
    async (bed) => {
      for (let at = 0; at < 5; at += 1) await bed.send(channelData(0, Buffer.alloc(100_000)));
    },
    (bed) => bed.send(channelData(3, Buffer.from('x'))),
    (bed) => bed.send(bare(MSG.CHANNEL_EOF, 0), channelData(0, Buffer.from('x'))),
    (bed) => bed.send(bare(MSG.CHANNEL_CLOSE, 0), bare(MSG.CHANNEL_CLOSE, 0)),
    (bed) => bed.send(Buffer.from([MSG.CHANNEL_DATA, 0, 0, 0, 0, 0, 0, 0, 9, 1])),
    (bed) => bed.send(...Array.from({ length: 3_000 }, () => channelData(0, Buffer.alloc(0)))),
    (bed) => bed.send(...Array.from({ length: 3_000 }, () => globalRequest('keepalive@openssh.com', true))),
    (bed) => bed.send(Buffer.from([MSG.CHANNEL_REQUEST, 0, 0])),
    (bed) => bed.send(windowAdjust(0, 2 ** 32 - 1), windowAdjust(0, 2 ** 32 - 1)),
    (bed) => bed.send(Buffer.from([127])),
  ];
  for (const [at, flood] of floods.entries()) {
    const bed = await bedOf();
    await bed.send(open());
    await flood(bed);
    for (let wait = 0; wait < 100 && bed.server.disconnected === undefined; wait += 1)
      await new Promise((resolve) => setTimeout(resolve, 20));
    assert.ok(bed.server.disconnected !== undefined, `flood ${at}`);
    assert.deepEqual(bed.ended, [{ reason: 'ClientFault' }], `flood ${at}`);
  }
});

test('INV-11: a target that sends what has no place ends the session, told to the client', async () => {
  const bed = await runningBed();
  await bed.fromTarget(channelData(7, Buffer.from('x')));
  for (let wait = 0; wait < 200 && bed.ended.length === 0; wait += 1)
    await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(bed.ended, [{ reason: 'TargetFault' }]);
  assert.match(stderrOf(bed.got), /the target broke the SSH protocol/);
});

test('keepalives are answered in holds, too; ^C on a terminal, INT and CLOSE withdraw', async () => {
  for (const withdraw of [
    (bed: Bed) => bed.send(channelRequest(0, 'signal', false, { string: 'INT' })),
    (bed: Bed) => bed.send(bare(MSG.CHANNEL_CLOSE, 0)),
  ]) {
    const bed = await bedOf();
    bed.decide = () => HOLD;
    await bed.send(open(), exec('rm'));
    assert.match(stderrOf(bed.got), /held as h-1/);
    assert.ok(numbers(bed.got).includes(MSG.CHANNEL_SUCCESS));
    await bed.send(globalRequest('keepalive@openssh.com', true));
    assert.equal(bed.got.at(-1)?.[0], MSG.REQUEST_FAILURE);
    await withdraw(bed);
    assert.equal(bed.withdrawn, 1);
    assert.equal(bed.got.at(-1)?.[0], MSG.CHANNEL_CLOSE);
    assert.equal(bed.dials, 0);
  }
});

test('our keys are announced, and proven on request; others are not', async () => {
  const bed = await bedOf();
  assert.equal(bed.got[0]?.[0], MSG.GLOBAL_REQUEST);
  assert.ok(bed.got[0]!.includes(hostKey.blob));
  await bed.send(globalRequest('hostkeys-prove-00@openssh.com', true, { string: hostKey.blob }));
  const answer = bed.got.at(-1)!;
  assert.equal(answer[0], MSG.REQUEST_SUCCESS);
  const signature = readData(answer, 1).string();
  const proven = writeData(
    { string: 'hostkeys-prove-00@openssh.com' },
    { string: bed.server.sessionId },
    { string: hostKey.blob },
  );
  assert.ok(verifySignature(hostKey.blob, 'ssh-ed25519', proven, signature));
  const other = ed25519Signer(Buffer.alloc(32, 4));
  await bed.send(globalRequest('hostkeys-prove-00@openssh.com', true, { string: other.blob }));
  assert.equal(bed.got.at(-1)?.[0], MSG.REQUEST_FAILURE);
});

test('nothing of the target’s global requests passes, nor channels that it opens', async () => {
  const bed = await runningBed();
  bed.targetGot.length = 0;
  await bed.fromTarget(
    globalRequest('hostkeys-00@openssh.com', false, { string: 'x' }),
    globalRequest('keepalive@openssh.com', true),
    Buffer.concat([
      channelOpen({ type: 'forwarded-tcpip', sender: 1, window: 1, maxPacket: 1 }),
      writeData({ string: '127.0.0.1' }, { uint32: 8080 }, { string: '127.0.0.1' }, { uint32: 1 }),
    ]),
  );
  assert.deepEqual(numbers(bed.targetGot), [MSG.REQUEST_FAILURE, MSG.CHANNEL_OPEN_FAILURE]);
  assert.deepEqual(numbers(bed.got), []);
});

test('no more sessions means none', async () => {
  const bed = await bedOf();
  await bed.send(globalRequest('no-more-sessions@openssh.com', false), open());
  for (let wait = 0; wait < 100 && bed.server.disconnected === undefined; wait += 1)
    await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(bed.server.disconnected !== undefined);
});

test('a tenth session is refused, and the nine go on', async () => {
  const bed = await bedOf();
  await bed.send(...Array.from({ length: 10 }, (_, at) => open(at)));
  const answers = numbers(bed.got).slice(1);
  assert.deepEqual(answers, [...Array<number>(9).fill(MSG.CHANNEL_OPEN_CONFIRMATION), MSG.CHANNEL_OPEN_FAILURE]);
});

test('a client that closed first still hears the exit status', async () => {
  const bed = await runningBed();
  await bed.send(bare(MSG.CHANNEL_EOF, 0), bare(MSG.CHANNEL_CLOSE, 0));
  await bed.fromTarget(
    channelData(0, Buffer.from('late')),
    channelRequest(0, 'exit-status', false, { uint32: 4 }),
    bare(MSG.CHANNEL_CLOSE, 0),
  );
  assert.deepEqual(numbers(bed.got), [MSG.CHANNEL_REQUEST, MSG.CHANNEL_CLOSE]);
  assert.equal(bed.targetGot.at(-1)?.[0], MSG.CHANNEL_CLOSE);
});

test('a target that goes away ends what runs, and the next command dials anew', async () => {
  const bed = await runningBed();
  bed.target.destroy();
  await settle();
  assert.match(stderrOf(bed.got), /the target closed the connection/);
  assert.equal(bed.got.at(-1)?.[0], MSG.CHANNEL_CLOSE);
  assert.equal(bed.server.disconnected, undefined);
  await bed.send(bare(MSG.CHANNEL_CLOSE, 0), open(6), exec('again'));
  assert.equal(bed.dials, 2);
});
