import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { createModel, type Model } from '../../../test/support/cluster/model.ts';
import type { KubeAnswer } from '../../kube/answer.ts';
import type { KubeClient } from '../../kube/client.ts';
import type { KubeObject } from '../../kube/object.ts';
import type { ShardEnvelope, ShardName } from '../../policy/bundle.ts';
import { type SigningKey, signingKeyFromPem, signShard, trustedKeyOf } from '../../policy/bundle-signing.ts';
import { manualClock } from '../../system/manual-clock.ts';
import { systemRandom } from '../../system/random.ts';
import { type ObjectPublisher, openObjectPublisher } from './object-publisher.ts';

const ALL = '/apis/sallyport.dev/v1alpha1/enforcementbundles';
const PATH = '/apis/sallyport.dev/v1alpha1/namespaces/payments/enforcementbundles';
const UID = 'c0ffee';
const pemOf = (): string =>
  generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

interface Bed {
  model: Model;
  publisher: ObjectPublisher;
  /** What has reached the API server: `create|replace|delete NAME`. */
  writes: string[];
  lost: string[];
  fenced: number;
  envelope(
    shard: ShardName,
    payload: unknown,
    more?: { epoch?: number; key?: SigningKey; uid?: string },
  ): ShardEnvelope;
  stored(shard: string): ShardEnvelope | undefined;
  /** Writes to the API server past the publisher. */
  tamper(shard: string, spec: ShardEnvelope | undefined): void;
  settle(ms?: number): Promise<void>;
}

/** One namespace, so that the list of all is the list of that one. Preconditions and the CRD's rule are as on a server. */
async function bed(
  context: { after(step: () => Promise<void>): void },
  model = createModel(),
  key = keyOne,
): Promise<Bed> {
  const clock = manualClock();
  const writes: string[] = [];
  const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
  const conflict = { kind: 'Failed', status: 409, reason: 'Conflict', message: 'Conflict' } as const;
  const spec = (object: unknown): ShardEnvelope => (object as { spec: ShardEnvelope }).spec;
  const client: KubeClient = {
    ...model.client,
    list: (path, options) => model.client.list(path === ALL ? PATH : path, options),
    watch: (path, options) => model.client.watch(path === ALL ? PATH : path, options),
    create(path, body) {
      writes.push(`create ${(body as KubeObject).metadata.name}`);
      return model.client.create(path, inNamespace(body));
    },
    async replace<T>(path: string, body: unknown): Promise<KubeAnswer<T>> {
      writes.push(`replace ${nameOf(path)}`);
      const before = model.objects(PATH).get(nameOf(path));
      const [was, now] = [before && spec(before), spec(body)];
      if (was !== undefined && (now.epoch < was.epoch || (now.epoch === was.epoch && now.sequence < was.sequence)))
        return { ...conflict, status: 422, reason: 'Invalid', message: 'a bundle never goes back' };
      return model.client.replace<T>(path, inNamespace(body));
    },
    async delete<T>(path: string, options?: { resourceVersion?: string | undefined }): Promise<KubeAnswer<T>> {
      writes.push(`delete ${nameOf(path)}`);
      const found = model.objects(PATH).get(nameOf(path));
      const wanted = options?.resourceVersion;
      if (found !== undefined && wanted !== undefined && found.metadata.resourceVersion !== wanted) return conflict;
      return model.client.delete<T>(path);
    },
  };
  const lost: string[] = [];
  let sequence = 0;
  const self: Bed = {
    model,
    writes,
    lost,
    fenced: 0,
    publisher: await openObjectPublisher({
      client,
      operatorNamespace: 'payments',
      placeOf: (uid) => (uid === UID || uid === 'other' ? { namespace: 'payments', name: 'orders-db' } : undefined),
      trusted: [trustedKeyOf(key)],
      clock,
      random: systemRandom,
      log: () => undefined,
      onStored: () => undefined,
      onLost: (uid) => lost.push(uid),
      onFenced: () => (self.fenced += 1),
    }),
    envelope: (shard, payload, more = {}) =>
      signShard(more.key ?? key, {
        connectionUid: more.uid ?? UID,
        shard,
        epoch: more.epoch ?? 1,
        sequence: ++sequence,
        payload,
      }),
    stored: (shard) => {
      const found = model.objects(PATH).get(`${UID}.${shard}`);
      return found === undefined ? undefined : spec(found);
    },
    tamper: (shard, changed) =>
      void model.put(
        PATH,
        `${UID}.${shard}`,
        changed === undefined ? undefined : inNamespace({ spec: changed, metadata: {} }),
      ),
    async settle(ms = 0) {
      for (let step = 0; step <= ms; step += 100) {
        for (let turns = 0; turns < 30; turns += 1) await turn();
        if (step < ms) clock.advance(100);
      }
    },
  };
  context.after(() => self.publisher.stop());
  await self.settle();
  return self;
}
const keyOne = signingKeyFromPem(pemOf());

