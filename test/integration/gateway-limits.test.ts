// What peers can cost: handshakes, sessions, failures, and where the gateway may be sent.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { generateClientKey } from '../../src/identity/keys.ts';
import { alice, grantFor, startHarness, until } from '../support/gateway-harness.ts';

test('INV-11: a handshake that takes too long is closed, however slowly it talks', async (t) => {
  const h = await startHarness(t, { limits: { handshakeMs: 1_000 } });
  const slow = await h.connect();
  slow.socket.write('TICK');
  await until(() => h.gateway.sessions().length === 1, 'accepted');
  h.clock.advance(900);
  slow.socket.write('ET');
  h.clock.advance(600);
  await slow.closed;
  assert.equal(h.gateway.sessions().length, 0);
});

test('INV-11: half-open handshakes are bounded per address and process; sessions do not count', async (t) => {
  const h = await startHarness(t, { limits: { halfOpen: 3, halfOpenPerAddress: 2 } });
  const live = await h.login();
  const first = await h.connect();
  const second = await h.connect();
  await until(() => h.gateway.sessions().length === 3, 'two are half-open');
  const third = await h.connect();
  await third.closed;
  assert.equal(await live.ask('GET a'), 'VALUE -');
  first.socket.destroy();
  await until(() => h.gateway.sessions().length === 2, 'one gave its place back');
  await h.login();
  second.socket.destroy();
});

test('INV-11: a flood of bytes before the login costs its sender the connection', async (t) => {
  const h = await startHarness(t);
  const client = await h.connect();
  client.socket.write('x'.repeat(1_000_000));
  assert.match(await client.next(), /^ERROR a line has at most 4096 bytes/);
  await client.closed;
  await until(() => h.gateway.sessions().length === 0, 'nothing is left');
});

test('INV-11: sessions are bounded per Connection and per person, and places come back', async (t) => {
  const h = await startHarness(t);
  h.policy({}, { limits: { sessions: 3, sessionsPerUser: 2 } });
  const bobKey = generateClientKey();
  const bob = grantFor(h.clock, {
    uid: 'bbbbbbbb-0000-4000-8000-000000000002',
    principal: { username: 'bob', groups: ['payments'], aliases: [] },
    clientKey: bobKey.publicKey,
  });
  h.grants(grantFor(h.clock), bob);
  const first = await h.login();
  await h.login();
  const third = await h.connect();
  assert.match(await third.ask(`TICKET ${h.ticket(grantFor(h.clock))}`), /^ERROR LimitReached You have as many/);
  const fourth = await h.connect();
  assert.match(await fourth.ask(`TICKET ${h.ticket(bob, bobKey)}`), /^WELCOME/);
  const fifth = await h.connect();
  assert.match(
    await fifth.ask(`TICKET ${h.ticket(bob, bobKey)}`),
    /^ERROR LimitReached Connection orders-db has as many/,
  );
  first.socket.destroy();
  await until(() => h.gateway.sessions().filter(({ state }) => state === 'Live').length === 2, 'one ended');
  await h.login();
});

test('INV-11: guesses are cut short after a burst; whoever shares the address still gets in', async (t) => {
  const h = await startHarness(t, { limits: { failureBurst: 3, failureRefillMs: 1_000 } });
  const guess = async (): Promise<string> => {
    const client = await h.connect();
    return client.ask('TICKET guess');
  };
  for (let i = 0; i < 3; i++) assert.match(await guess(), /^ERROR InvalidProof/);
  assert.match(await guess(), /^ERROR LimitReached Too many failed logins/);
  await h.login();
  h.clock.advance(2_000);
  assert.match(await guess(), /^ERROR InvalidProof/);
});

test('INV-05: the credential goes nowhere that its Secret does not list, and into no message', async (t) => {
  const h = await startHarness(t);
  const ticket = (): string => `TICKET ${h.ticket(grantFor(h.clock), alice)}`;
  for (const hosts of [[], ['db.example'], ['127.0.0.1:1'], ['*'], ['127.0.0.*']]) {
    h.credential.hosts = hosts;
    const client = await h.connect();
    assert.match(await client.ask(ticket()), /^ERROR the Secret of the account does not list 127\.0\.0\.1:\d+/);
    await client.closed;
  }
  h.credential.hosts = [`127.0.0.1:${h.target.port}`];
  const client = await h.connect();
  assert.match(await client.ask(ticket()), /^WELCOME/);
  assert.deepEqual(h.target.received, ['LOGIN svc']);
  const told = JSON.stringify([h.logged, h.records.events]);
  assert.ok(!told.includes('correct-horse'));
});

test('INV-12: without leave the gateway does not dial its own machine', async (t) => {
  const h = await startHarness(t, { dial: { allowLoopback: false } });
  const client = await h.connect();
  assert.match(
    await client.ask(`TICKET ${h.ticket(grantFor(h.clock))}`),
    /^ERROR 127\.0\.0\.1 may not be dialled: .*loopback/,
  );
  await client.closed;
  assert.deepEqual(h.target.received, []);
});

test('INV-11: what a client does not know costs nobody else: sockets that come and go leave nothing behind', async (t) => {
  const h = await startHarness(t);
  for (let i = 0; i < 50; i++) {
    const client = await h.connect();
    if (i % 3 === 0) client.send('TICKET x');
    client.socket.destroy();
  }
  await until(() => h.gateway.sessions().length === 0, 'all are gone');
  await h.login();
});
