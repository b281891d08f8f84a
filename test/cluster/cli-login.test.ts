// login and whoami of `kubectl access` against a real API server and a real OpenID provider.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { skipWithoutCluster } from '../support/cluster/control-plane.ts';
import { type Idp, startIdp } from '../support/idp.ts';
import { type Bed, openBed } from './cli-bed.ts';

const skip = await skipWithoutCluster();
const it = (name: string, act: () => Promise<void>): void => void test(name, { skip }, act);

const env = { SALLYPORT_TOKEN_STORE: 'file' };
let bed: Bed;
let idp: Idp;

before(async () => {
  if (skip !== false) return;
  [bed, idp] = await Promise.all([openBed(), startIdp()]);
});
after(async () => {
  await bed?.close();
  await idp?.stop();
});

it('whoami says who the API server takes one for; without an IdentityProvider login says what is missing', async () => {
  const who = await bed.as('alice', ['whoami', '-o', 'json']);
  assert.equal(who.code, 0, who.err);
  const told = JSON.parse(who.out) as { place: string; actor: { username: string }; logins: unknown[] };
  assert.equal(told.actor.username, 'alice');
  assert.equal(told.place, `cluster ${bed.plane.server}`);
  assert.deepEqual(told.logins, []);
  const closed = await bed.as('alice', ['login', '--no-browser']);
  assert.equal(closed.code, 77, closed.err);
  assert.match(closed.err, /may not read where people log in[\s\S]*--issuer URL/);
  // As the chart brings it.
  await bed.plane.apply({
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRoleBinding',
    metadata: { name: 'sallyport-login' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'sallyport-login' },
    subjects: [{ kind: 'Group', name: 'system:authenticated', apiGroup: 'rbac.authorization.k8s.io' }],
  });
  const none = await bed.as('alice', ['login', '--no-browser']);
  assert.equal(none.code, 78, none.err);
  assert.match(none.err, /No IdentityProvider says how people log in/);
});

it('login goes where the cluster’s IdentityProvider says, and belongs to this cluster', async () => {
  await bed.plane.apply({
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'IdentityProvider',
    metadata: { name: 'corp' },
    spec: {
      issuer: idp.issuer,
      caBundle: idp.ca,
      audiences: [{ audience: idp.audience, use: 'Access', clients: ['cli', 'cli-device'] }],
      claims: { username: 'preferred_username', groups: 'groups' },
      login: { clientId: 'cli', deviceClientId: 'cli-device', oauthScope: 'sallyport' },
    },
  });
  let said = '';
  let opened: Promise<unknown> | undefined;
  const done = await bed.as('alice', ['login', '--no-browser'], {
    env,
    onErr(text) {
      said += text;
      const url = /^(https:\S+)$/m.exec(said)?.[1];
      if (url !== undefined) opened ??= idp.authorize(url, 'alice').then((back) => fetch(back));
    },
  });
  await opened;
  assert.equal(done.code, 0, done.err + said);
  const who = await bed.as('alice', ['whoami'], { env });
  assert.match(who.out, /As\s+corp:alice/);
  const out = await bed.as('alice', ['logout'], { env });
  assert.equal(out.code, 0, out.err);
});
