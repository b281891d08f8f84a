// IdentityProviders against real issuers over TLS: what is fetched, believed, published, and said when it goes wrong.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import type { IdentityProviderSpec } from '../../src/api/identity-provider.ts';
import { createHttpsGet } from '../../src/controllers/identity-providers/fetch.ts';
import { fetchKeys } from '../../src/controllers/identity-providers/keys.ts';
import { verifyToken } from '../../src/identity/oidc/verify-token.ts';
import type { IdentityShard } from '../../src/policy/bundle.ts';
import { testCertificates } from '../support/certificates.ts';
import { type FaultyIssuer, faultyIssuer, type IdentityBed, identityBed } from '../support/identity-bed.ts';
import { type Idp, startIdp } from '../support/idp.ts';
import { startIssuer } from '../support/workload-issuer.ts';

const HOUR = 3_600_000;
const MINUTE = 60_000;

let idp: Idp;
before(async () => {
  idp = await startIdp({ algorithm: 'ES256' });
});
after(() => idp.stop());

const bedFor = async (context: TestContext): Promise<IdentityBed> => {
  const bed = await identityBed();
  context.after(() => bed.stop());
  return bed;
};
const faulty = async (context: TestContext, ...given: Parameters<typeof faultyIssuer>): Promise<FaultyIssuer> => {
  const issuer = await faultyIssuer(...given);
  context.after(() => issuer.stop());
  return issuer;
};
const corp = (change: Record<string, unknown> = {}): Record<string, unknown> => ({
  issuer: idp.issuer,
  caBundle: idp.ca,
  audiences: [
    { audience: idp.audience, use: 'Access', clients: ['cli', 'cli-device'] },
    { audience: 'portal', use: 'ID' },
  ],
  claims: { username: 'preferred_username', groups: 'groups', email: 'email' },
  ...change,
});
const minimal = ({ issuer, ca }: { issuer: string; ca: string }): Record<string, unknown> => ({
  issuer,
  caBundle: ca,
  audiences: [{ audience: 'sallyport', use: 'Workload' }],
});
const verify = (bed: IdentityBed, token: string, nowMs = Date.now()) =>
  verifyToken(token, { providers: bed.published(), uses: ['Access', 'Workload'], nowMs });

test('keys are fetched, published signed, and a login’s token is good by them', async (context) => {
  const bed = await bedFor(context);
  await bed.write({ corp: corp() });
  const verdict = await verify(bed, (await idp.login('alice')).access_token);
  assert.equal(verdict.kind, 'Good', JSON.stringify(verdict));
  assert.deepEqual(verdict.kind === 'Good' && verdict.token.principal, {
    username: 'corp:alice',
    uid: `${idp.issuer} alice`,
    groups: ['corp:app-team', 'corp:staff'],
    aliases: ['alice', 'alice@corp.example'],
  });
  const status = (await bed.resource('corp'))?.status;
  assert.equal(status?.keys, idp.jwks().keys.length);
  assert.equal((await bed.condition('corp', 'Ready'))?.status, 'True');
  assert.equal((await bed.condition('corp', 'Accepted'))?.status, 'True');
  assert.deepEqual(
    bed.acts.filter(({ act }) => act.startsWith('identityprovider')).map(({ act }) => act),
    ['identityprovider.create'],
  );
});

