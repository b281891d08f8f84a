// Denials in every place a statement can stand: the client's books (error, SQLSTATE, command tags, transaction states)
// are the server's, and nothing denied, nor what a denial undoes, is there afterwards.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import fc from 'fast-check';
import type pg from 'pg';
import { FLUSH, query, SYNC } from '../../src/protocols/postgres/wire/messages.ts';
import type { HeldGrant, Person } from '../support/in-process.ts';
import {
  bindMessage,
  closeMessage,
  copyData,
  copyDone,
  describeMessage,
  executeMessage,
  fields,
  parseMessage,
  type RawClient,
  type RawMessage,
  show,
} from '../support/raw-postgres.ts';
import { CONNECTION, NAMESPACE, type Scene, startScene } from '../support/scene.ts';
import { tools } from '../support/tools.ts';
import type { CriteriaGroup, Criterion } from './criterion.ts';

const run = promisify(execFile);
const MAJORS = [18, 15] as const;
type Major = (typeof MAJORS)[number];
const WRITER: Person = { username: 'wanda', groups: ['writers'] };

const POLICY = `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: writers, namespace: ${NAMESPACE}}
spec:
  connectionSelector: {names: [${CONNECTION}]}
  subjects: [{kind: Group, name: writers}]
  accounts: [app]
  access: Standing
  rules:
  - {name: all, action: Allow, sql: {effects: [Read, Write, Session, Execute]}}
  - {name: not-there, action: Deny, sql: {tables: ["*.forbidden"]}, message: That table is not yours.}
`;
const SETUP = `
create table orders (id int primary key, state text);
create table forbidden (id int primary key, note text);
create table scratch (id int, note text); alter table scratch owner to app;
create table deferred (id int primary key, parent int references orders deferrable initially deferred);
alter table orders owner to app; alter table forbidden owner to app; alter table deferred owner to app;
grant create on schema public to app;`;

const scenes = new Map<Major, { scene: Scene; held: HeldGrant }>();

const DENIED = "insert into forbidden values (1, 'denied')";
const insert = (id: number): string => `insert into orders values (${id}, 'kept?')`;

