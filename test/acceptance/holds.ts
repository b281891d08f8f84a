// Held statements, each way they can end: what the client is told, what the hold and the records say, what became of
// the table.
import assert from 'node:assert/strict';
import net from 'node:net';
import type { CommandHold } from '../../src/api/hold.ts';
import { cancelRequest, query, SYNC } from '../../src/protocols/postgres/wire/messages.ts';
import type { CommandBody, HoldBody } from '../../src/recording/envelope.ts';
import { type HeldGrant, type Person, sleep, until } from '../support/in-process.ts';
import {
  bindMessage,
  executeMessage,
  fields,
  parseMessage,
  type RawClient,
  type RawMessage,
  show,
  shown,
} from '../support/raw-postgres.ts';
import { CONNECTION, NAMESPACE, type Scene, startScene } from '../support/scene.ts';
import type { CriteriaGroup } from './criterion.ts';

const ALICE: Person = { username: 'alice', groups: ['engineers'] };
/** Of both groups: may approve, but never what she sent herself. */
const EVE: Person = { username: 'eve', groups: ['engineers', 'dba'] };
const DANA: Person = { username: 'dana', groups: ['dba'] };
const OTTO: Person = { username: 'otto', groups: ['interns'] };

const POLICY = `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: engineers, namespace: ${NAMESPACE}}
spec:
  connectionSelector: {names: [${CONNECTION}]}
  subjects: [{kind: Group, name: engineers}]
  accounts: [app]
  approval:
    steps: [{name: one, approvers: [{kind: Group, name: dba}]}]
  rules:
  - {name: all, action: Allow, sql: {effects: [Read, Write, Session, Execute]}}
  - name: unbounded-write
    action: Hold
    sql: {unbounded: true}
    hold: {approvers: [{kind: Group, name: dba}], timeout: 30s}
  - name: ledger
    action: Hold
    sql: {effects: [Write], tables: ["*.ledger"]}
    hold: {approvers: [{kind: Group, name: dba}], timeout: 60s}
  - name: hasty
    action: Hold
    sql: {effects: [Write], tables: ["*.hasty"]}
    hold: {approvers: [{kind: Group, name: dba}], timeout: 2s}
`;

let scene: Scene;

const granted = (who: Person, duration = '1h'): Promise<HeldGrant> => scene.granted(who, { duration, approver: DANA });

async function session(who: Person, duration?: string): Promise<{ client: RawClient; held: HeldGrant }> {
  const held = await granted(who, duration);
  return { client: await scene.raw(held), held };
}

const errorOf = (messages: readonly RawMessage[]): Record<string, string> => {
  const error = messages.find((one) => one.type === 'E');
  assert.ok(error, `an error among ${shown(messages).join(' ')}`);
  return fields(error);
};
const tagsOf = (messages: readonly RawMessage[]): string[] =>
  messages.filter((one) => 'CEZ'.includes(one.type)).map((one) => (one.type === 'E' ? 'E' : show(one)));

/** Until the client has been told that it waits. */
async function noticed(client: RawClient): Promise<string> {
  const messages = await client.until((one) => one.type === 'N' && fields(one).M!.startsWith('Held as'));
  const text = fields(messages.at(-1)!).M!;
  assert.match(text, /^Held as h-[a-z0-9]+ by rule "[\w-]+": needs 1 of group dba within \d+ s\. Ctrl-C withdraws\.$/);
  return /h-[a-z0-9]+/.exec(text)![0];
}

const named = (name: string): Promise<CommandHold> => scene.waitingHold((hold) => hold.metadata.name === name);

async function phaseOf(name: string): Promise<NonNullable<CommandHold['status']>> {
  return until(`the end of ${name}`, async () => {
    const hold = await scene.hold(name);
    const phase = hold?.status?.phase ?? 'Waiting';
    return phase === 'Waiting' ? undefined : hold!.status!;
  });
}

