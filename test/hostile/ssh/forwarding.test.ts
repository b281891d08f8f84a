// Forwards against raw peers, message by message: a target that opens what nobody asked for, and both sides breaking
// what they agreed on. Rules and relay are the real ones.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  bare,
  channelData,
  channelOpen,
  channelRequest,
  dataOf,
  globalRequest,
  windowAdjust,
} from '../../../src/protocols/ssh/channels/messages.ts';
import { ALL_RIGHTS } from '../../../src/protocols/ssh/keys/certificate.ts';
import { readData } from '../../../src/protocols/ssh/wire/data.ts';
import { MSG, OPEN_FAILURE } from '../../../src/protocols/ssh/wire/message-numbers.ts';
import {
  came,
  commandsOf,
  direct,
  failure,
  forwardingBed,
  listen,
  open,
  success,
  untilEnded,
  x11Request,
} from '../../support/ssh-forwards.ts';
import { confirmation, numbers, type RelayBed, settle } from '../../support/ssh-relay-bed.ts';
import { sshPolicy } from '../../support/ssh-rules.ts';

test('INV-09: tunnels and unknown channels are refused and leave the connection as it is', async () => {
  const bed = await forwardingBed(['*:*', 'agent', 'x11']);
  await bed.fromClient(
    open('tun@openssh.com', 1, [{ uint32: 1 }, { uint32: 0x7fffffff }]),
    open('x11', 2, [{ string: '127.0.0.1' }, { uint32: 1 }]),
    open('auth-agent@openssh.com', 3, []),
    came('127.0.0.1', 80),
    direct('10.0.0.1', 443, 4),
  );
  assert.deepEqual(
    bed.clientGot.map((payload) => failure(payload).code),
    [1, 3, 3, 3],
  );
  assert.equal(commandsOf(bed)[0]?.['text'], 'tun forwarding');
  assert.deepEqual(numbers(bed.targetGot), [MSG.CHANNEL_OPEN]);
});

/** With one listener on 127.0.0.1:8080 that the target has confirmed. */
async function listening(...more: string[]): Promise<RelayBed> {
  const bed = await forwardingBed(['listen:127.0.0.1:8080', ...more]);
  await bed.fromClient(listen('localhost', 8080));
  assert.deepEqual(numbers(bed.targetGot), [MSG.GLOBAL_REQUEST]);
  await bed.fromTarget(success());
  assert.deepEqual(numbers(bed.clientGot), [MSG.REQUEST_SUCCESS]);
  bed.clientGot.length = 0;
  bed.targetGot.length = 0;
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
    numbers(bed.targetGot),
    foreign.map(() => MSG.CHANNEL_OPEN_FAILURE),
  );
  assert.deepEqual(bed.clientGot, []);
  assert.equal(bed.records.filter(({ body }) => body['by'] === 'Target').length, foreign.length);
  // What was asked for still comes in, under the name that the client gave it.
  await bed.fromTarget(came('127.0.0.1', 8080));
  assert.deepEqual(numbers(bed.clientGot), [MSG.CHANNEL_OPEN]);
  const reader = readData(bed.clientGot[0]!, 1);
  assert.equal(reader.text(), 'forwarded-tcpip');
  for (let skip = 0; skip < 3; skip += 1) reader.uint32();
  assert.equal(reader.text(), 'localhost');
});

