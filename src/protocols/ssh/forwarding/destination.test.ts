import assert from 'node:assert/strict';
import { isIPv6 } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  canonicalAddress,
  destinationText,
  guardOf,
  parseDestination,
  parseForwardPattern,
  permitsForward,
  restrictsForward,
} from './destination.ts';

test('an address has one spelling, whatever inet_aton and inet_pton take', () => {
  for (const [text, canonical] of [
    ['127.0.0.1', '127.0.0.1'],
    ['127.1', '127.0.0.1'],
    ['0x7f.1', '127.0.0.1'],
    ['2130706433', '127.0.0.1'],
    ['017700000001', '127.0.0.1'],
    ['0x7f000001', '127.0.0.1'],
    ['10.0.258', '10.0.1.2'],
    ['0', '0.0.0.0'],
    ['::ffff:10.0.0.1', '10.0.0.1'],
    ['::ffff:a00:1', '10.0.0.1'],
    ['64:ff9b::10.0.0.1', '10.0.0.1'],
    ['::', '0.0.0.0'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['fe80::1%eth0', 'fe80::1'],
    ['256.1.1.1', undefined],
    ['1.2.3.256', undefined],
    ['1.2.3.4.5', undefined],
    ['08.1.1.1', undefined],
    ['4294967296', undefined],
    ['1..2', undefined],
    ['db.internal', undefined],
    [':::', undefined],
  ] as const)
    assert.equal(canonicalAddress(text), canonical, text);
});

test('a canonical destination is its own canonical form, and only its own pattern permits it', () => {
  const host = fc.oneof(
    fc.ipV4(),
    fc.ipV6().filter(isIPv6),
    fc.domain(),
    fc.tuple(fc.nat(255), fc.nat(0xffffff)).map(([a, b]) => `0x${a.toString(16)}.${b}`),
  );
  fc.assert(
    fc.property(host, fc.integer({ min: 1, max: 65_535 }), (text, port) => {
      const destination = parseDestination(text, port);
      assert.ok(destination, text);
      const spelled = destinationText(destination);
      const cut = spelled.lastIndexOf(':');
      assert.deepEqual(parseDestination(spelled.slice(0, cut), port), destination);
      const parsed = parseForwardPattern(spelled);
      assert.ok(parsed.kind === 'Pattern', spelled);
      assert.ok(permitsForward(parsed.pattern, 'Local', destination), spelled);
      assert.ok(restrictsForward(parsed.pattern, 'Local', destination), spelled);
      assert.ok(!permitsForward(parsed.pattern, 'Remote', destination));
      const other = parseDestination(text, port === 1 ? 2 : 1)!;
      assert.ok(!permitsForward(parsed.pattern, 'Local', other));
      assert.equal(guardOf('Local', destination, { host: 'x', port }), 'SshServer');
    }),
    { numRuns: 300 },
  );
});

test('what is no host is refused', () => {
  for (const [host, port] of [
    ['a b', 80],
    ['a\0b', 80],
    ['a\nb', 80],
    ['-a', 80],
    ['é', 80],
    ['a', 65_536],
    ['a', -1],
    ['a', 1.5],
    ['a'.repeat(256), 80],
  ] as const)
    assert.equal(parseDestination(host, port), undefined, JSON.stringify(host));
});