test('a rotated key is known within ten minutes, at once where somebody shows it, and for that once a minute at most', async (context) => {
  const bed = await bedFor(context);
  await bed.write({ corp: corp() });
  const old = await idp.tokenFor('alice');
  await idp.rotate();
  const fresh = await idp.tokenFor('alice');
  assert.deepEqual(
    [(await verify(bed, fresh)).kind, 'unknownKid' in (await verify(bed, fresh))],
    ['Bad', true],
    'nobody told of the new key yet',
  );
  const asked = (): number => idp.paths.filter((each) => each.endsWith('/openid-configuration')).length;
  const before = asked();
  bed.operator().unknownKey('corp');
  await bed.settle();
  assert.equal(asked(), before + 1, 'although its turn was moments ago');
  assert.equal((await verify(bed, fresh)).kind, 'Good');
  assert.equal((await verify(bed, old)).kind, 'Good', 'the issuer still publishes the key before');
  bed.operator().unknownKey('corp');
  bed.operator().unknownKey('corp');
  await bed.advance(MINUTE - 1);
  assert.equal(asked(), before + 1, 'whatever strangers show, they add one question a minute');
  await bed.advance(1);
  assert.equal(asked(), before + 2);
  await idp.rotate({ dropOld: true });
  await bed.advance(9 * MINUTE);
  assert.equal(asked(), before + 2);
  await bed.advance(MINUTE);
  assert.equal(asked(), before + 3);
  assert.equal((await verify(bed, await idp.tokenFor('alice'))).kind, 'Good');
  assert.equal((await verify(bed, old)).kind, 'Bad', 'a key that its issuer took back is not believed');
});

test('INV-04: when the issuer is away its last keys serve 24 hours, over a restart too, then logins stop', async (context) => {
  const own = await startIdp({ algorithm: 'ES256', accessTokenSeconds: 80_000 });
  const bed = await bedFor(context);
  await bed.write({ corp: { ...corp(), issuer: own.issuer, caBundle: own.ca } });
  const token = await own.tokenFor('alice', { expiresIn: 80_000 });
  const began = bed.clock.now();
  await own.stop();
  await bed.advance(10 * MINUTE);
  const ready = await bed.condition('corp', 'Ready');
  assert.deepEqual([ready?.status, ready?.reason], ['True', 'LastKeys']);
  assert.match(ready?.message ?? '', /serve until .*, then logins stop\..*can not be reached/);
  assert.equal((await bed.condition('corp', 'KeysFresh'))?.reason, 'Unreachable');
  await bed.restart();
  assert.equal((await verify(bed, token, bed.clock.now())).kind, 'Good', 'a restart forgets nothing');
  assert.equal((await bed.condition('corp', 'Ready'))?.reason, 'LastKeys');
  await bed.advance(began + 24 * HOUR - bed.clock.now() - 1);
  assert.equal((await bed.condition('corp', 'Ready'))?.status, 'True');
  await bed.advance(1);
  const over = await bed.condition('corp', 'Ready');
  assert.deepEqual([over?.status, over?.reason], ['False', 'Unreachable']);
  assert.match(over?.message ?? '', /Nobody can log in/);
  const verdict = await verify(bed, token, bed.clock.now());
  assert.deepEqual([verdict.kind, verdict.kind === 'Bad' && verdict.fault], ['Bad', 'KeysTooOld']);
});

test('INV-10: a start that knows nothing of before leaves no provider out for a moment: their people’s sessions go on', async (context) => {
  const own = await startIssuer();
  context.after(() => own.stop());
  const bed = await bedFor(context);
  await bed.write({ corp: corp(), ci: minimal(own) });
  fs.rmSync(path.join(bed.folder, 'identity.json'));
  const before = bed.envelopes.length;
  await bed.restart();
  const since = bed.envelopes.slice(before).map(({ payload }) => JSON.parse(payload) as IdentityShard);
  assert.ok(since.length > 0);
  for (const { providers } of since)
    assert.deepEqual(
      providers.map(({ name }) => name),
      ['ci', 'corp'],
    );
  assert.ok(since.at(-1)!.providers.every(({ keys }) => keys.length > 0));
  await bed.write({ corp: corp() });
  assert.deepEqual(
    bed.published().map(({ name }) => name),
    ['corp'],
    'one that is taken away is trusted no more',
  );
});

test('INV-04: stored keys that were changed are not believed after a restart', async (context) => {
  const own = await startIdp({ algorithm: 'ES256' });
  const bed = await bedFor(context);
  await bed.write({ corp: { ...corp(), issuer: own.issuer, caBundle: own.ca } });
  const token = await own.tokenFor('alice');
  await own.stop();
  const file = path.join(bed.folder, 'identity.json');
  const envelope = JSON.parse(fs.readFileSync(file, 'utf8')) as { payload: string };
  fs.writeFileSync(
    file,
    JSON.stringify({ ...envelope, payload: envelope.payload.replace('"skewMs":30000', '"skewMs":60000') }),
  );
  await bed.restart();
  assert.equal((await verify(bed, token)).kind, 'Bad');
  assert.equal((await bed.condition('corp', 'Ready'))?.status, 'False');
});

