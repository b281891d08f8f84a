// A proxy with nothing but its pod's token: what it serves, what it refuses, what ends a session.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import https from 'node:https';
import path from 'node:path';
import { after, before, test } from 'node:test';
import pg from 'pg';
import type { CommandHold } from '../../src/api/hold.ts';
import type { ProxyReplica } from '../../src/api/replica.ts';
import type { AccessSession } from '../../src/api/session.ts';
import { createDialGuard } from '../../src/gateway/dial-guard.ts';
import { createKubeClient } from '../../src/kube/client.ts';
import { EVERY_CONNECTION } from '../../src/policy/bundle.ts';
import { loadClassifier } from '../../src/protocols/postgres/classify/classify.ts';
import { createPostgresProtocol } from '../../src/protocols/postgres/protocol.ts';
import { mountedCredentials } from '../../src/proxy/credentials.ts';
import { type Proxy, startProxy } from '../../src/proxy/main.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemFiles } from '../../src/system/files.ts';
import { systemRandom } from '../../src/system/random.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { skipWithoutCluster } from '../support/cluster/control-plane.ts';
import { signingKey } from '../support/gateway-harness.ts';
import { tokenIssuer } from '../support/token-issuer.ts';
import {
  type Bed,
  bundlePath,
  CONNECTION,
  grantPath,
  login,
  OPERATOR_NAMESPACE,
  replicaPath,
  rule,
  sessionPath,
  sleep,
  startBed,
  until,
  value,
} from './proxy-bed.ts';

const skip = await skipWithoutCluster();
let bed: Bed;
let proxy: Proxy;
let port: number;
let access: Awaited<ReturnType<Bed['pod']>>['access'];
const logged: { level: string; message: string; fields: unknown }[] = [];
const undo: (() => Promise<void>)[] = [];

before(async () => {
  if (skip !== false) return;
  await loadClassifier();
  bed = await startBed();
  const pod = await bed.pod('sallyport-orders-db-0');
  ({ port, access } = pod);
  proxy = await startProxy({
    client: createKubeClient(access),
    namespace: 'payments',
    name: 'sallyport-orders-db-0',
    podUid: pod.uid,
    operatorNamespace: OPERATOR_NAMESPACE,
    trusted: bed.operator.trusted,
    version: '0.0.0',
    protocols: [createPostgresProtocol()],
    credentials: mountedCredentials(bed.credentials),
    dialGuard: createDialGuard({ allowLoopback: true }),
    recordsFolder: path.join(bed.folder, 'records'),
    healthPort: 0,
    tunnelPort: 0,
    clock: systemClock,
    random: systemRandom,
    files: systemFiles,
    log: (level, message, fields) => logged.push({ level, message, fields }),
    metrics: createMetrics(systemClock, '0.0.0'),
    lingerMs: 0,
  });
  await proxy.started;
  await until('ready', () => proxy.ready().ok || undefined, 60_000);
});
after(async () => {
  for (const step of undo.splice(0).reverse()) await step();
  await proxy?.stop(0);
  await bed?.stop();
});

const onEnd = (step: () => Promise<void>): void => void undo.push(step);
/** A grant that the proxy has heard of. */
async function granted(): Promise<Awaited<ReturnType<Bed['operator']['grant']>>> {
  const held = await bed.operator.grant();
  const heard = (): boolean =>
    (proxy.gateway.connections().get(CONNECTION.uid)?.applied.get('grants-0')?.sequence ?? 0) >= held.sequence;
  await until('the grant to be heard of', () => heard() || undefined);
  return held;
}

const replicaNow = async (): Promise<ProxyReplica> =>
  value(await bed.admin.get<ProxyReplica>(replicaPath('sallyport-orders-db-0')));

test('a grant in the bundle opens the door, and the replica says what is in force', { skip }, async () => {
  const held = await granted();
  const { client } = await login(bed, port, held, onEnd);
  assert.equal((await client.query('select count(*)::int as n from orders')).rows[0].n, 10);
  await assert.rejects(client.query('drop table orders'), /Sallyport refused DROP TABLE/);
  const { spec } = await until('the report', async () => {
    const replica = await replicaNow();
    const [connection] = replica.spec.connections ?? [];
    return connection?.target?.reachable === true && connection.listening ? replica : undefined;
  });
  assert.deepEqual(
    spec.connections?.[0]?.applied.map(({ shard }) => shard),
    ['grants-0', 'overlay', 'policy', 'releases'],
  );
  assert.equal(spec.recordsWritable, true);
  assert.match(spec.connections?.[0]?.target?.message ?? '', /18/);
  await client.end();
});

