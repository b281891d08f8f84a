// What attackers try on the approval page, by HTTP: each is refused and nothing is decided.
import assert from 'node:assert/strict';
import https from 'node:https';
import { after, before, test } from 'node:test';
import type { AccessApproval, AccessGrant } from '../../../src/api/grant.ts';
import { API_GROUP_VERSION } from '../../../src/api/group.ts';
import type { NewObject } from '../../../src/store/resource-store.ts';
import { CONNECTION, POLICY, type PortalBed, startPortalBed } from '../../support/portal-bed.ts';

let bed: PortalBed;
let grant: AccessGrant;
before(async () => {
  bed = await startPortalBed({
    yaml: `${CONNECTION('payments')}${POLICY('payments')}${CONNECTION('ledger')}${POLICY('ledger').replaceAll('corp:dba', 'corp:leads')}`,
  });
  grant = await ask('payments');
});
after(() => bed.stop());

const ask = (namespace: string, spec: Record<string, unknown> = {}): Promise<AccessGrant> =>
  bed.create<AccessGrant>(
    { username: 'corp:alice', uid: `${bed.idp.issuer} alice`, groups: ['corp:app-team'], aliases: [] },
    {
      apiVersion: API_GROUP_VERSION,
      kind: 'AccessGrant',
      metadata: { name: 'orders-db-', namespace },
      spec: { connectionRef: { name: 'orders-db' }, duration: '1h', reason: `secret plans of ${namespace}`, ...spec },
    },
  );
const phaseOf = async ({ metadata }: AccessGrant): Promise<string | undefined> =>
  (await bed.store.get<AccessGrant>({ kind: 'AccessGrant', namespace: metadata.namespace!, name: metadata.name }))
    ?.status?.phase;

interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}
/** Exactly these headers, nothing added by a browser. */
function send(
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body?: string,
  agent: https.Agent | false = false,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = https.request(
      bed.origin,
      { method, path, ca: bed.ca, headers, agent, servername: 'localhost', signal: AbortSignal.timeout(10_000) },
      (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('error', reject);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(parts).toString(),
          }),
        );
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}
const cookieOf = async (user: string): Promise<string> => {
  const { agent } = await bed.browser(user);
  return agent.cookies(new URL(bed.origin).host).find((each) => each.startsWith('__Host-sallyport='))!;
};
const hiddenOf = (body: string): Record<string, string> =>
  Object.fromEntries(
    [
      ...body.slice(body.indexOf('action="/decide"')).matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)"/g),
    ].map(([, name, value]) => [name!, value!]),
  );
const form = (fields: Record<string, string>): string => new URLSearchParams(fields).toString();
const FORM = 'application/x-www-form-urlencoded';

