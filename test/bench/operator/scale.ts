// The steps of the scale bench, each with the figures it measured. In step means: everything has the status it should
// have, every bundle is stored, every object of every proxy is applied, and the operator has nothing left to do.
import type { AccessGrant } from '../../../src/api/grant.ts';
import { type Bed, createAll, type OperatorProcess, startBed, value, writesBetween } from './bed.ts';
import { connection, grant, namespaces, policy, type Size, waits } from './objects.ts';

export const PREFIX = 'team';

export interface Settled {
  /** From the start of the process, and from its lead on. */
  fromStartMs: number;
  fromLeadMs: number;
  cpuMs: number;
  peakBytes: number;
  restBytes: number;
}

export async function seed(bed: Bed, prefix: string, size: Size): Promise<void> {
  await bed.plane.apply(...namespaces(prefix));
  const each = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
  await createAll(
    bed.admin,
    each(size.connections).map((index) => connection(prefix, size, index)),
  );
  await createAll(
    bed.admin,
    each(size.policies).map((index) => policy(prefix, index)),
  );
  // Stamped one by one: a stamp is good for a minute around its object's creation.
  await createAll(
    bed.admin,
    (function* () {
      for (const number of each(size.grants)) yield grant(prefix, size, number, bed.sealer);
    })(),
  );
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const LOOK_MS = 500;
/** Quiet for so long counts as done. */
const QUIET_LOOKS = 8;
const LONGEST_MS = 600_000;

/** Waits until a process that was just started has nothing to do any more; says when that began. */
export async function settled(bed: Bed, operator: OperatorProcess, startedAt: number): Promise<Settled> {
  let quietSince = performance.now();
  let quiet = 0;
  let [revision, cpu] = [await bed.revision(), operator.cpuMs()];
  let leadAt: number | undefined;
  while (quiet < QUIET_LOOKS) {
    if (performance.now() - startedAt > LONGEST_MS)
      throw new Error(`it does not come to rest:\n${operator.log().slice(-2000)}`);
    await sleep(LOOK_MS);
    if (operator.exited) throw new Error(`the operator ended:\n${operator.log().slice(-2000)}`);
    if (leadAt === undefined) {
      const line = operator
        .log()
        .split('\n')
        .find((each) => each.includes('this replica leads'));
      const at = line === undefined ? undefined : /"(?:time|at|ts)":"([^"]+)"/.exec(line)?.[1];
      if (at !== undefined) leadAt = performance.now() - (Date.now() - Date.parse(at));
    }
    const [nowRevision, nowCpu] = [await bed.revision(), operator.cpuMs()];
    // Leases and a heartbeat go on for ever. Who waits for a list is quiet too, and not done.
    const done = leadAt !== undefined && operator.log().includes('is in step');
    const busy = nowRevision - revision > 3 || nowCpu - cpu > LOOK_MS * 0.3 || !done;
    [revision, cpu] = [nowRevision, nowCpu];
    if (busy) quiet = 0;
    else if (quiet++ === 0) quietSince = performance.now() - LOOK_MS;
  }
  const { peakBytes, nowBytes } = operator.memory();
  return {
    fromStartMs: quietSince - startedAt,
    fromLeadMs: quietSince - (leadAt ?? startedAt),
    cpuMs: operator.cpuMs(),
    peakBytes,
    restBytes: nowBytes,
  };
}

const API = '/apis/sallyport.dev/v1alpha1';

export async function listAll<T>(bed: Bed, path: string): Promise<T[]> {
  const items: T[] = [];
  let next: string | undefined;
  do {
    const page = value(
      await bed.admin.list<T>(path, { limit: 500, ...(next === undefined ? {} : { continue: next }) }),
    );
    items.push(...page.items);
    next = page.metadata.continue === '' ? undefined : page.metadata.continue;
  } while (next !== undefined);
  return items;
}

