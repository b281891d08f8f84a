// What is tried through a real gateway to get a masked value out: the statements that the masking engine is attacked
// with, and sequences that only a wire can carry.
import { FLUSH, message, query, SYNC } from '../../../src/protocols/postgres/wire/messages.ts';
import { bindMessage, copyDone, describeMessage, executeMessage, parseMessage } from '../../support/raw-postgres.ts';
import { MASKS, SETUP } from '../masking/schema.ts';

/** Masked only once its policy is edited, so not one of the values that must never be seen at all. */
export const LATE = '4024007103939509';

export const LEAK_SETUP = `${SETUP.replace('create role app login;', '')}
set role app;
create table sales.late (id int primary key, number text);
insert into sales.late select g, '${LATE}' from generate_series(1, 5) g;
create table sales.noisy (id int);
create function sales.notify_all() returns trigger language plpgsql as $$
  begin perform pg_notify('cards', (select number from sales.cards where id = 1)); return new; end $$;
create trigger noise after insert on sales.noisy for each row execute function sales.notify_all();
reset role;
`;

export const leakPolicy = (namespace: string, connection: string, lateToo: boolean): string => `
apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: attackers, namespace: ${namespace}}
spec:
  connectionSelector: {names: [${connection}]}
  subjects: [{kind: Group, name: attackers}]
  accounts: [app]
  access: Standing
  rules:
  - {name: all, action: Allow, sql: {effects: [Read, Write, Define, Grant, Execute, Session]}}
  masking:
${[
  ...MASKS.map(({ ref, columns, with: kind }) => ({ name: ref.rule, columns, with: kind })),
  ...(lateToo ? [{ name: 'late', columns: ['sales.late.number'], with: 'Redact' }] : []),
]
  .map((mask) => `  - ${JSON.stringify(mask)}`)
  .join('\n')}
`;

export interface WireAttack {
  name: string;
  /** StartupMessage parameters. */
  startup?: Record<string, string>;
  /** Each is sent when the one before was answered; so many ReadyForQuery end it. */
  turns: readonly { send: Buffer[]; ready: number }[];
}

const run = (sql: string, formats: number[] = []): Buffer[] => [
  parseMessage('', sql),
  bindMessage('', '', [], formats),
  describeMessage('P', ''),
  executeMessage(''),
];
const turn = (ready: number, ...send: Buffer[]): { send: Buffer[]; ready: number } => ({ send, ready });
const pipeline = (...texts: string[]): { send: Buffer[]; ready: number } =>
  turn(1, ...texts.flatMap((text) => run(text)), SYNC);

