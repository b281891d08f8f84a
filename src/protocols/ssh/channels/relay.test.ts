// The relay between a client and a target that send what they like, message by message.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  confirmation,
  numbers,
  type RelayBed,
  relayBed,
  relayHostKey,
  settle,
  until,
} from '../../../../test/support/ssh-relay-bed.ts';
import { sshPolicy } from '../../../../test/support/ssh-rules.ts';
import { ed25519Signer } from '../keys/signer.ts';
import { verifySignature } from '../keys/verify.ts';
import { readData, writeData } from '../wire/data.ts';
import { MSG } from '../wire/message-numbers.ts';
import { bare, channelData, channelOpen, channelRequest, dataOf, globalRequest, windowAdjust } from './messages.ts';

const HELD = sshPolicy({
  run: { action: 'Allow', ssh: { commands: ['cat', 'rm'] } },
  held: { action: 'Hold', ssh: { commands: ['cat', 'rm'] } },
});

const open = (sender = 5, window = 100_000): Buffer =>
  channelOpen({ type: 'session', sender, window, maxPacket: 32_768 });
const exec = (line: string | Buffer, channel = 0): Buffer => channelRequest(channel, 'exec', true, { string: line });
const stderrOf = (payloads: readonly Buffer[]): string =>
  payloads
    .filter((payload) => payload[0] === MSG.CHANNEL_EXTENDED_DATA)
    .map((payload) => dataOf(payload)!.toString())
    .join('');

/** With a command that runs at the target. */
async function runningBed(): Promise<RelayBed> {
  const bed = await relayBed();
  await bed.fromClient(open(), exec('cat'));
  await bed.fromTarget(confirmation(0));
  await bed.fromTarget(bare(MSG.CHANNEL_SUCCESS, 0));
  bed.clientGot.length = 0;
  return bed;
}

test('each request is answered in order, without waiting for the next', async () => {
  const bed = await relayBed();
  await bed.fromClient(open());
  bed.clientGot.length = 0;
  const pty = channelRequest(0, 'pty-req', true, { string: 'xterm' }, ...[80, 24, 0, 0].map((uint32) => ({ uint32 })), {
    string: Buffer.from([0]),
  });
  await bed.fromClient(pty);
  assert.deepEqual(numbers(bed.clientGot), [MSG.CHANNEL_SUCCESS]);
  await bed.fromClient(pty, channelRequest(0, 'env', true, { string: 'LANG' }, { string: 'C' }));
  assert.deepEqual(numbers(bed.clientGot), [MSG.CHANNEL_SUCCESS, MSG.CHANNEL_FAILURE, MSG.CHANNEL_SUCCESS]);
  await bed.fromClient(channelRequest(0, 'frobnicate@example', true));
  assert.equal(bed.clientGot.at(-1)?.[0], MSG.CHANNEL_FAILURE);
  assert.equal(bed.dials, 0);
});

test('a request behind a command that is not answered yet is answered after it', async () => {
  const bed = await relayBed();
  await bed.fromClient(open(), exec('cat'), channelRequest(0, 'frobnicate@example', true), exec('second'));
  bed.clientGot.length = 0;
  await bed.fromTarget(confirmation(0));
  assert.deepEqual(numbers(bed.clientGot), []);
  await bed.fromTarget(bare(MSG.CHANNEL_SUCCESS, 0));
  assert.deepEqual(numbers(bed.clientGot), [MSG.CHANNEL_SUCCESS, MSG.CHANNEL_FAILURE, MSG.CHANNEL_FAILURE]);
});

test('what comes before the target is there waits in order, with its EOF', async () => {
  const bed = await relayBed();
  await bed.fromClient(open(), exec('cat'), channelData(0, Buffer.from('abc')), bare(MSG.CHANNEL_EOF, 0));
  await bed.fromTarget(confirmation(0));
  const onChannel = bed.targetGot.filter((payload) => payload[0]! > MSG.CHANNEL_OPEN);
  assert.deepEqual(numbers(onChannel), [MSG.CHANNEL_REQUEST, MSG.CHANNEL_DATA, MSG.CHANNEL_EOF]);
  assert.equal(dataOf(onChannel[1]!)!.toString(), 'abc');
  assert.ok(onChannel.every((payload) => payload.readUInt32BE(1) === 9));
});

