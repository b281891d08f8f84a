// Commands that wait for consent.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Protocol } from '../../src/protocols/protocol.ts';
import { grantFor, type Harness, RULES, rule, startHarness, until } from '../support/gateway-harness.ts';
import { lineCommand, lineProtocol } from '../support/line-protocol.ts';

async function held(h: Harness, line = 'PUT held/a 1') {
  const client = await h.login();
  const before = h.holds.opened.length;
  const name = (await client.ask(line)).replace('HELD ', '');
  await until(() => h.holds.opened.length > before, 'the hold is opened');
  return { client, name, hold: h.holds.opened.at(-1)! };
}
const events = (h: Harness, stream: string) => h.records.of(stream, 'hold').map(({ body }) => body['event']);

test('INV-01: a held command waits, tells who asks for what, and runs once approved', async (t) => {
  const h = await startHarness(t);
  const { client, name, hold } = await held(h);
  assert.equal(hold.name, name);
  assert.equal(hold.namespace, 'payments');
  assert.deepEqual(
    { ...hold.spec, commandHash: '' },
    {
      connectionRef: { name: 'orders-db' },
      grantRef: { name: 'orders-db-7fk2p', uid: 'aaaaaaaa-0000-4000-8000-000000000001' },
      sessionId: client.id,
      requester: { username: 'alice@corp.example', groups: ['payments'], aliases: [] },
      command: 'PUT held/a 1',
      hiddenLiterals: 0,
      commandHash: '',
      summary: 'PUT',
      rules: [{ policy: 'payments/orders-team', rule: 'held-writes' }],
      reason: hold.spec.reason,
      requirements: [
        { rule: 'payments/orders-team/held-writes', count: 1, approvers: [{ kind: 'Group', name: 'dba' }] },
      ],
      requestedAt: '2026-01-01T00:00:00.000Z',
      until: '2026-01-01T00:01:00.000Z',
    },
  );
  assert.deepEqual(h.gateway.sessions()[0]?.holds, [name]);
  assert.deepEqual(h.target.received, ['LOGIN svc'], 'nothing ran yet');
  h.releases(h.release(hold));
  assert.equal(await client.next(), 'OK');
  assert.deepEqual(h.holds.closed, [{ name, event: 'Used' }]);
  assert.deepEqual(events(h, client.id), ['Opened', 'Approved']);
  const command = h.records.of(client.id, 'command')[0]!.body;
  assert.equal(command['hold'], name);
  assert.deepEqual(command['approvedBy'], ['dba-oncall@corp.example']);
});

test('INV-01: an approval runs one command once; the next one waits again', async (t) => {
  const h = await startHarness(t);
  const { client, hold } = await held(h);
  h.releases(h.release(hold));
  assert.equal(await client.next(), 'OK');
  assert.match(await client.ask('PUT held/a 1'), /^HELD/);
  client.send('CANCEL');
  assert.match(await client.next(), /^DENIED HoldWithdrawn/);
  assert.equal(h.target.received.filter((line) => line.startsWith('PUT')).length, 1);
});

test('INV-01: a command is not run unless its approval is known to be used up', async (t) => {
  const h = await startHarness(t);
  const { client, hold, name } = await held(h);
  h.controlPlane.onClose = () => Promise.reject(new Error('conflict'));
  h.releases(h.release(hold));
  assert.match(
    await client.next(),
    new RegExp(`^DENIED HoldFailed the approval of hold ${name} could not be marked as used`),
  );
  assert.deepEqual(h.target.received, ['LOGIN svc']);
});

test('a denial tells who denied and why; the session goes on', async (t) => {
  const h = await startHarness(t);
  const { client, hold } = await held(h);
  h.releases(h.release(hold, { decision: 'Denied', reason: 'add a WHERE' }));
  assert.match(await client.next(), /^DENIED HoldDenied add a WHERE/);
  assert.equal(await client.ask('GET a'), 'VALUE -');
  assert.deepEqual(events(h, client.id), ['Opened', 'Denied']);
});

