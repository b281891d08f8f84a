// What clients of other people see through the gateway is what they see without it, and large results pass in flat memory.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import { message, query, SSL_REQUEST, startupMessage } from '../../src/protocols/postgres/wire/messages.ts';
import type { HeldGrant, Person } from '../support/in-process.ts';
import { type RawClient, wrap } from '../support/raw-postgres.ts';
import { CONNECTION, NAMESPACE, type Scene, startScene } from '../support/scene.ts';
import type { CriteriaGroup } from './criterion.ts';

const DRIVERS = path.resolve(import.meta.dirname, '../conformance/drivers.test.ts');
const READER: Person = { username: 'rita', groups: ['readers'] };
const MIB = 1024 * 1024;
const WANTED = 300 * 1000 * 1000;

const policy = (name: string, more: string): string => `---
apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: ${name}, namespace: ${NAMESPACE}}
spec:
  connectionSelector: {names: [${CONNECTION}]}
  subjects: [{kind: Group, name: ${name}}]
  accounts: [app]
  access: Standing
  rules:
  - {name: all, action: Allow, sql: {effects: [Read, Write, Session, Execute]}}
${more}`;
const POLICIES = policy(
  'readers',
  `  masking:
  - {name: mail, columns: ["public.people.email"], with: Email}
`,
);

let scene: Scene;

// --- drivers

let suite: Promise<Map<string, 'ok' | 'not ok' | 'skipped'>> | undefined;

/** Runs the conformance suite once; its tests' names and how they ended. */
function conformance(): Promise<Map<string, 'ok' | 'not ok' | 'skipped'>> {
  suite ??= new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--test', '--test-reporter=tap', '--test-timeout=600000', DRIVERS], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, NODE_NO_WARNINGS: '1', NODE_TEST_CONTEXT: undefined },
    });
    let out = '';
    child.stdout.on('data', (bytes: Buffer) => (out += bytes.toString()));
    child.once('error', reject);
    child.once('close', () => {
      const found = new Map<string, 'ok' | 'not ok' | 'skipped'>();
      for (const line of out.split('\n')) {
        const test = /^\s*(not ok|ok) \d+ - (.*?)(?:\s*# (SKIP).*)?$/.exec(line);
        if (test !== null) found.set(test[2]!, test[3] === undefined ? (test[1] as 'ok' | 'not ok') : 'skipped');
      }
      resolve(found);
    });
  });
  return suite;
}

async function drivers(about: RegExp, count: number): Promise<string> {
  const results = [...(await conformance())].filter(([name]) => about.test(name));
  assert.ok(results.length >= count, `${results.length} tests of ${count} ran`);
  const bad = results.filter(([, result]) => result === 'not ok').map(([name]) => name);
  assert.deepEqual(bad, []);
  const skipped = results.filter(([, result]) => result === 'skipped');
  assert.ok(skipped.length === 0, `not installed: ${skipped.map(([name]) => name).join(', ')}`);
  return `${results.length} of ${results.length} suites equal through a transparent, a ruled and (where told) a masked Connection`;
}

// --- large results

/** As a client with TLS, whose rows are only counted. */
async function secureClient(held: HeldGrant): Promise<RawClient> {
  const login = held.login();
  const plain = net.connect(login.port, '127.0.0.1');
  await new Promise<void>((resolve, reject) => {
    plain.once('error', reject);
    plain.once('connect', () => plain.write(SSL_REQUEST));
    plain.once('data', (answer: Buffer) =>
      answer.toString('latin1') === 'S' ? resolve() : reject(new Error('no TLS offered')),
    );
  });
  const socket = tls.connect({ socket: plain, ca: login.ssl.ca, servername: login.ssl.servername });
  await new Promise<void>((resolve, reject) => {
    socket.once('secureConnect', resolve);
    socket.once('error', reject);
  });
  const client = wrap(socket);
  socket.write(startupMessage({ user: login.user, database: login.database }));
  await client.until((one) => one.type === 'R');
  socket.write(message(0x70, login.password));
  await client.ready();
  return client;
}