/** Tags, errors' codes and transaction states; what the client's own books are made of. */
function books(messages: readonly RawMessage[]): string[] {
  return messages
    .filter((one) => 'CEIZ12tnTs3GH'.includes(one.type))
    .map((one) => (one.type === 'E' ? `E(${fields(one).C})` : 'CZ'.includes(one.type) ? show(one) : one.type));
}
const essentials = (messages: readonly RawMessage[]): string[] => books(messages).filter((one) => /^[CEZ]\(/.test(one));

function assertDenial(messages: readonly RawMessage[]): void {
  const denial = messages.find((one) => one.type === 'E' && fields(one).C === '42501');
  assert.ok(denial, `a denial among ${essentials(messages).join(' ')}`);
  const { S, M, D, H } = fields(denial);
  assert.equal(S, 'ERROR');
  assert.match(M!, /^Sallyport refused (INSERT|COPY|SELECT|UPDATE|DELETE)/);
  assert.match(D!, /^Policy payments\/writers, rule "not-there" \(denial d-\w+\)\. Nothing reached the database\.$/);
  assert.match(H!, /That table is not yours|sallyport why d-/);
}

interface Play {
  scene: Scene;
  held: HeldGrant;
  client: RawClient;
  /** Sends and reads `ready` ReadyForQuery. */
  say(ready: number, ...parts: Buffer[]): Promise<RawMessage[]>;
  /** What the server itself believes of this session. */
  state(): Promise<string>;
  ids(): Promise<number[]>;
}

/** A fresh session and empty tables on each version; afterwards nothing is in the forbidden table. */
async function onBoth(play: (p: Play, major: Major) => Promise<void>): Promise<string> {
  for (const [major, { scene, held }] of scenes) {
    await scene.server.query('truncate orders, forbidden, deferred');
    const client = await scene.raw(held);
    client.send(query('select pg_backend_pid()'));
    const row = (await client.ready()).find((message) => message.type === 'D')!;
    const backend = Number(row.body.toString('latin1', 6));
    try {
      await play(
        {
          scene,
          held,
          client,
          async say(ready, ...parts) {
            client.send(...parts);
            return client.ready(ready);
          },
          state: () => scene.value<string>('select state from pg_stat_activity where pid = $1', [backend]),
          ids: () => scene.value<number[]>("select coalesce(array_agg(id order by id), '{}') from orders"),
        },
        major,
      );
      client.send(query('select 41 + 1'));
      assert.deepEqual((await client.ready()).map(show), ['T', 'D(......42)', 'C(SELECT 1)', 'Z(I)'], 'usable');
      assert.equal(await scene.value<number>('select count(*)::int from forbidden'), 0);
    } catch (error) {
      throw new Error(`PostgreSQL ${major}: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    } finally {
      client.end();
    }
  }
  return [...scenes.keys()].join(' and ');
}

const extended = (sql: string, name = ''): Buffer[] => [
  parseMessage(name, sql),
  bindMessage('', name),
  describeMessage('P', ''),
  executeMessage(''),
];

const inTransaction: Criterion = {
  claim: 'INV-09: BEGIN; INSERT; denied; INSERT; COMMIT is a ROLLBACK, simple and extended',
  check: () =>
    onBoth(async ({ say, state, ids }) => {
      for (const ways of [(sql: string) => [query(sql)], (sql: string) => [...extended(sql), SYNC]]) {
        assert.deepEqual(essentials(await say(1, ...ways('begin'))), ['C(BEGIN)', 'Z(T)']);
        assert.equal(await state(), 'idle in transaction');
        assert.deepEqual(essentials(await say(1, ...ways(insert(1)))), ['C(INSERT 0 1)', 'Z(T)']);
        const refused = await say(1, ...ways(DENIED));
        assertDenial(refused);
        assert.deepEqual(essentials(refused), ['E(42501)', 'Z(E)']);
        assert.equal(await state(), 'idle in transaction (aborted)');
        assert.deepEqual(essentials(await say(1, ...ways(insert(2)))), ['E(25P02)', 'Z(E)']);
        assert.deepEqual(essentials(await say(1, ...ways('commit'))), ['C(ROLLBACK)', 'Z(I)']);
        assert.equal(await state(), 'idle');
        assert.deepEqual(await ids(), []);
      }
      // Everything at once, as a client that does not wait would.
      const all = await say(5, ...['begin', insert(1), DENIED, insert(2), 'commit'].map((sql) => query(sql)));
      assert.deepEqual(essentials(all), [
        'C(BEGIN)',
        'Z(T)',
        'C(INSERT 0 1)',
        'Z(T)',
        'E(42501)',
        'Z(E)',
        'E(25P02)',
        'Z(E)',
        'C(ROLLBACK)',
        'Z(I)',
      ]);
      assert.deepEqual(await ids(), []);
    }),
};

const inPipeline: Criterion = {
  claim: 'INV-09: a denial in a pipeline takes its earlier INSERTs along, and only up to its Sync',
  check: () =>
    onBoth(async ({ say, client, state, ids }) => {
      const first = await say(
        2,
        ...extended(insert(1)),
        ...extended(DENIED),
        ...extended(insert(2)),
        SYNC,
        ...extended(insert(3)),
        SYNC,
      );
      assertDenial(first);
      assert.deepEqual(essentials(first), ['C(INSERT 0 1)', 'E(42501)', 'Z(I)', 'C(INSERT 0 1)', 'Z(I)']);
      assert.deepEqual(await ids(), [3]);
      // Flush alone brings the error; nothing more comes before the Sync.
      client.send(...extended(insert(4)), ...extended(DENIED), FLUSH);
      const flushed = await client.until((one) => one.type === 'E');
      assert.deepEqual(essentials(flushed), ['C(INSERT 0 1)', 'E(42501)']);
      client.send(...extended(insert(5)), FLUSH, SYNC);
      assert.deepEqual(essentials(await client.ready()), ['Z(I)']);
      assert.equal(await state(), 'idle');
      assert.deepEqual(await ids(), [3]);
      // BEGIN in the pipeline: the transaction is left aborted.
      const begun = await say(1, ...extended('begin'), ...extended(insert(6)), ...extended(DENIED), SYNC);
      assert.deepEqual(essentials(begun), ['C(BEGIN)', 'C(INSERT 0 1)', 'E(42501)', 'Z(E)']);
      assert.equal(await state(), 'idle in transaction (aborted)');
      assert.deepEqual(essentials(await say(1, query('rollback'))), ['C(ROLLBACK)', 'Z(I)']);
      assert.deepEqual(await ids(), [3]);
    }),
};

const multi: Criterion = {
  claim: 'INV-09: a Query of several statements is judged whole: none of them runs',
  check: () =>
    onBoth(async ({ say, state, ids }) => {
      for (const text of [
        `${insert(1)}; ${DENIED}`,
        `${DENIED}; ${insert(1)}`,
        `begin; ${insert(1)}; commit; ${DENIED}; ${insert(2)}`,
        `${insert(1)}; commit; ${DENIED}`,
      ]) {
        const answer = await say(1, query(text));
        assertDenial(answer);
        assert.deepEqual(essentials(answer), ['E(42501)', 'Z(I)']);
        assert.equal(await state(), 'idle');
        assert.deepEqual(await ids(), []);
      }
      await say(1, query('begin'));
      assert.deepEqual(essentials(await say(1, query(`commit; ${DENIED}`))), ['E(42501)', 'Z(E)']);
      assert.equal(await state(), 'idle in transaction (aborted)');
      assert.deepEqual(essentials(await say(1, query('rollback'))), ['C(ROLLBACK)', 'Z(I)']);
    }),
};

const savepoints: Criterion = {
  claim: 'INV-09: denied inside a savepoint, ROLLBACK TO goes on from there',
  check: () =>
    onBoth(async ({ say, state, ids }) => {
      for (const [round, ways] of [
        (sql: string) => [query(sql)],
        (sql: string) => [...extended(sql), SYNC],
      ].entries()) {
        const base = round * 10;
        for (const sql of ['begin', insert(base + 1), 'savepoint here', insert(base + 2)]) await say(1, ...ways(sql));
        assert.deepEqual(essentials(await say(1, ...ways(DENIED))), ['E(42501)', 'Z(E)']);
        assert.equal(await state(), 'idle in transaction (aborted)');
        assert.deepEqual(essentials(await say(1, ...ways('rollback to here'))), ['C(ROLLBACK)', 'Z(T)']);
        assert.equal(await state(), 'idle in transaction');
        await say(1, ...ways(insert(base + 3)));
        assert.deepEqual(essentials(await say(1, ...ways('commit'))), ['C(COMMIT)', 'Z(I)']);
      }
      assert.deepEqual(await ids(), [1, 3, 11, 13]);
    }),
};

const copies: Criterion = {
  claim: 'INV-09: COPY is denied in both directions, with its data already on the way',
  check: () =>
    onBoth(async ({ say, state, ids }) => {
      const inward = 'copy forbidden from stdin';
      const outward = 'copy forbidden to stdout';
      assert.deepEqual(essentials(await say(1, query(outward))), ['E(42501)', 'Z(I)']);
      assert.deepEqual(essentials(await say(1, query('copy (select * from forbidden) to stdout'))), [
        'E(42501)',
        'Z(I)',
      ]);
      assert.deepEqual(essentials(await say(1, ...extended(outward), SYNC)), ['E(42501)', 'Z(I)']);
      // A client that does not wait for the server's word sends its rows at once; they have no COPY to go to.
      const eager = await say(2, query(inward), copyData('1\tx\n'), copyDone(), query(insert(1)));
      assertDenial(eager);
      assert.deepEqual(essentials(eager), ['E(42501)', 'Z(I)', 'C(INSERT 0 1)', 'Z(I)']);
      const piped = await say(2, ...extended(inward), copyData('1\tx\n'), copyDone(), SYNC, query(insert(2)));
      assert.deepEqual(essentials(piped), ['E(42501)', 'Z(I)', 'C(INSERT 0 1)', 'Z(I)']);
      assert.deepEqual(await ids(), [1, 2]);
      await say(1, query('begin'));
      assert.deepEqual(essentials(await say(1, query(inward))), ['E(42501)', 'Z(E)']);
      assert.equal(await state(), 'idle in transaction (aborted)');
      await say(1, query('rollback'));
      // Allowed ones still work.
      const allowed = await say(1, query('copy orders from stdin'), copyData('7\tx\n'), copyDone());
      assert.deepEqual(essentials(allowed), ['C(COPY 1)', 'Z(I)']);
    }),
};

const names: Criterion = {
  claim: 'INV-09: a denied Parse defines nothing; its name is free, and one of that name before it stays',
  check: () =>
    onBoth(async ({ say, ids }) => {
      assert.deepEqual(essentials(await say(1, parseMessage('n', DENIED), SYNC)), ['E(42501)', 'Z(I)']);
      const unknown = await say(1, bindMessage('', 'n'), executeMessage(''), SYNC);
      assert.match(essentials(unknown).join(' '), /^E\((26000|42501)\) Z\(I\)$/);
      const reused = await say(1, ...extended(insert(1), 'n'), SYNC);
      assert.deepEqual(books(reused), ['1', '2', 'n', 'C(INSERT 0 1)', 'Z(I)']);
      // One that exists is not replaced by what was denied.
      assert.deepEqual(essentials(await say(1, parseMessage('n', DENIED), SYNC)), ['E(42501)', 'Z(I)']);
      await say(1, query('delete from orders'));
      assert.deepEqual(essentials(await say(1, bindMessage('', 'n'), executeMessage(''), SYNC)), [
        'C(INSERT 0 1)',
        'Z(I)',
      ]);
      assert.deepEqual(books(await say(1, closeMessage('S', 'n'), SYNC)), ['3', 'Z(I)']);
      // SQL's own prepared statements share the names.
      assert.deepEqual(essentials(await say(1, query(`prepare q as ${DENIED}`))), ['E(42501)', 'Z(I)']);
      assert.match(essentials(await say(1, query('execute q'))).join(' '), /^E\((26000|42501)\) Z\(I\)$/);
      assert.deepEqual(await ids(), [1]);
    }),
};

interface DriverError {
  code: string;
  message: string;
}

const drivers: Criterion = {
  claim: 'INV-09: node-postgres and psycopg see it as an error like any other, and go on',
  async check() {
    const seen: string[] = [];
    for (const [major, { scene, held }] of scenes) {
      await scene.server.query('truncate orders, forbidden, deferred');
      const { client, errors } = await scene.driver(held);
      const refused = async (...args: [string, unknown[]?] | [pg.QueryConfig]): Promise<DriverError> =>
        client.query(...(args as [string])).then(
          () => assert.fail('not refused'),
          (error: DriverError) => error,
        );
      assert.equal((await refused(DENIED)).code, '42501');
      assert.equal((await refused('insert into forbidden values ($1, $2)', [1, 'x'])).code, '42501');
      assert.equal(
        (await refused({ name: 'p', text: 'select * from forbidden where id = $1', values: [1] })).code,
        '42501',
      );
      await client.query('begin');
      await client.query(insert(1));
      assert.equal((await refused(DENIED)).code, '42501');
      assert.equal((await refused(insert(2))).code, '25P02');
      assert.equal((await client.query('commit')).command, 'ROLLBACK');
      await client.query({ name: 'p2', text: 'insert into orders values ($1, $2)', values: [5, 'x'] });
      assert.equal(await scene.value<number>('select count(*)::int from orders'), 1);
      assert.deepEqual(errors, []);
      await client.end();
      seen.push(`node-postgres on ${major}`);
      if (tools.psycopg === undefined) continue;
      await scene.server.query('truncate orders, forbidden, deferred');
      const login = held.login();
      const { stdout } = await run(tools.psycopg, ['-c', PSYCOPG], {
        env: {
          ...process.env,
          PGHOST: '127.0.0.1',
          PGPORT: String(login.port),
          PGUSER: login.user,
          PGPASSWORD: login.password,
          PGDATABASE: login.database,
          PGSSLMODE: 'require',
        },
        timeout: 30_000,
      });
      assert.equal(stdout.trim(), PSYCOPG_SAYS, stdout);
      assert.deepEqual(await scene.value<number[]>('select array_agg(id order by id) from orders'), [8, 9]);
      seen.push(`psycopg on ${major}`);
    }
    return seen.join(', ');
  },
};

const PSYCOPG = `
import psycopg
from psycopg import pq
status = lambda c: pq.TransactionStatus(c.info.transaction_status).name
with psycopg.connect(autocommit=False) as c:
    c.execute("insert into orders values (1, 'x')")
    print(status(c))
    try:
        c.execute("insert into forbidden values (%s, 'x')", [1])
    except psycopg.errors.InsufficientPrivilege as e:
        print(e.sqlstate, status(c))
    try:
        c.execute("insert into orders values (2, 'x')")
    except psycopg.errors.InFailedSqlTransaction as e:
        print(e.sqlstate, status(c))
    c.rollback()
    print(status(c))
    try:
        with c.pipeline():
            c.execute("insert into orders values (3, 'x')")
            c.execute("insert into forbidden values (3, 'x')")
            c.execute("insert into orders values (4, 'x')")
    except psycopg.Error as e:
        print(e.sqlstate, status(c))
    c.rollback()
    with c.transaction():
        c.execute("insert into orders values (8, 'x')")
        try:
            with c.transaction():
                c.execute("select * from forbidden")
        except psycopg.errors.InsufficientPrivilege as e:
            print("savepoint", e.sqlstate, status(c))
        c.execute("insert into orders values (9, 'x')")
    try:
        with c.cursor().copy("copy forbidden from stdin") as copy:
            copy.write("1\\tx\\n")
    except psycopg.errors.InsufficientPrivilege as e:
        print("copy", e.sqlstate, status(c))
    c.rollback()
    print(c.execute("select count(*) from orders").fetchone()[0], status(c))
`;
const PSYCOPG_SAYS = `INTRANS
42501 INERROR
25P02 INERROR
IDLE
42501 INERROR
savepoint 42501 INTRANS
copy 42501 INERROR
2 INTRANS`;

// --- random sequences, compared with a direct connection where what is denied is a syntax error

/** [through the gateway, straight to the server] */
type Pair = readonly [gateway: Buffer[], direct: Buffer[]];
const same = (...parts: Buffer[]): Pair => [parts, parts];
const SYNTAX = 'selec nothing';

/** Names are parsed at most once each, so that nothing hangs on what the gateway refuses to guess. */
const STEPS: Readonly<Record<string, Pair>> = {
  insert: same(query("insert into orders select coalesce(max(id), 0) + 1, 'q' from orders")),
  twoStatements: same(query("insert into orders select coalesce(max(id), 0) + 1, 'm' from orders; select 1")),
  failing: same(query('select 1/0')),
  empty: same(query('')),
  begin: same(query('begin')),
  commit: same(query('commit')),
  rollback: same(query('rollback')),
  savepoint: same(query('savepoint s')),
  rollbackTo: same(query('rollback to s')),
  deferred: same(query('insert into deferred select coalesce(max(id), 0) + 1, 100000 from deferred')),
  copyOut: same(query('copy (select 1) to stdout')),
  extendedInsert: same(...extended("insert into orders select coalesce(max(id), 0) + 1, 'e' from orders")),
  extendedFailing: same(...extended('select 1/0')),
  extendedSelect: same(...extended('select id from orders order by id')),
  extendedDeferred: same(...extended('insert into deferred select coalesce(max(id), 0) + 1, 100000 from deferred')),
  sync: same(SYNC),
  flush: same(FLUSH),
  deniedQuery: [[query(DENIED)], [query(SYNTAX)]],
  deniedAmong: [[query(`select 1; ${DENIED}; select 2`)], [query(SYNTAX)]],
  deniedParse: [extended(DENIED), extended(SYNTAX)],
  // A syntax error under a name: the unnamed statement of before survives, as it does behind a substitute.
  deniedRead: [extended('select * from forbidden', 'zz'), extended(SYNTAX, 'zz')],
  deniedCopyOut: [[query('copy forbidden to stdout')], [query(SYNTAX)]],
  deniedCopyIn: [[query('copy forbidden from stdin')], [query(SYNTAX)]],
  deniedCopyInEager: [
    [query('copy forbidden from stdin'), copyData('1\tx\n'), copyDone()],
    [query(SYNTAX), copyData('1\tx\n'), copyDone()],
  ],
  copyIn: same(query('copy scratch from stdin'), copyData('1\tx\n'), copyDone()),
};

async function playSteps(client: RawClient, parts: readonly Buffer[], chunk: number): Promise<RawMessage[]> {
  const bytes = Buffer.concat([...parts, SYNC, query('rollback'), query("select 'the end'")]);
  for (let at = 0; at < bytes.length; at += chunk) {
    client.send(bytes.subarray(at, at + chunk));
    if (chunk < bytes.length) await new Promise((resolve) => setImmediate(resolve));
  }
  const received = await client.until((one) => one.type === 'D' && one.body.includes('the end'));
  return [...received, ...(await client.ready())];
}

/** Errors alike: a denial stands where the syntax error does. */
const comparable = (messages: readonly RawMessage[]): string[] =>
  books(messages).map((one) => (one === 'E(42501)' || one === 'E(42601)' ? 'E(refused)' : one));

/**
 * Behind a simple query in an unfinished extended batch the server itself answers an error with an internal one. Where it
 * does so straight, a denial may stand in its place.
 */
const expected = (direct: readonly string[], gateway: readonly string[]): string[] =>
  direct.map((one, index) => (one === 'E(XX000)' && gateway[index] === 'E(refused)' ? 'E(refused)' : one));

const random: Criterion = {
  claim: 'INV-09: random sequences get the replies a direct connection gets with a syntax error for what is denied',
  async check() {
    const runs = Number(process.env.FUZZ_RUNS ?? 150);
    let compared = 0;
    let refusals = 0;
    for (const { scene, held } of scenes.values()) {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.constantFrom(...Object.keys(STEPS)), { maxLength: 16 }),
          fc.constantFrom(1 << 20, 61, 7),
          async (steps, chunk) => {
            const rows: unknown[] = [];
            const replies: string[][] = [];
            for (const side of [0, 1] as const) {
              await scene.server.query('truncate orders, deferred');
              const client = side === 0 ? await scene.raw(held) : await scene.direct();
              try {
                const parts = steps.flatMap((step) => STEPS[step]![side]);
                const messages = await playSteps(client, parts, side === 0 ? chunk : 1 << 20);
                replies.push(comparable(messages));
                if (side === 0) refusals += books(messages).filter((one) => one === 'E(42501)').length;
              } finally {
                client.end();
              }
              rows.push(await scene.value("select coalesce(string_agg(id || state, ' ' order by id), '') from orders"));
            }
            compared += 1;
            assert.deepEqual(replies[0], expected(replies[1]!, replies[0]!));
            assert.equal(rows[0], rows[1], 'the same rows are there');
          },
        ),
        { numRuns: runs, examples: [[['begin', 'insert', 'deniedQuery', 'insert', 'commit'], 1 << 20]] },
      );
      assert.equal(await scene.value<number>('select count(*)::int from forbidden'), 0);
    }
    assert.ok(refusals > 0);
    return `${compared} sequences with ${refusals} denials equal in every tag, state and row`;
  },
};

export const denials: CriteriaGroup = {
  name: 'denials',
  async start() {
    for (const major of MAJORS) {
      if (major === 15 && tools.postgres15 === undefined) continue;
      const scene = await startScene({ major, setup: SETUP, policies: POLICY });
      scenes.set(major, { scene, held: await scene.granted(WRITER) });
    }
  },
  criteria: [inTransaction, inPipeline, multi, savepoints, copies, names, drivers, random],
  async stop() {
    for (const { scene } of scenes.values()) await scene.stop();
    scenes.clear();
  },
};
