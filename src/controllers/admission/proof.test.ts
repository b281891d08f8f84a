import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { test } from 'node:test';
import type { Stamp } from '../../api/schema.ts';
import { type ActObject, actNonce, actOf, provenName, stemOf } from '../../identity/acts.ts';
import { verifyToken } from '../../identity/oidc/verify-token.ts';
import { encryptProof, proofKeyOf, publishedProofKey } from '../../identity/proof-encryption.ts';
import type { TrustedJwk, TrustedProvider } from '../../policy/bundle.ts';
import { signingKeyFromPem } from '../../policy/bundle-signing.ts';
import { createSealer } from '../seal.ts';
import type { ProofSources } from './proof.ts';
import { type StampAnswer, type StampRequest, stampOrProve } from './stamp.ts';

const NOW = Date.parse('2026-03-01T09:00:00Z');
const PORTAL = 'system:serviceaccount:sallyport-system:sallyport-portal';
const ISSUER = 'https://id.corp.example';
const issuer = generateKeyPairSync('ed25519');
const key = signingKeyFromPem(
  generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
);
const sealer = createSealer(key);

const provider: TrustedProvider = {
  name: 'corp',
  issuer: ISSUER,
  algorithms: ['EdDSA'],
  keys: [{ ...(issuer.publicKey.export({ format: 'jwk' }) as unknown as TrustedJwk), kid: 'k1' }],
  keysGoodUntilMs: NOW + 3_600_000,
  skewMs: 30_000,
  audiences: [
    { audience: 'portal', use: 'ID', clients: [], types: [], marks: {} },
    { audience: 'device', use: 'ID', clients: [], types: [], marks: {} },
    { audience: 'ci', use: 'Workload', clients: [], types: [], marks: {} },
  ],
  claims: { uid: 'sub', username: 'sub', workload: ['repository_id'] },
  prefix: { username: 'corp:', groups: 'corp:' },
  void: [],
};

function jwt(claims: object, privateKey: KeyObject = issuer.privateKey): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const seconds = NOW / 1000;
  const payload = { iss: ISSUER, sub: 'boss', aud: 'portal', iat: seconds - 1, exp: seconds + 300, ...claims };
  const input = `${part({ alg: 'EdDSA', kid: 'k1' })}.${part(payload)}`;
  return `${input}.${sign(null, Buffer.from(input), privateKey).toString('base64url')}`;
}

const sources = (more: Partial<ProofSources> = {}): ProofSources => ({
  portal: PORTAL,
  client: 'portal',
  providers: () => [provider],
  clusters: [key.keyId],
  key: proofKeyOf(key),
  spend: () => Promise.resolve(true),
  nowMs: NOW,
  ...more,
});
const context = { nonce: 'n1', nowMs: NOW, seal: sealer.sealStamp };
const grantSpec = { connectionRef: { name: 'orders' }, duration: '1h', reason: 'INC-1' };
const SALT = 'AAAAAAAAAAAAAAAAAAAAAA';

const reviewed = (name: string, stamp: unknown, spec: object = grantSpec): StampRequest => ({
  kind: { group: 'sallyport.dev', kind: 'AccessGrant' },
  operation: 'CREATE',
  namespace: 'shop',
  userInfo: { username: PORTAL },
  object: { metadata: { name }, spec: { ...spec, requester: stamp } },
});

async function acted(claims: object = {}, spec: object = grantSpec): Promise<StampRequest> {
  const object = { kind: 'AccessGrant', metadata: { name: '', namespace: 'shop' }, spec } as unknown as ActObject;
  const nonce = actNonce(actOf(key.keyId, object, SALT));
  const proof = await encryptProof(`${SALT}.${jwt({ nonce, ...claims })}`, publishedProofKey(proofKeyOf(key)));
  return reviewed(provenName(stemOf('Portal', object), nonce), { via: 'Portal', proof }, spec);
}

const outcome = (answer: StampAnswer): string =>
  answer.kind === 'Refused' ? `${answer.status} ${answer.message}` : (answer.patch[0]!.value as Stamp).username;

test('a proof becomes the stamp of whom it proves, under a seal that holds, and is not in it', async () => {
  const request = await acted({ sub: 'boss', acr: 'mfa' });
  const answer = await stampOrProve(request, context, sources());
  assert.ok(answer.kind === 'Stamped');
  const [operation, ...more] = answer.patch;
  assert.deepEqual(more, []);
  assert.equal(operation?.path, '/spec/requester');
  const stamp = operation?.value as Stamp;
  assert.deepEqual(
    [stamp.via, stamp.username, stamp.uid, stamp.auth],
    ['Portal', 'corp:boss', `${ISSUER} boss`, { acr: 'mfa' }],
  );
  assert.equal(stamp.proof, undefined);
  assert.equal(sealer.checkStamp(stamp, { ...grantSpec, requester: stamp }, '2026-03-01T09:00:00Z').kind, 'Good');
});

test('INV-08: without a portal a proof is a stamp that its author wrote', async () => {
  assert.match(outcome(await stampOrProve(await acted(), context, undefined)), /^422 .*never by the author/);
});

