// Tokens in the shapes that widespread issuers document, under the IdentityProviders that docs/identity.md gives for them:
// whom they name, what fits no use, and what is said of groups that a token does not list. No issuer is asked here.
import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { test } from 'node:test';
import type { IdentityProvider, IdentityProviderSpec } from '../../src/api/identity-provider.ts';
import { validateSpec } from '../../src/api/validate.ts';
import { compileProvider, specProblem } from '../../src/controllers/identity-providers/compile.ts';
import { readKeySet } from '../../src/identity/oidc/key-set.ts';
import { type ProvenToken, verifyToken } from '../../src/identity/oidc/verify-token.ts';
import type { TokenUse, TrustedProvider } from '../../src/policy/bundle.ts';

const NOW = Date.parse('2026-03-01T09:00:00Z');
const SECONDS = NOW / 1000;
const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });

interface Issuer {
  /** `claims` over those that every token has, `header` likewise. */
  token(claims: Record<string, unknown>, header?: Record<string, unknown>): string;
  good(text: string, use: TokenUse): Promise<ProvenToken>;
  /** `Fault detail`, or `Good`. */
  fault(text: string, use: TokenUse): Promise<string>;
}

/** `jwk`: members of its keys beside what makes them up. */
function issuer(spec: IdentityProviderSpec, jwk: Record<string, unknown> = {}): Issuer {
  assert.deepEqual(validateSpec('IdentityProvider', spec), []);
  const resource: IdentityProvider = {
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'IdentityProvider',
    metadata: {
      name: 'corp',
      uid: 'u',
      resourceVersion: '1',
      generation: 1,
      creationTimestamp: '2026-01-01T00:00:00Z',
    },
    spec,
  };
  assert.equal(specProblem(resource, [resource]), undefined);
  const published = { keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k1', use: 'sig', ...jwk }] };
  const set = readKeySet(Buffer.from(JSON.stringify(published)));
  assert.ok(set.kind === 'Good', JSON.stringify(set));
  const good = { from: 'test', keys: set.keys, fetchedAtMs: NOW, goodUntilMs: NOW + 3_600_000 };
  const providers: TrustedProvider[] = [compileProvider(resource, good)];
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const verify = (text: string, use: TokenUse) => verifyToken(text, { providers, uses: [use], nowMs: NOW });
  return {
    token(claims, header = {}) {
      const payload = { iss: spec.issuer, iat: SECONDS - 60, exp: SECONDS + 3600, ...claims };
      const input = `${part({ alg: 'RS256', kid: 'k1', ...header })}.${part(payload)}`;
      return `${input}.${sign('sha256', Buffer.from(input), privateKey).toString('base64url')}`;
    },
    async good(text, use) {
      const verdict = await verify(text, use);
      if (verdict.kind === 'Bad') return assert.fail(`${verdict.fault} ${verdict.detail ?? ''}`);
      return verdict.token;
    },
    async fault(text, use) {
      const verdict = await verify(text, use);
      return verdict.kind === 'Bad' ? `${verdict.fault} ${verdict.detail ?? ''}`.trim() : 'Good';
    },
  };
}

const TENANT = '8f1c0d5e-6f0a-4c0b-9d0e-0b1f2a3c4d5e';
const API = '11111111-2222-3333-4444-555555555555';
const CLI = 'aaaaaaaa-2222-3333-4444-555555555555';
const PAGE = 'bbbbbbbb-2222-3333-4444-555555555555';
const entraClaims = { uid: 'oid', username: 'preferred_username', groups: 'groups' };
const person = {
  oid: '00000000-0000-0000-66f3-3332eca7ea81',
  tid: TENANT,
  name: 'Alice Example',
  preferred_username: 'alice@corp.example',
  groups: ['0760b6cf-170e-4a14-91b3-4b78e0739963'],
  nbf: SECONDS - 60,
};

test('Entra, v2: page and psql name one person although sub differs; a token with too many groups has none', async () => {
  const corp = issuer(
    {
      issuer: `https://login.microsoftonline.com/${TENANT}/v2.0`,
      audiences: [
        { audience: API, use: 'Access', clients: [CLI], marks: { scp: 'access' } },
        { audience: PAGE, use: 'ID' },
      ],
      claims: entraClaims,
    },
    { x5t: 'k1', x5c: ['MIIC'], issuer: `https://login.microsoftonline.com/${TENANT}/v2.0` },
  );
  const access = {
    ...person,
    aud: API,
    sub: 'AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ',
    azp: CLI,
    azpacr: '0',
    scp: 'access',
    ver: '2.0',
    uti: 'fqiBqXLPj0eQa82S-IYFAA',
    rh: '0.ARoA',
  };
  const id = { ...person, aud: PAGE, sub: 'another-pairwise-sub', nonce: 'n', ver: '2.0' };
  const [login, act] = [
    await corp.good(corp.token(access, { typ: 'JWT', x5t: 'k1' }), 'Access'),
    await corp.good(corp.token(id, { typ: 'JWT' }), 'ID'),
  ];
  assert.equal(login.principal.uid, act.principal.uid);
  assert.deepEqual(
    [login.principal.username, login.principal.groups, login.client],
    ['corp:alice@corp.example', [`corp:${person.groups[0]}`], CLI],
  );
  assert.match(await corp.fault(corp.token({ ...access, scp: undefined }, { typ: 'JWT' }), 'Access'), /^Mark/);
  assert.match(await corp.fault(corp.token({ ...access, azp: PAGE }, { typ: 'JWT' }), 'Access'), /^Client/);
  const { groups: _groups, ...rest } = access;
  const overage = {
    ...rest,
    _claim_names: { groups: 'src1' },
    _claim_sources: { src1: { endpoint: 'https://graph' } },
  };
  for (const claims of [overage, { ...access, hasgroups: true }, { ...overage, groups: ['left-over'] }]) {
    const token = await corp.good(corp.token(claims, { typ: 'JWT' }), 'Access');
    assert.deepEqual([token.principal.groups, token.missingGroups], [[], 'Overage']);
  }
});

test('Entra, v1: its issuer ends in a slash, its audience is api://, its client appid; v2 tokens are another issuer’s', async () => {
  const corp = issuer({
    issuer: `https://sts.windows.net/${TENANT}/`,
    audiences: [{ audience: `api://${API}`, use: 'Access', clients: [CLI], marks: { scp: 'access' } }],
    claims: { uid: 'oid', username: 'upn', groups: 'groups' },
  });
  const v1 = {
    ...person,
    aud: `api://${API}`,
    sub: 'pairwise',
    appid: CLI,
    appidacr: '0',
    amr: ['pwd', 'mfa'],
    scp: 'access',
    upn: 'alice@corp.example',
    ver: '1.0',
  };
  const token = await corp.good(corp.token(v1, { typ: 'JWT', x5t: 'k1' }), 'Access');
  assert.deepEqual(
    [token.principal.username, token.client, token.amr],
    ['corp:alice@corp.example', CLI, ['pwd', 'mfa']],
  );
  assert.match(
    await corp.fault(corp.token({ ...v1, iss: `https://sts.windows.net/${TENANT}` }), 'Access'),
    /^UnknownIssuer/,
  );
  const v2 = { ...v1, iss: `https://login.microsoftonline.com/${TENANT}/v2.0`, aud: API };
  assert.match(await corp.fault(corp.token(v2, { typ: 'JWT' }), 'Access'), /^UnknownIssuer https:.*v2\.0$/);
  // An application's own token has no scope: it speaks for no person.
  const { scp: _scp, upn: _upn, ...app } = v1;
  assert.match(await corp.fault(corp.token({ ...app, roles: ['access'] }, { typ: 'JWT' }), 'Access'), /^Mark/);
});

test('Okta: cid is the client, scp a list, sub the login in one token and the id in the other', async () => {
  const corp = issuer({
    issuer: 'https://corp.okta.com/oauth2/aus1',
    audiences: [
      { audience: 'api://sallyport', use: 'Access', clients: ['0oacli'], marks: { token_use: 'access' } },
      { audience: '0oapage', use: 'ID' },
    ],
    claims: { uid: 'user_id', username: 'login', groups: 'groups' },
  });
  const both = { user_id: '00u1', login: 'alice@corp.example', groups: ['Everyone', 'dba'] };
  const access = {
    ...both,
    ver: 1,
    jti: 'AT.0mP4',
    aud: 'api://sallyport',
    cid: '0oacli',
    uid: '00u1',
    scp: ['openid', 'offline_access'],
    auth_time: SECONDS - 100,
    sub: 'alice@corp.example',
    token_use: 'access',
  };
  const id = { ...both, ver: 1, jti: 'ID.1', aud: '0oapage', sub: '00u1', amr: ['pwd'], at_hash: 'x', nonce: 'n' };
  const [login, act] = [await corp.good(corp.token(access), 'Access'), await corp.good(corp.token(id), 'ID')];
  assert.deepEqual(
    [login.principal.uid, login.principal.groups, login.client],
    ['https://corp.okta.com/oauth2/aus1 00u1', ['corp:Everyone', 'corp:dba'], '0oacli'],
  );
  assert.equal(act.principal.uid, login.principal.uid);
  assert.equal((await corp.good(corp.token({ ...access, groups: undefined }), 'Access')).missingGroups, 'Absent');
  assert.match(await corp.fault(corp.token({ ...access, token_use: undefined }), 'Access'), /^Mark/);
});

test('Google: people on the page by their address, of the company’s domain alone, without groups', async () => {
  const client = '1234.apps.googleusercontent.com';
  const corp = issuer({
    issuer: 'https://accounts.google.com',
    audiences: [{ audience: client, use: 'ID', marks: { hd: 'corp.example' } }],
    claims: { username: 'email', email: 'email' },
  });
  const id = {
    azp: client,
    aud: client,
    sub: '110169484474386276334',
    hd: 'corp.example',
    email: 'alice@corp.example',
    email_verified: true,
    at_hash: 'HK6E_P6Dh8Y93mRNtsDB1Q',
    nonce: 'n',
  };
  const { principal, missingGroups } = await corp.good(corp.token(id, { typ: 'JWT' }), 'ID');
  assert.deepEqual(
    [principal.username, principal.uid, principal.groups, missingGroups],
    ['corp:alice@corp.example', 'https://accounts.google.com 110169484474386276334', [], undefined],
  );
  const { hd: _hd, ...anybody } = id;
  assert.match(await corp.fault(corp.token({ ...anybody, email: 'alice@gmail.com' }, { typ: 'JWT' }), 'ID'), /^Mark/);
  assert.match(
    await corp.fault(corp.token({ ...id, email_verified: false }, { typ: 'JWT' }), 'ID'),
    /^UnverifiedEmail/,
  );
  assert.match(await corp.fault(corp.token(id, { typ: 'JWT' }), 'Access'), /^Use/);
});

test('INV-08: Dex: an access token has a hash of another, as ID tokens have, and logs in to nothing; the ID token is good on the page', async () => {
  const corp = issuer({
    issuer: 'https://dex.corp.example',
    audiences: [
      { audience: 'sallyport', use: 'Access', clients: ['cli'], marks: { azp: 'cli' } },
      { audience: 'portal', use: 'ID' },
    ],
    claims: { username: 'name', groups: 'groups', email: 'email' },
  });
  const claims = {
    sub: 'CiQwOGE4Njg0Yi1kYjg4LTRiNzMtOTBhOS0zY2QxNjYxZjU0NjYSBWxvY2Fs',
    at_hash: 'FJ3kJ1',
    email: 'alice@corp.example',
    email_verified: true,
    name: 'alice',
  };
  const act = await corp.good(corp.token({ ...claims, aud: 'portal', nonce: 'n' }), 'ID');
  assert.deepEqual([act.principal.username, act.principal.groups, act.missingGroups], ['corp:alice', [], 'Absent']);
  // Asked for with `audience:server:client_id:sallyport`.
  const crossed = corp.token({ ...claims, aud: ['sallyport', 'cli'], azp: 'cli' });
  assert.match(await corp.fault(crossed, 'Access'), /^HashOfAnother Access audience sallyport$/);
});

test('projected tokens of ServiceAccounts are workloads under a provider for the cluster’s issuer', async () => {
  const corp = issuer({
    issuer: 'https://kubernetes.default.svc.cluster.local',
    audiences: [{ audience: 'sallyport', use: 'Workload' }],
    claims: { uid: 'sub', username: 'sub' },
    prefix: { username: '' },
    kubernetes: { claim: 'sub', prefix: '' },
  });
  const account = {
    aud: ['sallyport'],
    sub: 'system:serviceaccount:ci:migrator',
    nbf: SECONDS - 60,
    jti: '0e2f',
    'kubernetes.io': {
      namespace: 'ci',
      node: { name: 'n1', uid: 'u1' },
      pod: { name: 'migrate-x7k2p', uid: 'u2' },
      serviceaccount: { name: 'migrator', uid: 'u3' },
    },
  };
  const token = await corp.good(corp.token(account), 'Workload');
  assert.deepEqual(
    [token.principal.username, token.principal.kubernetes],
    ['system:serviceaccount:ci:migrator', 'system:serviceaccount:ci:migrator'],
  );
  const forged = { ...account, sub: 'system:serviceaccount:kube-system:admin' };
  assert.match(await corp.fault(corp.token(forged), 'Workload'), /^ForbiddenName/);
  const long = corp.token({ ...account, exp: SECONDS + 400 * 86_400 });
  assert.match(await corp.fault(long, 'Workload'), /^LivesTooLong/);
});
