// Getting in, running commands, and what ends a session.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { generateClientKey } from '../../src/identity/keys.ts';
import { alice, CONNECTION_UID, grantFor, startHarness, until } from '../support/gateway-harness.ts';

test('INV-01: a ticket lets in, an allowed command runs, everything is recorded', async (t) => {
  const h = await startHarness(t);
  const client = await h.login();
  assert.equal(await client.ask('PUT a 1'), 'OK');
  assert.equal(await client.ask('GET a'), 'VALUE 1');
  assert.deepEqual(h.target.received, ['LOGIN svc', 'PUT a 1', 'GET a']);
  const [info] = h.gateway.sessions();
  assert.equal(info?.state, 'Live');
  assert.equal(info?.principal?.username, 'alice@corp.example');
  client.socket.end();
  await until(() => h.gateway.sessions().length === 0, 'the session is gone');
  await until(() => h.records.of(client.id, 'end').length === 1, 'its end is recorded');
  assert.deepEqual(
    h.records.of(client.id).map(({ kind }) => kind),
    ['start', 'command', 'result', 'command', 'result', 'end'],
  );
  assert.equal(h.records.of(client.id, 'end')[0]?.body['reason'], 'ClientGone');
  assert.ok(h.records.closed(client.id));
});

test('INV-01: without a good ticket nothing reaches the target, and the client learns no cause', async (t) => {
  const h = await startHarness(t);
  const grant = grantFor(h.clock);
  const mallory = generateClientKey();
  for (const [proof, cause] of [
    ['password', 'Malformed'],
    [h.ticket(grant, mallory), 'Signature'],
    [h.ticket({ ...grant, uid: 'nobody' }), 'UnknownGrant'],
    [h.ticket(grant, alice, { connectionUid: 'another' }), 'Audience'],
  ] as const) {
    const client = await h.connect();
    client.send(`TICKET ${proof}\nGET a`);
    assert.match(await client.next(), /^ERROR InvalidProof /);
    await client.closed;
    const line = h.logged.find(({ message, fields }) => message === 'a login was refused' && fields['cause'] === cause);
    assert.ok(line, `${cause} is logged`);
  }
  assert.deepEqual(h.target.received, []);
  assert.equal(h.records.events.length, 0);
  assert.ok(!JSON.stringify(h.logged).includes('eyJ'), 'no ticket in the log');
});

test('a login that comes before its grant waits for it, and no longer than it may', async (t) => {
  const h = await startHarness(t, { limits: { grantWaitMs: 2_000 } });
  const early = grantFor(h.clock, { uid: 'aaaaaaaa-0000-4000-8000-00000000000e', name: 'orders-db-early' });
  const client = await h.connect();
  client.send(`TICKET ${h.ticket(early)}`);
  const answer = client.next();
  await until(() => h.gateway.sessions().length === 1, 'it waits');
  h.grants(early);
  const pump = setInterval(() => h.clock.advance(20), 1);
  t.after(() => clearInterval(pump));
  assert.match(await answer, /^WELCOME s-/);

  const guess = await h.connect();
  guess.send(`TICKET ${h.ticket({ ...early, uid: 'nobody' })}`);
  assert.match(await guess.next(), /^ERROR InvalidProof /);
});

test('INV-01: commands sent behind a bad ticket, or before one, are never read', async (t) => {
  const h = await startHarness(t);
  const client = await h.connect();
  client.send('PUT a 1');
  assert.match(await client.next(), /^ERROR expected TICKET/);
  await client.closed;
  assert.deepEqual(h.target.received, []);
});

test('a denied command is told with its denial id, recorded, and the session goes on', async (t) => {
  const h = await startHarness(t);
  const client = await h.login();
  const answer = await client.ask('DROP a');
  assert.match(answer, /^DENIED RuleDenied Sallyport refused DROP .*\(d-[a-z0-9]{6}\)$/);
  assert.equal(await client.ask('GET a'), 'VALUE -');
  const command = h.records.of(client.id, 'command')[0]!;
  assert.equal(command.body['decision'], 'Deny');
  assert.ok(answer.includes(String(command.body['denial'])));
  assert.deepEqual(h.target.received, ['LOGIN svc', 'GET a']);
});

test('INV-01: a record that can not be written stops its command; the session survives and recovers', async (t) => {
  const h = await startHarness(t);
  const client = await h.login();
  h.records.fail('NoSpace');
  assert.match(
    await client.ask('PUT a 1'),
    /^DENIED RecordsUnwritable Sallyport runs no command that it can not record/,
  );
  h.records.fail(undefined);
  assert.equal(await client.ask('GET a'), 'VALUE -');
  assert.deepEqual(h.target.received, ['LOGIN svc', 'GET a']);
});

