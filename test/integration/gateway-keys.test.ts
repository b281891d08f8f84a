// Logging in by the grant's own key and by SSH certificates, where a connection may try several proofs.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { generateClientKey } from '../../src/identity/keys.ts';
import { EVERY_CONNECTION, type TrustedProvider } from '../../src/policy/bundle.ts';
import { alice, type Client, grantFor, type Harness, startHarness, until } from '../support/gateway-harness.ts';
import { lineProtocol } from '../support/line-protocol.ts';
import { ISSUER, tokenIssuer } from '../support/token-issuer.ts';

const CA = Buffer.concat([Buffer.from('0000000b', 'hex'), Buffer.from('ssh-ed25519'), Buffer.alloc(36, 3)]).toString(
  'base64',
);
const ALICE = { username: 'corp:alice', groups: ['payments'], aliases: [] };
const KEY = `KEY ${alice.publicKey} deploy`;

async function scene(t: TestContext, change: Parameters<typeof startHarness>[1] = {}): Promise<Harness> {
  return await startHarness(t, { protocols: [{ ...lineProtocol, proofs: 3 }], ...change });
}

async function say(h: Harness, line: string): Promise<{ answer: string; client: Client }> {
  const client = await h.connect();
  const answer = await client.ask(line);
  if (answer.startsWith('WELCOME ')) client.id = answer.slice(8);
  return { answer, client };
}

test('INV-01: the key of a grant opens that grant, whatever user is asked for, and is recorded', async (t) => {
  const h = await scene(t);
  const { client, answer } = await say(h, KEY);
  assert.match(answer, /^WELCOME /);
  assert.equal(await client.ask('GET a'), 'VALUE -');
  const start = h.records.of(client.id, 'start')[0]!.body;
  assert.deepEqual(start['login'], { use: 'Key', issuedAt: new Date(h.clock.now()).toISOString() });
  assert.equal((start['grant'] as { name: string }).name, 'orders-db-7fk2p');
});

test('INV-01: a key of no grant, of no order or in another spelling opens nothing', async (t) => {
  const h = await scene(t);
  h.grants(
    grantFor(h.clock),
    grantFor(h.clock, { uid: 'u-low', name: 'low', clientKey: Buffer.alloc(32).toString('base64url') }),
  );
  const stranger = generateClientKey().publicKey;
  for (const key of [
    stranger,
    `${alice.publicKey}=`,
    alice.publicKey.slice(1),
    Buffer.alloc(32).toString('base64url'),
    '',
  ]) {
    const { answer } = await say(h, `KEY ${key} deploy`);
    assert.match(answer, /^ERROR InvalidProof Sallyport does not know this key\./, key);
  }
  assert.deepEqual(h.target.received, []);
});

test('INV-12: a key opens nothing on another Connection than that of its grant', async (t) => {
  const h = await scene(t, { bare: true });
  const elsewhere = { connectionUid: '99999999-1111-4222-8333-444455556666' };
  h.policy();
  h.overlay();
  h.heartbeat();
  h.grants();
  h.publish('grants-0', { grants: [grantFor(h.clock)] }, elsewhere);
  await until(() => h.gateway.endpoints().size > 0, 'it listens');
  assert.equal((await say(h, `OFFER ${alice.publicKey}`)).answer, 'UNKNOWN');
  assert.match((await say(h, KEY)).answer, /^ERROR InvalidProof/);
});

test('an offer tells whether a key is of a grant, counts as nothing and may be made again', async (t) => {
  const h = await scene(t);
  const client = await h.connect();
  const stranger = generateClientKey().publicKey;
  for (let round = 0; round < 10; round += 1) {
    assert.equal(await client.ask(`OFFER ${stranger}`), 'UNKNOWN');
    assert.equal(await client.ask(`OFFER ${alice.publicKey}`), 'KNOWN');
  }
  assert.match(await client.ask(KEY), /^WELCOME /);
  assert.equal(h.logged.filter(({ message }) => message === 'a login was refused').length, 0);
});

