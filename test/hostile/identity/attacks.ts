// What has been tried against verifiers of tokens, each with the name under which the log must have it. `attack` makes
// the text anew; what it changes is the only thing wrong with the token.

import type { TokenFault } from '../../../src/identity/oidc/token-fault.ts';
import type { TokenUse, TrustedProvider } from '../../../src/policy/bundle.ts';
import {
  CI,
  CORP,
  ci,
  corp,
  GITLAB_JOB,
  hmac,
  job,
  jwk,
  type KeyName,
  NOW,
  NOW_MS,
  PERSON,
  part,
  publicKey,
  signature,
  token,
} from './scene.ts';

export interface Attack {
  name: string;
  fault: TokenFault;
  attack: () => string;
  uses?: readonly TokenUse[];
  providers?: () => TrustedProvider[];
  nonce?: string;
  nowMs?: number;
}

const pem = (key: KeyName): string => publicKey(key).export({ type: 'spki', format: 'pem' }).toString();
const der = (key: KeyName): Buffer => publicKey(key).export({ type: 'spki', format: 'der' });

function confused(secret: string | Buffer, header: object = {}): string {
  const input = `${part({ alg: 'HS256', kid: 'r1', typ: 'at+jwt', ...header })}.${part(PERSON)}`;
  return `${input}.${hmac(input, secret).toString('base64url')}`;
}

function unsigned(alg: string, signaturePart = ''): string {
  return `${part({ alg, kid: 'r1', typ: 'at+jwt' })}.${part(PERSON)}.${signaturePart}`;
}

/** The same token with other bytes in place of its signature. */
function resigned(change: (good: Buffer, input: string) => Buffer, key: KeyName = 'ES256'): string {
  const [header, payload, good] = token({ key }).split('.') as [string, string, string];
  const input = `${header}.${payload}`;
  return `${input}.${change(Buffer.from(good, 'base64url'), input).toString('base64url')}`;
}

function reworked(change: (parts: [string, string, string]) => string[]): string {
  return change(token().split('.') as [string, string, string]).join('.');
}

const P256_ORDER = Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex');
const json = JSON.stringify(PERSON);
const flip = (bytes: Buffer, at: number): Buffer => {
  const changed = Buffer.from(bytes);
  changed[at]! ^= 1;
  return changed;
};

/** The last character's spare bits set: decodes to the same bytes. */
function spareBits(text: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const last = alphabet.indexOf(text.at(-1)!);
  return text.slice(0, -1) + alphabet[last + 1]!;
}

const nested = (depth: number): string => `${json.slice(0, -1)},"deep":${'['.repeat(depth)}${']'.repeat(depth)}}`;

