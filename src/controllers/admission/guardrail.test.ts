import assert from 'node:assert/strict';
import { test } from 'node:test';

import { keyRules } from '../../policy/test-protocol.ts';
import { guardrailFaults, guardrailHandler } from './guardrail.ts';

const PROTOCOLS = [keyRules];
const guardrail = (spec: object): object => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind: 'ClusterAccessPolicy',
  metadata: { name: 'frozen' },
  spec,
});
const GOOD = {
  connectionSelector: {},
  rules: [{ name: 'frozen', action: 'Deny', message: 'Nothing runs while we move.' }],
};
const ask = (object: unknown, more: object = {}) =>
  guardrailHandler(PROTOCOLS, () => undefined)(
    {
      uid: 'u',
      kind: { group: 'sallyport.dev', version: 'v1alpha1', kind: 'ClusterAccessPolicy' },
      resource: { group: 'sallyport.dev', version: 'v1alpha1', resource: 'clusteraccesspolicies' },
      operation: 'CREATE',
      userInfo: { username: 'sam' },
      object,
      oldObject: null,
      dryRun: false,
      ...more,
    },
    new AbortController().signal,
  );

test('a guardrail that compiles is let in, one that does not is refused with its reasons', () => {
  assert.deepEqual(guardrailFaults(guardrail(GOOD), PROTOCOLS), []);
  assert.deepEqual(ask(guardrail(GOOD)), { kind: 'Allow' });
  const masks = [{ name: 'cards', columns: ['a.b.c.d.e'] }];
  const [fault] = guardrailFaults(guardrail({ ...GOOD, masking: masks }), PROTOCOLS);
  assert.match(fault ?? '', /cards/);
  const answer = ask(guardrail({ ...GOOD, masking: masks }));
  assert.ok(!(answer instanceof Promise) && answer.kind === 'Deny');
  assert.equal(answer.code, 422);
  assert.match(answer.message, /cards.*Nothing was changed\.$/);
});

test('what has no spec, or one of another shape, is refused without a throw', () => {
  for (const object of [null, 7, [], {}, { spec: 7 }, guardrail({ ...GOOD, rules: 'all' })]) {
    assert.ok(guardrailFaults(object, PROTOCOLS).length > 0, JSON.stringify(object));
  }
});

test('nothing else is judged', () => {
  assert.deepEqual(ask(null, { operation: 'DELETE' }), { kind: 'Allow' });
  assert.deepEqual(ask({}, { subResource: 'status' }), { kind: 'Allow' });
});
