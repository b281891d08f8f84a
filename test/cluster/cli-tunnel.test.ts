// The tunnel of `kubectl access connect` through a real API server: to the proxy's own tunnel server, behind a Service
// without pods. In place of the gateway stands TLS in front of a real PostgreSQL that trusts everybody.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import tls from 'node:tls';
import { renewThrough } from '../../src/cli/cluster/renew.ts';
import { openTunnel } from '../../src/cli/cluster/tunnel.ts';
import type { Renewal } from '../../src/gateway/renewal.ts';
import { tokenAccess } from '../../src/kube/access.ts';
import { createKubeClient } from '../../src/kube/client.ts';
import { startTunnels, type TunnelServer } from '../../src/proxy/tunnel.ts';
import { REPLICA_HEADER } from '../../src/proxy/tunnel-protocol.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemRandom } from '../../src/system/random.ts';
import { podRuns, skipWithoutTunnels, tunnelEndpoints } from '../support/cluster/service-pods.ts';
import { until } from '../support/cluster/until.ts';
import type { PostgresServer } from '../support/postgres.ts';
import { startTarget } from '../support/postgres-gateway.ts';
import { type Bed, openBed } from './cli-bed.ts';

const skip = await skipWithoutTunnels();
const it = (name: string, act: () => Promise<void>): void => void test(name, { skip }, act);

let bed: Bed;
let target: PostgresServer;
let tunnels: TunnelServer;
/** What an accepted tunnel is given to. */
let serve: (socket: net.Socket) => void = () => undefined;
const renewals: { session: string; proof: object; address: string }[] = [];
let renewal: Renewal = { kind: 'Renewed', endsAtMs: 1_000 };

before(async () => {
  if (skip !== false) return;
  [bed, target] = await Promise.all([openBed(), startTarget(18)]);
  tunnels = await startTunnels({
    host: '0.0.0.0',
    port: 0,
    tls: { current: () => bed.certificate },
    replica: 'sallyport-orders-db-0',
    find: (name) => (name === 'orders-db' ? 'uid' : undefined),
    accept: (_uid, socket) => {
      serve(socket);
      return 's-1';
    },
    renew: async (session, proof, address) => {
      renewals.push({ session, proof, address });
      return renewal;
    },
    clock: systemClock,
    random: systemRandom,
    log: () => undefined,
  });
  await bed.plane.apply(
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'sallyport-orders-db', namespace: 'payments' },
      spec: { ports: [{ name: 'tunnel', port: 443, targetPort: tunnels.port, protocol: 'TCP' }] },
    },
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'sallyport-orders-db-0', namespace: 'payments' },
      spec: { containers: [{ name: 'proxy', image: 'none' }] },
    },
    endpoints(true),
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: { name: 'sallyport-orders-db-tunnel', namespace: 'payments' },
      rules: [
        {
          apiGroups: [''],
          resources: ['services/proxy'],
          resourceNames: ['https:sallyport-orders-db:tunnel'],
          verbs: ['get', 'create'],
        },
      ],
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: 'sallyport-orders-db-tunnel', namespace: 'payments' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'sallyport-orders-db-tunnel' },
      subjects: [{ kind: 'User', name: 'alice', apiGroup: 'rbac.authorization.k8s.io' }],
    },
  );
  assert.equal((await podRuns(bed.plane.clientFor(), 'payments', 'sallyport-orders-db-0')).kind, 'Ok');
  for (const who of ['alice', 'bob']) {
    const asked = await bed.as(who, ['request', 'orders-db', '--for', '1h', '--reason', 'INC-1']);
    const name = /orders-db-[a-z0-9]{5}/.exec(asked.out)![0];
    assert.equal((await bed.as('carol', ['approve', name, '--yes'])).code, 0);
  }
  // The Service's address may take the API server a moment.
  serve = toPostgres;
  await until(async () => (await psql('select 1')).code === 0, 'the tunnel', 20_000);
});
after(async () => {
  await tunnels?.close();
  await target?.stop();
  await bed?.close();
});

/** The API server goes only to addresses of pods: there is one by name, which nobody runs. */
const endpoints = (ready: boolean) =>
  tunnelEndpoints('payments', 'sallyport-orders-db', ready ? tunnels.port : undefined);

