// The masking catalog against real servers: what policy can permit, what changes under it, and the tools that must not notice.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import type { CompiledMask } from '../../../src/policy/bundle.ts';
import { classify } from '../../../src/protocols/postgres/classify/classify.ts';
import { openPlayer, type Player } from '../../hostile/masking/harness.ts';
import { CARDS, EMAILS, leaks, MASKS, SETUP } from '../../hostile/masking/schema.ts';
import { type PostgresServer, startPostgres } from '../../support/postgres.ts';

let server: PostgresServer;
const players: Player[] = [];
const player = async (
  masks: readonly CompiledMask[] = MASKS,
  trustedFunctions: readonly string[] = [],
): Promise<Player> => {
  const made = await openPlayer({ port: server.port, user: 'app', database: 'postgres', masks, trustedFunctions });
  players.push(made);
  return made;
};
const withPredicates = (predicates: CompiledMask['predicates']): CompiledMask[] =>
  MASKS.map((mask) => ({ ...mask, predicates }));
const detectors: CompiledMask = {
  ref: { policy: 'security', rule: 'contents' },
  columns: [],
  detectors: ['Card', 'Email', 'Jwt'],
  with: 'Redact',
  predicates: 'Deny',
  exempt: [],
};

describe('masking by a real catalog', () => {
  before(async () => {
    server = await startPostgres({ auth: 'trust', setup: SETUP });
  });
  after(async () => {
    for (const made of players) made.close();
    await server?.stop();
  });

  test('a refusal names the column and the rule, and says that nothing was sent', async () => {
    const { masking } = await player();
    const classified = classify('select upper(c.number) from sales.cards c');
    assert.equal(classified.kind, 'Statements');
    if (classified.kind !== 'Statements') return;
    const review = masking().review(classified.statements[0]!);
    assert.equal(review.kind, 'Refused');
    if (review.kind !== 'Refused') return;
    assert.equal(review.column, 'sales.cards.number');
    assert.deepEqual(review.by, { policy: 'payments/orders-team', rule: 'cards' });
    assert.match(review.message, /column sales\.cards\.number is masked/);
    assert.match(review.hint, /Nothing reached the database/);
  });

  test('a function that cannot be judged is named with the setting that permits it', async () => {
    const strict = await player();
    const refused = await strict.play([`select dynamic('select 1')`]);
    assert.match(refused.refused[0] ?? '', /function sales\.dynamic .* runs SQL that it builds/);
    assert.match(refused.shown.toString(), /trustedFunctions/);
    const trusting = await player(MASKS, ['sales.dynamic', 'sales.raiser']);
    const allowed = await trusting.play([`select dynamic('select 1')`]);
    assert.deepEqual(allowed.refused, []);
    assert.deepEqual(allowed.rows, [['1']]);
  });

  test('INV-06: predicates are permitted as far as policy says and no further', async () => {
    const equality = await player(withPredicates('Equality'));
    const any = await player(withPredicates('Any'));
    const equal = `select id, number from cards where number = '${CARDS[0]}' and id > 0`;
    for (const permitted of [equality, any]) {
      const outcome = await permitted.play([
        equal,
        { sql: 'select id from cards where $1 = number', parameters: [CARDS[1]] },
      ]);
      assert.deepEqual(outcome.refused, []);
      assert.deepEqual(outcome.rows, [['1', '************9855'], ['2']]);
      assert.deepEqual(leaks(outcome.shown), []);
    }
    for (const sql of [
      `select id from cards where number like '4%'`,
      `select id from cards where number in ('${CARDS[0]}')`,
      `select id from cards where number > '5'`,
    ]) {
      assert.equal((await equality.play([sql])).refused.length, 1, sql);
      assert.deepEqual((await any.play([sql])).refused, [], sql);
    }
    for (const sql of [
      `select number = '${CARDS[0]}' from cards`,
      `select id from cards where number = '${CARDS[0]}' or id = 1`,
      `select id from cards where number = note`,
      `select id from cards where upper(number) = 'X'`,
      `select id from cards where id in (select id from cards where number = '${CARDS[0]}')`,
      `select id from cards where number = (select number from cards where id = 1)`,
      `select id from cards order by number`,
    ]) {
      assert.equal((await equality.play([sql])).refused.length, 1, sql);
    }
  });

  test('INV-06: detectors hide contents that no column names, and COPY TO that can not be searched is refused beside them', async () => {
    const detecting = await player([detectors]);
    const outcome = await detecting.play([
      'select number, note from cards order by id',
      { sql: 'select email from customers', binary: true },
      'select to_json(c) from customers c',
      'select jsonb_build_object($$card$$, number) from cards',
      'select array_agg(number) from cards',
      `do $$ begin raise notice '%', (select number from sales.cards limit 1); end $$`,
      `select number::int from cards where id = 1`,
    ]);
    assert.deepEqual(outcome.refused, []);
    assert.deepEqual(
      leaks(outcome.shown).filter((leak) => leak.startsWith('digits') || leak.includes('canary')),
      [],
    );
    assert.deepEqual(outcome.rows[0], ['*'.repeat(16), 'first']);
    for (const sql of ['copy cards to stdout binary', 'copy (select number from cards) to stdout']) {
      assert.equal((await detecting.play([sql])).refused.length, 1, sql);
    }
    assert.deepEqual((await detecting.play(['copy cards (id) from stdin', 'select 1'])).refused, []);
  });

  test('INV-06: renamed or moved by somebody else, a column stays masked', async () => {
    await server.query(
      `create table sales.moving (id int, number text); insert into sales.moving values (1, '${CARDS[0]}'); alter table sales.moving owner to app`,
    );
    const watching = await player([{ ...MASKS[0]!, columns: ['sales.moving.number'] }]);
    assert.deepEqual((await watching.play(['select number from moving'])).rows, [['************9855']]);
    await server.query(
      'alter table sales.moving rename column number to plain; alter table sales.moving rename to moved',
    );
    await watching.refresh();
    const after = await watching.play([
      'select plain from moved',
      'select upper(plain) from moved',
      'select * from moved',
    ]);
    assert.deepEqual(after.rows, [['************9855'], ['1', '************9855']]);
    assert.equal(after.refused.length, 1);
    await server.query('drop table sales.moved');
  });

  test('INV-06: a view made meanwhile is unknown, and never passes before it is known', async () => {
    const watching = await player();
    await server.query(
      'create view sales.fresh as select id, number as n, upper(number) as u from sales.cards; alter view sales.fresh owner to app',
    );
    const first = await watching.play(['select u from fresh', 'select n from fresh', 'select lower(n) from fresh']);
    assert.deepEqual(leaks(first.shown), []);
    await watching.refresh();
    const second = await watching.play(['select n from fresh where id = 1', 'select u from fresh']);
    assert.deepEqual(second.rows, [['************9855']]);
    assert.match(second.refused[0] ?? '', /sales\.fresh\.u/);
    await server.query('drop view sales.fresh');
  });

  test('a table made in an open transaction can be written at once and read once committed', async () => {
    const writing = await player();
    const outcome = await writing.play([
      'begin',
      'create table made (id int, v text)',
      `insert into made values (1, 'a')`,
      'select count(*) from made',
      'commit',
      'select upper(v) from made',
      'drop table made',
    ]);
    assert.deepEqual(outcome.refused, []);
    assert.deepEqual(outcome.rows, [['1'], ['A']]);
  });

  test('records and approvers see literals only where nothing masked is touched', async () => {
    const { masking } = await player();
    const redact = (sql: string): string => {
      const classified = classify(sql);
      return masking().redact(classified.kind === 'Statements' ? classified.statements[0] : undefined, sql, []).text;
    };
    assert.equal(redact(`update cards set note = 'x' where id = 1`), `update cards set note = '***' where id = ***`);
    assert.equal(
      redact(`select id from cards where number = '${CARDS[0]}'`),
      `select id from cards where number = '***'`,
    );
    assert.equal(redact(`select * from orders where id = 1`), `select * from orders where id = 1`);
    assert.equal(
      redact(`select * from orders where state = '${EMAILS[0]}'`),
      `select * from orders where state = '${'*'.repeat(EMAILS[0].length)}'`,
    );
    assert.equal(redact(`select 'not sql`), '[statement hidden: it could not be read]');
  });
});

