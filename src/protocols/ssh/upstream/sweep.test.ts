import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { readSweep, SWEEP_COMMAND, sweepScript } from './sweep.ts';

test('every login shell hands the command on unchanged: nothing in it that fish or csh would touch', () => {
  assert.doesNotMatch(SWEEP_COMMAND, /['!\\`(){}\n]/);
  assert.match(SWEEP_COMMAND, /^[\x20-\x7e]*$/);
});

test('outside of any sshd the script finds nobody and comes to its end, started by every shell that is here', () => {
  const { SSH_CONNECTION: _, ...rest } = process.env;
  // What a user has to fool it with by their environment alone.
  const env = {
    ...rest,
    SSH_CONNECTION: '',
    BASH_ENV: '/dev/stdin',
    ENV: '/dev/stdin',
    'BASH_FUNC_kill%%': '() { :; }',
  };
  for (const shell of ['sh', 'dash', 'bash', 'zsh', 'ksh', 'fish', 'busybox']) {
    const ran = spawnSync(shell, [...(shell === 'busybox' ? ['ash'] : []), '-c', SWEEP_COMMAND], {
      env: shell === 'bash' ? { ...env, BASH_ENV: '' } : env,
      input: sweepScript('m1'),
      encoding: 'utf8',
      timeout: 30_000,
    });
    if (ran.error !== undefined && 'code' in ran.error && ran.error.code === 'ENOENT') continue;
    assert.equal(ran.stderr, '', shell);
    assert.equal(ran.stdout, 'm1 ready\nm1 done\n', shell);
  }
});

test('every shell that may be /bin/sh runs the script', () => {
  for (const [shell, ...args] of [
    ['dash'],
    ['bash', '--posix'],
    ['busybox', 'ash'],
    ['ksh'],
    ['zsh', '--emulate', 'sh'],
  ]) {
    const ran = spawnSync(shell!, [...args, '-s', 'sallyport'], {
      env: { SSH_CONNECTION: '192.0.2.7 1 192.0.2.8 22' },
      input: sweepScript('m2'),
      encoding: 'utf8',
      timeout: 30_000,
    });
    if (ran.error !== undefined && 'code' in ran.error && ran.error.code === 'ENOENT') continue;
    assert.equal(ran.stderr, '', shell);
    assert.equal(ran.stdout, 'm2 ready\nm2 done\n', shell);
  }
});

test('a target is believed about names of processes and nothing else', () => {
  const said = 'Welcome!\n12 motd\nm ready\nm ran 12 sleep\nm ran 13 sh\nm left 12 sleep\nm done\n';
  assert.deepEqual(readSweep(said, 'm'), {
    ran: ['12 sleep', '13 sh'],
    survivors: ['12 sleep'],
    ready: true,
    complete: true,
  });
  assert.deepEqual(readSweep('m ready\nm left 12 \u001b[31mx\nm hello there\nm left 99999999999 x\nn done\n', 'm'), {
    ran: [],
    survivors: [],
    ready: true,
    complete: false,
  });
  assert.equal(
    readSweep(Array.from({ length: 500 }, (_, at) => `m left ${at} x`).join('\n'), 'm').survivors.length,
    50,
  );
});
