// A cluster without a node for the verbs of `kubectl access`: a real API server with the project's CRDs and roles, the
// project's own controllers over it, and its stamping behind a webhook. Nobody's proxy runs: bundles go nowhere.
import { generateKeyPairSync } from 'node:crypto';
import fs from 'node:fs';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { parseAllDocuments } from 'yaml';
import type { Stamp } from '../../src/api/schema.ts';
import type { Io } from '../../src/cli/io.ts';
import { buildProgram, tellFailure } from '../../src/cli/program.ts';
import { type StampRequest, stamp } from '../../src/controllers/admission/stamp.ts';
import { type Operator, startOperator } from '../../src/controllers/operator.ts';
import { createSealer } from '../../src/controllers/seal.ts';
import { signingKeyFromPem } from '../../src/policy/bundle-signing.ts';
import { postgresDefinition } from '../../src/protocols/postgres/definition.ts';
import { openKubeStore } from '../../src/store/kube/store.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemRandom } from '../../src/system/random.ts';
import { testCertificates } from '../support/certificates.ts';
import { type ControlPlane, type KubernetesObject, startControlPlane } from '../support/cluster/control-plane.ts';

export const GROUPS = { alice: ['payments'], bob: ['payments'], carol: ['dba'], mallory: [] as string[] };

export interface Run {
  code: number;
  out: string;
  err: string;
}

/** What the Connection's certificate is for. */
export const SERVICE_HOST = 'sallyport-orders-db.payments.svc';

export interface Bed {
  plane: ControlPlane;
  home: string;
  /** Of the Connection's gateway, as its caBundle proves it. */
  certificate: { key: string; cert: string };
  /** `kubectl access ARGS` as this user, in the namespace payments. */
  as(
    user: string,
    args: readonly string[],
    more?: {
      env?: Record<string, string>;
      signal?: AbortSignal;
      onOut?(text: string): void;
      onErr?(text: string): void;
    },
  ): Promise<Run>;
  /** The webhook goes away and comes back. */
  webhook(up: boolean): Promise<void>;
  stopOperator(): Promise<void>;
  close(): Promise<void>;
}

