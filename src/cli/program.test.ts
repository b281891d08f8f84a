import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import test from 'node:test';
import type { Io } from './io.ts';
import { buildProgram, tellFailure } from './program.ts';

interface Run {
  code: number;
  out: string;
  err: string;
}

async function run(args: string[], env: Record<string, string> = {}): Promise<Run> {
  const result: Run = { code: 0, out: '', err: '' };
  const io: Io = {
    out: (text) => void (result.out += text),
    err: (text) => void (result.err += text),
    outTty: false,
    errTty: false,
    inTty: false,
    env: { SALLYPORT_STATE: '/nonexistent/sallyport', SALLYPORT_HOME: '/nonexistent/home', ...env },
    ask: async () => false,
    signal: new AbortController().signal,
  };
  const outcome = { code: 0 };
  try {
    await buildProgram(io, outcome).parseAsync(['node', 'sallyport', ...args]);
    result.code = outcome.code;
  } catch (error) {
    result.code = tellFailure(io, error);
  }
  return result;
}

test('without a running Sallyport every verb that needs one says how to start it, with exit code 78', async () => {
  for (const args of [
    ['ls'],
    ['pending'],
    ['status'],
    ['holds'],
    ['sessions'],
    ['request', 'orders-db'],
    ['connect', 'orders-db'],
    ['approve', 'orders-db-7fk2p', '--yes'],
    ['kill', 's-1'],
    ['unlock', 'l'],
    ['catalog', 'export', 'orders-db'],
  ]) {
    const { code, err } = await run(args);
    assert.equal(code, 78, `${args.join(' ')}: ${err}`);
    assert.match(
      err,
      /No Sallyport is running with state in \/nonexistent\/sallyport\nhint: Start one with `sallyport local/,
    );
  }
});

test('mistakes in the command line are misconfigurations with a hint, help is not', async () => {
  assert.equal((await run(['--help'])).code, 0);
  assert.equal((await run(['connect', '--help'])).code, 0);
  for (const args of [['nonsense'], ['request'], ['ls', '--nonsense'], ['ls', '-o', 'xml'], []]) {
    const { code, err, out } = await run(args);
    assert.equal(code, 78, args.join(' '));
    assert.ok(err.length + out.length > 0);
  }
});

test('every verb says what it does, and those with a story have examples', async () => {
  const help = (await run(['--help'])).out;
  for (const verb of 'request pending approve deny withdraw revoke status ls connect dsn sessions kill lock unlock holds local why policy preset records replay verify audit catalog version completion'.split(
    ' ',
  )) {
    assert.match(help, new RegExp(`^  ${verb}\\b.*  \\S`, 'm'), verb);
  }
  for (const verb of ['request', 'connect', 'lock', 'approve', 'local', 'why']) {
    assert.match((await run([verb, '--help'])).out, new RegExp(`Examples:\\n  sallyport ${verb}`));
  }
});

test('hints repeat the prefix that the person used', async () => {
  const { err } = await run(['ls'], { SALLYPORT_INVOKED_AS: 'kubectl-access' });
  assert.match(err, /`kubectl access local/);
});

test('completion scripts are accepted by the shell they are for', async () => {
  const bash = await run(['completion', 'bash']);
  assert.equal(spawnSync('bash', ['-n'], { input: bash.out }).status, 0);
  assert.match(bash.out, /request\) COMPREPLY=.*--reason/);
  assert.match((await run(['completion', 'zsh'])).out, /^#compdef sallyport/);
  assert.match((await run(['completion', 'fish'])).out, /-a request/);
  assert.equal((await run(['completion', 'tcsh'])).code, 78);
});

test('a preset is printed without any Sallyport running', async () => {
  const { code, out } = await run(['preset', 'ReadOnly']);
  assert.equal(code, 0);
  assert.match(out, /rules:/);
});

test('kubectl access says that there is no cluster mode, by whatever link it was called', () => {
  const entry = new URL('../../bin/kubectl-access', import.meta.url).pathname;
  const { SALLYPORT_INVOKED_AS: _, ...env } = process.env;
  const { status, stderr } = spawnSync(entry, ['ls'], { encoding: 'utf8', env });
  assert.equal(status, 78);
  assert.match(stderr, /^kubectl access: cluster mode is not available in this version\nhint: /);
});
