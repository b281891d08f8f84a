// The examples as GitOps tools apply them to a real API server: again and again, client-side and server-side.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { parseAllDocuments } from 'yaml';
import type { ControlPlane, KubernetesObject } from './cluster/control-plane.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');

/** Folders under examples/ that hold objects for a cluster. */
export const EXAMPLES = [
  'orders',
  'bastion',
  'gitops/billing',
  'gitops/argocd',
  'gitops/flux',
  'gitops/external-secrets',
  'gitops/secrets-store-csi',
  'ci/access',
] as const;

/** What lies in a folder of examples/, its subfolders apart. */
export function exampleObjects(folder: string): KubernetesObject[] {
  return fs
    .readdirSync(path.join(ROOT, 'examples', folder))
    .filter((file) => file.endsWith('.yaml') && file !== 'kustomization.yaml')
    .flatMap((file) => parseAllDocuments(fs.readFileSync(path.join(ROOT, 'examples', folder, file), 'utf8')))
    .map((document) => document.toJS() as KubernetesObject);
}

/** Other projects' kinds, taking any fields: their own schemas are theirs to check. */
function foreignCrd(object: KubernetesObject): KubernetesObject {
  const [group, version] = object.apiVersion.split('/') as [string, string];
  const singular = object.kind.toLowerCase();
  const plural = singular.endsWith('y')
    ? `${singular.slice(0, -1)}ies`
    : singular.endsWith('s')
      ? `${singular}es`
      : `${singular}s`;
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: `${plural}.${group}`,
      annotations: { 'api-approved.kubernetes.io': 'unapproved, for a test' },
    },
    spec: {
      group,
      scope: 'Namespaced',
      names: { kind: object.kind, plural, singular },
      versions: [
        {
          name: version,
          served: true,
          storage: true,
          schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
        },
      ],
    },
  };
}

/** Makes the examples' namespaces and the kinds of other projects that they use. */
export async function prepareExamples(plane: ControlPlane): Promise<void> {
  const objects = EXAMPLES.flatMap(exampleObjects);
  const foreign = new Map(
    objects
      .filter(({ apiVersion }) => /argoproj|fluxcd|external-secrets|secrets-store/.test(apiVersion))
      .map((object) => [`${object.apiVersion} ${object.kind}`, foreignCrd(object)]),
  );
  const namespaces = new Set(objects.flatMap(({ metadata }) => metadata.namespace ?? []));
  await plane.apply(
    ...foreign.values(),
    ...[...namespaces].map((name) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })),
  );
  for (const { metadata } of foreign.values()) {
    await plane.kubectl(['wait', '--for=condition=Established', `crd/${metadata.name}`, '--timeout=30s']);
  }
}

/** Applies three times; throws where an apply after the first changes an object, or where a diff shows one. */
export async function applyThrice(
  plane: ControlPlane,
  objects: readonly KubernetesObject[],
  flags: readonly string[],
): Promise<void> {
  const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects });
  await plane.kubectl(['apply', ...flags, '-f', '-'], { input });
  const first = await contents(plane, input);
  for (let round = 0; round < 2; round += 1) {
    await plane.kubectl(['apply', ...flags, '-f', '-'], { input });
    assert.deepEqual(await contents(plane, input), first, 'an apply of the same changed something');
  }
  // Exits 1 where there is a difference.
  const { stdout } = await plane.kubectl(['diff', ...flags, '-f', '-'], { input });
  assert.equal(stdout, '');
}

interface Stored extends KubernetesObject {
  metadata: KubernetesObject['metadata'] & { managedFields?: { subresource?: string }[] };
}

/** The objects as they are stored, with who wrote what when, but for status and what changes with it. */
async function contents(plane: ControlPlane, input: string): Promise<unknown[]> {
  const { stdout } = await plane.kubectl(['get', '--show-managed-fields', '-f', '-', '-o', 'json'], { input });
  const read = JSON.parse(stdout) as Stored | { items: Stored[] };
  const objects = Array.isArray(read['items']) ? (read['items'] as Stored[]) : [read as Stored];
  assert.notEqual(objects.length, 0);
  return objects.map((object) => {
    const { managedFields = [] } = object.metadata;
    const metadata = {
      ...object.metadata,
      resourceVersion: undefined,
      managedFields: managedFields.filter(({ subresource }) => subresource !== 'status'),
    };
    return { ...object, metadata, status: undefined };
  });
}