test('INV-01: a write that fails after the gate still stops the command', async (t) => {
  const h = await startHarness(t);
  const client = await h.login();
  h.records.hang(true);
  client.send('PUT a 1');
  await until(
    () => h.gateway.sessions()[0]!.lastActivityMs >= 0 && h.target.received.length === 1,
    'the command is judged',
  );
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.deepEqual(h.target.received, ['LOGIN svc'], 'nothing is forwarded while the record is not written');
  h.records.fail('IoError');
  h.records.hang(false);
  assert.match(await client.next(), /^DENIED RecordsUnwritable/);
  assert.deepEqual(h.target.received, ['LOGIN svc']);
});

test('INV-04: nobody logs in while records can not be written', async (t) => {
  const h = await startHarness(t);
  h.records.fail('IoError');
  const client = await h.connect();
  assert.match(await client.ask(`TICKET ${h.ticket(grantFor(h.clock))}`), /^ERROR Unavailable .*records/);
  await client.closed;
  assert.deepEqual(h.target.received, []);
  await until(() => h.gateway.sessions().length === 0, 'nothing is left');
});

test('INV-03: a session ends when its grant expires by the proxy’s own clock, controller silent', async (t) => {
  const h = await startHarness(t);
  const grant = grantFor(h.clock, { expiresAtMs: h.clock.now() + 120_000 });
  h.grants(grant);
  const client = await h.login(grant);
  client.send('WAIT');
  await until(() => h.target.received.includes('WAIT'), 'the command runs');
  h.clock.advance(119_000);
  assert.equal(h.gateway.sessions()[0]?.state, 'Live');
  h.clock.advance(1_000);
  assert.equal(await client.next(), 'CUT Expired grant orders-db-7fk2p expired at 00:02:00Z');
  await client.closed;
  await until(() => h.target.connections() === 0, 'the target’s side is gone');
  await until(() => h.records.of(client.id, 'end').length === 1, 'the end is recorded');
  assert.equal(h.records.of(client.id, 'end')[0]?.body['reason'], 'Expired');
  const again = await h.connect();
  assert.match(await again.ask(`TICKET ${h.ticket(grant)}`), /^ERROR NotActive Grant orders-db-7fk2p expired/);
});

test('INV-03: a wall clock set back extends nothing, one set forward ends at once', async (t) => {
  const h = await startHarness(t);
  const grant = grantFor(h.clock, { expiresAtMs: h.clock.now() + 120_000 });
  h.grants(grant);
  const client = await h.login(grant);
  h.clock.setWall(h.clock.now() - 86_400_000);
  h.clock.advance(120_000);
  assert.match(await client.next(), /^CUT Expired/);
  const late = await h.connect();
  assert.match(await late.ask(`TICKET ${h.ticket(grant)}`), /^ERROR/, 'nor does it open a new session');

  const g = await startHarness(t);
  const other = await g.login();
  g.clock.setWall(g.clock.now() + 3_600_000);
  g.clock.advance(1_000);
  assert.match(await other.next(), /^CUT Expired/);
});

test('INV-03: an unsigned end of the grant cuts at once, and no shard revives it', async (t) => {
  const h = await startHarness(t);
  const grant = grantFor(h.clock);
  const client = await h.login(grant);
  client.send('WAIT');
  await until(() => h.target.received.includes('WAIT'), 'the command runs');
  h.deliver({ kind: 'GrantEnded', grantUid: grant.uid, phase: 'Revoked', by: 'lead@corp.example' });
  assert.equal(await client.next(), 'CUT Revoked grant orders-db-7fk2p was revoked by lead@corp.example');
  await client.closed;
  h.grants(grant);
  const again = await h.connect();
  assert.match(
    await again.ask(`TICKET ${h.ticket(grant)}`),
    /^ERROR NotActive Grant orders-db-7fk2p was revoked by lead/,
  );
});

test('INV-03: a grant that its shard no longer lists, or whose shard is gone, ends its sessions', async (t) => {
  const h = await startHarness(t);
  const first = await h.login();
  h.grants();
  assert.match(await first.next(), /^CUT Revoked/);
  h.grants(grantFor(h.clock));
  const second = await h.login();
  h.deliver({
    kind: 'ShardGone',
    connectionUid: CONNECTION_UID,
    shard: 'grants-0',
  });
  assert.match(await second.next(), /^CUT Revoked/);
});

