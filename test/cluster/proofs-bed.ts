// A real API server with the webhook and the chart's policies, and what proofs carry to admission, made as the approval page and as pipelines make them; and the key that all of it is
// sealed and encrypted with.
import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { after, before } from 'node:test';
import type { AccessApproval, AccessGrant } from '../../src/api/grant.ts';
import type { Resource } from '../../src/api/resource.ts';
import { type Admission, startAdmission } from '../../src/controllers/admission/start.ts';
import { authorityOf, makeAuthorityKeys } from '../../src/controllers/pki/authority.ts';
import { createSealer } from '../../src/controllers/seal.ts';
import { type ActObject, actNonce, actOf, provenName, stemOf } from '../../src/identity/acts.ts';
import { verifyToken } from '../../src/identity/oidc/verify-token.ts';
import { encryptProof, proofKeyOf, publishedProofKey } from '../../src/identity/proof-encryption.ts';
import type { KubeAnswer } from '../../src/kube/answer.ts';
import type { KubeClient } from '../../src/kube/client.ts';
import type { TrustedProvider } from '../../src/policy/bundle.ts';
import { signingKeyFromPem, signShard } from '../../src/policy/bundle-signing.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemRandom } from '../../src/system/random.ts';
import { CORP, ci, corp, job, token } from '../hostile/identity/scene.ts';
import { applyChart, KUBERNETES_USERS, podClient, RELEASE_NAMESPACE, until } from '../support/chart.ts';
import { type ControlPlane, startControlPlane } from '../support/cluster/control-plane.ts';

export const PORTAL = `system:serviceaccount:${RELEASE_NAMESPACE}:sallyport-portal`;
export const CONFIGURATION = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/sallyport';
export const api = (plural: string, namespace = 'shop', name = ''): string =>
  `/apis/sallyport.dev/v1alpha1/namespaces/${namespace}/${plural}${name && `/${name}`}`;
export const PLURALS = { AccessGrant: 'accessgrants', AccessApproval: 'accessapprovals' } as const;
export const sources = { clock: systemClock, random: systemRandom };
export const key = signingKeyFromPem(
  generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
);
export const sealer = createSealer(key);
export const seconds = (): number => Math.floor(Date.now() / 1000);
export const trusted = (): TrustedProvider[] =>
  [corp(), ci()].map((each) => ({ ...each, void: [], keysGoodUntilMs: Date.now() + 3_600_000 }));

export type Bare = { kind: 'AccessGrant' | 'AccessApproval'; namespace: string; spec: object };
export type Stamped = Resource<string, AccessGrant['spec'] & AccessApproval['spec']>;

export const request = (more: object = {}, namespace = 'shop'): Bare => ({
  kind: 'AccessGrant',
  namespace,
  spec: { connectionRef: { name: 'orders' }, duration: '1h', reason: 'INC-1', ...more },
});
export const vote = (more: object = {}): Bare => ({
  kind: 'AccessApproval',
  namespace: 'shop',
  spec: {
    targetRef: { kind: 'AccessGrant', name: 'orders-7fk2p', uid: 'uid-of-it' },
    specHash: 'a'.repeat(64),
    decision: 'Approve',
    reason: 'looks right',
    ...more,
  },
});

export interface Carried {
  body: { metadata: object; spec: object; kind: string; apiVersion: string };
  bare: Bare;
}
export const carry = ({ kind, namespace, spec }: Bare, name: string, stamp: unknown): Carried => ({
  bare: { kind, namespace, spec },
  body: {
    apiVersion: 'sallyport.dev/v1alpha1',
    kind,
    metadata: { name },
    spec: { ...spec, [kind === 'AccessGrant' ? 'requester' : 'approver']: stamp },
  },
});

/** An act on the page, by whoever the claims name. */
export async function act(
  bare: Bare,
  claims: object = {},
  changes: { cluster?: string; clear?: boolean; age?: number } = {},
) {
  const salt = randomBytes(16).toString('base64url');
  const object = { ...bare, metadata: { name: '', namespace: bare.namespace } } as unknown as ActObject;
  const nonce = actNonce(actOf(changes.cluster ?? key.keyId, object, salt));
  const iat = seconds() - (changes.age ?? 1);
  const idToken = token({
    header: { typ: 'JWT' },
    claims: {
      aud: 'portal',
      client_id: undefined,
      iat,
      exp: iat + 300,
      nonce,
      auth_time: iat - 10,
      acr: 'mfa',
      ...claims,
    },
  });
  const proof = `${salt}.${idToken}`;
  const sent = changes.clear === true ? proof : await encryptProof(proof, publishedProofKey(proofKeyOf(key)));
  return {
    ...carry(bare, provenName(stemOf('Portal', object), nonce), { via: 'Portal', proof: sent }),
    proof: sent,
    idToken,
  };
}

export async function pipeline(bare: Bare, claims: object = {}, text?: string) {
  const workload =
    text ??
    job({
      iat: seconds() - 5,
      nbf: seconds() - 5,
      exp: seconds() + 300,
      jti: randomBytes(8).toString('hex'),
      ...claims,
    });
  const verdict = await verifyToken(workload, { providers: trusted(), uses: ['Workload'], nowMs: Date.now() });
  const id = verdict.kind === 'Good' ? verdict.token.fingerprint : 'x';
  const object = { ...bare, metadata: { name: '', namespace: bare.namespace } } as unknown as ActObject;
  return {
    ...carry(bare, provenName(stemOf('Pipeline', object), id), {
      via: 'Pipeline',
      proof: await encryptProof(workload, publishedProofKey(proofKeyOf(key))),
    }),
    workload,
  };
}

