import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import {
  connectionLabel,
  headlessName,
  identityOf,
  ordinalOf,
  replicaName,
  serviceName,
  targetPolicyName,
  tunnelName,
  type WorkloadIdentity,
  workloadName,
} from './names.ts';

const LABEL = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
// Names made of what is easily confused, beside arbitrary ones.
const part = fc.constantFrom('shared', 'pods', 'tunnel', 'target', 'orders', 'a', '0', '1', 'deadbeef', '12345678');
const name = fc.oneof(
  fc
    .tuple(fc.array(part, { minLength: 1, maxLength: 6 }), fc.constantFrom('-', '.'))
    .map(([parts, by]) => parts.join(by)),
  fc.stringMatching(/^[a-z0-9]([-a-z0-9.]{0,80}[a-z0-9])?$/),
);
const group = name.map((text) => text.replaceAll('.', '-').slice(0, 63).replace(/-+$/, ''));
const identity: fc.Arbitrary<WorkloadIdentity> = fc.oneof(
  name.map((text) => ({ kind: 'Connection' as const, name: text })),
  group.map((text) => ({ kind: 'Group' as const, name: text })),
);

test('names are as people expect them where nothing is in the way', () => {
  assert.equal(workloadName({ kind: 'Connection', name: 'orders-db' }), 'sallyport-orders-db');
  assert.equal(serviceName('orders-db'), 'sallyport-orders-db');
  assert.equal(workloadName({ kind: 'Group', name: 'g' }), 'sallyport-shared-g');
  assert.equal(replicaName('sallyport-orders-db', 1), 'sallyport-orders-db-1');
  assert.deepEqual(identityOf({ metadata: { name: 'a' }, spec: { proxy: { group: 'g' } } }), {
    kind: 'Group',
    name: 'g',
  });
});

test('a name that could be read as another’s carries a hash', () => {
  for (const odd of ['shared-g', 'orders.db', 'orders-pods', 'orders-tunnel', 'x-deadbeef', 'x'.repeat(36)])
    assert.match(serviceName(odd), /^sallyport-.*-[0-9a-f]{8}$/, odd);
  assert.match(workloadName({ kind: 'Group', name: 'g'.repeat(63) }), /^sallyport-shared-g+-[0-9a-f]{8}$/);
});

test('INV-12: no Connection, whatever it is called, takes a name of what the chart installs', () => {
  for (const own of ['portal', 'webhook', 'operator', 'metrics', 'trust', 'heartbeat', 'keys']) {
    assert.match(serviceName(own), new RegExp(`^sallyport-${own}-[0-9a-f]{8}$`));
    assert.equal(workloadName({ kind: 'Connection', name: own }), serviceName(own));
  }
  // The approval page's pods are told by this beginning and their ServiceAccount.
  assert.notEqual(workloadName({ kind: 'Connection', name: 'portal' }), 'sallyport-portal');
});

test('every name is a DNS label that leaves room for what is appended', () => {
  fc.assert(
    fc.property(identity, (each) => {
      const workload = workloadName(each);
      for (const made of [workload, headlessName(workload), tunnelName(workload), targetPolicyName(workload)]) {
        assert.match(made, LABEL);
        assert.ok(made.length <= 52, made);
      }
      assert.ok(connectionLabel(each.name).length <= 63);
    }),
  );
});

test('INV-12: no two Connections or groups share an object', () => {
  fc.assert(
    fc.property(identity, identity, (a, b) => {
      if (a.kind === b.kind && a.name === b.name) return;
      const [one, two] = [workloadName(a), workloadName(b)];
      const services = (each: WorkloadIdentity): string[] => [
        headlessName(workloadName(each)),
        ...(each.kind === 'Connection' ? [serviceName(each.name)] : []),
      ];
      const roles = (each: WorkloadIdentity): string[] => [
        workloadName(each),
        ...(each.kind === 'Connection'
          ? [tunnelName(serviceName(each.name)), targetPolicyName(serviceName(each.name))]
          : []),
      ];
      assert.notEqual(one, two);
      for (const list of [services, roles]) for (const made of list(a)) assert.ok(!list(b).includes(made), made);
      for (let n = 0; n < 3; n += 1)
        assert.equal(
          ordinalOf(two, replicaName(one, n)) !== undefined && ordinalOf(one, replicaName(one, n)) === n,
          false,
        );
    }),
    { numRuns: 1000 },
  );
});