test('INV-11: a byte a message is kept as what it is, not as a message each', async () => {
  const bed = await relayBed();
  bed.policy = HELD;
  await bed.fromClient(open(), exec('cat'));
  for (let at = 0; at < 20; at += 1)
    await bed.fromClient(...Array.from({ length: 500 }, () => channelData(0, Buffer.from('x'))));
  bed.release({ kind: 'Approved', by: ['bob'] });
  await settle();
  await bed.fromTarget(confirmation(0));
  const data = bed.targetGot.filter((payload) => payload[0] === MSG.CHANNEL_DATA);
  assert.ok(data.length <= 4, `${data.length} messages`);
  assert.equal(data.map((payload) => dataOf(payload)!.toString()).join(''), 'x'.repeat(10_000));
});

test('the client gets window as the target takes', async () => {
  const bed = await runningBed();
  await bed.fromClient(channelData(0, Buffer.alloc(50_000)));
  assert.deepEqual(numbers(bed.clientGot), []);
  await bed.fromTarget(windowAdjust(0, 2_000_000));
  assert.deepEqual(numbers(bed.clientGot), [MSG.CHANNEL_WINDOW_ADJUST]);
  // 256 KiB at first, 50,000 used; the target takes 100,000 - 50,000 + 2,000,000.
  assert.equal(bed.clientGot[0]!.readUInt32BE(5), 2_050_000 - (256 * 1024 - 50_000));
});

test('INV-11: a client that sends more than its window, or to no channel, or twice EOF, costs itself its connection', async () => {
  const floods: ((bed: RelayBed) => Promise<void>)[] = [
    async (bed) => {
      for (let at = 0; at < 5; at += 1) await bed.fromClient(channelData(0, Buffer.alloc(100_000)));
    },
    (bed) => bed.fromClient(channelData(3, Buffer.from('x'))),
    (bed) => bed.fromClient(bare(MSG.CHANNEL_EOF, 0), channelData(0, Buffer.from('x'))),
    (bed) => bed.fromClient(bare(MSG.CHANNEL_CLOSE, 0), bare(MSG.CHANNEL_CLOSE, 0)),
    (bed) => bed.fromClient(Buffer.from([MSG.CHANNEL_DATA, 0, 0, 0, 0, 0, 0, 0, 9, 1])),
    (bed) => bed.fromClient(...Array.from({ length: 3_000 }, () => channelData(0, Buffer.alloc(0)))),
    (bed) => bed.fromClient(...Array.from({ length: 3_000 }, () => globalRequest('keepalive@openssh.com', true))),
    (bed) => bed.fromClient(Buffer.from([MSG.CHANNEL_REQUEST, 0, 0])),
    (bed) => bed.fromClient(windowAdjust(0, 2 ** 32 - 1), windowAdjust(0, 2 ** 32 - 1)),
    (bed) => bed.fromClient(Buffer.from([127])),
  ];
  for (const [at, flood] of floods.entries()) {
    const bed = await relayBed();
    await bed.fromClient(open());
    await flood(bed);
    await until(() => bed.relayEnd.disconnected !== undefined);
    assert.ok(bed.relayEnd.disconnected !== undefined, `flood ${at}`);
    assert.deepEqual(bed.ended, ['ClientFault'], `flood ${at}`);
  }
});

test('INV-11: a target that sends what has no place ends the session, told to the client', async () => {
  const bed = await runningBed();
  await bed.fromTarget(channelData(7, Buffer.from('x')));
  await until(() => bed.ended.length > 0);
  assert.deepEqual(bed.ended, ['TargetFault']);
  assert.match(stderrOf(bed.clientGot), /the target broke the SSH protocol/);
});

test('keepalives are answered in holds, too; ^C on a terminal, INT and CLOSE withdraw', async () => {
  for (const withdraw of [
    (bed: RelayBed) => bed.fromClient(channelRequest(0, 'signal', false, { string: 'INT' })),
    (bed: RelayBed) => bed.fromClient(bare(MSG.CHANNEL_CLOSE, 0)),
  ]) {
    const bed = await relayBed();
    bed.policy = HELD;
    await bed.fromClient(open(), exec('rm'));
    assert.match(stderrOf(bed.clientGot), /held as h-1/);
    assert.ok(numbers(bed.clientGot).includes(MSG.CHANNEL_SUCCESS));
    await bed.fromClient(globalRequest('keepalive@openssh.com', true));
    assert.equal(bed.clientGot.at(-1)?.[0], MSG.REQUEST_FAILURE);
    await withdraw(bed);
    assert.equal(bed.withdrawn, 1);
    assert.equal(bed.clientGot.at(-1)?.[0], MSG.CHANNEL_CLOSE);
    assert.equal(bed.dials, 0);
  }
});

