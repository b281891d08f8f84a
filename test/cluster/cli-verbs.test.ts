// `kubectl access` on a real API server, with the project's own controllers behind it: every verb, and what goes wrong.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { AccessGrant } from '../../src/api/grant.ts';
import { pathOf } from '../../src/cli/cluster/plurals.ts';
import { skipWithoutCluster } from '../support/cluster/control-plane.ts';
import { until } from '../support/cluster/until.ts';
import { type Bed, inPayments, openBed, type Run, runCli } from './cli-bed.ts';

const skip = await skipWithoutCluster();
let bed: Bed;
before(async () => {
  if (skip === false) bed = await openBed();
});
after(() => bed?.close());
const it = (name: string, act: () => Promise<void>): void => void test(name, { skip }, act);

const grantIn = ({ out }: Run): string => /orders-db-[a-z0-9]{5}/.exec(out)?.[0] ?? assert.fail(`no grant in: ${out}`);
async function active(user: 'alice' | 'bob'): Promise<string> {
  const name = grantIn(await bed.as(user, ['request', 'orders-db', '--for', '1h', '--reason', 'INC-1']));
  const approved = await bed.as('carol', ['approve', name, '--yes']);
  assert.equal(approved.code, 0, approved.err);
  return name;
}

it('a request goes from pending over approval to active and is revoked, each step told', async () => {
  const asked = await bed.as('alice', ['request', 'orders-db', '--for', '1h', '--reason', 'INC-1']);
  assert.equal(asked.code, 75, asked.err);
  const name = grantIn(asked);
  assert.match(asked.out, /is Pending: it needs 1 of group dba .*\nAn approver runs: kubectl access approve/);
  const pending = await bed.as('carol', ['pending']);
  assert.match(pending.out, new RegExp(`${name} +alice +payments/orders-db as writer +1h +INC-1`));
  const approved = await bed.as('carol', ['approve', name, '--yes', '--reason', 'ok']);
  assert.equal(approved.code, 0, approved.err);
  assert.match(approved.out, /is Active until/);
  const status = await bed.as('alice', ['status', name]);
  assert.match(status.out, /Approved by +carol \(step dba\): ok/);
  const seen = JSON.parse((await bed.as('alice', ['status', name, '-o', 'json'])).out) as AccessGrant;
  assert.equal(seen.spec.requester?.via, 'Kubernetes');
  assert.equal((await bed.as('alice', ['status', '-o', 'name'])).out.trim(), `accessgrant/${name}`);
  const dsn = await bed.as('alice', ['dsn', 'orders-db']);
  assert.equal(dsn.code, 0, dsn.err);
  assert.match(
    dsn.out,
    /^postgresql:\/\/writer:[^@]+@sallyport-orders-db\.payments\.svc:5432\/postgres\?sslmode=verify-full/,
  );
  assert.match(dsn.err, /a name for pods of the cluster/);
  const revoked = await bed.as('carol', ['revoke', name, '--yes']);
  assert.match(revoked.out, /is Revoked/, revoked.err);
  assert.equal((await bed.as('alice', ['dsn', 'orders-db'])).code, 77);
});

it('INV-08: nobody approves their own request, and whoever is no approver does not count', async () => {
  const name = grantIn(await bed.as('alice', ['request', 'orders-db']));
  for (const who of ['alice', 'bob']) {
    const { code, err } = await bed.as(who, ['approve', name, '--yes']);
    assert.equal(code, 77);
    assert.match(err, /It does not count\./);
  }
  const withdrawn = await bed.as('alice', ['withdraw', name, '--yes']);
  assert.equal(withdrawn.code, 0, withdrawn.err);
  assert.match((await bed.as('alice', ['status', name])).out, /\(Denied\)|\(Revoked\)/);
});

