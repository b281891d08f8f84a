// Test support: the controllers over a real directory store, with a clock that is moved by hand and a protocol made for
// tests.
import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { sha256Hex, specHash } from '../api/canonical.ts';
import type { AccessApproval, AccessGrant } from '../api/grant.ts';
import type { CommandHold } from '../api/hold.ts';
import { API_GROUP_VERSION } from '../api/schema.ts';
import type { GrantsShard, ShardEnvelope } from '../policy/bundle.ts';
import { signingKeyFromPem, trustedKeyOf, verifyShard } from '../policy/bundle-signing.ts';
import type { Principal } from '../policy/principal.ts';
import type { ProtocolDefinition } from '../protocols/protocol.ts';
import type { ControlBody } from '../recording/envelope.ts';
import { type DirectoryStore, openDirectoryStore } from '../store/directory/store.ts';
import type { Actor } from '../store/resource-store.ts';
import { systemFiles } from '../system/files.ts';
import { type ManualClock, manualClock } from '../system/manual-clock.ts';
import { systemRandom } from '../system/random.ts';
import type { NotifierServices } from './notifiers/channel.ts';
import { type Operator, type OperatorOptions, startOperator } from './operator.ts';
import { createSealer } from './seal.ts';

export const protocol: ProtocolDefinition = {
  name: 'postgresql',
  type: 'PostgreSQL',
  rules: {
    member: 'sql',
    presets: {},
    lint: () => [],
    prepare: () => ({ restricts: () => true, permits: () => true }),
  },
  describe: () => ({ ports: [], capabilities: [], connectCommand: '' }),
  commandHash: (_connection, account, text) => sha256Hex(`${account} ${text}`),
};

export const connection = (namespace: string): string => `apiVersion: sallyport.dev/v1alpha1
kind: Connection
metadata: {name: orders-db, namespace: ${namespace}}
spec:
  type: PostgreSQL
  postgresql: {host: localhost}
  accounts: [{name: writer, secretRef: {name: writer}}]
`;
export const policy = (namespace: string, name: string, group: string, approvers: string): string => `---
apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: ${name}, namespace: ${namespace}}
spec:
  connectionSelector: {}
  subjects: [{kind: Group, name: ${group}}]
  accounts: [writer]
  maxDuration: 2h
  approval: {timeout: 10m, steps: [{name: only, approvers: [{kind: Group, name: ${approvers}}]}]}
  rules: [{name: all, action: Allow}]
`;

/** How whoever acts had logged in. */
export type Login = Pick<Extract<Actor, { kind: 'Person' }>, 'auth' | 'via'>;

/** Where what was started is stopped: a test's context is one. */
export interface Cleanup {
  after(stop: () => Promise<void>): void;
}

export interface World {
  clock: ManualClock;
  store: DirectoryStore;
  operator: Operator;
  shards: Map<string, ShardEnvelope>;
  acts: ControlBody[];
  /** While true, records can not be written. */
  diskFull: boolean;
  directory: string;
  settle(): Promise<void>;
  restart(): Promise<void>;
  grant(who: Principal, spec?: Record<string, unknown>, namespace?: string, login?: Login): Promise<AccessGrant>;
  vote(
    who: Principal,
    target: AccessGrant | CommandHold,
    decision: AccessApproval['spec']['decision'],
    change?: Record<string, unknown>,
    login?: Login,
  ): Promise<AccessApproval>;
  see<R extends AccessGrant | AccessApproval | CommandHold>(object: R): Promise<R>;
  published(namespace?: string): GrantsShard['grants'];
}

export const person = (username: string, ...groups: string[]): Principal => ({ username, groups, aliases: [] });
export const alice = person('alice', 'dev');
export const dana = person('dana', 'dba');

