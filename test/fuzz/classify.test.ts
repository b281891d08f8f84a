// Random text and random changes of real statements: the classifier answers, whatever it is given, and what it answers
// is in itself consistent. FUZZ_RUNS sets how many of each (default a few hundred).
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import fc from 'fast-check';
import { classify, loadClassifier } from '../../src/protocols/postgres/classify/classify.ts';
import { postgresRules } from '../../src/protocols/postgres/rules.ts';
import type { Classification } from '../../src/protocols/postgres/statement.ts';
import { CORPUS } from './classify-corpus.ts';
import { INTROSPECTION } from './classify-introspection.ts';

const numRuns = Number(process.env.FUZZ_RUNS ?? 400);

before(loadClassifier);

const TEXTS = [...CORPUS.map((entry) => entry.sql), ...Object.values(INTROSPECTION).flat()];
const readOnly = (postgresRules.presets['ReadOnly'] ?? []).map((rule) => postgresRules.prepare(rule.matcher));
const everyTable = postgresRules.prepare({ tables: ['*'] });

function consistent(text: string, result: Classification): void {
  if (result.kind === 'NotUnderstood') {
    assert.ok(result.reason.length > 0);
    return;
  }
  const bytes = Buffer.from(text);
  let last = 0;
  for (const { command } of result.statements) {
    const { facts } = command;
    assert.ok(command.effects.length > 0, 'every statement has an effect');
    assert.ok(facts.start >= last && facts.end >= facts.start && facts.end <= bytes.length, 'ranges are in order');
    last = facts.end;
    assert.equal(bytes.toString('utf8', facts.start, facts.end), command.text);
    for (const use of facts.relations) {
      assert.ok(
        command.effects.some(
          ({ action, object }) => action === use.access && object[0] === (use.schema ?? '*') && object[1] === use.name,
        ),
        'every relation has its effect',
      );
    }
    assert.equal(everyTable.restricts(command), facts.relations.length > 0);
    for (const [index] of command.effects.entries()) for (const rule of readOnly) rule.permits(command, index);
  }
}

const piece = fc.oneof(
  fc.constantFrom(
    ...`select from where update delete insert into values ( ) , ; * . :: = 'x' "y" $1 $$ -- /* */ with as recursive for
    share exists in any array [ ] case when then end null true 1 e'\\'' u&'\\0041' \\ is not distinct returning on conflict do
    nothing set default row over partition by order group having limit offset fetch first rows only join natural using
    lateral union all table only explain analyze verbose copy stdin program begin commit grant revoke create drop alter
    function view json_table json_value xmltable merge matched current of operator collate interval overlaps between`.split(
      /\s+/,
    ),
  ),
  fc.string({ unit: 'binary', maxLength: 3 }),
);

test('INV-02: random pieces of SQL never throw, and are answered consistently', () => {
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      const text = pieces.join(' ');
      consistent(text, classify(text));
    }),
    { numRuns },
  );
});

test('INV-02: mutations of real statements never throw, and are answered consistently', () => {
  const mutation = fc.record({
    text: fc.constantFrom(...TEXTS),
    other: fc.constantFrom(...TEXTS),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    length: fc.nat(12),
    insert: fc.oneof(piece, fc.constant('')),
    splice: fc.boolean(),
  });
  let understood = 0;
  fc.assert(
    fc.property(mutation, ({ text, other, at, length, insert, splice }) => {
      const start = Math.floor(at * text.length);
      const mutated = splice
        ? `${text.slice(0, start)} ${other.slice(Math.floor(at * other.length))}`
        : text.slice(0, start) + insert + text.slice(start + length);
      const result = classify(mutated);
      if (result.kind === 'Statements') understood++;
      consistent(mutated, result);
    }),
    { numRuns: numRuns * 2 },
  );
  assert.ok(understood > numRuns / 20, `${understood} understood`);
});

test('INV-02: random bytes never throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      classify(bytes);
    }),
    { numRuns },
  );
});

test('a statement wrapped in another keeps its effects', () => {
  const queries = CORPUS.filter(
    (entry) =>
      entry.kind === 'SelectStmt' &&
      entry.tag === 'SELECT' &&
      !/ for |^with|^values|^table|order by|limit/.test(entry.sql),
  );
  const wrap = fc.constantFrom(
    (sql: string) => `select * from (${sql}) wrapped_`,
    (sql: string) => `with wrapped_ as (${sql}) select 1 from wrapped_`,
    (sql: string) => `select 1 where exists (${sql})`,
    (sql: string) => `explain analyze ${sql}`,
    (sql: string) => `prepare p_ as ${sql}`,
    (sql: string) => `copy (${sql}) to stdout`,
    (sql: string) => `declare c_ cursor for ${sql}`,
    (sql: string) => `select 1 union all (${sql})`,
    (sql: string) => `select 1 order by (${sql})`,
    (sql: string) => `insert into target_ ${sql}`,
    (sql: string) => `create view view_ as ${sql}`,
    (sql: string) => `update target_ set x = (${sql})`,
    (sql: string) => `delete from target_ where x in (${sql})`,
    (sql: string) => `merge into target_ using (${sql}) s_ on true when matched then delete`,
  );
  fc.assert(
    fc.property(fc.constantFrom(...queries), wrap, ({ sql, effects }, around) => {
      const result = classify(around(sql));
      assert.ok(result.kind === 'Statements', around(sql));
      const got = result.statements[0]!.command.effects.map(({ action, object }) => `${action} ${object.join('.')}`);
      for (const effect of effects.split(', ')) {
        if (effect !== 'Read') assert.ok(got.includes(effect), `${around(sql)}: ${effect} is missing`);
      }
    }),
    { numRuns },
  );
});

test('INV-11: memory is bounded over many parses, large and broken ones among them', {
  skip: process.env.FUZZ_RUNS === undefined && 'it takes 20 s; `make fuzz` with FUZZ_RUNS set runs it',
}, () => {
  const large = `insert into a values ${Array.from({ length: 20_000 }, (_, i) => `(${i})`).join(',')}`;
  const rss = () => process.memoryUsage().rss / 1e6;
  for (let i = 0; i < 20_000; i++) classify(TEXTS[i % TEXTS.length]!);
  const before = rss();
  for (let i = 0; i < 100_000; i++) {
    classify(i % 3 === 0 ? `select ${i} from t${i} where a = '${i}'` : TEXTS[i % TEXTS.length]!);
    if (i % 5 === 0) classify(`selec ${i}`);
    if (i % 5000 === 0) classify(large);
  }
  const grown = rss() - before;
  assert.ok(grown < 300, `grew by ${grown.toFixed(0)} MB`);
});