test('a token of a trusted issuer opens its person’s grant, and a newer one comes by the tunnel’s port', {
  skip,
}, async () => {
  await granted();
  const issuer = tokenIssuer(systemClock);
  // As API servers spell people: the prefix they are told to put before the claim.
  const provider = issuer.provider({ kubernetes: { claim: 'upn', prefix: '' } });
  const shard = bed.operator.envelope('identity', { providers: [provider] }, { connectionUid: EVERY_CONNECTION });
  value(await bed.operator.write(shard, 'identity'));
  const name = bed.operator.grants.at(-1)!.name;
  const enter = (token: string): pg.Client => {
    const client = new pg.Client({
      host: 'localhost',
      port,
      user: `reader+${name}`,
      password: token,
      database: 'postgres',
      ssl: { ca: bed.operator.authority.caPem, servername: 'localhost' },
    });
    client.on('error', () => undefined);
    onEnd(() => client.end().catch(() => undefined));
    return client;
  };
  const alice = { upn: 'alice@corp.example', groups: ['payments'] };
  const client = await until('the issuer to be known', async () => {
    const trying = enter(issuer.token({ ...alice, iat: Math.floor(Date.now() / 1000) - 60 }));
    return await trying.connect().then(
      () => trying,
      () => undefined,
    );
  });
  assert.equal((await client.query('select count(*)::int as n from orders')).rows[0].n, 10);
  await assert.rejects(enter(issuer.token({ ...alice, upn: 'eve@corp.example' })).connect(), /You have no grant/);

  const session = proxy.gateway.sessions().find(({ grant }) => grant?.name === name)!;
  const renew = async (token: string): Promise<{ status: number; body: unknown }> => {
    const asking = https.request({
      host: 'localhost',
      port: proxy.tunnelPort(),
      ca: bed.operator.authority.caPem,
      method: 'POST',
      path: `/renew/${session.id}`,
    });
    asking.end(JSON.stringify({ token }));
    const [response] = (await once(asking, 'response')) as [import('node:http').IncomingMessage];
    let text = '';
    for await (const part of response) text += String(part);
    return { status: response.statusCode ?? 0, body: JSON.parse(text) };
  };
  assert.deepEqual(await renew(issuer.token(alice)), { status: 200, body: { kind: 'Renewed' } });
  assert.equal((await renew(issuer.token({ ...alice, sub: 'u-eve' }))).status, 403);
  const cut = until('the cut', () => !proxy.gateway.sessions().some(({ id }) => id === session.id) || undefined);
  const later = Math.floor(Date.now() / 1000) + 5; // newer, within the clocks' difference
  const answer = await renew(issuer.token({ ...alice, groups: [], iat: later, exp: later + 300 }));
  assert.equal((answer.body as { kind: string }).kind, 'Cut');
  await cut;
});

test('INV-03: a grant that is deleted, or revoked without any bundle, cuts its session', { skip }, async () => {
  for (const end of ['deleted', 'revoked'] as const) {
    const held = await granted();
    const { client, closed, errors } = await login(bed, port, held, onEnd);
    const running = assert.rejects(client.query('select pg_sleep(30)'), new RegExp(end));
    await sleep(200);
    if (end === 'deleted') value(await bed.admin.delete(grantPath(held.grant.name)));
    else {
      const status = { phase: 'Revoked', finishedBy: 'lead@corp.example' };
      value(await bed.admin.patch(`${grantPath(held.grant.name)}/status`, { status }, 'merge'));
    }
    const began = performance.now();
    await running;
    await closed;
    assert.ok(performance.now() - began < 10_000);
    assert.ok(errors.length <= 1);
  }
});