test('a listener that is denied, pending, failed or cancelled lets nothing in', async () => {
  const denied = await forwardingBed([]);
  await denied.fromClient(listen('', 8080));
  assert.deepEqual(numbers(denied.clientGot), [MSG.REQUEST_FAILURE]);
  assert.equal(denied.targetGot.length, 0);
  const wildcard = await forwardingBed(['listen:127.0.0.1:8080']);
  await wildcard.fromClient(listen('', 8080), listen('0.0.0.0', 8080), listen('::', 8080), listen('10.0.0.1', 8080));
  assert.deepEqual(numbers(wildcard.clientGot), [82, 82, 82, 82]);
  const pending = await forwardingBed(['listen:127.0.0.1:8080']);
  await pending.fromClient(listen('127.0.0.1', 8080));
  await pending.fromTarget(came('127.0.0.1', 8080));
  assert.equal(pending.targetGot.at(-1)?.[0], MSG.CHANNEL_OPEN_FAILURE);
  await pending.fromTarget(Buffer.from([MSG.REQUEST_FAILURE]), came('127.0.0.1', 8080));
  assert.deepEqual(numbers(pending.clientGot), [MSG.REQUEST_FAILURE]);
  assert.equal(pending.targetGot.at(-1)?.[0], MSG.CHANNEL_OPEN_FAILURE);
  const cancelled = await listening();
  await cancelled.fromClient(listen('localhost', 8080, 'cancel-tcpip-forward'));
  await cancelled.fromTarget(came('127.0.0.1', 8080));
  assert.deepEqual(numbers(cancelled.targetGot), [MSG.GLOBAL_REQUEST, MSG.CHANNEL_OPEN_FAILURE]);
  // Nothing to cancel is answered here.
  await cancelled.fromTarget(success());
  await cancelled.fromClient(listen('localhost', 9999, 'cancel-tcpip-forward'));
  assert.deepEqual(numbers(cancelled.clientGot), [MSG.REQUEST_SUCCESS, MSG.REQUEST_FAILURE]);
});