test('INV-08: the login must be one of the page’s client, by a trusted key, and the sender the page', async () => {
  const cause = async (request: StampRequest, more: Partial<ProofSources> = {}): Promise<string | undefined> => {
    const answer = await stampOrProve(request, context, sources(more));
    assert.match(outcome(answer), /^403 Nobody vouches for the login.*Nothing was made\.$/);
    return answer.kind === 'Refused' ? answer.cause : undefined;
  };
  assert.match((await cause(await acted({ aud: 'device' })))!, /login of another client/);
  assert.match((await cause(await acted({ aud: ['portal', 'device'], azp: 'device' })))!, /Client|AmbiguousUse/);
  assert.match((await cause(await acted({ aud: 'ci' })))!, /\(Use\)/);
  assert.match((await cause(await acted(), { providers: () => [] }))!, /\(UnknownIssuer\)/);
  const asked: string[] = [];
  const rotated = { ...provider, keys: [{ ...provider.keys[0]!, kid: 'k0' }] };
  const unknown = { providers: () => [rotated], onUnknownKey: (name: string) => void asked.push(name) };
  const answer = await stampOrProve(await acted(), context, sources(unknown));
  assert.match(outcome(answer), /^503 The key of the proof is not known here yet; .*Try again\. Nothing was made\.$/);
  assert.match((answer.kind === 'Refused' && answer.cause) || '', /\(UnknownKey\)/);
  assert.deepEqual(asked, ['corp']);
  assert.match(outcome(await stampOrProve(await piped(), context, sources(unknown))), /^503 The key of the proof/);
  const device = await stampOrProve(await acted({ aud: 'device' }), context, sources({ client: undefined }));
  assert.equal(outcome(device), 'corp:boss');
  const elsewhere = { ...(await acted()), userInfo: { username: 'alice' } };
  assert.match(outcome(await stampOrProve(elsewhere, context, sources())), /^403 Only the approval page/);
});

test('INV-04: keys that are not known, and used proofs that can not be told, are a reason to refuse', async () => {
  assert.match(outcome(await stampOrProve(await acted(), context, sources({ providers: () => undefined }))), /^503 /);
  const failing = sources({ spend: () => Promise.reject(new Error('no answer')) });
  await assert.rejects(stampOrProve(await piped(), context, failing), /no answer/);
});

async function piped(claims: object = {}): Promise<StampRequest> {
  const token = jwt({ aud: 'ci', repository_id: '74', ...claims });
  const verdict = await verifyToken(token, { providers: [provider], uses: ['Workload'], nowMs: NOW });
  const id = verdict.kind === 'Good' ? verdict.token.fingerprint : '';
  return reviewed(provenName('job', id), { via: 'Pipeline', proof: token });
}

test('a job’s token makes a grant under the name that follows from it, and no second one elsewhere', async () => {
  const request = await piped();
  assert.equal(outcome(await stampOrProve(request, context, sources())), 'corp:boss');
  const used = sources({ spend: () => Promise.resolve(false) });
  assert.match(outcome(await stampOrProve(request, context, used)), /^409 .*made its grant already/);
  const object = { ...(request.object as object), metadata: { name: 'job-0000000000000000' } };
  assert.match(outcome(await stampOrProve({ ...request, object }, context, sources())), /^403 .*not named after/);
});

test('INV-08: a proof is spent once, by its own id, and only where all else about it is right', async () => {
  const spent: { id: string; untilMs: number }[] = [];
  const remember = sources({
    spend(use) {
      const isNew = !spent.some(({ id }) => id === use.id);
      spent.push(use);
      return Promise.resolve(isNew);
    },
  });
  const act = await acted();
  assert.equal(outcome(await stampOrProve(act, context, remember)), 'corp:boss');
  // What it made is deleted, and the same is sent again.
  assert.match(outcome(await stampOrProve(act, context, remember)), /^409 This was done already/);
  assert.equal(spent[0]?.untilMs, NOW - 1000 + 120_000);
  const job = await piped();
  assert.equal(outcome(await stampOrProve(job, context, remember)), 'corp:boss');
  assert.match(outcome(await stampOrProve({ ...job, namespace: 'other' }, context, remember)), /^409 /);
  assert.equal(spent.at(-1)?.untilMs, NOW + 299_000 + 1000);
  const before = spent.length;
  const elsewhere = { ...act, namespace: 'other' };
  assert.match(outcome(await stampOrProve(elsewhere, context, remember)), /^403 /);
  assert.match(outcome(await stampOrProve(await acted({ aud: 'device' }), context, remember)), /^403 /);
  const renamed = { ...(job.object as object), metadata: { name: 'job-0000000000000000' } };
  assert.match(outcome(await stampOrProve({ ...job, object: renamed }, context, remember)), /^403 /);
  assert.equal(spent.length, before, 'what is refused spends nothing');
});

test('INV-11: what is malformed is refused before any key is used', async () => {
  const name = 'orders-0000000000000000';
  for (const proof of ['', '.', '....', 'a.b.c', `${SALT}.a.b.c`, 'x'.repeat(40_000), 7, null, { length: 3 }]) {
    assert.match(
      outcome(await stampOrProve(reviewed(name, { via: 'Portal', proof }), context, sources())),
      /^(403|422) /,
    );
  }
  const broken = {
    ...(await acted()),
    object: { metadata: null, spec: { ...grantSpec, requester: { via: 'Portal', proof: 'a' } } },
  };
  assert.match(outcome(await stampOrProve(broken, context, sources())), /^422 /);
  const bare = reviewed(name, { via: 'Portal', proof: `${SALT}.a.b.c` }, {});
  assert.match(outcome(await stampOrProve(bare, context, sources())), /^422 /);
  assert.match(
    outcome(await stampOrProve(await acted({}, { ...grantSpec, duration: 'long' }), context, sources())),
    /^422 /,
  );
});
