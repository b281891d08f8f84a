// Logging in by tokens of an identity provider, and proving again who one is.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { TrustedProvider } from '../../src/policy/bundle.ts';
import { EVERY_CONNECTION } from '../../src/policy/bundle.ts';
import { type Client, grantFor, type Harness, startHarness, until } from '../support/gateway-harness.ts';
import { ISSUER, type TokenIssuer, tokenIssuer } from '../support/token-issuer.ts';

const ALICE = { username: 'corp:alice', uid: `${ISSUER} u-alice`, groups: ['payments'], aliases: [] };

interface Scene {
  h: Harness;
  issuer: TokenIssuer;
  identity(...providers: TrustedProvider[]): void;
  enter(token: string, user?: string): Promise<{ client: Client; answer: string }>;
}

async function scene(t: TestContext, change: Parameters<typeof startHarness>[1] = {}): Promise<Scene> {
  const h = await startHarness(t, change);
  const issuer = tokenIssuer(h.clock);
  const identity = (...providers: TrustedProvider[]): void =>
    void h.publish('identity', { providers }, { connectionUid: EVERY_CONNECTION });
  identity(issuer.provider());
  h.grants(grantFor(h.clock, { principal: ALICE }));
  return {
    h,
    issuer,
    identity,
    async enter(token, user = 'reader') {
      const client = await h.connect();
      const answer = await client.ask(`TICKET ${token} ${user}`);
      if (answer.startsWith('WELCOME ')) client.id = answer.slice(8);
      return { client, answer };
    },
  };
}

test('INV-01: a token lets its person in to their own grant, by password or by its own way, and is recorded', async (t) => {
  const { h, issuer, enter } = await scene(t);
  const { client } = await enter(issuer.token({ jti: 'j-1' }));
  assert.equal(await client.ask('GET a'), 'VALUE -');
  const start = h.records.of(client.id, 'start')[0]!.body;
  assert.deepEqual(start['principal'], { username: 'corp:alice', uid: `${ISSUER} u-alice`, groups: ['payments'] });
  assert.deepEqual(start['login'], {
    provider: 'corp',
    use: 'Access',
    issuedAt: '2026-01-01T00:00:00.000Z',
    jti: 'j-1',
  });
  const other = await h.connect();
  assert.match(await other.ask(`TOKEN ${issuer.token()} reader`), /^WELCOME /);
  assert.ok(!JSON.stringify([h.records.events, h.logged]).includes('eyJ'), 'no token in records or log');
});

test('a token by a key that is not known is told of, so that its issuer is asked; any other bad one is not', async (t) => {
  const told: string[] = [];
  const { issuer, enter } = await scene(t, { onUnknownKey: (provider) => void told.push(provider) });
  await enter(`${issuer.token().slice(0, -4)}AAAA`);
  await enter(issuer.token({ iss: 'https://evil.example' }, { kid: 'k9' }));
  assert.deepEqual(told, []);
  const { answer } = await enter(issuer.token({}, { kid: 'k9' }));
  assert.match(answer, /^ERROR InvalidProof/);
  assert.deepEqual(told, ['corp']);
});

test('INV-01: tokens that are no good open nothing, count as failures and tell the client no cause', async (t) => {
  const { h, issuer, enter } = await scene(t, { limits: { failureBurst: 6 } });
  const id = { aud: 'cli', azp: 'cli', client_id: undefined };
  for (const [token, fault] of [
    [issuer.token({ exp: h.clock.now() / 1000 - 60, iat: h.clock.now() / 1000 - 120 }), 'Expired'],
    [issuer.token({ aud: 'somebody-else' }), 'Audience'],
    [issuer.token(id, { typ: 'JWT' }), 'Use'],
    [issuer.token({ iss: 'https://evil.example' }), 'UnknownIssuer'],
    [`${issuer.token().slice(0, -4)}AAAA`, 'Signature'],
    [issuer.token({ groups: ['payments'] }, { alg: 'none' }), 'AlgorithmNone'],
  ] as const) {
    const { client, answer } = await enter(token);
    assert.match(answer, /^ERROR InvalidProof Sallyport does not take this token.*s-[a-z0-9]+\. HINT/, fault);
    assert.ok(!answer.includes(fault));
    await client.closed;
    assert.ok(
      h.logged.some(
        ({ message, fields }) => message === 'a login was refused' && String(fields['cause']).includes(fault),
      ),
      fault,
    );
  }
  assert.match((await enter(issuer.token({ iss: 'https://evil.example' }))).answer, /^ERROR LimitReached/);
  assert.match((await enter('guess')).answer, /^ERROR LimitReached/);
  const { answer } = await enter(issuer.token());
  assert.match(answer, /^WELCOME /, 'who has a grant is looked at, whoever shares the address');
  assert.deepEqual(h.target.received, ['LOGIN svc']);
});

