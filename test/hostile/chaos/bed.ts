// A daemon between pgbench and a server that logs every statement: what the server's log says it executed is compared
// with what the records say was sent. The server's log is the witness; nothing of Sallyport's own is believed.
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { CommandBody, EndBody, RecordEnvelope } from '../../../src/recording/envelope.ts';
import { readRecords } from '../../../src/recording/reader.ts';
import { viewRecords } from '../../../src/recording/store-view.ts';
import type { VerifyReport } from '../../../src/recording/verify.ts';
import { actsOn, type HeldGrant, until } from '../../support/in-process.ts';
import { connectionYaml, type Local, startLocal } from '../../support/local.ts';
import { type PostgresServer, startPostgres } from '../../support/postgres.ts';

export interface ChaosBed {
  server: PostgresServer;
  local: Local;
  records: string;
  held: HeldGrant;
  load(mode: LoadMode): Load;
  verify(): Promise<VerifyReport>;
  stop(): Promise<void>;
}

export type LoadMode = 'simple' | 'extended' | 'prepared';

export interface Load {
  /** Resolves with all it printed once pgbench has ended by itself. */
  ended: Promise<string>;
  stop(): void;
}

const ACCOUNT = { username: 'chaos_writer', password: 'chaos-writer-password' };
export const CLIENTS = 8;

const POLICY = `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: chaos, namespace: payments}
spec:
  connectionSelector: {names: [orders-db]}
  subjects: [{kind: User, name: chaos-engineer}]
  accounts: [writer]
  access: Standing
  maxDuration: 8h
  rules:
  - {name: read-write, preset: ReadWrite}
`;

// Every text (or its parameters) is of one execution only, so that a record can not stand for another's statement. The
// numbers are too short to be taken for those of cards, which records do not keep.
const SCRIPT = `\\set x random(1, 900000000)
begin;
insert into ledger values (:x, :client_id, 0);
update ledger set v = v + 1 where id = :x and client = :client_id;
select v from ledger where id = :x and client = :client_id;
commit;
select count(*) from ledger where id = :x;
`;

export async function startChaosBed(): Promise<ChaosBed> {
  const server = await startPostgres({
    database: 'orders',
    logStatements: true,
    setup: `create role ${ACCOUNT.username} login password '${ACCOUNT.password}';
      create table ledger (id bigint, client int, v int);
      create index on ledger (id);
      alter table ledger owner to ${ACCOUNT.username};`,
  });
  let local: Local | undefined;
  try {
    local = await startLocal({
      'connection.yaml': connectionYaml(server, { database: 'orders', accounts: { writer: ACCOUNT } }),
      'policy.yaml': POLICY,
    });
    return await bedOf(server, local);
  } catch (error) {
    await local?.stop();
    await server.stop();
    throw error;
  }
}