test('a wait ends by time, by withdrawal and when the client is gone; the control plane is told', async (t) => {
  const h = await startHarness(t);
  const first = await held(h);
  h.clock.advance(59_999);
  assert.equal(h.gateway.sessions()[0]?.holds.length, 1);
  h.clock.advance(1);
  assert.match(await first.client.next(), /^DENIED HoldTimedOut/);
  first.client.send('PUT held/b 1');
  assert.match(await first.client.next(), /^HELD/);
  first.client.send('CANCEL');
  assert.match(await first.client.next(), /^DENIED HoldWithdrawn/);
  const second = await held(h, 'PUT held/c 1');
  second.client.socket.destroy();
  await until(() => h.holds.closed.length === 3, 'all three ends are told');
  assert.deepEqual(
    h.holds.closed.map(({ event }) => event),
    ['TimedOut', 'Withdrawn', 'Withdrawn'],
  );
  assert.deepEqual(
    h.target.received.filter((line) => line.startsWith('PUT')),
    [],
  );
});

test('INV-01: a re-run of the same command within the approval’s time needs no second wait, another command does', async (t) => {
  const h = await startHarness(t);
  const { client, hold } = await held(h);
  client.send('CANCEL');
  assert.match(await client.next(), /^DENIED HoldWithdrawn/);
  h.releases(h.release(hold));
  assert.match(await client.ask('PUT held/a 2'), /^HELD/, 'another command');
  client.send('CANCEL');
  await client.next();
  assert.equal(await client.ask('PUT held/a 1'), 'OK');
  assert.match(await client.ask('PUT held/a 1'), /^HELD/, 'it is used up');
  client.send('CANCEL');
  await client.next();
});

test('INV-01: an approval that is too old, of another grant or of another command is worth nothing', async (t) => {
  const h = await startHarness(t);
  const { client, hold } = await held(h);
  client.send('CANCEL');
  await client.next();
  const good = h.release(hold);
  for (const change of [{ grantUid: 'another' }, { commandHash: 'f'.repeat(64) }, { usableUntilMs: h.clock.now() }]) {
    h.releases({ ...good, ...change, holdUid: `uid-${JSON.stringify(change)}` });
    assert.match(await client.ask('PUT held/a 1'), /^HELD/);
    client.send('CANCEL');
    assert.match(await client.next(), /^DENIED HoldWithdrawn/);
  }
  // A wall clock set back does not make an old approval usable again.
  h.releases({ ...good, holdUid: 'late', usableUntilMs: h.clock.now() + 1_000 });
  h.clock.advance(1_000);
  h.clock.setWall(h.clock.now() - 60_000);
  assert.match(await client.ask('PUT held/a 1'), /^HELD/);
});

test('statements approved with the grant run without a wait', async (t) => {
  const h = await startHarness(t);
  const { client, hold } = await held(h);
  client.send('CANCEL');
  await client.next();
  client.socket.end();
  h.grants(grantFor(h.clock, { commandHashes: [hold.spec.commandHash] }));
  const again = await h.login();
  assert.equal(await again.ask('PUT held/a 1'), 'OK');
  assert.match(await again.ask('PUT held/a 2'), /^HELD/);
});

test('INV-03: a grant that ends while its command waits: the command never runs, whatever is approved later', async (t) => {
  const h = await startHarness(t);
  const grant = grantFor(h.clock, { expiresAtMs: h.clock.now() + 30_000 });
  h.grants(grant);
  const { client, hold } = await held(h);
  h.clock.advance(30_000);
  assert.match(await client.next(), /^CUT Expired/);
  await client.closed;
  h.releases(h.release(hold));
  await until(() => h.holds.closed.length === 1, 'the hold is closed');
  assert.deepEqual(h.holds.closed[0]?.event, 'Withdrawn');
  assert.deepEqual(h.target.received, ['LOGIN svc']);
  assert.deepEqual(events(h, client.id), ['Opened', 'GrantEnded']);
});

