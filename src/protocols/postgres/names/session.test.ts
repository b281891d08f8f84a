import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { SqlMatcher } from '../../../api/policy.ts';
import type { SessionPolicy, SessionRule } from '../../../policy/session-policy.ts';
import { manualClock } from '../../../system/manual-clock.ts';
import { classify, loadClassifier } from '../classify/classify.ts';
import { postgresRules } from '../rules.ts';
import type { SqlCommand } from '../statement.ts';
import { createNamesCatalog, type NamesCatalog } from './catalog.ts';
import { needsNames } from './need.ts';
import { SessionNames } from './session.ts';

before(loadClassifier);

const commandsOf = (sql: string): SqlCommand[] => {
  const result = classify(sql);
  if (result.kind === 'NotUnderstood') assert.fail(`${sql}: ${result.reason}`);
  return result.statements.map(({ command }) => command);
};
const rule = (action: 'Allow' | 'Deny' | 'Hold', matcher: SqlMatcher | undefined): SessionRule => ({
  source: {
    ref: { policy: 'test/rules', rule: 'one' },
    action,
    enforce: true,
    exempt: [],
    ...(matcher === undefined ? {} : { matcher: { member: 'sql', value: matcher } }),
  },
  prepared: matcher === undefined ? undefined : postgresRules.prepare(matcher),
});
const policyOf = (allows: (SqlMatcher | undefined)[], denies: SqlMatcher[] = []): SessionPolicy => ({
  generation: 1,
  broken: [],
  denies: denies.map((matcher) => rule('Deny', matcher)),
  holds: [],
  allows: allows.map((matcher) => rule('Allow', matcher)),
  masks: [],
  trustedFunctions: [],
  transparent: undefined,
});
const policy = policyOf([undefined], [{ tables: ['secret.*'] }]);

async function sessionOf(path: string | undefined) {
  const catalog: NamesCatalog = createNamesCatalog({
    clock: manualClock(),
    query: async (sql) =>
      sql.includes('md5(')
        ? [['token', 'app', '["public", "secret"]']]
        : [
            ['r', 'orders', '["public"]'],
            ['r', 'shared', '["public", "secret"]'],
          ],
  });
  await catalog.refresh();
  const parameters = new Map(path === undefined ? [] : [['search_path', path]]);
  const told = { changes: 0 };
  const names = new SessionNames({ catalog: () => catalog, changed: () => (told.changes += 1) }, parameters);
  const meant = (sql: string): (readonly string[] | undefined)[] => {
    const scope = names.scope(policy);
    return commandsOf(sql)
      .map((command) => scope.resolve(command))
      .flatMap(({ facts }) => facts.relations.map(({ schemas }) => schemas));
  };
  /** Lets it pass; gives back what its ReadyForQuery is marked with. */
  const send = (sql: string): number => {
    const scope = names.scope(policy);
    names.passed(commandsOf(sql).map((command) => scope.resolve(command)));
    return names.mark;
  };
  return { names, parameters, told, meant, send, catalog };
}

test('INV-02: the path counts only while nothing was sent that may change it', async () => {
  const { names, parameters, meant, send } = await sessionOf('public, secret');
  const both = ['public', 'secret'];
  assert.deepEqual(meant('select * from shared'), [['public']]);
  for (const sql of [
    'set search_path = secret',
    'reset all',
    'rollback',
    'select * from orders',
    "select set_config('search_path', 'secret', false)",
    'execute p',
  ]) {
    const mark = send(sql);
    assert.deepEqual(meant('select * from shared'), [both], `behind ${sql}`);
    names.ready(mark - 1, false);
    assert.deepEqual(meant('select * from shared'), [both], `the answer is to something before ${sql}`);
    names.ready(mark, false);
    assert.deepEqual(meant('select * from shared'), [['public']], `after ${sql}`);
  }
  for (const sql of ['begin', 'show search_path', 'select 1', 'set statement_timeout = 1']) {
    send(sql);
    assert.deepEqual(meant('select * from shared'), [['public']], `behind ${sql}`);
  }
  assert.deepEqual(meant('set search_path = secret; select * from shared'), [both]);
  assert.deepEqual(meant('select * from orders; select * from shared'), [['public'], both]);
  parameters.set('search_path', 'secret, public');
  assert.deepEqual(meant('select * from shared'), [['secret']]);
});

test('INV-02: another role is not the one that the names were read for', async () => {
  for (const sql of ['set role x', 'select app.f()', 'discard all', "select set_config($1, 'x', false)"]) {
    const { names, meant, send } = await sessionOf('public, secret');
    names.ready(send(sql), false);
    assert.deepEqual(meant('select * from shared'), [['public', 'secret']], sql);
  }
});

test('INV-02: what a transaction defines is unsettled until it is over, and then everybody is told', async () => {
  const { names, told, meant, send } = await sessionOf('public');
  names.ready(send('begin'), true);
  names.ready(send('create table secret.orders (a int)'), true);
  assert.deepEqual(meant('select * from orders'), [['public', 'secret']]);
  assert.equal(told.changes, 0);
  names.ready(send('drop schema a cascade'), true);
  assert.deepEqual(meant('select * from orders'), [undefined]);
  names.ready(send('commit'), false);
  assert.equal(told.changes, 1);
  assert.deepEqual(meant('select * from orders'), [['public']]);
  assert.deepEqual(meant('alter table x set schema y; select * from x'), [undefined, undefined, undefined]);
});

test('INV-02: what nobody had to understand may have done anything to path, role and temporary relations', async () => {
  const { names, meant } = await sessionOf('public, secret');
  names.passed(undefined);
  names.ready(names.mark, false);
  assert.deepEqual(meant('select * from shared'), [['public', 'secret']]);
});

test('a verdict stands while names mean the same', async () => {
  const { names, send, catalog } = await sessionOf('public');
  const scope = names.scope(policy);
  scope.resolve(commandsOf('select * from orders')[0]!);
  assert.ok(scope.basis);
  assert.equal(names.stands(scope.basis), true);
  send('create table orders (a int)');
  assert.equal(names.stands(scope.basis), false);
  names.ready(names.mark, false);
  catalog.invalidate();
  assert.equal(names.stands(scope.basis), false);
  assert.equal(names.stands(undefined), true);
});

test('names are asked for only where they can make a difference', () => {
  const needs = (of: SessionPolicy, sql: string): boolean => commandsOf(sql).some((one) => needsNames(of, one));
  const readOnly = policyOf([{ effects: ['Read'] }]);
  assert.equal(needs(readOnly, 'select * from orders'), false);
  assert.equal(needs(readOnly, 'select lower(a) from orders'), true);
  assert.equal(needs(policyOf([undefined], [{ statements: ['DROP *'] }]), 'select lower(a) from orders'), false);
  assert.equal(needs(policyOf([undefined], [{ tables: ['orders', '*.cards'] }]), 'select * from orders'), false);
  assert.equal(needs(policy, 'select * from orders'), true);
  assert.equal(needs(policy, 'select * from public.orders'), false);
  assert.equal(needs(policy, 'select 1'), false);
  assert.equal(needs(policyOf([undefined], [{ columns: ['secret.cards.number'] }]), 'select number from cards'), true);
  assert.equal(needs(policyOf([undefined], [{ functions: ['secret.f'] }]), 'select f()'), true);
  assert.equal(needs(policyOf([undefined], [{ functions: ['secret.f'] }]), 'select * from a'), false);
});
