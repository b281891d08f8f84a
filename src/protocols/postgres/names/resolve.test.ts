import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import fc from 'fast-check';
import { CORPUS } from '../../../../test/fuzz/classify-corpus.ts';
import type { SqlMatcher } from '../../../api/policy.ts';
import { classify, loadClassifier } from '../classify/classify.ts';
import { postgresRules } from '../rules.ts';
import type { SqlCommand } from '../statement.ts';
import { type NameContext, parsePath, resolveNames } from './resolve.ts';
import type { NamesSnapshot } from './snapshot.ts';

before(loadClassifier);

const snapshot: NamesSnapshot = {
  token: '1',
  relations: new Map([
    ['orders', ['public']],
    ['shared', ['public', 'secret']],
    ['cards', ['secret']],
    ['scratch', ['pg_temp', 'public']],
    ['mine', ['pg_temp']],
    ['pg_class', ['pg_temp']],
  ]),
  functions: new Map([
    ['total', ['public']],
    ['leak', ['secret']],
    ['twice', ['public', 'secret']],
  ]),
  shadows: new Map([['upper', ['public']]]),
  usable: new Set(['public', 'secret', 'app']),
  user: 'app',
};
const contextOf = (more: Partial<NameContext> = {}): NameContext => ({
  snapshot,
  path: undefined,
  temporary: false,
  unsettled: undefined,
  ...more,
});
function commandOf(sql: string): SqlCommand {
  const result = classify(sql);
  if (result.kind === 'NotUnderstood') assert.fail(`${sql}: ${result.reason}`);
  return result.statements[0]!.command;
}
const relationsOf = (sql: string, context: Partial<NameContext> = {}): (readonly string[] | undefined)[] =>
  resolveNames(commandOf(sql), contextOf(context)).facts.relations.map((use) => use.schemas);
const functionsOf = (sql: string, context: Partial<NameContext> = {}): (readonly string[] | undefined)[] =>
  resolveNames(commandOf(sql), contextOf(context)).facts.functions.map((use) => use.schemas);

test('INV-02: without a path a name means every relation of that name, and any where none is known', () => {
  assert.deepEqual(relationsOf('select * from orders'), [['public']]);
  assert.deepEqual(relationsOf('select * from shared'), [['public', 'secret']]);
  assert.deepEqual(relationsOf('select * from unheard_of'), [undefined]);
  assert.deepEqual(relationsOf('select * from secret.orders'), [undefined]);
  assert.deepEqual(relationsOf('select * from pg_class'), [undefined]);
  assert.deepEqual(relationsOf('truncate orders cascade'), [['public'], undefined]);
  assert.deepEqual(functionsOf('select total(1), leak(), twice(), nobody()'), [
    ['public'],
    ['secret'],
    ['public', 'secret'],
    undefined,
  ]);
});

test('INV-02: with a path a name means the first schema that has it', () => {
  const path = ['gone', 'secret', 'public'];
  assert.deepEqual(relationsOf('select * from shared', { path }), [['secret']]);
  assert.deepEqual(relationsOf('select * from shared', { path: ['public', 'secret'] }), [['public']]);
  assert.deepEqual(relationsOf('select * from orders', { path }), [['public']]);
  // Not in the path: the server refuses it, unless it knows better.
  assert.deepEqual(relationsOf('select * from cards', { path: ['public'] }), [['secret']]);
  assert.deepEqual(relationsOf('select * from pg_class', { path }), [['pg_catalog']]);
  assert.deepEqual(functionsOf('select twice()', { path: ['public'] }), [['public']]);
  assert.deepEqual(functionsOf('select twice()', { path }), [['public', 'secret']]);
});

test('INV-02: a schema that the account may not look into is passed over', () => {
  const usable = new Set(['public']);
  assert.deepEqual(
    resolveNames(
      commandOf('select * from shared'),
      contextOf({ path: ['secret', 'public'], snapshot: { ...snapshot, usable } }),
    ).facts.relations[0]!.schemas,
    ['public'],
  );
});

test('INV-02: temporary relations hide others from the session that has them', () => {
  assert.deepEqual(relationsOf('select * from scratch'), [['public']]);
  assert.deepEqual(relationsOf('select * from scratch', { temporary: true }), [['pg_temp', 'public']]);
  assert.deepEqual(relationsOf('select * from scratch', { temporary: true, path: ['public'] }), [
    ['pg_temp', 'public'],
  ]);
  assert.deepEqual(relationsOf('select * from mine'), [undefined]);
  assert.deepEqual(relationsOf('select * from pg_class', { temporary: true }), [['pg_temp', 'pg_catalog']]);
  assert.deepEqual(relationsOf('create temp table cards (a int)'), [['pg_temp']]);
});

