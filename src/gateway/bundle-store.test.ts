import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import type { BundleGrant, ShardEnvelope, ShardName } from '../policy/bundle.ts';
import { keyIdOf, signShard, trustedKeyOf } from '../policy/bundle-signing.ts';
import { manualClock } from '../system/manual-clock.ts';
import { type BundleChange, openBundleStore } from './bundle-store.ts';
import { NO_METRICS } from './observer.ts';
import type { FeedEvent } from './ports.ts';

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const key = { keyId: keyIdOf(publicKey), privateKey };
const clock = manualClock();

function grant(uid: string): BundleGrant {
  return {
    name: uid,
    uid,
    specHash: '',
    principal: { username: 'a', groups: [], aliases: [] },
    via: 'Local',
    account: 'reader',
    policy: 'ns/p',
    commandHashes: [],
    notBeforeMs: 0,
    expiresAtMs: clock.now() + 3_600_000,
    ticketUntilExpiry: false,
  };
}

function open(onChange: (change: BundleChange) => void = () => {}) {
  let tell: (event: FeedEvent) => void = () => {};
  const store = openBundleStore({
    feed: {
      subscribe(listener) {
        tell = listener;
        return () => {};
      },
    },
    trustedKeys: () => [trustedKeyOf(key)],
    serves: () => true,
    clock,
    log: () => {},
    metrics: NO_METRICS,
    heartbeatMs: 300_000,
    onChange,
  });
  return { store, tell: (event: FeedEvent) => tell(event) };
}

const shard = (name: ShardName, epoch: number, sequence: number, payload: unknown): ShardEnvelope =>
  signShard(key, { connectionUid: 'c', shard: name, epoch, sequence, payload });
const policy = (generation: number): unknown => ({
  connection: { uid: 'c', name: 'db', namespace: 'ns', generation, spec: {} },
  policies: [],
});

test('INV-04: whatever the order and however often shards come, the newest of each is in force', () => {
  const history = [
    shard('policy', 1, 1, policy(1)),
    shard('policy', 1, 2, policy(2)),
    shard('policy', 2, 1, policy(3)),
    shard('grants-0', 1, 1, { grants: [grant('a'), grant('b')] }),
    shard('grants-0', 1, 2, { grants: [grant('b')] }),
    shard('grants-1', 1, 1, { grants: [grant('c')] }),
    shard('overlay', 1, 1, { locks: [], voidTickets: ['x'] }),
    shard('overlay', 1, 5, { locks: [], voidTickets: ['y'] }),
  ];
  fc.assert(
    fc.property(
      fc.shuffledSubarray(history, { minLength: history.length }),
      fc.array(fc.constantFrom(...history), { maxLength: 12 }),
      (order, again) => {
        const { store, tell } = open();
        for (const envelope of [...order, ...again]) tell({ kind: 'Shard', envelope: structuredClone(envelope) });
        const bundle = store.connection('c')!;
        assert.equal(bundle.view!.policy.connection.generation, 3);
        assert.deepEqual([...bundle.view!.grants.keys()].sort(), ['b', 'c']);
        assert.equal(bundle.grant('a'), undefined);
        assert.ok(bundle.isVoid('y') && !bundle.isVoid('x'));
      },
    ),
    { numRuns: 40 },
  );
});

test('the generation rises with the policy and with nothing else, and is never used twice', () => {
  const { store, tell } = open();
  const seen: number[] = [];
  const now = (): number => store.connection('c')!.view!.generation;
  tell({ kind: 'Shard', envelope: shard('policy', 1, 1, policy(1)) });
  seen.push(now());
  tell({ kind: 'Shard', envelope: shard('grants-0', 1, 1, { grants: [grant('a')] }) });
  tell({ kind: 'Shard', envelope: shard('heartbeat', 1, 1, { atMs: clock.now() }) });
  assert.equal(now(), seen[0]);
  tell({ kind: 'ShardGone', connectionUid: 'c', shard: 'policy' });
  assert.equal(store.connection('c')!.view, undefined);
  tell({ kind: 'Shard', envelope: shard('policy', 1, 2, policy(1)) });
  seen.push(now());
  assert.ok(seen[1]! > seen[0]!);
});

