import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeClient } from '../../kube/client.ts';
import { systemRandom } from '../../system/random.ts';
import { createProofLedger, type ProofLedger, type ProofUse } from './proof-ledger.ts';

interface Stored {
  metadata: { name: string; uid: string; labels: Record<string, string> };
  spec: Record<string, unknown>;
}

/** An API server's Leases: a name is given once, however many ask in the same moment. */
function leases(): { stored: Map<string, Stored>; client: Pick<KubeClient, 'get' | 'create' | 'list' | 'delete'> } {
  const stored = new Map<string, Stored>();
  const pause = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  const failed = (status: number): never => ({ kind: 'Failed', status, reason: '', message: `${status}` }) as never;
  const nameIn = (path: string): string => path.split('/').at(-1)!;
  return {
    stored,
    client: {
      async get(path) {
        await pause();
        const found = stored.get(nameIn(path));
        return found === undefined ? failed(404) : ({ kind: 'Ok', value: structuredClone(found) } as never);
      },
      async create(_path, body) {
        await pause();
        const object = body as Stored;
        if (stored.has(object.metadata.name)) return failed(409);
        object.metadata.uid = `u-${stored.size}`;
        stored.set(object.metadata.name, object);
        return { kind: 'Ok', value: object } as never;
      },
      async list(_path, options) {
        await pause();
        assert.equal(options?.labelSelector, 'sallyport.dev/record=proof');
        return { kind: 'Ok', value: { metadata: {}, items: [...stored.values()] } } as never;
      },
      async delete(path) {
        await pause();
        return stored.delete(nameIn(path)) ? ({ kind: 'Ok', value: {} } as never) : failed(404);
      },
    },
  };
}

const START = Date.parse('2026-03-01T09:00:00Z');
function replicas(count: number): {
  ledgers: ProofLedger[];
  stored: Map<string, Stored>;
  client: ReturnType<typeof leases>['client'];
  pass(ms: number): void;
} {
  let now = START;
  const { stored, client } = leases();
  const clock = { now: () => now, monotonic: () => now, after: () => () => undefined };
  const common = { client, namespace: 'sallyport-system', clock, random: systemRandom, log: () => undefined };
  return {
    ledgers: Array.from({ length: count }, () => createProofLedger(common)),
    stored,
    client,
    pass: (ms) => void (now += ms),
  };
}

let reviews = 0;
const use = (more: Partial<ProofUse> = {}): ProofUse => ({
  id: 'a',
  untilMs: START + 300_000,
  review: `r-${(reviews += 1)}`,
  dryRun: false,
  ...more,
});

test('INV-08: one proof serves once, whichever replicas are asked at the same instant', async () => {
  const { ledgers } = replicas(3);
  for (let round = 0; round < 20; round += 1) {
    const answers = await Promise.all(
      [...ledgers, ...ledgers, ...ledgers].map((each) => each.spend(use({ id: `p-${round}` }))),
    );
    assert.equal(answers.filter(Boolean).length, 1);
  }
});

test('a review that is asked about twice is one use; a dry run spends nothing', async () => {
  const { ledgers, stored } = replicas(2);
  const [one, two] = ledgers as [ProofLedger, ProofLedger];
  for (let count = 0; count < 3; count += 1) assert.equal(await one.spend(use({ dryRun: true })), true);
  assert.equal(stored.size, 0);
  const first = use();
  assert.equal(await one.spend(first), true);
  assert.equal(await two.spend(first), true);
  assert.equal(await two.spend(use()), false);
  assert.equal(await two.spend(use({ dryRun: true })), false, 'a dry run hears the same');
});

test('INV-08: a record outlives the time in which its proof is taken, and then goes', async () => {
  const { ledgers, stored, pass } = replicas(1);
  const [ledger] = ledgers as [ProofLedger];
  await ledger.spend(use({ untilMs: START + 3_600_000 }));
  await ledger.spend(use({ id: 'b' }));
  stored.set('proof-strange', { metadata: { name: 'proof-strange', uid: 'x', labels: {} }, spec: {} });
  pass(300_000 + 9 * 60_000);
  await ledger.sweep();
  assert.equal(stored.size, 3, 'clocks may differ');
  pass(2 * 60_000);
  await ledger.sweep();
  assert.equal(stored.size, 2);
  assert.equal(await ledger.spend(use()), false, 'the one that lasts longer is there');
  pass(3_600_000);
  await ledger.sweep();
  assert.deepEqual([...stored.keys()], ['proof-strange'], 'what can not be read is kept');
});

test('INV-04: without an answer nothing is let through', async () => {
  const { client } = leases();
  const refusing = {
    ...client,
    create: () => Promise.resolve({ kind: 'Failed', status: 403, reason: 'Forbidden', message: 'no' } as never),
    get: () => Promise.resolve({ kind: 'Failed', status: 500, reason: '', message: 'no' } as never),
  };
  const ledger = createProofLedger({
    client: refusing,
    namespace: 'n',
    clock: { now: () => START, monotonic: () => 0, after: () => () => undefined },
    random: systemRandom,
    log: () => undefined,
  });
  await assert.rejects(ledger.spend(use()), /used proofs can not be told/);
  await assert.rejects(ledger.spend(use({ dryRun: true })), /used proofs can not be told/);
});
