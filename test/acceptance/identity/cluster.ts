// The approval page as a pod of a real cluster: a manager without a kubeconfig decides in a browser, and pipelines without
// one ask by their workload tokens. Everybody is where they would be: the identity providers, the browser and the jobs
// outside of the cluster, reached by pods over the network.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import type { Connection } from '../../../src/api/connection.ts';
import type { AccessApproval, AccessGrant } from '../../../src/api/grant.ts';
import { askPsql, ordersAccess, startOrdersScene } from '../../e2e/orders.ts';
import { isReady, NAMESPACE, type Ran, RELEASE, ROOT, run, type Scene, say } from '../../e2e/scene.ts';
import { testCertificates } from '../../support/certificates.ts';
import { type Chromium, startChromium } from '../../support/chromium.ts';
import { helm } from '../../support/helm.ts';
import { type Idp, startIdp } from '../../support/idp.ts';
import { startIssuer, type WorkloadIssuer } from '../../support/workload-issuer.ts';
import type { CriteriaGroup } from '../criterion.ts';

const API = 'sallyport.dev/v1alpha1';
const PORT = 8443;
const MIGRATION = "update orders set state = 'migrated' where id = 7;\n";

let scene: Scene;
let idp: Idp;
let jobs: WorkloadIssuer;
let chromium: Chromium;
let origin = '';
let portalCa = '';

/** What a cloud's controller does once it has an address for a Service: here the node's own. */
async function giveAddress(namespace: string, service: string): Promise<void> {
  const status = { status: { loadBalancer: { ingress: [{ ip: scene.cluster.plan.nodeAddress }] } } };
  await scene.until(`Service ${namespace}/${service}`, async () =>
    scene.cluster
      .kubectl([
        '-n',
        namespace,
        'patch',
        'service',
        service,
        '--subresource=status',
        '--type=merge',
        '-p',
        JSON.stringify(status),
      ])
      .then(
        () => true,
        () => undefined,
      ),
  );
}

const policies = (): object[] => {
  const [, team] = ordersAccess('') as [unknown, { spec: Record<string, unknown> }];
  const approvers = [{ kind: 'Group', name: 'corp:dba' }];
  return [
    { ...team, spec: { ...team.spec, approval: { timeout: '1h', steps: [{ name: 'managers', approvers }] } } },
    {
      apiVersion: API,
      kind: 'AccessPolicy',
      metadata: { name: 'migrations', namespace: NAMESPACE },
      spec: {
        connectionSelector: { names: ['orders-db'] },
        subjects: [
          {
            kind: 'Claim',
            provider: 'ci',
            claims: { repository_id: '740012345', ref: 'refs/heads/main', ref_type: 'branch' },
          },
        ],
        accounts: ['writer'],
        approval: { timeout: '1h', steps: [{ name: 'managers', approvers }] },
        rules: [
          { name: 'read', action: 'Allow', sql: { effects: ['Read', 'Write'] } },
          // Whoever approved the request has read its statements: those run, others wait.
          { name: 'writes', action: 'Hold', sql: { effects: ['Write'] }, hold: { approvers, timeout: '5s' } },
        ],
      },
    },
  ];
};

async function installPortal(): Promise<void> {
  const { nodeAddress } = scene.cluster.plan;
  origin = `https://${nodeAddress}:${PORT}`;
  idp.setPortalRedirects([`${origin}/callback`]);
  const certificate = await testCertificates([nodeAddress], 'Portal CA');
  portalCa = path.join(scene.folder, 'portal-ca.pem');
  fs.writeFileSync(portalCa, certificate.ca);
  const secret = (name: string, type: string, stringData: Record<string, string>): object => ({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, namespace: RELEASE },
    type,
    stringData,
  });
  await scene.apply(
    secret('portal-tls', 'kubernetes.io/tls', {
      'tls.crt': certificate.server.cert,
      'tls.key': certificate.server.key,
    }),
    secret('portal-client', 'Opaque', { 'client-secret': idp.clients.portal.secret }),
    {
      apiVersion: API,
      kind: 'IdentityProvider',
      metadata: { name: 'corp' },
      spec: {
        issuer: idp.issuer,
        caBundle: idp.ca,
        audiences: [{ name: 'page', audience: idp.clients.portal.id, use: 'ID', clients: [idp.clients.portal.id] }],
        claims: { groups: 'groups', email: 'email' },
      },
    },
    {
      apiVersion: API,
      kind: 'IdentityProvider',
      metadata: { name: 'ci' },
      spec: {
        issuer: jobs.issuer,
        caBundle: jobs.ca,
        audiences: [{ name: 'jobs', audience: 'sallyport', use: 'Workload' }],
        claims: {
          uid: 'repository_id',
          username: 'repository',
          workload: ['repository_id', 'ref', 'ref_type', 'event_name', 'environment'],
        },
      },
    },
  );
  const set = [
    'enabled=true',
    `url=${origin}`,
    `issuer=${idp.issuer}`,
    `clientId=${idp.clients.portal.id}`,
    'clientSecret.name=portal-client',
    'scope=openid profile email groups',
    'tls.secretName=portal-tls',
    'service.type=LoadBalancer',
    `service.port=${PORT}`,
  ].flatMap((value) => ['--set', `portal.${value}`]);
  const upgrade = ['upgrade', 'sallyport', 'charts/sallyport', '-n', RELEASE, '--reuse-values', ...set];
  const { kubeconfig } = scene.cluster;
  await helm('4', [...upgrade, '--timeout', '180s'], { kubeconfig }).catch((error: { stderr?: string }) => {
    throw new Error(`helm upgrade: ${error.stderr ?? String(error)}`);
  });
  await giveAddress(RELEASE, 'sallyport-portal');
  for (const deployment of ['sallyport', 'sallyport-portal'])
    await scene.cluster.kubectl(['-n', RELEASE, 'rollout', 'status', `deployment/${deployment}`, '--timeout=120s']);
}