test('INV-08: a form from anywhere else, or without the session’s own token, decides nothing', async () => {
  const cookie = await cookieOf('bob');
  const path = `/grants/payments/${grant.metadata.name}`;
  const fields = { ...hiddenOf((await send('GET', path, { cookie })).body), decision: 'Approve' };
  assert.match(fields['csrf' as never] ?? '', /^[\w-]{43}$/);
  const other = hiddenOf((await send('GET', path, { cookie: await cookieOf('bob') })).body);
  const good = { cookie, origin: bed.origin, 'content-type': FORM };
  const tries: [string, Record<string, string>, string][] = [
    ['no origin', { cookie, 'content-type': FORM }, form(fields)],
    ['null origin', { ...good, origin: 'null' }, form(fields)],
    ['another origin', { ...good, origin: 'https://evil.example' }, form(fields)],
    ['an origin that begins alike', { ...good, origin: `${bed.origin}.evil.example` }, form(fields)],
    ['plain text', { ...good, 'content-type': 'text/plain' }, form(fields)],
    ['JSON', { ...good, 'content-type': 'application/json' }, JSON.stringify(fields)],
    ['no token', good, form({ ...fields, csrf: '' })],
    ['the token of another session', good, form({ ...fields, csrf: other['csrf']! })],
    ['a field twice', good, `${form(fields)}&decision=Deny`],
    ['no cookie', { origin: bed.origin, 'content-type': FORM }, form(fields)],
    ['two cookies', { ...good, cookie: `${cookie}; ${cookie}` }, form(fields)],
    ['too large', good, form({ ...fields, reason: 'x'.repeat(70_000) })],
    ['another spec', good, form({ ...fields, specHash: 'a'.repeat(64) })],
    ['another uid', good, form({ ...fields, uid: 'other' })],
    ['another word', good, form({ ...fields, decision: 'SignOff' })],
    ['no word at all', good, form({ ...fields, decision: 'constructor' })],
  ];
  for (const [what, headers, body] of tries) {
    const answer = await send('POST', '/decide', headers, body).catch((error: NodeJS.ErrnoException) => ({
      status: 400,
      headers: {},
      body: String(error.code),
    }));
    assert.ok(answer.status >= 400, `${what}: ${answer.status}`);
  }
  for (const method of ['GET', 'PUT', 'DELETE', 'OPTIONS']) {
    assert.ok((await send(method, `/decide?${form(fields)}`, { cookie, origin: bed.origin })).status >= 400, method);
  }
  assert.equal(await phaseOf(grant), 'Pending');
  assert.equal((await bed.store.list('AccessApproval')).items.length, 0);
  // The very same form, as the page sends it, goes on to the provider: what was refused above was refused for its fault.
  const sent = await send('POST', '/decide', good, form(fields));
  assert.deepEqual(
    [sent.status, new URL(String(sent.headers['location'])).origin],
    [303, new URL(bed.idp.issuer).origin],
  );
});

test('INV-12: nothing of another namespace is shown, told apart from nothing, or decided', async () => {
  const foreign = await ask('ledger');
  const hold = await bed.hold(
    {
      command: 'select secret_of_ledger',
      requirements: [{ rule: 'r', count: 1, approvers: [{ kind: 'Group', name: 'corp:leads' }] }],
    },
    'ledger',
  );
  const cookie = await cookieOf('bob');
  for (const path of ['/', '/pending', '/sessions', '/history']) {
    const { body } = await send('GET', path, { cookie });
    assert.ok(!/ledger/.test(body), path);
  }
  const nothing = (await send('GET', '/grants/ledger/no-such', { cookie })).body;
  for (const path of [
    `/grants/ledger/${foreign.metadata.name}`,
    `/holds/ledger/${hold.metadata.name}`,
    `/grants/payments/${foreign.metadata.name}`,
    `/grants/payments%2f..%2fledger/${foreign.metadata.name}`,
    '/request/ledger/orders-db',
  ]) {
    const answer = await send('GET', path, { cookie });
    assert.deepEqual([answer.status, answer.body], [404, nothing], path);
  }
  const { specHash } = await import('../../../src/api/canonical.ts');
  const own = hiddenOf((await send('GET', `/grants/payments/${grant.metadata.name}`, { cookie })).body);
  const target = { kind: 'AccessGrant', namespace: 'ledger', name: foreign.metadata.name, uid: foreign.metadata.uid };
  const decided = await send(
    'POST',
    '/decide',
    { cookie, origin: bed.origin, 'content-type': FORM },
    form({ ...own, ...target, specHash: specHash(foreign.spec), decision: 'Approve' }),
  );
  assert.equal(decided.status, 404);
  assert.equal(await phaseOf(foreign), 'Pending');
  // Whoever answers for it there does see it.
  const carol = await cookieOf('carol');
  assert.match((await send('GET', '/pending', { cookie: carol })).body, /secret plans of ledger/);
  assert.ok(!/secret plans of payments/.test((await send('GET', '/pending', { cookie: carol })).body));
});

