// The approval page over a real store, operator and OpenID provider, by a browser without a screen.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Agent, fetch } from 'undici';
import type { AccessApproval, AccessGrant } from '../../src/api/grant.ts';
import { API_GROUP_VERSION } from '../../src/api/group.ts';
import type { CommandHold } from '../../src/api/hold.ts';
import { provenName } from '../../src/identity/acts.ts';
import { generateClientKey } from '../../src/identity/keys.ts';
import { verifyToken } from '../../src/identity/oidc/verify-token.ts';
import type { Principal } from '../../src/policy/principal.ts';
import type { ApiProblem } from '../../src/portal/api-types.ts';
import type { CreateResult } from '../../src/portal/world.ts';
import { type PortalBed, startPortalBed } from '../support/portal-bed.ts';

let bed: PortalBed;
before(async () => {
  bed = await startPortalBed();
});
after(() => bed.stop());

const alice = (): Principal => ({
  username: 'corp:alice',
  uid: `${bed.idp.issuer} alice`,
  groups: ['corp:app-team'],
  aliases: [],
});
const ask = (who: Principal = alice(), spec: Record<string, unknown> = {}): Promise<AccessGrant> =>
  bed.create<AccessGrant>(who, {
    apiVersion: API_GROUP_VERSION,
    kind: 'AccessGrant',
    metadata: { name: 'orders-db-', namespace: 'payments' },
    spec: { connectionRef: { name: 'orders-db' }, duration: '1h', reason: 'INC-1', ...spec },
  });
const see = async (grant: AccessGrant): Promise<AccessGrant> =>
  (await bed.store.get<AccessGrant>({ kind: 'AccessGrant', namespace: 'payments', name: grant.metadata.name }))!;

test('a manager logs in, sees a request, approves it, and the grant is active, stamped as that person', async () => {
  const grant = await ask();
  const bob = await bed.browser('bob');
  const pending = await bob.get('/pending');
  assert.match(pending.body, new RegExp(`/grants/payments/${grant.metadata.name}`));
  const page = await bob.get(`/grants/payments/${grant.metadata.name}`);
  assert.match(page.body, /From this moment corp:alice may use orders-db/);
  const done = await bob.press(page, '/decide', { decision: 'Approve', reason: 'go ahead' });
  assert.equal(done.status, 200);
  assert.match(done.body, /Approved\./);
  const active = await see(grant);
  assert.equal(active.status?.phase, 'Active');
  const { items } = await bed.store.list<AccessApproval>('AccessApproval');
  const vote = items.find((each) => each.spec.targetRef.uid === grant.metadata.uid)!;
  const { via, username, uid, proof, auth, groups } = vote.spec.approver!;
  assert.deepEqual([via, username, uid, proof], ['Portal', 'corp:bob', `${bed.idp.issuer} bob`, undefined]);
  assert.deepEqual(groups, ['corp:dba', 'corp:staff']);
  assert.equal(auth?.acr, 'pwd');
  assert.ok(Math.abs(Date.parse(auth?.at ?? '') - Date.now()) < 60_000);
  assert.ok(!JSON.stringify(await bed.store.list('AccessApproval')).includes('eyJ'), 'no token is stored');
});

test('an engineer asks on the page, sees what waits, and takes it back', async () => {
  const browser = await bed.browser('alice');
  const form = await browser.get('/request/payments/orders-db');
  assert.match(form.body, /needs 1 of group corp:dba/);
  const asked = await browser.press(form, '/request/payments/orders-db', {
    account: 'writer',
    duration: '30m',
    reason: 'to mend <b>orders</b>',
  });
  assert.match(asked.body, /Asked for\. It needs 1 of group corp:dba/);
  const { items } = await bed.store.list<AccessGrant>('AccessGrant');
  const grant = items.find((each) => each.spec.reason === 'to mend <b>orders</b>')!;
  assert.deepEqual(
    [grant.spec.requester?.via, grant.spec.requester?.username, grant.spec.account, grant.spec.duration],
    ['Portal', 'corp:alice', 'writer', '30m'],
  );
  const page = await browser.get(`/grants/payments/${grant.metadata.name}`);
  assert.ok(!page.body.includes('<b>orders</b>'));
  const done = await browser.press(page, '/decide', { decision: 'Withdraw', reason: '' });
  assert.match(done.body, /Withdrawn\./);
  assert.equal((await see(grant)).status?.phase, 'Denied');
});

