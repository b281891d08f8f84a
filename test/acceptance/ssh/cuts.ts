// Criteria of ends: expiry and revocation on a shell, a program without a terminal, a transfer. What counts is when the
// client heard of it and when the program at the target was gone.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { percentile } from '../../bench/statistics.ts';
import { alice, type SshScene, startSshScene } from '../../support/ssh-scene.ts';
import { type CriteriaGroup, trials } from '../criterion.ts';

let scene: SshScene;
const STEP_MS = 2;

const alive = (pid: number): boolean => fs.existsSync(`/proc/${pid}`);

interface Running {
  client: ChildProcess;
  /** Processes at the target that must go. */
  pids: number[];
  heard: Promise<string>;
  closed: Promise<number>;
}

/** Starts a client whose program writes its pid to a file first. */
async function start(args: readonly string[], command: (file: string) => string): Promise<Running> {
  const file = path.join(scene.folder, `pid-${Math.random().toString(36).slice(2)}`);
  const client = scene.spawn([...args, 'web1', command(file)]);
  let told = '';
  const heard = new Promise<string>((resolve) => {
    const hear = (bytes: Buffer): void => {
      told += bytes.toString();
      if (/Sallyport/.test(told)) resolve(told);
    };
    client.stdout?.on('data', hear);
    client.stderr?.on('data', hear);
    client.once('close', () => resolve(told));
  });
  const closed = new Promise<number>((resolve) => client.once('close', () => resolve(performance.now())));
  const deadline = Date.now() + 60_000;
  while (!fs.existsSync(file) || !fs.readFileSync(file, 'utf8').endsWith('\n')) {
    if (Date.now() > deadline) throw new Error(`the program did not start: ${told}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return { client, pids: fs.readFileSync(file, 'utf8').trim().split(/\s+/).map(Number), heard, closed };
}

async function gone(pids: readonly number[]): Promise<number> {
  const deadline = Date.now() + 15_000;
  while (pids.some(alive)) {
    if (Date.now() > deadline) throw new Error(`still running: ${pids.filter(alive).join(' ')}`);
    await new Promise((resolve) => setTimeout(resolve, STEP_MS));
  }
  return performance.now();
}

const KINDS: Readonly<Record<string, () => Promise<Running>>> = {
  'an interactive shell': () => start(['-tt'], (file) => `sleep 1000 & echo $$ $! > ${file}; exec bash -i`),
  sleep: () => start([], (file) => `echo $$ > ${file}; exec sleep 1000`),
  'a program that ignores TERM and HUP': () =>
    start([], (file) => `trap '' TERM HUP; echo $$ > ${file}; while :; do sleep 0.2; done`),
  'a stream of data': () => start([], (file) => `echo $$ > ${file}; exec cat /dev/zero | tr a b`),
};

async function cutTrial(kind: string, how: 'revoke' | 'expiry'): Promise<{ told: number; gone: number }> {
  const grant = await scene.request('web1', how === 'expiry' ? '15s' : '1h');
  const running = await KINDS[kind]!();
  running.client.stdout?.resume();
  let began: number;
  if (how === 'revoke') {
    const answer = await scene.local.cli(['withdraw', grant, '--yes'], alice);
    assert.equal(answer.code, 0, answer.output);
    // The change was accepted some time before the command line ended.
    began = await ended(grant);
  } else {
    began = await ended(grant);
  }
  const [closed, left] = await Promise.all([running.closed, gone(running.pids)]);
  await running.heard;
  return { told: Math.max(0, closed - began), gone: Math.max(0, left - began) };
}

/** When the grant ended, by `performance.now`: from what its status says, to the millisecond. */
async function ended(grant: string): Promise<number> {
  for (;;) {
    const { status } = await scene.local.json<{
      status?: { conditions?: { type: string; status: string; lastTransitionTime: string }[]; expiresAt?: string };
    }>(['status', grant], alice);
    const finished = status?.conditions?.find((each) => each.type === 'Finished' && each.status === 'True');
    if (finished !== undefined) return performance.now() - (Date.now() - Date.parse(finished.lastTransitionTime));
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

export const cuts: CriteriaGroup = {
  name: 'cuts',
  async start() {
    scene = await startSshScene({ web1: '  - {name: all, action: Allow}' });
  },
  criteria: [
    ...Object.keys(KINDS).map((kind) => ({
      claim: `INV-03: revocation ends ${kind}, at the client and at the target`,
      async check() {
        const results = [];
        for (let index = 0; index < trials(25); index += 1) results.push(await cutTrial(kind, 'revoke'));
        return figure(results);
      },
    })),
    {
      claim: 'INV-03: expiry ends sleep, at the client and at the target',
      async check() {
        const results = [];
        for (let index = 0; index < trials(5); index += 1) results.push(await cutTrial('sleep', 'expiry'));
        return figure(results);
      },
    },
  ],
  stop: async () => scene?.stop(),
};

function figure(results: readonly { told: number; gone: number }[]): string {
  const told = results.map((each) => each.told);
  const left = results.map((each) => each.gone);
  const text = `${results.length} trials: client closed p50 ${percentile(told, 50).toFixed(0)} p99 ${percentile(told, 99).toFixed(0)} ms; processes gone p50 ${percentile(left, 50).toFixed(0)} p99 ${percentile(left, 99).toFixed(0)} ms`;
  assert.ok(Math.max(percentile(told, 99), percentile(left, 99)) <= 2000, text);
  return text;
}
