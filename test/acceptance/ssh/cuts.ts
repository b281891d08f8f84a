// Criteria of ends: revocation and expiry on a shell, programs without a terminal, transfers, forwards. What counts is
// when the client was closed and when nothing was left at the target. All kinds are cut at the same moment.
import assert from 'node:assert/strict';
import { percentile } from '../../bench/statistics.ts';
import { sleep } from '../../support/in-process.ts';
import { CUT_KINDS, type CutKind, type CutTimes, sshCutTrial } from '../../support/ssh-cut-trial.ts';
import { type SshScene, startSshScene } from '../../support/ssh-scene.ts';
import { type CriteriaGroup, trials } from '../criterion.ts';

const BOUND_MS = 500;
const ana = { username: 'ana@corp.example', groups: ['ops'] };
const RULES = '  - {name: all, action: Allow}';
/** Kinds that expire; their grants end one after the other. */
const EXPIRING: readonly CutKind[] = ['an interactive shell and its jobs', 'sleep', 'an sftp transfer', 'a forward'];
const EXPIRY_MS = 20_000;
const APART_MS = 1500;

let scene: SshScene;
let revoked: Promise<Record<CutKind, CutTimes>[]> | undefined;
let expired: typeof revoked;

/** One after the other, once for all criteria. */
function revocations(): Promise<Record<CutKind, CutTimes>[]> {
  revoked ??= (async () => {
    const results = [];
    for (let index = 0; index < trials(100); index += 1)
      results.push(await sshCutTrial(scene, ana, 'revoke', CUT_KINDS));
    return results;
  })();
  return revoked;
}

function expiries(): Promise<Record<CutKind, CutTimes>[]> {
  expired ??= (async () => {
    const begun = [];
    for (let index = 0; index < trials(100); index += 1) {
      begun.push(sshCutTrial(scene, ana, 'expiry', EXPIRING, { expiryMs: EXPIRY_MS }));
      await sleep(APART_MS);
    }
    return Promise.all(begun);
  })();
  return expired;
}

export const cuts: CriteriaGroup = {
  name: 'cuts',
  async start() {
    scene = await startSshScene({ web1: RULES });
  },
  criteria: [
    ...CUT_KINDS.map((kind) => ({
      claim: `INV-03: revocation ends ${kind}, at the client and at the target, within ${BOUND_MS} ms (p99)`,
      check: async () => figure((await revocations()).map((each) => each[kind])),
    })),
    ...EXPIRING.map((kind) => ({
      claim: `INV-03: expiry ends ${kind}, at the client and at the target, within ${BOUND_MS} ms (p99)`,
      check: async () => figure((await expiries()).map((each) => each[kind])),
    })),
  ],
  stop: async () => scene?.stop(),
};

function figure(results: readonly CutTimes[]): string {
  const closed = results.map(({ closedMs }) => closedMs);
  const gone = results.map(({ goneMs }) => goneMs);
  const of = (values: readonly number[]): string =>
    `p50 ${percentile(values, 50).toFixed(0)} p99 ${percentile(values, 99).toFixed(0)} ms`;
  const text = `${results.length} trials: client closed ${of(closed)}; nothing left at the target ${of(gone)}`;
  const silent = results.find(({ said }) => !/Sallyport: .*(withdrawn|revoked|expired|ended)/.test(said));
  assert.ok(silent === undefined, `the client was not told: ${silent?.said.slice(-300)}`);
  assert.ok(Math.max(percentile(closed, 99), percentile(gone, 99)) <= BOUND_MS, text);
  return text;
}