test('a held statement is shown to those who may consent, and their consent releases it', async () => {
  const hold = await bed.hold({ command: "update orders set note = '<script>'" });
  const bob = await bed.browser('bob');
  const list = await bob.get('/pending');
  assert.match(list.body, /update orders set note = &#39;&lt;script&gt;&#39;/);
  const page = await bob.get(`/holds/payments/${hold.metadata.name}`);
  const done = await bob.press(page, '/decide', { decision: 'Approve', reason: '' });
  assert.match(done.body, /Approved\./);
  const key = { kind: 'CommandHold', namespace: 'payments', name: hold.metadata.name } as const;
  assert.equal((await bed.store.get<CommandHold>(key))?.status?.phase, 'Approved');
});

test('a denial carries its reason to the requester', async () => {
  const grant = await ask();
  const bob = await bed.browser('bob');
  const page = await bob.get(`/grants/payments/${grant.metadata.name}`);
  await bob.press(page, '/decide', { decision: 'Deny', reason: 'not tonight' });
  const { status } = await see(grant);
  assert.equal(status?.phase, 'Denied');
  assert.match(status?.message ?? '', /Denied by corp:bob: "not tonight"/);
});

test('an act asks for a login again where the provider needs to see the person', async () => {
  const grant = await ask();
  const bob = await bed.browser('bob');
  const page = await bob.get(`/grants/payments/${grant.metadata.name}`);
  bob.agent.forget(new URL(bed.idp.issuer).host);
  const login = await bob.press(page, '/decide', { decision: 'Approve', reason: '' });
  assert.match(login.body, /Test IdP/);
  const done = await bob.agent.submit(login, { login: 'bob' });
  assert.match(done.body, /Approved\./);
  assert.equal((await see(grant)).status?.phase, 'Active');
});

test('a job that no policy gives access hears so at once, and nothing of it waits for anybody', async () => {
  const token = await bed.idp.tokenFor('repo', { use: 'ID', client: 'ci', audience: 'ci' });
  const dispatcher = new Agent({ connect: { ca: bed.ca } });
  try {
    const answer = await fetch(`${bed.origin}/v1/requests`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        namespace: 'payments',
        connection: 'orders-db',
        clientKey: generateClientKey().publicKey,
      }),
      dispatcher,
    });
    const { error } = (await answer.json()) as ApiProblem;
    assert.equal(answer.status, 403, JSON.stringify(error));
    assert.match(error.message, /No policy gives corp:repo access to payments\/orders-db/);
    const { items } = await bed.store.list<AccessGrant>('AccessGrant');
    const own = items.filter(({ spec }) => spec.requester?.via === 'Pipeline');
    assert.deepEqual(
      own.map(({ status }) => status?.phase),
      ['Denied'],
      'what was asked for is on record, and given up',
    );
  } finally {
    await dispatcher.close();
  }
});

test('a job’s token by a key that is not known has the issuer asked, and the job is told to ask again', async () => {
  const token = await bed.idp.tokenFor('repo', { use: 'ID', client: 'ci', audience: 'ci' });
  const [, ...rest] = token.split('.');
  const header = Buffer.from(JSON.stringify({ alg: 'RS256', kid: 'new', typ: 'JWT' })).toString('base64url');
  const dispatcher = new Agent({ connect: { ca: bed.ca } });
  const ask = async (given: string): Promise<[number, string | undefined]> => {
    const headers = { authorization: `Bearer ${given}` };
    const where = `${bed.origin}/v1/requests?namespace=payments&connection=orders-db`;
    const answer = await fetch(where, { headers, dispatcher });
    return [answer.status, ((await answer.json()) as Partial<ApiProblem>).error?.code];
  };
  try {
    assert.deepEqual(await ask([header, ...rest].join('.')), [503, 'UnknownKey']);
    assert.deepEqual(bed.unknownKeys, ['corp']);
    assert.deepEqual(await ask(`${token.slice(0, -6)}AAAAAA`), [401, undefined]);
    assert.deepEqual(await ask(token), [200, undefined]);
    assert.deepEqual(bed.unknownKeys, ['corp']);
  } finally {
    await dispatcher.close();
  }
});

test('INV-08: one token in two namespaces at the same moment makes one grant, and no other once that is deleted', async () => {
  const token = await bed.idp.tokenFor('repo', { use: 'ID', client: 'ci', audience: 'ci' });
  const verdict = await verifyToken(token, { providers: bed.providers(), uses: ['Workload'], nowMs: Date.now() });
  assert.ok(verdict.kind === 'Good');
  const name = provenName('job', verdict.token.fingerprint);
  const spec = { connectionRef: { name: 'orders-db' }, clientKey: generateClientKey().publicKey };
  const send = (namespace: string, more: object = {}): Promise<CreateResult> =>
    bed.portal.world.create({
      apiVersion: API_GROUP_VERSION,
      kind: 'AccessGrant',
      metadata: { name, namespace },
      spec: { ...spec, ...more, requester: { via: 'Pipeline', proof: token } },
    });
  assert.equal((await send('payments', { duration: 'long' })).kind, 'Refused', 'what is no request uses no token');
  const answers = await Promise.all(['payments', 'shop', 'payments', 'ops'].map((namespace) => send(namespace)));
  assert.deepEqual(answers.map(({ kind }) => kind).sort(), ['Exists', 'Exists', 'Exists', 'Made']);
  const made = answers.find((each) => each.kind === 'Made')!.object;
  const { namespace = '', uid } = made.metadata;
  const gone = await bed.store.delete({ kind: 'Operator' }, { kind: 'AccessGrant', namespace, name }, uid);
  assert.equal(gone.kind, 'Ok');
  assert.equal((await send(namespace)).kind, 'Exists');
});