test('INV-04: a bundle that is not signed, signed by another, older or another Connection’s changes nothing', {
  skip,
}, async () => {
  const held = await granted();
  const { client } = await login(bed, port, held, onEnd);
  const name = `${CONNECTION.uid}.policy`;
  const before = proxy.gateway.connections().get(CONNECTION.uid)!.applied.get('policy')!;
  const good = value(await bed.admin.get<{ spec: { payload: string; sequence: number } }>(bundlePath(name))).spec;
  const payload: unknown = JSON.parse(good.payload);
  const refusals = (): number => logged.filter(({ message }) => message.includes('shard was refused')).length;

  const attempts = [
    bed.operator.envelope('policy', payload, { key: signingKey() }),
    { ...bed.operator.envelope('policy', payload), signatures: [{ keyId: bed.operator.key.keyId, signature: 'AAAA' }] },
    bed.operator.envelope('policy', { connection: { uid: 'x', spec: {} }, policies: [] }),
  ];
  for (const attempt of attempts) {
    const seen = refusals();
    // What was refused moves no mark, so each may have the next sequence.
    value(await bed.operator.write(attempt));
    await until('the refusal', () => refusals() > seen || undefined);
    assert.deepEqual({ ...proxy.gateway.connections().get(CONNECTION.uid)!.applied.get('policy')! }, { ...before });
    assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
  }
  // Another Connection's shard under our name is not even looked at.
  const seen = logged.length;
  value(await bed.operator.write(bed.operator.envelope('policy', payload, { connectionUid: 'other' }), name));
  await until(
    'the remark',
    () => logged.slice(seen).some(({ message }) => message.includes('another shard')) || undefined,
  );
  // Older: the object is made anew, for the API refuses to turn one back.
  value(await bed.admin.delete(bundlePath(name)));
  await until(
    'the policy is gone',
    () => proxy.gateway.connections().get(CONNECTION.uid)?.connection === undefined || undefined,
  );
  value(await bed.operator.write(bed.operator.envelope('policy', payload, { at: before.sequence - 1 })));
  const refusedBefore = refusals();
  await until(
    'the refusal',
    () =>
      (refusals() >= refusedBefore &&
        logged.some(({ fields }) => (fields as { reason?: string } | undefined)?.reason === 'Older')) ||
      undefined,
  );
  assert.equal(proxy.gateway.connections().get(CONNECTION.uid)?.connection, undefined);
  await bed.operator.policy();
  await until('served again', () => proxy.gateway.endpoints().has(CONNECTION.uid) || undefined);
  await client.end();
});

test('INV-12: a proxy can not read another proxy’s bundles, replica or any Secret', { skip }, async () => {
  await bed.pod('sallyport-billing-0', ['99999999-1111-4222-8333-444455556666']);
  const client = createKubeClient(access);
  onEnd(() => client.close());
  for (const forbidden of [
    bundlePath('99999999-1111-4222-8333-444455556666.policy'),
    bundlePath(),
    replicaPath('sallyport-billing-0'),
    '/api/v1/namespaces/payments/secrets',
  ]) {
    const answer = await client.get(forbidden);
    assert.equal(answer.kind === 'Failed' ? answer.status : 200, 403, forbidden);
  }
});

test('INV-04: an operator that is silent for five minutes stops new commands; its word brings them back', {
  skip,
}, async () => {
  const held = await granted();
  const { client } = await login(bed, port, held, onEnd);
  await bed.operator.heartbeat(Date.now() - 301_000);
  await until('silence', () =>
    proxy.gateway.connections().get(CONNECTION.uid)?.silent === undefined ? undefined : true,
  );
  await assert.rejects(client.query('select 1'), /Sallyport/);
  assert.equal(proxy.ready().ok, true, 'all pods would go unready at once');
  await bed.operator.heartbeat();
  await until('the word', () => proxy.gateway.connections().get(CONNECTION.uid)?.silent === undefined || undefined);
  assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
  await client.end();
});

test('INV-05: a rotated Secret is used at the next login; a missing one is named, and its value nowhere', {
  skip,
}, async () => {
  const held = await granted();
  const hosts = { 'sallyport-hosts': `127.0.0.1:${bed.target.port}` };
  bed.mount({ username: 'other', password: 'svc-secret-2', ...hosts });
  const { client } = await login(bed, port, held, onEnd);
  assert.equal((await client.query('select current_user::text as who')).rows[0].who, 'other');
  await client.end();
  bed.mount({ username: 'reader', ...hosts });
  await assert.rejects(login(bed, port, held, onEnd), (error: Error) => {
    assert.doesNotMatch(error.message, /svc-secret/);
    return true;
  });
  const target = await until('the report', async () => {
    const found = (await replicaNow()).spec.connections?.[0]?.target;
    return found?.reachable === false ? found : undefined;
  });
  assert.match(target.message, /orders-db-reader.*has no key "password"/);
  bed.mount({ username: 'reader', password: 'svc-secret', ...hosts });
  const again = await login(bed, port, held, onEnd);
  await again.client.end();
  assert.doesNotMatch(JSON.stringify([logged, await replicaNow()]), /svc-secret/);
});

test('INV-03: a session is shown after five seconds, once for a pool, and ends when its object is deleted', {
  skip,
}, async () => {
  const held = await granted();
  const pool = [];
  for (let i = 0; i < 3; i += 1) pool.push(await login(bed, port, held, onEnd));
  const ours = async (): Promise<AccessSession[]> =>
    value(await bed.admin.list<AccessSession>(sessionPath())).items.filter(
      ({ spec }) => spec.grantRef.uid === held.grant.uid,
    );
  assert.deepEqual(await ours(), []);
  const session = await until('the object', async () => (await ours()).find(({ status }) => status?.phase === 'Live'));
  assert.equal(session.spec.username, 'alice@corp.example');
  assert.equal((await ours()).length, 1);
  const cut = pool.map(({ client }) =>
    assert.rejects(client.query('select pg_sleep(30)'), /was ended by deleting AccessSession/),
  );
  await sleep(100);
  value(await bed.admin.delete(sessionPath(session.metadata.name)));
  await Promise.all(cut);
  const last = await login(bed, port, held, onEnd);
  const next = await until('another object', async () => (await ours()).find(({ status }) => status?.phase === 'Live'));
  assert.notEqual(next.metadata.uid, session.metadata.uid);
  await last.client.end();
  await until('its end', async () => (await ours()).find(({ status }) => status?.phase === 'Ended'));
});