async function eventsOf(name: string, count = 2): Promise<string[]> {
  return until(`${count} records of ${name}`, () => {
    const events = scene
      .records()
      .filter(({ kind, body }) => kind === 'hold' && (body as HoldBody).hold === name)
      .map(({ body }) => (body as HoldBody).event);
    return events.length >= count ? events : undefined;
  });
}

/** Commands recorded as let through or stopped by the hold. */
const commandsOf = (name: string): CommandBody[] =>
  scene
    .records()
    .filter(({ kind, body }) => kind === 'command' && (body as CommandBody).hold === name)
    .map(({ body }) => body as CommandBody);

const states = async (): Promise<string> =>
  scene.value<string>("select coalesce(string_agg(distinct state, ',' order by state), 'none') from orders");
const ledger = (): Promise<number> => scene.value<number>('select count(*)::int from ledger');
const usable = async (client: RawClient): Promise<void> => {
  client.send(query('select 41 + 1'));
  assert.deepEqual(shown(await client.ready()), ['T', 'D(......42)', 'C(SELECT 1)', 'Z(I)']);
};
const reset = async (): Promise<void> => {
  await scene.server.query("update orders set state = 'new'; truncate ledger, hasty");
};

function cancel(client: RawClient): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(client.socket.remotePort!, '127.0.0.1', () =>
      socket.end(cancelRequest(client.processId, client.secret)),
    );
    socket.on('error', reject);
    socket.on('close', () => resolve());
    socket.resume();
  });
}

async function approved(): Promise<string> {
  await reset();
  const { client } = await session(ALICE);
  client.send(query("update orders set state = 'approved'"));
  const name = await noticed(client);
  const hold = await named(name);
  assert.equal(hold.spec.requester.username, 'alice');
  assert.match(hold.spec.command, /update orders set state/);
  assert.equal(await states(), 'new', 'nothing ran while it waited');
  await scene.decideHold(DANA, hold, 'Approve');
  assert.deepEqual(shown(await client.ready()), ['C(UPDATE 20)', 'Z(I)']);
  assert.equal(await states(), 'approved');
  const status = await phaseOf(name);
  assert.equal(status.phase, 'Approved');
  assert.deepEqual(status.decidedBy, ['dana']);
  await until('its use to be noted', async () => (await scene.hold(name))?.status?.usedAt);
  assert.deepEqual(await eventsOf(name), ['Opened', 'Approved']);
  const [command] = commandsOf(name);
  assert.deepEqual(command?.approvedBy, ['dana']);
  await usable(client);
  client.end();
  return 'UPDATE 20 in the waiting session; phase Approved, used; recorded Opened, Approved, command by dana';
}

async function denied(): Promise<string> {
  await reset();
  const { client } = await session(ALICE);
  client.send(query('delete from orders'));
  const name = await noticed(client);
  await scene.decideHold(DANA, await named(name), 'Deny', 'add a WHERE');
  const answer = await client.ready();
  const error = errorOf(answer);
  assert.equal(error.C, '42501');
  assert.equal(error.S, 'ERROR');
  assert.equal(error.M, `Denied by an approver (dana): "add a WHERE" (hold ${name})`);
  assert.match(
    error.D!,
    /Policy payments\/engineers, rule "unbounded-write" \(denial d-\w+\)\. Nothing reached the database\./,
  );
  assert.deepEqual(tagsOf(answer), ['E', 'Z(I)']);
  assert.equal((await phaseOf(name)).phase, 'Denied');
  assert.deepEqual(await eventsOf(name), ['Opened', 'Denied']);
  assert.equal(commandsOf(name)[0]?.decision, 'Deny');
  assert.equal(await scene.value<number>('select count(*)::int from orders'), 20);
  await usable(client);
  client.end();
  return `42501 ${error.M}`;
}