test('keys from under another CA, or of another issuer, are not kept over a change of spec', async (context) => {
  const bed = await bedFor(context);
  await bed.write({ corp: corp() });
  assert.equal(bed.published()[0]?.keys.length, idp.jwks().keys.length);
  const { ca } = await testCertificates();
  await bed.write({ corp: corp({ caBundle: ca }) });
  assert.deepEqual(bed.published()[0]?.keys, []);
  const ready = await bed.condition('corp', 'Ready');
  assert.equal(ready?.reason, 'CertificateNotTrusted');
  assert.match(ready?.message ?? '', /does not come from the CA in caBundle/);
  await bed.write({ corp: corp() });
  assert.equal((await bed.condition('corp', 'Ready'))?.status, 'True');
});

test('without its CA the condition says to pin one', async (context) => {
  const bed = await bedFor(context);
  const { caBundle: _ca, ...spec } = corp();
  await bed.write({ corp: spec });
  const ready = await bed.condition('corp', 'Ready');
  assert.deepEqual([ready?.status, ready?.reason], ['False', 'CertificateNotTrusted']);
  assert.match(ready?.message ?? '', /write its certificate into caBundle/);
});

test('an issuer that calls itself otherwise is not believed, and the condition says what to write', async (context) => {
  const bed = await bedFor(context);
  const other = await faulty(context, () => ({
    body: JSON.stringify({ issuer: 'https://else.example', jwks_uri: 'https://x/' }),
  }));
  const slash = await faulty(context, (_path, issuer) => ({
    body: JSON.stringify({ issuer: `${issuer}/`, jwks_uri: 'https://x/' }),
  }));
  await bed.write({ other: minimal(other), slash: minimal(slash) });
  const [a, b] = [await bed.condition('other', 'Ready'), await bed.condition('slash', 'Ready')];
  assert.equal(a?.reason, 'WrongIssuer');
  assert.match(a?.message ?? '', /calls itself https:\/\/else\.example/);
  assert.equal(b?.reason, 'WrongIssuer');
  assert.ok(b?.message.includes(`Write issuer: ${slash.issuer}/ (with the slash at the end)`), b?.message);
  assert.deepEqual(
    bed.published().map(({ keys }) => keys),
    [[], []],
  );
});

test('issuers outside are asked through the proxy of the environment, which sees names and no content', async (context) => {
  const own = await startIssuer({ name: 'id.corp.test' });
  context.after(() => own.stop());
  const heard: string[] = [];
  const proxy = net.createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', (bytes) => {
      heard.push(bytes.toString());
      const onward = net.connect(own.port, '127.0.0.1', () => {
        socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
        socket.pipe(onward).pipe(socket);
      });
      onward.on('data', (more) => heard.push(more.toString('latin1')));
      onward.on('error', () => socket.destroy());
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  context.after(() => proxy.close());
  const env = { HTTPS_PROXY: `http://127.0.0.1:${(proxy.address() as net.AddressInfo).port}` };
  const spec = minimal(own) as unknown as IdentityProviderSpec;
  const signal = AbortSignal.timeout(10_000);
  const got = await fetchKeys(createHttpsGet(env), spec, signal);
  assert.equal(got.kind, 'Good', JSON.stringify(got));
  assert.match(heard[0] ?? '', new RegExp(`^CONNECT id\\.corp\\.test:${own.port} HTTP/1\\.1`));
  assert.ok(!heard.join('').includes('openid-configuration') && !heard.join('').includes('jwks_uri'));
  const stranger = await testCertificates(['id.corp.test']);
  const untrusted = await fetchKeys(createHttpsGet(env), { ...spec, caBundle: stranger.ca }, signal);
  assert.equal(untrusted.kind === 'Bad' && untrusted.reason, 'CertificateNotTrusted', 'the proxy vouches for nobody');
  const bypassed = await fetchKeys(createHttpsGet({ ...env, NO_PROXY: '.corp.test' }), spec, signal);
  assert.equal(bypassed.kind === 'Bad' && bypassed.reason, 'NameNotFound');
  const gone = await fetchKeys(createHttpsGet({ HTTPS_PROXY: 'http://127.0.0.1:1' }), spec, signal);
  assert.match(gone.kind === 'Bad' ? gone.message : '', /proxy 127\.0\.0\.1:1 can not be reached/);
});

