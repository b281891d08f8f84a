// `make bench`: the gateway beside the direct path and its peers, interleaved in one run, TLS on every leg, policy and
// recording on. Prints ratios with their spread and writes the tables of docs/performance.md.
// BENCH_SECONDS (3) a measurement, BENCH_ROUNDS (3), BENCH_TRIALS (100) cuts of each kind, BENCH_MB (512) a file by SSH,
// BENCH_ONLY a part's name: `ssh` writes its part of the page anew, others only print.
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { cutPolicy } from '../support/cut-trial.ts';
import { connectionYaml, type Local, postgresEnvironment, startLocal } from '../support/local.ts';
import { type PostgresServer, startPostgres } from '../support/postgres.ts';
import { measureCuts } from './cuts.ts';
import { startPgbouncer, startRelay } from './peers.ts';
import { reportSsh, SSH_TITLE } from './ssh/report.ts';
import { formatRatio, median, percentile, ratio } from './statistics.ts';

const SECONDS = Number(process.env.BENCH_SECONDS ?? 3);
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);
const TRIALS = Number(process.env.BENCH_TRIALS ?? 100);
const ONLY = process.env.BENCH_ONLY;
const run = promisify(execFile);

interface Way {
  name: string;
  env: Record<string, string>;
  pid?: number;
}

const account = { username: 'app', password: 'app-password' };

const POLICY = `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: bench, namespace: bench}
spec:
  connectionSelector: {names: [bench-db, people-db]}
  subjects: [{kind: User, name: bench}]
  accounts: [app]
  access: Standing
  maxDuration: 8h
  session: {ticketUntilExpiry: true}
  rules:
  - {name: read-write, preset: ReadWrite}
  - {name: no-ddl, action: Deny, sql: {effects: [Define, Grant]}}
  - {name: no-secrets, action: Deny, sql: {statements: ["LISTEN", "NOTIFY"]}}
  - name: unbounded
    action: Hold
    sql: {unbounded: true}
    hold: {approvers: [{kind: Group, name: dba}], timeout: 60s}
---
apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: bench-masks, namespace: bench}
spec:
  connectionSelector: {names: [people-db]}
  subjects: [{kind: User, name: nobody}]
  accounts: [app]
  masking:
  - {name: numbers, columns: ["public.people.card"], with: Last4}
  - {name: addresses, columns: ["public.people.email"], with: Email}
`;

const SETUP = `
create role app login password 'app-password';
alter database bench owner to app;
grant all on schema public to app;
create table people (id int primary key, name text, card text, email text, city text, note text);
insert into people select g, 'Person ' || g, lpad((4111111111110000 + g)::text, 16, '4'), 'person' || g || '@example.com', 'City ' || g % 500, repeat('x', 40) from generate_series(1, 200000) g;
alter table people owner to app;
`;

/** `warmup`: seconds that logging in may take; pgbench's clock runs meanwhile, its tps leaves them out. */
async function pgbench(way: Way, args: readonly string[], warmup = 0): Promise<{ tps: number; failed: number }> {
  const { stdout, stderr } = await run('pgbench', ['-n', '-T', String(SECONDS + warmup), ...args], {
    env: { ...process.env, ...way.env },
  });
  const failed = /number of failed transactions: (\d+)/.exec(stdout);
  const tps = /tps = ([0-9.]+)/.exec(stdout);
  if (tps === null) throw new Error(`pgbench through ${way.name} measured nothing:\n${stdout}${stderr}`);
  return { tps: Number(tps[1]), failed: Number(failed?.[1] ?? 0) };
}

