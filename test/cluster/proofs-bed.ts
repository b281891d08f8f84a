// What proofs carry to admission, made as the approval page and as pipelines make them; and the key that all of it is
// sealed and encrypted with.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import type { AccessApproval, AccessGrant } from '../../src/api/grant.ts';
import type { Resource } from '../../src/api/resource.ts';
import { createSealer } from '../../src/controllers/seal.ts';
import { type ActObject, actNonce, actOf, provenName, stemOf } from '../../src/identity/acts.ts';
import { verifyToken } from '../../src/identity/oidc/verify-token.ts';
import { encryptProof, proofKeyOf, publishedProofKey } from '../../src/identity/proof-encryption.ts';
import type { TrustedProvider } from '../../src/policy/bundle.ts';
import { signingKeyFromPem } from '../../src/policy/bundle-signing.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemRandom } from '../../src/system/random.ts';
import { ci, corp, job, token } from '../hostile/identity/scene.ts';
import { RELEASE_NAMESPACE } from '../support/chart.ts';

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