async function bedOf(server: PostgresServer, local: Local): Promise<ChaosBed> {
  const acts = actsOn(local);
  const held = await acts.request({ username: 'chaos-engineer', groups: [] }, 'orders-db', { duration: '4h' });
  await until('the standing grant', async () => {
    const seen = await acts.client.get('AccessGrant', 'payments', held.grant.metadata.name);
    return (seen as typeof held.grant | undefined)?.status?.phase === 'Active' ? true : undefined;
  });
  const script = path.join(local.directory, '..', 'load.sql');
  const ca = path.join(local.directory, '..', 'gateway.crt');
  fs.writeFileSync(script, SCRIPT);
  fs.writeFileSync(ca, held.login().ssl.ca);
  const loads = new Set<ChildProcess>();
  return {
    server,
    local,
    records: path.join(local.state, 'records'),
    held,
    load(mode) {
      const login = held.login();
      const child = spawn('pgbench', ['-n', '-T', '60', '-c', String(CLIENTS), '-j', '2', '-M', mode, '-f', script], {
        env: {
          PATH: process.env.PATH,
          PGHOST: login.host,
          PGPORT: String(login.port),
          PGUSER: login.user,
          PGPASSWORD: login.password,
          PGDATABASE: login.database,
          PGSSLMODE: 'verify-full',
          PGSSLROOTCERT: ca,
          PGGSSENCMODE: 'disable',
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      loads.add(child);
      let output = '';
      child.stdout.on('data', (bytes: Buffer) => (output += bytes.toString()));
      child.stderr.on('data', (bytes: Buffer) => (output += bytes.toString()));
      const ended = new Promise<string>((resolve, reject) => {
        child.once('error', reject);
        child.once('close', () => {
          loads.delete(child);
          resolve(output);
        });
      });
      return { ended, stop: () => void child.kill('SIGKILL') };
    },
    async verify() {
      const { stdout, stderr } = await local.cli(['verify', '-o', 'json']);
      if (!stdout.startsWith('{')) throw new Error(`verify printed no report: ${stdout}${stderr}`);
      return JSON.parse(stdout) as VerifyReport;
    },
    async stop() {
      for (const child of loads) child.kill('SIGKILL');
      await local.stop();
      await server.stop();
    },
  };
}

/** How often each statement (text and parameters) was seen. */
export type Statements = Map<string, number>;

const keyOf = (text: string, parameters: readonly (string | null)[]): string =>
  `${text.trim()}  ${parameters.map((value) => (value === null ? 'NULL' : `'${value}'`)).join(', ')}`;

function count(into: Statements, key: string): void {
  into.set(key, (into.get(key) ?? 0) + 1);
}

/** What the server's log says was executed by the gateway's sessions since byte `from` of it. */
export function executed(log: string, from = 0): Statements {
  const found: Statements = new Map();
  let pending: string | undefined;
  for (const line of log.slice(from).split('\n')) {
    const [, application, rest] = /^\d+\|([^|]*)\|(.*)$/.exec(line) ?? [];
    if (application === undefined || rest === undefined || !application.startsWith('sallyport/')) continue;
    const detail = /^DETAIL: {2}[Pp]arameters: (.*)$/.exec(rest);
    if (detail !== null && pending !== undefined) {
      const values = [...detail[1]!.matchAll(/\$\d+ = (?:NULL|'((?:[^']|'')*)')/g)];
      count(
        found,
        keyOf(
          pending,
          values.map(([, value]) => (value === undefined ? null : value.replaceAll("''", "'"))),
        ),
      );
      pending = undefined;
      continue;
    }
    if (pending !== undefined) count(found, keyOf(pending, []));
    pending = /^LOG: {2}(?:statement|execute [^:]*): (.*)$/.exec(rest)?.[1]?.trim();
  }
  if (pending !== undefined) count(found, keyOf(pending, []));
  return found;
}

export interface Told {
  /** Statements with a record that they were allowed. */
  commands: Statements;
  /** Reason of every session's end; undefined: none is recorded. */
  ends: Map<string, EndBody['reason'] | undefined>;
  notices: RecordEnvelope[];
}

/** What the records say since `since`. Throws on a record that can not be relied on. */
export function told(folder: string, since?: string): Told {
  using view = viewRecords(folder);
  const found: Told = { commands: new Map(), ends: new Map(), notices: [] };
  for (const item of readRecords(view, since === undefined ? {} : { since })) {
    if (item.kind === 'Problem') throw new Error(`${item.piece}: ${item.message}`);
    const { record } = item;
    if (record.kind === 'start') found.ends.set(record.stream, undefined);
    else if (record.kind === 'end') found.ends.set(record.stream, (record.body as EndBody).reason);
    else if (record.kind === 'notice') found.notices.push(record);
    else if (record.kind === 'command') {
      const { text, parameters = [], decision } = record.body as CommandBody;
      if (decision === 'Allow') count(found.commands, keyOf(text, parameters));
    }
  }
  return found;
}

export function total(statements: Statements): number {
  return [...statements.values()].reduce((sum, each) => sum + each, 0);
}

/** Statements the server executed more often than records say. */
export function unrecorded(server: Statements, records: Statements): string[] {
  return [...server].filter(([key, times]) => times > (records.get(key) ?? 0)).map(([key]) => key);
}