async function latencies(way: Way, folder: string): Promise<number[]> {
  const prefix = path.join(folder, 'latency');
  for (const name of fs.readdirSync(folder)) if (name.startsWith('latency.')) fs.rmSync(path.join(folder, name));
  await run('pgbench', ['-n', '-S', '-M', 'prepared', '-c', '1', '-T', String(SECONDS), '-l', '--log-prefix', prefix], {
    env: { ...process.env, ...way.env },
  });
  return fs
    .readdirSync(folder)
    .filter((name) => name.startsWith('latency.'))
    .flatMap((name) =>
      fs
        .readFileSync(path.join(folder, name), 'utf8')
        .trim()
        .split('\n')
        .map((line) => Number(line.split(' ')[2])),
    );
}

async function drain(way: Way, query: string): Promise<number> {
  const { stdout } = await run(process.execPath, [path.join(import.meta.dirname, 'drain.ts'), query], {
    env: { ...process.env, ...way.env },
  });
  return (JSON.parse(stdout) as { ms: number }).ms;
}

function rssOf(pid: number): number {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [
    `| ${head.join(' | ')} |`,
    `| ${head.map(() => '---').join(' | ')} |`,
    ...rows.map((row) => `| ${row.join(' | ')} |`),
  ].join('\n');
}

async function dsn(local: Local, connection: string): Promise<Record<string, string>> {
  const answer = await local.cli(['dsn', connection, '--until-expiry', '-n', 'bench'], { as: 'bench' });
  if (answer.code !== 0) throw new Error(`dsn failed: ${answer.stdout}${answer.stderr}`);
  return postgresEnvironment(/postgres(ql)?:\/\/\S+/.exec(answer.stdout)![0]);
}

async function throughput(ways: readonly Way[]): Promise<string> {
  const rows: string[][] = [];
  for (const mode of ['prepared', 'extended', 'simple']) {
    for (const clients of [1, 8, 64]) {
      const tps = new Map<string, number[]>(ways.map((way) => [way.name, []]));
      for (let round = 0; round < ROUNDS; round += 1) {
        for (const way of ways) {
          const login = clients > 8 ? 8 : 0;
          const { tps: value, failed } = await pgbench(
            way,
            ['-S', '-M', mode, '-c', String(clients), '-j', '1'],
            login,
          );
          if (failed > 0) throw new Error(`${failed} failed transactions through ${way.name}`);
          tps.get(way.name)!.push(value);
        }
      }
      const direct = tps.get('direct')!;
      const gateway = tps.get('sallyport')!;
      const row = [
        `${mode}, ${clients}`,
        ...ways.map((way) => Math.round(median(tps.get(way.name)!)).toString()),
        formatRatio(ratio(gateway, direct)),
        ...(tps.has('pgbouncer') ? [formatRatio(ratio(gateway, tps.get('pgbouncer')!))] : []),
        formatRatio(ratio(gateway, tps.get('bare relay')!)),
      ];
      console.log(row.join('  '));
      rows.push(row);
    }
  }
  const hasBouncer = ways.some((way) => way.name === 'pgbouncer');
  return table(
    [
      'pgbench -S: mode, clients',
      ...ways.map((way) => `${way.name}, tps`),
      '÷ direct',
      ...(hasBouncer ? ['÷ pgbouncer'] : []),
      '÷ bare relay',
    ],
    rows,
  );
}

async function latency(ways: readonly Way[], folder: string): Promise<string> {
  const p50 = new Map<string, number[]>(ways.map((way) => [way.name, []]));
  const p99 = new Map<string, number[]>(ways.map((way) => [way.name, []]));
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const way of ways) {
      const values = await latencies(way, folder);
      p50.get(way.name)!.push(percentile(values, 50));
      p99.get(way.name)!.push(percentile(values, 99));
    }
  }
  const rows = ways.map((way) => {
    const added = (of: Map<string, number[]>): string =>
      `${Math.round(median(of.get(way.name)!.map((value, index) => value - of.get('direct')![index]!)))}`;
    return [
      way.name,
      `${Math.round(median(p50.get(way.name)!))}`,
      `${Math.round(median(p99.get(way.name)!))}`,
      added(p50),
      added(p99),
    ];
  });
  for (const row of rows) console.log(row.join('  '));
  return table(['1 client, prepared', 'p50, µs', 'p99, µs', 'added p50, µs', 'added p99, µs'], rows);
}

