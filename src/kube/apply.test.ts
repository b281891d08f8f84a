import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { contains, needsApply, withAppliedHash } from './apply.ts';
import type { KubeObject } from './object.ts';

const json = fc.jsonValue({ maxDepth: 3 });
const object = fc.dictionary(fc.string({ maxLength: 4 }), json, { maxKeys: 4 });

test('what was applied is in it, and so it is with the defaults and additions of others', () => {
  fc.assert(fc.property(json, (value) => contains(value, value)));
  fc.assert(fc.property(object, object, (wanted, others) => contains({ ...others, ...wanted }, wanted)));
});

test('any drift of what was applied is seen', () => {
  fc.assert(
    fc.property(object, fc.string({ minLength: 1, maxLength: 4 }), (wanted, text) => {
      assert.ok(!contains({ ...wanted, extra: `${text}!` }, { ...wanted, extra: text }));
      assert.ok(!contains(wanted, { ...wanted, '\u0000missing': text }));
    }),
  );
  assert.ok(!contains({ list: [1, 2] }, { list: [1] }), 'an entry more in a list of ours');
  assert.ok(!contains({ list: [{ a: 1 }, { a: 2 }] }, { list: [{ a: 2 }, { a: 1 }] }));
  assert.ok(!contains({ a: [] }, { a: { b: 1 } }));
  assert.ok(!contains({}, JSON.parse('{"__proto__": "x"}')));
  assert.ok(!contains({}, { toString: 'x' }));
});

test('what the server leaves out when it is empty is no drift', () => {
  assert.ok(contains({}, { a: {}, b: [], c: '', d: false, e: 0, f: null, g: { h: [] } }));
  assert.ok(!contains({}, { a: { b: 1 } }));
});

test('entries of others in owner references are theirs', () => {
  const owner = (uid: string): unknown => ({ uid, name: uid });
  const wanted = { metadata: { ownerReferences: [owner('a')] } };
  assert.ok(contains({ metadata: { ownerReferences: [owner('b'), owner('a')] } }, wanted));
  assert.ok(!contains({ metadata: { ownerReferences: [owner('b')] } }, wanted));
});

test('a field that is no longer wanted makes an apply, though all that is wanted is there', () => {
  const full: KubeObject = {
    metadata: { name: 'x', labels: { a: '1' } },
    spec: { replicas: 2, paused: true },
  } as KubeObject;
  const less: KubeObject = { metadata: { name: 'x', labels: { a: '1' } }, spec: { replicas: 2 } } as KubeObject;
  const atServer = { ...withAppliedHash(full), status: { ready: 2 } };
  assert.ok(!needsApply(withAppliedHash(full), atServer));
  assert.ok(needsApply(withAppliedHash(less), atServer));
  assert.ok(!needsApply(withAppliedHash(structuredClone(full)), atServer));
  assert.equal(full.metadata.annotations, undefined, 'what is given is not changed');
});