async function timedOut(): Promise<string> {
  await reset();
  const { client } = await session(ALICE);
  const from = Date.now();
  client.send(query('insert into hasty values (1)'));
  const name = await noticed(client);
  const answer = await client.ready();
  const waited = Date.now() - from;
  const error = errorOf(answer);
  assert.equal(error.C, '42501');
  assert.match(error.M!, /nobody consented in time/);
  assert.match(error.H!, /sallyport pending/);
  assert.ok(waited >= 1_900 && waited < 12_000, `${waited} ms`);
  assert.equal((await phaseOf(name)).phase, 'TimedOut');
  assert.deepEqual(await eventsOf(name), ['Opened', 'TimedOut']);
  const hold = (await scene.hold(name))!;
  await scene.decideHold(DANA, hold, 'Approve').catch(() => undefined);
  await sleep(200);
  assert.equal((await scene.hold(name))!.status?.phase, 'TimedOut', 'a vote that is too late changes nothing');
  assert.equal(await scene.value<number>('select count(*)::int from hasty'), 0);
  await usable(client);
  client.end();
  return `refused after ${(waited / 1000).toFixed(1)} s of 2 s; a late vote counts nothing`;
}

async function cancelled(): Promise<string> {
  await reset();
  const { client } = await session(ALICE);
  client.send(query('delete from orders'));
  const name = await noticed(client);
  await cancel(client);
  const answer = await client.ready();
  const error = errorOf(answer);
  assert.equal(error.C, '57014');
  assert.match(error.M!, new RegExp(`canceling statement due to user request \\(hold ${name} was withdrawn\\)`));
  assert.deepEqual(tagsOf(answer), ['E', 'Z(I)']);
  assert.equal((await phaseOf(name)).phase, 'Withdrawn');
  assert.deepEqual(await eventsOf(name), ['Opened', 'Withdrawn']);
  await usable(client);
  // A second cancel finds nothing that runs and hits nothing.
  await cancel(client);
  await usable(client);
  client.end();
  return '57014, phase Withdrawn, session usable';
}

async function clientGone(): Promise<string> {
  await reset();
  const { client } = await session(ALICE);
  client.send(query("update orders set state = 'ghost'"));
  const name = await noticed(client);
  const hold = await named(name);
  client.end();
  assert.equal((await phaseOf(name)).phase, 'Withdrawn');
  await scene.decideHold(DANA, hold, 'Approve').catch(() => undefined);
  const events = await eventsOf(name);
  assert.deepEqual(events, ['Opened', 'ClientGone']);
  await sleep(300);
  assert.equal(await states(), 'new');
  return `phase Withdrawn, recorded ${events.join(', ')}; a vote afterwards runs nothing`;
}

async function fatal(client: RawClient): Promise<Record<string, string>> {
  await Promise.race([client.closed, sleep(15_000).then(() => assert.fail('the session was not ended'))]);
  const last = client.messages.filter((one) => one.type === 'E').at(-1);
  assert.ok(last, 'a FATAL');
  const told = fields(last);
  assert.equal(told.S, 'FATAL');
  assert.equal(told.C, '57P01');
  return told;
}

async function expired(): Promise<string> {
  await reset();
  const { client } = await session(ALICE, '3s');
  client.send(query("update orders set state = 'late'"));
  const name = await noticed(client);
  const hold = await named(name);
  const told = await fatal(client);
  assert.match(told.M!, /expired/);
  await scene.decideHold(DANA, hold, 'Approve').catch(() => undefined);
  await sleep(300);
  assert.equal(await states(), 'new');
  assert.deepEqual(await eventsOf(name), ['Opened', 'GrantEnded']);
  return `FATAL ${told.M}; phase ${(await phaseOf(name)).phase}; nothing ran`;
}

async function locked(): Promise<string> {
  await reset();
  const { client } = await session(ALICE);
  client.send(query("update orders set state = 'locked'"));
  const name = await noticed(client);
  const hold = await named(name);
  const lock = await scene.acts.lockUser(DANA, ALICE.username);
  const told = await fatal(client);
  assert.match(told.M!, /lock/i);
  await scene.decideHold(DANA, hold, 'Approve').catch(() => undefined);
  await sleep(300);
  await scene.acts.unlock(DANA, lock);
  await until('the lock to be gone', async () =>
    (await scene.acts.client.list('AccessLock', NAMESPACE)).length === 0 ? true : undefined,
  );
  assert.equal(await states(), 'new');
  assert.deepEqual(await eventsOf(name), ['Opened', 'GrantEnded']);
  return `FATAL ${told.M}; nothing ran`;
}

