// Runs `bin/sallyport local` for real, with its directory and state in a temporary folder, and its CLI as people use it.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { PostgresServer } from './postgres.ts';

export const SALLYPORT = path.resolve(import.meta.dirname, '../../bin/sallyport');

export interface CliResult {
  code: number;
  stdout: string;
  stderr: string;
  /** Both, in the order in which they came; exact with `together` only. */
  output: string;
}

export interface CliOptions {
  as?: string;
  groups?: readonly string[];
  input?: string;
  env?: Record<string, string>;
  timeoutMs?: number;
  /** One pipe for both outputs, as on a terminal: everything is in `stdout` and `output`. */
  together?: boolean;
}

export interface Local {
  /** The directory of YAML. */
  directory: string;
  state: string;
  /** Where client keys go. */
  home: string;
  readonly pid: number;
  write(name: string, yaml: string): void;
  cli(args: readonly string[], options?: CliOptions): Promise<CliResult>;
  /** `cli`, but throws unless it exits 0; parsed JSON of `-o json`. */
  json<T>(args: readonly string[], options?: CliOptions): Promise<T>;
  /** What the daemon printed so far. */
  output(): string;
  /** SIGKILL, as a crash would; `start()` brings it back with the same state. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Ends it and removes the folder. */
  stop(): Promise<void>;
  environment(options?: CliOptions): Record<string, string>;
}

