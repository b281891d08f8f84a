// The keys that records and decisions are verified with, for whoever has to verify them: a ConfigMap in the operator's
// namespace, raw public key by key id, the current one and those of earlier times that still count. Guarantees: nothing
// secret is in it; a ConfigMap of that name that is not the operator's is left alone. It proves nothing by itself: whoever
// may write in that namespace may write it, so an auditor keeps a copy elsewhere and compares.

import { type PublishedProofKey, readProofKey } from '../../identity/proof-encryption.ts';
import type { KubeClient } from '../../kube/client.ts';
import type { TrustedKey } from '../../policy/bundle-signing.ts';
import { rawPublicKey } from '../../recording/signer.ts';

export const TRUST_CONFIG_MAP = 'sallyport-trust';
/** Annotation with the key that proofs are encrypted to: a JWK. */
export const PROOF_KEY_ANNOTATION = 'sallyport.dev/proof-key';
/** Annotation with the id of the current key, by which acts on the approval page know the installation. */
export const CURRENT_KEY_ANNOTATION = 'sallyport.dev/current-key';
const MANAGED_BY = 'app.kubernetes.io/managed-by';

export interface TrustConfigMap {
  apiVersion: 'v1';
  kind: 'ConfigMap';
  metadata: {
    name: string;
    namespace: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    resourceVersion?: string;
  };
  data?: Record<string, string>;
}

/** Writes only where something differs. Throws where it can not be read or written, or is somebody else's. */
export async function publishTrust(options: {
  client: KubeClient;
  namespace: string;
  /** The current one first. */
  trusted: readonly TrustedKey[];
  proofKey?: PublishedProofKey;
}): Promise<'Unchanged' | 'Written'> {
  const { client, namespace } = options;
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  const current = options.trusted[0]?.keyId;
  const annotations = {
    ...(current === undefined ? {} : { [CURRENT_KEY_ANNOTATION]: current }),
    ...(options.proofKey === undefined ? {} : { [PROOF_KEY_ANNOTATION]: JSON.stringify(options.proofKey) }),
  };
  const wanted: TrustConfigMap = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: TRUST_CONFIG_MAP, namespace, labels: { [MANAGED_BY]: 'sallyport' }, annotations },
    data: Object.fromEntries(options.trusted.map(({ keyId, publicKey }) => [keyId, rawPublicKey(publicKey)])),
  };
  const found = await client.get<TrustConfigMap>(`${path}/${TRUST_CONFIG_MAP}`);
  if (found.kind === 'Failed' && found.status !== 404)
    throw new Error(`ConfigMap ${namespace}/${TRUST_CONFIG_MAP} can not be read: ${found.message}`);
  if (found.kind === 'Ok') {
    const { metadata, data = {} } = found.value;
    if (metadata.labels?.[MANAGED_BY] !== 'sallyport')
      throw new Error(`ConfigMap ${namespace}/${TRUST_CONFIG_MAP} is not Sallyport’s and was left alone; delete it`);
    const own = metadata.annotations ?? {};
    const told = Object.entries(annotations).every(([name, value]) => own[name] === value);
    if (told && sameData(data, wanted.data ?? {})) return 'Unchanged';
    wanted.metadata.annotations = { ...own, ...annotations };
    wanted.metadata.resourceVersion = metadata.resourceVersion ?? '';
  }
  const answer =
    found.kind === 'Ok'
      ? await client.replace(`${path}/${TRUST_CONFIG_MAP}`, wanted)
      : await client.create(path, wanted);
  if (answer.kind === 'Failed')
    throw new Error(`ConfigMap ${namespace}/${TRUST_CONFIG_MAP} can not be written: ${answer.message}`);
  return 'Written';
}

const sameData = (a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean =>
  Object.keys(a).length === Object.keys(b).length && Object.entries(a).every(([key, value]) => b[key] === value);

/** What makers of proofs need of it: the installation they are for, and the key they are encrypted to. */
export function proofTermsOf(map: TrustConfigMap): { cluster: string; key: PublishedProofKey } | undefined {
  const { [CURRENT_KEY_ANNOTATION]: cluster, [PROOF_KEY_ANNOTATION]: text } = map.metadata.annotations ?? {};
  const key = readProofKey(text);
  return cluster === undefined || key === undefined ? undefined : { cluster, key };
}