const bound = (value: string): Buffer[] => [
  parseMessage('', 'insert into ledger (note) values ($1)', [25]),
  bindMessage('', '', [value]),
  executeMessage(''),
  SYNC,
];

/** Runs `send` and says whether it was held; a held one is left waiting. */
async function holdsUp(client: RawClient, parts: Buffer[]): Promise<string | undefined> {
  client.send(...parts);
  const messages = await client.until(
    (one) => one.type === 'Z' || (one.type === 'N' && fields(one).M!.startsWith('Held as')),
  );
  const last = messages.at(-1)!;
  if (last.type === 'Z') {
    assert.ok(!messages.some((one) => one.type === 'E'), shown(messages).join(' '));
    return undefined;
  }
  return /h-[a-z0-9]+/.exec(fields(last).M!)![0];
}

async function rerun(): Promise<string> {
  await reset();
  // An approval that its session did not live to use: the process dies while the statement waits.
  const { client, held } = await session(ALICE);
  const name = await holdsUp(client, bound('7'));
  assert.ok(name);
  const hold = await named(name);
  await scene.local.kill();
  await client.closed;
  await scene.local.start();
  assert.equal((await scene.hold(name))?.status?.phase ?? 'Waiting', 'Waiting');
  await scene.decideHold(DANA, hold, 'Approve');
  assert.equal((await phaseOf(name)).phase, 'Approved');
  assert.equal(await ledger(), 0);
  // Other parameters are another command: the approval does not carry over.
  const first = await scene.raw(held);
  const other = await holdsUp(first, bound('8'));
  assert.ok(other, 'other parameters are held anew');
  await cancel(first);
  await first.ready();
  const text = await holdsUp(first, [query("insert into ledger (note) values ('7')")]);
  assert.ok(text, 'another text is held anew');
  await cancel(first);
  await first.ready();
  // Somebody else's grant neither.
  const { client: foreign } = await session(EVE);
  const foreignHold = await holdsUp(foreign, bound('7'));
  assert.ok(foreignHold, 'another grant is held anew');
  foreign.end();
  assert.equal(await ledger(), 0);
  // The same command under the same grant: in two sessions at once, and it runs in one.
  const second = await scene.raw(held);
  const outcomes = await Promise.all([holdsUp(first, bound('7')), holdsUp(second, bound('7'))]);
  const ran = outcomes.filter((outcome) => outcome === undefined).length;
  assert.equal(ran, 1, 'ran once');
  assert.equal(await ledger(), 1);
  await until('its use to be noted', async () => (await scene.hold(name))?.status?.usedAt);
  const again = outcomes[0] === undefined ? first : second;
  assert.ok(await holdsUp(again, bound('7')), 'the third is held anew');
  assert.equal(await ledger(), 1);
  for (const one of [first, second]) one.end();
  return 'approved after kill -9; other parameters, text and grant held anew; two re-runs at once ran once; then held again';
}