test('a redirect is not followed, of the discovery document or of the keys', async (context) => {
  const bed = await bedFor(context);
  const target = await startIssuer();
  context.after(() => target.stop());
  const first = await faulty(context, () => ({ status: 302, headers: { location: `${target.issuer}/jwks` } }));
  const second = await faulty(context, (url, issuer) =>
    url === '/jwks'
      ? { status: 307, headers: { location: `${target.issuer}/jwks` } }
      : { body: JSON.stringify({ issuer, jwks_uri: `${issuer}/jwks` }) },
  );
  await bed.write({ first: minimal(first), second: minimal(second) });
  for (const name of ['first', 'second']) {
    const ready = await bed.condition(name, 'Ready');
    assert.equal(ready?.reason, 'Redirected', name);
    assert.ok(ready?.message.includes(`${target.issuer}/jwks`));
  }
});

test('keys over plain http are not asked for', async (context) => {
  const bed = await bedFor(context);
  const plain = await faulty(context, (_path, issuer) => ({
    body: JSON.stringify({ issuer, jwks_uri: issuer.replace('https:', 'http:') }),
  }));
  await bed.write({ plain: minimal(plain) });
  assert.equal((await bed.condition('plain', 'Ready'))?.reason, 'NotHttps');
  assert.equal(plain.paths.length, 1);
});

test('INV-11: an answer of 65 KiB is not read to its end', async (context) => {
  const bed = await bedFor(context);
  const padded = (issuer: string): string =>
    JSON.stringify({ issuer, jwks_uri: `${issuer}/jwks`, padding: 'x'.repeat(65 * 1024) });
  const large = await faulty(context, (_path, issuer) => ({ body: padded(issuer) }));
  const endless = await faulty(context, (url, issuer) =>
    url === '/jwks'
      ? { body: Buffer.alloc(64 * 1024 * 1024, 32) }
      : { body: JSON.stringify({ issuer, jwks_uri: `${issuer}/jwks` }) },
  );
  await bed.write({ endless: minimal(endless), large: minimal(large) });
  for (const name of ['large', 'endless']) assert.equal((await bed.condition(name, 'Ready'))?.reason, 'TooLarge', name);
});

test('INV-11: an issuer that hangs costs five seconds and holds up no other', async (context) => {
  const bed = await bedFor(context);
  const hanging = await faulty(context, () => undefined);
  await bed.write({ corp: corp(), hanging: minimal(hanging) });
  const ready = await bed.condition('hanging', 'Ready');
  assert.equal(ready?.reason, 'TimedOut');
  assert.match(ready?.message ?? '', /did not answer within 5000 ms/);
  assert.equal((await bed.condition('corp', 'Ready'))?.status, 'True');
  assert.ok(
    bed.envelopes.some(({ payload }) => payload.includes('"name":"corp"') && !payload.includes('"name":"hanging"')),
    'the other was published before',
  );
});

