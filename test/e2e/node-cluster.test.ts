// The test cluster is a whole Kubernetes: what end-to-end tests lean on is tried here on its own, so that a failure
// elsewhere is Sallyport's and not the cluster's.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import WebSocket from 'ws';
import { testCertificates } from '../support/certificates.ts';
import { buildTestImages } from '../support/cluster/node/postgres-image/images.ts';
import { clientPod, postgresTarget, targetNames } from '../support/cluster/node/postgres-image/manifests.ts';
import { SALLYPORT_IMAGE, sallyportImage } from '../support/cluster/node/sallyport-image.ts';
import { type NodeCluster, startNodeCluster, whyNoNodeCluster } from '../support/cluster/node/start.ts';
import { until } from '../support/cluster/until.ts';

const NAMESPACE = 'payments';
const skip = whyNoNodeCluster();

describe('a cluster with a node', { skip: skip ?? false }, () => {
  let cluster: NodeCluster;
  let images: string;
  let ca: string;

  const apply = (objects: readonly object[]): Promise<string> =>
    cluster.kubectl(['apply', '-f', '-'], {
      input: JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }),
    });
  const psql = (sql: string, tls = 'sslmode=verify-full sslrootcert=/files/ca.crt'): Promise<string> => {
    const server = `host=orders-db.${NAMESPACE}.svc user=orders_writer password=writer dbname=orders ${tls}`;
    return inNamespace('exec', 'client', '--', 'psql', '-XAt', '-d', server, '-c', sql);
  };
  const inNamespace = (...args: string[]): Promise<string> => cluster.kubectl(['-n', NAMESPACE, ...args]);

  before(async () => {
    images = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-images-'));
    const built = buildTestImages(images);
    cluster = await startNodeCluster({ images: [built.client, built.postgres, sallyportImage()] });
    const certificates = await testCertificates(targetNames('orders-db', NAMESPACE));
    ca = certificates.ca;
    await apply([
      {
        apiVersion: 'v1',
        kind: 'Namespace',
        metadata: { name: NAMESPACE, labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } },
      },
      { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'ca', namespace: NAMESPACE }, data: { 'ca.crt': ca } },
      ...postgresTarget({
        namespace: NAMESPACE,
        name: 'orders-db',
        password: 'superuser',
        roles: { orders_reader: 'reader', orders_writer: 'writer' },
        certificate: certificates.server,
        persistent: true,
      }),
      clientPod({ namespace: NAMESPACE, name: 'client', files: { configMap: 'ca' } }),
    ]);
    await inNamespace('rollout', 'status', 'deployment/orders-db', '--timeout=90s');
    await inNamespace('wait', '--for=condition=Ready', 'pod/client', '--timeout=60s');
  });

  after(async () => {
    await cluster?.stop();
    if (images !== undefined) fs.rmSync(images, { recursive: true, force: true });
  });

  test('a pod reaches another by the DNS name of its Service, with verified TLS', async () => {
    const found = await inNamespace('exec', 'client', '--', 'getent', 'hosts', 'orders-db');
    const address = await inNamespace('get', 'service', 'orders-db', '-o', 'jsonpath={.spec.clusterIP}');
    assert.match(found, new RegExp(`^${address.replaceAll('.', '\\.')} +orders-db\\.payments\\.svc\\.cluster\\.local`));
    assert.equal(await psql('select count(*) from orders'), '1000\n');
    await assert.rejects(psql('select 1', 'sslmode=disable'), /no pg_hba\.conf entry|no encryption/);
  });

  test('a claim is bound, and its data outlives the pod', async () => {
    await psql("update orders set state = 'kept' where id = 7");
    await inNamespace('delete', 'pod', '-l', 'app=orders-db', '--wait');
    await inNamespace('rollout', 'status', 'deployment/orders-db', '--timeout=60s');
    let state = '';
    const asked = async (): Promise<boolean> => {
      state = await psql('select state from orders where id = 7').catch(() => '');
      return state !== '';
    };
    await until(asked, 'an answer of the new pod');
    assert.equal(state, 'kept\n');
    const phase = await inNamespace('get', 'pvc', 'orders-db-data', '-o', 'jsonpath={.status.phase}');
    assert.equal(phase, 'Bound');
  });

  test('logs come, and exec tells the exit code', async () => {
    const log = await inNamespace('logs', 'deployment/orders-db');
    assert.match(log, /database system is ready to accept connections/);
    const id = await inNamespace('exec', 'client', '--', 'id', '-u');
    assert.equal(id, '70\n');
    await assert.rejects(inNamespace('exec', 'client', '--', 'sh', '-c', 'exit 3'), /exit code 3/);
  });

  test('users have their groups, and no more than RBAC gives them', async () => {
    const who = JSON.parse(await cluster.kubectl(['auth', 'whoami', '-o', 'json'], { user: 'alice' })) as {
      status: { userInfo: { username: string; groups: string[] } };
    };
    assert.equal(who.status.userInfo.username, 'alice');
    assert.deepEqual(who.status.userInfo.groups, ['payments', 'system:authenticated']);
    await assert.rejects(cluster.kubectl(['get', 'pods', '-A'], { user: 'alice' }), /forbidden/i);
  });

  test('StatefulSets are rolled out by their controller under its own ServiceAccount', async () => {
    await apply([
      {
        apiVersion: 'admissionregistration.k8s.io/v1',
        kind: 'ValidatingAdmissionPolicy',
        metadata: { name: 'who-creates' },
        spec: {
          failurePolicy: 'Fail',
          matchConstraints: {
            resourceRules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['pods'] }],
          },
          validations: [
            {
              expression:
                "!object.metadata.name.startsWith('set-') || request.userInfo.username == 'system:serviceaccount:kube-system:statefulset-controller'",
            },
          ],
        },
      },
      {
        apiVersion: 'admissionregistration.k8s.io/v1',
        kind: 'ValidatingAdmissionPolicyBinding',
        metadata: { name: 'who-creates' },
        spec: { policyName: 'who-creates', validationActions: ['Deny'] },
      },
    ]);
    const pod = clientPod({ namespace: NAMESPACE, name: 'set-0' });
    // A policy takes a moment to bite.
    for (let attempt = 0; ; attempt++) {
      try {
        await cluster.kubectl(['create', '--dry-run=server', '-f', '-'], { input: JSON.stringify(pod) });
      } catch (error) {
        assert.match(String(error), /who-creates/);
        break;
      }
      assert.ok(attempt < 150, 'the policy never bit');
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    await apply([
      {
        apiVersion: 'apps/v1',
        kind: 'StatefulSet',
        metadata: { name: 'set', namespace: NAMESPACE },
        spec: {
          serviceName: 'set',
          replicas: 1,
          selector: { matchLabels: { app: 'set' } },
          template: { metadata: { labels: { app: 'set' } }, spec: (pod as { spec: object }).spec },
        },
      },
    ]);
    await inNamespace('rollout', 'status', 'statefulset/set', '--timeout=60s');
  });

  test('a WebSocket goes through the API server to a Service, for those who may', async () => {
    const role = { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'tunnel' };
    // Self-signed, as far as the API server knows: it does not check a backend's certificate.
    const certificates = await testCertificates(['echo.payments.svc']);
    await apply([
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'Role',
        metadata: { name: 'tunnel', namespace: NAMESPACE },
        rules: [
          {
            apiGroups: [''],
            resources: ['services/proxy'],
            resourceNames: ['https:echo:tunnel'],
            verbs: ['get', 'create'],
          },
        ],
      },
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'RoleBinding',
        metadata: { name: 'tunnel', namespace: NAMESPACE },
        roleRef: role,
        subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: 'payments' }],
      },
      {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: 'echo', namespace: NAMESPACE },
        stringData: { 'tls.crt': certificates.server.cert, 'tls.key': certificates.server.key, 'echo.mjs': ECHO },
      },
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'echo', namespace: NAMESPACE },
        spec: { selector: { app: 'echo' }, ports: [{ name: 'tunnel', port: 443, targetPort: 8443 }] },
      },
      hardenedPod('echo', ['/usr/bin/node', '/files/echo.mjs'], {
        volumes: [{ name: 'files', secret: { secretName: 'echo' } }],
        volumeMounts: [{ name: 'files', mountPath: '/files' }],
      }),
    ]);
    await inNamespace('wait', '--for=condition=Ready', 'pod/echo', '--timeout=60s');
    const at = `${cluster.server.replace('https', 'wss')}/api/v1/namespaces/${NAMESPACE}/services/https:echo:tunnel/proxy/tunnel`;
    const dial = (user: string): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = new WebSocket(at, {
          ca: cluster.ca,
          headers: { authorization: `Bearer ${cluster.tokenOf(user)}` },
          handshakeTimeout: 10_000,
        });
        socket.once('error', reject);
        socket.once('open', () => socket.send('through the gate'));
        socket.once('message', (data) => {
          resolve(String(data));
          socket.close();
        });
      });
    // Endpoints and roles take a moment to be known.
    let answer = '';
    const dialled = async (): Promise<boolean> => {
      answer = await dial('alice').catch(String);
      return answer.startsWith('through');
    };
    await until(dialled, 'the tunnel', 10_000).catch(() => assert.fail(answer));
    assert.equal(answer, 'through the gate, authorization undefined', 'the backend must not see the token');
    await assert.rejects(dial('carol'), /403/);
  });

  test('pods reach servers of the host', async () => {
    const server = net.createServer((socket) => socket.end('from the host'));
    await new Promise<void>((resolve) => server.listen(0, cluster.hostAddress, resolve));
    const { port } = server.address() as net.AddressInfo;
    try {
      const script = `require('net').connect(${port}, '${cluster.hostAddress}').pipe(process.stdout)`;
      assert.equal(await inNamespace('exec', 'echo', '--', '/usr/bin/node', '-e', script), 'from the host');
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  });

  for (const [args, expected] of [
    [['version'], /^sallyport \d+\.\d+\.\d+ \(node 24/],
    [['--help'], /^Usage: sallyport/],
  ] as const) {
    test(`the image runs "sallyport ${args.join(' ')}" without root, capabilities or a writable file`, async () => {
      const name = `image-${args.join('').replaceAll('-', '')}`;
      await apply([hardenedPod(name, undefined, { args, restartPolicy: 'Never' })]);
      await inNamespace('wait', '--for=jsonpath={.status.phase}=Succeeded', `pod/${name}`, '--timeout=30s').catch(
        async (error: unknown) => assert.fail(`${String(error)}\n${await inNamespace('logs', name).catch(String)}`),
      );
      assert.match(await inNamespace('logs', name), expected);
    });
  }
});