it('--wait follows the grant by watch, and outlives an API server that is killed meanwhile', async () => {
  let said = '';
  const waiting = bed.as('alice', ['request', 'orders-db', '--wait', '-o', 'json'], {
    onErr: (text) => (said += text),
  });
  // Who has not begun to wait can not tell a server that knows nobody yet from one that refuses.
  await until(() => said.includes(' waits for '));
  const name = /orders-db-[a-z0-9]{5}/.exec(said)![0];
  await bed.plane.killApiServer();
  await bed.plane.startApiServer();
  await until(async () => (await bed.as('carol', ['approve', name, '--yes'])).code === 0, 'the approval', 60_000);
  const { code, out, err } = await waiting;
  assert.equal(code, 0, err);
  assert.equal((JSON.parse(out) as AccessGrant).status?.phase, 'Active');
  assert.equal((await bed.as('alice', ['withdraw', name, '--yes'])).code, 0);
});

it('what no policy gives is refused before anything is made', async () => {
  const long = await bed.as('alice', ['request', 'orders-db', '--for', '9h']);
  assert.equal(long.code, 77);
  assert.match(long.err, /allows at most 2h, and 9h was asked for/);
  const stranger = await bed.as('carol', ['request', 'orders-db']);
  assert.equal(stranger.code, 77);
  assert.match(stranger.err, /No policy gives carol access to payments\/orders-db/);
  const missing = await bed.as('alice', ['request', 'nothing-db']);
  assert.equal(missing.code, 78);
  assert.match(
    missing.err,
    /There is no Connection nothing-db in namespace payments\nhint: There is payments\/orders-db/,
  );
});

it('who may not read policies still requests; the operator decides', async () => {
  await bed.plane.apply(
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: { name: 'narrow', namespace: 'payments' },
      rules: [
        { apiGroups: ['sallyport.dev'], resources: ['connections'], verbs: ['get', 'list'] },
        { apiGroups: ['sallyport.dev'], resources: ['accessgrants'], verbs: ['create', 'get', 'list'] },
      ],
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: 'narrow', namespace: 'payments' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'narrow' },
      subjects: [{ kind: 'User', name: 'mallory', apiGroup: 'rbac.authorization.k8s.io' }],
    },
  );
  await until(async () => (await bed.as('mallory', ['ls'])).code === 0, 'the Role');
  assert.match((await bed.as('mallory', ['ls'])).out, /orders-db .* unknown +-/);
  // No right to watch either: it is looked at again and again instead.
  const { code, out, err } = await bed.as('mallory', ['request', 'orders-db']);
  assert.equal(code, 75, err);
  assert.match(out, /it needs No policy gives mallory access/);
});

it('a refusal of RBAC names verb, kind and namespace, and the line that mends it', async () => {
  const lock = await bed.as('alice', ['lock', '--everything', '--reason', 'x']);
  assert.equal(lock.code, 77);
  assert.match(
    lock.err,
    /alice may not create accesslocks in namespace payments\. Nothing was changed\.\nhint: An admin types: kubectl create rolebinding sallyport-security-alice --clusterrole=sallyport-security --user=alice -n payments/,
  );
  const everywhere = await bed.as('alice', ['ls', '-A']);
  assert.equal(everywhere.code, 77);
  assert.match(everywhere.err, /in all namespaces/);
  // The line works as it is printed.
  const line = /kubectl (create rolebinding .*)/.exec(lock.err)![1]!.split(' ');
  await bed.plane.kubectl(line);
  await until(
    async () => (await bed.as('alice', ['lock', '--user', 'nobody', '--reason', 'x'])).code === 0,
    'the binding',
  );
  await bed.plane.kubectl(['delete', 'rolebinding', 'sallyport-security-alice', '-n', 'payments']);
});

it('lock and unlock, and ls shows what is locked', async () => {
  const locked = await bed.as('carol', ['lock', '--connection', 'orders-db', '--for', '2h', '--reason', 'restore']);
  assert.equal(locked.code, 0, locked.err);
  const name = /payments\/(lock-[a-z0-9]+)/.exec(locked.out)![1]!;
  assert.match((await bed.as('alice', ['ls'])).out, new RegExp(`Locked: payments/${name}: restore`));
  const unlocked = await bed.as('carol', ['unlock', name]);
  assert.equal(unlocked.code, 0, unlocked.err);
  assert.equal((await bed.as('carol', ['unlock', name])).code, 1);
});

