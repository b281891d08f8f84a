import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MaskingError } from './masking.ts';
import { type ColumnTreatment, rowMasker } from './rows.ts';

function dataRow(values: readonly (Uint8Array | null)[]): Buffer {
  const parts: Buffer[] = [];
  for (const value of values) {
    const head = Buffer.alloc(4);
    head.writeInt32BE(value === null ? -1 : value.length);
    parts.push(head, Buffer.from(value ?? []));
  }
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(7);
  head[0] = 0x44;
  head.writeUInt32BE(body.length + 6, 1);
  head.writeUInt16BE(values.length, 5);
  return Buffer.concat([head, body]);
}
function read(row: Buffer): (string | null)[] {
  assert.equal(row.readUInt32BE(1), row.length - 1);
  const values: (string | null)[] = [];
  let at = 7;
  for (let i = row.readUInt16BE(5); i > 0; i--) {
    const size = row.readInt32BE(at);
    at += 4;
    values.push(size < 0 ? null : row.toString('utf8', at, at + size));
    at += Math.max(0, size);
  }
  assert.equal(at, row.length);
  return values;
}

const PASS: ColumnTreatment = { kind: 'Pass' };

test('masks the columns it is told, and counts them', () => {
  const masker = rowMasker([PASS, { kind: 'Mask', with: 'Last4' }, { kind: 'Mask', with: 'Null' }, PASS]);
  const row = masker.mask(dataRow([Buffer.from('1'), Buffer.from('4111é11111111'), Buffer.from('42'), null]));
  assert.deepEqual(read(row), ['1', '*********1111', null, null]);
  assert.equal(masker.count, 2);
});

test('a row in which nothing is masked comes back as the same buffer', () => {
  const masker = rowMasker([PASS, { kind: 'Mask', with: 'Redact' }, { kind: 'Detect', detectors: ['Card'] }]);
  const row = dataRow([Buffer.from('1'), null, Buffer.from('no card')]);
  const before = Buffer.from(row);
  assert.equal(masker.mask(row), row);
  assert.deepEqual(row, before);
  assert.equal(masker.count, 0);
});

test('INV-06: what detectors find is starred out inside the value', () => {
  const masker = rowMasker([{ kind: 'Detect', detectors: ['Card', 'Email'] }]);
  const row = masker.mask(dataRow([Buffer.from('{"pan": "4556 7375 8689 9855", "to": "al@example.com"}')]));
  assert.deepEqual(read(row), ['{"pan": "*******************", "to": "**************"}']);
});

const treatment: fc.Arbitrary<ColumnTreatment> = fc.oneof(
  fc.constant(PASS),
  fc.constantFrom('Redact', 'Last4', 'Email', 'Null').map((kind) => ({ kind: 'Mask', with: kind }) as ColumnTreatment),
  fc.constant<ColumnTreatment>({ kind: 'Detect', detectors: ['Card', 'Email', 'Phone'] }),
);
const columns = fc.array(fc.tuple(treatment, fc.option(fc.string({ unit: 'grapheme', maxLength: 30 }))), {
  maxLength: 8,
});

test('INV-06: rows never grow, keep their structure, and unmasked columns their bytes', () => {
  fc.assert(
    fc.property(columns, (cells) => {
      const masker = rowMasker(cells.map(([how]) => how));
      const row = dataRow(cells.map(([, value]) => (value === null ? null : Buffer.from(value))));
      const length = row.length;
      const out = masker.mask(row);
      assert.ok(out.length <= length);
      const values = read(out);
      for (const [i, [how, value]] of cells.entries()) {
        if (how.kind === 'Pass') assert.equal(values[i], value === null ? null : Buffer.from(value).toString('utf8'));
        if (how.kind === 'Mask' && how.with === 'Redact' && value !== null) assert.match(values[i]!, /^\**$/);
        if (how.kind === 'Mask' && how.with === 'Null') assert.equal(values[i], null);
      }
    }),
    { numRuns: 200 },
  );
});

test('INV-06: a malformed row is an error and never passes', () => {
  const masker = rowMasker([{ kind: 'Mask', with: 'Redact' }, PASS]);
  const good = dataRow([Buffer.from('secret'), Buffer.from('x')]);
  const bad: ((row: Buffer) => Buffer)[] = [
    (row) => row.subarray(0, 6),
    (row) => row.subarray(0, row.length - 1),
    (row) => Buffer.concat([row, Buffer.from([0])]),
    (row) => (row.writeUInt16BE(3, 5), row),
    (row) => (row.writeUInt16BE(1, 5), row),
    (row) => (row.writeInt32BE(1000, 7), row),
    (row) => (row.writeInt32BE(-2, 7), row),
    (row) => (row.writeInt32BE(0x7fffffff, 7), row),
    (row) => (row.writeUInt32BE(5, 1), row),
    (row) => (row.write('T', 'latin1'), row),
  ];
  for (const change of bad) assert.throws(() => masker.mask(change(Buffer.from(good))), MaskingError);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      try {
        masker.mask(Buffer.from(bytes));
      } catch (error) {
        assert.ok(error instanceof MaskingError);
      }
    }),
    { numRuns: 300 },
  );
});