describe('tools', () => {
  let fifteen: PostgresServer;
  let made: Player;
  before(async () => {
    fifteen = await startPostgres({ major: 15, auth: 'trust', setup: SETUP });
    made = await openPlayer({ port: fifteen.port, user: 'app', database: 'postgres', masks: MASKS });
  });
  after(async () => {
    made?.close();
    await fifteen?.stop();
  });

  test('psql’s own catalog queries pass', async () => {
    const commands = [
      '\\d',
      '\\d+',
      '\\dt *.*',
      '\\d sales.cards',
      '\\d+ sales.cards',
      '\\d+ sales.card_list',
      '\\d+ sales.payments',
      '\\df+ sales.*',
      '\\dp',
      '\\du',
      '\\dn+',
      '\\l',
      '\\di',
      '\\ds',
      '\\dT+',
      '\\do sales.*',
      '\\dx',
      '\\dC',
      '\\dD',
      '\\dy',
      '\\sf sales.discount',
      '\\sv sales.card_list',
    ];
    const output = execFileSync(
      'psql',
      [
        '-E',
        '-X',
        '-h',
        '127.0.0.1',
        '-p',
        String(fifteen.port),
        '-U',
        'app',
        'postgres',
        ...commands.flatMap((command) => ['-c', command]),
      ],
      { encoding: 'utf8', env: { ...process.env, PGSSLMODE: 'disable' }, stdio: ['ignore', 'pipe', 'ignore'] },
    );
    const queries = output
      .split('********* QUERY **********\n')
      .slice(1)
      .map((part) => part.split('\n**************************')[0]!);
    assert.ok(queries.length > 40, `${queries.length} queries`);
    for (const sql of queries) {
      const outcome = await made.play([sql]);
      assert.deepEqual(outcome.refused, [], sql);
      assert.deepEqual(outcome.errors, [], sql);
    }
  });
});