test('INV-01: what looks like a token is never tried as a ticket, nor a ticket as a token', async (t) => {
  const { h, issuer, enter, identity } = await scene(t);
  const grant = grantFor(h.clock, { principal: ALICE });
  assert.match((await enter(h.ticket(grant), 'anybody')).answer, /^WELCOME /, 'a ticket names its grant itself');
  const client = await h.connect();
  assert.match(
    await client.ask(`TOKEN ${h.ticket(grant)} reader`),
    /^ERROR InvalidProof Sallyport does not take this token/,
  );
  identity();
  assert.match((await enter(issuer.token())).answer, /^ERROR InvalidProof Sallyport does not take this token/);
});

test('INV-01: a token opens nobody else’s grant, whatever names they share', async (t) => {
  const { h, issuer, enter, identity } = await scene(t);
  const own = { principal: { ...ALICE, aliases: ['alice@corp.example'] } };
  h.grants(grantFor(h.clock, own));
  const bob = { sub: 'u-bob', preferred_username: 'alice', email: 'alice@corp.example', email_verified: true };
  assert.match(
    (await enter(issuer.token(bob))).answer,
    /^ERROR NotActive You have no grant in force.*sallyport request/,
  );
  // The cluster's name for somebody counts where the provider says that it may, and the grant came through that door.
  const inCluster = { username: 'alice@corp.example', groups: ['payments'], aliases: [] };
  h.grants(grantFor(h.clock, { principal: inCluster, via: 'Kubernetes' }));
  const mail = { email: 'alice@corp.example', email_verified: true };
  assert.match((await enter(issuer.token(mail))).answer, /^ERROR NotActive/);
  identity(issuer.provider({ kubernetes: { claim: 'email', prefix: '' } }));
  assert.match((await enter(issuer.token(mail))).answer, /^WELCOME /);
  assert.match((await enter(issuer.token({ ...mail, email_verified: false }))).answer, /^ERROR NotActive/);
  h.grants(grantFor(h.clock, { principal: inCluster, via: 'Portal' }));
  assert.match((await enter(issuer.token(mail))).answer, /^ERROR NotActive/);
});

test('the user name is the account, and the grant where there are several', async (t) => {
  const { h, issuer, enter } = await scene(t);
  assert.match(
    (await enter(issuer.token(), 'alice')).answer,
    /^ERROR UnknownUser The user name says which account .* "alice" .*HINT Log in as reader, or ask/,
  );
  assert.match(
    (await enter(issuer.token({ sub: 'u-eve' }), 'alice')).answer,
    /^ERROR UnknownUser .*HINT Log in as an account/,
  );
  const second = { principal: ALICE, uid: 'aaaaaaaa-0000-4000-8000-000000000002', name: 'orders-db-zzzzz' };
  h.grants(grantFor(h.clock, { principal: ALICE }), grantFor(h.clock, second));
  assert.match(
    (await enter(issuer.token())).answer,
    /^ERROR UnknownUser You have 2 grants .*HINT Log in as one of reader\+orders-db-7fk2p, reader\+orders-db-zzzzz\./,
  );
  const { client } = await enter(issuer.token(), 'reader+orders-db-zzzzz');
  assert.equal((h.records.of(client.id, 'start')[0]!.body['grant'] as { name: string }).name, 'orders-db-zzzzz');
  assert.match((await enter(issuer.token(), 'reader+orders-db-other')).answer, /^ERROR UnknownUser/);
  h.grants(grantFor(h.clock, { principal: ALICE, notBeforeMs: h.clock.now() + 60_000 }));
  assert.match((await enter(issuer.token())).answer, /^ERROR NotActive Grant orders-db-7fk2p begins at/);
});

test('INV-01: the policy is judged by the groups that the token tells, not by those of the request', async (t) => {
  const { issuer, enter } = await scene(t);
  assert.match(
    (await enter(issuer.token({ groups: ['staff'] }))).answer,
    /^ERROR NotActive Policy payments\/orders-team does not name corp:alice or a group of theirs any more/,
  );
  assert.match((await enter(issuer.token({ groups: undefined }))).answer, /^ERROR NotActive/);
  assert.match((await enter(issuer.token({ groups: ['staff', 'payments'] }))).answer, /^WELCOME /);
});

