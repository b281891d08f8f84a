// Two issuers whose keys are at hand, as an attacker would like to have them: one that is trusted for people, one for
// pipelines; and a way to make any token, well-formed or not.
import { constants, createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import type { TrustedJwk, TrustedProvider } from '../../../src/policy/bundle.ts';

/** Seconds. */
export const NOW = Date.parse('2026-03-01T09:00:00Z') / 1000;
export const NOW_MS = NOW * 1000;

const pairs = {
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  EdDSA: generateKeyPairSync('ed25519'),
  ci: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  stranger: generateKeyPairSync('rsa', { modulusLength: 2048 }),
};
export type KeyName = keyof typeof pairs;
export const publicKey = (name: KeyName): KeyObject => pairs[name].publicKey;

export const jwk = (name: KeyName, kid?: string): TrustedJwk => ({
  ...(pairs[name].publicKey.export({ format: 'jwk' }) as unknown as TrustedJwk),
  ...(kid === undefined ? {} : { kid }),
});

export const CORP = 'https://id.corp.example/realms/corp';
export const CI = 'https://ci.example';

export const corp = (more: Partial<TrustedProvider> = {}): TrustedProvider => ({
  name: 'corp',
  issuer: CORP,
  algorithms: ['RS256', 'PS256', 'ES256', 'EdDSA'],
  keys: [jwk('ES256', 'e1'), jwk('ES384', 'e2'), jwk('RS256', 'r1'), jwk('EdDSA', 'o1')],
  keysGoodUntilMs: NOW_MS + 86_400_000,
  skewMs: 30_000,
  audiences: [
    { audience: 'sallyport', use: 'Access', clients: ['cli', 'portal'], types: [], marks: {} },
    { audience: 'marked', use: 'Access', clients: ['cli'], types: ['jwt'], marks: { typ: 'Bearer' } },
    { audience: 'marked', use: 'ID', clients: [], types: [], marks: {} },
    { audience: 'portal', use: 'ID', clients: [], types: [], marks: {} },
  ],
  claims: {
    uid: 'sub',
    username: 'preferred_username',
    groups: 'groups',
    email: 'email',
    workload: [],
  },
  prefix: { username: 'corp:', groups: 'corp:' },
  void: [
    { uid: `${CORP} u-left`, beforeMs: NOW_MS - 10_000 },
    { sid: 's-over', beforeMs: NOW_MS - 10_000 },
  ],
  ...more,
});

export const ci = (more: Partial<TrustedProvider> = {}): TrustedProvider => ({
  name: 'ci',
  issuer: CI,
  algorithms: ['RS256'],
  keys: [jwk('ci', 'c1')],
  keysGoodUntilMs: NOW_MS + 86_400_000,
  skewMs: 30_000,
  audiences: [{ audience: 'sallyport-ci', use: 'Workload', clients: [], types: [], marks: {} }],
  claims: {
    uid: 'repository_id',
    username: 'sub',
    workload: [
      'sub',
      'repository',
      'repository_id',
      'ref',
      'ref_type',
      'ref_protected',
      'ref_path',
      'environment',
      'event_name',
      'project_id',
      'job_workflow_ref',
      'sha',
    ],
  },
  prefix: { username: 'ci:', groups: 'ci:' },
  void: [],
  ...more,
});

export const providers = (): TrustedProvider[] => [corp(), ci()];

export const part = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

export function signature(
  input: string,
  key: KeyName,
  alg: string,
  dsaEncoding: 'der' | 'ieee-p1363' = 'ieee-p1363',
): Buffer {
  const { privateKey } = pairs[key];
  const bytes = Buffer.from(input);
  switch (alg) {
    case 'EdDSA':
      return sign(null, bytes, privateKey);
    case 'PS256':
      return sign('sha256', bytes, { key: privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 });
    case 'ES384':
      return sign('sha384', bytes, { key: privateKey, dsaEncoding });
    default:
      return sign('sha256', bytes, { key: privateKey, dsaEncoding });
  }
}

export function hmac(input: string, secret: string | Buffer): Buffer {
  return createHmac('sha256', secret).update(input).digest();
}

export const PERSON = {
  iss: CORP,
  sub: 'u-alice',
  aud: 'sallyport',
  client_id: 'cli',
  iat: NOW - 60,
  exp: NOW + 600,
  jti: 'j-1',
  preferred_username: 'alice',
  email: 'alice@corp.example',
  email_verified: true,
  groups: ['payments', 'dba'],
};

/** As a hosted runner's token looks, down to the thumbprint in its header. */
export const GITHUB_JOB = {
  iss: CI,
  sub: 'repo:corp/app:ref:refs/heads/main',
  aud: 'sallyport-ci',
  iat: NOW - 5,
  nbf: NOW - 300,
  exp: NOW + 300,
  jti: 'job-1',
  ref: 'refs/heads/main',
  ref_type: 'branch',
  ref_protected: 'true',
  sha: 'c0ffee',
  repository: 'corp/app',
  repository_id: '74',
  repository_owner_id: '7',
  actor: 'bob',
  actor_id: '12',
  event_name: 'push',
  job_workflow_ref: 'corp/app/.github/workflows/migrate.yml@refs/heads/main',
};

export const GITLAB_JOB = {
  iss: CI,
  sub: 'project_path:corp/app:ref_type:branch:ref:main',
  aud: 'sallyport-ci',
  iat: NOW - 5,
  nbf: NOW - 10,
  exp: NOW + 3600,
  jti: 'job-2',
  project_id: '9',
  project_path: 'corp/app',
  job_project_id: '9',
  user_login: 'bob',
  user_email: 'bob@corp.example',
  pipeline_source: 'push',
  ref: 'main',
  ref_type: 'branch',
  ref_path: 'refs/heads/main',
  ref_protected: 'true',
};

const KID: Record<KeyName, string> = { ES256: 'e1', ES384: 'e2', RS256: 'r1', EdDSA: 'o1', ci: 'c1', stranger: 'r1' };

export interface Making {
  header?: object;
  claims?: object;
  /** Default ES256. */
  key?: KeyName;
  /** Default: the key's own. */
  alg?: string;
  /** In place of what would be written: text that no serialiser makes. */
  headerText?: string;
  payloadText?: string;
}

/** A token that is good but for what is asked for. */
export function token({ header = {}, claims = {}, key = 'ES256', alg, headerText, payloadText }: Making = {}): string {
  const by = alg ?? (key === 'ci' || key === 'stranger' ? 'RS256' : key);
  const input = [
    part(headerText ?? { alg: by, kid: KID[key], typ: 'at+jwt', ...header }),
    part(payloadText ?? { ...PERSON, ...claims }),
  ].join('.');
  return `${input}.${signature(input, key, by).toString('base64url')}`;
}

export function job(claims: object, base: object = GITHUB_JOB): string {
  return token({
    key: 'ci',
    header: { typ: 'JWT', x5t: 'example-thumbprint' },
    claims: { ...UNSET, ...base, ...claims },
  });
}

/** What a person's token has and a job's does not. */
const UNSET = Object.fromEntries(Object.keys(PERSON).map((name) => [name, undefined]));
