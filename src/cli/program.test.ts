import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import test from 'node:test';
import type { Io } from './io.ts';
import { buildProgram, type Outcome, tellFailure } from './program.ts';

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
    ready: () => Promise.resolve(),
    env: { SALLYPORT_STATE: '/nonexistent/sallyport', SALLYPORT_HOME: '/nonexistent/home', ...env },
    ask: async () => false,
    signal: new AbortController().signal,
  };
  const outcome: Outcome = { code: 0 };
  try {
    await buildProgram(io, outcome).parseAsync(['node', 'sallyport', ...args]);
    result.code = outcome.code;
  } catch (error) {
    result.code = tellFailure(io, error, outcome.verb);
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
  // The help that is hinted at is that of the verb, where one was named.
  assert.match(
    (await run(['request'])).err,
    /missing required argument 'connection'\nhint: sallyport request --help\n/,
  );
  assert.match((await run(['nonsense'])).err, /hint: sallyport --help\n/);
  const { code, err } = await run(['verify', '/nowhere']);
  assert.equal(code, 1);
  assert.match(err, /^sallyport: \/nowhere is no record folder: .*\nhint: Give the folder/);
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
  const { code, err } = await run(['ls'], {
    SALLYPORT_INVOKED_AS: 'kubectl-access',
    KUBECONFIG: '/nonexistent/kubeconfig',
  });
  assert.equal(code, 78);
  assert.match(err, /^kubectl access: No cluster is configured\nhint: .*KUBECONFIG/);
  const help = (await run(['request', '--help'], { SALLYPORT_INVOKED_AS: 'kubectl-access' })).out;
  assert.match(help, /Examples:\n {2}kubectl access request/);
  assert.match(help, /--as-group/);
});

test('the processes of a cluster are commands that the help does not list', async () => {
  const { out } = await run(['--help']);
  assert.doesNotMatch(out, /^ {2}(operator|proxy|doctor) /m);
  for (const process of ['operator', 'proxy']) assert.equal((await run([process, '--help'])).code, 0, process);
});

test('what makes no sense in a cluster says what to do instead', async () => {
  const env = { SALLYPORT_INVOKED_AS: 'kubectl-access', KUBECONFIG: '/nonexistent/kubeconfig' };
  for (const [args, hint] of [
    [['local', './access'], /sallyport local \.\/access/],
    [['records', 'ls'], /sallyport verify/],
    [['replay', 's-1'], /sallyport replay/],
    [['audit', 'columns', 'a/b.c.d'], /volumes of its proxies/],
    [['catalog', 'export', 'orders-db'], /sallyport catalog export/],
  ] as const) {
    const { code, err } = await run([...args], env);
    assert.equal(code, 78, args.join(' '));
    assert.match(err, hint, args.join(' '));
  }
  assert.equal((await run(['preset', 'ReadOnly'], env)).code, 0);
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

test('kubectl access is what the link of that name runs', () => {
  const entry = new URL('../../bin/kubectl-access', import.meta.url).pathname;
  const { SALLYPORT_INVOKED_AS: _, ...env } = process.env;
  const { status, stderr } = spawnSync(entry, ['ls', '--kubeconfig', '/nonexistent/kubeconfig'], {
    encoding: 'utf8',
    env,
  });
  assert.equal(status, 78);
  assert.match(stderr, /^kubectl access: kubeconfig \/nonexistent\/kubeconfig can not be read \(ENOENT\)/);
});
