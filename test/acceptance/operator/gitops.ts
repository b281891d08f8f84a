// What GitOps tools, people with kubectl and the chart's users meet: a bare API server with the operator and a proxy as
// processes beside it, the examples, kstatus as Flux uses it, and the chart under both Helms.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import type { AccessGrant } from '../../../src/api/grant.ts';
import { KIND_NAMES, KINDS } from '../../../src/api/kinds.ts';
import { chartObjects, RELEASE_NAMESPACE } from '../../support/chart.ts';
import { kstatus } from '../../support/cluster/kstatus.ts';
import { ok, until } from '../../support/cluster/sallyport.ts';
import { applyThrice, EXAMPLES, exampleObjects, prepareExamples } from '../../support/gitops.ts';
import type { CriteriaGroup } from '../criterion.ts';
import { CONNECTION, type HostScene, NAMESPACE, startHostScene, WORKLOAD } from './host-scene.ts';

const ROOT = path.resolve(import.meta.dirname, '../../..');
let scene: HostScene;

/** Runs test files to their end; how many tests of them passed. Throws the first failure. */
async function tests(...files: string[]): Promise<number> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--test', '--test-reporter=tap', ...files], {
    cwd: ROOT,
    maxBuffer: 2 ** 26,
    env: { ...process.env, NODE_TEST_CONTEXT: undefined },
  }).catch((error: { stdout?: string }) => {
    const failed = /^ *not ok .*$/m.exec(error.stdout ?? '')?.[0].trim();
    throw new Error(failed ?? String(error));
  });
  const count = (word: string): number => Number(new RegExp(`^# ${word} (\\d+)$`, 'm').exec(stdout)![1]);
  assert.equal(count('skipped'), 0, 'some were skipped');
  assert.ok(count('pass') > 0);
  return count('pass');
}

/** What kubectl says of this object; it must refuse. */
async function refusal(object: object): Promise<string> {
  const input = JSON.stringify(object);
  return scene.plane.kubectl(['apply', '--server-side', '--dry-run=server', '-f', '-'], { input }).then(
    ({ stdout }) => assert.fail(`taken: ${stdout}`),
    (error: { stderr?: string }) => {
      if (error.stderr === undefined) throw error;
      return error.stderr.trim();
    },
  );
}

interface PodTemplate {
  metadata: { labels: Record<string, string> };
  spec: { volumes?: object[] };
}

