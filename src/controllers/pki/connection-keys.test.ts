import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import test from 'node:test';
import { signingKeyFromPem } from '../../policy/bundle-signing.ts';
import type { OwnKeys, ProtocolDefinition } from '../../protocols/protocol.ts';
import { manualClock } from '../../system/manual-clock.ts';
import { systemRandom } from '../../system/random.ts';
import { ownConnectionKeys, publishedNames, seedsOf } from './connection-keys.ts';

const operatorKey = () =>
  signingKeyFromPem(generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
const connection = { uid: 'u-1', name: 'web1', namespace: 'payments', spec: { type: 'SSH' } };

test('INV-12: each Connection has a seed of its own, the same as long as the operator’s key is', () => {
  const key = operatorKey();
  const seeds = seedsOf(key, 'u-1');
  assert.deepEqual(seedsOf(key, 'u-1'), seeds);
  assert.equal(seeds.connection.length, 32);
  assert.deepEqual(seedsOf(key, 'u-2').installation, seeds.installation);
  const all = [seeds, seedsOf(key, 'u-2'), seedsOf(key, 'u-1 v1'), seedsOf(operatorKey(), 'u-1')];
  const distinct = new Set(all.map(({ connection: seed }) => seed.toString('hex')));
  assert.equal(distinct.size, 4);
  assert.ok(!distinct.has(seeds.installation.toString('hex')));
});

test('certificates are made once for the names there are, and again for others or when they are due', () => {
  const clock = manualClock();
  const given: unknown[] = [];
  const ownKeys: OwnKeys = {
    publish: () => ({}),
    certify(_seeds, names) {
      given.push(names);
      return [`line ${given.length}`];
    },
  };
  const reached: { at?: { host: string; port: number } } = {};
  const definitions = [{ type: 'SSH', ownKeys }] as unknown as ProtocolDefinition[];
  const keysFor = ownConnectionKeys({
    key: operatorKey(),
    definitions,
    endpoint: () => reached.at,
    clock,
    random: systemRandom,
  });
  assert.equal(keysFor({ ...connection, spec: { type: 'PostgreSQL' } }), undefined);
  const keys = keysFor(connection)!;
  assert.deepEqual(keys.certificates(), ['line 1']);
  assert.deepEqual(keysFor(connection)!.certificates(), ['line 1']);
  reached.at = { host: 'localhost', port: 4022 };
  assert.deepEqual(keys.certificates(), ['line 2']);
  assert.deepEqual(given.at(-1), publishedNames(connection, reached.at));
  clock.advance(19 * 86_400_000);
  assert.deepEqual(keys.certificates(), ['line 2']);
  clock.advance(86_400_000);
  assert.deepEqual(keys.certificates(), ['line 3']);
  assert.deepEqual(publishedNames(connection, reached.at), [
    { host: 'web1.payments.sallyport' },
    { host: 'localhost', port: 4022 },
    { host: '127.0.0.1', port: 4022 },
  ]);
});