/** TLS as the gateway shows it, and then the server, which asks for no password. */
function toPostgres(socket: net.Socket): void {
  socket.on('error', () => socket.destroy());
  socket.once('data', (request: Buffer) => {
    if (request.length === 16) return void socket.pipe(net.connect(target.port, '127.0.0.1')); // a cancellation
    socket.write('S');
    const secure = new tls.TLSSocket(socket, { isServer: true, ...bed.certificate });
    const upstream = net.connect(target.port, '127.0.0.1');
    secure.pipe(upstream).pipe(secure);
    secure.on('error', () => upstream.destroy());
    upstream.on('error', () => secure.destroy());
  });
}

const OUT = path.join(os.tmpdir(), `sallyport-cli-tunnel-${process.pid}.out`);
async function psql(sql: string, user = 'alice'): Promise<{ code: number; text: string; err: string }> {
  const run = await bed.as(user, ['connect', 'orders-db', '--', 'psql', '-X', '-q', '-A', '-t', '-o', OUT, '-c', sql]);
  const text = fs.existsSync(OUT) ? fs.readFileSync(OUT, 'utf8') : '';
  fs.rmSync(OUT, { force: true });
  return { code: run.code, text, err: run.err };
}

it('connect starts psql through the API server, and psql verifies the proxy’s own certificate', async () => {
  const { code, text, err } = await psql(
    `select current_user || ' ' || count(*) from orders union all select 'over TLS'`,
  );
  assert.equal(code, 0, err);
  assert.match(text, /writer 100/);
});

it('a proxy that shows somebody else’s certificate is not talked to', async () => {
  const { testCertificates } = await import('../support/certificates.ts');
  const stranger = (await testCertificates(['sallyport-orders-db.payments.svc'])).server;
  serve = (socket) => {
    socket.on('error', () => socket.destroy());
    socket.once('data', () => {
      socket.write('S');
      new tls.TLSSocket(socket, { isServer: true, ...stranger }).on('error', () => socket.destroy());
    });
  };
  try {
    assert.notEqual((await psql('select 1')).code, 0);
  } finally {
    serve = toPostgres;
  }
});

it('the right to tunnel is the policy’s subjects’ own: others are told what is missing', async () => {
  const { code, err } = await psql('select 1', 'bob');
  assert.equal(code, 77);
  assert.match(
    err,
    /bob may not tunnel to payments\/orders-db through the API server\nhint: .*--role=sallyport-orders-db-tunnel --user=bob -n payments/,
  );
});

it('--listen gives a DSN whose sockets go through the tunnel, with a secret of its own', async () => {
  const stop = new AbortController();
  let out = '';
  const running = bed.as('alice', ['connect', 'orders-db', '--listen'], {
    signal: stop.signal,
    onOut: (text) => (out += text),
  });
  await until(() => out.includes('postgresql://'), 'the DSN');
  const dsn = /postgresql:\/\/\S+/.exec(out)![0];
  const { default: pg } = await import('pg');
  const client = new pg.Client({ connectionString: dsn });
  await client.connect();
  assert.equal((await client.query('select count(*)::int as n from orders')).rows[0].n, 100);
  await client.end();
  const wrong = new pg.Client({ connectionString: dsn.replace(/:[^:@]+@/, ':wrong@') });
  await assert.rejects(wrong.connect(), /not the password that was printed/);
  stop.abort();
  const ended = await running;
  assert.equal(ended.code, 0, ended.err);
});

it('40 MB go there and back whole with bounded memory, and half-close is carried', async () => {
  serve = (socket) => void socket.pipe(socket);
  const ended = new AbortController();
  try {
    const tunnel = await openTunnel({
      access: bed.plane.access('alice'),
      place: { contextName: 'test', server: bed.plane.server, who: { username: 'alice' } },
      namespace: 'payments',
      service: 'sallyport-orders-db',
      connection: 'orders-db',
      onProblem: () => undefined,
      signal: ended.signal,
    });
    const socket = net.connect({ port: tunnel.port, host: '127.0.0.1', allowHalfOpen: true });
    const chunk = randomBytes(1024 * 1024);
    const sent = createHash('sha256');
    const got = createHash('sha256');
    let bytes = 0;
    const received = new Promise<void>((resolve, reject) => {
      socket.on('data', (part: Buffer) => {
        got.update(part);
        bytes += part.length;
      });
      socket.once('end', resolve);
      socket.once('error', reject);
    });
    for (let index = 0; index < 40; index += 1) {
      sent.update(chunk);
      if (!socket.write(chunk)) await new Promise((resolve) => socket.once('drain', resolve));
    }
    socket.end();
    await received;
    assert.equal(bytes, 40 * chunk.length);
    assert.equal(got.digest('hex'), sent.digest('hex'));
    ended.abort();
    await tunnel.closed;
  } finally {
    ended.abort();
    serve = toPostgres;
  }
});