/** Somebody with a browser, a login at the company's provider, and nothing of the cluster. */
async function manager(work: (page: Awaited<ReturnType<Chromium['window']>>['page']) => Promise<void>): Promise<void> {
  const { context, page } = await chromium.window();
  try {
    await page.goto(`${origin}/`);
    await page.getByRole('link', { name: 'Log in' }).click();
    await page.getByLabel('Name').fill('bob');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('heading', { name: 'My access' }).waitFor();
    await work(page);
  } finally {
    await context.close();
  }
}

async function approvesInThePage(grant: string): Promise<void> {
  await manager(async (page) => {
    await page.goto(`${origin}/grants/${NAMESPACE}/${grant}`);
    await page.getByRole('button', { name: 'Approve' }).click();
    await page.getByText('Approved.').waitFor();
  });
}

async function grantBy(via: string, known: ReadonlySet<string>): Promise<AccessGrant> {
  return scene.until(`a request via ${via}`, async () => {
    const { items } = await scene.read<{ items: AccessGrant[] }>('accessgrants');
    return items.find(
      ({ metadata, spec, status }) =>
        !known.has(metadata.uid) && spec.requester?.via === via && status?.phase === 'Pending',
    );
  });
}
const allGrants = async (): Promise<Set<string>> => {
  const { items } = await scene.read<{ items: AccessGrant[] }>('accessgrants');
  return new Set(items.map(({ metadata }) => metadata.uid));
};

/** A job of a pipeline: a folder, a token for what it is, no kubeconfig. */
interface Job {
  folder: string;
  sallyport(...args: string[]): Promise<Ran>;
}
async function job(claims: Record<string, unknown> = {}): Promise<Job> {
  const folder = fs.mkdtempSync(path.join(scene.folder, 'job-'));
  fs.writeFileSync(path.join(folder, 'migration.sql'), MIGRATION);
  const token = path.join(folder, 'token');
  const env = { PATH: process.env['PATH'], HOME: folder, CI: 'true', NO_COLOR: '1' };
  return {
    folder,
    async sallyport(verb = '', ...args) {
      fs.writeFileSync(token, await jobs.github('sallyport', claims), { mode: 0o600 });
      const where = ['--server', origin, '--server-ca', portalCa, '--token-file', token];
      return run(path.join(ROOT, 'bin/sallyport'), [verb, `${NAMESPACE}/orders-db`, ...where, ...args], env);
    },
  };
}
const ask = (of: Job): Promise<Ran> =>
  of.sallyport(
    'request',
    '--for',
    '30m',
    '--reason',
    'migration.sql',
    '--command-file',
    path.join(of.folder, 'migration.sql'),
    '--wait',
  );

const stateOf = async (id: number): Promise<string> =>
  (
    await scene.inNamespace(
      'exec',
      'deployment/orders-db',
      '--',
      'psql',
      'user=postgres password=pw-superuser-1c9e dbname=orders',
      '-A',
      '-t',
      '-c',
      `select state from orders where id = ${id}`,
    )
  ).trim();