test('a grant that moves to another shard in one go takes its sessions with it', async (t) => {
  const h = await startHarness(t);
  const client = await h.login();
  h.publish('grants-0', { grants: [] });
  h.publish('grants-1', { grants: [grantFor(h.clock)] });
  assert.equal(await client.ask('GET a'), 'VALUE -');
  h.publish('grants-0', { grants: [grantFor(h.clock)] });
  h.deliver({ kind: 'ShardGone', connectionUid: CONNECTION_UID, shard: 'grants-1' });
  assert.equal(await client.ask('GET a'), 'VALUE -');
});

test('INV-03: kill and lock end a session with their reason; a lock keeps its people out until lifted', async (t) => {
  const h = await startHarness(t);
  const first = await h.login();
  assert.equal(h.gateway.kill('s-none', 'x'), false);
  assert.equal(h.gateway.kill(first.id, 'security@corp.example'), true);
  assert.equal(await first.next(), `CUT Killed session ${first.id} was ended by security@corp.example`);

  const second = await h.login();
  // Spelt differently, in full-width letters: to exclude, compare generously.
  h.overlay({ locks: [{ name: 'incident-7', target: { user: 'ＡＬＩＣＥ@corp.example' }, reason: 'laptop stolen' }] });
  assert.equal(await second.next(), 'CUT Locked locked by incident-7: laptop stolen');
  const refused = await h.connect();
  assert.match(
    await refused.ask(`TICKET ${h.ticket(grantFor(h.clock))}`),
    /^ERROR Locked Locked by incident-7: laptop stolen/,
  );
  h.overlay({ locks: [{ name: 'bob', target: { user: 'bob' }, reason: 'x' }] });
  const third = await h.login();
  h.overlay({
    locks: [{ name: 'team', target: { group: 'PAYMENTS' }, reason: 'audit', untilMs: h.clock.now() + 60_000 }],
  });
  assert.match(await third.next(), /^CUT Locked locked by team until .*: audit/);
  h.clock.advance(60_000);
  await h.login();
});

test('INV-03: an overlay shard that is gone keeps its locks', async (t) => {
  const h = await startHarness(t);
  h.overlay({ locks: [{ name: 'l', target: { everything: true }, reason: 'x' }] });
  h.deliver({ kind: 'ShardGone', connectionUid: CONNECTION_UID, shard: 'overlay' });
  const client = await h.connect();
  assert.match(await client.ask(`TICKET ${h.ticket(grantFor(h.clock))}`), /^ERROR Locked/);
});

test('INV-03: a ticket declared void ends the sessions it opened', async (t) => {
  const h = await startHarness(t);
  const grant = grantFor(h.clock);
  const ticket = h.ticket(grant);
  const { jti } = JSON.parse(Buffer.from(ticket.split('.')[1]!, 'base64url').toString()) as { jti: string };
  const client = await h.connect();
  await client.ask(`TICKET ${ticket}`);
  h.overlay({ voidTickets: [jti] });
  assert.match(await client.next(), /^CUT Revoked the ticket of this session was declared void/);
  const again = await h.connect();
  assert.match(await again.ask(`TICKET ${ticket}`), /^ERROR InvalidProof This ticket was declared void/);
  await h.login(grant);
});

test('INV-03: a protocol that ignores its cut loses the socket within the budget', async (t) => {
  const { lineProtocol } = await import('../support/line-protocol.ts');
  const deaf: typeof lineProtocol = {
    ...lineProtocol,
    accept: (socket, context) =>
      new Promise(() => {
        socket.once('data', (chunk: Buffer) => {
          void context
            .authenticate({ kind: 'Password', secret: chunk.toString().trim().slice(7), user: 'reader' })
            .then((answer) => {
              if (answer.kind === 'Granted') answer.session.onCut(() => {});
              socket.write(`${answer.kind}\n`);
            });
        });
      }),
  };
  const h = await startHarness(t, { protocols: [deaf] });
  const client = await h.connect();
  assert.equal(await client.ask(`TICKET ${h.ticket(grantFor(h.clock))}`), 'Granted');
  const { id } = h.gateway.sessions()[0]!;
  h.gateway.kill(id, 'me');
  assert.equal(h.gateway.sessions()[0]?.state, 'Ending');
  h.clock.advance(1_999);
  assert.equal(h.gateway.sessions().length, 1);
  h.clock.advance(1);
  await client.closed;
  assert.equal(h.gateway.sessions().length, 0);
  await until(() => h.records.of(id, 'end').length === 1, 'the end is recorded');
  assert.equal(h.records.of(id, 'end')[0]?.body['reason'], 'Killed');
});

