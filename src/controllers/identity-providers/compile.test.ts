import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { IdentityProvider, IdentityProviderSpec } from '../../api/identity-provider.ts';
import { compileProvider, sourceOf, specNote, specProblem } from './compile.ts';

const provider = (change: Partial<IdentityProviderSpec> = {}, name = 'corp'): IdentityProvider => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind: 'IdentityProvider',
  metadata: { name, uid: name, resourceVersion: '1', generation: 1, creationTimestamp: '2026-01-01T00:00:00Z' },
  spec: {
    issuer: 'https://id.corp.example',
    audiences: [{ audience: 'sallyport', use: 'Access', clients: ['cli'] }],
    ...change,
  },
});
const problemOf = (change: Partial<IdentityProviderSpec>): string => {
  const one = provider(change);
  return specProblem(one, [one]) ?? '';
};

test('what is left out is filled in so that it allows least', () => {
  assert.deepEqual(compileProvider(provider(), undefined), {
    name: 'corp',
    issuer: 'https://id.corp.example',
    algorithms: ['RS256', 'PS256', 'ES256', 'EdDSA'],
    keys: [],
    keysGoodUntilMs: 0,
    skewMs: 30_000,
    audiences: [{ audience: 'sallyport', use: 'Access', clients: ['cli'], types: ['at+jwt'], marks: {} }],
    claims: { uid: 'sub', username: 'sub', workload: [] },
    prefix: { username: 'corp:', groups: 'corp:' },
    void: [],
  });
});

test('access tokens are typed at+jwt, or marked', () => {
  const marked = provider({ audiences: [{ audience: 'a', use: 'Access', clients: ['c'], marks: { typ: 'Bearer' } }] });
  assert.deepEqual(compileProvider(marked, undefined).audiences[0]?.types, []);
  assert.match(
    problemOf({ audiences: [{ audience: 'a', use: 'Access', clients: ['c'], types: ['jwt'] }] }),
    /can not be told from ID tokens.*Add marks/,
  );
});

test('an audience of which a token could be two things is refused; what sets them apart lets it through', () => {
  const both = (access: object, id: object): string =>
    problemOf({
      audiences: [
        { audience: 'cli', use: 'Access', clients: ['cli'], ...access },
        { audience: 'cli', use: 'ID', ...id },
      ],
    });
  assert.equal(both({}, {}), '', 'at+jwt and jwt are two types');
  assert.match(both({ marks: { typ: 'Bearer' } }, {}), /a token could be both/);
  assert.equal(both({ marks: { typ: 'Bearer' } }, { marks: { typ: 'ID' } }), '');
  assert.match(both({ marks: { typ: 'Bearer' } }, { marks: { kind: 'id' } }), /a token could be both/);
  assert.match(both({}, { types: ['at+jwt'] }), /a token could be both/);
  assert.match(
    problemOf({
      audiences: [
        { audience: 'a', use: 'Workload' },
        { audience: 'a', use: 'Workload' },
      ],
    }),
    /listed twice/,
  );
});

test('INV-08: no prefix makes names of the system’s', () => {
  assert.match(problemOf({ prefix: { username: 'system:' } }), /the cluster’s own/);
  assert.match(problemOf({ prefix: { groups: 'System:masters' } }), /the cluster’s own/);
  assert.equal(problemOf({ prefix: { username: '', groups: '' } }), '');
});