test('INV-02: a new relation goes to the first schema of the path, whoever else has one of that name', () => {
  assert.deepEqual(relationsOf('create table orders (a int)'), [undefined]);
  assert.deepEqual(relationsOf('create table orders (a int)', { path: ['gone', 'secret', 'public'] }), [['secret']]);
  assert.deepEqual(relationsOf('create table orders (a int)', { path: ['pg_temp', 'public'] }), [undefined]);
  assert.deepEqual(relationsOf('create table t (like orders)', { path: ['public'] }), [['public'], ['public']]);
  assert.deepEqual(relationsOf('create schema s create table orders (a int)', { path: ['public'] }), [undefined]);
  assert.deepEqual(relationsOf('create view v as select 1', { path: ['public'], temporary: true }), [
    ['public', 'pg_temp'],
  ]);
});

test('INV-02: names that the session changed itself are not narrowed by what was read before', () => {
  const unsettled = (names: [string, string][], anything = false): Partial<NameContext> => ({
    path: ['public'],
    unsettled: { anything, names: new Map(names.map(([name, schema]) => [name, new Set([schema])])) },
  });
  assert.deepEqual(relationsOf('select * from orders', unsettled([['orders', 'secret']])), [['public', 'secret']]);
  assert.deepEqual(relationsOf('select * from orders', unsettled([['orders', '*']])), [undefined]);
  assert.deepEqual(relationsOf('select * from orders', unsettled([], true)), [undefined]);
  assert.deepEqual(relationsOf('select * from newest', unsettled([['newest', 'public']])), [['public']]);
  assert.deepEqual(functionsOf('select total(1)', unsettled([['total', '*']])), [undefined]);
  assert.deepEqual(functionsOf('select lower(x)', unsettled([['lower', '*']])), [['*']]);
});

test('INV-02: a function that shares the name of a built-in one is an Execute effect', () => {
  const shadowed = resolveNames(commandOf('select upper(state), lower(state) from orders'), contextOf());
  assert.deepEqual(shadowed.effects, [
    { action: 'Read', object: ['*', 'orders'] },
    { action: 'Execute', object: ['*', 'upper'] },
  ]);
  const readOnly = postgresRules.prepare({ effects: ['Read'] } satisfies SqlMatcher);
  assert.deepEqual(
    shadowed.effects.map((_, index) => readOnly.permits(shadowed, index)),
    [true, false],
  );
  const own = postgresRules.prepare({ functions: ['pg_catalog.*', 'public.*'] } satisfies SqlMatcher);
  assert.equal(own.permits(shadowed, 1), true);
  assert.equal(postgresRules.prepare({ functions: ['pg_catalog.*'] } satisfies SqlMatcher).permits(shadowed, 1), false);
  assert.equal(postgresRules.prepare({ functions: ['public.upper'] } satisfies SqlMatcher).restricts(shadowed), true);
  assert.deepEqual(functionsOf('select upper(state)', { path: ['app'] }), [undefined]);
  assert.deepEqual(functionsOf('select pg_catalog.upper(state)'), [undefined]);
});

test('INV-02: a relation is renamed where it is, whoever else has one of the new name', () => {
  assert.deepEqual(relationsOf('alter table cards rename to orders'), [
    ['secret', 'public'],
    ['secret', 'public'],
  ]);
  assert.deepEqual(relationsOf('alter table orders rename to fresh'), [undefined, undefined]);
  assert.deepEqual(relationsOf('alter table orders add a int'), [['public']]);
});

test('the same command and names are resolved once', () => {
  const context = contextOf();
  const command = commandOf('select * from orders');
  const first = resolveNames(command, context);
  assert.equal(resolveNames(command, context), first);
  assert.equal(resolveNames(first, context), first);
  const none = commandOf('select 1');
  assert.equal(resolveNames(none, context), none);
});

// --- properties

const schema = fc.constantFrom('public', 'secret', 'app', 'pg_temp', 'pg_catalog');
const name = fc.constantFrom('orders', 'stock', 'a', 'refund', 'refund2', 'upper', 't', 'old', 'o', 'b', 'x');
const names = fc
  .array(fc.tuple(name, fc.uniqueArray(schema, { minLength: 1, maxLength: 3 })), { maxLength: 10 })
  .map((entries) => new Map(entries));