async function bulk(ways: readonly Way[], masked: Way): Promise<string> {
  const people = 'select id, name, card, email, city, note from people';
  const cases: { name: string; query: string; way: readonly Way[] }[] = [
    { name: '200,000 rows, nothing masked', query: people, way: ways },
    {
      name: '200,000 rows, two columns masked',
      query: people,
      way: [...ways.filter((way) => way.name !== 'sallyport'), masked],
    },
    { name: 'COPY of 200,000 rows to the client', query: 'copy people to stdout', way: ways },
  ];
  const rows: string[][] = [];
  for (const each of cases) {
    const ms = new Map<string, number[]>(each.way.map((way) => [way.name, []]));
    for (let round = 0; round < ROUNDS * 2; round += 1)
      for (const way of each.way) ms.get(way.name)!.push(await drain(way, each.query));
    const direct = ms.get('direct')!;
    const row = [
      each.name,
      ...each.way.map((way) => `${Math.round(median(ms.get(way.name)!))}`),
      formatRatio(ratio(ms.get(each.way.at(-1)!.name)!, direct)),
    ];
    console.log(row.join('  '));
    rows.push(row);
  }
  return table(['bulk', ...ways.map((way) => `${way.name}, ms`), 'sallyport ÷ direct'], rows);
}

async function memory(local: Local, way: Way, relay: Way): Promise<string> {
  const rows: string[][] = [];
  for (const [name, pid, env] of [
    ['sallyport local (operator and proxy in one process)', local.pid, way.env],
    ['bare relay', relay.pid!, relay.env],
  ] as const) {
    // One round first: code and pools that the first sessions bring are not what the next ones cost.
    await run(process.execPath, [path.join(import.meta.dirname, 'idle.ts'), '8', String(pid)], {
      env: { ...process.env, ...env },
    });
    const before = rssOf(pid);
    const script = path.join(import.meta.dirname, 'idle.ts');
    const { stdout } = await run(process.execPath, [script, '64', String(pid)], { env: { ...process.env, ...env } });
    const with64 = Number(stdout);
    rows.push([name, before.toFixed(0), (((with64 - before) * 1024) / 64).toFixed(0)]);
  }
  for (const row of rows) console.log(row.join('  '));
  return table(['memory before any load', 'RSS, MiB', 'per idle TLS session, KiB'], rows);
}