const signatures: Attack[] = [
  { name: 'alg none without a signature', fault: 'AlgorithmNone', attack: () => unsigned('none') },
  { name: 'alg None with a signature', fault: 'AlgorithmNone', attack: () => unsigned('NoNe', part('x')) },
  { name: 'the signature cut off', fault: 'NotBase64Url', attack: () => reworked(([a, b]) => [a, b, '']) },
  { name: 'HS256 with the RSA key’s PEM as secret', fault: 'AlgorithmSymmetric', attack: () => confused(pem('RS256')) },
  { name: 'HS256 with the RSA key’s DER as secret', fault: 'AlgorithmSymmetric', attack: () => confused(der('RS256')) },
  { name: 'HS256 with the modulus as secret', fault: 'AlgorithmSymmetric', attack: () => confused(jwk('RS256').n!) },
  { name: 'HS256 with an empty secret', fault: 'AlgorithmSymmetric', attack: () => confused('') },
  { name: 'signed by a stranger under a known kid', fault: 'Signature', attack: () => token({ key: 'stranger' }) },
  {
    name: 'signed by another trusted issuer’s key, that one’s kid',
    fault: 'UnknownKey',
    attack: () => token({ key: 'ci' }),
  },
  {
    name: 'signed by another trusted issuer’s key under this one’s kid',
    fault: 'Signature',
    attack: () => token({ key: 'ci', header: { kid: 'r1' } }),
  },
  {
    name: 'a claim altered',
    fault: 'Signature',
    attack: () => reworked(([a, , c]) => [a, part({ ...PERSON, sub: 'u-root' }), c]),
  },
  {
    name: 'the header altered',
    fault: 'Signature',
    attack: () => reworked(([, b, c]) => [part({ alg: 'ES256', kid: 'e1', typ: 'AT+JWT' }), b, c]),
  },
  { name: 'one bit of the signature', fault: 'Signature', attack: () => resigned((good) => flip(good, 40)) },
  {
    name: 'ECDSA signature in DER',
    fault: 'Signature',
    attack: () => resigned((_, input) => signature(input, 'ES256', 'ES256', 'der')),
  },
  { name: 'ECDSA signature of zeros', fault: 'Signature', attack: () => resigned(() => Buffer.alloc(64)) },
  {
    name: 'ECDSA r zero',
    fault: 'Signature',
    attack: () => resigned((good) => Buffer.concat([Buffer.alloc(32), good.subarray(32)])),
  },
  {
    name: 'ECDSA r and s the order of the curve',
    fault: 'Signature',
    attack: () => resigned(() => Buffer.concat([P256_ORDER, P256_ORDER])),
  },
  {
    name: 'ECDSA signature with a byte more',
    fault: 'Signature',
    attack: () => resigned((good) => Buffer.concat([good, Buffer.from([0])])),
  },
  {
    name: 'Ed25519 signature of the identity point',
    fault: 'Signature',
    attack: () => resigned(() => Buffer.concat([Buffer.from([1]), Buffer.alloc(63)]), 'EdDSA'),
  },
  {
    name: 'Ed25519 under a low-order key, had one been trusted',
    fault: 'Signature',
    attack: () => resigned(() => Buffer.concat([Buffer.from([1]), Buffer.alloc(63)]), 'EdDSA'),
    providers: () => [
      corp({
        keys: [
          {
            kty: 'OKP',
            crv: 'Ed25519',
            kid: 'o1',
            x: Buffer.concat([Buffer.from([1]), Buffer.alloc(31)]).toString('base64url'),
          },
        ],
      }),
    ],
  },
  { name: 'Ed25519 scalar not reduced', fault: 'Signature', attack: () => resigned(unreduced, 'EdDSA') },
  { name: 'RSA signature of zeros', fault: 'Signature', attack: () => resigned(() => Buffer.alloc(256), 'RS256') },
  {
    name: 'RSA signature of one',
    fault: 'Signature',
    attack: () => resigned(() => Buffer.concat([Buffer.alloc(255), Buffer.from([1])]), 'RS256'),
  },
  {
    name: 'PSS signature said to be PKCS #1',
    fault: 'Signature',
    attack: () => resigned((_, input) => signature(input, 'RS256', 'PS256'), 'RS256'),
  },
];

/** S + L: the same signature to a verifier that does not look (RFC 8032, 8.4). */
function unreduced(good: Buffer): Buffer {
  const L = 2n ** 252n + 27742317777372353535851937790883648493n;
  const s = BigInt(`0x${Buffer.from(good.subarray(32)).reverse().toString('hex')}`) + L;
  return Buffer.concat([good.subarray(0, 32), Buffer.from(s.toString(16).padStart(64, '0'), 'hex').reverse()]);
}