test('a set with a private, symmetric or weak key is refused whole', async (context) => {
  const bed = await bedFor(context);
  const good = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const sets: Record<string, { keys: unknown[]; says: RegExp }> = {
    private: { keys: [good.privateKey.export({ format: 'jwk' })], says: /private key/ },
    symmetric: { keys: [good.publicKey.export({ format: 'jwk' }), { kty: 'oct', k: 'AAAA' }], says: /symmetric/ },
    weak: {
      keys: [good.publicKey.export({ format: 'jwk' }), weak.publicKey.export({ format: 'jwk' })],
      says: /1024 bits/,
    },
    none: { keys: [], says: /no key/ },
  };
  const providers: Record<string, Record<string, unknown>> = {};
  for (const [name, { keys }] of Object.entries(sets)) {
    const issuer = await faulty(context, (url, self) => ({
      body: JSON.stringify(url === '/jwks' ? { keys } : { issuer: self, jwks_uri: `${self}/jwks` }),
    }));
    providers[name] = minimal(issuer);
  }
  await bed.write(providers);
  for (const [name, { says }] of Object.entries(sets)) {
    const ready = await bed.condition(name, 'Ready');
    assert.equal(ready?.reason, 'BadKeySet', name);
    assert.match(ready?.message ?? '', says);
  }
  assert.ok(bed.published().every(({ keys }) => keys.length === 0));
});

test('INV-04: a second provider of one issuer takes nothing from the first, and serves once that is gone', async (context) => {
  const bed = await bedFor(context);
  const token = await idp.tokenFor('alice');
  const twin = corp({ prefix: { username: 'b:', groups: 'b:' } });
  const nameIn = async (): Promise<string | false> => {
    const verdict = await verify(bed, token);
    return verdict.kind === 'Good' && verdict.token.principal.username;
  };
  await bed.write({ corp: corp() });
  assert.equal(await nameIn(), 'corp:alice');
  const before = bed.envelopes.length;
  await bed.advance(MINUTE);
  // Its name would come first.
  await bed.write({ 'a-twin': twin, corp: corp() });
  assert.equal(await nameIn(), 'corp:alice');
  assert.ok(
    bed.envelopes.slice(before).every(({ payload }) => payload.includes('"name":"corp"')),
    'not for a moment',
  );
  const refused = await bed.condition('a-twin', 'Accepted');
  assert.equal(refused?.status, 'False');
  assert.match(refused?.message ?? '', /is that of corp, which came first.*Keep one\.$/);
  const kept = await bed.condition('corp', 'Accepted');
  assert.equal(kept?.status, 'True');
  assert.match(kept?.message ?? '', /a-twin, which came later.* is not used/);
  await bed.restart();
  assert.equal(await nameIn(), 'corp:alice', 'after a restart too');
  await bed.write({ 'a-twin': twin });
  assert.equal((await bed.condition('a-twin', 'Accepted'))?.status, 'True');
  assert.equal(await nameIn(), 'b:alice');
  await bed.write({});
  assert.deepEqual(bed.published(), [], 'whoever is removed is removed from what gateways believe');
});

test('login settings that can not work say so', async (context) => {
  const bed = await bedFor(context);
  const login = { clientId: 'cli', deviceClientId: 'cli-device', oauthScope: 'openid sallyport' };
  const says = (more: object) => (url: string, issuer: string) => ({
    body: JSON.stringify(url === '/jwks' ? idp.jwks() : { issuer, jwks_uri: `${issuer}/jwks`, ...more }),
  });
  const bare = await faulty(context, says({}));
  const terse = await faulty(
    context,
    says({ scopes_supported: ['openid'], device_authorization_endpoint: 'https://idp.example/device' }),
  );
  await bed.write({
    corp: corp({ login }),
    bare: { ...minimal(bare), login },
    terse: { ...corp({ login }), issuer: terse.issuer, caBundle: terse.ca },
  });
  const unlisted = await bed.condition('terse', 'Login');
  assert.equal(unlisted?.status, 'True', 'issuers need not list their scopes');
  assert.match(unlisted?.message ?? '', /does not list scope sallyport, and need not/);
  assert.equal((await bed.condition('corp', 'Login'))?.status, 'True', (await bed.condition('corp', 'Login'))?.message);
  const hitch = await bed.condition('bare', 'Login');
  assert.equal(hitch?.status, 'False');
  for (const part of [/No audience is for Access/, /no device flow/]) assert.match(hitch?.message ?? '', part);
  assert.equal((await bed.condition('bare', 'Ready'))?.status, 'True', 'its workloads’ tokens are good all the same');
});