async function benchPostgres(): Promise<string | undefined> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-bench-'));
  const wanted = (part: string): boolean => ONLY === undefined || ONLY.split(',').includes(part);
  console.log('Starting PostgreSQL 18, pgbouncer, the bare relay and Sallyport ...');
  const server: PostgresServer = await startPostgres({ database: 'bench', setup: SETUP });
  const relay = await startRelay(folder, server);
  const bouncer = await startPgbouncer(folder, server, account);
  const local = await startLocal({
    'bench.yaml': `${connectionYaml(server, { name: 'bench-db', namespace: 'bench', database: 'bench', accounts: { app: account } })}---\n${connectionYaml(server, { name: 'people-db', namespace: 'bench', database: 'bench', accounts: { app: account } })}---\n${connectionYaml(server, { name: 'cut-db', namespace: 'bench', database: 'bench', accounts: { app: account } })}---\n${POLICY}---\n${cutPolicy('bench', 'cut-db', 'app')}`,
  });
  try {
    const way = (name: string, port: number, ca: string, pid?: number): Way => {
      const file = path.join(folder, `${name.replaceAll(' ', '-')}.pem`);
      fs.writeFileSync(file, ca);
      const env = {
        PGHOST: 'localhost',
        PGPORT: String(port),
        PGUSER: account.username,
        PGPASSWORD: account.password,
        PGDATABASE: 'bench',
        PGSSLMODE: 'verify-full',
        PGSSLROOTCERT: file,
        PGCHANNELBINDING: 'disable',
        PGGSSENCMODE: 'disable',
      };
      return pid === undefined ? { name, env } : { name, env, pid };
    };
    const direct = way('direct', server.port, server.ca);
    const relayWay = way('bare relay', relay.port, relay.ca, relay.pid);
    const gateway: Way = {
      name: 'sallyport',
      env: { ...(await dsn(local, 'bench-db')), PGGSSENCMODE: 'disable' },
      pid: local.pid,
    };
    const masked: Way = { name: 'sallyport', env: { ...(await dsn(local, 'people-db')), PGGSSENCMODE: 'disable' } };
    const ways = [direct, ...(bouncer ? [way('pgbouncer', bouncer.port, bouncer.ca)] : []), relayWay, gateway];
    execFileSync('pgbench', ['-i', '-s', '10', '-q'], { env: { ...process.env, ...direct.env }, stdio: 'ignore' });

    const idleRss = rssOf(local.pid);
    const parts: string[] = [];
    const part = async (name: string, title: string, make: () => Promise<string>): Promise<void> => {
      if (!wanted(name)) return;
      console.log(`\n${title}`);
      parts.push(`## ${title}\n\n${await make()}\n`);
    };
    // Before any load: what a load leaves behind would hide what an idle session takes.
    await part('memory', 'Memory', () => memory(local, gateway, relayWay));
    await part('throughput', 'Throughput', () => throughput(ways));
    await part('latency', 'Added latency', () => latency(ways, folder));
    await part('bulk', 'Bulk', () => bulk(ways, masked));
    await part('cuts', 'From the act to the cut', async () => {
      const rows = await measureCuts(local, server, TRIALS, (line) => console.log(line));
      return table(['what ends a sleeping session', 'trials', 'p50, ms', 'p99, ms', 'most, ms'], rows);
    });
    if (ONLY === undefined) return reportOf(parts, idleRss);
    console.log(`\n${parts.join('\n')}`);
    return undefined;
  } finally {
    await local.stop();
    await bouncer?.stop();
    await relay.stop();
    await server.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

function reportOf(parts: readonly string[], idleRss: number): string {
  const cpu = os.cpus();
  return `# Performance

Written by \`make bench\` (${ROUNDS} interleaved rounds of ${SECONDS} s; median, ratios with their least and greatest). TLS on every leg; the
gateway decides by four rules and writes a record before each command it forwards. "Bare relay" is
\`test/bench/relay.ts\`: Node, TLS on both legs, one record a turn, nothing else.

Machine: ${cpu.length} × ${cpu[0]?.model.trim() ?? 'unknown'}, shared with clients and server; Node ${process.versions.node}, PostgreSQL 18. Absolute
figures are this machine's; compare ratios. Sallyport's process, operator and proxy in one, had ${idleRss.toFixed(0)} MiB resident before the runs.

${parts.join('\n')}`;
}

const file = path.resolve(import.meta.dirname, '../../docs/performance.md');

async function main(): Promise<void> {
  const postgres = ONLY === 'ssh' ? undefined : await benchPostgres();
  let ssh: string | undefined;
  if (ONLY === undefined || ONLY.split(',').includes('ssh')) {
    console.log('\nSSH: starting sshd and Sallyport ...');
    const mib = Number(process.env.BENCH_MB ?? 512);
    ssh = await reportSsh({ rounds: ROUNDS, mib, keys: 1000, sessions: 100 }, table);
  }
  if (ssh === undefined) return;
  // What was not measured stays as it was.
  const before = postgres ?? fs.readFileSync(file, 'utf8').split(`${SSH_TITLE}\n`, 1)[0]!;
  fs.writeFileSync(file, `${before.trimEnd()}\n\n${ssh.trimEnd()}\n`);
  console.log(`\nWrote ${path.relative(process.cwd(), file)}`);
}

await main();
process.exit(0);