it('sessions lists AccessSessions, kill deletes one; a young session ends with its grant', async () => {
  await bed.plane.apply({
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'AccessSession',
    metadata: { name: 's-5w2mc', namespace: 'payments' },
    spec: {
      connectionRef: { name: 'orders-db' },
      grantRef: { name: 'orders-db-aaaaa', uid: 'u' },
      username: 'alice',
      account: 'writer',
      client: 'tunnel/192.0.2.7',
      replica: 'sallyport-orders-db-0',
      startedAt: new Date().toISOString(),
    },
  });
  const list = await bed.as('carol', ['sessions']);
  assert.match(list.out, /s-5w2mc +alice +payments\/orders-db +writer +orders-db-aaaaa +tunnel\/192\.0\.2\.7 +Live/);
  const refused = await bed.as('alice', ['kill', 's-5w2mc']);
  assert.equal(refused.code, 77);
  assert.match(refused.err, /alice may not delete accesssessions s-5w2mc/);
  const killed = await bed.as('carol', ['kill', 's-5w2mc', 's-other']);
  assert.equal(killed.code, 1);
  assert.match(killed.out, /Session s-5w2mc was cut/);
  assert.match(killed.err, /no session s-other\nhint: .*\nhint: .*once it is 5 s old.*revoke GRANT/);
  assert.match((await bed.as('carol', ['sessions'])).out, /No session is open/);
});

it('a held statement is shown and decided', async () => {
  const grant = await active('bob');
  const admin = bed.plane.clientFor();
  const stored = await admin.get<AccessGrant>(pathOf('AccessGrant', { namespace: 'payments', name: grant }));
  assert.equal(stored.kind, 'Ok');
  const { requester, connectionRef } = stored.value.spec;
  await bed.plane.apply({
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'CommandHold',
    metadata: { name: 'h-3b7', namespace: 'payments' },
    spec: {
      connectionRef,
      grantRef: { name: grant, uid: stored.value.metadata.uid },
      sessionId: 's-1',
      requester: { username: 'bob', uid: requester?.uid, groups: requester?.groups },
      command: "update orders set state = 'refunded'",
      hiddenLiterals: 0,
      commandHash: 'a'.repeat(64),
      rules: [{ policy: 'payments/orders-team', rule: 'unbounded-write' }],
      reason: 'no WHERE',
      requirements: [{ rule: 'unbounded-write', count: 1, approvers: [{ kind: 'Group', name: 'dba' }] }],
      requestedAt: new Date().toISOString(),
      until: new Date(Date.now() + 60_000).toISOString(),
    },
  });
  assert.match((await bed.as('carol', ['holds'])).out, /h-3b7 +bob +payments\/orders-db +Waiting +update orders/);
  assert.match(
    (await bed.as('carol', ['status', 'h-3b7'])).out,
    /Held by +payments\/orders-team rule "unbounded-write"/,
  );
  const denied = await bed.as('carol', ['deny', 'h-3b7', '--yes', '--reason', 'add a WHERE']);
  assert.equal(denied.code, 0, denied.err);
  assert.match(denied.out, /h-3b7 is Denied/);
  assert.equal((await bed.as('carol', ['revoke', grant, '--yes'])).code, 0);
});

it('a grant written as YAML with a key of one’s own is found by connect; one without a key says what to do', async () => {
  const made = await bed.as('alice', ['key', 'orders-db']);
  assert.equal(made.code, 0, made.err);
  assert.match(made.out, /clientKey: [A-Za-z0-9_-]{43}\n/);
  const { stdout } = await bed.plane.kubectl(['create', '-f', '-', '-o', 'name'], { user: 'alice', input: made.out });
  const name = stdout.trim().split('/')[1]!;
  assert.equal((await bed.as('carol', ['approve', name, '--yes'])).code, 0);
  assert.equal((await bed.as('alice', ['dsn', 'orders-db', '--grant', name])).code, 0);
  // From another machine the same grant is of no use, and that is what is said.
  const elsewhere = await bed.as('alice', ['dsn', 'orders-db'], {
    env: { SALLYPORT_HOME: path.join(bed.home, 'other') },
  });
  assert.equal(elsewhere.code, 78);
  assert.match(elsewhere.err, new RegExp(`The key of grant ${name} is not usable`));
  await bed.as('alice', ['withdraw', name, '--yes']);

  const keyless = made.out.replace(/ {2}clientKey: .*\n/, '');
  const bare = (await bed.plane.kubectl(['create', '-f', '-', '-o', 'name'], { user: 'alice', input: keyless })).stdout
    .trim()
    .split('/')[1]!;
  assert.equal((await bed.as('carol', ['approve', bare, '--yes'])).code, 0);
  const unusable = await bed.as('alice', ['dsn', 'orders-db']);
  assert.equal(unusable.code, 78);
  assert.match(unusable.err, /names no key .*\nhint: Print YAML with a key of yours: kubectl access key orders-db/);
  await bed.as('alice', ['withdraw', bare, '--yes']);
});

