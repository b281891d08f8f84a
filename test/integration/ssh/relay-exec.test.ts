// OpenSSH's ssh and others through the gateway to a real sshd: exec, exit status, streams in both directions, terminals,
// multiplexing, what else travels over ssh, and what people read where the target is not what the Connection says.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import type { ConnectionSpec } from '../../../src/api/connection.ts';
import { userAuthorityOf } from '../../../src/protocols/ssh/keys/derive.ts';
import { publicKeyLine } from '../../../src/protocols/ssh/keys/known-hosts.ts';
import { createSshProtocol } from '../../../src/protocols/ssh/protocol.ts';
import { transparentPolicy } from '../../support/session-context.ts';
import { collect, type SshGateway, startSshGateway } from '../../support/ssh-context.ts';
import { freePort, newSeed, type Sshd, startSshd } from '../../support/sshd.ts';

const run = promisify(execFile);
const seed = newSeed();
const protocol = createSshProtocol();
let sshd: Sshd;
let gateway: SshGateway;
let host: string;

before(async () => {
  sshd = await startSshd({ userAuthority: publicKeyLine(userAuthorityOf({ seed }).blob) });
  gateway = await startSshGateway({ protocol, sshd, policy: transparentPolicy(), seed });
  host = `${sshd.user}@127.0.0.1`;
});
after(async () => {
  await gateway?.close();
  await sshd?.stop();
});

const file = (name: string): string => path.join(gateway.folder, name);
const command = (): string => ['ssh', ...gateway.args('-p', String(gateway.port))].join(' ');

test('a command runs at the target; its output and exit status come back, and are recorded', async () => {
  const ran = await gateway.ssh([host, 'echo out; echo err >&2; exit 7']);
  assert.equal(ran.stdout.toString(), 'out\n');
  assert.equal(ran.stderr, 'err\n');
  assert.equal(ran.code, 7);
  const session = gateway.sessions.at(-1)!;
  await session.endedPromise;
  assert.equal(session.ended?.reason, 'ClientClosed');
  const records = gateway.records.filter((one) => one.session === session.id);
  assert.deepEqual(
    records.map(({ kind }) => kind),
    ['command', 'output', 'output', 'result'],
  );
  assert.equal(records[0]?.body['text'], 'echo out; echo err >&2; exit 7');
  assert.equal(records[3]?.body['tag'], 'exit 7');
});

test('input, its end and output pass in both directions, whatever their size', async () => {
  const data = randomBytes(20 * 1024 * 1024);
  const ran = await gateway.ssh([host, 'cat'], { input: data, timeoutMs: 120_000 });
  assert.equal(ran.code, 0);
  assert.ok(ran.stdout.equals(data));
  const sum = await gateway.ssh([host, 'sha256sum; echo done'], { input: data, timeoutMs: 120_000 });
  assert.equal(sum.stdout.toString(), `${createHash('sha256').update(data).digest('hex')}  -\ndone\n`);
});

test('what a reader that has enough leaves unread ends the writer', async () => {
  const child = spawn('sh', ['-c', `${command()} ${host} yes | head -n 1`], { stdio: 'pipe' });
  const ran = await collect(child);
  assert.equal(ran.stdout.toString(), 'y\n');
});

test('a command that dies of a signal says so', async () => {
  const ran = await gateway.ssh([host, 'kill -9 $$']);
  assert.equal(ran.code, 255); // as ssh has it without a gateway
});

test('variables pass by name', async () => {
  const child = spawn(
    'ssh',
    [...gateway.args('-p', String(gateway.port)), '-o', 'SetEnv=LC_SALLY=yes', host, 'echo "$LC_SALLY"'],
    { stdio: 'pipe' },
  );
  assert.equal((await collect(child)).stdout.toString(), 'yes\n');
});

test('a terminal has its type, its size and its modes', async () => {
  const ran = await gateway.ssh([
    '-tt',
    host,
    'test -t 0 && tty >/dev/null && echo terminal; stty -a | grep -c icanon',
  ]);
  assert.equal(ran.stdout.toString(), 'terminal\r\n1\r\n');
  assert.ok(gateway.records.some(({ kind, body }) => kind === 'output' && body['stream'] === 'terminal'));
  assert.ok(
    !gateway.records.some(
      ({ kind, body, session }) =>
        kind === 'output' && body['stream'] === 'stdin' && session === gateway.sessions.at(-1)?.id,
    ),
  );
});

test('one connection carries many commands, each with its own status', async () => {
  const control = file('control');
  const master = gateway.spawn(['-M', '-S', control, '-N', host]);
  await until(() => fs.existsSync(control));
  const logins = sshd.log().split('Accepted publickey').length;
  const statuses = [1, 2, 3, 4, 5, 6, 7, 8].map(async (status) => {
    const ran = await gateway.ssh(['-S', control, host, `sleep 0.2; exit ${status}`]);
    assert.equal(ran.code, status);
  });
  await Promise.all(statuses);
  assert.ok(sshd.log().split('Accepted publickey').length <= logins + 1);
  master.kill();
});