test('INV-01: a held statement is a CommandHold of its grant, runs once it is released, and its approval is used up', {
  skip,
}, async () => {
  const approvers = [{ kind: 'Group' as const, name: 'dba' }];
  await bed.operator.policy([
    rule('all', 'Allow'),
    rule('held', 'Hold', {
      matcher: { member: 'sql', value: { statements: ['Select'] } },
      hold: { count: 1, approvers, timeoutMs: 30_000 },
    }),
  ]);
  const held = await granted();
  const { client } = await login(bed, port, held, onEnd);
  const running = client.query('select 42 as answer');
  const path = `/apis/sallyport.dev/v1alpha1/namespaces/payments/commandholds`;
  const hold = await until('the hold', async () =>
    value(await bed.admin.list<CommandHold>(path)).items.find(({ spec }) => spec.grantRef.uid === held.grant.uid),
  );
  assert.deepEqual(
    hold.metadata.ownerReferences?.map(({ kind, uid }) => ({ kind, uid })),
    [{ kind: 'AccessGrant', uid: held.grant.uid }],
  );
  assert.match(hold.spec.command, /select/i);
  const status = { phase: 'Approved', decidedBy: ['dba@corp.example'], usableUntil: '2099-01-01T00:00:00Z' };
  value(await bed.admin.patch(`${path}/${hold.metadata.name}/status`, { status }, 'merge'));
  await bed.operator.publish('releases', {
    releases: [
      {
        hold: hold.metadata.name,
        holdUid: hold.metadata.uid,
        grantUid: held.grant.uid,
        sessionId: hold.spec.sessionId,
        commandHash: hold.spec.commandHash,
        decision: 'Approved',
        by: ['dba@corp.example'],
        usableUntilMs: Date.now() + 600_000,
      },
    ],
  });
  assert.equal((await running).rows[0].answer, 42);
  const used = value(await bed.admin.get<CommandHold>(`${path}/${hold.metadata.name}`)).status;
  assert.ok(used?.usedAt !== undefined);
  // The same text once more is another hold; giving it up is told.
  const second = client.query('select 42 as answer').catch((error: Error) => error);
  const other = await until('the other hold', async () =>
    value(await bed.admin.list<CommandHold>(path)).items.find(
      ({ metadata, spec }) => spec.grantRef.uid === held.grant.uid && metadata.uid !== hold.metadata.uid,
    ),
  );
  value(await bed.admin.delete(grantPath(held.grant.name)));
  assert.ok((await second) instanceof Error);
  await until('its end', async () => {
    const found = value(await bed.admin.get<CommandHold>(`${path}/${other.metadata.name}`)).status?.phase;
    return found === 'Withdrawn' || undefined;
  });
  await bed.operator.policy();
});

test('INV-10: while the API server is gone sessions go on and logins are taken; what changed meanwhile is heard after', {
  skip,
}, async () => {
  const held = await granted();
  const staying = await login(bed, port, held, onEnd);
  const doomed = await granted();
  const cut = await login(bed, port, doomed, onEnd);
  await bed.plane.killApiServer();
  const end = performance.now() + 20_000;
  while (performance.now() < end) {
    assert.equal((await staying.client.query('select 1 as one')).rows[0].one, 1);
    await sleep(500);
  }
  const during = await login(bed, port, held, onEnd);
  assert.equal((await during.client.query('select 1 as one')).rows[0].one, 1);
  await bed.plane.startApiServer();
  value(await bed.admin.delete(grantPath(doomed.grant.name)));
  await cut.closed;
  const fresh = await granted();
  await login(bed, port, fresh, onEnd);
  assert.equal((await staying.client.query('select 1 as one')).rows[0].one, 1);
  await bed.operator.heartbeat();
});

test('at rest nothing is written', { skip }, async () => {
  for (const step of undo.splice(0).reverse()) await step();
  await until('quiet', () => (proxy.gateway.sessions().length === 0 ? true : undefined));
  await sleep(8_000);
  const before = (await replicaNow()).metadata.resourceVersion;
  const writes = proxy.replicaWrites();
  await bed.operator.heartbeat();
  await sleep(5_000);
  assert.equal((await replicaNow()).metadata.resourceVersion, before);
  assert.equal(proxy.replicaWrites(), writes);
});