test('INV-11: so many proofs a connection and not one more', async (t) => {
  const h = await scene(t);
  const client = await h.connect();
  const stranger = generateClientKey().publicKey;
  assert.match(await client.ask(`KEY ${stranger} deploy`), /^ERROR InvalidProof/);
  assert.match(await client.ask(KEY), /^WELCOME /, 'the second is as good as the first');
  const other = await h.connect();
  for (let round = 0; round < 3; round += 1)
    assert.match(await other.ask(`KEY ${stranger} deploy`), /^ERROR InvalidProof/);
  await other.closed;
  const single = await startHarness(t);
  const { client: once } = await say(single, `KEY ${stranger} deploy`);
  await once.closed;
});

test('of several grants of a key the user name says which', async (t) => {
  const h = await scene(t);
  const second = grantFor(h.clock, { uid: 'aaaaaaaa-0000-4000-8000-000000000002', name: 'orders-db-zzzzz' });
  h.grants(grantFor(h.clock), second);
  assert.match(
    (await say(h, KEY)).answer,
    /^ERROR UnknownUser This key has 2 grants .*HINT Log in as one of deploy\+orders-db-7fk2p, deploy\+orders-db-zzzzz\./,
  );
  const { client } = await say(h, `KEY ${alice.publicKey} deploy+orders-db-zzzzz`);
  assert.equal((h.records.of(client.id, 'start')[0]!.body['grant'] as { name: string }).name, 'orders-db-zzzzz');
  assert.match(
    (await say(h, `KEY ${alice.publicKey} deploy+other`)).answer,
    /^ERROR UnknownUser This key has no grant "other"/,
  );
});

test('INV-03: what became of a grant is told to whoever proves its key; a live session ends with it', async (t) => {
  const h = await scene(t);
  const { client } = await say(h, KEY);
  h.deliver({ kind: 'GrantEnded', grantUid: grantFor(h.clock).uid, phase: 'Revoked', by: 'bob' });
  assert.match(await client.next(), /^CUT Revoked grant orders-db-7fk2p was revoked by bob/);
  assert.match((await say(h, KEY)).answer, /^ERROR NotActive Grant orders-db-7fk2p was revoked by bob/);
  h.grants();
  assert.match((await say(h, KEY)).answer, /^ERROR NotActive Grant orders-db-7fk2p was revoked by bob/);
  const next = { uid: 'aaaaaaaa-0000-4000-8000-000000000002', name: 'orders-db-22222' };
  h.grants(grantFor(h.clock, { ...next, notBeforeMs: h.clock.now() + 60_000 }));
  assert.match((await say(h, KEY)).answer, /^ERROR NotActive Grant orders-db-22222 begins at/);
  h.grants(grantFor(h.clock, { ...next, expiresAtMs: h.clock.now() + 1_000 }));
  const { client: short } = await say(h, KEY);
  h.clock.advance(1_000);
  assert.match(await short.next(), /^CUT Expired grant orders-db-22222 expired/);
  assert.match((await say(h, KEY)).answer, /^ERROR NotActive Grant orders-db-22222 expired/);
});

test('a login by key that comes before its grant waits for it', async (t) => {
  const h = await scene(t, { limits: { grantWaitMs: 2_000 } });
  h.grants();
  const entered = say(h, KEY);
  await until(() => h.gateway.sessions().length === 1, 'it waits');
  h.grants(grantFor(h.clock));
  const pump = setInterval(() => h.clock.advance(20), 1);
  t.after(() => clearInterval(pump));
  assert.match((await entered).answer, /^WELCOME /);
});

test('an offer that names a grant waits for it once; one that does not is answered at once', async (t) => {
  const h = await scene(t, { limits: { grantWaitMs: 2_000 }, bare: true });
  h.policy();
  h.overlay();
  h.heartbeat();
  await until(() => h.gateway.endpoints().size > 0, 'it listens');
  const client = await h.connect();
  assert.equal(await client.ask(`OFFER ${alice.publicKey} deploy`), 'UNKNOWN');
  const offered = client.ask(`OFFER ${alice.publicKey} deploy+orders-db-7fk2p`);
  await new Promise((resolve) => setTimeout(resolve, 50)); // it is waited for by now
  h.grants(grantFor(h.clock));
  const pump = setInterval(() => h.clock.advance(20), 1);
  assert.equal(await offered, 'KNOWN');
  clearInterval(pump);
  const stranger = generateClientKey().publicKey;
  assert.equal(await client.ask(`OFFER ${stranger} deploy+orders-db-zzzzz`), 'UNKNOWN', 'only once');
  assert.match(await client.ask(`KEY ${alice.publicKey} deploy+orders-db-7fk2p`), /^WELCOME /);
});

