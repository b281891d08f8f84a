import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ALL_DETECTORS, type DetectorKind, maskDetectedText } from './detectors.ts';
import { IBAN_LENGTHS } from './iban-lengths.ts';

const only = (kind: DetectorKind, text: string): string => maskDetectedText(text, [kind]);

test('finds what is plainly written', () => {
  const samples: [DetectorKind, string][] = [
    ['Card', '4556737586899855'],
    ['Card', '4556-7375-8689-9855'],
    ['Card', '3782 822463 10005'],
    ['Email', 'first.last+tag@mail.example.co.uk'],
    ['Email', "o'brien@example.com"],
    ['Iban', 'DE89370400440532013000'],
    ['Iban', 'GB29 NWBK 6016 1331 9268 19'],
    ['Ssn', '123-45-6789'],
    ['Phone', '+49 30 901820'],
    ['Phone', '(555) 123-4567'],
    ['Phone', '555.123.4567'],
    ['Jwt', 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c'],
    ['PrivateKey', '-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----'],
    ['PrivateKey', '-----BEGIN PRIVATE KEY-----\nMIIabc with no end'],
    ['ApiKey', 'AKIAIOSFODNN7EXAMPLEAB'],
    ['ApiKey', `ghp_${'a1B2'.repeat(9)}`],
  ];
  for (const [kind, text] of samples) {
    assert.equal(only(kind, text), '*'.repeat(text.length), `${kind}: ${text}`);
    assert.equal(
      only(kind, `see ${text}, thanks`),
      kind === 'PrivateKey' && !text.includes('END')
        ? `see ${'*'.repeat(text.length + 8)}`
        : `see ${'*'.repeat(text.length)}, thanks`,
    );
  }
});

test('leaves alone what only looks like it', () => {
  for (const text of [
    '4556737586899856', // Luhn
    '1700000000000 ms', // a time stamp
    '2026-11-22 16:40:12.123456',
    'a@b',
    'DE89370400440532013001',
    '000-45-6789',
    '12345-678-90',
    'release 1.2.3.4',
    '550e8400-e29b-41d4-a716-446655440000',
    '-----BEGIN CERTIFICATE-----\nMIIabc\n-----END CERTIFICATE-----',
    'sk-short',
  ]) {
    assert.equal(maskDetectedText(text), text, text);
  }
});

function luhn(digits: number[]): number[] {
  let sum = 0;
  for (const [i, digit] of digits.toReversed().entries())
    sum += i % 2 === 0 ? (digit * 2 > 9 ? digit * 2 - 9 : digit * 2) : digit;
  return [...digits, (10 - (sum % 10)) % 10];
}
const digit = fc.integer({ min: 0, max: 9 });
const card = fc
  .tuple(
    fc.constantFrom(2, 3, 4, 5, 6, 8, 9),
    fc.array(digit, { minLength: 11, maxLength: 17 }),
    fc.constantFrom('', ' ', '-'),
  )
  .map(([lead, rest, separator]) => {
    const digits = luhn([lead, ...rest]).join('');
    return separator === '' ? digits : digits.replace(/(.{4})(?=.)/g, `$1${separator}`);
  });
const iban = fc
  .tuple(fc.constantFrom(...Object.keys(IBAN_LENGTHS)), fc.array(digit, { minLength: 40, maxLength: 40 }))
  .map(([country, digits]) => {
    const body = digits.slice(0, IBAN_LENGTHS[country]! - 4).join('');
    const numeric = `${body}${Array.from(country, (letter) => letter.charCodeAt(0) - 55).join('')}00`;
    return `${country}${String(98n - (BigInt(numeric) % 97n)).padStart(2, '0')}${body}`;
  });
const around = fc.tuple(
  fc.constantFrom('', 'pay ', '"', 'é: ', '\n', '(', 'id=7, '),
  fc.constantFrom('', ' now', '"', ', 12', '\n', ')', ' é'),
);

test('INV-06: no generated card or IBAN is missed, whatever stands around it', () => {
  fc.assert(
    fc.property(card, around, (value, [before, after]) => {
      assert.ok(!only('Card', before + value + after).includes(value));
    }),
    { numRuns: 500 },
  );
  fc.assert(
    fc.property(iban, around, (value, [before, after]) => {
      assert.equal(only('Iban', before + value + after), before + '*'.repeat(value.length) + after);
    }),
    { numRuns: 300 },
  );
});

test('lengths in bytes stay, for any text', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 80 }), (text) => {
      const masked = maskDetectedText(text);
      assert.equal(Buffer.byteLength(masked), Buffer.byteLength(text));
    }),
    { numRuns: 300 },
  );
});

test('INV-11: hostile text takes linear time', () => {
  const pieces = [
    '1',
    '1 ',
    '1-',
    '@',
    'a@',
    'a.',
    '@a.',
    'eyJ',
    'eyJa.',
    '-----BEGIN ',
    '-----BEGIN PRIVATE KEY',
    'sk-',
    'AKIA',
    'DE89',
    'DE89 ',
    '+1',
    '(1',
    '123-45-678',
    'a',
    '.',
    '4111 ',
  ];
  for (const piece of pieces) {
    const text = piece.repeat(Math.ceil(300_000 / piece.length));
    const began = performance.now();
    maskDetectedText(text, ALL_DETECTORS);
    // A quadratic scanner would take minutes.
    assert.ok(performance.now() - began < 5000, JSON.stringify(piece));
  }
});