it('--as is impersonation: who may impersonate is that person, others are refused', async () => {
  const asked = await bed.as('admin', [
    'request',
    'orders-db',
    '--as',
    'alice',
    '--as-group',
    'payments',
    '--for',
    '30m',
  ]);
  assert.equal(asked.code, 75, asked.err);
  assert.match(asked.out, /connect orders-db --wait --as alice --as-group payments/);
  const name = grantIn(asked);
  const seen = JSON.parse((await bed.as('carol', ['status', name, '-o', 'json'])).out) as AccessGrant;
  assert.equal(seen.spec.requester?.username, 'alice');
  // The impersonating admin in the group of approvers is still the requester's own vote under another flag.
  const other = await bed.as('alice', ['ls', '--as', 'carol']);
  assert.equal(other.code, 77);
  assert.match(other.err, /alice may not act as somebody else in cluster test/);
  await bed.as('admin', ['withdraw', name, '--yes', '--as', 'alice', '--as-group', 'payments']);
});

it('why explains a statement by the policies of the cluster, and says what it could not read', async () => {
  const { code, out, err } = await bed.as('alice', ['why', '--connection', 'orders-db', 'drop table orders']);
  assert.equal(code, 0, err);
  assert.match(out, /denied by payments\/orders-team "no-ddl"/);
  assert.match(err, /may not read ClusterAccessPolicies/);
  const denial = await bed.as('alice', ['why', 'd-51c0']);
  assert.equal(denial.code, 78);
});

it('in a pod without a kubeconfig the ServiceAccount is who one is', async () => {
  const admin = bed.plane.clientFor();
  await bed.plane.apply({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'job', namespace: 'payments' } });
  const token = await admin.create<{ status: { token: string } }>(
    '/api/v1/namespaces/payments/serviceaccounts/job/token',
    { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} },
  );
  assert.equal(token.kind, 'Ok');
  const folder = path.join(bed.plane.folder, 'pod');
  fs.mkdirSync(folder);
  fs.writeFileSync(path.join(folder, 'token'), token.value.status.token);
  fs.writeFileSync(path.join(folder, 'ca.crt'), bed.plane.ca);
  fs.writeFileSync(path.join(folder, 'namespace'), 'payments');
  const { hostname, port } = new URL(bed.plane.server);
  const env = {
    HOME: folder,
    PATH: process.env['PATH'] ?? '',
    KUBERNETES_SERVICE_HOST: hostname,
    KUBERNETES_SERVICE_PORT: port,
    SALLYPORT_TOKEN_DIR: folder,
    SALLYPORT_HOME: path.join(folder, 'keys'),
  };
  const refused = await runCli(['ls'], { env });
  assert.equal(refused.code, 77);
  assert.match(refused.err, /--serviceaccount=payments:job -n payments/);
  const line = /kubectl (create rolebinding .*)/.exec(refused.err)![1]!.split(' ');
  await bed.plane.kubectl(line);
  await until(async () => (await runCli(['ls'], { env })).code === 0, 'the binding');
  assert.match((await runCli(['status'], { env })).out, /system:serviceaccount:payments:job has no grants/);
});