export const WIRE: readonly WireAttack[] = [
  {
    name: 'rows of a portal a few at a time, each time another',
    turns: [
      turn(1, query('begin')),
      turn(
        1,
        parseMessage('', 'select number, secret from cards, customers'),
        bindMessage('p', '', [], [1]),
        executeMessage('p', 1),
        executeMessage('p', 2),
        FLUSH,
        executeMessage('p', 0),
        SYNC,
      ),
    ],
  },
  {
    name: 'a portal of the protocol read with SQL’s FETCH',
    turns: [
      turn(1, query('begin')),
      turn(1, parseMessage('', 'select number from cards'), bindMessage('p', ''), SYNC),
      turn(1, query('fetch all from p')),
      turn(1, query('move backward all from p; fetch 2 from p')),
    ],
  },
  {
    name: 'a cursor of SQL executed as a portal, in binary',
    turns: [
      turn(1, query('begin; declare c binary cursor for select pin, number from cards')),
      turn(1, describeMessage('P', 'c'), executeMessage('c', 1), executeMessage('c', 0), SYNC),
    ],
  },
  {
    name: 'a statement of SQL bound over the protocol',
    turns: [
      turn(1, query('prepare q as select upper(number), number from cards')),
      turn(1, query('prepare q2 as select number from cards')),
      turn(1, bindMessage('', 'q'), executeMessage(''), SYNC),
      turn(1, bindMessage('', 'q2', [], [1]), describeMessage('P', ''), executeMessage(''), SYNC),
    ],
  },
  {
    name: 'a named statement whose name is given anew',
    turns: [
      turn(1, parseMessage('n', 'select id from cards'), SYNC),
      turn(1, query('deallocate n'), parseMessage('n', 'select number from cards'), SYNC),
      turn(1, bindMessage('', 'n'), executeMessage(''), SYNC),
      turn(1, parseMessage('n', 'select reverse(number) from cards'), bindMessage('', 'n'), executeMessage(''), SYNC),
    ],
  },
  {
    name: 'a view made and read in one pipeline',
    turns: [pipeline('create temp view v as select number as n from cards', 'select n, reverse(n) from v')],
  },
  {
    name: 'a table renamed and read in one pipeline',
    turns: [
      pipeline('alter table cards rename to plain', 'select number from plain', 'alter table plain rename to cards'),
    ],
  },
  {
    name: 'a column renamed and read in one pipeline',
    turns: [
      pipeline(
        'alter table cards rename number to n2',
        'select n2, reverse(n2) from cards',
        'alter table cards rename n2 to number',
      ),
    ],
  },
  {
    name: 'a function made and called in one pipeline',
    turns: [
      pipeline(
        `create function pg_temp.f() returns setof text language sql as 'select number from sales.cards'`,
        'select pg_temp.f()',
      ),
    ],
  },
  {
    name: 'a temporary table that takes a clear one’s name',
    turns: [pipeline('create temp table orders as select * from cards', 'select * from orders')],
  },
  {
    name: 'search_path changed and a name read in one pipeline',
    turns: [
      pipeline(
        'create temp table state_counts as select 1 as number',
        'set search_path = sales',
        'select * from cards',
        'select reverse(number) from cards',
      ),
    ],
  },
  {
    name: 'a rename rolled back between Parse and Bind',
    turns: [
      turn(
        1,
        query('begin; alter table orders rename column number to x; alter table orders rename column state to number'),
      ),
      turn(1, parseMessage('n', 'select number from orders'), SYNC),
      turn(1, query('rollback')),
      turn(1, bindMessage('', 'n'), describeMessage('P', ''), executeMessage(''), SYNC),
    ],
  },
  {
    name: 'a search_path that makes a prepared statement mean another table',
    turns: [
      turn(1, query('create temp table cards (number text)')),
      turn(1, parseMessage('n', 'select number from cards'), SYNC),
      turn(1, query('drop table pg_temp.cards')),
      turn(1, bindMessage('', 'n'), executeMessage(''), SYNC),
      turn(1, bindMessage('', 'n', [], [1]), describeMessage('P', ''), executeMessage(''), SYNC),
    ],
  },
  {
    name: 'COPY out over the extended protocol',
    turns: [
      pipeline('copy cards to stdout'),
      pipeline('copy cards to stdout (format binary)'),
      pipeline(`copy (select id, number from cards) to stdout (format csv, force_quote *, delimiter ';')`),
    ],
  },
  {
    name: 'several COPYs and queries in one Query',
    turns: [
      turn(
        1,
        query('copy cards to stdout; select number from cards; copy customers to stdout csv header; table cards'),
      ),
    ],
  },
  {
    name: 'COPY in that reads its own table back',
    turns: [
      turn(1, query('begin; create temp table t (n text)')),
      turn(1, query('copy t from stdin'), copyDone()),
      turn(1, query('insert into t select number from cards; select n from t')),
    ],
  },
  {
    name: 'a call of the fast path',
    turns: [turn(1, message(0x46, Buffer.from([0, 0, 4, 210, 0, 0, 0, 1, 0, 0, 0, 1, 0x31, 0, 0])))],
  },
  {
    name: 'a listener to what a trigger tells',
    turns: [turn(1, query('listen cards')), turn(1, query('insert into noisy values (1)')), turn(1, query('select 1'))],
  },
  {
    name: 'statements recorded at the server',
    turns: [
      turn(
        1,
        query(`set application_name = 'x'; select query from pg_stat_activity; select pg_stat_get_backend_activity(1)`),
      ),
    ],
  },
  {
    name: 'errors in the middle of rows',
    turns: [
      turn(1, query('select number, 1 / (id - 2) from cards')),
      turn(1, query('select id / 0, number from cards')),
      pipeline('select number::int from cards where id = 1'),
    ],
  },
  {
    name: 'another encoding',
    startup: { client_encoding: 'LATIN1' },
    turns: [turn(1, query('select number, reverse(number) from cards')), turn(1, query('select number from cards'))],
  },
  {
    name: 'other settings at startup',
    startup: { options: '-c standard_conforming_strings=off -c search_path=pg_temp' },
    turns: [
      turn(1, query(`select '\\' || number || ' from sales.cards where ''`)),
      turn(1, query('select reverse(number) from sales.cards')),
    ],
  },
  {
    name: 'another role',
    turns: [
      turn(1, query('set role postgres')),
      turn(1, query('set session authorization postgres')),
      turn(1, query('select reverse(number) from sales.cards')),
    ],
  },
  {
    name: 'EXPLAIN in every way',
    turns: [
      turn(1, query(`explain (analyze, verbose, format json) select upper(number), secret from cards, customers`)),
      turn(
        1,
        query(
          `explain (verbose, settings) select * from cards where number = any ((select array_agg(number) from cards)::text[])`,
        ),
      ),
      turn(1, query('explain (analyze, verbose) execute none')),
      pipeline('explain (analyze, verbose, buffers) select number from cards order by id'),
    ],
  },
  {
    name: 'plans and expressions the server prints',
    turns: [
      turn(1, query('set debug_print_plan = on; set client_min_messages = debug5; select * from cards where id = 1')),
      turn(
        1,
        query('select pg_get_viewdef($$sales.card_list$$::regclass), pg_get_expr(adbin, adrelid) from pg_attrdef'),
      ),
    ],
  },
  {
    name: 'a snapshot carried to another transaction',
    turns: [
      turn(1, query('begin isolation level repeatable read; select pg_export_snapshot()')),
      turn(1, query('select number || pg_export_snapshot() from cards')),
    ],
  },
];
