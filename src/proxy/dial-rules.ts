// What a proxy in a pod may not dial beyond what the dial guard refuses anyway: the cluster's API, and Services of other
// namespaces, by whatever name or address they are spelled (INV-12).
//
// A Service is known by its name (`….NAMESPACE.svc…`) and, where only its address is seen, by the name that the cluster's
// DNS has for it: every ClusterIP has one, and so have the pods of a headless Service. Does not know: addresses of other
// pods, for which DNS has no names, and the API server's own machines. Close those by NetworkPolicy.
import { Resolver } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import type { Clock } from '../system/clock.ts';

export interface DialRules {
  /** Why this name may not be dialled; undefined: it may, as far as its name tells. */
  refuseName(host: string): string | undefined;
  /** Why this address may not be dialled. Never rejects. */
  refuseAddress(address: string): Promise<string | undefined>;
}

export interface DialRulesOptions {
  namespace: string;
  /** KUBERNETES_SERVICE_HOST. */
  apiServer: string | undefined;
  /** Name of the cluster, `cluster.local`. Default: what /etc/resolv.conf tells. */
  domain?: string;
  /** Names of an address; rejects with a code as `dns.promises.reverse` does. */
  reverse?: (address: string) => Promise<readonly string[]>;
  clock: Clock;
}

const KEEP_MS = 30_000;
const MOST_KEPT = 1_024;
const REVERSE_MS = 1_000;
/** There is no name, says somebody who knows. A DNS that has not read the cluster's Services yet says SERVFAIL instead. */
const NAMELESS = new Set(['ENOTFOUND', 'ENODATA', 'ENOTIMP']);

export function dialRules(options: DialRulesOptions): DialRules {
  const { namespace, clock } = options;
  const domain = options.domain ?? clusterDomain(namespace) ?? 'cluster.local';
  const reverse = options.reverse ?? systemReverse();
  const known = new Map<string, { problem: string | undefined; until: number }>();

  function problemOfName(host: string): string | undefined {
    const labels = host.toLowerCase().replace(/\.$/, '').split('.');
    const suffix = domain.toLowerCase().split('.');
    const inDomain =
      labels.length > suffix.length && suffix.every((label, i) => labels.at(i - suffix.length) === label);
    const own = inDomain ? labels.slice(0, -suffix.length) : labels;
    const what = own.at(-1);
    if (what !== 'svc' && what !== 'pod') return undefined;
    const place = own.at(-2);
    if (place === undefined) return 'names no Service';
    if (place !== namespace) return `is in namespace ${place}; a Connection reaches Services of its own namespace only`;
    if (namespace === 'default' && own.at(-3) === 'kubernetes') return 'is the cluster’s API';
    return undefined;
  }

  async function judge(address: string): Promise<string | undefined> {
    if (options.apiServer !== undefined && address === options.apiServer) return 'is the cluster’s API';
    let names: readonly string[];
    try {
      names = await reverse(address);
    } catch (error) {
      if (NAMELESS.has((error as NodeJS.ErrnoException).code ?? '')) return undefined;
      // Somebody did not answer. If the cluster's DNS does, it knows no such Service and has asked others.
      return (await answers())
        ? undefined
        : 'can not be judged: the cluster’s DNS does not say whether it is a Service of another namespace';
    }
    for (const name of names) {
      const problem = problemOfName(name);
      if (problem !== undefined) return `is ${name.replace(/\.$/, '')}, which ${problem}`;
    }
    return undefined;
  }

  /** Whether the cluster's DNS answers for an address that it must know. */
  async function answers(): Promise<boolean> {
    if (options.apiServer === undefined) return false;
    try {
      await reverse(options.apiServer);
      return true;
    } catch (error) {
      return NAMELESS.has((error as NodeJS.ErrnoException).code ?? '');
    }
  }

  return {
    refuseName: problemOfName,
    async refuseAddress(address) {
      const now = clock.monotonic();
      const found = known.get(address);
      if (found !== undefined && now < found.until) return found.problem;
      const problem = await judge(address);
      known.delete(address);
      known.set(address, { problem, until: now + KEEP_MS });
      if (known.size > MOST_KEPT) known.delete(known.keys().next().value!);
      return problem;
    },
  };
}

/** `search payments.svc.cluster.local svc.cluster.local …` names the cluster's domain. */
export function clusterDomain(namespace: string, file = '/etc/resolv.conf'): string | undefined {
  try {
    for (const line of readFileSync(file, 'utf8').split('\n')) {
      const [keyword, ...names] = line.trim().split(/\s+/);
      if (keyword !== 'search') continue;
      const own = names.find((name) => name.startsWith(`${namespace}.svc.`));
      if (own !== undefined) return own.slice(namespace.length + 5).replace(/\.$/, '');
    }
  } catch {
    // No such file: no cluster's DNS either.
  }
  return undefined;
}

function systemReverse(): (address: string) => Promise<readonly string[]> {
  const resolver = new Resolver({ timeout: REVERSE_MS, tries: 2 });
  return (address) => resolver.reverse(address);
}