test('INV-08: one’s own request is not there to approve, under a shared address either', async () => {
  bed.idp.setUser('alice', { groups: ['app-team', 'dba'] });
  // mallory’s address is alice’s, unverified: it excludes all the same.
  bed.idp.setUser('mallory', { groups: ['dba'] });
  const mine = await ask('payments', { reason: 'to be approved by myself' });
  const cookie = await cookieOf('alice');
  const page = (await send('GET', `/grants/payments/${mine.metadata.name}`, { cookie })).body;
  assert.ok(!page.includes('value="Approve"'));
  const fields = { ...hiddenOf(page), decision: 'Approve' };
  const answer = await send('POST', '/decide', { cookie, origin: bed.origin, 'content-type': FORM }, form(fields));
  assert.equal(answer.status, 409);
  assert.equal(await phaseOf(mine), 'Pending');
  bed.idp.setUser('alice', { groups: ['app-team', 'staff'] });
});

test('INV-08: an act can not be replayed, altered or made for another', async () => {
  const target = await ask('payments', { reason: 'replay' });
  const bob = await bed.browser('bob');
  const page = await bob.get(`/grants/payments/${target.metadata.name}`);
  await bob.press(page, '/decide', { decision: 'Deny', reason: 'no' });
  assert.equal(await phaseOf(target), 'Denied');
  const made = bed.sent.at(-1)! as NewObject & { spec: AccessApproval['spec'] };
  const again = await ask('payments', { reason: 'replay' });
  const count = (await bed.store.list('AccessApproval')).items.length;
  const { targetRef } = made.spec;
  const tries: [string, NewObject][] = [
    ['as it was', made],
    ['under another name', { ...made, metadata: { ...made.metadata, name: `${made.metadata.name}x` } }],
    ['generated', { ...made, metadata: { ...made.metadata, name: 'vote-' } }],
    ['another decision', { ...made, spec: { ...made.spec, decision: 'Approve' } }],
    ['another reason', { ...made, spec: { ...made.spec, reason: 'yes' } }],
    [
      'another target',
      {
        ...made,
        spec: { ...made.spec, targetRef: { ...targetRef, name: again.metadata.name, uid: again.metadata.uid } },
      },
    ],
    ['another namespace', { ...made, metadata: { ...made.metadata, namespace: 'ledger' } }],
    ['as a pipeline', { ...made, spec: { ...made.spec, approver: { ...made.spec.approver, via: 'Pipeline' } } }],
    [
      'with a name of one’s own',
      { ...made, spec: { ...made.spec, approver: { ...made.spec.approver, username: 'corp:carol' } } },
    ],
  ];
  for (const [what, object] of tries) {
    const result = await bed.portal.world.create(object);
    assert.equal(result.kind, what === 'as it was' ? 'Exists' : 'Refused', `${what}: ${JSON.stringify(result)}`);
  }
  assert.equal((await bed.store.list('AccessApproval')).items.length, count);
  assert.equal(await phaseOf(again), 'Pending');
});

test('an answer of the provider counts once, in the browser that asked, for the person who asked', async () => {
  const target = await ask('payments', { reason: 'state' });
  const cookie = await cookieOf('bob');
  const fields = {
    ...hiddenOf((await send('GET', `/grants/payments/${target.metadata.name}`, { cookie })).body),
    decision: 'Approve',
    reason: '',
  };
  const begun = await send('POST', '/decide', { cookie, origin: bed.origin, 'content-type': FORM }, form(fields));
  const asked = new URL(String(begun.headers['location']));
  asked.searchParams.delete('prompt');
  const back = await bed.idp.authorize(asked, 'carol');
  const where = `${back.pathname}${back.search}`;
  assert.equal((await send('GET', where)).status, 400, 'no cookie');
  assert.equal((await send('GET', where, { cookie: await cookieOf('bob') })).status, 400, 'another window of bob');
  const other = await send('GET', where, { cookie });
  assert.equal(other.status, 403);
  assert.match(other.body, /You logged in as corp:carol/);
  assert.equal((await send('GET', where, { cookie })).status, 400, 'a second time');
  assert.equal(await phaseOf(target), 'Pending');
  for (const bad of [
    '/callback',
    '/callback?code=x',
    '/callback?state=',
    '/callback?error=access_denied&state=x',
    `${where}&state=y`,
  ]) {
    assert.equal((await send('GET', bad, { cookie })).status, 400, bad);
  }
});

