// `sallyport portal` beside `sallyport local`, as processes: a login, a vote, a pipeline's request.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { AccessApproval, AccessGrant } from '../../src/api/grant.ts';
import { createClient } from '../../src/cli/client.ts';
import { generateClientKey } from '../../src/identity/keys.ts';
import type { RequestView } from '../../src/portal/api-types.ts';
import { type Idp, startIdp } from '../support/idp.ts';
import { until } from '../support/in-process.ts';
import { type Local, SALLYPORT, startLocal } from '../support/local.ts';
import { CONNECTION, POLICY } from '../support/portal-bed.ts';
import { providerYaml } from '../support/provider-yaml.ts';
import { webAgent } from '../support/web-agent.ts';

let idp: Idp;
let local: Local;
let portal: ChildProcess;
let origin: string;
let said = '';

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => resolve(port));
    });
  });

before(async () => {
  idp = await startIdp();
  const port = await freePort();
  origin = `http://localhost:${port}`;
  idp.setPortalRedirects([`${origin}/callback`]);
  local = await startLocal({
    'all.yaml': `${CONNECTION('payments')}${POLICY('payments')}---
apiVersion: v1
kind: Secret
metadata: {name: reader, namespace: payments}
stringData: {username: reader, password: r, sallyport-hosts: localhost}
---
apiVersion: v1
kind: Secret
metadata: {name: writer, namespace: payments}
stringData: {username: writer, password: w, sallyport-hosts: localhost}
---
apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: deploys, namespace: payments}
spec:
  connectionSelector: {}
  subjects: [{kind: Claim, provider: corp, claims: {repository_id: '77', ref: refs/heads/main}}]
  accounts: [writer]
  approval: {steps: [{name: dba, approvers: [{kind: Group, name: 'corp:dba'}]}]}
  rules: [{name: all, action: Allow}]
---
${providerYaml(
  'corp',
  idp,
  `audiences:
  - {audience: portal, use: ID, clients: [portal]}
  - {audience: ci, use: Workload}
claims: {groups: groups, email: email, workload: [repository_id, ref]}`,
)}`,
  });
  const secret = path.join(local.home, 'portal-secret');
  fs.mkdirSync(local.home, { recursive: true });
  fs.writeFileSync(secret, `${idp.clients.portal.secret}\n`, { mode: 0o600 });
  const { NODE_OPTIONS: _options, ...env } = local.environment();
  portal = spawn(
    SALLYPORT,
    [
      'portal',
      '--state',
      local.state,
      '--issuer',
      idp.issuer,
      '--client-id',
      'portal',
      '--client-secret-file',
      secret,
    ].concat(['--ca-file', idp.caFile, '--port', String(port), '--scope', 'openid profile email groups']),
    { env, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  portal.stdout!.on('data', (bytes: Buffer) => (said += bytes.toString()));
  portal.stderr!.on('data', (bytes: Buffer) => (said += bytes.toString()));
  await until(
    'the page',
    async () => (await fetch(`${origin}/readyz`).catch(() => undefined))?.ok || undefined,
    30_000,
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${said}`);
  });
});
after(async () => {
  if (portal?.exitCode === null && portal.signalCode === null) {
    const gone = new Promise((resolve) => portal.once('exit', resolve));
    portal.kill('SIGTERM');
    await gone;
  }
  await local?.stop();
  await idp?.stop();
});

/** The agent of tests speaks TLS only; this one follows by hand what the page and the provider answer. */
async function logIn(user: string): Promise<{ cookie: string }> {
  const begun = await fetch(`${origin}/login?return=/pending`, { redirect: 'manual' });
  const early = begun.headers.get('set-cookie')!.split(';')[0]!;
  const back = await idp.authorize(begun.headers.get('location')!, user, agent);
  const done = await fetch(back, { redirect: 'manual', headers: { cookie: early } });
  assert.equal(done.status, 303, said);
  assert.equal(done.headers.get('location'), '/pending');
  return { cookie: done.headers.get('set-cookie')!.split(';')[0]! };
}
let agent: ReturnType<typeof webAgent>;

const hidden = (body: string, action: string): Record<string, string> => {
  const form = new RegExp(`<form\\b[^>]*action="${action}"[^>]*>([\\s\\S]*?)</form>`).exec(body)?.[1] ?? '';
  return Object.fromEntries(
    [...form.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)"/g)].map(([, name, value]) => [
      name!,
      value!,
    ]),
  );
};

test('a manager without anything but a browser grants access', async () => {
  agent = webAgent(idp.ca, [new URL(idp.issuer).origin]);
  const client = createClient(local.state, 'sallyport');
  const asked = await local.cli(
    ['request', 'orders-db', '-n', 'payments', '--reason', 'INC-1', '--account', 'writer', '--policy', 'team'],
    { as: 'corp:alice', groups: ['corp:app-team'] },
  );
  assert.match(asked.stdout, /Pending/, asked.output);
  const grant = (await client.list<AccessGrant>('AccessGrant')).find((each) => each.spec.reason === 'INC-1')!;
  const { cookie } = await logIn('bob');
  const page = await (await fetch(`${origin}/grants/payments/${grant.metadata.name}`, { headers: { cookie } })).text();
  const sent = await fetch(`${origin}/decide`, {
    method: 'POST',
    redirect: 'manual',
    headers: { cookie, origin, 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({ ...hidden(page, '/decide'), decision: 'Approve', reason: 'fine' }).toString(),
  });
  assert.equal(sent.status, 303, await sent.text());
  const back = await idp.authorize(sent.headers.get('location')!, 'bob', agent);
  const done = await fetch(back, { headers: { cookie } });
  assert.match(await done.text(), /Approved\./, said);
  const active = await client.get<AccessGrant>('AccessGrant', 'payments', grant.metadata.name);
  assert.equal(active?.status?.phase, 'Active');
  const vote = (await client.list<AccessApproval>('AccessApproval')).find(
    (each) => each.spec.targetRef.uid === grant.metadata.uid,
  );
  assert.deepEqual([vote?.spec.approver?.via, vote?.spec.approver?.username], ['Portal', 'corp:bob']);
  assert.ok(!said.includes('eyJ'), 'no token in the log');
});

const job = (claims: Record<string, unknown>): Promise<string> =>
  idp.tokenFor('repo', {
    use: 'ID',
    client: 'ci',
    audience: 'ci',
    claims: { nonce: undefined, auth_time: undefined, ...claims },
  });
const call = async (token: string, where: string, body?: object) => {
  const answer = await fetch(`${origin}/v1/requests${where}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: answer.status, body: (await answer.json()) as RequestView & { error?: { message: string } } };
};

test('a pipeline asks by its token, once, and sees its own request and no other’s', async () => {
  const wanted = {
    namespace: 'payments',
    connection: 'orders-db',
    clientKey: generateClientKey().publicKey,
    reason: 'release 41',
  };
  const token = await job({ repository_id: '77', ref: 'refs/heads/main' });
  const made = await call(token, '', wanted);
  assert.equal(made.status, 201, JSON.stringify(made.body) + said);
  const again = await call(token, '', wanted);
  assert.equal(again.status, 409, JSON.stringify(again.body));
  const where = `/payments/${made.body.name}`;
  const seen = await until('the operator', async () => {
    const answer = await call(await job({ repository_id: '77', ref: 'refs/heads/main' }), where);
    return answer.body.waitingFor === undefined ? undefined : answer;
  });
  assert.equal(seen.body.phase, 'Pending');
  assert.equal(seen.body.link, `${origin}/grants/payments/${made.body.name}`);
  assert.equal(seen.body.connection.type, 'PostgreSQL');
  const grant = await createClient(local.state, 'sallyport').get<AccessGrant>(
    'AccessGrant',
    'payments',
    made.body.name,
  );
  assert.equal(grant?.spec.requester?.via, 'Pipeline');
  assert.deepEqual(grant?.spec.requester?.workload?.claims['repository_id'], '77');
  const stranger = await idp.tokenFor('other', {
    use: 'ID',
    client: 'ci',
    audience: 'ci',
    claims: { auth_time: undefined },
  });
  assert.equal((await call(stranger, where)).status, 404);
  assert.equal((await call('a.b.c', where)).status, 401);
  const branch = await call(await job({ repository_id: '77', ref: 'refs/heads/other' }), '', wanted);
  assert.equal(branch.status, 403, JSON.stringify(branch.body));
});

test('a pipeline takes its request back', async () => {
  const token = await job({ repository_id: '77', ref: 'refs/heads/main' });
  const wanted = { namespace: 'payments', connection: 'orders-db', clientKey: generateClientKey().publicKey };
  const made = await call(token, '', wanted);
  assert.equal(made.status, 201, JSON.stringify(made.body));
  const taken = await call(
    await job({ repository_id: '77', ref: 'refs/heads/main' }),
    `/payments/${made.body.name}/withdraw`,
    {},
  );
  assert.equal(taken.status, 200, JSON.stringify(taken.body));
  assert.equal(taken.body.phase, 'Denied');
});