const contexts = fc.record({
  snapshot: fc.record({
    token: fc.constant(''),
    relations: names,
    functions: names,
    shadows: fc.constant(new Map<string, string[]>()),
    usable: fc.uniqueArray(schema).map((usable) => new Set(usable)),
    user: fc.constant('app'),
  }),
  path: fc.option(fc.uniqueArray(schema), { nil: undefined }),
  temporary: fc.boolean(),
  unsettled: fc.option(
    fc.record({
      names: fc
        .array(fc.tuple(name, fc.constantFrom('public', 'secret', '*')))
        .map((entries) => new Map(entries.map(([one, of]) => [one, new Set([of])]))),
      anything: fc.boolean(),
    }),
    { nil: undefined },
  ),
});
const part = fc.constantFrom('*', 'public', 'secret', 'pg_temp*', 'sec*', 'app', 'pg_catalog');
const last = fc.constantFrom('*', 'orders', 'refund', 'a', 'o*', 'x');
const matchers = fc.record(
  {
    effects: fc.subarray(['Read', 'Write', 'Define', 'Grant', 'Execute', 'Session'] as const, { minLength: 1 }),
    tables: fc.array(
      fc.tuple(part, last).map((parts) => parts.join('.')),
      { minLength: 1, maxLength: 2 },
    ),
    columns: fc.array(
      fc.tuple(part, last, last).map((parts) => parts.join('.')),
      { minLength: 1, maxLength: 2 },
    ),
    functions: fc.array(
      fc.tuple(part, last).map((parts) => parts.join('.')),
      { minLength: 1, maxLength: 2 },
    ),
  },
  { requiredKeys: [] },
);
const runs = { numRuns: Number(process.env.FC_RUNS ?? 300) };

test('INV-02: resolving only narrows: a Deny never gains by it, an Allow never loses', () => {
  fc.assert(
    fc.property(fc.constantFrom(...CORPUS), contexts, matchers, ({ sql }, context, matcher) => {
      const prepared = postgresRules.prepare(matcher as SqlMatcher);
      for (const statement of statementsOf(sql)) {
        const resolved = resolveNames(statement, context);
        if (prepared.restricts(resolved)) {
          // pg_temp is a schema that no pattern of another's name is about; a shadow is an effect of its own.
          assert.ok(prepared.restricts(statement) || resolved.effects.length > statement.effects.length, sql);
        }
        statement.effects.forEach((_, index) => {
          if (prepared.permits(statement, index)) assert.ok(prepared.permits(resolved, index), sql);
        });
      }
    }),
    runs,
  );
});

test('INV-02: whatever a name can mean is among what it is resolved to', () => {
  fc.assert(
    fc.property(name, contexts, (one, context) => {
      const [use] = resolveNames(commandOf(`select * from ${one === 'x' ? '"x"' : one}`), context).facts.relations;
      if (use?.schemas === undefined) return;
      const meant = asPostgresWould(one, context);
      if (meant !== undefined) assert.ok(use.schemas.includes(meant), `${meant} of ${use.schemas.join()}`);
    }),
    runs,
  );
});

function statementsOf(sql: string): SqlCommand[] {
  const result = classify(sql);
  return result.kind === 'Statements' ? result.statements.map(({ command }) => command) : [];
}

/** RelnameGetRelid (src/backend/catalog/namespace.c), over what the context knows; undefined: no relation, or no path to search. */
function asPostgresWould(
  one: string,
  { snapshot: known, path, temporary, unsettled }: NameContext,
): string | undefined {
  if (path === undefined) return undefined;
  const schemas = new Set([...(known.relations.get(one) ?? []), ...(unsettled?.names.get(one) ?? [])]);
  const walk = [...path];
  if (!walk.includes('pg_catalog')) walk.unshift('pg_catalog');
  if (!walk.includes('pg_temp')) walk.unshift('pg_temp');
  return walk.find(
    (schema) =>
      schemas.has(schema) && (schema === 'pg_temp' ? temporary : schema === 'pg_catalog' || known.usable.has(schema)),
  );
}

test('a search_path is read as the server writes it', () => {
  assert.deepEqual(parsePath('"$user", public', 'app'), ['app', 'public']);
  assert.deepEqual(parsePath('', 'app'), []);
  assert.deepEqual(parsePath('""', 'app'), ['']);
  assert.deepEqual(parsePath('A, "B""c" ,d', 'app'), ['a', 'B"c', 'd']);
  for (const odd of ['a b', 'a,', ',', '"a', 'é', 'pg_temp_3, public', `${'x'.repeat(64)}`]) {
    assert.equal(parsePath(odd, 'app'), undefined, odd);
  }
});