test('INV-03: locks reach whoever any of the names means, and groups that only the token tells', async (t) => {
  const { h, issuer, enter } = await scene(t);
  const lock = (target: object) => h.overlay({ locks: [{ name: 'l', target, reason: 'audit' }] });
  const token = issuer.token({ groups: ['payments', 'contractors'], email: 'al@corp.example' });
  for (const target of [{ group: 'contractors' }, { user: 'AL@corp.example' }, { user: 'corp:alice' }]) {
    lock(target);
    assert.match((await enter(token)).answer, /^ERROR Locked/, JSON.stringify(target));
  }
  h.overlay();
  const { client } = await enter(token);
  lock({ group: 'Contractors' });
  assert.match(await client.next(), /^CUT Locked/);
});

test('INV-03: who logs out at the provider is out here too', async (t) => {
  const { h, issuer, enter, identity } = await scene(t);
  const { client } = await enter(issuer.token({ sid: 'login-1' }));
  const other = (await enter(issuer.token({ sid: 'login-2' }))).client;
  identity(issuer.provider({ void: [{ sid: 'login-1', beforeMs: h.clock.now() + 1 }] }));
  assert.match(await client.next(), /^CUT Revoked its user has logged out/);
  assert.equal(await other.ask('GET a'), 'VALUE -');
  assert.match((await enter(issuer.token({ sid: 'login-1' }))).answer, /^ERROR InvalidProof/);
});

test('INV-03: a provider that is trusted no more takes the sessions of its people with it, and nobody else’s', async (t) => {
  const { h, issuer, enter, identity } = await scene(t);
  const other = { ...issuer.provider(), name: 'other', issuer: 'https://other.example' };
  identity(issuer.provider(), other);
  const portal = grantFor(h.clock, { name: 'p', uid: 'p', principal: ALICE, via: 'Portal' });
  const cluster = grantFor(h.clock, {
    name: 'c',
    uid: 'c',
    principal: { ...ALICE, uid: 'uid-alice' },
    via: 'Kubernetes',
  });
  h.grants(portal, cluster);
  const byToken = (await enter(issuer.token(), 'reader+p')).client;
  const byTicket = await h.login(portal);
  const byCluster = await h.login(cluster);
  // New keys, or another provider, are no end of the trust.
  identity(issuer.provider({ keys: [] }), other);
  identity(issuer.provider());
  for (const each of [byToken, byTicket, byCluster]) assert.equal(await each.ask('GET a'), 'VALUE -');
  identity(other);
  assert.match(await byToken.next(), /^CUT Revoked identity provider corp, which says who its user is, is not trusted/);
  assert.match(await byTicket.next(), /^CUT Revoked the identity provider that said who asked for grant p is not/);
  assert.equal(await byCluster.ask('GET a'), 'VALUE -');
  const again = await h.connect();
  assert.match(
    await again.ask(`TICKET ${h.ticket(portal)} reader`),
    /^ERROR NotActive The identity provider that said/,
  );
  // Another issuer under the same name is another provider.
  identity(issuer.provider());
  const back = (await enter(issuer.token(), 'reader+p')).client;
  identity({ ...issuer.provider(), issuer: 'https://elsewhere.example' });
  assert.match(await back.next(), /^CUT Revoked identity provider corp/);
  identity();
  assert.equal(await byCluster.ask('GET a'), 'VALUE -');
});

test('INV-01: whom a delegator named logs in by a token of that provider with exactly that user name', async (t) => {
  const { h, issuer, enter, identity } = await scene(t);
  const principal = { username: 'corp:alice', groups: [], aliases: [] };
  h.policy({ subjects: [{ kind: 'User', name: 'corp:alice' }] });
  const named = grantFor(h.clock, { principal, via: 'Kubernetes', named: { provider: 'corp' } });
  h.grants(named);
  assert.match((await enter(issuer.token())).answer, /^WELCOME /);
  assert.match((await enter(issuer.token({ sub: 'u-eve', preferred_username: 'eve' }))).answer, /^ERROR NotActive/);
  // Another provider whose people have the same names.
  identity({ ...issuer.provider(), name: 'partner' });
  assert.match((await enter(issuer.token())).answer, /^ERROR NotActive/);
  h.grants({ ...named, named: {} });
  assert.match((await enter(issuer.token())).answer, /^WELCOME /);
});

