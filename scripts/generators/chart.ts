// What of the Helm chart is made from elsewhere: its CRDs (from src/api) and manifests/install.yaml (rendered from the
// chart by Helm, for people who have none).
import { parseAllDocuments, stringify } from 'yaml';
import { KINDS } from '../../src/api/kinds.ts';
import { API_GROUP } from '../../src/api/schema.ts';
import { helm } from '../../test/support/helm.ts';
import { crdOf } from './crds.ts';
import type { Generated } from './generated.ts';

export const RELEASE_NAMESPACE = 'sallyport-system';

/** One template a kind. Kept when the release goes: deleting a CRD deletes every object of its kind. */
export function chartCrds(): Generated[] {
  return Object.values(KINDS).map((definition) => ({
    path: `charts/sallyport/templates/crds/${API_GROUP}_${definition.plural}.yaml`,
    render: () => {
      const yaml = stringify(crdOf(definition), { lineWidth: 0, aliasDuplicateObjects: false });
      if (yaml.includes('{{')) throw new Error(`${definition.kind}: a description would be read as a template`);
      const head = /^metadata:\n( {2}name: .*\n)/m;
      if (!head.test(yaml)) throw new Error(`${definition.kind}: no metadata`);
      const templated = yaml.replace(
        head,
        `metadata:\n$1  labels:\n    {{- include "sallyport.labels" . | nindent 4 }}\n  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n`,
      );
      return `{{- /* Made by npm run generate from src/api. Do not edit. */}}\n{{- if .Values.crds.install }}\n${templated}{{- end }}\n`;
    },
  }));
}

/** After the chart's own files: it is rendered from them. */
export const installManifest: Generated = {
  path: 'manifests/install.yaml',
  render: async () => {
    const { stdout } = await helm('4', ['template', 'sallyport', 'charts/sallyport', '-n', RELEASE_NAMESPACE]);
    // Nobody manages these but whoever applies them.
    const objects = parseAllDocuments(stdout.replaceAll('managed-by: Helm', 'managed-by: kubectl'))
      .map((document) => document.toJS() as { kind: string; metadata: Labelled } | null)
      .filter((object) => object !== null);
    for (const object of objects) {
      delete object.metadata.annotations?.['helm.sh/resource-policy'];
      if (Object.keys(object.metadata.annotations ?? {}).length === 0) delete object.metadata.annotations;
    }
    const namespace = {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: {
        name: RELEASE_NAMESPACE,
        labels: { 'pod-security.kubernetes.io/enforce': 'restricted' },
      },
    };
    // What others refer to first, so that one `kubectl apply` does.
    const rank = (kind: string): number => ['Namespace', 'CustomResourceDefinition'].indexOf(kind);
    const sorted = [namespace, ...objects].sort((a, b) => {
      const [x, y] = [rank(a.kind), rank(b.kind)].map((n) => (n < 0 ? 9 : n)) as [number, number];
      return x - y;
    });
    return [
      '# Made by npm run generate from charts/sallyport. Do not edit.',
      '# kubectl apply --server-side -f install.yaml',
      ...sorted.map((object) => `---\n${stringify(object, { lineWidth: 0, aliasDuplicateObjects: false }).trimEnd()}`),
      '',
    ].join('\n');
  },
};

interface Labelled {
  annotations?: Record<string, string>;
}
