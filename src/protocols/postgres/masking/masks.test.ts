import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { maskInPlace, maskText } from './masks.ts';

test('each mask shows what its name says', () => {
  assert.equal(maskText('Redact', 'secret'), '******');
  assert.equal(maskText('Redact', ''), '');
  assert.equal(maskText('Redact', 'zoë🎈'), '****');
  assert.equal(maskText('Last4', '4111111111111111'), '************1111');
  assert.equal(maskText('Last4', '1234'), '****');
  assert.equal(maskText('Last4', '12345'), '*2345');
  assert.equal(maskText('Last4', 'ab'), '**');
  assert.equal(maskText('Last4', 'aaéöüß'), '**éöüß');
  assert.equal(maskText('Email', 'alice@example.com'), 'a***@example.com');
  assert.equal(maskText('Email', 'a@example.com'), '*@example.com');
  assert.equal(maskText('Email', 'ab@example.com'), 'a*@example.com');
  assert.equal(maskText('Email', 'no address'), '**********');
  assert.equal(maskText('Email', '@example.com'), '************');
  assert.equal(maskText('Email', 'a@b@example.com'), 'a**@example.com');
  assert.equal(maskText('Email', 'élodie@example.com'), 'é***@example.com');
  assert.equal(maskText('Email', 'é@example.com'), '*@example.com');
  assert.equal(maskText('Email', 'a\u2009@example.com'), 'a*@example.com');
  assert.equal(maskText('Email', 'zoë🎈@example.com'), 'z***@example.com');
  assert.equal(maskText('Null', 'x'), null);
});

const kinds = fc.constantFrom('Redact', 'Last4', 'Email') as fc.Arbitrary<'Redact' | 'Last4' | 'Email'>;

test('INV-06: a masked value is never longer, and stays text', () => {
  fc.assert(
    fc.property(kinds, fc.string({ unit: 'grapheme' }), (kind, value) => {
      const bytes = Buffer.from(value, 'utf8');
      const end = maskInPlace(kind, bytes, 0, bytes.length);
      assert.ok(end <= bytes.length);
      const text = bytes.toString('utf8', 0, end);
      if (value.isWellFormed()) assert.ok(!text.includes('\ufffd') || value.includes('\ufffd'));
      assert.ok(text.length <= value.length);
    }),
    { numRuns: Number(process.env.FUZZ_RUNS ?? 200) },
  );
});

test('INV-06: bytes that are no text are hidden too, and nothing outside the value changes', () => {
  fc.assert(
    fc.property(kinds, fc.uint8Array({ maxLength: 40 }), (kind, value) => {
      const bytes = Buffer.concat([Buffer.from('<'), value, Buffer.from('>')]);
      const end = maskInPlace(kind, bytes, 1, bytes.length - 1);
      assert.equal(bytes[0], 0x3c);
      assert.equal(bytes.at(-1), 0x3e);
      assert.ok(end <= bytes.length - 1);
      if (kind === 'Redact') assert.ok(bytes.subarray(1, end).every((byte) => byte === 0x2a));
      if (kind === 'Last4') assert.ok(bytes.subarray(1, end).filter((byte) => byte !== 0x2a).length <= 16);
    }),
    { numRuns: Number(process.env.FUZZ_RUNS ?? 200) },
  );
});
