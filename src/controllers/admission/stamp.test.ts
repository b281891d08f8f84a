import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Stamp } from '../../api/schema.ts';
import { signingKeyFromPem } from '../../policy/bundle-signing.ts';
import { createSealer } from '../seal.ts';
import { type StampAnswer, type StampRequest, stamp } from './stamp.ts';

const NOW = Date.parse('2026-03-01T09:00:00.250Z');
const key = signingKeyFromPem(
  generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
);
const sealer = createSealer(key);
const context = { nonce: 'n1', nowMs: NOW, seal: sealer.sealStamp };
const grantSpec = { connectionRef: { name: 'orders-db' }, duration: '1h', reason: 'INC-1' };

const request = (kind: string, spec: unknown, extra: Partial<StampRequest> = {}): StampRequest => ({
  kind: { group: 'sallyport.dev', kind },
  operation: 'CREATE',
  userInfo: { username: 'alice', uid: 'u-1', groups: ['payments', 'system:authenticated'] },
  object: { apiVersion: 'sallyport.dev/v1alpha1', kind, metadata: { generateName: 'x-' }, spec },
  ...extra,
});
const stampedBy = (answer: StampAnswer, field: string): Stamp => {
  assert.equal(answer.kind, 'Stamped');
  const [operation, ...more] = answer.kind === 'Stamped' ? answer.patch : [];
  assert.deepEqual(more, []);
  assert.equal(operation!.path, `/spec/${field}`);
  return operation!.value as Stamp;
};
const refusal = (answer: StampAnswer): string => {
  assert.equal(answer.kind, 'Refused');
  return answer.kind === 'Refused' ? answer.message : '';
};

test('the stamp names who the API server says it is, sealed over exactly this spec', () => {
  const made = stampedBy(stamp(request('AccessGrant', grantSpec), context), 'requester');
  assert.deepEqual(
    { ...made, seal: undefined, specHash: undefined },
    {
      via: 'Kubernetes',
      username: 'alice',
      uid: 'u-1',
      groups: ['payments', 'system:authenticated'],
      nonce: 'n1',
      at: '2026-03-01T09:00:00.250Z',
      seal: undefined,
      specHash: undefined,
    },
  );
  const stored = { ...grantSpec, requester: made };
  assert.equal(sealer.checkStamp(made, stored, '2026-03-01T09:00:00Z').kind, 'Good');
  assert.equal(sealer.checkStamp(made, { ...stored, duration: '9h' }, '2026-03-01T09:00:00Z').kind, 'Bad');
  assert.equal(sealer.checkStamp({ ...made, username: 'bob' }, stored, '2026-03-01T09:00:00Z').kind, 'Bad');
});

test('each kind has its field', () => {
  const vote = {
    targetRef: { kind: 'AccessGrant', name: 'g', uid: 'u' },
    specHash: 'a'.repeat(64),
    decision: 'Approve',
  };
  stampedBy(stamp(request('AccessApproval', vote), context), 'approver');
  stampedBy(stamp(request('AccessLock', { target: { user: 'bob' }, reason: 'left' }), context), 'author');
});

test('INV-08: a stamp that its author wrote is refused, whatever it says and wherever it stands', () => {
  const own = stampedBy(stamp(request('AccessGrant', grantSpec), context), 'requester');
  for (const field of ['requester', 'approver', 'author']) {
    for (const value of [own, { via: 'Kubernetes', username: 'bob' }, null, '', false]) {
      const message = refusal(stamp(request('AccessGrant', { ...grantSpec, [field]: value }), context));
      assert.match(message, new RegExp(`spec\\.${field}: is written at admission`));
      assert.match(message, /Nothing was made\./);
    }
  }
});

test('without a user there is no stamp', () => {
  for (const userInfo of [{}, { username: '' }, { username: 'system:anonymous', groups: ['system:unauthenticated'] }]) {
    assert.match(refusal(stamp(request('AccessGrant', grantSpec, { userInfo }), context)), /log in/);
  }
});

test('an identity that a stamp can not hold is refused and never cut short', () => {
  const groups = Array.from({ length: 513 }, (_, index) => `g${index}`);
  for (const userInfo of [
    { username: 'a', groups },
    { username: 'a', groups: ['g'.repeat(513)] },
    { username: 'a'.repeat(513) },
    { username: 'a', uid: 'u'.repeat(257) },
  ]) {
    refusal(stamp(request('AccessGrant', grantSpec, { userInfo }), context));
  }
});

test('other kinds, operations and subresources are refused', () => {
  refusal(stamp(request('Connection', {}), context));
  refusal(stamp(request('constructor', {}), context));
  refusal(stamp(request('AccessGrant', grantSpec, { operation: 'UPDATE' }), context));
  refusal(stamp(request('AccessGrant', grantSpec, { subResource: 'status' }), context));
  refusal(stamp(request('AccessGrant', grantSpec, { kind: { group: 'example.com', kind: 'AccessGrant' } }), context));
  for (const object of [undefined, null, 'x', {}, { spec: null }, { spec: [] }]) {
    refusal(stamp(request('AccessGrant', {}, { object }), context));
  }
});

test('what the schema can not say is told with the field and what to do', () => {
  const lowOrder = Buffer.from([1, ...Array<number>(31).fill(0)]).toString('base64url');
  const message = refusal(
    stamp(request('AccessGrant', { ...grantSpec, clientKey: lowOrder, notBefore: '2026-03-01T08:00:00Z' }), context),
  );
  assert.match(message, /spec\.clientKey: is no Ed25519 public key that proves anything/);
  assert.match(message, /spec\.notBefore: lies in the past; leave it out/);
  assert.match(refusal(stamp(request('AccessGrant', { ...grantSpec, duration: 'long' }), context)), /spec\.duration/);
  assert.match(
    refusal(
      stamp(request('AccessLock', { target: { user: 'b' }, reason: 'r', until: '2026-03-01T08:59:59Z' }), context),
    ),
    /spec\.until: lies in the past/,
  );
});

test('INV-11: no object makes it throw', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom('AccessGrant', 'AccessApproval', 'AccessLock'), (value, kind) => {
      const answer = stamp(request(kind, value, { object: { spec: value } }), context);
      if (answer.kind === 'Refused') assert.match(answer.message, /Nothing was made\.$/);
    }),
    { numRuns: 200 },
  );
});
