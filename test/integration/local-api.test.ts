// The local API and the folders it stands on, as somebody would try them who means no good. No database is needed.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { type Local, startLocal } from '../support/local.ts';

const YAML = `apiVersion: sallyport.dev/v1alpha1
kind: Connection
metadata: {name: orders-db, namespace: payments}
spec:
  type: PostgreSQL
  postgresql: {host: 127.0.0.1, port: 9}
  accounts: [{name: writer, secretRef: {name: writer}}]
---
apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: team, namespace: payments}
spec:
  connectionSelector: {}
  subjects: [{kind: Group, name: dev}]
  accounts: [writer]
  approval: {steps: [{name: dba, approvers: [{kind: Group, name: dba}]}]}
  rules: [{name: all, action: Allow}]
`;
let local: Local;
before(async () => {
  local = await startLocal({ 'all.yaml': YAML });
});
after(() => local?.stop());

interface Answer {
  status: number;
  body: Record<string, unknown> & { error?: { message: string } };
}
function call(method: string, route: string, body?: unknown, raw?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request(
      { socketPath: path.join(local.state, 'api.sock'), method, path: route, agent: false },
      (response) => {
        let text = '';
        response.on('data', (part: Buffer) => (text += part.toString()));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as Answer['body'] }),
        );
      },
    );
    request.on('error', reject);
    request.end(raw ?? (body === undefined ? undefined : JSON.stringify(body)));
  });
}
const alice = { username: 'alice', groups: ['dev'] };
const grant = (spec: object = {}, kind = 'AccessGrant'): object => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind,
  metadata: { name: 'orders-db-', namespace: 'payments' },
  spec: { connectionRef: { name: 'orders-db' }, ...spec },
});

test('INV-05: the socket, the state and the keys are their owner’s alone', () => {
  const mode = (name: string): number => fs.statSync(path.join(local.state, name)).mode & 0o777;
  assert.equal(mode(''), 0o700);
  assert.equal(mode('api.sock'), 0o600);
  assert.equal(mode('pki/operator.pem'), 0o600);
  assert.equal(mode('pki/ca.key'), 0o600);
});

test('INV-08: nobody stamps themselves, and nobody makes what is not for people', async () => {
  const stamp = {
    via: 'Local',
    username: 'dana',
    specHash: '0'.repeat(64),
    nonce: 'n',
    at: new Date().toISOString(),
    seal: 'x.y',
  };
  const stamped = await call('POST', '/v1/create', { actor: alice, object: grant({ requester: stamp }) });
  assert.notEqual(stamped.body['kind'], 'Ok', JSON.stringify(stamped.body));
  for (const kind of ['CommandHold', 'Connection', 'AccessPolicy', 'ClusterAccessPolicy', 'Secret', '__proto__']) {
    assert.equal((await call('POST', '/v1/create', { actor: alice, object: grant({}, kind) })).status, 400, kind);
  }
  const made = await call('POST', '/v1/create', { actor: alice, object: grant({ reason: 'x' }) });
  assert.equal(made.body['kind'], 'Ok', JSON.stringify(made.body));
  const { metadata, spec } = made.body['value'] as {
    metadata: { name: string; namespace: string };
    spec: { requester: { username: string } };
  };
  assert.equal(spec.requester.username, 'alice');
  const deletion = await call('POST', '/v1/delete', {
    actor: alice,
    kind: 'AccessGrant',
    namespace: metadata.namespace,
    name: metadata.name,
  });
  assert.equal(deletion.status, 400);
});

test('who makes a request is one person with a name of their own', async () => {
  for (const actor of [
    undefined,
    {},
    { username: '', groups: [] },
    { username: 'a' },
    { username: 'a', groups: [1] },
    { username: ['a'], groups: [] },
  ]) {
    assert.equal((await call('POST', '/v1/create', { actor, object: grant() })).status, 400, JSON.stringify(actor));
  }
  const system = { username: 'system:serviceaccount:payments:robot', groups: ['dev'] };
  assert.equal((await call('POST', '/v1/create', { actor: system, object: grant() })).status, 403);
});

test('INV-11: what is too large, no JSON, or unknown is refused, and the daemon goes on', async () => {
  assert.equal((await call('POST', '/v1/create', undefined, `{"a":"${'x'.repeat(2 * 1024 * 1024)}"}`)).status, 413);
  for (const raw of ['', '[]', 'null', '{', '"a"'])
    assert.equal((await call('POST', '/v1/create', undefined, raw)).status, 400, raw);
  assert.equal((await call('GET', '/v1/nothing')).status, 404);
  assert.equal((await call('DELETE', '/v1/info')).status, 404);
  assert.equal((await call('GET', '/v1/list?kind=Secret')).status, 400);
  assert.equal((await call('GET', '/v1/list?kind=constructor')).status, 400);
  assert.equal((await call('GET', '/v1/info')).status, 200);
});

test('a state that cannot be right is refused before anything is touched', async () => {
  const inside = await local.cli(['local', local.directory, '--state', path.join(local.directory, 'state')]);
  assert.equal(inside.code, 78, inside.stderr);
  assert.match(inside.stderr, /must not lie in the directory/);
  const open = path.join(local.home, 'open');
  fs.mkdirSync(open, { recursive: true });
  fs.chmodSync(open, 0o755);
  const readable = await local.cli(['local', local.directory, '--state', open]);
  assert.equal(readable.code, 78);
  assert.match(readable.stderr, /chmod 700/);
  const twice = await local.cli(['local', local.directory]);
  assert.equal(twice.code, 78);
  assert.match(twice.stderr, /in use by process/);
  const nothing = await local.cli(['local', '/nonexistent']);
  assert.equal(nothing.code, 78);
  assert.ok((await call('GET', '/v1/info')).status === 200, 'the first one goes on');
});

test('problems of files are told by line while it runs, and gone when mended', async () => {
  const until = async (what: RegExp): Promise<void> => {
    const deadline = Date.now() + 30_000;
    while (!what.test(local.output())) {
      assert.ok(Date.now() < deadline, `waited in vain for ${what}\n${local.output()}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  local.write(
    'more.yaml',
    'apiVersion: sallyport.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: x, namespace: payments}\nspec:\n  subject: []\n',
  );
  await until(/more\.yaml:\d+:\d+: error:.*subject/);
  const problems = (await call('GET', '/v1/problems')).body['problems'] as { file: string; line: number }[];
  assert.ok(problems.some((each) => each.file === 'more.yaml' && each.line > 0));
  fs.rmSync(path.join(local.directory, 'more.yaml'));
  const deadline = Date.now() + 30_000;
  for (;;) {
    const left = ((await call('GET', '/v1/problems')).body['problems'] as { file: string }[]).filter(
      (each) => each.file === 'more.yaml',
    );
    if (left.length === 0) break;
    assert.ok(Date.now() < deadline);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});

test('a renewal names a session and brings a token, or is none', async () => {
  for (const body of [
    {},
    { session: 's-1' },
    { session: 's-1', token: 1 },
    { session: 's-1', token: 't', ticket: {} },
  ]) {
    assert.equal((await call('POST', '/v1/renew', body)).status, 400, JSON.stringify(body));
  }
  const none = await call('POST', '/v1/renew', { session: 's-1', token: 't' });
  assert.deepEqual(none.body, { kind: 'Refused', code: 'NoSession', message: 'There is no such session here.' });
});