function inNamespace(body: unknown): KubeObject {
  const object = body as KubeObject;
  return { ...object, metadata: { ...object.metadata, namespace: 'payments' } };
}

test('INV-08: shards of a Connection are written in the order they were published, each once', async (context) => {
  const at = await bed(context);
  for (const shard of ['overlay', 'policy', 'grants-0', 'releases'] as const)
    at.publisher.publish(at.envelope(shard, { say: shard }));
  assert.equal(at.publisher.idle, false);
  await at.settle();
  assert.deepEqual(
    at.writes,
    ['overlay', 'policy', 'grants-0', 'releases'].map((shard) => `create ${UID}.${shard}`),
  );
  assert.equal(at.publisher.idle, true);
  at.publisher.publish(at.envelope('policy', { say: 'policy' }));
  await at.settle(120_000);
  assert.equal(at.writes.length, 4, 'the same content is not written again, and at rest nothing is');
  assert.deepEqual(at.lost, []);
  assert.deepEqual(
    at.publisher.objectsOf(UID),
    ['grants-0', 'overlay', 'policy', 'releases'].map((each) => `${UID}.${each}`),
  );
});

test('INV-10: after a restart only what changed is written; what is no longer wanted goes', async (context) => {
  const first = await bed(context);
  for (const shard of ['policy', 'grants-0', 'grants-1'] as const)
    first.publisher.publish(first.envelope(shard, { shard }));
  await first.settle();
  await first.publisher.stop();
  const second = await bed(context, first.model);
  second.publisher.publish(second.envelope('policy', { shard: 'policy' }, { epoch: 2 }));
  second.publisher.publish(second.envelope('grants-0', { shard: 'changed' }, { epoch: 2 }));
  second.publisher.withdraw(UID, 'grants-1');
  await second.settle();
  assert.deepEqual(second.writes, [`replace ${UID}.grants-0`, `delete ${UID}.grants-1`]);
  assert.deepEqual([second.stored('policy')?.epoch, second.stored('grants-0')?.epoch], [1, 2]);
  assert.deepEqual(second.lost, []);
});

test('INV-10: after a restart it is known which shard each grant is stored in; what nobody signed says nothing', async (context) => {
  const first = await bed(context);
  const grants = (...uids: string[]): unknown => ({ grants: uids.map((uid) => ({ uid })) });
  first.publisher.publish(first.envelope('grants-0', grants('a', 'b')));
  first.publisher.publish(first.envelope('grants-2', { ...(grants('c') as object), sealed: [{ uid: 'd' }] }));
  first.publisher.publish(first.envelope('grants-3', grants('e')));
  first.publisher.publish(first.envelope('policy', grants('f')));
  await first.settle();
  await first.publisher.stop();
  const forged = first.envelope('grants-3', grants('a', 'e'), { key: signingKeyFromPem(pemOf()) });
  first.tamper('grants-3', forged);
  const second = await bed(context, first.model);
  const places = { a: 'grants-0', b: 'grants-0', c: 'grants-2', d: 'grants-2' };
  assert.deepEqual(Object.fromEntries(second.publisher.placed!(UID)), places);
  // What another leader still stores before this one has published anything.
  second.tamper('grants-0', first.envelope('grants-0', grants('a', 'b', 'g')));
  await second.settle();
  assert.deepEqual(Object.fromEntries(second.publisher.placed!(UID)), { ...places, g: 'grants-0' });
  assert.equal(second.publisher.placed!('nobody').size, 0);
});

test('INV-08: shards of an earlier life, and those that somebody put there, do not stay', async (context) => {
  const first = await bed(context);
  const old = first.envelope('grants-3', { grants: ['ended meanwhile'] });
  for (const envelope of [first.envelope('policy', {}), first.envelope('grants-0', {}), old])
    first.publisher.publish(envelope);
  await first.settle();
  await first.publisher.stop();
  const second = await bed(context, first.model);
  const publish = (): void => {
    second.publisher.publish(second.envelope('policy', {}, { epoch: 2 }));
    second.publisher.publish(second.envelope('grants-0', {}, { epoch: 2 }));
    second.publisher.keepOnly?.(UID, new Set(['policy', 'grants-0']));
  };
  publish();
  await second.settle();
  assert.deepEqual(second.writes, [`delete ${UID}.grants-3`]);
  second.tamper('grants-3', old);
  await second.settle(1_000);
  assert.deepEqual(second.lost, [UID]);
  publish();
  await second.settle(1_000);
  assert.equal(second.stored('grants-3'), undefined);
  assert.deepEqual(second.publisher.objectsOf(UID), [`${UID}.grants-0`, `${UID}.policy`]);
});