it('an exec plugin of the kubeconfig gives the credential; one that fails is named', async () => {
  const plugin = path.join(bed.plane.folder, 'plugin.sh');
  fs.writeFileSync(
    plugin,
    `#!/bin/sh\nprintf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}' "$TOKEN"\n`,
    { mode: 0o755 },
  );
  const config = JSON.parse(fs.readFileSync(inPayments(bed.plane, 'alice'), 'utf8')) as { users: { user: unknown }[] };
  const file = path.join(bed.plane.folder, 'exec.kubeconfig');
  const write = (exec: object): void => {
    config.users[0]!.user = { exec: { apiVersion: 'client.authentication.k8s.io/v1', ...exec } };
    fs.writeFileSync(file, JSON.stringify(config));
  };
  write({ command: './plugin.sh', env: [{ name: 'TOKEN', value: bed.plane.token('alice') }] });
  const good = await bed.as('alice', ['ls', '--kubeconfig', file]);
  assert.equal(good.code, 0, good.err);
  write({ command: 'no-such-plugin', installHint: 'Install it.' });
  const missing = await bed.as('alice', ['ls', '--kubeconfig', file]);
  assert.equal(missing.code, 78);
  assert.match(missing.err, /plugin no-such-plugin is not installed\nhint: Install it\./);
  write({ command: 'false' });
  assert.match((await bed.as('alice', ['ls', '--kubeconfig', file])).err, /plugin false failed with exit code 1/);
});

it('what is wrong with the way to the cluster has its own sentence and exit code', async () => {
  const file = inPayments(bed.plane, 'alice');
  const config = JSON.parse(fs.readFileSync(file, 'utf8')) as {
    clusters: { cluster: Record<string, string> }[];
    users: { user: { token: string } }[];
  };
  const changed = path.join(bed.plane.folder, 'changed.kubeconfig');
  const withConfig = (): Promise<Run> => {
    fs.writeFileSync(changed, JSON.stringify(config));
    return bed.as('alice', ['ls', '--kubeconfig', changed]);
  };
  const { server } = config.clusters[0]!.cluster;
  config.clusters[0]!.cluster['server'] = 'https://127.0.0.1:1';
  const away = await withConfig();
  assert.equal(away.code, 69);
  assert.match(away.err, /Cluster test at https:\/\/127\.0\.0\.1:1 can not be reached/);
  config.clusters[0]!.cluster['server'] = server!;
  const authority = config.clusters[0]!.cluster['certificate-authority-data']!;
  delete config.clusters[0]!.cluster['certificate-authority-data'];
  const unknown = await withConfig();
  assert.equal(unknown.code, 78);
  assert.match(unknown.err, /certificate of https:.* is not the cluster’s/);
  config.clusters[0]!.cluster['certificate-authority-data'] = authority;
  config.users[0]!.user.token = 'wrong';
  const nobody = await withConfig();
  assert.equal(nobody.code, 77);
  assert.match(nobody.err, /does not accept your credentials/);
  const context = await bed.as('alice', ['ls', '--context', 'nope']);
  assert.equal(context.code, 78);
  assert.match(context.err, /no context nope in the kubeconfig\nhint: There is test/);
});

it('without the webhook nothing is made, and that is said; afterwards it works again', async () => {
  await bed.webhook(false);
  const { code, err } = await bed.as('alice', ['request', 'orders-db']);
  assert.equal(code, 69);
  assert.match(err, /operator did not answer.*Nothing was created\.\nhint: Try again/);
  await bed.webhook(true);
  let name = '';
  await until(async () => {
    const asked = await bed.as('alice', ['request', 'orders-db']);
    if (asked.code === 75) name = grantIn(asked);
    return name !== '';
  }, 'the webhook');
  await bed.as('alice', ['withdraw', name, '--yes']);
});

it('a cluster without the kinds is one without Sallyport', async () => {
  await bed.stopOperator();
  await bed.plane.kubectl(['delete', 'crd', 'accesslocks.sallyport.dev']);
  const { code, err } = await bed.as('carol', ['unlock', 'lock-1']);
  assert.equal(code, 78);
  assert.match(err, /Sallyport is not installed in cluster test: it serves no accesslocks/);
});
