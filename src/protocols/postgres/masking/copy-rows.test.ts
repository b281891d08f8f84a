import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ALL_DETECTORS, maskDetectedText } from '../../../policy/detectors/detectors.ts';
import { loadParser, parse } from '../classify/parser.ts';
import { message } from '../wire/messages.ts';
import { type CopyFormat, copyFormatOf, copyMasker } from './copy-rows.ts';
import { MaskingError } from './masking.ts';
import { bodyOf, type TreeNode } from './tree.ts';

const TEXT: CopyFormat = { kind: 'Text', delimiter: 9 };
const CSV: CopyFormat = { kind: 'Csv', delimiter: 0x2c };
const CARD = '4111111111111111';

/** As PostgreSQL writes them: CopyAttributeOutText and CopyAttributeOutCSV. */
const ESCAPES: Record<string, string> = {
  '\b': '\\b',
  '\t': '\\t',
  '\n': '\\n',
  '\v': '\\v',
  '\f': '\\f',
  '\r': '\\r',
  '\\': '\\\\',
};
const write = ({ kind }: CopyFormat, values: readonly string[]): string =>
  kind === 'Text'
    ? `${values.map((value) => value.replaceAll(/[\b\t\n\v\f\r\\]/g, (char) => ESCAPES[char]!)).join('\t')}\n`
    : `${values.map((value) => (/[",\n\r]/.test(value) || value === '' ? `"${value.replaceAll('"', '""')}"` : value)).join(',')}\n`;

const masked = (format: CopyFormat, row: string, searched?: boolean[]): string => {
  const data = message(0x64, Buffer.from(row));
  const out = copyMasker(format, searched, ALL_DETECTORS).mask(data);
  assert.equal(out.length, data.length);
  return out.toString('utf8', 5);
};

test('INV-06: values are found behind escapes and within quotes, and the row stays a row', () => {
  const stars = '*'.repeat(16);
  assert.equal(masked(TEXT, `1\t${CARD}\t\\N\n`), `1\t${stars}\t\\N\n`);
  assert.equal(masked(TEXT, `1\tcard:\\n${CARD}\\nend\n`), `1\tcard:\\n${stars}\\nend\n`);
  assert.equal(masked(CSV, `1,"card: ""${CARD}""",x\n`), `1,"card: ""${stars}""",x\n`);
  assert.equal(masked(CSV, `1,"a\n${CARD}",x\n`), `1,"a\n${stars}",x\n`);
});

test('columns that hold no text are left alone, unless the row is not the one expected', () => {
  assert.equal(masked(TEXT, `${CARD}\t${CARD}\n`, [false, true]), `${CARD}\t${'*'.repeat(16)}\n`);
  assert.equal(masked(TEXT, `${CARD}\tx\ty\n`, [false, true]), `${'*'.repeat(16)}\tx\ty\n`);
});

test('INV-06: every value of a row is treated as a SELECT of it would be', () => {
  const piece = fc.constantFrom(
    CARD,
    'ana@corp.example',
    '123-45-6789',
    '"',
    ',',
    '\t',
    '\n',
    '\\',
    'n',
    'N',
    ' ',
    'é',
    'x1',
  );
  const value = fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join(''));
  fc.assert(
    fc.property(fc.constantFrom(TEXT, CSV), fc.array(value, { minLength: 1, maxLength: 4 }), (format, values) => {
      const expected = values.map((one) => maskDetectedText(one));
      const row = masked(format, write(format, values));
      // Starring out can leave quotes and escapes that are not needed: read back what was written.
      assert.deepEqual(read(format, row), expected);
    }),
    { numRuns: 500 },
  );
});

function read({ kind }: CopyFormat, row: string): string[] {
  const names: Record<string, string> = { b: '\b', t: '\t', n: '\n', v: '\v', f: '\f', r: '\r' };
  const body = row.slice(0, -1);
  if (kind === 'Text') {
    return body.split('\t').map((one) => one.replaceAll(/\\(.)/gs, (_, char: string) => names[char] ?? char));
  }
  return [...body.matchAll(/(?:^|,)("(?:[^"]|"")*"|[^,]*)/g)].map(([, one]) =>
    one!.startsWith('"') ? one!.slice(1, -1).replaceAll('""', '"') : one!,
  );
}

test('INV-11: what is not one row ends the session', () => {
  for (const bytes of [Buffer.alloc(0), Buffer.from('a'), Buffer.from('1,"x\n')]) {
    assert.throws(() => copyMasker(CSV, undefined, ALL_DETECTORS).mask(message(0x64, bytes)), MaskingError);
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.constantFrom(TEXT, CSV), (bytes, format) => {
      try {
        copyMasker(format, undefined, ALL_DETECTORS).mask(message(0x64, Buffer.from(bytes)));
      } catch (error) {
        assert.ok(error instanceof MaskingError);
      }
    }),
    { numRuns: 300 },
  );
});

function stmtOf(sql: string): unknown {
  const outcome = parse(sql, Buffer.byteLength(sql));
  assert.equal(outcome.kind, 'Parsed');
  return (outcome.statements[0] as { stmt: unknown }).stmt;
}

test('INV-02: formats and options that could hide what is searched for are not searched', async () => {
  await loadParser();
  const formatOf = (sql: string): CopyFormat | undefined => copyFormatOf(bodyOf(stmtOf(sql), 'CopyStmt') as TreeNode);

  assert.deepEqual(formatOf('copy t to stdout'), TEXT);
  assert.deepEqual(formatOf('copy t to stdout csv header'), CSV);
  assert.deepEqual(formatOf(`copy t to stdout (format csv, header, delimiter ';', null '')`), {
    kind: 'Csv',
    delimiter: 0x3b,
  });
  for (const options of [
    'binary',
    '(format binary)',
    `(delimiter '4')`,
    `(delimiter '-')`,
    `(format csv, quote '1')`,
    `(format csv, escape '1')`,
    `(encoding 'SJIS')`,
    `(encoding 'UTF8')`,
    "(format 'json')",
  ]) {
    assert.equal(formatOf(`copy t to stdout ${options}`), undefined, options);
  }
});
