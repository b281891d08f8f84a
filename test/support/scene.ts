// A daemon before a real server, and ways in for tests that must say exactly what goes over the wire: raw clients
// without TLS, node-postgres with it, the server's own account of its sessions, and everything that was recorded.
// Guarantees nothing about timing; what waits does so with a deadline.
import path from 'node:path';
import pg from 'pg';
import { specHash } from '../../src/api/canonical.ts';
import type { AccessApproval } from '../../src/api/grant.ts';
import type { CommandHold } from '../../src/api/hold.ts';
import { API_GROUP_VERSION } from '../../src/api/schema.ts';
import type { RecordEnvelope } from '../../src/recording/envelope.ts';
import { readRecords } from '../../src/recording/reader.ts';
import { viewRecords } from '../../src/recording/store-view.ts';
import { type Acts, actsOn, type HeldGrant, type Person, until } from './in-process.ts';
import { connectionYaml, type Local, startLocal } from './local.ts';
import { type PostgresServer, startPostgres } from './postgres.ts';
import { type RawClient, rawConnect } from './raw-postgres.ts';

export const NAMESPACE = 'payments';
export const CONNECTION = 'orders-db';

export interface Scene {
  readonly server: PostgresServer;
  readonly local: Local;
  readonly acts: Acts;
  /** Asks for access and waits until it is active; Standing policies give it at once. */
  granted(who: Person, options?: { duration?: string; approver?: Person }): Promise<HeldGrant>;
  /** Logs in, in the clear. `parameters` of the StartupMessage. */
  raw(held: HeldGrant, parameters?: Record<string, string>): Promise<RawClient>;
  /** As `raw`, straight to the server. */
  direct(): Promise<RawClient>;
  /** node-postgres, over TLS; what it is told besides results goes to `notices`. */
  driver(held: HeldGrant): Promise<{ client: pg.Client; notices: string[]; errors: Error[] }>;
  /** One value straight from the server. */
  value<T>(sql: string, parameters?: unknown[]): Promise<T>;
  /** Everything recorded so far. */
  records(): RecordEnvelope[];
  waitingHold(matching?: (hold: CommandHold) => boolean): Promise<CommandHold>;
  hold(name: string): Promise<CommandHold | undefined>;
  decideHold(
    who: Person,
    hold: CommandHold,
    decision: AccessApproval['spec']['decision'],
    reason?: string,
  ): Promise<AccessApproval>;
  stop(): Promise<void>;
}

export interface SceneOptions {
  major?: 15 | 18;
  /** SQL that makes the database; the role `app` (no password) exists already. */
  setup: string;
  /** AccessPolicy documents. */
  policies: string;
  /** More lines of the Connection's spec, indented by two. */
  spec?: string;
  settings?: Record<string, string>;
}

export async function startScene(options: SceneOptions): Promise<Scene> {
  const server = await startPostgres({
    major: options.major ?? 18,
    auth: 'trust',
    setup: `create role app login; ${options.setup}`,
    ...(options.settings === undefined ? {} : { settings: options.settings }),
  });
  let local: Local;
  try {
    local = await startLocal({
      'connection.yaml': connectionYaml(server, {
        name: CONNECTION,
        namespace: NAMESPACE,
        accounts: { app: { username: 'app', password: 'unused-but-there' } },
        target: '    insecureClients: true\n    insecureAuthentication: [Trust]\n',
        ...(options.spec === undefined ? {} : { spec: options.spec }),
      }),
      'policy.yaml': options.policies,
    });
  } catch (error) {
    await server.stop();
    throw error;
  }
  const acts = actsOn(local, NAMESPACE);
  const hold = (name: string): Promise<CommandHold | undefined> =>
    acts.client.get<CommandHold>('CommandHold', NAMESPACE, name);

  /** The proxy hears of a grant a moment after the store: a login that comes first is refused. */
  const patient = async <T>(login: () => Promise<T>): Promise<T> => {
    let last: unknown;
    return until('a login', async () => {
      try {
        return await login();
      } catch (error) {
        last = error;
        return undefined;
      }
    }).catch((error: unknown) => {
      throw new Error(`${String(error)}: ${String(last)}\n${local.output().slice(-2000)}`);
    });
  };

  return {
    server,
    local,
    acts,
    async granted(who, more = {}) {
      const held = await acts.request(who, CONNECTION, { duration: more.duration ?? '1h' });
      if (more.approver !== undefined) await acts.decide(more.approver, held.grant, 'Approve');
      const grant = await until('the grant to be active', async () => {
        const seen = await acts.client.get<HeldGrant['grant']>('AccessGrant', NAMESPACE, held.grant.metadata.name);
        return seen?.status?.phase === 'Active' ? seen : undefined;
      });
      return { ...held, grant };
    },
    raw(held, parameters) {
      const { port, user, password, database } = held.login();
      return patient(() => rawConnect({ port, user, password, database, ...(parameters ? { parameters } : {}) }));
    },
    direct: () => rawConnect({ port: server.port, user: 'app', database: 'postgres' }),
    driver(held) {
      return patient(async () => {
        const notices: string[] = [];
        const errors: Error[] = [];
        const client = new pg.Client(held.login());
        client.on('error', (error) => errors.push(error));
        client.on('notice', (notice) => notices.push(`${notice.code} ${notice.message}`));
        try {
          await client.connect();
        } catch (error) {
          await client.end().catch(() => undefined);
          throw error;
        }
        return { client, notices, errors };
      });
    },
    async value<T>(sql: string, parameters?: unknown[]) {
      const { rows } = await server.query(sql, parameters);
      return Object.values(rows[0] as object)[0] as T;
    },
    records() {
      using view = viewRecords(path.join(local.state, 'records'));
      const found: RecordEnvelope[] = [];
      for (const item of readRecords(view)) if (item.kind === 'Record') found.push(item.record);
      return found;
    },
    waitingHold: (matching = () => true) =>
      until('a hold', async () => {
        const holds = await acts.client.list<CommandHold>('CommandHold', NAMESPACE);
        return holds.find((each) => (each.status?.phase ?? 'Waiting') === 'Waiting' && matching(each));
      }),
    hold,
    async decideHold(who, held, decision, reason) {
      const answer = await acts.client.create(
        { username: who.username, groups: who.groups, aliases: [] },
        {
          apiVersion: API_GROUP_VERSION,
          kind: 'AccessApproval',
          metadata: { name: `${held.metadata.name}-`, namespace: NAMESPACE },
          spec: {
            targetRef: { kind: 'CommandHold', name: held.metadata.name, uid: held.metadata.uid },
            specHash: specHash(held.spec),
            decision,
            ...(reason === undefined ? {} : { reason }),
          },
        },
      );
      if (answer.kind !== 'Ok') throw new Error(`not created: ${JSON.stringify(answer)}`);
      return (answer as unknown as { value: AccessApproval }).value;
    },
    async stop() {
      await local.stop();
      await server.stop();
    },
  };
}