const keys: Attack[] = [
  { name: 'an unknown kid', fault: 'UnknownKey', attack: () => token({ header: { kid: 'e9' } }) },
  {
    name: 'a kid that is a path',
    fault: 'UnknownKey',
    attack: () => token({ header: { kid: '../../../../dev/null' } }),
  },
  {
    name: 'a kid that is SQL',
    fault: 'UnknownKey',
    attack: () => token({ header: { kid: "x' UNION SELECT 'secret" } }),
  },
  {
    name: 'a kid that is a URL',
    fault: 'UnknownKey',
    attack: () => token({ header: { kid: 'https://evil.example/jwks' } }),
  },
  { name: 'a kid that every object has', fault: 'UnknownKey', attack: () => token({ header: { kid: '__proto__' } }) },
  { name: 'an empty kid', fault: 'UnknownKey', attack: () => token({ header: { kid: '' } }) },
  { name: 'a kid that is a list', fault: 'BadHeader', attack: () => token({ header: { kid: ['e1'] } }) },
  {
    name: 'no kid where two keys fit',
    fault: 'AmbiguousKey',
    attack: () => token({ header: { kid: undefined } }),
    providers: () => [corp({ keys: [jwk('ES256', 'e1'), jwk('ES256', 'e3')] })],
  },
  { name: 'an algorithm that is not allowed', fault: 'AlgorithmNotAllowed', attack: () => token({ key: 'ES384' }) },
  {
    name: 'an algorithm nobody knows',
    fault: 'AlgorithmNotAllowed',
    attack: () => token({ header: { alg: 'XX999' } }),
  },
  {
    name: 'an algorithm that every object has',
    fault: 'AlgorithmNotAllowed',
    attack: () => token({ header: { alg: 'constructor' } }),
  },
  {
    name: 'another kind of key than the algorithm’s',
    fault: 'AlgorithmMisfitsKey',
    attack: () => token({ header: { alg: 'RS256' } }),
  },
  {
    name: 'another algorithm than the key is published for',
    fault: 'AlgorithmMisfitsKey',
    attack: () => token({ key: 'RS256', alg: 'PS256' }),
    providers: () => [corp({ keys: [{ ...jwk('RS256', 'r1'), alg: 'RS256' }] })],
  },
  {
    name: 'keys that are too old',
    fault: 'KeysTooOld',
    attack: () => token(),
    providers: () => [corp({ keysGoodUntilMs: NOW_MS })],
  },
  {
    name: 'an issuer nobody trusts',
    fault: 'UnknownIssuer',
    attack: () => token({ claims: { iss: 'https://evil.example' } }),
  },
  { name: 'an issuer with a slash more', fault: 'UnknownIssuer', attack: () => token({ claims: { iss: `${CORP}/` } }) },
  {
    name: 'an issuer in other case',
    fault: 'UnknownIssuer',
    attack: () => token({ claims: { iss: CORP.toUpperCase() } }),
  },
  {
    name: 'the issuer’s beginning',
    fault: 'UnknownIssuer',
    attack: () => token({ claims: { iss: 'https://id.corp.example' } }),
  },
  { name: 'a list of issuers', fault: 'NoIssuer', attack: () => token({ claims: { iss: [CORP] } }) },
  { name: 'no issuer', fault: 'NoIssuer', attack: () => token({ claims: { iss: undefined } }) },
  {
    name: 'one issuer by two providers',
    fault: 'AmbiguousIssuer',
    attack: () => token(),
    providers: () => [corp(), corp({ name: 'other' })],
  },
  {
    name: 'another issuer’s name on this one’s token',
    fault: 'UnknownKey',
    attack: () => token({ claims: { iss: CI } }),
  },
];

const headers: Attack[] = [
  ...Object.entries({
    jwk: jwk('stranger'),
    jku: 'https://evil.example/jwks',
    x5c: ['MIIB'],
    x5u: 'https://evil.example/cert',
    crit: ['exp'],
    b64: false,
    zip: 'DEF',
    enc: 'A256GCM',
  }).map(
    ([name, value]): Attack => ({
      name: `a header with ${name}`,
      fault: 'HeaderParameter',
      attack: () => token({ header: { [name]: value } }),
    }),
  ),
  { name: 'an empty crit', fault: 'HeaderParameter', attack: () => token({ header: { crit: [] } }) },
  {
    name: 'alg twice in the header',
    fault: 'BadHeader',
    attack: () => token({ headerText: '{"alg":"none","kid":"e1","typ":"at+jwt","alg":"ES256"}' }),
  },
  {
    name: 'alg twice, once escaped',
    fault: 'BadHeader',
    attack: () => token({ headerText: '{"\\u0061lg":"none","kid":"e1","typ":"at+jwt","alg":"ES256"}' }),
  },
  { name: 'no alg', fault: 'BadHeader', attack: () => token({ header: { alg: undefined } }) },
  { name: 'alg null', fault: 'BadHeader', attack: () => token({ header: { alg: null } }) },
  { name: 'a header that is a list', fault: 'BadHeader', attack: () => token({ headerText: '[]' }) },
  { name: 'a type that is a list', fault: 'BadHeader', attack: () => token({ header: { typ: ['at+jwt'] } }) },
];