async function inTransaction(): Promise<string> {
  await reset();
  const { client } = await session(ALICE);
  // Held right behind a BEGIN that the server has not answered yet.
  client.send(query('begin'), query("insert into ledger (note) values ('tx')"));
  const earlier = await scene.waitingHold();
  assert.ok(
    Date.parse(earlier.spec.until) - Date.parse(earlier.spec.requestedAt) < 5_000,
    'less than the server waits',
  );
  await scene.decideHold(DANA, earlier, 'Approve');
  const begun = await client.ready(2);
  assert.deepEqual(tagsOf(begun), ['C(BEGIN)', 'Z(T)', 'C(INSERT 0 1)', 'Z(T)']);
  client.send(query("update orders set state = 'tx'"));
  const name = await noticed(client);
  assert.equal(
    await scene.value<string>("select state from pg_stat_activity where usename = 'app' and state like 'idle in%'"),
    'idle in transaction',
  );
  await scene.decideHold(DANA, await named(name), 'Approve');
  assert.deepEqual(shown(await client.ready()), ['C(UPDATE 20)', 'Z(T)']);
  client.send(query('commit'));
  assert.deepEqual(shown(await client.ready()), ['C(COMMIT)', 'Z(I)']);
  assert.equal(await states(), 'tx');
  assert.equal(await ledger(), 1);

  client.send(query('begin'), query("update orders set state = 'lost' where id = 1"));
  await client.ready(2);
  client.send(query("update orders set state = 'never'"));
  await scene.decideHold(DANA, await named(await noticed(client)), 'Deny', 'no');
  assert.deepEqual(tagsOf(await client.ready()), ['E', 'Z(E)']);
  client.send(query("update orders set state = 'dead' where id = 2"), query('commit'));
  const rest = await client.ready(2);
  assert.deepEqual(tagsOf(rest), ['E', 'Z(E)', 'C(ROLLBACK)', 'Z(I)']);
  assert.equal(errorOf(rest).C, '25P02');
  assert.equal(await states(), 'tx');

  // Shorter than the server's patience with idle transactions, so that the refusal finds the transaction alive.
  // It is the account's setting that counts; one that the session sets for itself ends it natively.
  client.end();
  const { client: hurried } = await session(ALICE);
  hurried.send(query('begin'));
  await hurried.ready();
  const from = Date.now();
  hurried.send(query("update orders set state = 'never'"));
  await noticed(hurried);
  const answer = await hurried.ready();
  const waited = Date.now() - from;
  assert.match(errorOf(answer).M!, /nobody consented in time/);
  assert.deepEqual(tagsOf(answer), ['E', 'Z(E)']);
  hurried.send(query('rollback'));
  assert.deepEqual(shown(await hurried.ready()), ['C(ROLLBACK)', 'Z(I)']);
  hurried.end();
  return `approved: committed; denied: ROLLBACK of all; with idle_in_transaction_session_timeout 5 s the wait ended after ${(waited / 1000).toFixed(1)} s and the transaction was still there`;
}

async function inPipeline(): Promise<string> {
  await reset();
  const { client } = await session(ALICE);
  const step = (sql: string): Buffer[] => [parseMessage('', sql), bindMessage('', ''), executeMessage('')];
  const pipeline = [
    ...step("update orders set state = 'first' where id = 1"),
    ...step("update orders set state = 'all'"),
    ...step("update orders set state = 'third' where id = 3"),
    SYNC,
    query('select 1'),
  ];
  client.send(...pipeline);
  await scene.decideHold(DANA, await named(await noticed(client)), 'Approve');
  const run = await client.ready(2);
  assert.deepEqual(tagsOf(run), ['C(UPDATE 1)', 'C(UPDATE 20)', 'C(UPDATE 1)', 'Z(I)', 'C(SELECT 1)', 'Z(I)']);
  assert.equal(await states(), 'all,third');
  await reset();
  client.send(...pipeline);
  await scene.decideHold(DANA, await named(await noticed(client)), 'Deny');
  const stopped = await client.ready(2);
  assert.deepEqual(tagsOf(stopped).slice(-4), ['E', 'Z(I)', 'C(SELECT 1)', 'Z(I)']);
  assert.ok(!tagsOf(stopped).includes('C(UPDATE 20)'));
  assert.equal(stopped.filter((one) => one.type === 'E').length, 1);
  assert.equal(await states(), 'new', 'what stood before it in the pipeline is gone');
  client.end();
  return 'approved: three UPDATEs in order; denied: one error, nothing persisted, next query answered';
}

