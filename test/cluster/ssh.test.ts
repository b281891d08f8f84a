// A Connection of type SSH on a real API server: keys that the operator derives and hands to a proxy's process sealed,
// people's own OpenSSH through `kubectl access`, and what stays over the end of a proxy.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { Connection } from '../../src/api/connection.ts';
import type { ProxyReplica } from '../../src/api/replica.ts';
import { type ControlPlane, startControlPlane } from '../support/cluster/control-plane.ts';
import {
  ok,
  type ProxyProgram,
  SALLYPORT_USERS,
  type Sallyport,
  startSallyport,
  until,
} from '../support/cluster/sallyport.ts';
import { podRuns, skipWithoutTunnels, tunnelEndpoints } from '../support/cluster/service-pods.ts';
import { type Sshd, startSshd } from '../support/sshd.ts';

const API = '/apis/sallyport.dev/v1alpha1/namespaces/fleet';
const ENDPOINTS = 'system:serviceaccount:kube-system:endpoint-controller';
const KUBECTL_ACCESS = path.resolve(import.meta.dirname, '../../bin/kubectl-access');
const skip = await skipWithoutTunnels();
const it = (name: string, act: () => Promise<void>): void => void test(name, { skip }, act);

let sshd: Sshd;
let plane: ControlPlane;
let sallyport: Sallyport;
let proxy: ProxyProgram;
let home: string;

const replica = async (): Promise<ProxyReplica> =>
  ok(await sallyport.admin.get<ProxyReplica>(`${API}/proxyreplicas/sallyport-web1-0`));
const connection = async (): Promise<Connection> =>
  ok(await sallyport.admin.get<Connection>(`${API}/connections/web1`));

before(async () => {
  if (skip !== false) return;
  sshd = await startSshd();
  plane = await startControlPlane({
    users: [{ name: 'alice', groups: ['ops'] }, { name: ENDPOINTS, groups: ['system:masters'] }, ...SALLYPORT_USERS],
  });
  sallyport = await startSallyport(plane);
  home = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-home-'));
  await plane.apply(
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'fleet' } },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: 'requester-alice', namespace: 'fleet' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'sallyport-requester' },
      subjects: [{ kind: 'User', name: 'alice', apiGroup: 'rbac.authorization.k8s.io' }],
    },
    {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'Connection',
      metadata: { name: 'web1', namespace: 'fleet' },
      spec: {
        type: 'SSH',
        ssh: { host: 'web1.fleet.svc', port: sshd.port, hostKeys: [sshd.hostKey] },
        accounts: [{ name: sshd.user, secretRef: { name: 'web1' } }],
      },
    },
    {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'AccessPolicy',
      metadata: { name: 'ops', namespace: 'fleet' },
      spec: {
        connectionSelector: { names: ['web1'] },
        subjects: [{ kind: 'Group', name: 'ops' }],
        accounts: [sshd.user],
        rules: [{ name: 'echo', action: 'Allow', ssh: { commands: ['echo **', 'true'] } }],
      },
    },
  );
  proxy = await sallyport.startProxy('fleet', 'sallyport-web1', {
    web1: {
      username: sshd.user,
      'ssh-privatekey': sshd.privateKey,
      'sallyport-hosts': `web1.fleet.svc:${sshd.port}`,
    },
  });
  ok(await podRuns(plane.clientFor('system:node:n1'), 'fleet', 'sallyport-web1-0'));
  // The Service has pods that nobody runs: the API server is told where the proxy's tunnel really is.
  const endpoints = tunnelEndpoints('fleet', 'sallyport-web1', proxy.tunnelPort);
  ok(await plane.clientFor(ENDPOINTS).create('/api/v1/namespaces/fleet/endpoints', endpoints));
});
after(async () => {
  await sallyport?.stop();
  await plane?.stop();
  await sshd?.stop();
  if (home !== undefined) fs.rmSync(home, { recursive: true, force: true });
});

function run(program: string, args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const env = {
    ...process.env,
    PATH: `${path.dirname(KUBECTL_ACCESS)}:${plane.binaries}:${process.env['PATH']}`,
    KUBECONFIG: plane.kubeconfig('alice'),
    SALLYPORT_HOME: home,
    NO_COLOR: '1',
  };
  return new Promise((resolve) => {
    const child = execFile(program, args, { env, timeout: 60_000 }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr }),
    );
    child.stdin?.end();
  });
}
const access = (...args: string[]) => run(KUBECTL_ACCESS, [...args.slice(0, 1), '-n', 'fleet', ...args.slice(1)]);

it('the Connection is Ready and publishes keys; the seed is in the API as ciphertext, for this process alone', async () => {
  const seen = await until('the Connection to be Ready', async () => {
    const now = await connection();
    const ready = now.status?.conditions?.find(({ type }) => type === 'Ready');
    if (ready?.status !== 'True') throw new Error(`${ready?.reason}: ${ready?.message}`);
    return now;
  });
  assert.match(seen.status?.ssh?.userAuthority ?? '', /^ssh-ed25519 /);
  assert.ok(
    seen.status?.ssh?.knownHosts?.every((line) => line.includes('web1.fleet.sallyport,sallyport-web1.fleet.svc ')),
  );
  const { spec, status } = await replica();
  const keys = status?.connections?.[0]?.keys;
  assert.match(spec.keyAgreement ?? '', /^[A-Za-z0-9_-]{43}$/);
  assert.equal(Buffer.from(keys?.sealed ?? '', 'base64url').length, 80);
  assert.equal(keys?.certificates.length, 2);
});

it('request, connect and ssh by name through the API server; what no rule allows is refused', async () => {
  const asked = await access('request', 'web1', '--for', '1h', '--reason', 'INC-1', '--wait');
  assert.equal(asked.code, 0, asked.stderr);
  // The API server may take a moment to hear of the Service's address.
  const ran = await until('the tunnel', async () => {
    const tried = await access('connect', 'web1', '--tunnel', '--', 'echo', 'through', 'the', 'tunnel');
    if (tried.code === 69) throw new Error(tried.stderr);
    return tried;
  });
  assert.equal(ran.stdout, 'through the tunnel\n', ran.stderr);
  const denied = await access('connect', 'web1', '--tunnel', '--', 'id');
  assert.equal(denied.code, 77, denied.stderr);
  assert.match(denied.stderr, /Sallyport refused .*Nothing reached the target/s);
  const config = await access('ssh-config', '--write', '--tunnel');
  assert.equal(config.code, 0, config.stderr);
  const byName = await run('ssh', ['-F', config.stdout.trim(), 'web1', 'echo', 'by', 'name']);
  assert.equal(byName.stdout, 'by name\n', byName.stderr);
});

it('INV-10: the next process of the proxy has the same keys, sealed anew; clients that know them get in', async () => {
  const before = await connection();
  const sealed = (await replica()).status?.connections?.[0]?.keys?.sealed;
  await proxy.end();
  await proxy.start();
  await until('another seal', async () => (await replica()).status?.connections?.[0]?.keys?.sealed !== sealed);
  assert.deepEqual((await connection()).status?.ssh, before.status?.ssh);
  const ran = await access('connect', 'web1', '--tunnel', '--', 'echo', 'again');
  assert.equal(ran.stdout, 'again\n', ran.stderr);
});