const texts: Attack[] = [
  {
    name: 'an encrypted token',
    fault: 'Encrypted',
    attack: () => `${part({ alg: 'dir', enc: 'A256GCM' })}..aaaa.bbbb.cccc`,
  },
  { name: 'two parts', fault: 'NotThreeParts', attack: () => reworked(([a, b]) => [a, b]) },
  { name: 'four parts', fault: 'NotThreeParts', attack: () => reworked((parts) => [...parts, 'AAAA']) },
  { name: 'nothing but dots', fault: 'NotThreeParts', attack: () => '.'.repeat(1000) },
  { name: 'no text at all', fault: 'NotThreeParts', attack: () => '' },
  { name: 'more than 16 KiB', fault: 'TooLarge', attack: () => token({ claims: { padding: 'x'.repeat(13_000) } }) },
  { name: 'a megabyte', fault: 'TooLarge', attack: () => 'e'.repeat(1 << 20) },
  { name: 'padding after a part', fault: 'NotBase64Url', attack: () => reworked(([a, b, c]) => [a, b, `${c}==`]) },
  {
    name: 'the other alphabet of base64',
    fault: 'NotBase64Url',
    attack: () => reworked(([a, b, c]) => [a, b, `+/${c.slice(2)}`]),
  },
  { name: 'spare bits set', fault: 'NotBase64Url', attack: () => reworked(([a, b, c]) => [a, b, spareBits(c)]) },
  { name: 'white space around it', fault: 'NotBase64Url', attack: () => ` ${token()}\n` },
  { name: 'white space within', fault: 'NotBase64Url', attack: () => reworked(([a, b, c]) => [a, `${b}\n`, c]) },
  {
    name: 'sub twice',
    fault: 'BadPayload',
    attack: () => token({ payloadText: `${json.slice(0, -1)},"sub":"u-root"}` }),
  },
  {
    name: 'sub twice, once escaped',
    fault: 'BadPayload',
    attack: () => token({ payloadText: `${json.slice(0, -1)},"s\\u0075b":"u-root"}` }),
  },
  {
    name: 'a member twice deep inside',
    fault: 'BadPayload',
    attack: () => token({ payloadText: `${json.slice(0, -1)},"x":{"a":1,"a":2}}` }),
  },
  { name: 'bytes after the payload', fault: 'BadPayload', attack: () => token({ payloadText: `${json}{}` }) },
  { name: 'a byte order mark', fault: 'BadPayload', attack: () => token({ payloadText: `\ufeff${json}` }) },
  { name: 'a comment', fault: 'BadPayload', attack: () => token({ payloadText: `${json.slice(0, -1)}/**/}` }) },
  { name: 'a comma more', fault: 'BadPayload', attack: () => token({ payloadText: `${json.slice(0, -1)},}` }) },
  {
    name: 'NaN',
    fault: 'BadPayload',
    attack: () => token({ payloadText: json.replace(`"exp":${NOW + 600}`, '"exp":NaN') }),
  },
  {
    name: 'a time beyond every number',
    fault: 'BadPayload',
    attack: () => token({ payloadText: json.replace(`"exp":${NOW + 600}`, '"exp":1e999') }),
  },
  {
    name: 'half a surrogate pair',
    fault: 'BadPayload',
    attack: () => token({ payloadText: json.replace('u-alice', '\\ud800') }),
  },
  { name: 'bytes that are no UTF-8', fault: 'BadPayload', attack: notUtf8 },
  { name: 'a hundred lists within each other', fault: 'BadPayload', attack: () => token({ payloadText: nested(100) }) },
  {
    name: 'five thousand lists within each other',
    fault: 'BadPayload',
    attack: () => token({ payloadText: nested(5000) }),
  },
  { name: 'a payload that is text', fault: 'BadPayload', attack: () => token({ payloadText: '"x"' }) },
  { name: 'a payload that is null', fault: 'BadPayload', attack: () => token({ payloadText: 'null' }) },
];

function notUtf8(): string {
  const bytes = Buffer.from(json.replace('u-alice', 'u-~~'), 'latin1');
  bytes.fill(0xff, bytes.indexOf('~~'), bytes.indexOf('~~') + 2);
  const input = `${part({ alg: 'ES256', kid: 'e1', typ: 'at+jwt' })}.${bytes.toString('base64url')}`;
  return `${input}.${signature(input, 'ES256', 'ES256').toString('base64url')}`;
}