test('our keys are announced, and proven on request; others are not', async () => {
  const bed = await relayBed();
  assert.equal(bed.clientGot[0]?.[0], MSG.GLOBAL_REQUEST);
  assert.ok(bed.clientGot[0]!.includes(relayHostKey.blob));
  await bed.fromClient(globalRequest('hostkeys-prove-00@openssh.com', true, { string: relayHostKey.blob }));
  const answer = bed.clientGot.at(-1)!;
  assert.equal(answer[0], MSG.REQUEST_SUCCESS);
  const signature = readData(answer, 1).string();
  const proven = writeData(
    { string: 'hostkeys-prove-00@openssh.com' },
    { string: bed.relayEnd.sessionId },
    { string: relayHostKey.blob },
  );
  assert.ok(verifySignature(relayHostKey.blob, 'ssh-ed25519', proven, signature));
  const other = ed25519Signer(Buffer.alloc(32, 4));
  await bed.fromClient(globalRequest('hostkeys-prove-00@openssh.com', true, { string: other.blob }));
  assert.equal(bed.clientGot.at(-1)?.[0], MSG.REQUEST_FAILURE);
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
  assert.deepEqual(numbers(bed.clientGot), []);
});

test('no more sessions means none', async () => {
  const bed = await relayBed();
  await bed.fromClient(globalRequest('no-more-sessions@openssh.com', false), open());
  await until(() => bed.relayEnd.disconnected !== undefined);
  assert.ok(bed.relayEnd.disconnected !== undefined);
});

test('a ninth session is refused, and the eight go on', async () => {
  const bed = await relayBed();
  await bed.fromClient(...Array.from({ length: 9 }, (_, at) => open(at)));
  const answers = numbers(bed.clientGot).slice(1);
  assert.deepEqual(answers, [...Array<number>(8).fill(MSG.CHANNEL_OPEN_CONFIRMATION), MSG.CHANNEL_OPEN_FAILURE]);
});

test('a client that closed first still hears the exit status', async () => {
  const bed = await runningBed();
  await bed.fromClient(bare(MSG.CHANNEL_EOF, 0), bare(MSG.CHANNEL_CLOSE, 0));
  await bed.fromTarget(
    channelData(0, Buffer.from('late')),
    channelRequest(0, 'exit-status', false, { uint32: 4 }),
    bare(MSG.CHANNEL_CLOSE, 0),
  );
  assert.deepEqual(numbers(bed.clientGot), [MSG.CHANNEL_REQUEST, MSG.CHANNEL_CLOSE]);
  assert.equal(bed.targetGot.at(-1)?.[0], MSG.CHANNEL_CLOSE);
});

test('a target that goes away ends what runs, and the next command dials anew', async () => {
  const bed = await runningBed();
  bed.targetEnd.destroy();
  await settle();
  assert.match(stderrOf(bed.clientGot), /the target closed the connection/);
  assert.equal(bed.clientGot.at(-1)?.[0], MSG.CHANNEL_CLOSE);
  assert.equal(bed.relayEnd.disconnected, undefined);
  await bed.fromClient(bare(MSG.CHANNEL_CLOSE, 0), open(6), exec('again'));
  assert.equal(bed.dials, 2);
});

test('INV-03: where the sweep can not run, what runs is signalled over its channel, in time', async () => {
  const SWEEP = 0x5a11;
  const refused = writeData(
    { byte: MSG.CHANNEL_OPEN_FAILURE },
    { uint32: SWEEP },
    { uint32: 2 },
    { string: '' },
    { string: '' },
  );
  for (const answers of [[refused], [confirmation(SWEEP, 11), bare(MSG.CHANNEL_CLOSE, SWEEP)]]) {
    const bed = await runningBed();
    bed.targetGot.length = 0;
    const begun = performance.now();
    const signals: { name: string; ms: number }[] = [];
    bed.targetEnd.onMessage = (payload) => {
      bed.targetGot.push(payload);
      const name =
        payload[0] === MSG.CHANNEL_REQUEST ? /(HUP|TERM|KILL)$/.exec(payload.toString('latin1'))?.[1] : undefined;
      if (name !== undefined) signals.push({ name, ms: performance.now() - begun });
    };
    bed.relay.cut({ code: 'Expired', message: 'the grant expired' });
    await bed.fromTarget(...answers);
    await until(() => bed.ended.length > 0);
    assert.deepEqual(bed.ended, ['Expired']);
    assert.deepEqual(
      signals.map(({ name }) => name),
      ['HUP', 'TERM', 'KILL'],
    );
    assert.ok(signals[2]!.ms - signals[1]!.ms > 100, 'programs get their time to end');
  }
});