export async function openBed(): Promise<Bed> {
  const plane = await startControlPlane({
    crds: true,
    users: Object.entries(GROUPS).map(([name, groups]) => ({ name, groups })),
  });
  const key = signingKeyFromPem(
    generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  );
  const sealer = createSealer(key);
  const { ca, server } = await testCertificates(['localhost', '127.0.0.1', SERVICE_HOST]);
  const hook = https.createServer({ key: server.key, cert: server.cert }, (request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const review = JSON.parse(Buffer.concat(parts).toString('utf8')) as { request: StampRequest & { uid: string } };
      const answer = stamp(review.request, {
        nonce: systemRandom.bytes(16).toString('hex'),
        nowMs: Date.now(),
        seal: (unsealed: Stamp) => sealer.sealStamp(unsealed),
      });
      const verdict =
        answer.kind === 'Stamped'
          ? {
              allowed: true,
              patchType: 'JSONPatch',
              patch: Buffer.from(JSON.stringify(answer.patch)).toString('base64'),
            }
          : { allowed: false, status: { code: answer.status, message: answer.message } };
      response.setHeader('content-type', 'application/json');
      response.end(
        JSON.stringify({
          apiVersion: 'admission.k8s.io/v1',
          kind: 'AdmissionReview',
          response: { uid: review.request.uid, ...verdict },
        }),
      );
    });
  });
  const listen = (port: number): Promise<void> =>
    new Promise((resolve) => {
      hook.listen(port, '127.0.0.1', resolve);
    });
  await listen(0);
  const { port } = hook.address() as AddressInfo;

  const roles = parseAllDocuments(
    fs.readFileSync(path.resolve(import.meta.dirname, '../../manifests/install.yaml'), 'utf8'),
  )
    .map((document) => document.toJS() as KubernetesObject)
    .filter((each) => each?.kind === 'ClusterRole' && each.metadata.name !== 'sallyport-operator');
  const bind = (role: string, user: string): KubernetesObject => ({
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'RoleBinding',
    metadata: { name: `${role}-${user}`, namespace: 'payments' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
    subjects: [{ kind: 'User', name: user, apiGroup: 'rbac.authorization.k8s.io' }],
  });
  await plane.apply(
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'payments' } },
    ...roles,
    bind('sallyport-requester', 'alice'),
    bind('sallyport-requester', 'bob'),
    bind('sallyport-approver', 'carol'),
    bind('sallyport-security', 'carol'),
    {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'MutatingWebhookConfiguration',
      metadata: { name: 'sallyport' },
      webhooks: [
        {
          name: 'stamp.sallyport.dev',
          admissionReviewVersions: ['v1'],
          sideEffects: 'None',
          failurePolicy: 'Fail',
          timeoutSeconds: 5,
          clientConfig: { url: `https://localhost:${port}/stamp`, caBundle: Buffer.from(ca).toString('base64') },
          rules: [
            {
              apiGroups: ['sallyport.dev'],
              apiVersions: ['*'],
              operations: ['CREATE'],
              resources: ['accessgrants', 'accessapprovals', 'accesslocks'],
              scope: 'Namespaced',
            },
          ],
        },
      ],
    },
    {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'Connection',
      metadata: { name: 'orders-db', namespace: 'payments' },
      spec: {
        type: 'PostgreSQL',
        postgresql: { host: 'orders.payments.svc' },
        accounts: [{ name: 'writer', secretRef: { name: 'orders-writer' } }],
      },
    },
    {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'AccessPolicy',
      metadata: { name: 'orders-team', namespace: 'payments' },
      spec: {
        connectionSelector: { names: ['orders-db'] },
        subjects: [{ kind: 'Group', name: 'payments' }],
        accounts: ['writer'],
        maxDuration: '2h',
        approval: { timeout: '10m', steps: [{ name: 'dba', approvers: [{ kind: 'Group', name: 'dba' }] }] },
        rules: [
          { name: 'no-ddl', action: 'Deny', sql: { effects: ['Define'] } },
          { name: 'all', action: 'Allow' },
        ],
      },
    },
  );

  const client = plane.clientFor();
  const operator: Operator = await startOperator({
    store: openKubeStore({ client, clock: systemClock, random: systemRandom, log: () => undefined }),
    definitions: [postgresDefinition],
    sealer,
    records: { write: async () => undefined },
    clock: systemClock,
    random: systemRandom,
    log: () => undefined,
    key,
    epoch: 1,
    publisher: { publish: () => undefined, withdraw: () => undefined },
    commonHeartbeat: true,
    broken: () => [],
    endpoint: () => ({ host: SERVICE_HOST, port: 5432 }),
    caBundle: ca,
    probe: async () => ({ kind: 'Reachable', version: '18.0' }) as never,
    prefix: 'kubectl access',
  });
  const home = path.join(plane.folder, 'home');
  fs.mkdirSync(home, { mode: 0o700 });

  let stopped: Promise<void> | undefined;
  const stopOperator = (): Promise<void> => {
    stopped ??= operator.stop();
    return stopped;
  };
  return {
    plane,
    home,
    certificate: server,
    as: (user, args, more = {}) =>
      runCli(args, {
        env: {
          HOME: home,
          PATH: process.env['PATH'] ?? '',
          KUBECONFIG: inPayments(plane, user),
          SALLYPORT_HOME: path.join(home, user),
          ...more.env,
        },
        ...(more.signal === undefined ? {} : { signal: more.signal }),
        ...(more.onOut === undefined ? {} : { onOut: more.onOut }),
        ...(more.onErr === undefined ? {} : { onErr: more.onErr }),
      }),
    async webhook(up) {
      if (up) return listen(port);
      hook.closeAllConnections();
      await new Promise<void>((resolve) => {
        hook.close(() => resolve());
      });
    },
    stopOperator,
    async close() {
      await stopOperator();
      hook.closeAllConnections();
      hook.close();
      await plane.stop();
    },
  };
}

/** A kubeconfig whose context is in the namespace payments. */
export function inPayments(plane: ControlPlane, user: string): string {
  const file = path.join(plane.folder, `${user}.payments.kubeconfig`);
  const config = JSON.parse(fs.readFileSync(plane.kubeconfig(user), 'utf8')) as {
    contexts: { context: { namespace: string } }[];
  };
  config.contexts[0]!.context.namespace = 'payments';
  fs.writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  return file;
}

/** `kubectl access` in this process. */
export async function runCli(
  args: readonly string[],
  given: {
    env: Record<string, string>;
    signal?: AbortSignal;
    prefix?: string;
    onOut?(text: string): void;
    onErr?(text: string): void;
  },
): Promise<Run> {
  const result: Run = { code: 0, out: '', err: '' };
  const io: Io = {
    out: (text) => {
      result.out += text;
      given.onOut?.(text);
    },
    err: (text) => {
      result.err += text;
      given.onErr?.(text);
    },
    outTty: false,
    errTty: false,
    inTty: false,
    ready: () => Promise.resolve(),
    env: { SALLYPORT_INVOKED_AS: given.prefix ?? 'kubectl-access', ...given.env },
    ask: async () => false,
    signal: given.signal ?? new AbortController().signal,
  };
  const outcome = { code: 0 };
  try {
    await buildProgram(io, outcome).parseAsync(['node', 'sallyport', ...args]);
    result.code = outcome.code;
  } catch (error) {
    result.code = tellFailure(io, error);
  }
  return result;
}