test('a session that was planted, guessed or logged out opens nothing', async () => {
  const begun = await send('GET', '/login?return=/');
  const planted = String(begun.headers['set-cookie']).split(';')[0]!;
  assert.match(
    String(begun.headers['set-cookie']),
    /^__Host-sallyport=[\w-]{43}; Path=\/; Secure; HttpOnly; SameSite=Lax$/,
  );
  const back = await bed.idp.authorize(String(begun.headers['location']), 'bob');
  const done = await send('GET', `${back.pathname}${back.search}`, { cookie: planted });
  const fresh = String(done.headers['set-cookie']).split(';')[0]!;
  assert.notEqual(fresh, planted);
  assert.equal((await send('GET', '/pending', { cookie: planted })).status, 401);
  const page = await send('GET', '/pending', { cookie: fresh });
  assert.equal(page.status, 200);
  for (const cookie of [
    '__Host-sallyport=',
    `__Host-sallyport=${'A'.repeat(43)}`,
    `__Host-sallyport=${'A'.repeat(9000)}`,
    `sallyport=${fresh.slice(17)}`,
  ]) {
    assert.equal((await send('GET', '/pending', { cookie })).status, 401, cookie.slice(0, 60));
  }
  const [, csrf] = /name="csrf" value="([^"]+)"/.exec(page.body)!;
  await send('POST', '/logout', { cookie: fresh, origin: bed.origin, 'content-type': FORM }, form({ csrf: csrf! }));
  assert.equal((await send('GET', '/pending', { cookie: fresh })).status, 401);
});

test('a login leads to a path of this site only', async () => {
  const paths = [
    'https://evil.example/',
    '//evil.example/',
    '/\\evil.example',
    '/..//evil.example',
    '/.//evil.example',
    'javascript:1',
    '/\tevil',
    '',
  ];
  for (const path of paths) {
    const begun = await send('GET', `/login?return=${encodeURIComponent(path)}`);
    const back = await bed.idp.authorize(String(begun.headers['location']), 'bob');
    const done = await send('GET', `${back.pathname}${back.search}`, {
      cookie: String(begun.headers['set-cookie']).split(';')[0]!,
    });
    assert.equal(done.headers['location'], '/', path);
  }
});

test('every answer forbids frames, foreign scripts and forms; another host’s name is not served', async () => {
  const cookie = await cookieOf('bob');
  for (const [method, path] of [
    ['GET', '/'],
    ['GET', '/pending'],
    ['GET', '/no/such'],
    ['GET', '/assets/portal.js'],
    ['POST', '/decide'],
    ['GET', '/login'],
    ['GET', '/v1/requests/a/b'],
    ['GET', '/callback'],
  ] as const) {
    for (const headers of [{}, { cookie }]) {
      const answer = await send(method, path, headers);
      const policy = String(answer.headers['content-security-policy']);
      for (const part of [
        "default-src 'none'",
        "script-src 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        `form-action 'self' ${new URL(bed.idp.issuer).origin}`,
      ])
        assert.ok(policy.split('; ').includes(part), `${path}: ${part} in ${policy}`);
      assert.ok(!policy.includes('unsafe'));
      assert.equal(answer.headers['x-frame-options'], 'DENY');
      assert.equal(answer.headers['x-content-type-options'], 'nosniff');
      assert.equal(answer.headers['referrer-policy'], 'same-origin');
    }
  }
  assert.equal((await send('GET', '/pending', { cookie, host: 'evil.example' })).status, 421);
});

