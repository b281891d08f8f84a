// What a proxy weighs: the compiled process with one Connection and with twenty in a group, ready, its target probed,
// nobody connected; and which packages it has loaded by then.
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { rawPublicKey } from '../../../src/recording/signer.ts';
import {
  type Bed,
  bundlePath,
  CONNECTION,
  NAMESPACE,
  replicaPath,
  SHARDS,
  startBed,
  value,
} from '../../cluster/proxy-bed.ts';
import { type Child, freePorts, startChild } from '../../support/cluster/children.ts';
import { compiled, NODE_FLAGS, processOf } from './bed.ts';

export interface ProxyFigures {
  connections: number;
  restBytes: number;
  /** Of these, what no file backs: Node's program and libraries apart, which processes of one machine share. */
  ownBytes: number;
  peakBytes: number;
  readyMs: number;
  packages: string[];
}

/** After the last probe, so that what it left is collected or not as in real life. */
const REST_MS = 10_000;

/** One figure for each of `counts`. */
export async function weighProxies(counts: readonly number[]): Promise<ProxyFigures[]> {
  const dist = await compiled();
  const bed = await startBed();
  try {
    const most = Math.max(...counts);
    const uids = [CONNECTION.uid];
    while (uids.length < most) uids.push(await another(bed, uids.length));
    const figures: ProxyFigures[] = [];
    for (const count of counts) figures.push(await weigh(bed, dist, uids.slice(0, count)));
    return figures;
  } finally {
    await bed.stop();
  }
}

/** A Connection like the first one, under a uid of its own. */
async function another(bed: Bed, number: number): Promise<string> {
  const uid = `3f2b7c1e-0000-4222-8333-${String(number).padStart(12, '0')}`;
  for (const shard of SHARDS) {
    const first = value(await bed.admin.get<{ spec: { payload: string } }>(bundlePath(`${CONNECTION.uid}.${shard}`)))
      .spec.payload;
    const payload: unknown = JSON.parse(
      first.replaceAll(CONNECTION.uid, uid).replaceAll(`"name":"${CONNECTION.name}"`, `"name":"other-${number}"`),
    );
    value(await bed.operator.write(bed.operator.envelope(shard, payload, { connectionUid: uid })));
  }
  return uid;
}

async function weigh(bed: Bed, dist: string, uids: readonly string[]): Promise<ProxyFigures> {
  const name = `sallyport-group-${uids.length}`;
  const pod = await bed.pod(name, uids);
  const [health = 0, tunnel = 0, ...ports] = await freePorts(2 + uids.length);
  const connections = uids.map((uid, index) => ({
    uid,
    name: index === 0 ? CONNECTION.name : `other-${index}`,
    port: ports[index]!,
    bundles: SHARDS.map((shard) => `${uid}.${shard}`),
  }));
  value(await bed.admin.patch(`${replicaPath(name)}/status`, { status: { connections } }, 'merge'));
  const folder = path.join(bed.folder, name);
  const serviceAccount = path.join(folder, 'serviceaccount');
  fs.mkdirSync(serviceAccount, { recursive: true });
  const { authorization = '' } = await pod.access.headers();
  fs.writeFileSync(path.join(serviceAccount, 'token'), String(authorization).replace('Bearer ', ''), { mode: 0o600 });
  fs.writeFileSync(path.join(serviceAccount, 'ca.crt'), bed.plane.ca);
  fs.writeFileSync(path.join(serviceAccount, 'namespace'), NAMESPACE);
  const { hostname, port } = new URL(bed.plane.server);
  const env = {
    POD_NAME: name,
    POD_UID: pod.uid,
    POD_NAMESPACE: NAMESPACE,
    KUBERNETES_SERVICE_HOST: hostname,
    KUBERNETES_SERVICE_PORT: port,
  };
  const trust = bed.operator.trusted.map(({ keyId, publicKey }) => `${keyId}:${rawPublicKey(publicKey)}`);
  const places = {
    records: path.join(folder, 'records'),
    credentials: bed.credentials,
    serviceAccount,
    healthPort: health,
    tunnelPort: tunnel,
  };
  const entry = path.join(folder, 'proxy.mjs');
  const loaded = path.join(folder, 'loaded.json');
  fs.writeFileSync(
    entry,
    `import fs from 'node:fs';
import { registerHooks } from 'node:module';
const packages = new Set();
registerHooks({ resolve(specifier, context, next) {
  const found = next(specifier, context);
  const [, name] = /.*\\/node_modules\\/((?:@[^/]+\\/)?[^/.][^/]*)\\//.exec(found.url) ?? [];
  if (name !== undefined) packages.add(name);
  return found;
} });
Object.assign(process.env, ${JSON.stringify(env)});
const { proxyCommand } = await import(${JSON.stringify(path.join(dist, 'cli/cluster/proxy.js'))});
const { systemIo } = await import(${JSON.stringify(path.join(dist, 'cli/io.js'))});
const { createDialGuard } = await import(${JSON.stringify(path.join(dist, 'gateway/dial-guard.js'))});
const interrupted = new AbortController();
process.once('SIGTERM', () => {
  fs.writeFileSync(${JSON.stringify(loaded)}, JSON.stringify([...packages].sort()));
  interrupted.abort();
});
process.exit(await proxyCommand(
  systemIo(interrupted.signal),
  { trust: ${JSON.stringify(trust)}, operatorNamespace: 'sallyport-system' },
  { ...${JSON.stringify(places)}, dialGuard: createDialGuard({ allowLoopback: true }) },
));
`,
  );
  const began = performance.now();
  const flags = [...NODE_FLAGS, ...(process.env['SCALE_NODE_FLAGS']?.split(' ') ?? [])];
  const child = startChild(process.execPath, [...flags, entry], path.join(folder, 'proxy.log'));
  try {
    await ready(child, health);
    const readyMs = performance.now() - began;
    await sleep(REST_MS);
    const { nowBytes, peakBytes, ownBytes } = processOf(child.pid).memory();
    await child.end();
    const packages = JSON.parse(fs.readFileSync(loaded, 'utf8')) as string[];
    return { connections: uids.length, restBytes: nowBytes, ownBytes, peakBytes, readyMs, packages };
  } finally {
    await child.end('SIGKILL');
  }
}

async function ready(child: Child, port: number): Promise<void> {
  const end = performance.now() + 60_000;
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${port}/readyz`, { signal: AbortSignal.timeout(2000) }).catch(
      () => undefined,
    );
    if (answer?.status === 200) return;
    if (child.exited || performance.now() > end)
      throw new Error(`the proxy is not ready: ${await answer?.text()}\n${child.log().slice(-2000)}`);
    await sleep(100);
  }
}

if (import.meta.main) {
  const counts = process.argv.slice(2).map(Number);
  for (const each of await weighProxies(counts.length === 0 ? [1, 20] : counts)) {
    const megabytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
    console.log(
      `${each.connections} Connections: ${megabytes(each.restBytes)} MB at rest (${megabytes(each.ownBytes)} MB its own), ${megabytes(each.peakBytes)} MB at most, ` +
        `ready after ${(each.readyMs / 1000).toFixed(1)} s; ${each.packages.length} packages: ${each.packages.join(' ')}`,
    );
  }
}