export const cluster: CriteriaGroup = {
  name: 'cluster',
  async start() {
    chromium = await startChromium();
    scene = await startOrdersScene(say);
    const { hostAddress } = scene.cluster;
    idp = await startIdp({ listen: { host: hostAddress, name: hostAddress } });
    jobs = await startIssuer({ host: hostAddress, name: hostAddress });
    say('installing the approval page');
    await installPortal();
    await scene.apply(...policies());
    const exposed = { spec: { exposure: { type: 'LoadBalancer' } } };
    await scene.inNamespace('patch', 'connection', 'orders-db', '--type=merge', '-p', JSON.stringify(exposed));
    await giveAddress(NAMESPACE, 'sallyport-orders-db');
    await scene.until(
      'what is exposed is ready',
      async () => {
        const seen = await scene.read<Connection>('connection', 'orders-db');
        return isReady(seen) && seen.status?.endpoint?.host === scene.cluster.plan.nodeAddress ? true : undefined;
      },
      120_000,
    );
    await scene.until('the issuers’ keys', async () => {
      const { items } = await scene.read<{ items: Pick<Connection, 'status'>[] }>('identityproviders');
      return items.filter(isReady).length === 2 ? true : undefined;
    });
  },
  async stop() {
    await chromium?.stop();
    await idp?.stop();
    await jobs?.stop();
    await scene?.stop();
  },
  criteria: [
    {
      claim: 'INV-08: a manager without a kubeconfig approves in the page; the engineer who waited connects',
      async check() {
        const known = await allGrants();
        const request = scene.start('alice', ['request', 'orders-db', '--for', '1h', '--reason', 'INC-1', '--wait']);
        const grant = await grantBy('Kubernetes', known);
        const began = performance.now();
        await approvesInThePage(grant.metadata.name);
        const asked = await request.done;
        assert.equal(asked.code, 0, asked.stderr);
        const took = performance.now() - began;
        const { items } = await scene.read<{ items: AccessApproval[] }>('accessapprovals');
        const { approver } = items.find(({ spec }) => spec.targetRef.uid === grant.metadata.uid)!.spec;
        assert.deepEqual([approver?.via, approver?.username, approver?.proof], ['Portal', 'corp:bob', undefined]);
        const row = await askPsql(scene, 'alice', 'orders-db', 'select 40 + 2');
        assert.match(row.stdout, /42/, row.stderr);
        return `from opening the page to the end of request --wait: ${(took / 1000).toFixed(1)} s; stamped Portal corp:bob`;
      },
    },
    {
      claim: 'a pipeline’s job on the right branch asks by its token, waits for the manager, and runs its migration',
      async check() {
        const known = await allGrants();
        const on = await job();
        const asking = ask(on);
        const grant = await Promise.race([
          grantBy('Pipeline', known),
          asking.then(({ stdout, stderr }) => Promise.reject(new Error(`${stdout}${stderr}`))),
        ]);
        await approvesInThePage(grant.metadata.name);
        const asked = await asking;
        assert.equal(asked.code, 0, asked.stdout + asked.stderr);
        const psql = (sql: readonly string[]): Promise<Ran> =>
          on.sallyport('connect', '--', 'psql', '-X', '-v', 'ON_ERROR_STOP=1', ...sql);
        const ran = await psql(['-f', path.join(on.folder, 'migration.sql')]);
        assert.equal(ran.code, 0, ran.stdout + ran.stderr);
        assert.equal(await stateOf(7), 'migrated');
        const other = await psql(['-c', "update orders set state = 'more' where id = 8"]);
        assert.notEqual(other.code, 0, 'what nobody approved waits and is refused');
        assert.equal(await stateOf(8), 'new');
        return `${grant.metadata.name}: ${ran.stdout.trim()}; a statement that nobody approved was held, exit ${other.code}`;
      },
    },
    {
      claim: 'from another branch, and for strangers’ code, the same job is refused',
      async check() {
        const before = await allGrants();
        const began = Date.now();
        const codes: number[] = [];
        for (const claims of [
          { ref: 'refs/heads/feature', sub: 'repo:corp/orders:ref:refs/heads/feature' },
          { event_name: 'pull_request_target' },
          { repository_id: '1', repository: 'corp/orders' },
        ]) {
          const ran = await ask(await job(claims));
          assert.equal(ran.code, 77, `${JSON.stringify(claims)}: ${ran.stdout}${ran.stderr}`);
          codes.push(ran.code);
        }
        assert.ok(Date.now() - began < 60_000, 'nobody is waited for');
        const { items } = await scene.read<{ items: AccessGrant[] }>('accessgrants');
        const phases = items.filter(({ metadata }) => !before.has(metadata.uid)).map(({ status }) => status?.phase);
        assert.deepEqual(phases, ['Denied', 'Denied', 'Denied'], 'nothing waits for a manager');
        return `another branch, pull_request_target, another repository of the name: exit ${codes.join(', ')}`;
      },
    },
    {
      claim: 'an issuer that changes its keys is asked anew within moments of the first token by the new one',
      async check() {
        const on = await job({ repository_id: '740012345', ref: 'refs/heads/main' });
        await jobs.rotate({ dropOld: true });
        const began = performance.now();
        // The job asks again by itself while its token's key is not known.
        const asked = await on.sallyport('request', '--for', '10m', '--reason', 'after the rotation');
        const took = performance.now() - began;
        assert.equal(asked.code, 75, asked.stdout + asked.stderr);
        assert.ok(took < 60_000, `${took} ms`);
        return `the job’s request was there ${(took / 1000).toFixed(1)} s after the rotation`;
      },
    },
  ],
};
