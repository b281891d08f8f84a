// Test support: resources with only what a test is about written out.
import type { Connection } from '../api/connection.ts';
import type {
  AccessPolicy,
  AccessPolicySpec,
  ClusterAccessPolicy,
  ClusterAccessPolicySpec,
  Rule,
} from '../api/policy.ts';
import type { PolicyShard } from './bundle.ts';
import type { Command } from './command.ts';
import { type BrokenResource, compilePolicies } from './compile.ts';
import { prepareSessionPolicy } from './prepare-session.ts';
import type { Principal } from './principal.ts';
import type { SessionPolicy } from './session-policy.ts';
import { type KeyMatcher, keyCommand, keyRules } from './test-protocol.ts';

const CREATED = '2026-01-01T00:00:00Z';

function metadata(name: string, namespace?: string, labels?: Record<string, string>) {
  return {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(labels === undefined ? {} : { labels }),
    uid: `uid-${namespace ?? ''}-${name}`,
    resourceVersion: '1',
    generation: 1,
    creationTimestamp: CREATED,
  };
}

export const alice: Principal = { username: 'alice@corp.example', groups: ['orders-dev'], aliases: [] };
export const bob: Principal = { username: 'bob@corp.example', groups: ['dba'], aliases: [] };

export function connection(name = 'orders-db', labels?: Record<string, string>): Connection {
  return {
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'Connection',
    metadata: metadata(name, 'payments', labels),
    spec: {
      type: 'PostgreSQL',
      postgresql: { host: 'db.example' },
      accounts: [
        { name: 'reader', secretRef: { name: 's' } },
        { name: 'writer', secretRef: { name: 's' } },
      ],
    },
  };
}

/** A rule with the test protocol's matcher, which the resource schema does not know. */
export type KeyRule = Omit<Rule, 'sql'> & { keys?: KeyMatcher };

type PolicyParts = Omit<Partial<AccessPolicySpec>, 'rules'> & { rules?: KeyRule[] };

export function policy(name: string, parts: PolicyParts = {}, namespace = 'payments'): AccessPolicy {
  return {
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'AccessPolicy',
    metadata: metadata(name, namespace),
    spec: {
      connectionSelector: {},
      subjects: [{ kind: 'Group', name: 'orders-dev' }],
      accounts: ['reader'],
      ...parts,
    },
  };
}

type ClusterParts = Omit<Partial<ClusterAccessPolicySpec>, 'rules'> & { rules?: KeyRule[] };

export function clusterPolicy(name: string, parts: ClusterParts = {}): ClusterAccessPolicy {
  return {
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'ClusterAccessPolicy',
    metadata: metadata(name),
    spec: { ...parts },
  };
}

export function shardOf(parts: {
  policies?: AccessPolicy[];
  clusterPolicies?: ClusterAccessPolicy[];
  broken?: BrokenResource[];
  connection?: Connection;
}): PolicyShard {
  return compilePolicies({
    connection: parts.connection ?? connection(),
    policies: parts.policies ?? [],
    clusterPolicies: parts.clusterPolicies ?? [],
    broken: parts.broken ?? [],
    protocol: keyRules,
  });
}

export function sessionOf(
  parts: Parameters<typeof shardOf>[0],
  request: { policy?: string; principal?: Principal; account?: string } = {},
): SessionPolicy {
  return prepareSessionPolicy(
    shardOf(parts),
    {
      policy: request.policy ?? 'payments/team',
      principal: request.principal ?? alice,
      generation: 1,
      ...(request.account === undefined ? {} : { account: request.account }),
    },
    keyRules,
  );
}

export function command(line: string): Command {
  const parsed = keyCommand(line);
  if (parsed === undefined) throw new Error(`the test protocol does not understand: ${line}`);
  return parsed;
}
