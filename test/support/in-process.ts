// Acts on a running local daemon without starting the CLI for each act, so that acts can be timed and made by the hundred.
import { specHash } from '../../src/api/canonical.ts';
import type { Connection } from '../../src/api/connection.ts';
import type { AccessApproval, AccessGrant } from '../../src/api/grant.ts';
import type { AccessLock } from '../../src/api/lock.ts';
import { API_GROUP_VERSION } from '../../src/api/schema.ts';
import { type Client, createClient } from '../../src/cli/client.ts';
import { type ClientKeyPair, generateClientKey } from '../../src/identity/keys.ts';
import { issueTicket } from '../../src/identity/tickets.ts';
import { systemRandom } from '../../src/system/random.ts';
import type { Local } from './local.ts';

export interface Person {
  username: string;
  groups: readonly string[];
}

export interface HeldGrant {
  grant: AccessGrant;
  key: ClientKeyPair;
  /** What a client needs to log in with it; a fresh ticket at each call. */
  login(): {
    host: string;
    port: number;
    user: string;
    password: string;
    database: string;
    ssl: { ca: string; servername: string };
  };
}

export interface Acts {
  client: Client;
  request(who: Person, connection: string, options?: { duration?: string; account?: string }): Promise<HeldGrant>;
  decide(who: Person, grant: AccessGrant, decision: AccessApproval['spec']['decision']): Promise<void>;
  lockUser(who: Person, user: string): Promise<AccessLock>;
  unlock(who: Person, lock: AccessLock): Promise<void>;
}

const actor = (who: Person) => ({ username: who.username, groups: who.groups, aliases: [] });
export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export async function until<T>(
  what: string,
  look: () => Promise<T | undefined> | T | undefined,
  ms = 15_000,
  everyMs = 20,
): Promise<T> {
  const deadline = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > deadline) throw new Error(`waited ${ms} ms in vain for ${what}`);
    await sleep(everyMs);
  }
}

export function actsOn(local: Local, namespace = 'payments'): Acts {
  const client = createClient(local.state, 'sallyport');
  const created = async <R>(answer: Promise<{ kind: string }>): Promise<R> => {
    const result = await answer;
    if (result.kind !== 'Ok') throw new Error(`not created: ${JSON.stringify(result)}`);
    return (result as unknown as { value: R }).value;
  };
  return {
    client,
    async request(who, connectionName, options = {}) {
      const key = generateClientKey();
      const made = await created<AccessGrant>(
        client.create(actor(who), {
          apiVersion: API_GROUP_VERSION,
          kind: 'AccessGrant',
          metadata: { name: `${connectionName}-`, namespace },
          spec: {
            connectionRef: { name: connectionName },
            clientKey: key.publicKey,
            duration: options.duration ?? '1h',
            ...(options.account !== undefined ? { account: options.account } : {}),
          },
        }),
      );
      const grant = await until('the grant to be looked at', async () => {
        const seen = await client.get<AccessGrant>('AccessGrant', namespace, made.metadata.name);
        return seen?.status?.phase === undefined ? undefined : seen;
      });
      const connection = await until('the endpoint', async () => {
        const seen = await client.get<Connection>('Connection', namespace, connectionName);
        return seen?.status?.endpoint === undefined ? undefined : seen;
      });
      return {
        grant,
        key,
        login: () => ({
          host: connection.status!.endpoint!.host,
          port: connection.status!.endpoint!.port,
          user: grant.status?.account ?? 'any',
          password: issueTicket({
            privateKey: key.privateKey,
            grantUid: grant.metadata.uid,
            connectionUid: connection.metadata.uid,
            nowMs: Date.now(),
            random: systemRandom,
          }),
          database: connection.spec.postgresql?.databases?.[0] ?? 'postgres',
          ssl: { ca: connection.status!.caBundle!, servername: 'localhost' },
        }),
      };
    },
    async decide(who, grant, decision) {
      await created(
        client.create(actor(who), {
          apiVersion: API_GROUP_VERSION,
          kind: 'AccessApproval',
          metadata: { name: `${grant.metadata.name}-`, namespace },
          spec: {
            targetRef: { kind: 'AccessGrant', name: grant.metadata.name, uid: grant.metadata.uid },
            specHash: specHash(grant.spec),
            decision,
          },
        }),
      );
    },
    lockUser: (who, user) =>
      created<AccessLock>(
        client.create(actor(who), {
          apiVersion: API_GROUP_VERSION,
          kind: 'AccessLock',
          metadata: { name: 'lock-', namespace },
          spec: { target: { user }, reason: 'a test of locks' },
        }),
      ),
    async unlock(who, lock) {
      await client.remove(actor(who), 'AccessLock', namespace, lock.metadata.name);
    },
  };
}