test('INV-03: a proof by key is as old as its login; whoever wants a strong login takes none', async (t) => {
  const h = await scene(t);
  h.policy({ session: { ticketUntilExpiry: false, reauthenticateMs: 120_000 } });
  const { client } = await say(h, KEY);
  h.clock.advance(60_000);
  assert.match(await client.next(), /^NOTICE this session ends within a minute/);
  h.clock.advance(60_000);
  assert.match(await client.next(), /^CUT Reauthenticate the session must prove who it is again after 2m/);
  h.heartbeat();
  h.policy({ session: { ticketUntilExpiry: false, stepUp: [{ policy: 'p', acr: ['gold'], amr: [] }] } });
  assert.match((await say(h, KEY)).answer, /^ERROR StepUp/);
});

test('INV-11: a ticket that is taken once is taken once, on this way and till its end; elsewhere it may be used again', async (t) => {
  const h = await scene(t);
  const grant = grantFor(h.clock);
  const ticket = h.ticket(grant);
  assert.match((await say(h, `ONCE ${ticket} deploy`)).answer, /^WELCOME /);
  assert.match((await say(h, `ONCE ${ticket} deploy`)).answer, /^ERROR InvalidProof This ticket was used before\./);
  h.clock.advance(299_000);
  h.heartbeat();
  assert.match((await say(h, `ONCE ${ticket} deploy`)).answer, /^ERROR InvalidProof This ticket was used before\./);
  assert.match((await say(h, `ONCE ${h.ticket(grant)} deploy`)).answer, /^WELCOME /);
  assert.match((await say(h, `TICKET ${ticket} reader`)).answer, /^WELCOME /);
  const issuer = tokenIssuer(h.clock);
  h.publish('identity', { providers: [issuer.provider()] }, { connectionUid: EVERY_CONNECTION });
  assert.match((await say(h, `ONCE ${issuer.token()} deploy`)).answer, /^ERROR InvalidProof/);
});

// Certificates.

const certificate = (h: Harness, change: object = {}): string =>
  `CERTIFICATE ${Buffer.from(
    JSON.stringify({
      authority: CA,
      keyId: 'alice@laptop',
      principals: ['alice'],
      validAfterMs: h.clock.now() - 60_000,
      validBeforeMs: h.clock.now() + 600_000,
      ...change,
    }),
  ).toString('base64url')}`;

async function certified(t: TestContext, change: Partial<TrustedProvider> = {}) {
  const h = await scene(t);
  const issuer = tokenIssuer(h.clock);
  const ssh = { userAuthorities: [CA], principals: 'Username' as const };
  const identity = (more: Partial<TrustedProvider> = {}): void =>
    void h.publish(
      'identity',
      { providers: [issuer.provider({ ssh, ...change, ...more })] },
      { connectionUid: EVERY_CONNECTION },
    );
  identity();
  h.grants(grantFor(h.clock, { principal: ALICE }));
  return { h, identity, ssh };
}

test('INV-01: a certificate of an authority that a provider trusts opens the grant of the person it names', async (t) => {
  const { h } = await certified(t);
  const { client, answer } = await say(h, `${certificate(h)} deploy`);
  assert.match(answer, /^WELCOME /);
  const start = h.records.of(client.id, 'start')[0]!.body;
  assert.deepEqual(start['login'], {
    provider: 'corp',
    use: 'Certificate',
    issuedAt: new Date(h.clock.now() - 60_000).toISOString(),
    keyId: 'alice@laptop',
    serial: '7',
    authority: (start['login'] as { authority: string }).authority,
  });
  assert.match((start['login'] as { authority: string }).authority, /^SHA256:[A-Za-z0-9+/]{43}$/);
});

