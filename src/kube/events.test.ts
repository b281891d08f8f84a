import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createModel } from '../../test/support/cluster/model.ts';
import { manualClock } from '../system/manual-clock.ts';
import { systemRandom } from '../system/random.ts';
import type { KubeAnswer } from './answer.ts';
import type { KubeClient } from './client.ts';
import { createEventRecorder, type EventRecorder, type EventSubject } from './events.ts';

interface Sent {
  verb: 'create' | 'patch';
  path: string;
  body: { note?: string; regarding?: { name: string }; series?: { count: number } };
}
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function setUp(
  answer: () => Promise<KubeAnswer<never>> = () => Promise.resolve({ kind: 'Ok', value: undefined as never }),
): {
  clock: ReturnType<typeof manualClock>;
  events: EventRecorder;
  sent: Sent[];
  pass(ms: number): Promise<void>;
} {
  const clock = manualClock();
  const sent: Sent[] = [];
  const client: KubeClient = {
    ...createModel().client,
    create: (path, body) => {
      sent.push({ verb: 'create', path, body: body as Sent['body'] });
      return answer();
    },
    patch: (path, body) => {
      sent.push({ verb: 'patch', path, body: body as Sent['body'] });
      return answer();
    },
  };
  const events = createEventRecorder({
    client,
    controller: 'sallyport.dev/operator',
    instance: 'pod-0',
    clock,
    random: systemRandom,
    log: () => undefined,
  });
  return {
    clock,
    events,
    sent,
    async pass(ms) {
      for (let gone = 0; gone < ms; gone += 100) {
        await turn();
        clock.advance(100);
      }
      await turn();
    },
  };
}
const about = (name: string): EventSubject => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind: 'Connection',
  name,
  namespace: 'payments',
  uid: `uid-${name}`,
});
const NOTE = { type: 'Warning', reason: 'Unreachable', action: 'Probe', note: 'No route to orders-db.' } as const;

test('the same thing told again is one event with a count', async () => {
  const { events, sent, pass } = setUp();
  events.tell(about('a'), NOTE);
  await pass(200);
  for (let times = 0; times < 4; times++) {
    events.tell(about('a'), NOTE);
    await pass(1000);
  }
  assert.deepEqual(
    sent.map(({ verb, body }) => `${verb} ${body.series?.count ?? 1}`),
    ['create 1', 'patch 2', 'patch 3', 'patch 4', 'patch 5'],
  );
  assert.ok(sent[0]!.path.startsWith('/apis/events.k8s.io/v1/namespaces/payments/events'));
  await pass(400_000);
  events.tell(about('a'), NOTE);
  await pass(200);
  assert.equal(sent.at(-1)?.verb, 'create', 'after a while it is news again');
});

test('one object can not flood, and does not take from another', async () => {
  const { events, sent, pass } = setUp();
  for (let index = 0; index < 200; index++) events.tell(about('loud'), { ...NOTE, note: `${index}` });
  events.tell(about('quiet'), NOTE);
  await pass(20_000);
  assert.equal(sent.filter(({ body }) => body.regarding?.name === 'loud').length, 25);
  assert.equal(sent.filter(({ body }) => body.regarding?.name === 'quiet').length, 1);
  assert.equal(events.dropped, 175);
});

test('INV-11: a server that does not answer costs nobody time, and memory is bounded', async () => {
  const { events, pass } = setUp(() => new Promise(() => undefined));
  for (let index = 0; index < 5000; index++) events.tell(about(`c${index}`), NOTE);
  await pass(1000);
  assert.ok(events.dropped >= 5000 - 256 - 1);
});

test('failures are dropped and counted, and what waits is written before the end', async () => {
  const failing = setUp(() => Promise.resolve({ kind: 'Failed', status: 403, reason: 'Forbidden', message: 'no' }));
  failing.events.tell(about('a'), NOTE);
  await failing.pass(200);
  assert.equal(failing.events.dropped, 1);

  const { events, sent } = setUp();
  for (let index = 0; index < 10; index++) events.tell(about(`c${index}`), { ...NOTE, note: 'ä'.repeat(3000) });
  await events.stop();
  assert.equal(sent.length, 10);
  assert.ok(Buffer.byteLength(sent[0]!.body.note ?? '') <= 1024);
  events.tell(about('late'), NOTE);
  await turn();
  assert.equal(sent.length, 10);
});
