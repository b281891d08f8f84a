import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ticketPattern } from '../../../api/notifier.ts';
import { matchesTicket } from './pattern.ts';

const atom = fc.constantFrom('A', 'B', '7', '-', '[A-Z]', '[0-9]', '[A-C_]', '\\d', '\\w', '\\.', '#');
const quantifier = fc.constantFrom('', '', '?', '*', '+', '{2}', '{1,3}', '{0,2}', '{2,}');
const pattern = fc
  .array(fc.tuple(atom, quantifier), { minLength: 1, maxLength: 5 })
  .map((parts) => `^${parts.map(([each, times]) => each + times).join('')}$`);
const text = fc
  .array(fc.constantFrom('A', 'B', 'C', '7', '0', '-', '_', '.', '#', 'z'), { maxLength: 8 })
  .map((all) => all.join(''));

test('a pattern means what it means as a regular expression', () => {
  let matched = 0;
  fc.assert(
    fc.property(pattern, text, (form, named) => {
      assert.ok(ticketPattern.test(form), form);
      const expected = new RegExp(form).test(named);
      if (expected) matched += 1;
      assert.equal(matchesTicket(form, named), expected, `${form} ${named}`);
    }),
    { numRuns: 2000 },
  );
  assert.ok(matched > 20);
});

test('INV-11: a pattern made to take for ever does not', () => {
  const form = '^A*A*A*A*A*A*A*A*A*A*A*A*A*A*A*A*B$';
  const started = performance.now();
  assert.equal(matchesTicket(form, 'A'.repeat(128)), false);
  assert.ok(performance.now() - started < 1000);
});

test('what is not anchored, grouped or too long takes nothing', () => {
  for (const form of ['OPS-1', '^OPS-1', 'OPS-1$', '^(A|B)$', '^(A+)+$', '^A$|^B$', '^.$', '^[z-a]$', ''])
    assert.equal(matchesTicket(form, 'A'), false, form);
  assert.equal(matchesTicket('^A*$', 'A'.repeat(129)), false);
  assert.equal(matchesTicket('^OPS-[0-9]+$', 'OPS-1\nOPS-2'), false);
  assert.equal(matchesTicket('^OPS-[0-9]+$', 'OPS-1'), true);
});
