// How large an installation may be: 1,000 Connections, 200 policies and 10,000 grants on an API server with etcd. And what
// the processes weigh. `SCALE=0.1` tries it with a tenth.
import assert from 'node:assert/strict';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { clear, writeAll, writesOf } from '../../bench/operator/bare.ts';
import { type Bed, createAll, type OperatorProcess, startBed, writesBetween } from '../../bench/operator/bed.ts';
import { FULL, grant, type Size, waits } from '../../bench/operator/objects.ts';
import { type ProxyFigures, weighProxies } from '../../bench/operator/proxy.ts';
import { checkInStep, PREFIX, seed, settled, shown } from '../../bench/operator/scale.ts';
import { verbCpuMs } from '../../bench/operator/start.ts';
import type { CriteriaGroup } from '../criterion.ts';

const scaled = (by: number): Size => ({
  connections: Math.round(FULL.connections * by),
  policies: Math.round(FULL.policies * by),
  grants: Math.round(FULL.grants * by),
});
const SCALE = Number(process.env['SCALE'] ?? 1);
const size = scaled(SCALE);
/** For the race with a bare client: it takes two installations a round. */
const raced = scaled(Math.min(SCALE, 0.1));
/** By turns, so that what else the machine does hits both alike. */
const ROUNDS = 2;
const MB = 2 ** 20;
const STEADY_MS = 45_000;

let bed: Bed;
let operator: OperatorProcess;
let weighed: ProxyFigures[] = [];

const listed = (writes: ReadonlyMap<string, number>): string =>
  [...writes].map(([what, count]) => `${count} ${what}`).join(', ');

/** The heartbeat, one write in 30 s for the whole cluster, apart. */
function withoutHeartbeat(writes: Map<string, number>, passedMs: number): Map<string, number> {
  const beats = writes.get('PUT enforcementbundles') ?? 0;
  const left = beats - Math.min(beats, Math.ceil(passedMs / 30_000));
  if (left === 0) writes.delete('PUT enforcementbundles');
  else writes.set('PUT enforcementbundles', left);
  return writes;
}

