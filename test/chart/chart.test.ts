// The chart under Helm 3 and Helm 4, without a cluster: what it renders, and what it refuses to.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';
import { KINDS } from '../../src/api/kinds.ts';
import { serviceName } from '../../src/controllers/workloads/names.ts';
import { systemClock } from '../../src/system/clock.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { HELM_VERSIONS, helm } from '../support/helm.ts';

const CHART = 'charts/sallyport';
const ROOT = path.resolve(import.meta.dirname, '../..');
const VALUES = ['', ...fs.readdirSync(path.join(ROOT, CHART, 'ci')).map((file) => `${CHART}/ci/${file}`)];

interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  rules?: { apiGroups: string[]; resources: string[]; resourceNames?: string[]; verbs: string[] }[];
  spec?: Record<string, unknown>;
  [member: string]: unknown;
}
const render = async (version: '3' | '4', values = '', sets: readonly string[] = []): Promise<string> => {
  const { stdout } = await helm(version, [
    'template',
    'sallyport',
    CHART,
    '-n',
    'sallyport-system',
    ...(values === '' ? [] : ['-f', values]),
    ...sets.flatMap((set) => ['--set', set]),
  ]);
  return stdout;
};
const objectsOf = (text: string): Manifest[] =>
  parseAllDocuments(text)
    .map((document) => {
      assert.deepEqual(document.errors, []);
      return document.toJS() as Manifest | null;
    })
    .filter((object) => object !== null);

