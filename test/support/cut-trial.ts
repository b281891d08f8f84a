// One sleeping session, ended in one of four ways: how long until the client heard FATAL and the backend was gone.
import pg from 'pg';
import type { AccessGrant } from '../../src/api/grant.ts';
import { actsOn, type Person, until } from './in-process.ts';
import type { Local } from './local.ts';
import type { PostgresServer } from './postgres.ts';

export type CutKind = 'expiry' | 'revoke' | 'kill' | 'lock';

export interface CutResult {
  /** From the act's acceptance (expiry: from the grant's end) to the client's FATAL. */
  ms: number;
  message: string;
  code: string | undefined;
  hint: string | undefined;
  /** To the backend's absence from pg_stat_activity, polled every 10 ms. */
  goneMs: number;
}

const ENGINEER: Person = { username: 'cut-engineer', groups: [] };
const APPROVER: Person = { username: 'cut-approver', groups: ['cut-approvers'] };

/** The policy that `cutTrial` runs under; add it to the directory. */
export const cutPolicy = (
  namespace: string,
  connection: string,
  account: string,
): string => `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: cut-trials, namespace: ${namespace}}
spec:
  connectionSelector: {names: [${connection}]}
  subjects: [{kind: User, name: cut-engineer}]
  accounts: [${account}]
  approval:
    steps: [{name: one, approvers: [{kind: Group, name: cut-approvers}]}]
  rules:
  - {name: all, action: Allow, sql: {effects: [Read, Write, Session, Execute]}}
`;

/** `statement` keeps the backend at work: asleep by default, busy with a long query if so given. */
export async function cutTrial(
  local: Local,
  server: PostgresServer,
  kind: CutKind,
  options: { namespace?: string; connection?: string; statement?: string } = {},
): Promise<CutResult> {
  const namespace = options.namespace ?? 'payments';
  const statement = options.statement ?? 'select pg_sleep(600)';
  const acts = actsOn(local, namespace);
  const held = await acts.request(ENGINEER, options.connection ?? 'orders-db', {
    duration: kind === 'expiry' ? '2s' : '10m',
  });
  await acts.decide(APPROVER, held.grant, 'Approve');
  const active = await until('the grant to be active', async () => {
    const seen = await acts.client.get<AccessGrant>('AccessGrant', namespace, held.grant.metadata.name);
    return seen?.status?.phase === 'Active' ? seen : undefined;
  });
  // The proxy hears of it a moment after the store; a login that is too early is refused.
  const client = await until('the login to succeed', async () => {
    const candidate = new pg.Client(held.login());
    candidate.on('error', () => undefined);
    try {
      await candidate.connect();
      return candidate;
    } catch {
      await candidate.end().catch(() => undefined);
      return undefined;
    }
  });
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  const backend = rows[0]!.pid;
  const ended = new Promise<{ at: number; error: pg.DatabaseError }>((resolve) => {
    client.query(statement).then(
      () => resolve({ at: Number.NaN, error: new Error('the statement finished') as pg.DatabaseError }),
      (error: pg.DatabaseError) => resolve({ at: performance.timeOrigin + performance.now(), error }),
    );
  });
  const watcher = new pg.Client({
    host: '127.0.0.1',
    port: server.port,
    user: server.superuser.username,
    password: server.superuser.password,
    database: 'postgres',
    ssl: { ca: server.ca },
  });
  watcher.on('error', () => undefined);
  await watcher.connect();
  const stateOf = async (): Promise<string | undefined> =>
    (await watcher.query<{ state: string }>('select state from pg_stat_activity where pid = $1', [backend])).rows[0]
      ?.state;
  await until('the statement to run', async () => ((await stateOf()) === 'active' ? true : undefined));

  const now = (): number => performance.timeOrigin + performance.now();
  let from: number;
  switch (kind) {
    case 'expiry':
      from = Date.parse(active.status!.expiresAt!);
      break;
    case 'revoke':
      await acts.decide(APPROVER, held.grant, 'Revoke');
      from = now();
      break;
    case 'kill': {
      const session = (await acts.client.sessions()).find((each) => each.grant?.uid === held.grant.metadata.uid)!;
      from = now();
      await acts.client.kill({ username: APPROVER.username, groups: APPROVER.groups, aliases: [] }, session.id);
      break;
    }
    case 'lock': {
      const lock = await acts.lockUser(APPROVER, ENGINEER.username);
      from = now();
      const result = await finish();
      await acts.unlock(APPROVER, lock);
      await until('the lock to be lifted', async () => {
        const probe = await acts.client.list('AccessLock', namespace);
        return probe.length === 0 ? true : undefined;
      });
      return result;
    }
  }
  return finish();

  async function finish(): Promise<CutResult> {
    const { at, error } = await ended;
    await until('the backend to be gone', async () => ((await stateOf()) === undefined ? true : undefined), 10_000, 10);
    const gone = now();
    await watcher.end();
    await client.end().catch(() => undefined);
    return {
      ms: Math.max(0, at - from),
      message: error.message,
      code: error.code,
      hint: error.hint,
      goneMs: Math.max(0, gone - from),
    };
  }
}