test('skew beyond two minutes, an address that is none, and certificates that are none are refused', () => {
  assert.match(problemOf({ clockSkew: '121s' }), /more than 120s/);
  assert.equal(problemOf({ clockSkew: '2m' }), '');
  assert.match(problemOf({ issuer: 'https://' }), /no https address/);
  assert.match(problemOf({ caBundle: 'nothing' }), /no certificate that can be read/);
  assert.match(
    problemOf({ caBundle: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----' }),
    /no certificate that can be read/,
  );
});

const made = (at: string, one: IdentityProvider): IdentityProvider => ({
  ...one,
  metadata: { ...one.metadata, creationTimestamp: at },
});

test('INV-04: of two of one issuer, octet by octet, the older is used, of one second the first by name; each names the other', () => {
  const old = made('2026-01-01T09:00:00Z', provider({}, 'old'));
  const young = made('2026-01-01T09:00:01Z', provider({}, 'a-young'));
  const slash = made('2026-01-01T10:00:00Z', provider({ issuer: 'https://id.corp.example/' }, 'slash'));
  for (const all of [
    [old, young, slash],
    [slash, young, old],
  ]) {
    assert.equal(specProblem(old, all), undefined);
    assert.match(specNote(old, all), /^ a-young, which came later .* is not used\. Keep one\.$/);
    assert.match(specProblem(young, all) ?? '', /is that of old, which came first and so alone counts.*Keep one\.$/);
    assert.deepEqual([specProblem(slash, all), specNote(slash, all)], [undefined, '']);
  }
  const twin = made('2026-01-01T09:00:00Z', provider({}, 'twin'));
  assert.equal(specProblem(old, [twin, old]), undefined);
  assert.match(specProblem(twin, [twin, old]) ?? '', /is that of old/);
  assert.match(specProblem(twin, [young, twin, old]) ?? '', /is that of old/, 'of three, one is left');
  assert.match(specProblem(young, [young, twin, old]) ?? '', /is that of old/);
});

test('keys are of an issuer and a CA, of nothing else', () => {
  const from = sourceOf(provider().spec);
  assert.equal(sourceOf(provider({ clockSkew: '10s' }).spec), from);
  assert.notEqual(sourceOf(provider({ caBundle: 'x' }).spec), from);
  assert.notEqual(sourceOf(provider({ issuer: 'https://else' }).spec), from);
});

test('providers that share a prefix say whom they trust with their names', () => {
  const all = [
    provider({ prefix: { groups: '' } }),
    provider({ issuer: 'https://b', prefix: { groups: '' } }, 'b'),
    provider({ issuer: 'https://c' }, 'c'),
  ];
  assert.match(specNote(all[0]!, all), /shares a prefix with b:/);
  assert.match(specNote(all[1]!, all), /shares a prefix with corp:/);
  assert.equal(specNote(all[2]!, all), '');
});

const CA = `ssh-ed25519 ${Buffer.concat([Buffer.from('0000000b', 'hex'), Buffer.from('ssh-ed25519'), Buffer.from('00000020', 'hex'), Buffer.alloc(32, 9)]).toString('base64')}`;

test('INV-08: authorities of SSH certificates are whole public keys, and of one provider alone', () => {
  const ssh = { userAuthorities: [`${CA} ca@corp`, CA] };
  assert.equal(problemOf({ ssh }), '');
  assert.deepEqual(compileProvider(provider({ ssh }), undefined).ssh, {
    userAuthorities: [CA.split(' ')[1]],
    principals: 'Username',
  });
  assert.equal(compileProvider(provider({ ssh: { ...ssh, principals: 'Uid' } }), undefined).ssh?.principals, 'Uid');
  const other = CA.replace('ssh-ed25519 ', 'ssh-rsa ');
  for (const line of [other, `cert-authority ${CA}`, 'ssh-ed25519 AAAA', `${CA.slice(0, -1)}!`, `${CA}=`]) {
    assert.match(
      problemOf({ ssh: { userAuthorities: [CA, line] } }),
      /^ssh\.userAuthorities\[1\] is no public key/,
      line,
    );
  }
  const one = provider({ ssh });
  const two = provider({ ssh, issuer: 'https://other.example' }, 'other');
  assert.equal(specProblem(one, [one, two]), undefined);
  assert.match(specNote(one, [one, two]), /^ other, which came later/);
  assert.match(specProblem(two, [one, two]) ?? '', /is listed by corp, which came first, so this one is not used/);
});