test('INV-04: an approval that comes while the controller is silent, or the policy now denies, does not run', async (t) => {
  const h = await startHarness(t);
  h.policy({
    rules: RULES.map((one) => ({ ...one, ...(one.hold ? { hold: { ...one.hold, timeoutMs: 900_000 } } : {}) })),
  });
  const { client, hold } = await held(h);
  h.clock.advance(300_001);
  h.releases(h.release(hold));
  assert.match(await client.next(), /^DENIED ControllerSilent/);
  h.heartbeat();
  assert.match(await client.ask('PUT held/b 1'), /^HELD/);
  await until(() => h.holds.opened.length === 2, 'opened');
  h.policy({
    rules: [...RULES, rule('freeze', 'Deny', { matcher: { member: 'lines', value: { actions: ['Write'] } } })],
  });
  h.releases(h.release(h.holds.opened[1]!));
  assert.match(await client.next(), /^DENIED RuleDenied/);
  assert.deepEqual(h.target.received, ['LOGIN svc']);
});

test('INV-04: a control plane that refuses or does not answer fails the hold, not the session', async (t) => {
  const h = await startHarness(t);
  const client = await h.login();
  h.controlPlane.onOpen = () => Promise.reject(new Error('down'));
  assert.match(await client.ask('PUT held/a 1'), /^HELD/);
  assert.match(await client.next(), /^DENIED HoldFailed nobody could be asked for consent/);
  h.controlPlane.onOpen = () => new Promise(() => {});
  assert.match(await client.ask('PUT held/a 1'), /^HELD/);
  h.clock.advance(10_000);
  assert.match(await client.next(), /^DENIED HoldFailed/);
  assert.equal(await client.ask('GET a'), 'VALUE -');
});

test('a decision that is faster than the answer of the control plane is heard', async (t) => {
  const h = await startHarness(t);
  const client = await h.login();
  const gate = Promise.withResolvers<void>();
  h.controlPlane.onOpen = () => gate.promise;
  const name = (await client.ask('PUT held/a 1')).replace('HELD ', '');
  gate.resolve();
  await until(() => h.holds.opened.length === 1, 'opened');
  h.releases(h.release(h.holds.opened[0]!));
  assert.equal(await client.next(), 'OK');
  assert.deepEqual(h.holds.closed, [{ name, event: 'Used' }]);
});

test('a protocol that forgets its hold leaves none behind: the end of the session ends the wait', async (t) => {
  const forgetful: Protocol = {
    ...lineProtocol,
    accept: (socket, context) =>
      new Promise((resolve) => {
        socket.once('close', () => resolve());
        socket.once('data', (chunk: Buffer) => {
          void context
            .authenticate({ kind: 'Password', secret: chunk.toString().trim().slice(7), user: 'reader' })
            .then((answer) => {
              assert.equal(answer.kind, 'Granted');
              if (answer.kind !== 'Granted') return;
              const command = lineCommand('PUT held/a 1');
              const decision = answer.session.decide(command);
              assert.equal(decision.kind, 'Hold');
              if (decision.kind !== 'Hold') return;
              const shown = { text: command.text, hiddenLiterals: 0 };
              answer.session.hold({ command, decision, shown, commandHash: 'a'.repeat(64) });
              socket.write(`${context.id}\n`);
            });
        });
      }),
  };
  const h = await startHarness(t, { protocols: [forgetful] });
  const client = await h.connect();
  const id = await client.ask(`TICKET ${h.ticket(grantFor(h.clock))}`);
  await until(() => h.holds.opened.length === 1, 'opened');
  client.socket.destroy();
  await until(() => h.holds.closed.length === 1, 'closed');
  assert.equal(h.holds.closed[0]?.event, 'Withdrawn');
  await until(() => h.records.of(id, 'end').length === 1, 'ended');
  assert.deepEqual(events(h, id), ['Opened', 'ClientGone']);
});

test('INV-11: how many commands wait is bounded', async (t) => {
  const h = await startHarness(t, { limits: { holds: 2 } });
  const a = await h.login();
  const b = await h.login();
  const c = await h.login();
  assert.match(await a.ask('PUT held/a 1'), /^HELD/);
  assert.match(await b.ask('PUT held/b 1'), /^HELD/);
  assert.match(await c.ask('PUT held/c 1'), /^HELD/);
  assert.match(await c.next(), /^DENIED HoldFailed too many commands wait/);
});
