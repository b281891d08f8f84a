// What the gateway believes of what it is fed, and what it does when it is fed nothing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { signShard } from '../../src/policy/bundle-signing.ts';
import {
  type Client,
  CONNECTION_UID,
  grantFor,
  type Harness,
  signingKey,
  startHarness,
  until,
} from '../support/gateway-harness.ts';

const refusals = (h: Harness): unknown[] =>
  h.logged
    .filter(({ message }) => message.startsWith('a bundle shard was refused'))
    .map(({ fields }) => fields['reason']);
const tryLogin = async (h: Harness, grant = grantFor(h.clock)): Promise<string> => {
  const client = await h.connect();
  const answer = await client.ask(`TICKET ${h.ticket(grant)}`);
  client.socket.destroy();
  return answer;
};

test('INV-04: unsigned, badly signed, altered and malformed shards are refused; the good one stays in force', async (t) => {
  const h = await startHarness(t);
  const client = await h.login();
  const stranger = signingKey();
  const grants = { grants: [grantFor(h.clock, { uid: 'eeeeeeee-0000-4000-8000-000000000009', name: 'forged' })] };
  const shard = { connectionUid: CONNECTION_UID, shard: 'grants-1' as const, epoch: 9, sequence: 9, payload: grants };
  const good = signShard(h.key, shard);
  const deliver = (change: object): void => h.deliver({ kind: 'Shard', envelope: { ...good, ...change } });
  deliver({ signatures: [] });
  h.deliver({ kind: 'Shard', envelope: signShard(stranger, shard) });
  deliver({
    signatures: signShard(stranger, shard).signatures.map((signature) => ({ ...signature, keyId: h.key.keyId })),
  });
  deliver({ payload: good.payload.replace('forged', 'altered') });
  for (const change of [{ shard: 'grants-2' }, { epoch: 10 }, { sequence: 10 }]) deliver(change); // signed as another
  deliver({ format: 2 });
  deliver({ payload: 7 });
  deliver({ sequence: -1 });
  deliver({ signatures: 'x' });
  deliver({ payload: ' '.repeat(256 * 1024 + 1) });
  h.deliver({ kind: 'Shard', envelope: signShard(h.key, { ...shard, payload: { grants: [{ uid: 1 }] } }) });
  h.deliver({ kind: 'Shard', envelope: signShard(h.key, { ...shard, shard: 'grants-x' as 'grants-1' }) });
  assert.deepEqual(refusals(h), [
    'Unsigned',
    'Signature',
    'Signature',
    'Hash',
    'Signature',
    'Signature',
    'Signature',
    'Format',
    'Malformed',
    'Malformed',
    'Malformed',
    'TooBig',
    'Payload',
    'Payload',
  ]);
  assert.match(await tryLogin(h, grants.grants[0]), /^ERROR InvalidProof/);
  assert.equal(await client.ask('GET a'), 'VALUE -', 'the live session never noticed');
  h.deliver({ kind: 'Shard', envelope: good });
  assert.match(await tryLogin(h, grants.grants[0]), /^WELCOME/, 'the same shard as it was signed is taken');
});

test('INV-04: an older shard, and another content under the same sequence, are refused', async (t) => {
  const h = await startHarness(t);
  const locked = { locks: [{ name: 'l', target: { everything: true }, reason: 'x' }], voidTickets: [] };
  const open = { locks: [], voidTickets: [] };
  const at = (epoch: number, sequence: number, payload: unknown): void =>
    h.deliver({
      kind: 'Shard',
      envelope: signShard(h.key, { connectionUid: CONNECTION_UID, shard: 'overlay', epoch, sequence, payload }),
    });
  at(2, 5, locked);
  at(2, 5, locked); // repeated: no event
  at(2, 5, open);
  at(2, 4, open);
  at(1, 999, open);
  assert.deepEqual(refusals(h), ['SameSequenceOtherContent', 'Older', 'Older']);
  assert.match(await tryLogin(h), /^ERROR Locked/);
  // Not even a shard that was taken away in between makes an older one new again.
  h.deliver({ kind: 'ShardGone', connectionUid: CONNECTION_UID, shard: 'overlay' });
  at(2, 4, open);
  assert.match(await tryLogin(h), /^ERROR Locked/);
  at(3, 0, open);
  assert.match(await tryLogin(h), /^WELCOME/);
});

test('INV-12: a shard of another Connection changes nothing here, nor does one this process does not serve', async (t) => {
  const h = await startHarness(t, { serves: (uid) => uid === CONNECTION_UID || uid === 'served' });
  const client = await h.login();
  h.publish('grants-0', { grants: [] }, { connectionUid: 'foreign' });
  h.publish('grants-0', { grants: [] }, { connectionUid: 'served' });
  const policy = {
    connection: { uid: CONNECTION_UID, name: 'x', namespace: 'y', generation: 1, spec: {} },
    policies: [],
  };
  h.publish('policy', policy, { connectionUid: 'served' });
  assert.deepEqual(refusals(h), ['Foreign', 'Foreign']);
  assert.equal(await client.ask('GET a'), 'VALUE -');
  assert.deepEqual([...h.gateway.endpoints().keys()], [CONNECTION_UID]);
});

