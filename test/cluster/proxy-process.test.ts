// The proxy's process: its end in good order, its end in bad order, its tunnel, and what it weighs.
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { WebSocket } from 'ws';
import { bridge } from '../../src/proxy/bridge.ts';
import { TUNNEL_PROTOCOL } from '../../src/proxy/tunnel-protocol.ts';
import { rawPublicKey } from '../../src/recording/signer.ts';
import { verifyRecords } from '../../src/recording/verify.ts';
import { systemClock } from '../../src/system/clock.ts';
import { freePorts } from '../support/cluster/children.ts';
import { skipWithoutCluster } from '../support/cluster/control-plane.ts';
import { type Bed, CONNECTION, login, NAMESPACE, sleep, startBed, ticket, until } from './proxy-bed.ts';

const skip = await skipWithoutCluster();
const NAME = 'sallyport-orders-db-0';
let bed: Bed;
let pod: Awaited<ReturnType<Bed['pod']>>;
let ports: { health: number; tunnel: number };
const children = new Set<ChildProcess>();
const undo: (() => Promise<void>)[] = [];
const onEnd = (step: () => Promise<void>): void => void undo.push(step);

before(async () => {
  if (skip !== false) return;
  bed = await startBed();
  pod = await bed.pod(NAME);
  const [health, tunnel] = (await freePorts(2)) as [number, number];
  ports = { health, tunnel };
  const account = path.join(bed.folder, 'serviceaccount');
  fs.mkdirSync(account);
  const headers = (await pod.access.headers()) as { authorization: string };
  fs.writeFileSync(path.join(account, 'token'), headers.authorization.slice('Bearer '.length));
  fs.writeFileSync(path.join(account, 'ca.crt'), bed.plane.ca);
  fs.writeFileSync(path.join(account, 'namespace'), NAMESPACE);
});
after(async () => {
  for (const step of undo.splice(0).reverse()) await step();
  for (const child of children) child.kill('SIGKILL');
  await bed?.stop();
});

interface Running {
  child: ChildProcess;
  log(): string;
  exited: Promise<number | null>;
}

function start(): Running {
  const server = new URL(bed.plane.server);
  const trust = bed.operator.trusted.map(({ keyId, publicKey }) => `${keyId}:${rawPublicKey(publicKey)}`);
  const child = spawn(
    process.execPath,
    [path.join(import.meta.dirname, 'proxy-process.ts'), bed.folder, `${ports.health}`, `${ports.tunnel}`, ...trust],
    {
      env: {
        PATH: process.env['PATH'],
        POD_NAME: NAME,
        POD_UID: pod.uid,
        POD_NAMESPACE: NAMESPACE,
        KUBERNETES_SERVICE_HOST: server.hostname,
        KUBERNETES_SERVICE_PORT: server.port,
      },
      stdio: ['ignore', 'inherit', 'pipe'],
    },
  );
  children.add(child);
  let log = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (log += text));
  const exited = once(child, 'exit').then(([code]) => {
    children.delete(child);
    return code as number | null;
  });
  return { child, log: () => log, exited };
}

async function readiness(): Promise<{ status: number; text: string }> {
  try {
    const response = await fetch(`http://127.0.0.1:${ports.health}/readyz`, { signal: AbortSignal.timeout(2_000) });
    return { status: response.status, text: await response.text() };
  } catch {
    return { status: 0, text: '' };
  }
}

const ready = (running: Running): Promise<true> =>
  until(
    'ready',
    async () => {
      if (running.child.exitCode !== null) throw new Error(`it ended:\n${running.log()}`);
      return (await readiness()).status === 200 || undefined;
    },
    30_000,
  );

function verify(): { sessions: number; records: number } {
  const roots = bed.operator.trusted;
  const report = verifyRecords(path.join(bed.folder, 'records'), { roots });
  assert.deepEqual(report.findings, []);
  return report.checked;
}