export async function world(
  context: Cleanup,
  yaml = connection('payments') + policy('payments', 'team', 'dev', 'dba'),
  notifiers?: (key: KeyObject) => NotifierServices,
  /** Beside what a test has. */
  more: (files: { directory: string; reload(): void }) => Partial<OperatorOptions> = () => ({}),
): Promise<World> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-operator-'));
  const directory = path.join(folder, 'access');
  fs.mkdirSync(directory);
  fs.writeFileSync(path.join(directory, 'all.yaml'), yaml);
  const clock = manualClock();
  const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const key = signingKeyFromPem(pem);
  const sealer = createSealer(key);
  const acts: ControlBody[] = [];
  const shards = new Map<string, ShardEnvelope>();
  let epoch = 0;
  const made = { diskFull: false };
  const open = async (): Promise<Pick<World, 'store' | 'operator'>> => {
    const store = openDirectoryStore({
      directory,
      stateFolder: path.join(folder, 'state'),
      clock,
      random: systemRandom,
      files: systemFiles,
      seal: (stamp) => sealer.sealStamp(stamp),
      watch: false,
    });
    epoch += 1;
    const operator = await startOperator({
      store,
      definitions: [protocol],
      sealer,
      records: {
        write: async (body) => {
          if (made.diskFull) throw new Error('ENOSPC');
          acts.push(body);
        },
      },
      clock,
      random: systemRandom,
      log: () => undefined,
      key,
      epoch,
      publisher: {
        publish: (envelope) => {
          assert.equal(verifyShard([trustedKeyOf(key)], envelope).kind, 'Good');
          const last = shards.get(`${envelope.connectionUid} ${envelope.shard}`);
          assert.ok(last === undefined || envelope.epoch > last.epoch || envelope.sequence > last.sequence);
          shards.set(`${envelope.connectionUid} ${envelope.shard}`, envelope);
        },
        withdraw: (uid, shard) => void shards.delete(`${uid} ${shard}`),
      },
      broken: () => store.broken(),
      endpoint: () => ({ host: 'localhost', port: 5432 }),
      caBundle: 'CA',
      probe: async () => ({ kind: 'Reachable', version: 'test' }),
      prefix: 'sallyport',
      ...(notifiers === undefined ? {} : { notifiers: notifiers(key.privateKey) }),
      ...more({ directory, reload: () => store.reload() }),
    });
    return { store, operator };
  };
  let current = await open();
  const settle = async (): Promise<void> => {
    for (let quiet = 0; quiet < 4; quiet += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      if (!current.operator.idle) quiet = 0;
    }
  };
  const create = async <R>(
    actor: Actor,
    kind: 'AccessGrant' | 'AccessApproval',
    namespace: string,
    spec: unknown,
  ): Promise<R> => {
    const result = await current.store.create(actor, {
      apiVersion: API_GROUP_VERSION,
      kind,
      metadata: { name: `${kind.toLowerCase()}-`, namespace },
      spec,
    });
    assert.equal(result.kind, 'Ok', JSON.stringify(result));
    await settle();
    return (result as { value: unknown }).value as R;
  };
  context.after(async () => {
    await current.operator.stop();
    current.store.close();
    fs.rmSync(folder, { recursive: true });
  });
  await settle();
  return {
    clock,
    get store() {
      return current.store;
    },
    get operator() {
      return current.operator;
    },
    shards,
    acts,
    get diskFull() {
      return made.diskFull;
    },
    set diskFull(full) {
      made.diskFull = full;
    },
    directory,
    settle,
    async restart() {
      await current.operator.stop();
      current.store.close();
      current = await open();
      await settle();
    },
    grant: (who, spec = {}, namespace = 'payments', login = {}) => {
      clock.advance(1); // requests of one millisecond are ordered by uid, which is random
      return create<AccessGrant>({ kind: 'Person', principal: who, ...login }, 'AccessGrant', namespace, {
        connectionRef: { name: 'orders-db' },
        reason: 'INC-1',
        ...spec,
      });
    },
    vote: (who, target, decision, change = {}, login = {}) => {
      clock.advance(1); // votes of one millisecond are ordered by uid, which is random
      return create<AccessApproval>(
        { kind: 'Person', principal: who, ...login },
        'AccessApproval',
        target.metadata.namespace!,
        {
          targetRef: { kind: target.kind, name: target.metadata.name, uid: target.metadata.uid },
          specHash: specHash(target.spec),
          decision,
          ...change,
        },
      );
    },
    async see<R extends AccessGrant | AccessApproval | CommandHold>(object: R) {
      const { namespace, name } = object.metadata;
      return (await current.store.get<R>({ kind: object.kind, ...(namespace ? { namespace } : {}), name }))!;
    },
    published(namespace = 'payments') {
      const found = [...shards.values()].filter((envelope) => {
        if (!envelope.shard.startsWith('grants-')) return false;
        const own = shards.get(`${envelope.connectionUid} policy`)!;
        return (JSON.parse(own.payload) as { connection: { namespace: string } }).connection.namespace === namespace;
      });
      return found.flatMap((envelope) => (JSON.parse(envelope.payload) as GrantsShard).grants);
    },
  };
}

export const phase = async (at: World, grant: AccessGrant): Promise<string | undefined> =>
  (await at.see(grant)).status?.phase;
