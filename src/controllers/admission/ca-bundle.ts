// Decides what the webhook's configuration has to say about whom to trust. Pure. Guarantees: the own authority is always
// in it; an authority that another replica may still serve with is left in it for a while, so that keys are rotated
// without a request being refused; a configuration that points elsewhere is not touched.
import { X509Certificate } from 'node:crypto';
import type { KubeObject } from '../../kube/object.ts';

export const WEBHOOK_CONFIGURATION = 'sallyport';
export const WEBHOOK_SERVICE = 'sallyport-webhook';

export interface WebhookConfiguration extends KubeObject {
  webhooks?: {
    name: string;
    clientConfig?: { caBundle?: string; service?: { name?: string; namespace?: string } };
  }[];
}

export type BundlePatchOperation =
  | { op: 'test'; path: string; value: unknown }
  | { op: 'add'; path: string; value: string };

export type BundlePlan =
  | { kind: 'Fits' }
  /** RFC 6902; its first operation makes it fail where somebody else was quicker. */
  | { kind: 'Patch'; patch: readonly BundlePatchOperation[] }
  /** Nothing that can be done from here. */
  | { kind: 'Foreign'; message: string };

/** Other authorities than the own one that are kept at most: one is being rotated out. */
const MOST_OTHERS = 1;

/**
 * `caPem`: the own authority's certificate. `keepOthers`: whether replicas with another authority may still be at work.
 */
export function planBundle(
  configuration: WebhookConfiguration,
  own: { caPem: string; namespace: string; keepOthers: boolean; nowMs: number },
): BundlePlan {
  const webhooks = configuration.webhooks ?? [];
  const ours = webhooks.flatMap(({ name, clientConfig }, index) => {
    const { service } = clientConfig ?? {};
    return service?.name === WEBHOOK_SERVICE && service.namespace === own.namespace
      ? [{ name, index, bundle: clientConfig?.caBundle }]
      : [];
  });
  if (ours.length === 0) {
    return {
      kind: 'Foreign',
      message: `MutatingWebhookConfiguration ${configuration.metadata.name} does not lead to Service ${own.namespace}/${WEBHOOK_SERVICE}: another installation may own it; one serves a cluster`,
    };
  }
  const patch: BundlePatchOperation[] = [];
  for (const { name, index, bundle } of ours) {
    const wanted = bundleOf(bundle, own);
    if (wanted === bundle) continue;
    patch.push({ op: 'test', path: `/webhooks/${index}/name`, value: name });
    patch.push({ op: 'add', path: `/webhooks/${index}/clientConfig/caBundle`, value: wanted });
  }
  if (patch.length === 0) return { kind: 'Fits' };
  const version: BundlePatchOperation = {
    op: 'test',
    path: '/metadata/resourceVersion',
    value: configuration.metadata.resourceVersion,
  };
  return { kind: 'Patch', patch: [version, ...patch] };
}

/** Whether a replica with another authority has left its own in the bundle. */
export function hasOthers(configuration: WebhookConfiguration, caPem: string): boolean {
  const own = normal(caPem);
  return (configuration.webhooks ?? []).some(({ clientConfig }) =>
    certificatesOf(clientConfig?.caBundle).some((pem) => normal(pem) !== own),
  );
}

function bundleOf(bundle: string | undefined, own: { caPem: string; keepOthers: boolean; nowMs: number }): string {
  const ours = normal(own.caPem);
  const present = certificatesOf(bundle).map(normal);
  const others = own.keepOthers
    ? present.filter((pem) => pem !== ours && isInForce(pem, own.nowMs)).slice(0, MOST_OTHERS)
    : [];
  const kept = [...new Set(others)];
  // The order that is there is kept: two replicas with two authorities must agree, not take turns.
  const same =
    present.length === kept.length + 1 && present.includes(ours) && kept.every((pem) => present.includes(pem));
  return same ? bundle! : Buffer.from([ours, ...kept].join('')).toString('base64');
}

function certificatesOf(bundle: string | undefined): string[] {
  const text = Buffer.from(bundle ?? '', 'base64').toString('latin1');
  return text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
}

const normal = (pem: string): string => `${pem.trim().replace(/\r/g, '')}\n`;

function isInForce(pem: string, nowMs: number): boolean {
  try {
    const certificate = new X509Certificate(pem);
    return certificate.ca && certificate.validToDate.getTime() > nowMs;
  } catch {
    return false;
  }
}