const END = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);

/** Bytes received until ReadyForQuery. A slow client stops reading for 60 ms after each 4 MB. */
function fetchAll(client: RawClient, sql: string, slow: boolean): Promise<number> {
  const { socket } = client;
  socket.removeAllListeners('data');
  return new Promise((resolve, reject) => {
    let bytes = 0;
    let next = 4_000_000;
    let tail: Buffer = Buffer.alloc(0);
    let first: Buffer | undefined;
    socket.on('data', (chunk: Buffer) => {
      first ??= chunk;
      bytes += chunk.length;
      tail = Buffer.concat([tail, chunk.subarray(-END.length)]).subarray(-END.length);
      if (tail.equals(END)) {
        if (first[0] === 0x54) resolve(bytes);
        else reject(new Error(`refused: ${first.toString('latin1').slice(0, 300)}`));
      }
      if (slow && bytes > next) {
        next += 4_000_000;
        socket.pause();
        setTimeout(() => socket.resume(), 60);
      }
    });
    socket.once('close', () => reject(new Error(`closed after ${bytes} bytes`)));
    socket.write(query(sql));
  });
}

function residentBytes(pid: number): number {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'latin1');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
}

async function flat(sql: string): Promise<string> {
  // A fresh process that has served nothing but a login and one row: whatever large results bring up counts.
  await scene.local.kill();
  await scene.local.start();
  const held = await scene.granted(READER);
  (await scene.raw(held)).end();
  const [slow, fast] = [await secureClient(held), await secureClient(held)];
  for (const client of [slow, fast]) await fetchAll(client, 'select 1', false);
  const { pid } = scene.local;
  const before = residentBytes(pid);
  let most = before;
  const sampler = setInterval(() => {
    most = Math.max(most, residentBytes(pid));
  }, 100);
  const started = performance.now();
  try {
    const seconds = (): string => ((performance.now() - started) / 1000).toFixed(1);
    const [slowEnd, fastEnd] = await Promise.all(
      [slow, fast].map(async (client) => {
        const bytes = await fetchAll(client, sql, client === slow);
        assert.ok(bytes >= WANTED, `${bytes} bytes`);
        return `${(bytes / 1e6).toFixed(0)} MB in ${seconds()} s`;
      }),
    );
    most = Math.max(most, residentBytes(pid));
    const grown = (most - before) / MIB;
    const figure = `slow ${slowEnd}, fast ${fastEnd}: RSS ${(before / MIB).toFixed(0)} -> at most ${(most / MIB).toFixed(0)} MiB, +${grown.toFixed(0)} MiB`;
    assert.ok(grown < 64, figure);
    return figure;
  } finally {
    clearInterval(sampler);
    slow.end();
    fast.end();
  }
}

const ROWS = 'from people p, generate_series(1, 300) g';

export const clients: CriteriaGroup = {
  name: 'clients',
  async start() {
    scene = await startScene({
      setup: `create table people (id int primary key, email text not null);
        insert into people select g, 'person' || g || '@example.com' from generate_series(1, 1000) g;
        alter table people owner to app;`,
      policies: POLICIES,
    });
  },
  criteria: [
    {
      claim: 'INV-11: a slow and a fast client each fetch 300 MB in flat memory',
      check: () => flat(`select p.id, repeat('x', 1000) ${ROWS}`),
    },
    {
      claim: 'INV-11: and with a masked column',
      check: () => flat(`select p.id, p.email, repeat('x', 1000) ${ROWS}`),
    },
    { claim: 'psql prints through the gateway what it prints without', check: () => drivers(/^psql/, 1) },
    {
      claim: 'node-postgres, psycopg 3 and pgjdbc behave as they do without',
      check: () => drivers(/^(node-postgres|psycopg|pgjdbc)/, 3),
    },
    {
      claim: 'pgbench has no error in any of its three modes with 64 clients',
      check: () => drivers(/^pgbench/, 3),
    },
  ],
  async stop() {
    await scene?.stop();
  },
};
