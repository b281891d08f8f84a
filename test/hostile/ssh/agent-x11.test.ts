// Agent and X11 against raw peers: let through once, for a session, and not a message longer.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  bare,
  channelData,
  channelOpen,
  channelRequest,
  dataOf,
} from '../../../src/protocols/ssh/channels/messages.ts';
import { readData } from '../../../src/protocols/ssh/wire/data.ts';
import { MSG } from '../../../src/protocols/ssh/wire/message-numbers.ts';
import { COOKIE, forwardingBed, open, texts, x11Request } from '../../support/ssh-forwards.ts';
import { confirmation, numbers, type RelayBed } from '../../support/ssh-relay-bed.ts';
import { sshPolicy } from '../../support/ssh-rules.ts';

async function running(bed: RelayBed, ...requests: Buffer[]): Promise<void> {
  await bed.fromClient(
    channelOpen({ type: 'session', sender: 1, window: 100_000, maxPacket: 32_768 }),
    ...requests,
    channelRequest(0, 'exec', true, { string: 'sleep 9' }),
  );
  await bed.fromTarget(confirmation(0));
  for (let request = 0; request < 3; request += 1) {
    const asked = bed.targetGot.at(-1);
    if (asked?.[0] !== MSG.CHANNEL_REQUEST || readData(asked, 5).text() === 'exec') break;
    await bed.fromTarget(bare(MSG.CHANNEL_SUCCESS, 0));
  }
  await bed.fromTarget(bare(MSG.CHANNEL_SUCCESS, 0));
}

const x11Came = (sender: number): Buffer => open('x11', sender, [{ string: '127.0.0.1' }, { uint32: 1 }]);

test('X11: only as let through, a single connection once, its cookie in no record', async () => {
  const bed = await forwardingBed(['x11']);
  await running(bed, x11Request(true));
  const asked = bed.targetGot.find((payload) => payload[0] === MSG.CHANNEL_REQUEST)!;
  assert.ok(asked.includes(COOKIE));
  bed.clientGot.length = 0;
  bed.targetGot.length = 0;
  await bed.fromTarget(x11Came(4), x11Came(5));
  assert.deepEqual(numbers(bed.clientGot), [MSG.CHANNEL_OPEN]);
  assert.deepEqual(numbers(bed.targetGot), [MSG.CHANNEL_OPEN_FAILURE]);
  await bed.fromClient(confirmation(1, 6));
  await bed.fromTarget(channelData(1, Buffer.from(`l\0\0\0${COOKIE}`)));
  assert.ok(dataOf(bed.clientGot.at(-1)!)!.includes(COOKIE));
  assert.ok(!JSON.stringify(bed.records).includes(COOKIE));
  assert.ok(!JSON.stringify(bed.records).includes(Buffer.from(COOKIE).toString('base64').slice(4, 20)));
  const many = await forwardingBed(['x11']);
  await running(many, x11Request(false));
  await many.fromTarget(x11Came(4), x11Came(5));
  assert.equal(many.clientGot.filter((payload) => payload[0] === MSG.CHANNEL_OPEN).length, 2);
});

test('X11 words that a shell or xauth could read otherwise, and features too late or twice, are refused', async () => {
  const bed = await forwardingBed(['x11', 'agent']);
  const agent = channelRequest(0, 'auth-agent-req@openssh.com', true);
  await bed.fromClient(
    channelOpen({ type: 'session', sender: 1, window: 100_000, maxPacket: 32_768 }),
    x11Request(false, 'zz; id'),
    x11Request(false, COOKIE, 'a b'),
    x11Request(false, COOKIE, '-x\n'),
    agent,
    agent,
  );
  assert.deepEqual(numbers(bed.clientGot).slice(1), [100, 100, 100, 99, 100]);
  await bed.fromClient(channelRequest(0, 'exec', true, { string: 'sleep 9' }));
  await bed.fromClient(x11Request(false));
  await bed.fromTarget(confirmation(0), bare(MSG.CHANNEL_SUCCESS, 0), bare(MSG.CHANNEL_SUCCESS, 0));
  assert.deepEqual(numbers(bed.clientGot).slice(-2), [99, 100]);
});

test('the agent is reached while the session runs that it was let through for, and not afterwards', async () => {
  const agent = channelRequest(0, 'auth-agent-req@openssh.com', true);
  const opening = (sender: number): Buffer => open('auth-agent@openssh.com', sender, []);
  const unasked = await forwardingBed(['agent']);
  await running(unasked);
  await unasked.fromTarget(opening(4));
  assert.equal(unasked.targetGot.at(-1)?.[0], MSG.CHANNEL_OPEN_FAILURE);
  const bed = await forwardingBed(['agent']);
  await running(bed, agent);
  await bed.fromTarget(opening(4));
  assert.equal(bed.clientGot.at(-1)?.[0], MSG.CHANNEL_OPEN);
  bed.policy = sshPolicy({ run: { action: 'Allow', ssh: { commands: ['sleep *'] } } });
  await bed.fromTarget(opening(5));
  assert.equal(bed.targetGot.at(-1)?.[0], MSG.CHANNEL_OPEN_FAILURE);
  bed.policy = sshPolicy({ agents: { action: 'Allow', ssh: { forwarding: ['agent'] } } });
  await bed.fromTarget(bare(MSG.CHANNEL_CLOSE, 0), opening(6));
  assert.equal(bed.targetGot.at(-1)?.[0], MSG.CHANNEL_OPEN_FAILURE);
  const wide = await forwardingBed(['*:*', '0.0.0.0/0:*', '/**']);
  await wide.fromClient(
    channelOpen({ type: 'session', sender: 1, window: 1_000, maxPacket: 1_000 }),
    agent,
    x11Request(false),
  );
  assert.deepEqual(numbers(wide.clientGot).slice(1), [100, 100]);
  assert.deepEqual(texts(wide), ['agent forwarding Deny', 'x11 forwarding Deny']);
});
