import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { test } from 'node:test';
import type { TokenUse, TrustedJwk, TrustedProvider } from '../../policy/bundle.ts';
import { systemRandom } from '../../system/random.ts';
import { issueTicket } from '../tickets.ts';
import { looksLikeToken } from './looks-like-token.ts';
import { type TokenVerdict, verifyToken } from './verify-token.ts';

const NOW = Date.parse('2026-03-01T09:00:00Z');
const SECONDS = NOW / 1000;
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ed = generateKeyPairSync('ed25519');
const jwk = (key: KeyObject, kid?: string): TrustedJwk => ({
  ...(key.export({ format: 'jwk' }) as unknown as TrustedJwk),
  ...(kid === undefined ? {} : { kid }),
});

const provider = (more: Partial<TrustedProvider> = {}): TrustedProvider => ({
  name: 'corp',
  issuer: 'https://id.corp.example',
  algorithms: ['RS256', 'PS256', 'ES256', 'EdDSA'],
  keys: [jwk(ec.publicKey, 'e1'), jwk(rsa.publicKey, 'r1'), jwk(ed.publicKey, 'o1')],
  keysGoodUntilMs: NOW + 3_600_000,
  skewMs: 30_000,
  audiences: [
    { audience: 'sallyport', use: 'Access', clients: ['cli'], types: [], marks: {} },
    { audience: 'cli', use: 'ID', clients: [], types: [], marks: {} },
    { audience: 'sallyport-ci', use: 'Workload', clients: [], types: [], marks: {} },
  ],
  claims: {
    uid: 'sub',
    username: 'preferred_username',
    groups: 'groups',
    email: 'email',
    workload: ['repository', 'repository_id', 'ref', 'ref_type', 'environment'],
  },
  prefix: { username: 'corp:', groups: 'corp:' },
  void: [],
  ...more,
});

const part = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

const signers: Record<string, (input: string) => Buffer> = {
  ES256: (input) => sign('sha256', Buffer.from(input), { key: ec.privateKey, dsaEncoding: 'ieee-p1363' }),
  RS256: (input) => sign('sha256', Buffer.from(input), rsa.privateKey),
  PS256: (input) => sign('sha256', Buffer.from(input), { key: rsa.privateKey, padding: 6, saltLength: 32 }),
  EdDSA: (input) => sign(null, Buffer.from(input), ed.privateKey),
};
const KIDS: Record<string, string> = { ES256: 'e1', RS256: 'r1', PS256: 'r1', EdDSA: 'o1' };

const access = {
  iss: 'https://id.corp.example',
  sub: 'u-1',
  aud: 'sallyport',
  client_id: 'cli',
  iat: SECONDS - 60,
  exp: SECONDS + 600,
  preferred_username: 'alice',
  groups: ['payments', 'dba'],
};

function token(claims: object = {}, header: object = {}, alg = 'ES256'): string {
  const input = `${part({ alg, kid: KIDS[alg], typ: 'at+jwt', ...header })}.${part({ ...access, ...claims })}`;
  return `${input}.${signers[alg]!(input).toString('base64url')}`;
}

const check = (text: string, more: Partial<Parameters<typeof verifyToken>[1]> = {}): Promise<TokenVerdict> =>
  verifyToken(text, { providers: [provider()], uses: ['Access'], nowMs: NOW, ...more });

async function fault(text: string, more: Partial<Parameters<typeof verifyToken>[1]> = {}): Promise<string> {
  const verdict = await check(text, more);
  return verdict.kind === 'Bad' ? verdict.fault : 'Good';
}

async function good(text: string, more: Partial<Parameters<typeof verifyToken>[1]> = {}) {
  const verdict = await check(text, more);
  assert.equal(verdict.kind, 'Good', JSON.stringify(verdict));
  return (verdict as Extract<TokenVerdict, { kind: 'Good' }>).token;
}