it('a newer token for a session goes the same way, for whoever may open tunnels', async () => {
  const { server, ca } = bed.plane;
  const renew = async (who: string): Promise<{ status: number; body: string }> => {
    const path = '/api/v1/namespaces/payments/services/https:sallyport-orders-db:tunnel/proxy/renew/s-1';
    const asking = https.request(new URL(path, server), {
      method: 'POST',
      ca,
      headers: { authorization: `Bearer ${bed.plane.token(who)}`, [REPLICA_HEADER]: 'sallyport-orders-db-0' },
    });
    asking.end(JSON.stringify({ token: 'newer' }));
    const [response] = (await once(asking, 'response')) as [import('node:http').IncomingMessage];
    let body = '';
    for await (const part of response) body += String(part);
    return { status: response.statusCode ?? 0, body };
  };
  const answer = await renew('alice');
  assert.equal(answer.status, 200, answer.body);
  assert.deepEqual(JSON.parse(answer.body), { kind: 'Renewed', endsAtMs: 1_000 });
  assert.equal(renewals.length, 1);
  assert.deepEqual(renewals[0]!.proof, { token: 'newer' });
  assert.match(renewals[0]!.address, /^tunnel\/127\.0\.0\.1@/, 'as the API server tells it');
  assert.equal((await renew('carol')).status, 403);
  assert.equal(renewals.length, 1);
});

it('connect knows the sessions that its tunnel carries, and hands each a newer token', async () => {
  const { server, ca } = bed.plane;
  const ended = new AbortController();
  const held: net.Socket[] = [];
  serve = (socket) => void held.push(socket);
  const access = tokenAccess(server, bed.plane.token('alice'), ca);
  const kube = createKubeClient(access);
  const place = { namespace: 'payments', connection: 'orders-db', id: 's-1' };
  try {
    const tunnel = await openTunnel({
      access,
      place: { contextName: 'test', server, who: undefined },
      namespace: 'payments',
      service: 'sallyport-orders-db',
      connection: 'orders-db',
      onProblem: () => undefined,
      signal: ended.signal,
    });
    assert.deepEqual(tunnel.sessions(), []);
    const client = net.connect(tunnel.port, '127.0.0.1');
    await until(async () => tunnel.sessions().length === 1, 'the session');
    assert.deepEqual(tunnel.sessions(), ['s-1']);
    const [id] = tunnel.sessions();
    const proof = { token: 'newer', ticket: 'beside' };
    assert.deepEqual(await renewThrough(kube, { ...place, id: id! }, proof, ended.signal), renewal);
    assert.deepEqual(renewals.at(-1)?.proof, proof);
    for (const code of ['InvalidProof', 'NotNewer', 'LimitReached'] as const) {
      renewal = { kind: 'Refused', code, message: `because ${code}` };
      assert.deepEqual((await renewThrough(kube, place, proof, ended.signal)).kind, 'Refused');
      assert.equal(((await renewThrough(kube, place, proof, ended.signal)) as { code: string }).code, code);
    }
    // Another replica may have it: the API server is asked again for one by chance, and not for ever.
    renewal = { kind: 'Refused', code: 'NoSession', message: 'not here' };
    const before = renewals.length;
    assert.equal(((await renewThrough(kube, place, proof, ended.signal)) as { code: string }).code, 'NoSession');
    assert.equal(renewals.length - before, 12);
    client.destroy();
    await until(async () => tunnel.sessions().length === 0, 'the end of the session');
    ended.abort();
    await tunnel.closed;
  } finally {
    ended.abort();
    renewal = { kind: 'Renewed', endsAtMs: 1_000 };
    serve = toPostgres;
    for (const socket of held) socket.destroy();
    await kube.close();
  }
});

it('without a proxy that is ready, connect says so before any client starts', async () => {
  await bed.plane.apply(endpoints(false));
  await until(async () => (await psql('select 1')).code === 69, 'the empty Service');
  const { err } = await psql('select 1');
  assert.match(err, /No proxy of payments\/orders-db is ready.*\nhint: .*kubectl access doctor orders-db -n payments/);
  await bed.plane.kubectl(['delete', 'service', 'sallyport-orders-db', '-n', 'payments']);
  const gone = await psql('select 1');
  assert.equal(gone.code, 69);
  assert.match(gone.err, /There is no Service sallyport-orders-db in namespace payments yet/);
});