/** Begins with the tests of the suite it is called in, and ends with them. What it has is there once they run. */
export function proofsBed() {
  let plane: ControlPlane;
  let admission: Admission;
  let portal: KubeClient;
  let operator: KubeClient;
  const opened: KubeClient[] = [];
  const logged: string[] = [];
  const create = (client: KubeClient, { bare, body }: Carried, options = {}): Promise<KubeAnswer<Stamped>> =>
    client.create<Stamped>(api(PLURALS[bare.kind], bare.namespace), body, options);
  const made = (answer: KubeAnswer<Stamped>): Stamped => {
    if (answer.kind === 'Failed') assert.fail(`${answer.status} ${answer.message}\n${logged.at(-1)}`);
    return answer.value;
  };
  const refused = (answer: KubeAnswer<unknown>, message: RegExp, status = 403): void => {
    if (answer.kind === 'Ok') assert.fail(`was let through; expected ${message}`);
    assert.match(answer.message, message);
    assert.equal(answer.status, status, answer.message);
  };
  const publish = async (sequence: number, providers: readonly TrustedProvider[]): Promise<void> => {
    const spec = signShard(key, { connectionUid: '*', shard: 'identity', epoch: 1, sequence, payload: { providers } });
    const path = api('enforcementbundles', RELEASE_NAMESPACE);
    const body = {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'EnforcementBundle',
      metadata: { name: 'identity' },
      spec,
    };
    const before = await operator.get<{ metadata: { resourceVersion: string } }>(`${path}/identity`);
    const answer =
      before.kind === 'Ok'
        ? await operator.replace(`${path}/identity`, {
            ...body,
            metadata: { name: 'identity', resourceVersion: before.value.metadata.resourceVersion },
          })
        : await operator.create(path, body);
    assert.equal(answer.kind, 'Ok', JSON.stringify(answer));
  };

  /** One replica's webhook. */
  const replica = async (): Promise<Admission> =>
    startAdmission({
      client: operator,
      namespace: RELEASE_NAMESPACE,
      authority: await authorityOf(await makeAuthorityKeys('Sallyport CA', sources), sources),
      sealer,
      protocols: [],
      proofs: { portal: PORTAL, client: 'portal', key, alsoTrusted: [] },
      ...sources,
      log: (_level, message, details) => void logged.push(`${message} ${JSON.stringify(details)}`),
      port: 0,
      host: '127.0.0.1',
    });

  before(async () => {
    plane = await startControlPlane({ users: [{ name: 'alice', groups: ['payments'] }, ...KUBERNETES_USERS] });
    const values = ['portal.enabled=true', 'portal.url=https://access.corp.example', 'portal.clientId=portal'];
    const apply = (wanted: Parameters<typeof applyChart>[1]): Promise<void> =>
      applyChart(plane, wanted, [...values, `portal.issuer=${CORP}`]);
    await apply(
      ({ kind, metadata }) =>
        !['Deployment', 'MutatingWebhookConfiguration'].includes(kind) && metadata.name !== 'sallyport-webhook',
    );
    const bind = (namespace: string, subject: object): Parameters<ControlPlane['apply']>[0][] =>
      ['requester', 'approver'].map((role) => ({
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'RoleBinding',
        metadata: { name: `${role}-${'name' in subject ? String(subject.name) : ''}`, namespace },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: `sallyport-${role}` },
        subjects: [subject],
      }));
    await plane.apply(
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } },
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'other' } },
      ...bind('shop', { kind: 'Group', name: 'payments', apiGroup: 'rbac.authorization.k8s.io' }),
    );
    // The policies bite some time after they are made; without the webhook they are seen to.
    const admin = plane.clientFor();
    for (const bare of [request(), vote()]) {
      await until(
        `the policy for ${bare.kind}`,
        () => create(admin, carry(bare, 'probe', undefined), { dryRun: true }),
        (answer) => answer.kind === 'Failed' && answer.status === 403,
      );
    }
    await apply(({ kind }) => kind === 'MutatingWebhookConfiguration');
    operator = await podClient(plane, {
      namespace: RELEASE_NAMESPACE,
      name: 'sallyport-a',
      serviceAccount: 'sallyport',
    });
    portal = await podClient(plane, {
      namespace: RELEASE_NAMESPACE,
      name: 'sallyport-portal-a',
      serviceAccount: 'sallyport-portal',
    });
    opened.push(operator, portal);
    admission = await replica();
    await plane.apply({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'sallyport-webhook', namespace: RELEASE_NAMESPACE },
      spec: { type: 'ExternalName', externalName: 'localhost' },
    });
    const led = await plane
      .clientFor()
      .patch(
        CONFIGURATION,
        [{ op: 'add', path: '/webhooks/0/clientConfig/service/port', value: admission.port }],
        'json',
      );
    assert.equal(led.kind, 'Ok');
    await until(
      'readiness',
      async () => admission.ready(),
      ({ ok }) => ok,
    );
    const alice = plane.clientFor('alice');
    const probe = carry(request(), 'probe', undefined);
    await until(
      'the webhook',
      () => create(alice, probe, { dryRun: true }),
      ({ kind }) => kind === 'Ok',
    );
  });
  after(async () => {
    await admission?.stop();
    for (const client of opened) await client.close();
    await plane?.stop();
  });

  return {
    get plane() {
      return plane;
    },
    get admission() {
      return admission;
    },
    get portal() {
      return portal;
    },
    get operator() {
      return operator;
    },
    /** Closed at the end. */
    opened,
    /** Lines of the webhooks' logs. */
    logged,
    create,
    made,
    refused,
    publish,
    replica,
  };
}
