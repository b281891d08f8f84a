import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import fc from 'fast-check';
import type { Classification, ClassifiedStatement } from '../statement.ts';
import { classify, loadClassifier } from './classify.ts';
import { scan } from './parser.ts';
import { shapeOf } from './shape.ts';
import { createShapeCache } from './shape-cache.ts';

/** A thousand by default: some tenths of a second. */
const RUNS = Number(process.env.FUZZ_RUNS ?? 1000);

before(() => loadClassifier());

/** Statements with `#` where a literal goes. */
const TEMPLATES = [
  'select abalance from pgbench_accounts where aid = #',
  'SELECT * FROM public.orders o JOIN cards c ON c.id = o.card WHERE o.state IN (#, #, #) AND note LIKE # LIMIT #',
  'select a from t where b = -# and c = - # and d - # > # and e-#=#',
  'select # + # from t order by # offset # fetch first # rows only',
  'insert into t (a, b) values (#, #), (#, #) on conflict do nothing',
  'update t set a = #, b = b || # where id = #;',
  'delete from t where # = #',
  'delete from t where true or id = #',
  'delete from t where id like #',
  'select set_config(#, #, false)',
  'select nextval(#), pg_read_file(#), lo_get(#), dblink(#, #)',
  'select #::regclass, #::text::regclass, cast(# as float(#)), #::varchar(#), #::numeric(#, #)',
  'select date #, interval # day, interval(#) #, timestamp(#) #, time with time zone #',
  "select extract(year from d), extract(# from d), d at time zone #, 'a' like # escape #",
  'select a[#], a[#:#], (array[#, #])[#] from t where json_value(j, #) is null',
  'select cast(a as bit(#)), b::char(#)[], c::int[#] from t',
  'select current_setting(#), setting from pg_settings where name = #',
  'select set_config(name, #, false) from pg_settings where name = #',
  'with x as (select # as n union all select n + # from x) select * from x, generate_series(#, #) g tablesample system(#)',
  'select query_to_xml(#, true, false, #), ts_stat(#)',
  'select e#, x#, b#, n#, U&#, "a#", $tag$#$tag$, 1.#, #.5, #e5, 0x#, 1_#, $#, a#, #a from t',
  'select # -- #\n from t where a = # /* # /* # */ # */',
  'select #\n#, # #, # \t\n # from t',
  'set statement_timeout = #',
  'explain select #',
  'select #; select #',
  'execute p(#)',
  'copy t to stdout (delimiter #)',
];
const plain = fc.oneof(
  fc.nat(2_147_483_647).map(String),
  fc.stringMatching(/^[0-9]{1,12}$/),
  fc.string({ maxLength: 12 }).map((text) => `'${text.replaceAll("'", "''").replaceAll('\0', '')}'`),
  fc.constantFrom("''", "'search_path'", "'off'", "'public.secrets'", "'%'", "'1=1'", '0', '1', "'it''s'", "'a\\'"),
);
const literal = fc.oneof(
  { weight: 6, arbitrary: plain },
  fc.constantFrom('1.5', '-3', "E'\\''", "U&'\\0041'", '$$x$$', "x'1f'", 'null', "'é'", '1e-3', '.5', "'a'\n'b'"),
);
const fill = (template: string, literals: readonly string[]): string => {
  let at = 0;
  return template.replaceAll('#', () => literals[at++ % literals.length]!);
};

const essence = (statements: readonly ClassifiedStatement[]): unknown =>
  statements.map(({ command: { verb, effects, facts } }) => ({ verb, effects, facts: { ...facts, start: 0, end: 0 } }));

function sameAsClassified(found: readonly ClassifiedStatement[], text: string): void {
  const own: Classification = classify(text);
  assert.equal(own.kind, 'Statements', text);
  assert.deepEqual(essence(found), essence((own as { statements: readonly ClassifiedStatement[] }).statements), text);
}

test('INV-02 INV-06: what is known of a shape is what the whole parse says of every text of it', () => {
  const cache = createShapeCache({ classify });
  let hits = 0;
  fc.assert(
    fc.property(
      fc.constantFrom(...TEMPLATES),
      fc.array(literal, { minLength: 1, maxLength: 7 }),
      (template, literals) => {
        const text = fill(template, literals);
        const found = cache.find(text);
        if (found === undefined) return;
        hits += 1;
        sameAsClassified(found, text);
      },
    ),
    { numRuns: RUNS * 4 },
  );
  assert.ok(hits > (RUNS * 3) / 10, `${hits} hits`);
});

