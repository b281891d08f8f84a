// What proxies enforce: bundles that nobody signed, that are older, that are another's; and who may read them. INV-04, INV-12.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { specHash } from '../../../src/api/canonical.ts';
import type { KubeClient } from '../../../src/kube/client.ts';
import type { BundleGrant, GrantsShard, ShardEnvelope } from '../../../src/policy/bundle.ts';
import { keyIdOf, signShard } from '../../../src/policy/bundle-signing.ts';
import type { Criterion } from '../../acceptance/criterion.ts';
import { podClient, RELEASE_NAMESPACE } from '../../support/chart.ts';
import { ok, until } from '../../support/cluster/sallyport.ts';
import { type Asked, api, OTHER, PASSWORD, refused, type SecurityScene, SHOP } from './scene.ts';

interface Bundle {
  metadata: { name: string; uid: string; resourceVersion: string };
  spec: ShardEnvelope;
}
const REPAIRED_MS = 75_000;

export function bundleCriteria(scene: () => SecurityScene): Criterion[] {
  const nameOf = (shard: string): string => `${scene().connection.metadata.uid}.${shard}`;
  const read = async (shard: string): Promise<Bundle> =>
    ok(await scene().admin.get<Bundle>(api('enforcementbundles', nameOf(shard))));
  const replace = (client: KubeClient, bundle: Bundle, spec: ShardEnvelope) =>
    client.replace(api('enforcementbundles', bundle.metadata.name), {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'EnforcementBundle',
      metadata: { name: bundle.metadata.name, resourceVersion: bundle.metadata.resourceVersion },
      spec,
    });
  /** The bundle's grants and one more, that nobody approved. */
  const withGrant = (bundle: Bundle, asked: Asked): GrantsShard => {
    const known = JSON.parse(bundle.spec.payload) as GrantsShard;
    const { metadata, spec } = asked.grant;
    const forged: BundleGrant = {
      name: metadata.name,
      uid: metadata.uid,
      specHash: specHash(spec),
      principal: { username: 'alice', uid: 'uid-alice', groups: ['payments'], aliases: [] },
      via: 'Kubernetes',
      account: 'app',
      policy: `${SHOP}/orders-team`,
      clientKey: spec.clientKey!,
      commandHashes: [],
      notBeforeMs: Date.now() - 60_000,
      expiresAtMs: Date.now() + 3_600_000,
      ticketUntilExpiry: false,
    };
    return { grants: [...known.grants, forged] };
  };
  const later = ({ spec }: Bundle) => ({
    connectionUid: spec.connectionUid,
    shard: spec.shard,
    epoch: spec.epoch,
    sequence: spec.sequence + 1_000,
  });
  /** The operator writes what is true over it. */
  const repaired = (shard: string, forged: ShardEnvelope): Promise<Bundle> =>
    until(
      `the operator to write ${shard} again`,
      async () => {
        const now = await read(shard);
        return JSON.stringify(now.spec.signatures) !== JSON.stringify(forged.signatures) && now;
      },
      REPAIRED_MS,
      250,
    );

  return [
    {
      claim:
        'INV-04: a bundle that is unsigned, signed by another key, older or another Connection’s is enforced by nobody',
      async check() {
        const { ask, as, admin, usurper, plane } = scene();
        const good = await scene().held();
        await (await scene().loginSoon(good)).end();
        const asked = await ask('alice');
        await scene().untilPhase(asked.grant, 'Pending');
        const stored = await read('grants-0');
        const { privateKey, publicKey } = generateKeyPairSync('ed25519');
        const payload = withGrant(stored, asked);
        const foreignKey = signShard({ keyId: keyIdOf(publicKey), privateKey }, { ...later(stored), payload });
        const operatorsId = stored.spec.signatures[0]!.keyId;
        const unsigned = { ...foreignKey, signatures: [] };
        const pretended = { ...foreignKey, signatures: [{ ...foreignKey.signatures[0]!, keyId: operatorsId }] };
        const altered = { ...stored.spec, sequence: stored.spec.sequence + 1, payload: foreignKey.payload };
        // Admission first: nobody but the operator.
        for (const client of [admin, as('eve'), as('alice')])
          refused(await replace(client, stored, foreignKey), /Only Sallyport's operator|is forbidden/);
        // Then the schema, which takes nothing older, and no empty signature.
        refused(await replace(usurper, stored, unsigned), /signatures/, [422]);
        for (const older of [
          { ...stored.spec, sequence: stored.spec.sequence - 1 },
          { ...foreignKey, epoch: stored.spec.epoch - 1 },
        ])
          refused(await replace(usurper, stored, older), /never goes back/, [422]);
        // Then whoever reads it.
        let tries = 0;
        for (const forged of [foreignKey, pretended, altered]) {
          const now = await read('grants-0');
          const { sequence } = forged === altered ? { sequence: now.spec.sequence + 1 } : later(now);
          tries += 1;
          const body =
            forged === altered ? { ...now.spec, sequence, payload: forged.payload } : { ...forged, sequence };
          ok(await replace(usurper, now, body));
          await scene().noLogin(asked, 'a forged bundle');
          // What was proven before stands meanwhile.
          await (await scene().login(good)).end();
          await repaired('grants-0', body);
        }
        // An older one of the operator's own: from before the grant was revoked.
        const old = await read('grants-0');
        assert.ok(old.spec.payload.includes(good.grant.metadata.uid));
        await scene().vote('carol', good.grant, 'Revoke');
        await scene().untilPhase(good.grant, 'Revoked');
        await until(
          'the bundle without it',
          async () => !(await read('grants-0')).spec.payload.includes(good.grant.metadata.uid),
        );
        ok(await usurper.delete(api('enforcementbundles', nameOf('grants-0'))));
        const rolledBack = await usurper.create(api('enforcementbundles'), {
          apiVersion: 'sallyport.dev/v1alpha1',
          kind: 'EnforcementBundle',
          metadata: { name: nameOf('grants-0') },
          spec: old.spec,
        });
        // The operator may have been quicker.
        assert.ok(rolledBack.kind === 'Ok' || rolledBack.status === 409);
        await scene().noLogin(good, 'an older bundle');
        if (rolledBack.kind === 'Ok') await repaired('grants-0', old.spec);
        // Another Connection's, signed by the operator itself.
        const vault = ok(await admin.list<Bundle>(api('enforcementbundles'))).items.find(
          ({ spec }) => spec.shard === 'policy' && spec.connectionUid !== scene().connection.metadata.uid,
        )!;
        const policy = await read('policy');
        ok(
          await replace(usurper, policy, {
            ...vault.spec,
            epoch: policy.spec.epoch,
            sequence: policy.spec.sequence + 1,
          }),
        );
        const fresh = await scene().held();
        await repaired('policy', vault.spec);
        await (await scene().loginSoon(fresh, REPAIRED_MS)).end();
        assert.ok(plane.apiServerPid() > 0);
        return `${tries + 4} bundles, none enforced, each put right`;
      },
    },
    {
      claim: 'INV-12: a proxy reads its own Connection’s bundles and no other’s, writes its own replica and no other’s',
      async check() {
        const { plane, admin, connection } = scene();
        const vault = ok(await admin.get<{ metadata: { uid: string } }>(api('connections', 'vault'))).metadata.uid;
        const proxy = await podClient(plane, {
          namespace: SHOP,
          name: 'sallyport-vault-0',
          serviceAccount: 'sallyport-vault',
        });
        try {
          const own = await until('its own bundle', async () => {
            const answer = await proxy.get<Bundle>(api('enforcementbundles', `${vault}.policy`));
            return answer.kind === 'Ok' && answer.value;
          });
          assert.equal(own.spec.connectionUid, vault);
          ok(
            await proxy.get(
              `/apis/sallyport.dev/v1alpha1/namespaces/${RELEASE_NAMESPACE}/enforcementbundles/heartbeat`,
            ),
          );
          let refusals = 0;
          const no = async (answer: Promise<Parameters<typeof refused>[0]>): Promise<void> => {
            refused(
              await answer,
              /is forbidden|Only Sallyport|written by the pod of its name|ValidatingAdmissionPolicy/,
            );
            refusals += 1;
          };
          const bundles = api('enforcementbundles');
          for (const shard of ['policy', 'overlay', 'grants-0', 'releases']) {
            const name = `${connection.metadata.uid}.${shard}`;
            await no(proxy.get(api('enforcementbundles', name)));
            await no(proxy.list(bundles, { fieldSelector: `metadata.name=${name}` }));
          }
          await no(proxy.list(bundles));
          await no(proxy.list('/apis/sallyport.dev/v1alpha1/enforcementbundles'));
          await no(proxy.list(bundles, { fieldSelector: `metadata.name!=${vault}.policy` }));
          for await (const line of proxy.watch(bundles, { timeoutSeconds: 5 })) {
            assert.equal(line.type, 'ERROR');
            refusals += 1;
          }
          await no(proxy.patch(api('enforcementbundles', `${vault}.policy`), { spec: { sequence: 9e9 } }, 'merge'));
          await no(proxy.delete(api('enforcementbundles', `${vault}.policy`)));
          const csr = { spec: { csr: 'mine', recordKey: 'mine' } };
          await no(proxy.patch(api('proxyreplicas', 'sallyport-orders-0'), csr, 'merge'));
          await no(proxy.get(api('proxyreplicas', 'sallyport-orders-0')));
          await no(
            proxy.create(api('proxyreplicas'), {
              apiVersion: 'sallyport.dev/v1alpha1',
              kind: 'ProxyReplica',
              metadata: { name: 'sallyport-orders-1' },
              spec: {},
            }),
          );
          await no(
            proxy.patch(
              `${api('proxyreplicas', 'sallyport-vault-0')}/status`,
              { status: { certificate: 'x' } },
              'merge',
            ),
          );
          for (const plural of ['connections', 'accesspolicies', 'accessapprovals', 'accesslocks'])
            await no(proxy.list(api(plural)));
          for (const plural of ['accessgrants', 'commandholds', 'accesssessions'])
            await no(proxy.list(api(plural, '', OTHER)));
          return `${refusals} attempts refused`;
        } finally {
          await proxy.close();
          await admin.delete(`/api/v1/namespaces/${SHOP}/pods/sallyport-vault-0`);
        }
      },
    },
    {
      claim: 'INV-05: neither the operator’s nor a proxy’s ServiceAccount reads a tenant’s Secret, by any way round',
      async check() {
        const { plane, admin } = scene();
        const operator = await podClient(plane, {
          namespace: RELEASE_NAMESPACE,
          name: 'sallyport-thief',
          serviceAccount: 'sallyport',
        });
        const proxy = await podClient(plane, {
          namespace: SHOP,
          name: 'sallyport-quick-0',
          serviceAccount: 'sallyport-quick',
        });
        let refusals = 0;
        const no = async (answer: Promise<Parameters<typeof refused>[0]>): Promise<void> => {
          const got = await answer;
          assert.ok(!JSON.stringify(got).includes(Buffer.from(PASSWORD).toString('base64')), 'the password was read');
          refused(got, /is forbidden|ValidatingAdmissionPolicy|attempting to grant/);
          refusals += 1;
        };
        try {
          const rbac = '/apis/rbac.authorization.k8s.io/v1';
          const readers = { apiGroups: [''], resources: ['secrets'], verbs: ['get'] };
          const role = (name: string) => ({
            apiVersion: 'rbac.authorization.k8s.io/v1',
            kind: 'Role',
            metadata: { name },
            rules: [readers],
          });
          const binding = {
            apiVersion: 'rbac.authorization.k8s.io/v1',
            kind: 'RoleBinding',
            metadata: { name: 'mine' },
            roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
            subjects: [{ kind: 'ServiceAccount', name: 'sallyport', namespace: RELEASE_NAMESPACE }],
          };
          for (const client of [operator, proxy]) {
            for (const namespace of [SHOP, OTHER, 'kube-system']) {
              const secrets = `/api/v1/namespaces/${namespace}/secrets`;
              await no(client.get(`${secrets}/orders`));
              await no(client.list(secrets));
              await no(client.list(secrets, { fieldSelector: 'metadata.name=orders' }));
              await no(client.patch(`${secrets}/orders`, { data: {} }, 'merge'));
              await no(client.delete(`${secrets}/orders`));
              await no(client.create(`${rbac}/namespaces/${namespace}/roles`, role('mine')));
              await no(client.create(`${rbac}/namespaces/${namespace}/rolebindings`, binding));
            }
            await no(client.list('/api/v1/secrets'));
            await no(client.create(`${rbac}/clusterroles`, { ...role('mine'), kind: 'ClusterRole' }));
            await no(
              client.create(`/api/v1/namespaces/${SHOP}/pods`, {
                apiVersion: 'v1',
                kind: 'Pod',
                metadata: { name: 'mine' },
                spec: { containers: [{ name: 'a', image: 'x' }] },
              }),
            );
            await no(
              client.create(
                `/api/v1/namespaces/${SHOP}/pods/sallyport-orders-0/exec?command=cat&stdout=true`,
                undefined,
              ),
            );
            await no(
              client.create(`/api/v1/namespaces/${SHOP}/serviceaccounts/sallyport-orders/token`, {
                apiVersion: 'authentication.k8s.io/v1',
                kind: 'TokenRequest',
                spec: {},
              }),
            );
          }
          // Of its own keys the operator has one right: to read them.
          const keys = `/api/v1/namespaces/${RELEASE_NAMESPACE}/secrets`;
          ok(await operator.get(`${keys}/sallyport-keys`));
          await no(operator.list(keys));
          await no(operator.patch(`${keys}/sallyport-keys`, { data: {} }, 'merge'));
          await no(operator.delete(`${keys}/sallyport-keys`));
          await no(proxy.get(`${keys}/sallyport-keys`));
          // What RBAC itself says of both, in every namespace.
          let asked = 0;
          for (const [user, namespaces] of [
            [`system:serviceaccount:${RELEASE_NAMESPACE}:sallyport`, [SHOP, OTHER, 'default', '']],
            [`system:serviceaccount:${SHOP}:sallyport-orders`, [SHOP, OTHER, RELEASE_NAMESPACE, '']],
          ] as const) {
            for (const namespace of namespaces) {
              for (const verb of [
                'get',
                'list',
                'watch',
                'create',
                'update',
                'patch',
                'delete',
                'deletecollection',
                '*',
              ]) {
                const review = ok(
                  await admin.create<{ status: { allowed: boolean } }>(
                    '/apis/authorization.k8s.io/v1/subjectaccessreviews',
                    {
                      apiVersion: 'authorization.k8s.io/v1',
                      kind: 'SubjectAccessReview',
                      spec: {
                        user,
                        groups: ['system:serviceaccounts', 'system:authenticated'],
                        resourceAttributes: { namespace, verb, resource: 'secrets' },
                      },
                    },
                  ),
                );
                assert.equal(
                  review.status.allowed,
                  false,
                  `${user} may ${verb} secrets in ${namespace || 'all namespaces'}`,
                );
                asked += 1;
              }
            }
          }
          return `${refusals} attempts refused, ${asked} access reviews answered no`;
        } finally {
          await operator.close();
          await proxy.close();
        }
      },
    },
  ];
}