test('INV-08: a leader of yesterday overwrites and deletes nothing, and learns that it leads no more', async (context) => {
  const old = await bed(context);
  old.publisher.publish(old.envelope('policy', { by: 'old' }, { epoch: 5 }));
  old.publisher.publish(old.envelope('grants-0', { by: 'old' }, { epoch: 5 }));
  await old.settle();
  const next = await bed(context, old.model);
  // What the old one does at the same instant meets what the new one has stored.
  const gate = Promise.withResolvers<void>();
  old.model.delay = () => gate.promise;
  old.publisher.publish(old.envelope('policy', { by: 'old, late' }, { epoch: 5 }));
  old.publisher.withdraw(UID, 'grants-0');
  old.tamper('policy', next.envelope('policy', { by: 'new' }, { epoch: 6 }));
  old.tamper('grants-0', next.envelope('grants-0', { by: 'new' }, { epoch: 6 }));
  gate.resolve();
  old.model.delay = () => Promise.resolve();
  await old.settle(5_000);
  assert.equal(old.fenced, 1);
  assert.deepEqual([old.stored('policy')?.epoch, old.stored('grants-0')?.epoch], [6, 6]);
  old.publisher.publish(old.envelope('releases', {}, { epoch: 5 }));
  await old.settle(5_000);
  assert.equal(old.stored('releases'), undefined, 'it writes nothing any more');
});

test('INV-08: what somebody deletes or changes is asked for anew, soon, and not in a circle', async (context) => {
  const at = await bed(context);
  const policy = at.envelope('policy', { rules: ['deny'] });
  at.publisher.publish(policy);
  at.publisher.publish(at.envelope('grants-0', { grants: [] }));
  await at.settle();
  const changes: [string, () => void][] = [
    ['deleted', () => at.tamper('policy', undefined)],
    ['another payload', () => at.tamper('policy', { ...policy, payload: '{"rules":[]}' })],
    [
      'signed by nobody we trust',
      () => at.tamper('policy', at.envelope('policy', {}, { key: signingKeyFromPem(pemOf()) })),
    ],
    ['an older one', () => at.tamper('policy', { ...policy })],
    ['that of another Connection', () => at.tamper('policy', at.envelope('policy', {}, { uid: 'other' }))],
    ['higher than any', () => at.tamper('policy', { ...policy, epoch: 9_000_000_000, sequence: 7 })],
  ];
  for (const [what, change] of changes) {
    change();
    await at.settle(11_000);
    assert.deepEqual(at.lost.splice(0), [UID], what);
    at.publisher.publish(at.envelope('policy', { rules: ['deny'] }));
    await at.settle(11_000);
    assert.equal(at.stored('policy')?.payload, '{"rules":["deny"]}', what);
    assert.equal(at.stored('policy')?.epoch, 1, what);
    assert.deepEqual(at.lost, [], what);
    assert.equal(at.publisher.idle, true, what);
  }
  for (let round = 0; round < 100; round += 1) {
    at.tamper('grants-0', undefined);
    at.publisher.publish(at.envelope('grants-0', { grants: [] }));
    await at.settle(100);
  }
  assert.ok(at.lost.length <= 7, `${at.lost.length} times in ten seconds`);
});

test('INV-08: a deletion that nobody saw is found when the watch is too old', async (context) => {
  const at = await bed(context);
  at.publisher.publish(at.envelope('policy', {}));
  at.publisher.publish(at.envelope('releases', {}));
  await at.settle();
  at.model.fault = (what) => (what === 'line' ? 'Reset' : what === 'watch' ? 'Gone' : undefined);
  at.tamper('policy', undefined);
  at.model.compact();
  await at.settle(2_000);
  at.model.fault = () => undefined;
  await at.settle(40_000);
  assert.deepEqual(new Set(at.lost), new Set([UID]));
});