export async function startLocal(
  files: Readonly<Record<string, string>>,
  settings: { cwd?: string /** More of the daemon's own options. */; args?: readonly string[] } = {},
): Promise<Local> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-'));
  const directory = path.join(folder, 'access');
  const state = path.join(folder, 'state');
  const home = path.join(folder, 'home');
  fs.mkdirSync(directory);
  let child: ChildProcess | undefined;
  let output = '';

  const environment = (options: CliOptions = {}): Record<string, string> => ({
    ...(process.env as Record<string, string>),
    SALLYPORT_STATE: state,
    SALLYPORT_HOME: home,
    NO_COLOR: '1',
    PSQLRC: '/dev/null',
    ...options.env,
  });
  const identity = (options: CliOptions): string[] => [
    ...(options.as !== undefined ? ['--as', options.as] : []),
    ...(options.groups !== undefined ? ['--groups', options.groups.join(',')] : []),
  ];

  const local: Local = {
    directory,
    state,
    home,
    get pid() {
      return child!.pid!;
    },
    write(name, yaml) {
      const target = path.join(directory, name);
      fs.mkdirSync(path.dirname(target), { recursive: true });
      fs.writeFileSync(`${target}.tmp`, yaml);
      fs.renameSync(`${target}.tmp`, target);
    },
    cli: (args, options = {}) =>
      new Promise((resolve, reject) => {
        const line = [SALLYPORT, ...withIdentity(args, identity(options))];
        const [program, ...rest] = options.together === true ? ['sh', '-c', 'exec "$0" "$@" 2>&1', ...line] : line;
        const run = spawn(program!, rest, {
          env: environment(options),
          stdio: ['pipe', 'pipe', 'pipe'],
          cwd: settings.cwd,
        });
        let stdout = '';
        let stderr = '';
        let all = '';
        run.stdout.setEncoding('utf8').on('data', (text: string) => {
          stdout += text;
          all += text;
        });
        run.stderr.setEncoding('utf8').on('data', (text: string) => {
          stderr += text;
          all += text;
        });
        const timer = setTimeout(() => run.kill('SIGKILL'), options.timeoutMs ?? 60_000);
        run.on('error', reject);
        run.on('close', (code) => {
          clearTimeout(timer);
          resolve({ code: code ?? -1, stdout, stderr, output: all });
        });
        run.stdin.end(options.input ?? '');
      }),
    async json<T>(args: readonly string[], options?: CliOptions) {
      const result = await local.cli([...beforeDashes(args), '-o', 'json'], options);
      if (result.code !== 0)
        throw new Error(`sallyport ${args.join(' ')} exited ${result.code}\n${result.stdout}${result.stderr}`);
      return JSON.parse(result.stdout) as T;
    },
    output: () => output,
    async kill() {
      // One that has ended by itself says so no second time.
      if (child!.exitCode !== null || child!.signalCode !== null) return;
      const exited = new Promise<void>((resolve) => child!.once('exit', () => resolve()));
      child!.kill('SIGKILL');
      await exited;
    },
    async start() {
      child = spawn(SALLYPORT, ['local', directory, '--state', state, ...(settings.args ?? [])], {
        env: environment(),
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      child.stdout!.on('data', (bytes: Buffer) => (output += bytes.toString()));
      child.stderr!.on('data', (bytes: Buffer) => (output += bytes.toString()));
      const deadline = Date.now() + 120_000;
      for (;;) {
        if (child.exitCode !== null) throw new Error(`sallyport local ended with ${child.exitCode}:\n${output}`);
        const answer = await local.cli(['ls', '-A', '-o', 'json']);
        if (answer.code === 0) return;
        if (Date.now() > deadline) {
          child.kill('SIGKILL');
          throw new Error(`sallyport local did not get ready:\n${output}\n${answer.stderr}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    },
    async stop() {
      if (child !== undefined && child.exitCode === null && child.signalCode === null) {
        const exited = new Promise<void>((resolve) => child!.once('exit', () => resolve()));
        child.kill('SIGTERM');
        const force = setTimeout(() => child!.kill('SIGKILL'), 15_000);
        await exited;
        clearTimeout(force);
      }
      fs.rmSync(folder, { recursive: true, force: true });
    },
    environment,
  };
  for (const [name, yaml] of Object.entries(files)) local.write(name, yaml);
  await local.start();
  return local;
}

function beforeDashes(args: readonly string[]): readonly string[] {
  if (args.includes('--')) throw new Error('-o json can not be added to a command with --');
  return args;
}

/** Options go before `--`, behind which the client's own arguments stand. */
function withIdentity(args: readonly string[], options: readonly string[]): string[] {
  const dashes = args.indexOf('--');
  return dashes < 0 ? [...args, ...options] : [...args.slice(0, dashes), ...options, ...args.slice(dashes)];
}

/** Connection and Secret for a real server, accounts by name; YAML. */
export function connectionYaml(
  server: PostgresServer,
  options: {
    name?: string;
    namespace?: string;
    database?: string;
    accounts: Readonly<Record<string, { username: string; password: string }>>;
    /** More lines of the Connection's spec, indented by two. */
    spec?: string;
    target?: string;
  },
): string {
  const name = options.name ?? 'orders-db';
  const namespace = options.namespace ?? 'payments';
  const indented = server.ca.trim().replaceAll('\n', '\n        ');
  return [
    `apiVersion: sallyport.dev/v1alpha1
kind: Connection
metadata: {name: ${name}, namespace: ${namespace}}
spec:
  type: PostgreSQL
  postgresql:
    host: localhost
    port: ${server.port}
    databases: [${options.database ?? 'postgres'}]
    tls:
      ca: |
        ${indented}
${options.target ?? ''}  accounts:
${Object.keys(options.accounts)
  .map((account) => `  - {name: ${account}, secretRef: {name: ${name}-${account}}}`)
  .join('\n')}
${options.spec ?? ''}`,
    ...Object.entries(options.accounts).map(
      ([account, credential]) => `apiVersion: v1
kind: Secret
metadata: {name: ${name}-${account}, namespace: ${namespace}}
stringData:
  username: ${JSON.stringify(credential.username)}
  password: ${JSON.stringify(credential.password)}
  sallyport-hosts: localhost:${server.port}
`,
    ),
  ].join('---\n');
}

/** A client's PG* environment from `sallyport dsn`: for clients that are not started by `connect`. */
export function postgresEnvironment(dsn: string): Record<string, string> {
  const url = new URL(dsn);
  const found: Record<string, string> = {
    PGHOST: url.hostname,
    PGPORT: url.port,
    PGUSER: decodeURIComponent(url.username),
    PGPASSWORD: decodeURIComponent(url.password),
    PGDATABASE: decodeURIComponent(url.pathname.slice(1)),
  };
  const root = url.searchParams.get('sslrootcert');
  if (root !== null) found.PGSSLROOTCERT = root;
  found.PGSSLMODE = url.searchParams.get('sslmode') ?? 'verify-full';
  return found;
}

export function hasProgram(name: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${name}`]).status === 0;
}