test('every allowed algorithm names the person, with the provider’s prefixes', async () => {
  for (const alg of Object.keys(signers)) {
    const proven = await good(token({}, {}, alg));
    assert.deepEqual(proven.principal, {
      username: 'corp:alice',
      uid: 'https://id.corp.example u-1',
      groups: ['corp:payments', 'corp:dba'],
      aliases: ['alice'],
    });
    assert.deepEqual(
      [proven.provider, proven.use, proven.audience, proven.client, proven.iatMs, proven.expMs],
      ['corp', 'Access', 'sallyport', 'cli', NOW - 60_000, NOW + 600_000],
    );
  }
});

test('a verified signature is remembered, but time, voidness and use are judged anew', async () => {
  const providers = [provider()];
  const text = token();
  await good(text, { providers });
  await good(text, { providers });
  assert.equal(await fault(text, { providers, nowMs: NOW + 631_000 }), 'Expired');
  assert.equal(await fault(text, { providers, uses: ['ID'] }), 'Use');
  const later = [provider({ void: [{ uid: 'https://id.corp.example u-1', beforeMs: NOW }] })];
  assert.equal(await fault(text, { providers: later }), 'Void');
  const rotated = [provider({ keys: [jwk(rsa.publicKey, 'r1')] })];
  assert.equal(await fault(text, { providers: rotated }), 'UnknownKey');
});

test('each use is its own', async () => {
  const id = token({ aud: 'cli', client_id: undefined, nonce: 'n1' }, { typ: 'JWT' });
  assert.equal((await good(id, { uses: ['ID'], nonce: 'n1' })).nonce, 'n1');
  assert.equal(await fault(id, { uses: ['ID'], nonce: 'n2' }), 'Nonce');
  assert.equal(await fault(id, { uses: ['Access', 'Workload'] }), 'Use');
  assert.equal(await fault(token({}, { typ: 'JWT' })), 'Type');
  const both: TokenUse[] = ['Access', 'ID'];
  assert.equal(await fault(token({ aud: 'cli' }), { uses: both }), 'Type');
});

test('a pipeline’s token carries its claims as text, and no ref under events that run the code of others', async () => {
  const job = {
    aud: 'sallyport-ci',
    client_id: undefined,
    preferred_username: 'repo:corp/app',
    actor: 'bob',
    repository: 'corp/app',
    repository_id: 74,
    ref: 'refs/heads/main',
    ref_type: 'branch',
  };
  const pushed = await good(token({ ...job, event_name: 'push' }, { typ: 'JWT', x5t: 'abc' }), { uses: ['Workload'] });
  assert.deepEqual(pushed.principal.workload, {
    provider: 'corp',
    claims: { repository: 'corp/app', repository_id: '74', ref: 'refs/heads/main', ref_type: 'branch' },
  });
  assert.deepEqual(pushed.principal.aliases, ['repo:corp/app', 'bob']);
  const strangers = await good(token({ ...job, event_name: 'pull_request_target' }, { typ: 'JWT' }), {
    uses: ['Workload'],
  });
  assert.deepEqual(strangers.principal.workload?.claims, { repository: 'corp/app', repository_id: '74' });
  assert.match(strangers.withheld ?? '', /code of others/);
});

test('tokens are told from tickets and passwords', () => {
  const { privateKey } = generateKeyPairSync('ed25519');
  const ticket = issueTicket({ privateKey, grantUid: 'g', connectionUid: 'c', nowMs: NOW, random: systemRandom });
  assert.ok(looksLikeToken(token()));
  assert.ok(looksLikeToken(`${part({ alg: 'none' })}.e30.`));
  assert.ok(!looksLikeToken(ticket));
  for (const secret of ['', 'hunter2', '.a.b', 'eyJ', 'a.b.c', `${part({ typ: 'x' })}.a.b`]) {
    assert.ok(!looksLikeToken(secret), secret);
  }
});