test('INV-08: a proxy that has a newer shard than is stored has it published anew', async (context) => {
  const at = await bed(context);
  at.publisher.acknowledged(UID, [{ shard: 'policy', epoch: 9, sequence: 9 }]);
  at.publisher.publish(at.envelope('policy', { a: 1 }, { epoch: 3 }));
  at.publisher.acknowledged(UID, [{ shard: 'policy', epoch: 9, sequence: 9 }]);
  await at.settle();
  const { epoch, sequence } = at.stored('policy')!;
  at.publisher.acknowledged(UID, [
    { shard: 'policy', epoch, sequence },
    { shard: 'grants-7', epoch: 9, sequence: 9 },
  ]);
  at.publisher.acknowledged('nobody', [{ shard: 'policy', epoch: 9, sequence: 9 }]);
  await at.settle();
  assert.deepEqual(at.lost, []);
  for (let round = 0; round < 50; round += 1)
    at.publisher.acknowledged(UID, [{ shard: 'policy', epoch, sequence: sequence + 1 }]);
  await at.settle();
  assert.deepEqual(at.lost, [UID]);
  at.publisher.publish(at.envelope('policy', { a: 1 }, { epoch: 3 }));
  await at.settle();
  assert.ok(at.stored('policy')!.sequence > sequence, 'the same content, once more');
});

test('INV-10: whatever fails, in the end what was published last is stored', async (context) => {
  const at = await bed(context);
  let dice = 7;
  const random = (): number => (dice = (dice * 48_271) % 2_147_483_647) / 2_147_483_647;
  at.model.fault = (what) => {
    if (what !== 'write' && what !== 'get') return undefined;
    const roll = random();
    // Refused, lost on the way there, or lost on the way back.
    return roll < 0.2 ? 'Refuse' : roll < 0.4 ? 'Reset' : roll < 0.6 ? 'End' : undefined;
  };
  for (let round = 0; round < 40; round += 1) {
    const shard = (['policy', 'grants-0', 'grants-1', 'overlay'] as const)[round % 4]!;
    if (shard === 'grants-1' && round % 3 === 0) at.publisher.withdraw(UID, shard);
    else at.publisher.publish(at.envelope(shard, { round }));
    await at.settle(Math.floor(random() * 300));
  }
  at.publisher.publish(at.envelope('policy', { last: 'policy' }));
  at.publisher.publish(at.envelope('grants-0', { last: 'grants' }));
  at.publisher.withdraw(UID, 'grants-1');
  await at.settle(60_000);
  at.model.fault = () => undefined;
  await at.settle(120_000);
  assert.equal(at.publisher.idle, true);
  assert.equal(at.stored('policy')?.payload, '{"last":"policy"}');
  assert.equal(at.stored('grants-0')?.payload, '{"last":"grants"}');
  assert.equal(at.stored('grants-1'), undefined);
  assert.equal(at.fenced, 0);
});

test('INV-04: what tokens are verified by is one object for all, found again after a restart and restored where changed', async (context) => {
  const at = await bed(context);
  const identity = (providers: unknown[], more = {}): ShardEnvelope =>
    at.envelope('identity', { providers }, { uid: '*', ...more });
  at.publisher.publish(identity([{ name: 'corp' }]));
  at.publisher.publish(at.envelope('heartbeat', { atMs: 1 }, { uid: '*' }));
  await at.settle();
  assert.deepEqual(at.writes, ['create identity', 'create heartbeat']);
  assert.equal((await at.publisher.read('*', 'identity'))?.payload, '{"providers":[{"name":"corp"}]}');
  // By a key of somebody else, and deleted: both are asked for anew. A heartbeat comes by itself.
  at.model.put(
    PATH,
    'identity',
    inNamespace({ spec: identity([], { key: signingKeyFromPem(pemOf()) }), metadata: {} }),
  );
  at.model.put(PATH, 'heartbeat', undefined);
  await at.settle(1_000);
  assert.deepEqual(at.lost, ['*']);
  at.publisher.publish(identity([{ name: 'corp' }]));
  await at.settle(1_000);
  assert.equal((await at.publisher.read('*', 'identity'))?.payload, '{"providers":[{"name":"corp"}]}');
  at.model.put(PATH, 'identity', undefined);
  await at.settle(5_000);
  assert.deepEqual(at.lost, ['*', '*']);
  assert.equal(await at.publisher.read('*', 'identity'), undefined);
});

test('what was left by a Connection that is gone is taken away, all of it, and nothing else', async (context) => {
  const first = await bed(context);
  first.publisher.publish(first.envelope('policy', { say: 'stays' }));
  await first.settle();
  const { model } = first;
  await first.publisher.stop();
  for (const shard of ['policy', 'grants-0'] as const)
    model.put(PATH, `gone.${shard}`, inNamespace({ spec: first.envelope(shard, {}, { uid: 'gone' }), metadata: {} }));
  const second = await bed(context, model);
  await second.settle(500);
  assert.deepEqual(second.writes.toSorted(), ['delete gone.grants-0', 'delete gone.policy']);
  assert.deepEqual([...model.objects(PATH).keys()], [`${UID}.policy`]);
  assert.deepEqual([second.lost, second.fenced, second.publisher.idle], [[], 0, true]);
});