test('a workload’s token opens the grant of its repository', async (t) => {
  const { h, issuer, enter } = await scene(t);
  const uid = `${ISSUER} repo:corp/orders:ref:refs/heads/main`;
  const repository = { username: 'corp:corp/orders', uid, groups: [], aliases: [] };
  h.policy({ subjects: [{ kind: 'Claim', provider: 'corp', claims: { repository_id: '4711' } }] });
  h.grants(grantFor(h.clock, { principal: repository, via: 'Pipeline' }));
  assert.match((await enter(issuer.workload())).answer, /^WELCOME /);
  assert.match((await enter(issuer.workload({ repository_id: '666' }))).answer, /^ERROR NotActive Policy/);
  assert.match((await enter(issuer.workload({ sub: 'repo:corp/evil' }))).answer, /^ERROR NotActive You have no grant/);
});

test('a login that comes before its grant waits for it', async (t) => {
  const { h, issuer, enter } = await scene(t, { limits: { grantWaitMs: 2_000 } });
  h.grants();
  const entered = enter(issuer.token());
  await until(() => h.gateway.sessions().length === 1, 'it waits');
  h.grants(grantFor(h.clock, { principal: ALICE }));
  const pump = setInterval(() => h.clock.advance(20), 1);
  t.after(() => clearInterval(pump));
  assert.match((await entered).answer, /^WELCOME /);
});

test('a policy that wants a strong, recent login judges the token by it, and takes no ticket', async (t) => {
  const { h, issuer, enter } = await scene(t);
  const stepUp = [{ policy: 'payments/orders-team', maxAgeMs: 300_000, acr: ['gold'], amr: [] }];
  h.policy({ session: { ticketUntilExpiry: false, stepUp } });
  const now = h.clock.now() / 1000;
  assert.match((await enter(issuer.token({ acr: 'gold', auth_time: now - 60 }))).answer, /^WELCOME /);
  for (const [claims, lack] of [
    [{ acr: 'gold' }, /does not say when/],
    [{ acr: 'gold', auth_time: now - 301 }, /5m1s old/],
    [{ acr: 'silver', auth_time: now }, /of class silver/],
    [{ auth_time: now }, /names no class/],
  ] as const) {
    const { answer } = await enter(issuer.token(claims));
    assert.match(answer, /^ERROR StepUp Policy payments\/orders-team wants a login/);
    assert.match(answer, lack);
  }
  const { answer } = await enter(h.ticket(grantFor(h.clock, { principal: ALICE })));
  assert.match(answer, /^ERROR StepUp .*nobody says how this person logged in\. HINT .*sallyport login/);
});

// Proving it again.

const SESSION = { session: { ticketUntilExpiry: false, reauthenticateMs: 600_000 } };

test('INV-03: without reauthenticate a token’s end bars logins only; with it the session ends by then, after a notice', async (t) => {
  const { h, issuer, enter } = await scene(t);
  const { client } = await enter(issuer.token());
  h.heartbeat();
  h.clock.advance(299_000);
  h.heartbeat();
  h.clock.advance(280_000);
  assert.equal(await client.ask('GET a'), 'VALUE -', 'an expired token does not matter to a session');
  h.heartbeat();
  h.policy(SESSION);
  assert.match(await client.next(), /^CUT Reauthenticate the token of this session is over/);

  const { client: second } = await enter(issuer.token());
  h.clock.advance(239_000);
  h.heartbeat();
  assert.equal(await second.ask('GET a'), 'VALUE -');
  h.clock.advance(1_000);
  assert.match(await second.next(), /^NOTICE this session ends within a minute: it must prove again/);
  h.clock.advance(59_000);
  assert.equal(await second.ask('GET a'), 'VALUE -');
  h.clock.advance(1_000);
  assert.match(await second.next(), /^CUT Reauthenticate the token of this session is over/);

  h.heartbeat();
  const { client: third } = await enter(issuer.token({ exp: h.clock.now() / 1000 + 3_000 }));
  h.clock.setWall(h.clock.now() - 3_000_000); // sets no proof back
  h.clock.advance(540_000);
  assert.match(await third.next(), /^NOTICE/);
  h.clock.advance(60_000);
  assert.match(await third.next(), /^CUT Reauthenticate the session must prove who it is again after 10m/);
});