test('port 0: the target’s choice is passed on, and a choice that is no port ends the session', async () => {
  const bed = await forwardingBed(['listen:127.0.0.1:0']);
  await bed.fromClient(listen('localhost', 0));
  await bed.fromTarget(success(40_000));
  assert.equal(bed.clientGot[0]?.readUInt32BE(1), 40_000);
  await bed.fromTarget(came('localhost', 40_000));
  assert.equal(bed.clientGot[1]?.[0], MSG.CHANNEL_OPEN);
  for (const port of [0, 65_536]) {
    const broken = await forwardingBed(['listen:127.0.0.1:0']);
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
  const live = async (): Promise<RelayBed> => {
    const bed = await forwardingBed(['10.0.0.1:443']);
    await bed.fromClient(direct('10.0.0.1', 443));
    await bed.fromTarget(confirmation(0, 9, 1_000));
    assert.deepEqual(numbers(bed.clientGot), [MSG.CHANNEL_OPEN_CONFIRMATION]);
    return bed;
  };
  const faults: [string, (bed: RelayBed) => Promise<void>][] = [
    // The client may send what the target takes, 1,000 bytes.
    ['ClientFault', (bed) => bed.fromClient(channelData(0, Buffer.alloc(1_001)))],
    ['ClientFault', (bed) => bed.fromClient(bare(MSG.CHANNEL_EOF, 0), channelData(0, Buffer.from('x')))],
    ['ClientFault', (bed) => bed.fromClient(bare(MSG.CHANNEL_CLOSE, 0), bare(MSG.CHANNEL_CLOSE, 0))],
    ['ClientFault', (bed) => bed.fromClient(confirmation(0))],
    ['ClientFault', (bed) => bed.fromClient(windowAdjust(0, 2 ** 32 - 1), windowAdjust(0, 2 ** 32 - 1))],
    ['TargetFault', (bed) => bed.fromTarget(channelData(0, Buffer.alloc(100_001)))],
    ['TargetFault', (bed) => bed.fromTarget(confirmation(0))],
    ['TargetFault', (bed) => bed.fromTarget(bare(MSG.CHANNEL_CLOSE, 0), channelData(0, Buffer.from('x')))],
    ['TargetFault', (bed) => bed.fromTarget(Buffer.from([MSG.CHANNEL_DATA, 0, 0, 0, 0, 0, 0, 0, 9, 1]))],
  ];
  for (const [at, [reason, fault]] of faults.entries()) {
    const bed = await live();
    await fault(bed);
    await untilEnded(bed);
    assert.deepEqual(bed.ended, [reason], `fault ${at}`);
  }
  const early = await forwardingBed(['10.0.0.1:443']);
  await early.fromClient(direct('10.0.0.1', 443), channelData(0, Buffer.from('x')));
  await untilEnded(early);
  assert.deepEqual(early.ended, ['ClientFault']);
});

test('a window given by one side is what the other may send; a keepalive on the channel is answered here', async () => {
  const bed = await forwardingBed(['10.0.0.1:443']);
  await bed.fromClient(direct('10.0.0.1', 443));
  await bed.fromTarget(confirmation(0, 9, 1_000));
  assert.equal(bed.clientGot[0]?.readUInt32BE(9), 1_000);
  await bed.fromClient(channelData(0, Buffer.alloc(1_000, 1)));
  assert.equal(dataOf(bed.targetGot.at(-1)!)!.length, 1_000);
  assert.equal(bed.clientGot.length, 1);
  await bed.fromTarget(windowAdjust(0, 50_000));
  assert.deepEqual([bed.clientGot[1]?.[0], bed.clientGot[1]?.readUInt32BE(5)], [MSG.CHANNEL_WINDOW_ADJUST, 50_000]);
  await bed.fromTarget(channelRequest(0, 'keepalive@openssh.com', true));
  assert.deepEqual([bed.targetGot.at(-1)?.[0], bed.targetGot.at(-1)?.readUInt32BE(1)], [MSG.CHANNEL_FAILURE, 9]);
  assert.equal(bed.clientGot.length, 2);
  await bed.fromClient(bare(MSG.CHANNEL_EOF, 0), bare(MSG.CHANNEL_CLOSE, 0));
  await bed.fromTarget(bare(MSG.CHANNEL_CLOSE, 0));
  assert.equal(bed.clientGot.at(-1)?.[0], MSG.CHANNEL_CLOSE);
  assert.deepEqual(numbers(bed.targetGot).slice(-2), [MSG.CHANNEL_EOF, MSG.CHANNEL_CLOSE]);
  // Its number is free again.
  await bed.fromClient(direct('10.0.0.1', 443));
  assert.equal(readData(bed.targetGot.at(-1)!, 5 + 'direct-tcpip'.length).uint32(), 0);
});

test('INV-11: 64 channels altogether, whoever opens them', async () => {
  const bed = await listening('10.0.0.1:443');
  await bed.fromClient(...Array.from({ length: 40 }, (_, at) => direct('10.0.0.1', 443, at)));
  await bed.fromTarget(...Array.from({ length: 30 }, (_, at) => came('127.0.0.1', 8080, at)));
  assert.equal(bed.clientGot.filter((payload) => payload[0] === MSG.CHANNEL_OPEN).length, 24);
  assert.equal(bed.targetGot.filter((payload) => payload[0] === MSG.CHANNEL_OPEN_FAILURE).length, 6);
  await bed.fromClient(direct('10.0.0.1', 443, 99));
  assert.equal(failure(bed.clientGot.at(-1)).code, OPEN_FAILURE.RESOURCE_SHORTAGE);
  assert.deepEqual(bed.ended, []);
});

test('INV-11: a target that opens without end what nobody asked for costs itself the session', async () => {
  const bed = await forwardingBed([]);
  bed.policy = sshPolicy({ run: { action: 'Allow', ssh: { commands: ['sleep *'] } } });
  await bed.fromClient(
    channelOpen({ type: 'session', sender: 1, window: 1_000, maxPacket: 1_000 }),
    channelRequest(0, 'exec', true, { string: 'sleep 1' }),
  );
  await bed.fromTarget(...Array.from({ length: 3_000 }, () => came('127.0.0.1', 1)));
  await untilEnded(bed);
  assert.deepEqual(bed.ended, ['TargetFault']);
});

test('what a certificate does not permit no rule gives', async () => {
  const bed = await forwardingBed(['*:*', 'listen:*:*', 'agent', 'x11', '/**'], {
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
  assert.deepEqual(numbers(bed.clientGot), [92, 82, 82, 91, 100, 100]);
  assert.equal(bed.targetGot.length, 0);
  assert.ok(commandsOf(bed).every(({ decision }) => decision === 'Deny'));
  assert.equal(commandsOf(bed).length, 5);
});

test('INV-03: after a cut nothing passes in either direction, nor does what is opened late', async () => {
  const bed = await listening('10.0.0.1:443');
  await bed.fromClient(direct('10.0.0.1', 443, 1), direct('10.0.0.1', 443, 2));
  await bed.fromTarget(confirmation(0, 11));
  await bed.fromTarget(came('127.0.0.1', 8080, 12));
  await bed.fromClient(confirmation(2, 13));
  bed.clientGot.length = 0;
  bed.targetGot.length = 0;
  bed.relay.cut({ code: 'Killed', message: 'killed by bob' });
  await settle();
  // Both ends at the target are closed, and it is told to listen no longer; the client hears CLOSE, and why.
  const closes = bed.targetGot
    .filter((payload) => payload[0] === MSG.CHANNEL_CLOSE)
    .map((payload) => payload.readUInt32BE(1));
  assert.deepEqual(new Set(closes), new Set([11, 12]));
  assert.equal(closes.length, 2);
  assert.ok(bed.targetGot.some((payload) => payload.includes('cancel-tcpip-forward')));
  assert.ok(
    numbers(bed.clientGot).every((number) => number === MSG.CHANNEL_CLOSE || number === MSG.CHANNEL_OPEN_FAILURE),
  );
  const before = bed.clientGot.length;
  await bed.fromTarget(
    channelData(0, Buffer.from('late')),
    channelData(2, Buffer.from('late')),
    came('127.0.0.1', 8080, 14),
    confirmation(1, 15),
  );
  await bed.fromClient(channelData(0, Buffer.from('late')));
  assert.equal(bed.clientGot.length, before);
  assert.ok(!bed.targetGot.some((payload) => payload[0] === MSG.CHANNEL_DATA));
  // Nothing there can have left a process behind: the target is let go of, and with it what is opened late.
  assert.ok(bed.targetClosed);
  assert.ok(
    !bed.targetGot.some((payload) => payload[0] === MSG.CHANNEL_OPEN_CONFIRMATION && payload.readUInt32BE(1) === 14),
  );
  const errors = bed.records.filter(({ kind, body }) => kind === 'result' && body['error'] !== undefined);
  assert.equal(errors.length, 3);
});

test('a hold of an open is withdrawn with the connection; one that is not granted is refused', async () => {
  const held = async (): Promise<RelayBed> => {
    const bed = await forwardingBed([]);
    bed.policy = sshPolicy({
      forwards: { action: 'Allow', ssh: { forwarding: ['10.0.0.1:443'] } },
      ask: { action: 'Hold', ssh: { forwarding: ['*:*'] } },
    });
    await bed.fromClient(direct('10.0.0.1', 443));
    assert.deepEqual([bed.clientGot.length, bed.targetGot.length], [0, 0]);
    return bed;
  };
  const gone = await held();
  gone.relay.cut({ code: 'Killed', message: 'killed' });
  await settle();
  assert.equal(gone.withdrawn, 1);
  assert.equal(gone.targetGot.length, 0);
  const refused = await held();
  refused.release({ kind: 'TimedOut' });
  await settle();
  assert.match(failure(refused.clientGot[0]).text, /nobody consented in time/);
  const released = await held();
  released.release({ kind: 'Approved', by: ['bob'] });
  await settle();
  assert.deepEqual(numbers(released.targetGot), [MSG.CHANNEL_OPEN]);
});

test('a target that goes away takes its forwards with it, and the next open dials anew', async () => {
  const bed = await listening('10.0.0.1:443');
  await bed.fromClient(direct('10.0.0.1', 443, 1), direct('10.0.0.1', 443, 2));
  await bed.fromTarget(confirmation(0, 11));
  bed.clientGot.length = 0;
  bed.targetEnd.destroy();
  await settle();
  assert.deepEqual(numbers(bed.clientGot), [MSG.CHANNEL_CLOSE, MSG.CHANNEL_OPEN_FAILURE]);
  assert.deepEqual(bed.ended, []);
  await bed.fromClient(bare(MSG.CHANNEL_CLOSE, 0));
  assert.equal(bed.records.filter(({ kind }) => kind === 'result').length, 3);
});