async function two(): Promise<string> {
  await reset();
  const held = await granted(ALICE);
  const [one, other] = [await scene.raw(held), await scene.raw(held)];
  one.send(query("update orders set state = 'one'"));
  other.send(query("update orders set state = 'other'"));
  const [first, second] = [await noticed(one), await noticed(other)];
  assert.notEqual(first, second);
  await scene.decideHold(DANA, await named(second), 'Approve');
  assert.deepEqual(shown(await other.ready()), ['C(UPDATE 20)', 'Z(I)']);
  assert.equal(await states(), 'other');
  assert.equal((await scene.hold(first))?.status?.phase ?? 'Waiting', 'Waiting');
  await scene.decideHold(DANA, await named(first), 'Deny');
  assert.equal(errorOf(await one.ready()).C, '42501');
  assert.equal(await states(), 'other');
  // The same statement twice: a consent is for one of them.
  for (const client of [one, other]) client.send(query("update orders set state = 'same'"));
  const names = [await noticed(one), await noticed(other)];
  await scene.decideHold(DANA, await named(names[0]!), 'Approve');
  assert.deepEqual(shown(await one.ready()), ['C(UPDATE 20)', 'Z(I)']);
  await sleep(300);
  assert.equal((await scene.hold(names[1]!))?.status?.phase ?? 'Waiting', 'Waiting');
  await cancel(other);
  await other.ready();
  for (const client of [one, other]) {
    await usable(client);
    client.end();
  }
  return 'each decided by itself; a consent let one of two equal statements pass';
}

async function wrongApprovers(): Promise<string> {
  await reset();
  const { client } = await session(EVE);
  client.send(query('delete from orders'));
  const hold = await named(await noticed(client));
  const refused: string[] = [];
  for (const person of [OTTO, EVE, { ...EVE, username: 'EVE' }, ALICE]) {
    await scene.decideHold(person, hold, 'Approve').then(
      () => refused.push(`${person.username} not counted`),
      () => refused.push(`${person.username} refused`),
    );
  }
  await scene.decideHold(OTTO, hold, 'Deny').catch(() => undefined);
  await sleep(500);
  assert.equal((await scene.hold(hold.metadata.name))?.status?.phase ?? 'Waiting', 'Waiting');
  assert.equal(await scene.value<number>('select count(*)::int from orders'), 20);
  const cli = await scene.local.cli(['approve', hold.metadata.name, '-n', NAMESPACE, '--yes'], {
    as: EVE.username,
    groups: EVE.groups,
  });
  assert.equal(cli.code, 77, cli.stderr);
  assert.match(cli.stderr, /Nobody approves their own/);
  await scene.decideHold(DANA, hold, 'Deny', 'no');
  assert.equal(errorOf(await client.ready()).C, '42501');
  client.end();
  return refused.join(', ');
}

export const holds: CriteriaGroup = {
  name: 'holds',
  async start() {
    scene = await startScene({
      setup: `create table orders (id int primary key, state text);
        insert into orders select g, 'new' from generate_series(1, 20) g;
        create table ledger (id serial primary key, note text);
        create table hasty (id int);
        alter table orders owner to app; alter table ledger owner to app; alter table hasty owner to app;
        alter role app set idle_in_transaction_session_timeout = '5s';`,
      policies: POLICY,
    });
  },
  criteria: [
    { claim: 'INV-01: an approved statement runs in the session that waited, and only then', check: approved },
    { claim: 'INV-09: a denied one ends in a native error that quotes the approver; nothing ran', check: denied },
    { claim: 'one that nobody decides ends with its time', check: timedOut },
    { claim: 'Ctrl-C withdraws', check: cancelled },
    { claim: 'the hold of a client that is gone is withdrawn', check: clientGone },
    { claim: 'INV-03: a grant that ends takes its hold along', check: expired },
    { claim: 'INV-03: so does a lock', check: locked },
    { claim: 'INV-01: a consent is for one run of the same text, parameters and grant', check: rerun },
    { claim: 'INV-09: a hold inside a transaction', check: inTransaction },
    { claim: 'INV-09: a hold inside a pipeline', check: inPipeline },
    { claim: 'two sessions that hold at once do not disturb each other', check: two },
    { claim: 'INV-08: neither who sent it nor who is no approver lets it pass', check: wrongApprovers },
  ],
  async stop() {
    await scene?.stop();
  },
};