test('many connections at once', async () => {
  const runs = Array.from({ length: 40 }, (_, at) => gateway.ssh([host, `echo ${at}`], { timeoutMs: 120_000 }));
  for (const [at, ran] of (await Promise.all(runs)).entries()) assert.equal(ran.stdout.toString(), `${at}\n`);
});

test('rsync, git and sftp travel', async () => {
  const source = file('source');
  fs.mkdirSync(source);
  for (let at = 0; at < 20; at += 1) fs.writeFileSync(path.join(source, `f${at}`), randomBytes(50_000));
  await run('rsync', ['-a', '-e', command(), `${source}/`, `${host}:${file('copy')}/`]);
  await run('diff', ['-r', source, file('copy')]);
  const git = (...args: string[]) =>
    run('git', ['-c', 'user.email=a@b.example', '-c', 'user.name=a', ...args], {
      env: { ...process.env, GIT_SSH_COMMAND: command() },
    });
  await git('init', '-q', '--bare', file('bare'));
  await git('init', '-q', file('work'));
  fs.copyFileSync(path.join(source, 'f0'), path.join(file('work'), 'f0'));
  await git('-C', file('work'), 'add', '.');
  await git('-C', file('work'), 'commit', '-q', '-m', 'One');
  await git('-C', file('work'), 'push', '-q', `${host}:${file('bare')}`, 'HEAD:refs/heads/main');
  await git('clone', '-q', '-b', 'main', `${host}:${file('bare')}`, file('clone'));
  await run('cmp', [path.join(source, 'f0'), path.join(file('clone'), 'f0')]);
  await run('scp', [...gateway.args('-P', String(gateway.port)), `${host}:${source}/f1`, file('f1')]);
  await run('cmp', [path.join(source, 'f1'), file('f1')]);
});

test('a certificate that lives for minutes opens the target for an account without a secret', async () => {
  const other = await startSshGateway({
    protocol,
    sshd,
    policy: transparentPolicy(),
    seed,
    credential: { kind: 'Authority', users: [sshd.user, 'deploy'] },
  });
  try {
    assert.equal((await other.ssh([host, 'echo in'])).stdout.toString(), 'in\n');
    const stranger = await collect(
      spawn('ssh', [...other.args('-o', 'LogLevel=INFO', '-p', String(other.port)), 'nobody@127.0.0.1', 'echo in']),
    );
    assert.equal(stranger.code, 255);
    assert.match(stranger.stderr, /Log in as .* or deploy/);
  } finally {
    await other.close();
  }
});

test('a target that shows another key is not logged in to, and it is told what to write where', async () => {
  const other = await startSshGateway({
    protocol,
    sshd,
    policy: transparentPolicy(),
    spec: { hostKeys: [sshd.hostAuthority] },
  });
  try {
    const logins = sshd.log().split('Accepted publickey').length;
    const ran = await other.ssh([host, 'echo in']);
    assert.equal(ran.code, 255);
    assert.match(ran.stderr, /SHA256:[A-Za-z0-9+/]{43}/);
    assert.match(ran.stderr, /spec\.ssh\.hostKeys/);
    assert.equal(sshd.log().split('Accepted publickey').length, logins);
  } finally {
    await other.close();
  }
});

test('the probe logs in and leaves, or says why not', async () => {
  const spec: ConnectionSpec = {
    type: 'SSH',
    ssh: { host: '127.0.0.1', port: sshd.port, hostKeys: [sshd.hostKey] },
    accounts: [],
  };
  const good = await protocol.probe(probeTarget(spec));
  assert.equal(good.kind, 'Reachable');
  assert.match(good.kind === 'Reachable' ? good.version : '', /^OpenSSH_/);
  const wrong = await protocol.probe(probeTarget({ ...spec, ssh: { ...spec.ssh!, hostKeys: [sshd.hostAuthority] } }));
  assert.match(wrong.kind === 'Failed' ? wrong.reason : '', /SHA256:/);
  const nobody = await protocol.probe(probeTarget({ ...spec, ssh: { ...spec.ssh!, port: await freePort() } }));
  assert.match(nobody.kind === 'Failed' ? nobody.reason : '', /could not reach/);
});

function probeTarget(spec: ConnectionSpec): Parameters<typeof protocol.probe>[0] {
  return {
    connection: { uid: 'u', name: 'prod', namespace: 'payments', spec },
    account: 'admin',
    credential: { kind: 'Key', username: sshd.user, privateKey: sshd.privateKey, hosts: [] },
    keys: { seed, certificates: () => [] },
    dial: ({ host: name, port }, signal) =>
      new Promise((done, reject) => {
        const socket = net.connect({ host: name, port, signal });
        socket.once('connect', () => done(socket));
        socket.once('error', reject);
      }),
    signal: AbortSignal.timeout(30_000),
  };
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error('waited too long');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