test('INV-01: a certificate of another authority, of another time, or of nobody opens nothing', async (t) => {
  const { h, identity, ssh } = await certified(t);
  const now = h.clock.now();
  for (const [change, cause] of [
    [{ authority: `${CA.slice(0, -4)}AAAA` }, 'UnknownAuthority'],
    [{ validAfterMs: now + 1 }, 'NotYet'],
    [{ validBeforeMs: now }, 'Expired'],
    [{ validBeforeMs: now - 1 }, 'Expired'],
    [{ principals: [] }, 'NoName'],
    [{ principals: [''] }, 'NoName'],
    [{ principals: ['al\u202eice'] }, 'NoName'],
  ] as const) {
    assert.match(
      (await say(h, `${certificate(h, change)} deploy`)).answer,
      /^ERROR InvalidProof Sallyport does not accept/,
    );
    assert.ok(
      h.logged.some(({ fields }) => String(fields['cause']).includes(cause)),
      cause,
    );
  }
  for (const principals of [['bob'], ['alice,bob'], ['*'], ['alice\u0000'], ['corp:alice'], ['ALICE']]) {
    const { answer } = await say(h, `${certificate(h, { principals })} deploy`);
    assert.match(answer, /^ERROR (NotActive You have no grant|InvalidProof)/, JSON.stringify(principals));
  }
  const issuer = tokenIssuer(h.clock);
  const twin = issuer.provider({ name: 'other', issuer: 'https://other.example', ssh });
  h.publish('identity', { providers: [issuer.provider({ ssh }), twin] }, { connectionUid: EVERY_CONNECTION });
  assert.match((await say(h, `${certificate(h)} deploy`)).answer, /^ERROR InvalidProof/);
  identity({ ssh: { ...ssh, principals: 'Username' }, prefix: { username: '', groups: '' } });
  h.grants(grantFor(h.clock, { principal: { username: 'system:admin', groups: ['payments'], aliases: [] } }));
  assert.match(
    (await say(h, `${certificate(h, { principals: ['system:admin'] })} deploy`)).answer,
    /^ERROR InvalidProof/,
  );
});

test('INV-08: a name that was given again inherits no grant of who has an id; ids name persons where the provider says so', async (t) => {
  const { h, identity } = await certified(t);
  h.grants(grantFor(h.clock, { principal: { ...ALICE, uid: `${ISSUER} u-alice` } }));
  assert.match((await say(h, `${certificate(h)} deploy`)).answer, /^ERROR NotActive/);
  identity({ ssh: { userAuthorities: [CA], principals: 'Uid' } });
  assert.match((await say(h, `${certificate(h)} deploy`)).answer, /^ERROR NotActive/);
  assert.match((await say(h, `${certificate(h, { principals: ['u-alice'] })} deploy`)).answer, /^WELCOME /);
});

test('INV-03: locks on any name of a certificate hold; who logs out, or whose authority goes, is out', async (t) => {
  const { h, identity } = await certified(t);
  const two = `${certificate(h, { principals: ['alice', 'al@corp.example'] })} deploy`;
  for (const user of ['AL@corp.example', 'corp:al@corp.example', 'corp:alice']) {
    h.overlay({ locks: [{ name: 'l', target: { user }, reason: 'audit' }] });
    assert.match((await say(h, two)).answer, /^ERROR Locked/, user);
  }
  h.overlay();
  const { client } = await say(h, two);
  identity({ ssh: { userAuthorities: [], principals: 'Username' } });
  assert.match(await client.next(), /^CUT Revoked .*authority of their certificate is not trusted/);
  const ssh = { userAuthorities: [CA], principals: 'Uid' as const };
  identity({ ssh });
  h.grants(grantFor(h.clock, { principal: { ...ALICE, uid: `${ISSUER} u-alice` } }));
  const own = `${certificate(h, { principals: ['u-alice'] })} deploy`;
  const { client: second } = await say(h, own);
  identity({ ssh, void: [{ uid: `${ISSUER} u-alice`, beforeMs: h.clock.now() }] });
  assert.match(await second.next(), /^CUT Revoked/);
  assert.match((await say(h, own)).answer, /^ERROR InvalidProof/);
});

test('INV-03: where sessions must prove themselves again a certificate is as old as its beginning, and ends', async (t) => {
  const { h } = await certified(t);
  const policy = { session: { ticketUntilExpiry: false, reauthenticateMs: 600_000 } };
  h.policy(policy);
  const stale = `${certificate(h, { validAfterMs: 0 })} deploy`;
  assert.match((await say(h, stale)).answer, /^ERROR NotActive The session must prove who it is again/);
  const { client } = await say(h, `${certificate(h, { validBeforeMs: h.clock.now() + 90_000 })} deploy`);
  h.clock.advance(30_000);
  assert.match(await client.next(), /^NOTICE/);
  h.clock.advance(60_000);
  assert.match(await client.next(), /^CUT Reauthenticate/);
});