const person = (name: string, fault: TokenFault, claims: object, more: Partial<Attack> = {}): Attack => ({
  name,
  fault,
  attack: () => token({ claims }),
  ...more,
});

const kinds: Attack[] = [
  person('another service’s audience', 'Audience', { aud: 'wiki' }),
  person('no audience', 'Audience', { aud: undefined }),
  person('an audience within a list within a list', 'Audience', { aud: [['sallyport']] }),
  person('an audience that is an object', 'Audience', { aud: { sallyport: true } }),
  person('an audience among things that are no text', 'Audience', { aud: ['sallyport', 7] }),
  person('an empty list of audiences', 'Audience', { aud: [] }),
  person('a hundred audiences', 'Audience', { aud: ['sallyport', ...Array.from({ length: 100 }, (_, i) => `a${i}`)] }),
  person('an audience in other case', 'Audience', { aud: 'Sallyport' }),
  person('audiences as one text', 'Audience', { aud: 'wiki sallyport' }),
  person('another client', 'Client', { client_id: 'wiki' }),
  person('no client', 'Client', { client_id: undefined }),
  person('two clients', 'Client', { azp: 'wiki' }),
  person('a list of clients', 'Client', { client_id: ['cli'] }),
  { name: 'an ID token’s type', fault: 'Type', attack: () => token({ header: { typ: 'JWT' } }) },
  { name: 'no type', fault: 'Type', attack: () => token({ header: { typ: undefined } }) },
  { name: 'an ID token as access token', fault: 'Use', attack: () => idToken() },
  { name: 'an access token as ID token', fault: 'Use', attack: () => token(), uses: ['ID'] },
  { name: 'a pipeline’s token where people log in', fault: 'Use', attack: () => job({}), uses: ['Access', 'ID'] },
  { name: 'a login as pipeline’s token', fault: 'Use', attack: () => token(), uses: ['Workload'] },
  {
    name: 'an ID token of several audiences that says not for whom',
    fault: 'Client',
    attack: () => idToken({ aud: ['portal', 'wiki'], azp: undefined }),
    uses: ['ID'],
  },
  {
    name: 'an ID token for another client',
    fault: 'Client',
    attack: () => idToken({ aud: ['portal', 'wiki'], azp: 'wiki' }),
    uses: ['ID'],
  },
  {
    name: 'a marked access token without its mark',
    fault: 'Mark',
    attack: () => token({ header: { typ: 'JWT' }, claims: { aud: 'marked' } }),
  },
  {
    name: 'a token that fits as access and as ID token',
    fault: 'AmbiguousUse',
    attack: () =>
      token({ header: { typ: 'JWT' }, claims: { aud: 'marked', client_id: undefined, azp: 'marked', typ: 'Bearer' } }),
    providers: () => {
      const made = corp();
      return [
        { ...made, audiences: made.audiences.map((each) => ({ ...each, clients: [...each.clients, 'marked'] })) },
      ];
    },
  },
  person('hashes that only ID tokens have', 'HashOfAnother', { at_hash: 'x' }),
  { name: 'a logout token, by type', fault: 'LogoutToken', attack: () => token({ header: { typ: 'logout+jwt' } }) },
  person('a logout token, by its event', 'LogoutToken', {
    events: { 'http://schemas.openid.net/event/backchannel-logout': {} },
  }),
  person('a refresh token', 'RefreshToken', { typ: 'Refresh' }),
  person('an offline token', 'RefreshToken', { typ: 'Offline' }),
  person('a token bound to a key', 'BoundToKey', { cnf: { jkt: 'x' } }),
  person('a token of a delegate', 'Delegated', { act: { sub: 'u-other' } }),
  { name: 'another act’s nonce', fault: 'Nonce', attack: () => idToken({ nonce: 'n1' }), uses: ['ID'], nonce: 'n2' },
  { name: 'no nonce where one is due', fault: 'Nonce', attack: () => idToken(), uses: ['ID'], nonce: 'n2' },
  {
    name: 'a nonce that is a list',
    fault: 'Nonce',
    attack: () => idToken({ nonce: ['n2'] }),
    uses: ['ID'],
    nonce: 'n2',
  },
];

function idToken(claims: object = {}): string {
  return token({ header: { typ: 'JWT' }, claims: { aud: 'portal', client_id: undefined, ...claims } });
}

