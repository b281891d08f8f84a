import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { readSweep, SWEEP_GO, sweepCommand } from './sweep.ts';

test('every login shell hands the script on unchanged: nothing in it that fish or csh would touch', () => {
  const command = sweepCommand();
  assert.ok(command.startsWith("sh -c '") && command.endsWith("'"));
  const script = command.slice("sh -c '".length, -1);
  assert.doesNotMatch(script, /['!\\\n]/);
  assert.match(script, /^[\x20-\x7e]*$/);
});

test('outside of any sshd the script finds nobody and comes to its end, in every shell that is here', () => {
  const { SSH_CONNECTION: _, ...env } = process.env;
  for (const shell of ['sh', 'dash', 'bash', 'zsh', 'ksh', 'fish']) {
    const ran = spawnSync(shell, ['-c', sweepCommand()], { env, input: SWEEP_GO, encoding: 'utf8', timeout: 30_000 });
    if (ran.error !== undefined && 'code' in ran.error && ran.error.code === 'ENOENT') continue;
    assert.equal(ran.stderr, '', shell);
    assert.equal(ran.stdout, 'ready\ndone\n', shell);
  }
});

test('a target is believed about names of processes and nothing else', () => {
  assert.deepEqual(readSweep('ready\n12 sleep\ndone\n'), { survivors: ['12 sleep'], complete: true });
  assert.deepEqual(readSweep('ready\n12 \u001b[31mx\nhello there\n99999999999 x\n'), {
    survivors: [],
    complete: false,
  });
  assert.equal(readSweep(Array.from({ length: 500 }, (_, at) => `${at} x`).join('\n')).survivors.length, 50);
});
