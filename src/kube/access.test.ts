import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { sendJson, startTestServer } from '../../test/support/cluster/http-server.ts';
import { impersonating, inClusterAccess, tokenAccess } from './access.ts';
import { openAuthProvider } from './auth-provider.ts';
import { createKubeClient } from './client.ts';
import { resourcePath } from './paths.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-access-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

test('in a pod the token and the CA are those of now, also after kubelet swapped them', async () => {
  const generation = (n: number): void => {
    fs.mkdirSync(path.join(folder, `..${n}`));
    fs.writeFileSync(path.join(folder, `..${n}`, 'token'), `token-${n}\n`);
    fs.writeFileSync(path.join(folder, `..${n}`, 'ca.crt'), `ca-${n}`);
    fs.writeFileSync(path.join(folder, `..${n}`, 'namespace'), 'payments');
    // As kubelet does: a link is replaced, so that no file is ever half new.
    fs.symlinkSync(`..${n}`, path.join(folder, 'next'));
    fs.renameSync(path.join(folder, 'next'), path.join(folder, '..data'));
  };
  generation(1);
  for (const name of ['token', 'ca.crt', 'namespace']) fs.symlinkSync(`..data/${name}`, path.join(folder, name));
  const env = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' };
  const access = inClusterAccess({ folder, env });
  assert.ok(access);
  assert.equal(access.server, 'https://[fd00::1]:443');
  assert.equal(access.namespace, 'payments');
  assert.deepEqual([await access.headers(), access.ca], [{ authorization: 'Bearer token-1' }, 'ca-1']);
  generation(2);
  assert.deepEqual([await access.headers(), access.ca], [{ authorization: 'Bearer token-2' }, 'ca-2']);
  fs.rmSync(path.join(folder, '..data'));
  assert.deepEqual(await access.headers(), { authorization: 'Bearer token-2' }, 'a swap under way changes nothing');
  assert.equal(inClusterAccess({ folder, env: {} }), undefined);
  assert.throws(() => inClusterAccess({ folder: '/nowhere', env }));
});

test('who impersonates says whom, with every group', async () => {
  const server = await startTestServer((_request, response) => sendJson(response, 200, {}));
  const client = createKubeClient(
    impersonating(tokenAccess(server.url, 't'), { username: 'alice', uid: 'u1', groups: ['a', 'b'] }),
  );
  await client.get('/x');
  const { headers } = server.requests[0]!;
  assert.equal(headers.authorization, 'Bearer t');
  assert.deepEqual(
    [headers['impersonate-user'], headers['impersonate-uid'], headers['impersonate-group']],
    ['alice', 'u1', 'a, b'],
  );
  await client.close();
  await server.close();
});

test('no name reaches another path', () => {
  const kind = { group: 'sallyport.dev', version: 'v1alpha1', plural: 'accessgrants' };
  assert.equal(
    resourcePath(kind, { namespace: 'a/b', name: '../x?y', subresource: 'status' }),
    '/apis/sallyport.dev/v1alpha1/namespaces/a%2Fb/accessgrants/..%2Fx%3Fy/status',
  );
  assert.equal(resourcePath({ group: '', version: 'v1', plural: 'pods' }), '/api/v1/pods');
  for (const name of ['', '.', '..']) assert.throws(() => resourcePath(kind, { name }), TypeError);
});

test('an auth-provider gives its token; one that is not known says so', async () => {
  const expires = new Date(Date.now() + 3_600_000).toISOString();
  const headers = await openAuthProvider({
    name: 'gcp',
    config: { 'access-token': 'from-provider', expiry: expires },
  });
  assert.deepEqual(await headers(), { authorization: 'Bearer from-provider' });
  await assert.rejects((await openAuthProvider({ name: 'nobody', config: {} }))());
});