const memory = (child: ChildProcess): number => {
  const status = fs.readFileSync(`/proc/${child.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024;
};

async function soon<T>(act: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await act();
    } catch (error) {
      if (attempt === 30) throw error;
      await sleep(100);
    }
  }
}

/** A loopback port whose sockets go through the tunnel, as `kubectl access connect` has it. */
async function tunnel(): Promise<number> {
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    const web = new WebSocket(`wss://localhost:${ports.tunnel}/connect/${CONNECTION.name}`, TUNNEL_PROTOCOL, {
      ca: bed.operator.authority.caPem,
      headers: { 'x-forwarded-for': '203.0.113.7' },
    });
    web.on('error', () => socket.destroy());
    web.once('open', () => {
      void bridge(web, socket, systemClock);
      socket.resume();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onEnd(
    () =>
      new Promise((resolve) => {
        server.close(() => resolve());
      }),
  );
  return (server.address() as net.AddressInfo).port;
}

test('at rest it weighs what it may', { skip }, async (t) => {
  const running = start();
  await ready(running);
  await sleep(3_000);
  const rss = memory(running.child);
  t.diagnostic(`RSS at rest: ${rss.toFixed(1)} MB`);
  assert.ok(rss < 160, `${rss} MB`);
  running.child.kill('SIGTERM');
  assert.equal(await running.exited, 0, running.log());
});

test('a tunnel carries psql, and 100 MB in flat memory', { skip, timeout: 120_000 }, async (t) => {
  const running = start();
  await ready(running);
  const held = await bed.operator.grant();
  const port = await tunnel();
  const { client } = await soon(() => login(bed, port, held, onEnd));
  assert.equal((await client.query('select count(*)::int as n from orders')).rows[0].n, 10);
  await client.end();
  const ca = path.join(bed.folder, 'ca.pem');
  fs.writeFileSync(ca, bed.operator.authority.caPem);
  const before = memory(running.child);
  let most = before;
  const watch = setInterval(() => (most = Math.max(most, memory(running.child))), 50);
  const sql = `\\copy (select repeat('x', 1000) from generate_series(1, 100000)) to program 'wc -c'`;
  const { stdout } = await promisify(execFile)(
    'psql',
    [
      '-X',
      '-A',
      '-t',
      '-c',
      sql,
      `host=localhost hostaddr=127.0.0.1 port=${port} user=alice dbname=postgres sslmode=verify-full sslrootcert=${ca}`,
    ],
    { env: { ...process.env, PGPASSWORD: ticket(held) }, timeout: 60_000 },
  ).finally(() => clearInterval(watch));
  assert.match(stdout, /100100000/);
  t.diagnostic(`RSS before ${before.toFixed(0)} MB, most ${most.toFixed(0)} MB`);
  assert.ok(most - before < 96, `memory rose by ${most - before} MB`);
  running.child.kill('SIGTERM');
  assert.equal(await running.exited, 0, running.log());
  assert.ok(verify().sessions > 0);
});

test('SIGTERM: unready at once, no new session, the old one may end by itself; its records verify', {
  skip,
}, async () => {
  await bed.operator.policy(undefined, { proxy: { drainTimeout: '40s' } });
  const running = start();
  await ready(running);
  const held = await bed.operator.grant();
  const { client } = await soon(() => login(bed, pod.port, held, onEnd));
  const long = client.query('select pg_sleep(4), 42 as answer');
  await sleep(200);
  running.child.kill('SIGTERM');
  await until('unready', async () => ((await readiness()).status === 503 ? true : undefined));
  assert.match((await readiness()).text, /shutting down/);
  await sleep(2_500);
  await assert.rejects(login(bed, pod.port, held, onEnd));
  assert.equal((await long).rows[0].answer, 42);
  await client.end();
  assert.equal(await running.exited, 0, running.log());
  assert.ok(verify().sessions > 0);
});

test('a second SIGTERM ends what still lives', { skip }, async () => {
  const running = start();
  await ready(running);
  const held = await bed.operator.grant();
  const { client, closed } = await soon(() => login(bed, pod.port, held, onEnd));
  const told = assert.rejects(client.query('select pg_sleep(60)'), /shutting down/);
  await sleep(200);
  running.child.kill('SIGTERM');
  await sleep(3_000);
  running.child.kill('SIGTERM');
  await told;
  await closed;
  assert.equal(await running.exited, 0, running.log());
});

test('INV-07: after kill -9 the next process on the same volume ends and seals what was left', { skip }, async () => {
  const first = start();
  await ready(first);
  const held = await bed.operator.grant();
  const { client } = await soon(() => login(bed, pod.port, held, onEnd));
  await client.query('select 1');
  const cut = client.query('select pg_sleep(30)').catch(() => undefined);
  await sleep(200);
  first.child.kill('SIGKILL');
  await first.exited;
  await cut;
  const second = start();
  await ready(second);
  assert.match(second.log(), /a session of an earlier process was recovered/);
  const { client: again } = await soon(() => login(bed, pod.port, held, onEnd));
  assert.equal((await again.query('select 1 as one')).rows[0].one, 1);
  await again.end();
  second.child.kill('SIGTERM');
  assert.equal(await second.exited, 0, second.log());
  assert.ok(verify().sessions > 0);
});
