// Writes against a real API server: events that people see, admission over HTTPS.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type AdmissionServer, startAdmissionServer } from '../../src/kube/admission-server.ts';
import type { KubeClient } from '../../src/kube/client.ts';
import { createEventRecorder } from '../../src/kube/events.ts';
import type { KubeObject } from '../../src/kube/object.ts';
import { openKubeStore } from '../../src/store/kube/store.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemRandom } from '../../src/system/random.ts';
import { testCertificates } from '../support/certificates.ts';
import { type ControlPlane, skipWithoutCluster, startControlPlane } from '../support/cluster/control-plane.ts';
import { until } from '../support/cluster/until.ts';

const skip = await skipWithoutCluster();
let plane: ControlPlane;
let admin: KubeClient;
before(async () => {
  if (skip !== false) return;
  plane = await startControlPlane({ crds: true, users: [{ name: 'alice', groups: ['payments'] }] });
  admin = plane.clientFor();
});
after(() => plane?.stop());

const value = <T>(answer: { kind: string; value?: T }): T => {
  assert.notEqual(answer.kind, 'Failed', JSON.stringify(answer));
  return answer.value as T;
};

test('events are where people look', { skip }, async () => {
  const subject = value(await admin.get<KubeObject>('/api/v1/namespaces/default'));
  const events = createEventRecorder({
    client: admin,
    controller: 'sallyport.dev/operator',
    instance: 'pod-0',
    clock: systemClock,
    random: systemRandom,
    log: (level, message, fields) => assert.fail(`${level} ${message} ${JSON.stringify(fields)}`),
  });
  const about = { apiVersion: 'v1', kind: 'Namespace', name: 'default', uid: subject.metadata.uid ?? '' };
  const note = { type: 'Warning', reason: 'Unreachable', action: 'Probe', note: 'No route to orders-db.' } as const;
  events.tell(about, note);
  const listed = async (): Promise<{ series?: { count: number } }[]> => {
    const answer = await admin.list<KubeObject & { note: string; series?: { count: number } }>(
      '/apis/events.k8s.io/v1/namespaces/default/events',
    );
    return value(answer).items.filter((event) => event.note === note.note);
  };
  await until(async () => (await listed()).length === 1);
  events.tell(about, note);
  events.tell(about, note);
  await events.stop();
  assert.equal(events.dropped, 0);
  assert.deepEqual(
    (await listed()).map(({ series }) => series?.count),
    [3],
  );
  const shown = await plane.kubectl(['get', 'events', '-n', 'default']);
  assert.match(shown.stdout, /Warning +Unreachable +namespace\/default +No route to orders-db\./);
});

test('the API server asks, is answered with a patch or a refusal, and fails closed without us', { skip }, async () => {
  const certificates = await testCertificates();
  let webhook: AdmissionServer | undefined = await startAdmissionServer({
    host: '127.0.0.1',
    port: 0,
    tls: certificates.server,
    log: () => undefined,
    handlers: {
      '/stamp': ({ object, userInfo, operation }) => {
        const { spec } = object as { spec: { reason?: string } };
        if (spec.reason === 'no') return { kind: 'Deny', message: 'Sallyport refused the request: no.' };
        assert.equal(operation, 'CREATE');
        return { kind: 'Allow', patch: [{ op: 'add', path: '/spec/reason', value: `as ${userInfo.username}` }] };
      },
    },
  });
  await plane.apply({
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name: 'stamp' },
    webhooks: [
      {
        name: 'stamp.sallyport.dev',
        clientConfig: {
          url: `https://localhost:${webhook.port}/stamp`,
          caBundle: Buffer.from(certificates.ca).toString('base64'),
        },
        rules: [
          { apiGroups: ['sallyport.dev'], apiVersions: ['*'], operations: ['CREATE'], resources: ['accessgrants'] },
        ],
        failurePolicy: 'Fail',
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
        timeoutSeconds: 5,
      },
    ],
  });
  const store = openKubeStore({ client: admin });
  const grant = (reason: string): ReturnType<typeof store.create> =>
    store.create(
      { kind: 'Operator' },
      {
        apiVersion: 'sallyport.dev/v1alpha1',
        kind: 'AccessGrant',
        metadata: { name: 'g-', namespace: 'default' },
        spec: { connectionRef: { name: 'orders-db' }, duration: '1h', reason },
      },
    );
  // The API server takes a moment to hear of its own webhooks.
  await until(async () => {
    const made = await grant('yes');
    return made.kind === 'Ok' && (made.value.spec as { reason: string }).reason === 'as admin';
  });
  const refused = await grant('no');
  assert.ok(
    refused.kind === 'Forbidden' && refused.message.includes('Sallyport refused the request: no.'),
    JSON.stringify(refused),
  );
  await webhook.close(100);
  webhook = undefined;
  await assert.rejects(grant('yes'), /failed calling webhook/);
});