export const gitops: CriteriaGroup = {
  name: 'gitops',
  async start() {
    scene = await startHostScene();
  },
  async stop() {
    await scene?.stop();
  },
  criteria: [
    {
      claim: 'kstatus calls a Connection that is Ready, its policies and its bundles Current',
      async check() {
        const { stdout } = await scene.plane.kubectl([
          'get',
          'connections,accesspolicies,clusteraccesspolicies,enforcementbundles,proxyreplicas',
          '-A',
          '-o',
          'json',
        ]);
        const { items } = JSON.parse(stdout) as { items: { kind: string }[] };
        const { version, verdicts } = await kstatus(items);
        for (const [index, { status, message }] of verdicts.entries())
          assert.equal(status, 'Current', `${items[index]!.kind}: ${message}`);
        assert.ok(items.some(({ kind }) => kind === 'Connection') && items.some(({ kind }) => kind === 'AccessPolicy'));
        return `${items.length} objects, kstatus ${version}`;
      },
    },
    {
      claim: 'Pending, Active, Denied and Expired grants are not Degraded',
      async check() {
        const pending = await scene.request();
        const denied = await scene.request();
        await scene.untilPhase(denied.grant.metadata.name, 'Pending');
        await scene.decide(denied.grant, 'Deny');
        const active = await scene.held();
        const short = await scene.held({ duration: '2s' });
        const grants: AccessGrant[] = [
          await scene.untilPhase(pending.grant.metadata.name, 'Pending'),
          await scene.untilPhase(denied.grant.metadata.name, 'Denied'),
          await scene.untilPhase(active.grant.metadata.name, 'Active'),
          await scene.untilPhase(short.grant.metadata.name, 'Expired'),
        ];
        const { verdicts } = await kstatus(grants);
        assert.deepEqual(
          verdicts.map(({ status }) => status),
          grants.map(() => 'Current'),
          JSON.stringify(verdicts),
        );
        // Argo CD and others look for conditions of these names that say no.
        for (const { status } of grants)
          for (const { type } of status?.conditions ?? [])
            assert.ok(!['Ready', 'Healthy', 'Available', 'Stalled', 'Failed', 'Degraded'].includes(type), type);
        return grants.map(({ status }, index) => `${status?.phase} is ${verdicts[index]!.status}`).join(', ');
      },
    },
    {
      claim: 'kubectl get reads well: every kind has columns, with values, Age last',
      async check() {
        const shown: string[] = [];
        for (const word of ['conn', 'ap', 'grant', 'approval']) {
          const { stdout } = await scene.plane.kubectl(['get', word, '-n', NAMESPACE]);
          const [header = '', row = ''] = stdout.split('\n');
          assert.match(header, /^NAME .*AGE *$/);
          assert.doesNotMatch(row, /<none>/, `${header}\n${row}`);
          shown.push(row.trim().replace(/ {2,}/g, ' '));
        }
        const { stdout } = await scene.plane.kubectl(['get', 'sallyport', '-A', '-o', 'name']);
        assert.doesNotMatch(stdout, /enforcementbundle|proxyreplica/, 'internal kinds are not for people');
        assert.match(shown[0]!, / True /, 'the grants that were just made are no reason to call it out of order');
        return shown[0]!;
      },
    },
    {
      claim: 'kubectl explain says of every field of every kind what it is',
      async check() {
        let fields = 0;
        for (const kind of KIND_NAMES) {
          const { plural } = KINDS[kind];
          const { stdout } = await scene.plane.kubectl(['explain', plural, '--recursive']);
          assert.match(stdout, new RegExp(`^KIND: +${kind}$`, 'm'));
          const described = await scene.plane.kubectl([
            'get',
            'crd',
            `${plural}.sallyport.dev`,
            '-o',
            'jsonpath={.spec.versions[0].schema.openAPIV3Schema}',
          ]);
          fields += undescribed(JSON.parse(described.stdout) as Schema, plural);
        }
        const { stdout } = await scene.plane.kubectl(['explain', 'connection.spec.postgresql.tls.mode']);
        assert.match(stdout, /VerifyFull[\s\S]*Default VerifyFull/);
        return `${fields} fields of ${KIND_NAMES.length} kinds`;
      },
    },
    {
      claim: 'wrong YAML is refused with the field and the reason',
      async check() {
        const connection = (spec: object): object => ({
          apiVersion: 'sallyport.dev/v1alpha1',
          kind: 'Connection',
          metadata: { name: 'wrong', namespace: NAMESPACE },
          spec: {
            type: 'PostgreSQL',
            postgresql: { host: 'db.example.com' },
            accounts: [{ name: 'reader', secretRef: { name: 'orders' } }],
            ...spec,
          },
        });
        const policy = (spec: object): object => ({
          apiVersion: 'sallyport.dev/v1alpha1',
          kind: 'AccessPolicy',
          metadata: { name: 'wrong', namespace: NAMESPACE },
          spec: {
            connectionSelector: { names: ['x'] },
            subjects: [{ kind: 'Group', name: 'a' }],
            accounts: ['reader'],
            ...spec,
          },
        });
        const cases: [object, RegExp][] = [
          [connection({ postgres: {} }), /spec\.postgres: field not declared in schema/],
          [
            connection({ type: 'Postgres' }),
            /spec\.type: Unsupported value: "Postgres": supported values: "PostgreSQL"/,
          ],
          [connection({ postgresql: undefined }), /spec\.postgresql: .*type PostgreSQL needs the member postgresql/],
          [connection({ postgresql: { host: 'x', port: 70000 } }), /spec\.postgresql\.port: .*65535/],
          [connection({ limits: { idleTimeout: '30' } }), /spec\.limits\.idleTimeout: /],
          [connection({ accounts: [] }), /spec\.accounts: .*at least 1/],
          [policy({ maxDuration: '8 hours' }), /spec\.maxDuration: /],
          [
            policy({ rules: [{ name: 'r', action: 'Permit' }] }),
            /spec\.rules\[0\]\.action: Unsupported value: "Permit"/,
          ],
          [policy({ subjects: [{ kind: 'Team', name: 'a' }] }), /spec\.subjects\[0\]\.kind: Unsupported value: "Team"/],
        ];
        for (const [object, expected] of cases) assert.match(await refusal(object), expected, JSON.stringify(object));
        return `${cases.length} mistakes, such as ${/spec\.type: .*/.exec(await refusal(cases[1]![0]))![0].trim()}`;
      },
    },
    {
      claim: 'a policy that only its meaning makes wrong says so in its condition, with the field and what to write',
      async check() {
        await scene.plane.apply({
          apiVersion: 'sallyport.dev/v1alpha1',
          kind: 'AccessPolicy',
          metadata: { name: 'odd', namespace: NAMESPACE },
          spec: {
            connectionSelector: { names: [CONNECTION] },
            subjects: [{ kind: 'Group', name: 'nobody' }],
            accounts: ['nobody'],
          },
        });
        const message = await until('its condition', async () => {
          const seen = ok(
            await scene.admin.get<{ status?: { conditions?: { type: string; status: string; message: string }[] } }>(
              `/apis/sallyport.dev/v1alpha1/namespaces/${NAMESPACE}/accesspolicies/odd`,
            ),
          );
          return seen.status?.conditions?.find(({ type, status }) => type === 'Accepted' && status === 'False')
            ?.message;
        });
        assert.match(message, /spec\.accounts names "nobody".*write one of app/);
        await scene.plane.kubectl(['delete', 'ap', 'odd', '-n', NAMESPACE]);
        return message;
      },
    },
    {
      claim: 'the restricted Pod Security Standard takes the operator’s and a proxy’s pod',
      async check() {
        const name = 'restricted';
        await scene.plane.apply({
          apiVersion: 'v1',
          kind: 'Namespace',
          metadata: { name, labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } },
        });
        const set = ok(
          await scene.admin.get<{ spec: { template: PodTemplate } }>(
            `/apis/apps/v1/namespaces/${NAMESPACE}/statefulsets/${WORKLOAD}`,
          ),
        );
        const deployment = (await chartObjects()).find(({ kind }) => kind === 'Deployment')!['spec'] as {
          template: PodTemplate;
        };
        const controller = scene.plane.clientFor('system:serviceaccount:kube-system:statefulset-controller');
        const pods = [set.spec.template, deployment.template];
        const pod = ({ metadata, spec: { volumes = [], ...spec } }: PodTemplate, more: object = {}): object => ({
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { generateName: 'sallyport-try-', labels: metadata.labels },
          // A StatefulSet's controller adds the claim.
          spec: { ...spec, volumes: [...volumes, { name: 'records', emptyDir: {} }], ...more },
        });
        const path_ = `/api/v1/namespaces/${name}/pods?dryRun=All`;
        for (const template of pods) ok(await controller.create(path_, pod(template)));
        // And it does refuse what is not.
        const answer = await controller.create(path_, pod(pods[0]!, { hostNetwork: true }));
        assert.ok(answer.kind === 'Failed' && /violates PodSecurity "restricted/.test(answer.message));
        return `${pods.length} pods, and one with hostNetwork refused`;
      },
    },
    {
      claim: 'nothing that Sallyport makes has a finalizer',
      async check() {
        const { stdout } = await scene.plane.kubectl([
          'get',
          [
            ...KIND_NAMES.map((kind) => KINDS[kind].plural),
            'statefulsets,services,serviceaccounts,roles,rolebindings,networkpolicies,secrets',
            'poddisruptionbudgets,leases,configmaps',
          ].join(','),
          '-A',
          '-o',
          'json',
        ]);
        const { items } = JSON.parse(stdout) as { items: { kind: string; metadata: { finalizers?: string[] } }[] };
        const held = items.filter(({ metadata }) => (metadata.finalizers ?? []).length > 0);
        assert.deepEqual(held, []);
        const { stdout: crds } = await scene.plane.kubectl(['get', 'crd', '-o', 'name']);
        return `${items.length} objects in ${crds.trim().split('\n').length} CRDs and Kubernetes’ own kinds`;
      },
    },
    {
      claim:
        'INV-07: the keys that records are verified with are in ConfigMap sallyport-trust, for whoever is logged in',
      async check() {
        const alice = scene.plane.clientFor('alice');
        const path_ = `/api/v1/namespaces/${RELEASE_NAMESPACE}/configmaps`;
        const { data } = ok(await alice.get<{ data: Record<string, string> }>(`${path_}/sallyport-trust`));
        const set = ok(
          await scene.admin.get<{ spec: { template: { spec: { containers: { args: string[] }[] } } } }>(
            `/apis/apps/v1/namespaces/${NAMESPACE}/statefulsets/${WORKLOAD}`,
          ),
        );
        const { args } = set.spec.template.spec.containers[0]!;
        assert.deepEqual(
          Object.entries(data).map(([id, raw]) => `${id}:${raw}`),
          args.filter((_, index) => args[index - 1] === '--trust'),
        );
        assert.equal((await alice.list(path_)).kind, 'Failed', 'and no other ConfigMap');
        return Object.keys(data).join(', ');
      },
    },
    {
      claim: 'every example, applied three times client-side and server-side beside a live operator: no diff',
      async check() {
        await prepareExamples(scene.plane);
        await scene.plane.kubectl(['delete', 'conn,ap,grant', '--all', '-n', NAMESPACE]);
        let count = 0;
        for (const folder of EXAMPLES) {
          const objects = exampleObjects(folder).filter(({ kind }) => kind !== 'Namespace');
          const ours = objects.filter(({ apiVersion }) => apiVersion.startsWith('sallyport.dev/'));
          await applyThrice(scene.plane, objects, []);
          await settled(ours);
          await applyThrice(scene.plane, objects, []);
          const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects });
          await scene.plane.kubectl(['delete', '-f', '-'], { input });
          await applyThrice(scene.plane, objects, ['--server-side', '--field-manager=gitops']);
          await settled(ours);
          await applyThrice(scene.plane, objects, ['--server-side', '--field-manager=gitops']);
          count += objects.length;
        }
        return `${count} objects of ${EXAMPLES.length} folders, 12 applies each`;
      },
    },
  ],
};