test('INV-04: without a heartbeat no new command runs and nobody logs in; it recovers by itself', async (t) => {
  const h = await startHarness(t);
  const client = await h.login();
  h.clock.advance(300_000);
  assert.equal(await client.ask('GET a'), 'VALUE -');
  h.clock.advance(1);
  assert.match(await client.ask('GET a'), /^DENIED ControllerSilent/);
  assert.match(await tryLogin(h), /^ERROR Unavailable .*no heartbeat/);
  assert.equal(h.gateway.ready().ok, false);
  h.heartbeat();
  assert.equal(await client.ask('GET a'), 'VALUE -');
  assert.equal(h.gateway.ready().ok, true);
});

test('INV-04: a machine that slept, and a heartbeat that was kept back, count as silence', async (t) => {
  const h = await startHarness(t);
  const client = await h.login();
  // Monotonic time stands still in sleep; wall time does not.
  h.clock.setWall(h.clock.now() + 300_001);
  assert.match(await client.ask('GET a'), /^DENIED ControllerSilent/);
  h.publish('heartbeat', { atMs: h.clock.now() - 300_001 });
  assert.match(await client.ask('GET a'), /^DENIED ControllerSilent/, 'signed long ago, delivered now');
  h.heartbeat();
  assert.equal(await client.ask('GET a'), 'VALUE -');
  h.publish('heartbeat', { atMs: h.clock.now() + 300_001 });
  assert.match(await client.ask('GET a'), /^DENIED ControllerSilent .*clock of this machine is behind/);
});

test('INV-04: nothing is allowed before policy, locks and a heartbeat are all known', async (t) => {
  const h = await startHarness(t, { bare: true });
  h.policy();
  h.grants(grantFor(h.clock));
  await until(() => h.gateway.endpoints().size === 1, 'listening');
  assert.match(await tryLogin(h), /^ERROR Unavailable .*locks have not arrived/);
  h.overlay();
  assert.match(await tryLogin(h), /^ERROR Unavailable .*no heartbeat/);
  h.heartbeat();
  assert.match(await tryLogin(h), /^WELCOME/);
});

test('a grant may be used from its begin on', async (t) => {
  const h = await startHarness(t);
  const grant = grantFor(h.clock, { notBeforeMs: h.clock.now() + 60_000 });
  h.grants(grant);
  assert.match(await tryLogin(h, grant), /^ERROR NotActive Grant orders-db-7fk2p begins at 2026-01-01 00:01:00Z/);
  h.clock.advance(60_000);
  assert.match(await tryLogin(h, grant), /^WELCOME/);
});

test('a Connection that is removed ends its sessions and frees its port; one that comes back is served', async (t) => {
  const h = await startHarness(t);
  const client = await h.login();
  let changes = 0;
  const stop = h.gateway.onEndpoints(() => changes++);
  h.deliver({ kind: 'ShardGone', connectionUid: CONNECTION_UID, shard: 'policy' });
  assert.match(await client.next(), /^CUT PolicyChanged Connection orders-db was removed/);
  assert.equal(h.gateway.endpoints().size, 0);
  h.policy();
  await until(() => h.gateway.endpoints().size === 1, 'listening again');
  assert.match(await tryLogin(h), /^WELCOME/);
  assert.equal(changes, 2);
  stop();
});

test('a listener moves without touching live sessions', async (t) => {
  let port = 0;
  const h = await startHarness(t, { listen: () => ({ host: '127.0.0.1', port }) });
  const client: Client = await h.login();
  const first = h.gateway.endpoints().get(CONNECTION_UID)!;
  port = await freePort();
  h.policy({}, { limits: { sessions: 7 } });
  await until(() => h.gateway.endpoints().get(CONNECTION_UID)?.port === port, 'moved');
  assert.notEqual(first.port, port);
  assert.equal(await client.ask('GET a'), 'VALUE -');
  assert.match(await tryLogin(h), /^WELCOME/);
});

test('a port that is taken is told, and tried again', async (t) => {
  const net = await import('node:net');
  const blocker = net.createServer();
  await new Promise<void>((resolve) => blocker.listen(0, '127.0.0.1', resolve));
  const { port } = blocker.address() as { port: number };
  const h = await startHarness(t, { listen: () => ({ host: '127.0.0.1', port }) });
  assert.deepEqual(h.gateway.ready().reasons, [
    `payments/orders-db: 127.0.0.1:${port} can not be listened on (EADDRINUSE)`,
  ]);
  await new Promise<void>((resolve) => blocker.close(() => resolve()));
  h.clock.advance(250);
  await until(() => h.gateway.endpoints().size === 1, 'listening');
  assert.equal(h.gateway.ready().ok, true);
});

async function freePort(): Promise<number> {
  const net = await import('node:net');
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}
