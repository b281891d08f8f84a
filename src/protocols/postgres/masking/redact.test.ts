import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import fc from 'fast-check';
import { loadParser } from '../classify/parser.ts';
import { hideDetected, hideLiterals } from './redact.ts';

before(() => loadParser());

test('hides every literal, parameter and comment, and counts them', () => {
  assert.deepEqual(
    hideLiterals(
      `select 'é', $$x y$$, e'\\'', x'1f', B'01', U&'\\0041', 1.5, 42, $1 from "T" -- 7\nwhere a = 'b' /* 'c' */`,
      ['a', null],
    ),
    {
      text: `select '***', '***', '***', '***', '***', '***', ***, ***, $1 from "T" -- ***\nwhere a = '***' /* *** */`,
      parameters: ['***', null],
      hiddenLiterals: 10,
    },
  );
});

test('what the scanner cannot read is hidden whole', () => {
  const hidden = hideLiterals("select 'unterminated 4556737586899855", ['p']);
  assert.equal(hidden.text, '[statement hidden: it could not be read]');
  assert.deepEqual(hidden.parameters, ['***']);
  assert.ok(hidden.hiddenLiterals >= 2);
});

test('INV-06: no literal survives, wherever it stands', () => {
  const canary = 'canary4242424242';
  const forms = fc.constantFrom(
    `'${canary}'`,
    `$q$${canary}$q$`,
    `E'\\n${canary}'`,
    `'it''s ${canary}'`,
    `/* ${canary} */ 1`,
    `u&'${canary}'`,
    `N'${canary}'`,
  );
  fc.assert(
    fc.property(fc.array(forms, { minLength: 1, maxLength: 5 }), fc.constantFrom('', 'é', '日本'), (values, text) => {
      const hidden = hideLiterals(`select '${text}', ${values.join(', ')} from t -- ${canary}`, [canary]);
      assert.ok(!JSON.stringify(hidden).includes('4242'), hidden.text);
    }),
    { numRuns: 100 },
  );
});

test('elsewhere only what detectors recognise is hidden', () => {
  assert.deepEqual(hideDetected(`select 'alice@example.com', 'x'`, ['4556737586899855', null, 'y']), {
    text: `select '*****************', 'x'`,
    parameters: ['****************', null, 'y'],
    hiddenLiterals: 2,
  });
});