test('INV-03: a newer token of the same person carries the session on; any other changes nothing', async (t) => {
  const { h, issuer, enter } = await scene(t);
  h.policy(SESSION);
  const first = issuer.token();
  const { client } = await enter(first);
  const renew = (token: string, more: object = {}) => h.gateway.renew(client.id, { token, ...more }, '127.0.0.1');
  h.clock.advance(200_000);
  h.heartbeat();
  for (const [token, code] of [
    [first, 'NotNewer'],
    [issuer.token({ sub: 'u-bob' }), 'InvalidProof'],
    [issuer.token({ aud: 'x' }), 'InvalidProof'],
    [h.ticket(grantFor(h.clock, { principal: ALICE })), 'InvalidProof'],
  ] as const) {
    const answer = await renew(token);
    assert.equal(answer.kind === 'Refused' && answer.code, code);
  }
  const gone = await h.gateway.renew('s-none', { token: issuer.token() }, '127.0.0.1');
  assert.equal(gone.kind === 'Refused' && gone.code, 'NoSession');
  assert.equal(await client.ask('GET a'), 'VALUE -');
  const renewed = await renew(issuer.token({ groups: ['payments', 'dba'] }));
  assert.deepEqual(renewed, { kind: 'Renewed', endsAtMs: h.clock.now() + 300_000 });
  await until(() => h.records.of(client.id, 'notice').length === 1, 'it is recorded');
  const notice = h.records.of(client.id, 'notice')[0]!.body;
  assert.equal(notice['event'], 'TokenRenewed');
  assert.deepEqual(notice['groups'], ['payments', 'dba']);
  h.clock.advance(239_000);
  h.heartbeat();
  assert.equal(await client.ask('GET a'), 'VALUE -', 'past the end of the first token');
  h.clock.advance(1_000);
  assert.match(await client.next(), /^NOTICE/, 'told again');
});

test('INV-03: a newer token without the group cuts the session; one with another group changes what rules are for', async (t) => {
  const { h, issuer, enter } = await scene(t);
  const rules = [
    { ref: { policy: 'payments/orders-team', rule: 'all' }, action: 'Allow' as const, enforce: true, exempt: [] },
    {
      ref: { policy: 'payments/orders-team', rule: 'no-drop' },
      action: 'Deny' as const,
      enforce: true,
      exempt: [{ kind: 'Group' as const, name: 'dba' }],
      matcher: { member: 'lines', value: { actions: ['Define'] } },
    },
  ];
  h.policy({ ...SESSION, rules });
  const { client } = await enter(issuer.token());
  assert.match(await client.ask('DROP a'), /^DENIED/);
  h.clock.advance(60_000);
  await h.gateway.renew(client.id, { token: issuer.token({ groups: ['payments', 'dba'] }) }, '127.0.0.1');
  assert.equal(await client.ask('DROP a'), 'OK');
  h.clock.advance(60_000);
  await h.gateway.renew(client.id, { token: issuer.token() }, '127.0.0.1');
  assert.match(await client.ask('DROP a'), /^DENIED/);
  h.clock.advance(60_000);
  const answer = await h.gateway.renew(client.id, { token: issuer.token({ groups: [] }) }, '127.0.0.1');
  assert.equal(answer.kind, 'Cut');
  assert.match(await client.next(), /^CUT Reauthenticate policy payments\/orders-team does not name corp:alice/);
});

test('INV-03: a session of a ticket is renewed by token and ticket together, never by a ticket alone', async (t) => {
  const { h, issuer } = await scene(t);
  h.policy(SESSION);
  const grant = grantFor(h.clock, { principal: ALICE });
  const client = await h.login(grant);
  h.clock.advance(60_000);
  const renew = (proof: { token: string; ticket?: string }) => h.gateway.renew(client.id, proof, '127.0.0.1');
  assert.equal((await renew({ token: issuer.token() })).kind, 'Refused');
  assert.equal((await renew({ token: h.ticket(grant), ticket: h.ticket(grant) })).kind, 'Refused');
  assert.equal((await renew({ token: issuer.token({ sub: 'u-bob' }), ticket: h.ticket(grant) })).kind, 'Refused');
  assert.equal((await renew({ token: issuer.token(), ticket: h.ticket(grant) })).kind, 'Renewed');
  h.clock.advance(60_000);
  assert.equal((await renew({ token: issuer.token() })).kind, 'Refused', 'still both');
  assert.equal(await client.ask('GET a'), 'VALUE -');
});

test('INV-11: renewals that fail count against their address', async (t) => {
  const { h, issuer, enter } = await scene(t, { limits: { failureBurst: 2 } });
  const { client } = await enter(issuer.token());
  const bad = issuer.token({ aud: 'x' });
  for (let i = 0; i < 2; i++) await h.gateway.renew(client.id, { token: bad }, '192.0.2.1');
  const answer = await h.gateway.renew(client.id, { token: bad }, '192.0.2.1');
  assert.equal(answer.kind === 'Refused' && answer.code, 'LimitReached');
});