test('markup in names and texts stays text, and what hides in them is shown', async () => {
  const evil = `"><svg onload=alert(1)>'\`&amp;\u202e\u200b\u0007`;
  const hold = await bed.hold({
    command: evil,
    reason: evil,
    summary: evil,
    requester: { username: evil },
    rules: [{ policy: evil, rule: evil }],
  });
  const target = await ask('payments', { reason: evil });
  const cookie = await cookieOf('bob');
  for (const path of [
    '/pending',
    `/holds/payments/${hold.metadata.name}`,
    `/grants/payments/${target.metadata.name}`,
  ]) {
    const { body } = await send('GET', path, { cookie });
    assert.ok(body.includes('&quot;&gt;&lt;svg onload=alert(1)&gt;&#39;&#96;&amp;amp;'), path);
    assert.ok(!body.includes('<svg onload'), path);
    assert.ok(!/[\u202e\u200b\u0007]/.test(body), path);
    assert.ok(body.includes('⟨U+202E⟩'), path);
  }
});

test('INV-11: strangers who begin thousands of logins cost nobody theirs', async () => {
  const cookie = await cookieOf('bob');
  for (let count = 0; count < 5_000; count += 1) bed.portal.sessions.welcome();
  assert.equal((await send('GET', '/pending', { cookie })).status, 200);
});

test('the API of jobs takes no person’s token, tells no cause, and shows nobody’s but the job’s own', async () => {
  const body = JSON.stringify({ namespace: 'payments', connection: 'orders-db', clientKey: 'A'.repeat(43) });
  const count = (await bed.store.list('AccessGrant')).items.length;
  const post = (token: string): Promise<Answer> =>
    send('POST', '/v1/requests', { authorization: `Bearer ${token}`, 'content-type': 'application/json' }, body);
  for (const token of [
    await bed.idp.tokenFor('alice'),
    await bed.idp.tokenFor('alice', { use: 'ID', client: 'portal' }),
    await bed.idp.tokenFor('alice', { use: 'ID', client: 'ci', audience: 'ci', expiresIn: -100, issuedIn: -400 }),
    `${(await bed.idp.tokenFor('repo', { use: 'ID', client: 'ci', audience: 'ci' })).slice(0, -6)}AAAAAA`,
    'x'.repeat(15_000),
    '',
  ]) {
    const answer = await post(token);
    assert.equal(answer.status, 401, answer.body);
    assert.ok(!/Expired|Audience|Signature|Use\b|eyJ/.test(answer.body), answer.body);
  }
  assert.equal((await bed.store.list('AccessGrant')).items.length, count);
  const job = await bed.idp.tokenFor('repo', { use: 'ID', client: 'ci', audience: 'ci' });
  const peek = await send('GET', `/v1/requests/payments/${grant.metadata.name}`, { authorization: `Bearer ${job}` });
  const none = await send('GET', '/v1/requests/payments/no-such', { authorization: `Bearer ${job}` });
  assert.deepEqual([peek.status, peek.body], [404, none.body]);
  assert.ok(!bed.log.join('\n').includes('eyJ'), 'no token in the log');
});

test('INV-11: tokens that are no good, however many, keep no good one out; they are told less and logged no more', async () => {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 8 });
  const get = (token: string): Promise<Answer> =>
    send('GET', '/v1/requests/payments/no-such', { authorization: `Bearer ${token}` }, undefined, agent);
  const statuses = new Map<number, number>();
  for (let round = 0; round < 33; round += 1) {
    const answers = await Promise.all(Array.from({ length: 20 }, () => get('not.a.token')));
    for (const { status } of answers) statuses.set(status, (statuses.get(status) ?? 0) + 1);
  }
  assert.deepEqual(new Set(statuses.keys()), new Set([401, 429]));
  assert.ok(bed.log.filter((line) => line.includes('token was refused')).length <= 600);
  const job = await bed.idp.tokenFor('repo', { use: 'ID', client: 'ci', audience: 'ci' });
  assert.equal((await get(job)).status, 404);
  agent.destroy();
});
