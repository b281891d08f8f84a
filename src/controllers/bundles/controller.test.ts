// When the first bundle of a Connection is published.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import test from 'node:test';
import { signingKeyFromPem } from '../../policy/bundle-signing.ts';
import { connection, policy, shardOf } from '../../policy/test-resources.ts';
import { manualClock } from '../../system/manual-clock.ts';
import { type BundleControllerOptions, createBundleController } from './controller.ts';

function world(stored: boolean) {
  const made = connection('orders-db');
  const clock = manualClock();
  const published: string[] = [];
  const state = { deciding: true, decided: false };
  const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const options = {
    cache: {
      get: () => made,
      list: () => [],
      indexed: (kind: string) =>
        kind === 'AccessGrant' ? [{ metadata: { uid: 'g' }, spec: {}, ...(state.decided ? { status: {} } : {}) }] : [],
    },
    clock,
    sealer: {},
    key: signingKeyFromPem(pem),
    epoch: 1,
    definitions: [],
    publisher: {
      publish: ({ shard }: { shard: string }) => published.push(shard),
      withdraw: () => undefined,
      holds: () => stored,
    },
    compile: () => shardOf({ policies: [policy('team')] }),
    commonHeartbeat: true,
    deciding: () => state.deciding,
  } as unknown as BundleControllerOptions;
  const controller = createBundleController(options);
  const look = () => controller.reconcile('payments/orders-db', new AbortController().signal);
  return { clock, published, state, look, waits: () => controller.awaitsGrants(made.metadata.uid) };
}

test('the first bundle is published once the grants that are being decided are', async () => {
  const { published, state, look, waits } = world(false);
  assert.ok((await look())?.againInMs);
  assert.deepEqual(published, []);
  assert.equal(waits(), true);
  state.decided = true;
  await look();
  assert.deepEqual(published, ['overlay', 'policy', 'grants-0', 'releases']);
  assert.equal(waits(), false);
});

test('INV-10: a grant that can not be decided holds the first bundle up neither for ever nor while nothing is decided', async () => {
  const late = world(false);
  await late.look();
  late.clock.advance(600_000);
  await late.look();
  assert.equal(late.published.length, 4);
  const idle = world(false);
  idle.state.deciding = false;
  await idle.look();
  assert.equal(idle.published.length, 4);
});

test('what is stored already is brought up to date at once', async () => {
  const { published, look, waits } = world(true);
  await look();
  assert.equal(published.length, 4);
  assert.equal(waits(), false);
});
