// Criteria of speed: what the way through the gateway costs beside the same way straight, by the same programs, with the
// same algorithms, in one run. Ratios are medians of interleaved pairs; figures of CPU are a steadier measure where the
// machine has other work.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import { latenciesOf, measureKeystrokes } from '../../bench/ssh/keystrokes.ts';
import { measureCommands, measureIdle, measureLogins, timesOf } from '../../bench/ssh/sessions.ts';
import { figuresOf, measureTransfers } from '../../bench/ssh/transfers.ts';
import { startWays, type Ways } from '../../bench/ssh/ways.ts';
import { type CriteriaGroup, type Criterion, trials } from '../criterion.ts';

const LEAST_SPEED = 0.5;
const MOST_ADDED_MS = 1;
const MEGABYTES = Number(process.env.ACCEPT_MB ?? 1024);
const KEYS = 1000;
const SESSIONS = 100;

let ways: Ways;

const load = (): string => `load ${os.loadavg()[0]!.toFixed(1)} on ${os.cpus().length} processors`;
const seconds = (value: number): string => value.toFixed(1);

async function transferFigure(name: string): Promise<{ ratio: number; figure: string }> {
  // Direct and through in turns; an odd number, so that the median is one of them.
  const [measured] = await measureTransfers(ways, { mib: MEGABYTES, rounds: trials(3), kinds: [name] });
  const { speed, direct, through, gateway, ends, endsDirect, busy } = figuresOf(measured!, MEGABYTES);
  const figure =
    `${speed.median.toFixed(2)} (${speed.min.toFixed(2)} to ${speed.max.toFixed(2)}) of ${direct.toFixed(0)} MB/s, ` +
    `${through.toFixed(0)} MB/s; CPU a GB: gateway ${seconds(gateway)} s, both ends ${seconds(ends)} s, ` +
    `direct ${seconds(endsDirect)} s; machine ${(busy * 100).toFixed(0)} % busy, ${load()}`;
  return { ratio: speed.median, figure };
}

const transfer = (name: string): Criterion => ({
  claim: `${name} of ${MEGABYTES} MiB runs at ${LEAST_SPEED} or more of direct`,
  async check() {
    const { ratio, figure } = await transferFigure(name);
    assert.ok(ratio >= LEAST_SPEED, figure);
    return figure;
  },
});

/** Written down: what is promised is said of files. */
const pipe = (name: string): Criterion => ({
  claim: `how fast ${name} of ${MEGABYTES} MiB runs beside direct`,
  check: async () => (await transferFigure(name)).figure,
});

export const speed: CriteriaGroup = {
  name: 'speed',
  async start() {
    ways = await startWays();
  },
  criteria: [
    {
      claim: 'both ways agree on the same algorithms',
      check: async () => `${ways.algorithms}; ${load()}`,
    },
    transfer('scp up'),
    transfer('scp down'),
    transfer('sftp up'),
    transfer('sftp down'),
    pipe('ssh cat up'),
    pipe('ssh cat down'),
    {
      claim: `a key typed on a terminal comes back at most ${MOST_ADDED_MS} ms later (p50)`,
      async check() {
        const count = trials(KEYS);
        const { direct, through, added } = latenciesOf(await measureKeystrokes(ways, count));
        const of = ({ p50, p99 }: { p50: number; p99: number }): string => `${p50.toFixed(2)} / ${p99.toFixed(2)} ms`;
        const figure = `${count} keys, p50 / p99: direct ${of(direct)}, through ${of(through)}, added ${of(added)}; ${load()}`;
        assert.ok(added.p50 <= MOST_ADDED_MS, figure);
        return figure;
      },
    },
    {
      claim: 'what an idle session takes of memory',
      async check() {
        const { sessions, before, with: after, perSession } = await measureIdle(ways, Math.max(20, trials(SESSIONS)));
        assert.ok(Number.isFinite(perSession) && fs.existsSync(`/proc/${ways.scene.local.pid}`));
        return `${perSession.toFixed(0)} KiB each: ${before.toFixed(0)} MiB with the first 10, ${after.toFixed(0)} MiB with ${sessions}`;
      },
    },
    {
      claim: 'what a login and a command on an open connection take',
      async check() {
        const login = timesOf(await measureLogins(ways, trials(15)));
        const command = timesOf(await measureCommands(ways, trials(40)));
        const of = ({ direct, through }: { direct: number; through: number }): string =>
          `direct ${direct.toFixed(0)} ms, through ${through.toFixed(0)} ms`;
        return `login: ${of(login)}; command: ${of(command)}; ${load()}`;
      },
    },
  ],
  async stop() {
    await ways.stop();
  },
};