/** Needs no scene: test files that start what they need. */
export const chart: CriteriaGroup = {
  name: 'chart',
  criteria: [
    {
      claim: 'the chart: lint and template under Helm 3 and 4 for every values file, exact rights, no secret, no typo',
      async check() {
        return `${await tests('test/chart/chart.test.ts')} tests`;
      },
    },
    {
      claim:
        'a real API server accepts all of the chart and the manifests, from both Helms and kubectl, without a diff',
      async check() {
        return `${await tests('test/cluster/admission-gitops.test.ts')} tests`;
      },
    },
  ],
};

/** Waits until the operator has said something of each. */
async function settled(objects: readonly { kind: string; metadata: { name: string; namespace?: string } }[]) {
  for (const { kind, metadata } of objects) {
    await until(`a status of ${kind} ${metadata.name}`, async () => {
      const { stdout } = await scene.plane.kubectl([
        'get',
        kind,
        metadata.name,
        '-o',
        'jsonpath={.status.observedGeneration}',
        ...(metadata.namespace === undefined ? [] : ['-n', metadata.namespace]),
      ]);
      return stdout !== '';
    });
  }
}

interface Schema {
  description?: string;
  properties?: Record<string, Schema>;
  items?: Schema;
}

/** Counts the fields below; throws the path of one that has no description. */
function undescribed(schema: Schema, at: string): number {
  let count = 0;
  for (const [name, child] of Object.entries(schema.properties ?? {})) {
    if (['apiVersion', 'kind', 'metadata', 'spec', 'status'].includes(name) && !at.includes('.')) {
      count += undescribed(child, `${at}.${name}`);
      continue;
    }
    assert.ok((child.description ?? '') !== '', `${at}.${name} has no description`);
    count += 1 + undescribed(child, `${at}.${name}`) + undescribed(child.items ?? {}, `${at}.${name}[]`);
  }
  return count;
}
