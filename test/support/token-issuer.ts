// An issuer in memory: what a gateway would have from its identity shard, and tokens to go with it. For tests by a manual
// clock; a provider that really serves is in idp.ts.
import { generateKeyPairSync, sign } from 'node:crypto';
import type { TrustedJwk, TrustedProvider } from '../../src/policy/bundle.ts';
import type { Clock } from '../../src/system/clock.ts';

export const ISSUER = 'https://id.corp.example';

export interface TokenIssuer {
  provider(change?: Partial<TrustedProvider>): TrustedProvider;
  /** An access token of alice in group payments, five minutes long, changed by `claims`; undefined removes. */
  token(claims?: Record<string, unknown>, header?: Record<string, unknown>): string;
  /** The same for a pipeline. */
  workload(claims?: Record<string, unknown>): string;
}

export function tokenIssuer(clock: Clock): TokenIssuer {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const key = { ...(publicKey.export({ format: 'jwk' }) as unknown as TrustedJwk), kid: 'k1' };
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = (header: object, payload: object): string => {
    const input = `${part(header)}.${part(payload)}`;
    return `${input}.${sign(null, Buffer.from(input), privateKey).toString('base64url')}`;
  };
  const seconds = (): number => Math.floor(clock.now() / 1000);
  return {
    provider: (change = {}) => ({
      name: 'corp',
      issuer: ISSUER,
      algorithms: ['EdDSA'],
      keys: [key],
      keysGoodUntilMs: clock.now() + 30 * 86_400_000,
      skewMs: 30_000,
      audiences: [
        { audience: 'sallyport', use: 'Access', clients: ['cli'], types: ['at+jwt'], marks: {} },
        { audience: 'cli', use: 'ID', clients: ['cli'], types: [], marks: {} },
        { audience: 'sallyport-ci', use: 'Workload', clients: [], types: [], marks: {} },
      ],
      claims: {
        uid: 'sub',
        username: 'preferred_username',
        groups: 'groups',
        email: 'email',
        workload: ['repository_id', 'ref'],
      },
      prefix: { username: 'corp:', groups: '' },
      login: { scope: 'openid sallyport' },
      void: [],
      ...change,
    }),
    token: (claims = {}, header = {}) =>
      signed(
        { alg: 'EdDSA', typ: 'at+jwt', kid: 'k1', ...header },
        {
          iss: ISSUER,
          sub: 'u-alice',
          aud: 'sallyport',
          client_id: 'cli',
          iat: seconds(),
          exp: seconds() + 300,
          preferred_username: 'alice',
          groups: ['payments'],
          ...claims,
        },
      ),
    workload: (claims = {}) =>
      signed(
        { alg: 'EdDSA', typ: 'JWT', kid: 'k1' },
        {
          iss: ISSUER,
          sub: 'repo:corp/orders:ref:refs/heads/main',
          aud: 'sallyport-ci',
          iat: seconds(),
          exp: seconds() + 300,
          preferred_username: 'corp/orders',
          repository_id: '4711',
          ...claims,
        },
      ),
  };
}