export const scale: CriteriaGroup = {
  name: 'scale',
  async stop() {
    await bed?.stop();
  },
  criteria: [
    {
      claim: 'the first reconcile takes at most 1.5 times as long as a bare client making the same writes',
      async check() {
        bed = await startBed();
        try {
          let [ownMs, bareMs, made, wanted] = [0, 0, 0, 0];
          for (let round = 0; round < ROUNDS; round += 1) {
            await seed(bed, PREFIX, raced);
            const before = await bed.requests();
            const first = bed.startOperator();
            ownMs += (await settled(bed, first, performance.now())).fromLeadMs;
            made += [...writesBetween(before, await bed.requests()).values()].reduce((sum, each) => sum + each, 0);
            await checkInStep(bed, raced);
            await first.end();
            await seed(bed, 'bare', raced);
            const writes = await writesOf(bed, PREFIX, 'bare');
            const from = await bed.requests();
            bareMs += await writeAll(bed, writes);
            wanted += [...writesBetween(from, await bed.requests()).values()].reduce((sum, each) => sum + each, 0);
            await clear(bed, PREFIX);
            await clear(bed, 'bare');
          }
          const ratio = ownMs / bareMs;
          const figure =
            `${ratio.toFixed(2)} times: ${(ownMs / 1000).toFixed(1)} s with ${made} writes for ${ROUNDS} times ${raced.connections} Connections, ` +
            `${(bareMs / 1000).toFixed(1)} s bare with ${wanted}`;
          assert.ok(ratio <= 1.5, figure);
          return figure;
        } finally {
          await bed.stop();
        }
      },
    },
    {
      claim: `${size.connections} Connections, ${size.policies} policies and ${size.grants} grants come into step from nothing`,
      async check() {
        bed = await startBed();
        await seed(bed, PREFIX, size);
        operator = bed.startOperator();
        const figures = await settled(bed, operator, performance.now());
        const found = await checkInStep(bed, size);
        return `${found}; ${shown(figures)}`;
      },
    },
    {
      claim: 'steady state writes nothing but one heartbeat and the lease',
      async check() {
        const [before, began] = [await bed.requests(), performance.now()];
        await sleep(STEADY_MS);
        const writes = writesBetween(before, await bed.requests());
        const left = withoutHeartbeat(writes, performance.now() - began);
        assert.equal(left.size, 0, listed(left));
        return `nothing in ${STEADY_MS / 1000} s`;
      },
    },
    {
      claim: 'one more grant writes its status and one shard',
      async check() {
        const index = Array.from({ length: size.connections }, (_, each) => each).find((each) => !waits(size, each))!;
        const [before, began] = [await bed.requests(), performance.now()];
        await createAll(bed.admin, [grant(PREFIX, size, index, bed.sealer, 'one-more')]);
        await sleep(5_000);
        const writes = writesBetween(before, await bed.requests());
        const beats = Math.ceil((performance.now() - began) / 30_000);
        const shards = writes.get('PUT enforcementbundles') ?? 0;
        assert.ok(shards >= 1 && shards <= 1 + beats, listed(writes));
        writes.delete('PUT enforcementbundles');
        assert.deepEqual(
          Object.fromEntries(writes),
          { 'POST accessgrants': 1, 'PATCH accessgrants/status': 1 },
          listed(writes),
        );
        return '1 status, 1 shard';
      },
    },
    {
      claim: 'restarted cold after a kill -9 it is in step within 60 s with at most 256 MB',
      async check() {
        await operator.end('SIGKILL');
        // What happens while nobody leads: all of it must be caught up with.
        const missed = Math.round(size.grants / 100);
        await createAll(
          bed.admin,
          (function* () {
            for (let number = 0; number < missed; number += 1)
              yield grant(PREFIX, size, number, bed.sealer, `missed-${number}`);
          })(),
        );
        operator = bed.startOperator();
        const figures = await settled(bed, operator, performance.now());
        const found = await checkInStep(bed, size);
        const figure = `${found}, ${missed} of them made meanwhile; ${shown(figures)}`;
        assert.ok(figures.fromStartMs <= 60_000, figure);
        assert.ok(figures.peakBytes <= 256 * MB, figure);
        return figure;
      },
    },
    {
      claim: 'kubectl access ls takes at most 400 ms of processor, the bare program at most 200 ms',
      async check() {
        const [cache, kubeconfig] = [path.join(bed.plane.folder, 'compile-cache'), bed.plane.kubeconfig()];
        // Of a namespace without Connections: it is the start that is measured.
        const ls = await verbCpuMs(bed.dist, cache, kubeconfig, ['-n', 'default', 'ls']);
        const version = await verbCpuMs(bed.dist, cache, kubeconfig, ['--version']);
        const figure = `${ls} ms, --version ${version} ms`;
        assert.ok(ls <= 400 && version <= 200, figure);
        return figure;
      },
    },
    {
      claim: 'a proxy at rest fits into the 96 MiB that its pod asks for (the aim is 80 MB)',
      async check() {
        await bed.stop();
        weighed = await weighProxies([1, 21]);
        const [one] = weighed;
        const figure = `${(one!.restBytes / MB).toFixed(1)} MB RSS, of which ${(one!.ownBytes / MB).toFixed(1)} MB its own and the rest Node’s program; ready after ${(one!.readyMs / 1000).toFixed(1)} s`;
        assert.ok(one!.restBytes <= 96 * 2 ** 20, figure);
        return figure;
      },
    },
    {
      claim: 'one more Connection in a shared proxy weighs at most 3 MB',
      async check() {
        const [one, many] = weighed;
        assert.ok(one !== undefined && many !== undefined, 'no proxy was weighed');
        const each = (many.restBytes - one.restBytes) / MB / (many.connections - one.connections);
        const figure = `${each.toFixed(2)} MB each of ${many.connections - one.connections} more`;
        assert.ok(each <= 3, figure);
        return figure;
      },
    },
    {
      claim: 'a proxy has loaded fewer than 25 packages',
      async check() {
        const [one] = weighed;
        assert.ok(one !== undefined, 'no proxy was weighed');
        assert.ok(one.packages.length < 25, one.packages.join(' '));
        return `${one.packages.length}: ${one.packages.join(' ')}`;
      },
    },
  ],
};
