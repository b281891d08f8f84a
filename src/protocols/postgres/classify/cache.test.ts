import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Classification } from '../statement.ts';
import { createClassificationCache } from './cache.ts';

function counting(kind: Classification['kind'] = 'Statements') {
  const asked: string[] = [];
  const classify = (text: string | Uint8Array): Classification => {
    asked.push(String(text));
    return kind === 'Statements' ? { kind, statements: [] } : { kind, reason: 'x' };
  };
  return { asked, classify };
}

test('a text is classified once while it is kept, and the least recently used goes first', () => {
  const { asked, classify } = counting();
  const cache = createClassificationCache({ entries: 2, classify });
  cache.classify('a');
  cache.classify('b');
  assert.equal(cache.classify('a'), cache.classify('a'));
  cache.classify('c');
  assert.equal(cache.size, 2);
  cache.classify('a');
  assert.deepEqual(asked, ['a', 'b', 'c']);
  cache.classify('b');
  assert.deepEqual(asked, ['a', 'b', 'c', 'b']);
});

test('INV-11: the cache is bounded by bytes, and one text never takes most of it', () => {
  const { classify } = counting();
  const cache = createClassificationCache({ bytes: 100_000, classify });
  for (let i = 0; i < 1000; i++) cache.classify(`select ${i}`.padEnd(100));
  assert.ok(cache.size < 20 && cache.size > 5, `${cache.size}`);
  assert.ok(cache.bytes <= 100_000);
  cache.classify('x'.repeat(5000));
  assert.ok(cache.size > 5);
});

test('what was not understood is asked again', () => {
  const { asked, classify } = counting('NotUnderstood');
  const cache = createClassificationCache({ classify });
  cache.classify('a');
  cache.classify('a');
  assert.deepEqual(asked, ['a', 'a']);
  assert.equal(cache.size, 0);
});
