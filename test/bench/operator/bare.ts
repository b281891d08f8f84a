// A client that knows the answer: it writes what the operator has written, as fast as it can, into namespaces of its own.
// What the operator takes longer is what looking, deciding, signing and caching cost.
import type { KubeClient } from '../../../src/kube/client.ts';
import type { KubernetesObject } from '../../support/cluster/control-plane.ts';
import { type Bed, eachOf, value, WIDTH } from './bed.ts';
import { namespaces } from './objects.ts';
import { listAll } from './scale.ts';

const API = '/apis/sallyport.dev/v1alpha1';
const APPLIED: readonly (readonly [path: string, apiVersion: string, kind: string])[] = [
  ['/api/v1/serviceaccounts', 'v1', 'ServiceAccount'],
  ['/apis/rbac.authorization.k8s.io/v1/roles', 'rbac.authorization.k8s.io/v1', 'Role'],
  ['/apis/rbac.authorization.k8s.io/v1/rolebindings', 'rbac.authorization.k8s.io/v1', 'RoleBinding'],
  ['/apis/networking.k8s.io/v1/networkpolicies', 'networking.k8s.io/v1', 'NetworkPolicy'],
  ['/api/v1/services', 'v1', 'Service'],
  ['/apis/apps/v1/statefulsets', 'apps/v1', 'StatefulSet'],
];
const OWN = ['accesspolicies', 'accessgrants', 'connections', 'enforcementbundles', 'proxyreplicas'];
const WITH_STATUS = ['accesspolicies', 'accessgrants', 'connections'];

type Live = KubernetesObject & { spec?: Record<string, unknown>; status?: unknown };
type Write = (client: KubeClient) => Promise<unknown>;

/** Every write, each of its own object; `to` names the namespaces that stand for those of `from`. */
export async function writesOf(bed: Bed, from: string, to: string): Promise<Write[]> {
  const writes: Write[] = [];
  const mine = ({ metadata }: Live): boolean => metadata.namespace?.startsWith(`${from}-`) === true;
  const moved = (live: Live): string => live.metadata.namespace!.replace(from, to);
  const status =
    (path: string, live: Live): Write =>
    async (client) =>
      value(await client.patch(`${path}/status`, [{ op: 'add', path: '/status', value: live.status }], 'json'));
  for (const [path, apiVersion, kind] of APPLIED) {
    const [root, plural] = [path.slice(0, path.lastIndexOf('/')), path.slice(path.lastIndexOf('/') + 1)];
    for (const live of (await listAll<Live>(bed, path)).filter(mine)) {
      const { name, labels, annotations, ownerReferences } = live.metadata;
      const { metadata: _metadata, status: _status, ...body } = live;
      if (kind === 'Service' && body.spec !== undefined && body.spec['clusterIP'] !== 'None') {
        delete body.spec['clusterIP'];
        delete body.spec['clusterIPs'];
      }
      const namespace = moved(live);
      const object = { ...body, apiVersion, kind, metadata: { name, namespace, labels, annotations, ownerReferences } };
      writes.push(async (client) =>
        value(
          await client.patch(`${root}/namespaces/${namespace}/${plural}/${name}`, object, 'apply', {
            fieldManager: 'sallyport',
            force: true,
          }),
        ),
      );
    }
  }
  for (const live of (await listAll<Live>(bed, `${API}/enforcementbundles`)).filter(mine)) {
    const { name, labels, ownerReferences } = live.metadata;
    const namespace = moved(live);
    const object = {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'EnforcementBundle',
      metadata: { name, namespace, labels, ownerReferences },
      spec: live.spec,
    };
    writes.push(async (client) =>
      value(await client.create(`${API}/namespaces/${namespace}/enforcementbundles`, object)),
    );
  }
  for (const live of (await listAll<Live>(bed, `${API}/proxyreplicas`)).filter(mine)) {
    const { name, labels, ownerReferences } = live.metadata;
    const namespace = moved(live);
    const path = `${API}/namespaces/${namespace}/proxyreplicas/${name}`;
    const object = {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'ProxyReplica',
      metadata: { name, namespace, labels, ownerReferences },
      spec: {},
    };
    const options = { fieldManager: 'sallyport', force: true };
    writes.push(async (client) => {
      value(await client.patch(path, object, 'apply', options));
      await status(path, live)(client);
    });
  }
  for (const plural of WITH_STATUS) {
    for (const live of (await listAll<Live>(bed, `${API}/${plural}`)).filter(mine)) {
      writes.push(status(`${API}/namespaces/${moved(live)}/${plural}/${live.metadata.name}`, live));
    }
  }
  return writes;
}

/** Milliseconds that all of them took. */
export async function writeAll(bed: Bed, writes: readonly Write[]): Promise<number> {
  const began = performance.now();
  await eachOf(writes, WIDTH, (write) => write(bed.asOperator));
  return performance.now() - began;
}

/** Takes everything away that was made for `prefix`, as if it had never been there. */
export async function clear(bed: Bed, prefix: string): Promise<void> {
  const paths = [...APPLIED.map(([path]) => path), ...OWN.map((plural) => `${API}/${plural}`)];
  const collections = namespaces(prefix).flatMap(({ metadata }) =>
    paths.map((path) => {
      const slash = path.lastIndexOf('/');
      return `${path.slice(0, slash)}/namespaces/${metadata.name}${path.slice(slash)}`;
    }),
  );
  await eachOf(collections, WIDTH, async (path) => value(await bed.admin.delete(path, { deadlineMs: 120_000 })));
}
