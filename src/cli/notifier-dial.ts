// How what notifies people gets out of a network that is left through a proxy alone. Guarantees: what the guard would not
// let anybody reach, the proxy is not asked for either: hosts that the Secret does not list, names of the cluster and of
// this network, addresses, and names that resolve here to what is forbidden. Those go the guard's own way, which judges
// them. A name that only the proxy can resolve is the proxy's to judge.
import { lookup as dnsLookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { GuardedDial } from '../controllers/notifiers/https.ts';
import { classifyAddress } from '../gateway/addresses.ts';
import { hostListed } from '../gateway/dial-guard.ts';
import { connectThrough, type Environment, proxyOf } from '../system/http-proxy.ts';

export interface ProxiedDialOptions {
  env: Environment;
  /** All addresses of a name; rejects where there are none. Default: the system's resolver. */
  resolve?: (host: string) => Promise<readonly string[]>;
}

export function dialThroughProxy(dial: GuardedDial, { env, resolve = system }: ProxiedDialOptions): GuardedDial {
  return async (target, hosts, signal) => {
    const { host, port } = target;
    const url = URL.canParse(`https://${isIP(host) === 6 ? `[${host}]` : host}:${port}`)
      ? new URL(`https://${isIP(host) === 6 ? `[${host}]` : host}:${port}`)
      : undefined;
    const proxy = url && proxyOf(url, env);
    if (proxy === undefined || isInside(host) || !hostListed(hosts, target)) return dial(target, hosts, signal);
    const addresses = await resolve(host).catch(() => []);
    // The guard says why, in its own words.
    if (addresses.some((address) => classifyAddress(address) !== 'Public')) return dial(target, hosts, signal);
    return connectThrough(proxy, target, signal);
  };
}

const INSIDE = /(^[^.]+|\.(svc|local|internal|localhost|localdomain))\.?$/i;
const isInside = (host: string): boolean => isIP(host) !== 0 || INSIDE.test(host) || /\.svc\./i.test(host);

const system = async (host: string): Promise<readonly string[]> =>
  (await dnsLookup(host, { all: true })).map(({ address }) => address);