/** Throws where anything is not what it should be. */
export async function checkInStep(bed: Bed, size: Size): Promise<string> {
  const grants = await listAll<AccessGrant>(bed, `${API}/accessgrants`);
  const wrong = grants.filter((each) => {
    const index = Number(each.spec.connectionRef.name.slice(3));
    return each.status?.phase !== (waits(size, index) ? 'Pending' : 'Active');
  });
  if (wrong.length > 0)
    throw new Error(`${wrong.length} grants are in another phase: ${JSON.stringify(wrong[0]?.status)}`);
  const sets = await listAll(bed, '/apis/apps/v1/statefulsets');
  const services = await listAll<{ metadata: { labels?: Record<string, string> } }>(bed, '/api/v1/services');
  const ours = services.filter(({ metadata }) => metadata.labels?.['app.kubernetes.io/managed-by'] === 'sallyport');
  const replicas = await listAll<{ status?: { connections?: { bundles: string[] }[] } }>(bed, `${API}/proxyreplicas`);
  const told = replicas.filter(({ status }) => (status?.connections?.[0]?.bundles.length ?? 0) >= 4);
  const bundles = await listAll<{ spec: { shard: string; payload: string } }>(bed, `${API}/enforcementbundles`);
  const published = bundles
    .filter(({ spec }) => spec.shard.startsWith('grants-'))
    .reduce((sum, { spec }) => sum + (JSON.parse(spec.payload) as { grants: unknown[] }).grants.length, 0);
  const active = grants.filter(({ status }) => status?.phase === 'Active').length;
  const found = { sets: sets.length, services: ours.length, told: told.length, published };
  const wanted = { sets: size.connections, services: 2 * size.connections, told: size.connections, published: active };
  if (JSON.stringify(found) !== JSON.stringify(wanted))
    throw new Error(`it is not in step: ${JSON.stringify(found)} instead of ${JSON.stringify(wanted)}`);
  return `${grants.length} grants, ${bundles.length} bundles`;
}

const SHOW_LOG = process.env['SCALE_LOG'] !== undefined;
const megabytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MB`;
export const shown = (figures: Settled): string =>
  `in step ${(figures.fromLeadMs / 1000).toFixed(1)} s after it led (${(figures.fromStartMs / 1000).toFixed(1)} s after its start), ` +
  `at most ${megabytes(figures.peakBytes)}, at rest ${megabytes(figures.restBytes)}, ${(figures.cpuMs / 1000).toFixed(1)} s of processor`;

const tell = (writes: ReadonlyMap<string, number>): string =>
  [...writes].map(([what, count]) => `${what} ${count}`).join(', ') || 'nothing';

if (import.meta.main) {
  const scale = Number(process.argv[2] ?? 1);
  const size: Size = {
    connections: Math.round(1000 * scale),
    policies: Math.round(200 * scale),
    grants: Math.round(10_000 * scale),
  };
  const bed = await startBed();
  try {
    let began = performance.now();
    await seed(bed, PREFIX, size);
    console.log(`seeded in ${((performance.now() - began) / 1000).toFixed(1)} s`);
    let before = await bed.requests();
    began = performance.now();
    let operator = bed.startOperator();
    console.log(`first: ${shown(await settled(bed, operator, began))}`);
    let after = await bed.requests();
    console.log(tell(writesBetween(before, after)));
    console.log(
      [...after]
        .filter(([what]) => / [45]\d\d$/.test(what))
        .map(String)
        .join('; '),
    );
    console.log(await checkInStep(bed, size));
    if (process.env['SCALE_SNAPSHOT'] !== undefined) {
      process.kill(operator.pid, 'SIGUSR2');
      await sleep(15_000);
    }
    if (SHOW_LOG) console.log(operator.log());
    await operator.end(process.env['SCALE_NODE_FLAGS'] === undefined ? 'SIGKILL' : 'SIGTERM');
    before = await bed.requests();
    began = performance.now();
    operator = bed.startOperator();
    console.log(`again: ${shown(await settled(bed, operator, began))}`);
    after = await bed.requests();
    console.log(tell(writesBetween(before, after)));
    console.log(operator.log().slice(-1500));
    await operator.end();
  } finally {
    await bed.stop();
  }
}
