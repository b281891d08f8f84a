// Targets that no Connection may name, judged by their spelling alone, so that their author learns it from a condition
// and no pod is started for them. Pure. What a name resolves to is for the proxy's dial guard to judge.
import { BlockList, isIP } from 'node:net';

const refused = new BlockList();
for (const [network, bits] of [
  ['0.0.0.0', 8],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const)
  refused.addSubnet(network, bits, 'ipv4');
for (const address of ['100.100.100.200', '192.0.0.192', '168.63.129.16']) refused.addAddress(address, 'ipv4');
for (const [network, bits] of [
  ['::', 127],
  ['fe80::', 10],
  ['ff00::', 8],
  ['fd00:ec2::', 32],
  ['fd20:ce::', 32],
] as const)
  refused.addSubnet(network, bits, 'ipv6');

const METADATA_NAMES = ['metadata', 'metadata.google.internal', 'instance-data', 'instance-data.ec2.internal'];
const API_SERVER = /^kubernetes(?:\.default(?:\.svc(?:\.cluster\.local)?)?)?$/;
const SERVICE = /\.([a-z0-9-]+)\.svc(?:\.cluster\.local)?$/;

/** Why this target is refused; undefined: as far as its spelling goes it may be dialled. */
export function forbiddenTarget(
  host: string,
  namespaces: { own: string; operator: string },
): { reason: string; message: string } | undefined {
  const name = host.toLowerCase().replace(/\.$/, '');
  const bare = name.replace(/^\[(.*)\]$/, '$1');
  const refuse = (what: string): { reason: string; message: string } => ({
    reason: 'TargetForbidden',
    message: `The target ${host} is ${what}; no proxy is started for it. Name the server itself in spec.`,
  });
  const family = isIP(bare);
  if (family !== 0)
    return refused.check(bare, family === 4 ? 'ipv4' : 'ipv6')
      ? refuse('a loopback, link-local, metadata or other address that is never dialled')
      : undefined;
  if (name === 'localhost' || name.endsWith('.localhost')) return refuse('the proxy’s own machine');
  if (METADATA_NAMES.includes(name)) return refuse('a cloud metadata service');
  if (API_SERVER.test(name)) return refuse('the Kubernetes API server');
  // Resolvers take these for addresses: 127.1, 0x7f000001, 2130706433.
  if (/^(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+))*$/.test(name))
    return refuse('an address that is not written in full');
  const namespace = SERVICE.exec(name)?.[1];
  if (namespace !== undefined && namespace !== namespaces.own)
    return refuse(
      namespace === namespaces.operator
        ? 'in Sallyport’s own namespace'
        : `a Service of namespace ${namespace}, and a Connection reaches its own namespace’s only`,
    );
  return undefined;
}