const times: Attack[] = [
  person('over', 'Expired', { iat: NOW - 3600, exp: NOW - 31 }),
  person('not good yet', 'NotYet', { nbf: NOW + 31 }),
  person('made in the future', 'FromTheFuture', { iat: NOW + 31 }),
  person('no end', 'NoTime', { exp: undefined }),
  person('no beginning', 'NoTime', { iat: undefined }),
  person('an end that is text', 'NoTime', { exp: String(NOW + 600) }),
  person('an end that is a list', 'NoTime', { exp: [NOW + 600] }),
  person('an end that is true', 'NoTime', { exp: true }),
  person('an end in milliseconds', 'NoTime', { exp: (NOW + 600) * 1000 }),
  person('a beginning before all', 'NoTime', { iat: -1 }),
  person('a first moment that is text', 'NoTime', { nbf: '0' }),
  person('good for more than a day', 'LivesTooLong', { exp: NOW - 60 + 86_401 }),
  person('over before it began', 'LivesTooLong', { iat: NOW, exp: NOW - 1 }),
  person('of somebody who left', 'Void', { sub: 'u-left' }),
  person('of a login that was ended', 'Void', { sid: 's-over' }),
  {
    name: 'skew beyond what is ever granted',
    fault: 'Expired',
    attack: () => token({ claims: { exp: NOW - 121 } }),
    providers: () => [corp({ skewMs: 86_400_000 })],
  },
];

const names: Attack[] = [
  person('no sub', 'NoSubject', { sub: undefined }),
  person('an empty sub', 'NoSubject', { sub: '' }),
  person('a list of subs', 'NoSubject', { sub: ['u-alice'] }),
  person('a sub longer than can be kept', 'NoUid', { sub: 'x'.repeat(300) }),
  person('a sub with a line end', 'NoUid', { sub: 'u-alice\nu-root' }),
  person('no username', 'NoUsername', { preferred_username: undefined }),
  person('a list of usernames', 'NoUsername', { preferred_username: ['alice'] }),
  person('a username that reads backwards', 'ForbiddenName', { preferred_username: '\u202eecila' }),
  person('a username with a character nobody sees', 'ForbiddenName', { preferred_username: 'ali\u200bce' }),
  person('a username with a line end', 'ForbiddenName', { preferred_username: 'alice\n' }),
  person('a username not in NFC', 'ForbiddenName', { preferred_username: 'jose\u0301' }),
  person('a username longer than can be kept', 'ForbiddenName', { preferred_username: 'x'.repeat(600) }),
  {
    name: 'a name of the system, where the provider has no prefix',
    fault: 'ForbiddenName',
    attack: () => token({ claims: { preferred_username: 'system:admin' } }),
    providers: () => [corp({ prefix: { username: '', groups: '' } })],
  },
  {
    name: 'a ServiceAccount’s name from an issuer of people',
    fault: 'ForbiddenName',
    attack: () => token({ claims: { preferred_username: 'system:serviceaccount:ci:deployer' } }),
    providers: () => [corp({ prefix: { username: '', groups: '' } })],
  },
  {
    name: 'a name of the system by the mapping to the cluster',
    fault: 'ForbiddenName',
    attack: () => token({ claims: { upn: 'system:masters' } }),
    providers: () => [corp({ kubernetes: { claim: 'upn', prefix: '' } })],
  },
  ...[false, 'true', 1, undefined].map(
    (verified): Attack => ({
      name: `an e-mail address as username that is ${String(verified)}ly verified`,
      fault: 'UnverifiedEmail',
      attack: () => token({ claims: { email_verified: verified } }),
      providers: () => {
        const made = corp();
        return [{ ...made, claims: { ...made.claims, username: 'email' } }];
      },
    }),
  ),
  {
    name: 'a merge request of a fork',
    fault: 'ForeignJob',
    attack: () => job({ project_id: '1002' }, GITLAB_JOB),
    uses: ['Workload'],
    providers: () => {
      const made = ci();
      return [{ ...made, claims: { ...made.claims, uid: 'project_id' } }];
    },
  },
];

export const ATTACKS: readonly Attack[] = [...signatures, ...keys, ...headers, ...texts, ...kinds, ...times, ...names];