/** Answers each message with itself and with the Authorization header that came with the upgrade. */
const ECHO = `
const require = (await import('node:module')).createRequire('/app/');
const { WebSocketServer } = require('ws');
const { createServer } = await import('node:https');
const { readFileSync } = await import('node:fs');
const server = createServer({ cert: readFileSync('/files/tls.crt'), key: readFileSync('/files/tls.key') });
new WebSocketServer({ server }).on('connection', (socket, request) => {
  socket.on('message', (data) => socket.send(data + ', authorization ' + request.headers.authorization));
});
server.listen(8443);
process.on('SIGTERM', () => process.exit());
`;

/** A pod of Sallyport's image as its chart runs it: the restricted Pod Security Standard and a read-only root. */
const hardenedPod = (
  name: string,
  command: readonly string[] | undefined,
  more: { args?: readonly string[]; restartPolicy?: string; volumes?: object[]; volumeMounts?: object[] },
): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: NAMESPACE, labels: { app: name } },
  spec: {
    automountServiceAccountToken: false,
    terminationGracePeriodSeconds: 1,
    restartPolicy: more.restartPolicy ?? 'Always',
    securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
    containers: [
      {
        name: 'sallyport',
        image: SALLYPORT_IMAGE,
        imagePullPolicy: 'Never',
        ...(command === undefined ? {} : { command }),
        ...(more.args === undefined ? {} : { args: more.args }),
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        },
        volumeMounts: more.volumeMounts ?? [],
      },
    ],
    volumes: more.volumes ?? [],
  },
});