test('INV-02: texts of one shape are the same tokens to PostgreSQL but for the literals left out', () => {
  const words = `select |a|_b1|"c d"|"|'|''|(|)|,|;|.|-|--|/|/*|*/|+|&|U|E|x|N|$|$1|$$|::|[|]|:|=|<>|~|e|_|0|7|12|7E+|.5|1e-|0x1F|'k'|1234567890|\\|é|?|%|#|@|!`;
  const pieces = fc.constantFrom(...words.split('|'), '|', ' ', '\n', '\t', '\v', '\f', '\u00a0');
  fc.assert(
    fc.property(
      fc.array(pieces, { maxLength: 14 }).map((parts) => parts.join('')),
      fc.array(fc.stringMatching(/^[1-9][0-9]{0,8}$/), { minLength: 1, maxLength: 5 }),
      fc.array(fc.stringMatching(/^[ -&(-[\]-~]{0,6}$/), { minLength: 1, maxLength: 5 }),
      (text, numbers, strings) => {
        const shape = shapeOf(text);
        if (shape === undefined) return;
        let at = 0;
        const [before, ...rest] = shape.key.split('\0');
        const offsets: number[] = [];
        let other = before!;
        for (const part of rest) {
          offsets.push(other.length);
          other += part.startsWith('i') ? numbers[at % numbers.length]! : `'${strings[at % strings.length]!}'`;
          other += part.slice(1);
          at += 1;
        }
        assert.equal(shapeOf(other)?.key, shape.key);
        const [one, two] = [scan(text), scan(other)];
        assert.equal(one === undefined, two === undefined, `${text}\n${other}`);
        if (one === undefined || two === undefined) return;
        assert.deepEqual(
          two.map(({ tokenName }) => tokenName),
          one.map(({ tokenName }) => tokenName),
        );
        // A token of that kind begins at a literal's place, unless the literal goes on with the string a line above it:
        // learning finds no constant there.
        for (const [index, offset] of offsets.entries()) {
          const mine = one.findIndex(({ start }) => start === shape.literals[index]);
          assert.equal(
            two.findIndex(({ start }) => start === offset),
            mine,
          );
          if (mine >= 0) assert.equal(one[mine]!.tokenName, rest[index]!.startsWith('i') ? 'ICONST' : 'SCONST');
          else assert.match(text.slice(0, shape.literals[index]), /'[ \t\f\r]*[\n\r][ \t\f\r\n]*$/);
        }
        for (const [index, token] of one.entries()) {
          if (!shape.literals.includes(token.start)) assert.equal(two[index]!.text, token.text);
        }
      },
    ),
    {
      numRuns: RUNS * 3,
      examples: [['7E+1', ['2'], ['']] as never, ['12E-0', ['1'], ['']] as never, ['0x1E+7', ['1'], ['']] as never],
    },
  );
});

/** What may stand right before or behind a literal, so that the scanner reads it as part of something else. */
const GLUE =
  `| |-|- |+|.|..|1|0|1.|1.5|.5|1e|7E+|1e-|0x|0x1E+|0b|0o|1_|_|e|E|x|B|N|U&|&|a|a.|a |as a|"a"|"a""b"|"|'|''|'a'|'a' |'a'
|E'\\''|\\|$|$1|$1 |$$|$a$|::int|::int,|::float(|::varchar(|interval |date |,|(|)|[|]|:|:=|=|<|-1|@-|%|#|/|*|--|--
|/*|*/|/**/|/*/*|;|é|\t|\f|\v|\u00a0`
    .replace('\\t', '\t')
    .replace('\\f', '\f')
    .replace('\\v', '\v')
    .split('|');

test('INV-02 INV-06: nothing glued to a literal makes two texts one that are classified apart', () => {
  const glue = fc.oneof({ weight: 2, arbitrary: fc.constant(' ') }, fc.constantFrom(...GLUE));
  const templates = fc
    .tuple(
      fc.constantFrom(
        ['select ', ' from t where a = ', ''],
        ['insert into t values (', ', ', ')'],
        ['update t set a = ', ' where b = c or b = ', ' returning d'],
        ['delete from t where b < ', ' and ', ''],
        ['select current_setting(', '), a[', '] from t order by 1'],
      ),
      fc.tuple(glue, glue, glue, glue),
    )
    .map(([[a, b, c], [w, x, y, z]]) => `${a}${w}#${x}${b}${y}#${z}${c}`);
  let hits = 0;
  fc.assert(
    fc.property(templates, fc.array(plain, { minLength: 6, maxLength: 6 }), (template, literals) => {
      const cache = createShapeCache({ classify });
      const texts = [0, 2, 4].map((from) => fill(template, literals.slice(from)));
      for (const text of [...texts, ...texts]) {
        const found = cache.find(text);
        if (found === undefined) continue;
        hits += 1;
        sameAsClassified(found, text);
      }
    }),
    { numRuns: RUNS * 2 },
  );
  assert.ok(hits > RUNS / 10, `${hits} hits`);
});

test('a shape is learned at its second text, and only where no literal matters', () => {
  const learned = (one: string, two: string): boolean => {
    const cache = createShapeCache({ classify });
    assert.equal(cache.find(one), undefined);
    return cache.find(two) !== undefined;
  };
  assert.ok(learned('select a from t where b = 1', 'select a from t where b = 2'));
  assert.ok(learned("update t set a = 'x' where b = 1;", "update t set a = 'it''s' where b = 22;"));
  assert.ok(learned('insert into t values (1, 2)', 'insert into t values (3, 4)'));
  for (const [one, two] of [
    ["select set_config('a.b', 'c', true)", "select set_config('role', 'c', true)"],
    ["select pg_catalog.nextval('a')", "select pg_catalog.nextval('b')"],
    ['delete from t where 1 = 1', 'delete from t where 1 = 2'],
    ["delete from t where a like 'x'", "delete from t where a like '%'"],
    ['select cast(a as float(1)) from t', 'select cast(a as float(50)) from t'],
    ["set search_path = 'a'", "set search_path = 'b'"],
    ["declare c cursor for select 'a'", "declare c cursor for select 'b'"],
    [
      "select setting from pg_settings where name = 'a'; select 1",
      "select setting from pg_settings where name = 'b'; select 1",
    ],
  ] as const) {
    assert.equal(learned(one, two), false, one);
  }
});

test('a shape’s statements come without tree, always the same, and bounded in number', () => {
  const cache = createShapeCache({ classify, entries: 8 });
  cache.find('select 1 from t');
  const found = cache.find('select 2 from t');
  assert.equal(found?.[0]?.tree, undefined);
  assert.equal(cache.find('select 3 from t'), found);
  for (let i = 0; i < 100; i += 1) cache.find(`select 1 from t${'x'.repeat(i)}`);
  assert.equal(cache.size, 8);
  assert.equal(createShapeCache({ classify, bytes: 1000 }).find('select 1'), undefined);
});
