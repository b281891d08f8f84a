// The objects of a large installation: namespaces full of Connections, policies that select five of them each, ten grants
// a Connection. One policy in ten asks for an approval, so that its grants wait; all other grants are in force.
import { randomBytes } from 'node:crypto';
import { specHash } from '../../../src/api/canonical.ts';
import { API_GROUP_VERSION } from '../../../src/api/group.ts';
import type { Sealer } from '../../../src/controllers/seal.ts';
import { generateClientKey } from '../../../src/identity/keys.ts';
import type { KubernetesObject } from '../../support/cluster/control-plane.ts';

export interface Size {
  connections: number;
  policies: number;
  grants: number;
}

export const FULL: Size = { connections: 1000, policies: 200, grants: 10_000 };
const NAMESPACES = 10;
/** One policy in so many waits for an approval. */
const APPROVED_EVERY = 10;

/** `count` things over the namespaces, one after the other. */
export const namespaceOf = (prefix: string, index: number): string => `${prefix}-${index % NAMESPACES}`;
export const namespaces = (prefix: string): KubernetesObject[] =>
  Array.from({ length: NAMESPACES }, (_, index) => ({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: `${prefix}-${index}` },
  }));

/** Connection `index` belongs to the team whose policy has the number below. */
const policyOf = (size: Size, index: number): number =>
  (Math.floor(index / NAMESPACES) % Math.max(1, Math.floor(size.policies / NAMESPACES))) * NAMESPACES +
  (index % NAMESPACES);

/** Whether grants of Connection `index` wait for an approval. */
export const waits = (size: Size, index: number): boolean =>
  Math.floor(policyOf(size, index) / NAMESPACES) % APPROVED_EVERY === 0;

export const connection = (prefix: string, size: Size, index: number): KubernetesObject => ({
  apiVersion: API_GROUP_VERSION,
  kind: 'Connection',
  metadata: {
    name: `db-${index}`,
    namespace: namespaceOf(prefix, index),
    labels: { team: `t${policyOf(size, index)}` },
  },
  spec: {
    type: 'PostgreSQL',
    postgresql: { host: `db-${index}.databases.example.com`, database: 'app' },
    accounts: [{ name: 'reader', secretRef: { name: `db-${index}-reader` } }],
  },
});

export const policy = (prefix: string, index: number): KubernetesObject => ({
  apiVersion: API_GROUP_VERSION,
  kind: 'AccessPolicy',
  metadata: { name: `team-${index}`, namespace: namespaceOf(prefix, index) },
  spec: {
    connectionSelector: { matchLabels: { team: `t${index}` } },
    subjects: [{ kind: 'Group', name: `team-${index}` }],
    accounts: ['reader'],
    access: 'Grant',
    maxDuration: '12h',
    ...(Math.floor(index / NAMESPACES) % APPROVED_EVERY === 0
      ? { approval: { timeout: '11h', steps: [{ name: 'dba', approvers: [{ kind: 'Group', name: 'dba' }] }] } }
      : {}),
    rules: [
      { name: 'read', action: 'Allow', sql: { effects: ['Read'] } },
      { name: 'orders', action: 'Allow', sql: { effects: ['Write'], tables: ['public.orders'] } },
      {
        name: 'no-ddl',
        action: 'Deny',
        sql: { effects: ['Define', 'Grant'] },
        message: 'Schema changes go through CI.',
      },
    ],
    masking: [{ name: 'cards', columns: ['*.cards.number'], with: 'Last4' }],
  },
});

/** A request as the admission webhook would store it: stamped and sealed now. */
export function grant(prefix: string, size: Size, number: number, sealer: Sealer, name?: string): KubernetesObject {
  const index = number % size.connections;
  const spec = {
    connectionRef: { name: `db-${index}` },
    duration: '8h',
    reason: `INC-${number}: look at a slow report`,
    clientKey: generateClientKey().publicKey,
  };
  const person = number % 997;
  const stamp = {
    via: 'Kubernetes' as const,
    username: `person-${person}@example.com`,
    uid: `00000000-0000-4000-8000-${String(person).padStart(12, '0')}`,
    groups: [`team-${policyOf(size, index)}`, 'engineers', 'system:authenticated'],
    specHash: specHash(spec),
    nonce: randomBytes(18).toString('base64url'),
    at: new Date().toISOString(),
  };
  return {
    apiVersion: API_GROUP_VERSION,
    kind: 'AccessGrant',
    metadata: { name: name ?? `db-${index}-g${number}`, namespace: namespaceOf(prefix, index) },
    spec: { ...spec, requester: { ...stamp, seal: sealer.sealStamp(stamp) } },
  };
}