test('INV-03: an end without signature holds against every shard, and thousands of them do not wash it out', () => {
  const { store, tell } = open();
  tell({ kind: 'GrantEnded', grantUid: 'a', phase: 'Revoked' }); // faster than the shard that still lists it
  tell({ kind: 'Shard', envelope: shard('grants-0', 1, 1, { grants: [grant('a'), grant('b')] }) });
  const bundle = store.connection('c')!;
  assert.equal(bundle.grant('a'), undefined);
  assert.equal(bundle.endOf('a')?.phase, 'Revoked');
  for (let i = 0; i < 10_000; i++) tell({ kind: 'GrantEnded', grantUid: `other-${i}`, phase: 'Expired' });
  assert.equal(bundle.grant('a'), undefined);
  assert.equal(bundle.grant('b')?.uid, 'b');
});

test('INV-04: one heartbeat may speak for every Connection, nothing else may', () => {
  const { store, tell } = open();
  const forAll = (name: ShardName, sequence: number, payload: unknown): ShardEnvelope =>
    signShard(key, { connectionUid: '*', shard: name, epoch: 1, sequence, payload });
  tell({ kind: 'Shard', envelope: forAll('heartbeat', 1, { atMs: clock.now() }) });
  tell({ kind: 'Shard', envelope: shard('policy', 1, 2, policy(1)) });
  tell({ kind: 'Shard', envelope: shard('overlay', 1, 3, { locks: [], voidTickets: [] }) });
  assert.equal(store.connection('c')?.silent(), undefined, 'one that came before the Connection counts');
  clock.advance(301_000);
  assert.match(String(store.connection('c')?.silent()), /no heartbeat/);
  tell({ kind: 'Shard', envelope: forAll('heartbeat', 1, { atMs: clock.now() }) });
  assert.match(String(store.connection('c')?.silent()), /no heartbeat/, 'a sequence is good once');
  tell({ kind: 'Shard', envelope: forAll('heartbeat', 4, { atMs: clock.now() }) });
  assert.equal(store.connection('c')?.silent(), undefined);
  tell({ kind: 'Shard', envelope: forAll('grants-0', 5, { grants: [grant('g')] }) });
  assert.equal(store.connection('c')?.grant('g'), undefined);
  assert.equal(store.connection('*'), undefined);
});

test('a listener that throws does not stop the feed', () => {
  let thrown = 0;
  const { store, tell } = open(() => {
    thrown += 1;
    throw new Error('x');
  });
  tell({ kind: 'Shard', envelope: shard('policy', 1, 1, policy(1)) });
  tell({ kind: 'Shard', envelope: shard('policy', 1, 2, policy(2)) });
  assert.equal(thrown, 2);
  assert.equal(store.connection('c')!.view!.policy.connection.generation, 2);
});

test('a Connection that is not served any more takes its grants along; served again, its shards count anew', () => {
  const seen: BundleChange[] = [];
  const { store, tell } = open((change) => seen.push(change));
  const shards = [
    shard('policy', 1, 1, policy(1)),
    shard('overlay', 1, 1, { locks: [], voidTickets: [] }),
    shard('grants-0', 1, 1, { grants: [grant('g')] }),
  ];
  for (const envelope of shards) tell({ kind: 'Shard', envelope });
  const held = store.connection('c')!;
  assert.deepEqual([...held.applied.keys()], ['policy', 'overlay', 'grants-0']);
  tell({ kind: 'ConnectionGone', connectionUid: 'c' });
  assert.deepEqual(seen.at(-1), { kind: 'Gone', connectionUid: 'c' });
  assert.equal(store.connection('c'), undefined);
  assert.equal(held.view, undefined);
  assert.equal(held.grant('g'), undefined);
  for (const envelope of shards) tell({ kind: 'Shard', envelope });
  assert.equal(store.connection('c')?.grant('g')?.uid, 'g');
});