test('a session moves to the grant that extends its own, and not to anybody else’s', async (t) => {
  const h = await startHarness(t);
  const parent = grantFor(h.clock, { expiresAtMs: h.clock.now() + 60_000 });
  const child = grantFor(h.clock, {
    name: 'orders-db-more',
    uid: 'aaaaaaaa-0000-4000-8000-00000000000c',
    extends: parent.uid,
    notBeforeMs: parent.expiresAtMs,
    expiresAtMs: parent.expiresAtMs + 60_000,
  });
  h.grants(parent, { ...child, principal: { ...child.principal, username: 'bob' } });
  const first = await h.login(parent);
  h.clock.advance(59_999);
  h.grants(parent, child);
  h.heartbeat();
  h.clock.advance(1);
  assert.equal(await first.ask('GET a'), 'VALUE -');
  assert.equal(h.gateway.sessions()[0]?.grant?.name, 'orders-db-more');
  assert.equal(h.records.of(first.id, 'notice')[0]?.body['event'], 'GrantExtended');
  h.grants(child); // the parent is dropped from the bundle: nothing changes for the session
  assert.equal(await first.ask('GET a'), 'VALUE -');
  h.clock.advance(60_000);
  assert.match(await first.next(), /^CUT Expired grant orders-db-more expired/);

  const g = await startHarness(t);
  const alone = grantFor(g.clock, { expiresAtMs: g.clock.now() + 60_000 });
  g.grants(alone, { ...child, principal: { ...child.principal, username: 'bob' } });
  const second = await g.login(alone);
  g.clock.advance(60_000);
  assert.match(await second.next(), /^CUT Expired grant orders-db-7fk2p/);
});

test('longest duration and idleness end a session; a running command is not idle', async (t) => {
  const h = await startHarness(t);
  h.policy({ session: { ticketUntilExpiry: false, maxDurationMs: 200_000, idleTimeoutMs: 60_000 } });
  const busy = await h.login();
  busy.send('WAIT');
  await until(() => h.target.received.includes('WAIT'), 'the command runs');
  const idle = await h.login();
  assert.equal(await idle.ask('GET a'), 'VALUE -');
  h.clock.advance(62_000);
  assert.equal(await idle.next(), 'CUT IdleTimeout the session was idle for 1m');
  assert.equal(h.gateway.sessions().find(({ id }) => id === busy.id)?.state, 'Live');
  h.clock.advance(138_000);
  assert.equal(await busy.next(), 'CUT MaxDuration the session reached its longest duration of 3m20s');
});

test('a policy that changes is in force for the next command; one that no longer names the person ends the session', async (t) => {
  const h = await startHarness(t);
  const client = await h.login();
  assert.equal(await client.ask('PUT a 1'), 'OK');
  h.policy({ rules: [] });
  assert.match(await client.ask('GET a'), /^DENIED NoRuleAllows/);
  h.policy({ accepted: false, problem: 'rule "x" has no action' });
  assert.match(await client.ask('GET a'), /^DENIED PolicyNotAccepted/);
  h.policy();
  assert.equal(await client.ask('GET a'), 'VALUE 1');
  h.policy({ subjects: [{ kind: 'Group', name: 'others' }] });
  assert.match(
    await client.next(),
    /^CUT PolicyChanged policy payments\/orders-team does not name alice@corp\.example/,
  );
  await client.closed;
});

test('stopping lets sessions finish, then cuts them', async (t) => {
  const h = await startHarness(t);
  const half = await h.connect();
  await until(() => h.gateway.sessions().length === 1, 'the handshake began');
  const client = await h.login();
  const stopped = h.gateway.stop(30_000);
  await half.closed;
  assert.equal(await client.ask('GET a'), 'VALUE -');
  await assert.rejects(h.connect());
  h.clock.advance(10_000);
  assert.equal(await client.ask('GET a'), 'VALUE -');
  const impatient = h.gateway.stop(5_000);
  await new Promise((resolve) => setImmediate(resolve)); // ports are freed first, then the patience begins
  h.clock.advance(5_000);
  assert.match(await client.next(), /^CUT Shutdown/);
  await Promise.all([stopped, impatient]);
});
