import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { NameTable } from './names.ts';

const table = (): NameTable<string> => new NameTable<string>(100, (value) => value.length);

test('a confirmed name means one thing', () => {
  const names = table();
  names.define('n', 'a', 0);
  names.confirm('n', 'a');
  assert.deepEqual(names.lookup('n', 5), ['a']);
  names.remove('n');
  assert.deepEqual(names.lookup('n', 5), []);
  assert.equal(names.weight, 0);
});

test('INV-02: beyond its segment an unconfirmed redefinition may have failed, so both readings count', () => {
  const names = table();
  names.define('n', 'old', 0);
  names.confirm('n', 'old');
  names.define('n', 'new', 1);
  assert.deepEqual(names.lookup('n', 1), ['new']);
  assert.deepEqual(names.lookup('n', 2), ['old', 'new']);
  names.fail('n', 'new');
  assert.deepEqual(names.lookup('n', 2), ['old']);
});

test('INV-11: names and open definitions are bounded', () => {
  const names = new NameTable<string>(2, () => 1);
  assert.equal(names.define('a', 'x', 0), true);
  assert.equal(names.define('b', 'x', 0), true);
  assert.equal(names.define('c', 'x', 0), false);
  let defined = 0;
  while (defined < 100 && names.define('a', `v${defined}`, defined)) defined += 1;
  assert.ok(defined < 100);
  assert.ok(names.weight <= 12);
});

test('INV-02: whatever the server does, what a name really means is among its readings', () => {
  const step = fc.record({ define: fc.boolean(), fails: fc.boolean(), answeredBy: fc.integer({ min: 0, max: 3 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 8 }), (steps) => {
      const names = table();
      let truth: string | undefined;
      const open: { at: number; run(): void }[] = [];
      for (const [segment, one] of steps.entries()) {
        if (one.define) {
          const value = `v${segment}`;
          if (!names.define('n', value, segment)) return;
          // The server acts at once (in order); its answer arrives later, also in order.
          if (!one.fails) truth = value;
          open.push({
            at: segment + one.answeredBy,
            run: () => (one.fails ? names.fail('n', value) : names.confirm('n', value)),
          });
        }
        while (open[0] !== undefined && open[0].at <= segment) open.shift()!.run();
        if (truth !== undefined) assert.ok(names.lookup('n', segment + 1).includes(truth));
      }
      for (const one of open) one.run();
      assert.deepEqual(names.lookup('n', 99), truth === undefined ? [] : [truth]);
    }),
    { numRuns: 400 },
  );
});

test('INV-02: a batch may define one name as often as it likes; no reading that differs is forgotten', () => {
  // Values are alike when their first letter is.
  const names = new NameTable<string>(
    10,
    () => 1,
    (a, b) => a[0] === b[0],
  );
  names.define('p', 'old', 0);
  names.confirm('p', 'old');
  for (let i = 0; i < 5000; i++) assert.equal(names.define('p', `a${i}`, 1), true);
  assert.ok(names.weight <= 12);
  const readings = (): Set<string> => new Set(names.lookup('p', 2).map((value) => value[0]!));
  assert.deepEqual(readings(), new Set(['o', 'a']));
  // One long forgotten is confirmed, and every later one fails.
  names.confirm('p', 'a0');
  for (let i = 1; i < 5000; i++) names.fail('p', `a${i}`);
  assert.ok(readings().has('a'));
  let others = 0;
  while (others < 100 && names.define('p', `${String.fromCharCode(98 + others)}`, 3)) others += 1;
  assert.ok(others < 12);
  names.remove('p');
  assert.ok(!names.lookup('p', 4).includes('a0'));
});