describe('the chart', () => {
  for (const version of HELM_VERSIONS) {
    test(`lints and renders under Helm ${version} with every set of values`, async () => {
      for (const values of VALUES) {
        const { stdout } = await helm(version, ['lint', '--strict', CHART, ...(values === '' ? [] : ['-f', values])]);
        assert.match(stdout, /0 chart\(s\) failed/);
        assert.ok(objectsOf(await render(version, values)).length > 10);
      }
    });

    test(`misspelt and impossible values are refused under Helm ${version}`, async () => {
      for (const set of [
        'operater.replicas=2',
        'operator.replica=2',
        'operator.replicas=0',
        'image.pullPolicy=Sometimes',
        'image.digest=latest',
        'metrics.serviceMonitor.enable=true',
        'webhook.timeoutSeconds=60',
        "admission.extraKubernetesControllers={a'b}",
      ]) {
        await assert.rejects(render(version, '', [set]), /values don't meet the specifications|don't meet/, set);
      }
    });
  }

  test('no object is in it twice', async () => {
    for (const values of VALUES) {
      const names = objectsOf(await render('4', values)).map(
        ({ apiVersion, kind, metadata }) => `${apiVersion} ${kind} ${metadata.namespace ?? ''} ${metadata.name}`,
      );
      const twice = names.filter((name, index) => names.indexOf(name) !== index);
      assert.deepEqual(twice, [], values);
    }
  });

  test('every argument of a container is text', async () => {
    type Template = { spec?: { template?: { spec?: { containers?: { args?: unknown[]; command?: unknown[] }[] } } } };
    for (const values of VALUES) {
      const containers = objectsOf(await render('4', values)).flatMap(
        (object) => (object as Template).spec?.template?.spec?.containers ?? [],
      );
      for (const { args = [], command = [] } of containers)
        for (const word of [...command, ...args]) assert.equal(typeof word, 'string', JSON.stringify(word));
    }
  });

  test('both Helms render the same', async () => {
    for (const values of VALUES)
      assert.deepEqual(objectsOf(await render('3', values)), objectsOf(await render('4', values)));
  });

  test('every value is in the schema and has its default from values.yaml', () => {
    const schema = JSON.parse(fs.readFileSync(path.join(ROOT, CHART, 'values.schema.json'), 'utf8')) as Schema;
    const values = parse(fs.readFileSync(path.join(ROOT, CHART, 'values.yaml'), 'utf8')) as Record<string, unknown>;
    interface Schema {
      properties?: Record<string, Schema>;
      definitions?: Record<string, Schema>;
      $ref?: string;
      additionalProperties?: unknown;
    }
    const visit = (node: Schema, value: unknown, at: string): void => {
      const target = node.$ref === undefined ? node : schema.definitions![node.$ref.split('/').at(-1)!]!;
      if (target.properties === undefined) return;
      assert.equal(target.additionalProperties, false, `${at} lets typing errors through`);
      const given = value as Record<string, unknown>;
      for (const [name, child] of Object.entries(target.properties)) {
        if (at === '' && name === 'global') continue;
        if (at === '.operator.resources' && name === 'claims') continue;
        assert.ok(Object.hasOwn(given, name), `values.yaml has no ${at}.${name}`);
        visit(child, given[name], `${at}.${name}`);
      }
    };
    visit(schema, values, '');
  });

  test('INV-05: rights are exact: no wildcard, no Secret but the operator’s own', async () => {
    for (const values of VALUES) {
      const objects = objectsOf(await render('4', values));
      for (const { kind, metadata, rules } of objects.filter(({ kind }) => kind === 'Role' || kind === 'ClusterRole')) {
        for (const rule of rules ?? []) {
          const words = [...rule.apiGroups, ...rule.resources, ...rule.verbs];
          assert.ok(!words.includes('*'), `${kind} ${metadata.name}`);
          for (const verb of ['escalate', 'bind', 'impersonate', 'deletecollection']) assert.ok(!words.includes(verb));
          if (rule.resources.includes('secrets')) {
            assert.equal(kind, 'Role');
            assert.equal(metadata.namespace, 'sallyport-system');
            if (rule.resourceNames === undefined) assert.deepEqual(rule.verbs, ['create']);
            else {
              // The operator's keys, and what the installation names for its ClusterNotifiers.
              const named = values.endsWith('full.yaml') && rule.resourceNames[0] === 'slack';
              const wanted = named ? ['slack', 'jira'] : ['sallyport-keys'];
              assert.deepEqual([rule.resourceNames, rule.verbs], [wanted, ['get']]);
            }
          }
        }
      }
      assert.ok(
        !objects.some(({ kind }) => kind === 'Secret'),
        'a chart that makes a Secret makes another at each upgrade',
      );
      for (const { metadata } of objects) assert.ok(!('finalizers' in metadata));
    }
  });

  test('nothing writes policies into the ClusterRoles edit, admin or view', async () => {
    const aggregated = objectsOf(await render('4')).filter(({ metadata }) =>
      Object.keys(metadata.labels ?? {}).some((label) => label.startsWith('rbac.authorization.k8s.io/aggregate-to')),
    );
    assert.deepEqual(
      aggregated.map(({ metadata }) => metadata.name),
      ['sallyport-view'],
    );
    for (const { verbs } of aggregated[0]!.rules!) assert.deepEqual(verbs, ['get', 'list', 'watch']);
  });

  test('the operator’s pod meets the restricted Pod Security Standard', async () => {
    for (const values of VALUES) {
      const deployment = objectsOf(await render('4', values)).find(({ kind }) => kind === 'Deployment')!;
      const pod = (deployment.spec!['template'] as { spec: Record<string, Record<string, unknown>> }).spec;
      const container = (pod['containers'] as unknown as Record<string, Record<string, unknown>>[])[0]!;
      assert.equal(pod['securityContext']!['runAsNonRoot'], true);
      assert.deepEqual(pod['securityContext']!['seccompProfile'], { type: 'RuntimeDefault' });
      assert.equal(container['securityContext']!['allowPrivilegeEscalation'], false);
      assert.equal(container['securityContext']!['readOnlyRootFilesystem'], true);
      assert.deepEqual(container['securityContext']!['capabilities'], { drop: ['ALL'] });
      for (const refused of ['hostNetwork', 'hostPID', 'hostIPC']) assert.ok(!(refused in pod));
      for (const volume of pod['volumes'] as unknown as object[]) {
        assert.ok('emptyDir' in volume || 'persistentVolumeClaim' in volume);
      }
    }
  });

  test('every kind has its CRD in the chart, kept when the release goes', async () => {
    const named = (text: string): Manifest[] =>
      objectsOf(text).filter(({ kind }) => kind === 'CustomResourceDefinition');
    const crds = named(await render('4'));
    assert.deepEqual(
      crds.map(({ metadata }) => metadata.name).sort(),
      Object.values(KINDS)
        .map(({ plural }) => `${plural}.sallyport.dev`)
        .sort(),
    );
    for (const { metadata } of crds) assert.equal(metadata.annotations?.['helm.sh/resource-policy'], 'keep');
    for (const { metadata } of named(await render('4', '', ['crds.keep=false'])))
      assert.equal(metadata.annotations, undefined);
  });

  test('INV-08: the webhook sees every namespace, stamps nothing else and says nothing of whom to trust', async () => {
    const { webhooks } = objectsOf(await render('4')).find(
      ({ kind }) => kind === 'MutatingWebhookConfiguration',
    ) as unknown as {
      webhooks: Record<string, unknown>[];
    };
    const shapes = webhooks.map(({ name, clientConfig, rules, ...rest }) => {
      assert.ok(!('caBundle' in (clientConfig as object)));
      const { failurePolicy, sideEffects, namespaceSelector, objectSelector, matchConditions } = rest;
      const { resources } = (rules as { resources: string[] }[])[0]!;
      return [name, failurePolicy, sideEffects, namespaceSelector, objectSelector, matchConditions, resources];
    });
    assert.deepEqual(shapes, [
      [
        'stamp.sallyport.dev',
        'Fail',
        'NoneOnDryRun',
        {},
        {},
        undefined,
        ['accessgrants', 'accessapprovals', 'accesslocks'],
      ],
      // Judges, stamps nothing; policies are stored while nobody answers.
      ['guardrail.sallyport.dev', 'Ignore', 'None', {}, {}, undefined, ['clusteraccesspolicies']],
    ]);
  });

  test('INV-12: nothing that it installs has a name that the objects of some Connection would have', async () => {
    const all = (await Promise.all(VALUES.map((values) => render('4', values)))).flatMap(objectsOf);
    const named = all.filter(({ metadata }) => metadata.namespace !== undefined).map(({ metadata }) => metadata.name);
    const own = [...new Set(named)].filter((name) => name.startsWith('sallyport-'));
    assert.ok(own.includes('sallyport-portal') && own.includes('sallyport-webhook'), own.join());
    for (const name of own) assert.notEqual(serviceName(name.slice('sallyport-'.length)), name);
  });

  test('every admission policy is bound, denies, and fails closed', async () => {
    const objects = objectsOf(await render('4'));
    const policies = objects.filter(({ kind }) => kind === 'ValidatingAdmissionPolicy');
    const bindings = objects.filter(({ kind }) => kind === 'ValidatingAdmissionPolicyBinding');
    assert.ok(policies.length >= 10);
    assert.deepEqual(
      policies.map(({ metadata }) => metadata.name).sort(),
      bindings.map(({ spec }) => String(spec!['policyName'])).sort(),
    );
    for (const { spec } of policies) assert.equal(spec!['failurePolicy'], 'Fail');
    for (const { spec } of bindings) {
      assert.deepEqual(spec!['validationActions'], ['Deny']);
      assert.ok(!('matchResources' in spec!), 'a binding for some namespaces is none for the others');
    }
    assert.ok(!(await render('4', '', ['admission.policies=false'])).includes('ValidatingAdmissionPolicy'));
  });

  test('INV-05: what of a Connection sends a Secret somewhere is what the policy watches', async () => {
    const policy = objectsOf(await render('4')).find(
      ({ kind, metadata }) => kind === 'ValidatingAdmissionPolicy' && metadata.name === 'sallyport-secret-use',
    )!;
    const watched = (policy.spec!['variables'] as { name: string; expression: string }[]).find(
      ({ name }) => name === 'unchanged',
    )!.expression;
    // Every account that there can be is asked for.
    const { accounts } = (KINDS.Connection.spec as unknown as { properties: { accounts: { maxItems: number } } })
      .properties;
    const expressions = (policy.spec!['validations'] as { expression: string }[]).map(({ expression }) => expression);
    assert.equal(expressions.length, accounts.maxItems);
    for (const [index, expression] of expressions.entries())
      assert.ok(expression.includes(`variables.names[${index}]`), expression);
    // A new member of a Connection's spec is judged here: either it goes into the policy, or it sends nothing.
    const sendsNothing = ['exposure', 'networkPolicy', 'recording', 'limits'];
    const members = Object.keys((KINDS.Connection.spec as unknown as { properties: object }).properties);
    for (const member of members) {
      const named = new RegExp(`object\\.spec\\.\\??${member}\\b`).test(watched);
      assert.equal(named, !sendsNothing.includes(member), `spec.${member}`);
    }
  });

  test('the dashboard and the alerts ask for metrics that exist', async () => {
    const metrics = createMetrics(systemClock, 'test');
    metrics.decision('Allow');
    const { body } = await metrics.render();
    const exist = new Set([...body.matchAll(/^# TYPE (\S+) /gm)].map((match) => match[1]!));
    const text = await render('4', `${CHART}/ci/full.yaml`);
    const asked = new Set(
      [...text.matchAll(/\b((?:sallyport|process)_[a-z_]+?)(?:_bucket)?(?=[^a-z_])/g)].map((match) => match[1]!),
    );
    assert.ok(asked.size >= 12);
    for (const name of asked) assert.ok(exist.has(name), `${name} is not measured; there are ${[...exist].join(', ')}`);
    const dashboard = objectsOf(text).find(({ metadata }) => metadata.name === 'sallyport-dashboard')!;
    const { panels } = JSON.parse((dashboard['data'] as Record<string, string>)['sallyport.json']!) as {
      panels: object[];
    };
    assert.ok(panels.length >= 10);
  });

  test('NOTES tell three commands, and manifests/install.yaml is this chart', async () => {
    const notes = fs.readFileSync(path.join(ROOT, CHART, 'templates/NOTES.txt'), 'utf8');
    assert.equal(notes.match(/^ {2}kubectl /gm)?.length, 3);
    const installed = objectsOf(fs.readFileSync(path.join(ROOT, 'manifests/install.yaml'), 'utf8'));
    const rendered = objectsOf(await render('4'));
    const id = ({ kind, metadata }: Manifest): string => `${kind} ${metadata.name}`;
    assert.deepEqual(installed.map(id).sort(), ['Namespace sallyport-system', ...rendered.map(id)].sort());
  });
});
