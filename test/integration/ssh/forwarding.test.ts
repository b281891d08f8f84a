// Forwards as OpenSSH's own client asks for them, through the gateway to a real sshd: -L, -D, -W, -J, -R, sockets, -A.
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { createSshProtocol } from '../../../src/protocols/ssh/protocol.ts';
import { collect, type Ran, type SshGateway, startSshGateway } from '../../support/ssh-context.ts';
import { type SshRule, sshPolicy } from '../../support/ssh-rules.ts';
import { freePort, type Sshd, startSshd } from '../../support/sshd.ts';
import { talk } from '../../support/talk.ts';

let sshd: Sshd;
let gateway: SshGateway;
let host: string;
/** Echoes what comes, and closes after it. */
let echo: net.Server;
let echoPort: number;
const children: ChildProcess[] = [];

before(async () => {
  sshd = await startSshd();
  gateway = await startSshGateway({ protocol: createSshProtocol(), sshd, policy: sshPolicy({}) });
  host = `${sshd.user}@127.0.0.1`;
  echo = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve));
  echoPort = (echo.address() as net.AddressInfo).port;
});
after(async () => {
  echo?.close();
  await gateway?.close();
  await sshd?.stop();
});
beforeEach(() => {
  gateway.records.length = 0;
  gateway.gate = undefined;
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  await until(() => gateway.sessions.every(({ ended }) => ended !== undefined), 'the end of all sessions');
});

const commands: SshRule = { action: 'Allow', ssh: { commands: ['true', 'echo **', 'sleep *', 'ssh-add -l', 'nc **'] } };
const allow = (...forwarding: string[]) => sshPolicy({ commands, forwards: { action: 'Allow', ssh: { forwarding } } });
/** What a record tells of SSH. */
const sshOf = (body: Record<string, unknown> | undefined): Record<string, unknown> =>
  (body?.['facts'] as { ssh: Record<string, unknown> } | undefined)?.ssh ?? {};
const kinds = (kind: string) => gateway.records.filter((record) => record.kind === kind).map(({ body }) => body);
const commandsOf = (verb: string) => kinds('command').filter((body) => body['verb'] === verb);
const resultOf = (command: Record<string, unknown> | undefined) =>
  kinds('result').find(({ id }) => id === command?.['id']);

function start(args: readonly string[]): { child: ChildProcess; stderr(): string } {
  const child = spawn('ssh', gateway.args('-o', 'LogLevel=INFO', '-p', String(gateway.port)).concat(args), {
    stdio: 'pipe',
  });
  let stderr = '';
  child.stderr!.on('data', (data: Buffer) => (stderr += data.toString()));
  children.push(child);
  return { child, stderr: () => stderr };
}

/** A local port that ssh listens on once it is up. */
async function listening(port: number): Promise<void> {
  const lines = (): string => fs.readFileSync('/proc/net/tcp', 'utf8');
  const mark = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')} 00000000:0000 0A`;
  await until(() => lines().includes(mark), `a listener on ${port}`);
}

test('-L: bytes both ways whole, counted, and recorded before they pass', async () => {
  gateway.policy = allow(`127.0.0.1:${echoPort}`);
  const port = await freePort();
  start(['-N', '-L', `${port}:127.0.0.1:${echoPort}`, host]);
  await listening(port);
  const bytes = randomBytes(8 << 20);
  const back = await talk({ port, host: '127.0.0.1' }, bytes);
  const sum = (data: Buffer) => createHash('sha256').update(data).digest('hex');
  assert.equal(sum(back), sum(bytes));
  await until(() => kinds('result').length === 1, 'its result');
  const [command] = commandsOf('forward');
  assert.equal(command?.['decision'], 'Allow');
  assert.equal(command?.['text'], `127.0.0.1:${echoPort}`);
  const result = resultOf(command);
  assert.equal(result?.['bytes'], 2 * bytes.length);
  assert.deepEqual(sshOf(result), {
    streams: { toTarget: { bytes: bytes.length }, toClient: { bytes: bytes.length } },
  });
  // Of what passed nothing is stored.
  assert.equal(kinds('output').length, 0);
});

test('many connections at once over one forward, each with its own end', async () => {
  gateway.policy = allow(`127.0.0.1:${echoPort}`);
  const port = await freePort();
  start(['-N', '-L', `${port}:127.0.0.1:${echoPort}`, host]);
  await listening(port);
  const all = Array.from({ length: 40 }, async (_, index) => {
    const data = randomBytes(10_000 + index);
    assert.ok((await talk({ port, host: '127.0.0.1' }, data)).equals(data));
  });
  await Promise.all(all);
  await until(() => kinds('result').length === 40, '40 results');
});

test('INV-09: what is denied says why in the open failure, reaches nothing, and the next connection passes', async () => {
  gateway.policy = allow(`127.0.0.1:${echoPort}`);
  let reached = 0;
  const other = net.createServer((socket) => {
    reached += 1;
    socket.destroy();
  });
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const otherPort = (other.address() as net.AddressInfo).port;
  const [good, bad] = [await freePort(), await freePort()];
  const { stderr } = start(['-N', '-L', `${good}:127.0.0.1:${echoPort}`, '-L', `${bad}:127.0.0.1:${otherPort}`, host]);
  await listening(good);
  await listening(bad);
  for (let round = 0; round < 3; round += 1) {
    assert.equal((await talk({ port: bad, host: '127.0.0.1' }, '').catch(() => Buffer.alloc(0))).length, 0);
    assert.equal((await talk({ port: good, host: '127.0.0.1' }, 'still')).toString(), 'still');
  }
  await until(() => /administratively prohibited: Sallyport refused forward.*denial d-/.test(stderr()), stderr());
  assert.equal(reached, 0);
  const denied = kinds('command').filter(({ decision }) => decision === 'Deny');
  assert.equal(denied.length, 3);
  assert.equal(denied[0]?.['text'], `127.0.0.1:${otherPort}`);
  other.close();
});

test('-W and -J: a connection without a session, in the spelling that was judged', async () => {
  gateway.policy = allow(`127.0.0.1:${echoPort}`);
  const ran = await gateway.ssh(['-W', `0x7f.1:${echoPort}`, host], { input: 'through' });
  assert.equal(ran.stdout.toString(), 'through', ran.stderr);
  assert.equal(commandsOf('forward')[0]?.['text'], `127.0.0.1:${echoPort}`);
  // A jump to a sshd is one that must be spelled out.
  gateway.policy = allow('127.0.0.0/8:*', '*:*');
  const jump = `ssh ${gateway.args('-p', String(gateway.port)).join(' ')} -W %h:%p ${host}`;
  const hop = (): Promise<Ran> =>
    collect(
      spawn('ssh', [
        '-F',
        'none',
        '-o',
        'BatchMode=yes',
        '-o',
        'StrictHostKeyChecking=no',
        '-o',
        'LogLevel=ERROR',
        '-o',
        `UserKnownHostsFile=${path.join(gateway.folder, 'jumped')}`,
        '-i',
        sshd.privateKeyFile,
        '-o',
        `ProxyCommand=${jump}`,
        '-p',
        String(sshd.port),
        host,
        'echo jumped',
      ]),
    );
  assert.notEqual((await hop()).code, 0);
  gateway.policy = allow(`127.0.0.1:${sshd.port}`);
  assert.equal((await hop()).stdout.toString(), 'jumped\n');
});

test('-D: every destination of a SOCKS client is judged by itself', async () => {
  gateway.policy = allow(`localhost:${echoPort}`);
  const port = await freePort();
  start(['-N', '-D', String(port), host]);
  await listening(port);
  const socks = (name: string, to: number): Promise<{ code: number | undefined; rest: string }> =>
    new Promise((resolve) => {
      const socket = net.connect({ port, host: '127.0.0.1' });
      let got = Buffer.alloc(0);
      socket.on('data', (data: Buffer) => {
        got = Buffer.concat([got, data]);
        if (got.length === 2)
          socket.write(
            Buffer.concat([
              Buffer.from([5, 1, 0, 3, name.length]),
              Buffer.from(name),
              Buffer.from([to >> 8, to & 255]),
            ]),
          );
        if (got.length >= 12 && got[3] === 0 && got.length === 12) socket.end('hello');
      });
      socket.on('error', () => undefined);
      socket.on('close', () => resolve({ code: got[3], rest: got.subarray(12).toString() }));
      socket.write(Buffer.from([5, 1, 0]));
    });
  assert.deepEqual(await socks('localhost', echoPort), { code: 0, rest: 'hello' });
  assert.notEqual((await socks('127.0.0.1', echoPort)).rest, 'hello');
  assert.deepEqual(await socks('LOCALHOST', echoPort), { code: 0, rest: 'hello' });
  assert.deepEqual(
    commandsOf('forward').map(({ text, decision }) => `${text} ${decision}`),
    [`localhost:${echoPort} Allow`, `127.0.0.1:${echoPort} Deny`, `localhost:${echoPort} Allow`],
  );
});

test('a forward that is held waits, is decided again on release, and is withdrawn with its connection', async () => {
  gateway.policy = sshPolicy({
    forwards: { action: 'Allow', ssh: { forwarding: [`127.0.0.1:${echoPort}`] } },
    ask: { action: 'Hold', ssh: { forwarding: ['*:*'] } },
  });
  const wanted = gateway.nextHold();
  const going = gateway.ssh(['-W', `127.0.0.1:${echoPort}`, host], { input: 'held' });
  const hold = await wanted;
  assert.equal(hold.request.shown.text, `127.0.0.1:${echoPort}`);
  hold.resolve({ kind: 'Approved', by: ['bob'] });
  assert.equal((await going).stdout.toString(), 'held');
  const second = gateway.nextHold();
  const refused = start(['-W', `127.0.0.1:${echoPort}`, host]);
  const decidedAgain = await second;
  gateway.policy = allow('db.internal:5432');
  decidedAgain.resolve({ kind: 'Approved', by: ['bob'] });
  await until(() => /administratively prohibited: Sallyport refused forward/.test(refused.stderr()), refused.stderr());
  gateway.policy = sshPolicy({
    forwards: { action: 'Allow', ssh: { forwarding: [`127.0.0.1:${echoPort}`] } },
    ask: { action: 'Hold', ssh: { forwarding: ['*:*'] } },
  });
  const third = gateway.nextHold();
  const { child } = start(['-W', `127.0.0.1:${echoPort}`, host]);
  const withdrawn = await third;
  child.kill('SIGKILL');
  await until(() => withdrawn.withdrawn, 'the withdrawal');
});

test('-R: the target listens where it may, on a port of its own choice too; cancelled it listens no more', async () => {
  gateway.policy = allow('listen:127.0.0.1:*');
  const control = path.join(gateway.folder, 'remote');
  const { child, stderr } = start(['-M', '-S', control, '-N', '-R', `0:127.0.0.1:${echoPort}`, host]);
  await until(() => /Allocated port \d+/.test(stderr()), stderr());
  const port = Number(/Allocated port (\d+)/.exec(stderr())![1]);
  const bytes = randomBytes(1 << 20);
  assert.ok((await talk({ port, host: '127.0.0.1' }, bytes)).equals(bytes));
  await until(
    () => commandsOf('forwarded').length === 1 && resultOf(commandsOf('forwarded')[0]) !== undefined,
    'its result',
  );
  const [listen] = commandsOf('listen');
  const [came] = commandsOf('forwarded');
  assert.equal(resultOf(came)?.['bytes'], 2 * bytes.length);
  assert.equal(sshOf(came)['listener'], listen?.['id']);
  assert.deepEqual(sshOf(resultOf(listen)), { listening: true, port });
  // A rule that came since: what listens is open, and lets nothing in.
  gateway.policy = allow('listen:127.0.0.1:1');
  assert.equal((await talk({ port, host: '127.0.0.1' }, 'x').catch(() => Buffer.alloc(0))).length, 0);
  gateway.policy = allow('listen:127.0.0.1:*');
  const fixed = await freePort();
  const over = (...args: string[]) => gateway.ssh(['-S', control, ...args, host]);
  assert.equal((await over('-O', 'forward', '-R', `${fixed}:127.0.0.1:${echoPort}`)).code, 0);
  assert.equal((await talk({ port: fixed, host: '127.0.0.1' }, 'fixed')).toString(), 'fixed');
  assert.equal((await over('-O', 'cancel', '-R', `${fixed}:127.0.0.1:${echoPort}`)).code, 0);
  await assert.rejects(talk({ port: fixed, host: '127.0.0.1' }, 'x'));
  child.kill();
});

test('-R that is denied is told on the session that follows, and is not listened on', async () => {
  gateway.policy = sshPolicy({ commands });
  const port = await freePort();
  const ran = await gateway.ssh(['-R', `${port}:127.0.0.1:${echoPort}`, host, 'echo ran']);
  assert.equal(ran.stdout.toString(), 'ran\n');
  assert.match(ran.stderr, /Sallyport refused listen.*denial d-/);
  const strict = await gateway.ssh([
    '-o',
    'ExitOnForwardFailure=yes',
    '-R',
    `${port}:127.0.0.1:${echoPort}`,
    host,
    'true',
  ]);
  assert.notEqual(strict.code, 0);
  await assert.rejects(talk({ port, host: '127.0.0.1' }, 'x'));
});

test('no more than 16 listeners', async () => {
  gateway.policy = sshPolicy({ commands, forwards: { action: 'Allow', ssh: { forwarding: ['listen:127.0.0.1:*'] } } });
  // OpenSSH asks once for what is asked for twice.
  const many = Array.from({ length: 18 }, (_, index) => ['-R', `0:127.0.0.1:${1000 + index}`]).flat();
  const { stderr } = start([...many, '-N', host]);
  await until(() => commandsOf('listen').length === 18 && stderr().split('Allocated port').length === 17, stderr());
  assert.equal(commandsOf('listen').filter(({ code }) => code === 'LimitReached').length, 2);
});

test('sockets, both ways', async () => {
  const socket = path.join(gateway.folder, 'app.sock');
  const server = net.createServer({ allowHalfOpen: true }, (peer) => peer.pipe(peer));
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  const remote = path.join(sshd.folder, 'remote.sock');
  gateway.policy = allow(socket, `listen:${sshd.folder}/*.sock`);
  const port = await freePort();
  start(['-N', '-L', `${port}:${socket}`, '-R', `${remote}:127.0.0.1:${echoPort}`, host]);
  await listening(port);
  assert.equal((await talk({ port, host: '127.0.0.1' }, 'to a socket')).toString(), 'to a socket');
  await until(() => fs.existsSync(remote), remote);
  assert.equal((await talk({ path: remote }, 'from a socket')).toString(), 'from a socket');
  assert.deepEqual(
    kinds('command')
      .map(({ verb, text }) => `${verb} ${text}`)
      .sort(),
    [`forward ${socket}`, `forwarded ${remote}`, `listen ${remote}`],
  );
  server.close();
});

test('-A: the client’s agent through, only where it is let through by name; nothing of it is stored', async (t) => {
  const agent = execFileSync('ssh-agent', ['-s'], { encoding: 'utf8' });
  const [, socket = ''] = /SSH_AUTH_SOCK=([^;]+)/.exec(agent) ?? [];
  const pid = Number(/SSH_AGENT_PID=(\d+)/.exec(agent)?.[1]);
  t.after(() => process.kill(pid));
  execFileSync('ssh-add', ['-q', sshd.privateKeyFile], {
    env: { ...process.env, SSH_AUTH_SOCK: socket },
    stdio: 'pipe',
  });
  const listed = (...args: string[]): Promise<Ran> =>
    new Promise((resolve) => {
      const all = gateway.args('-p', String(gateway.port), ...args, host, 'ssh-add -l');
      // Options come before the host.
      const [before, rest] = [all.slice(2 + args.length + 2), all.slice(0, 2 + args.length)];
      const child = execFile(
        'ssh',
        [...before, ...rest, host, 'ssh-add -l'],
        { env: { ...process.env, SSH_AUTH_SOCK: socket } },
        (error, stdout, stderr) =>
          resolve({ code: error === null ? 0 : Number(error.code), signal: null, stdout: Buffer.from(stdout), stderr }),
      );
      child.stdin?.end();
    });
  gateway.policy = sshPolicy({ commands, wide: { action: 'Allow' } });
  assert.notEqual((await listed('-A')).code, 0);
  gateway.policy = allow('agent');
  const through = await listed('-A');
  assert.match(through.stdout.toString(), /ED25519/, through.stderr);
  assert.notEqual((await listed()).code, 0);
  const features = commandsOf('agent forwarding');
  assert.deepEqual(
    features.map(({ decision }) => decision),
    ['Deny', 'Allow', 'Allow'],
  );
  await until(() => features.slice(1).every((one) => resultOf(one) !== undefined), 'results');
  const blob = fs.readFileSync(`${sshd.privateKeyFile}.pub`, 'utf8').split(' ')[1]!;
  const { request } = sshOf(features[2]);
  assert.equal(request, features[1]?.['id']);
  assert.ok(!JSON.stringify(gateway.records).includes(blob));
});

test('INV-03: a cut ends forwards of both directions at once, and nothing flows afterwards', async () => {
  gateway.policy = allow(`127.0.0.1:${echoPort}`, 'listen:127.0.0.1:*');
  const port = await freePort();
  let taken = 0;
  let ended = 0;
  const sink = net.createServer((socket) => {
    socket.on('data', (data: Buffer) => (taken += data.length));
    socket.on('error', () => undefined);
    socket.on('close', () => (ended += 1));
  });
  await new Promise<void>((resolve) => sink.listen(0, '127.0.0.1', resolve));
  const sinkPort = (sink.address() as net.AddressInfo).port;
  gateway.policy = allow(`127.0.0.1:${sinkPort}`, 'listen:127.0.0.1:*');
  const { stderr } = start(['-N', '-L', `${port}:127.0.0.1:${sinkPort}`, '-R', `0:127.0.0.1:${sinkPort}`, host]);
  await until(() => /Allocated port \d+/.test(stderr()), stderr());
  await listening(port);
  const remote = Number(/Allocated port (\d+)/.exec(stderr())![1]);
  const pour = (to: number): net.Socket => {
    const socket = net.connect({ port: to, host: '127.0.0.1' });
    const more = (): void => {
      while (!socket.destroyed && socket.write(Buffer.alloc(16_384)));
    };
    socket.on('connect', more);
    socket.on('drain', more);
    socket.on('error', () => undefined);
    return socket;
  };
  const pouring = [pour(port), pour(remote)];
  await until(() => taken > 4_000_000, 'bytes');
  const session = gateway.sessions.at(-1)!;
  const started = performance.now();
  session.cut({ code: 'Killed', message: 'session s-1 was killed by bob' });
  await until(() => ended === 2, 'both ends');
  const tookMs = performance.now() - started;
  const after = taken;
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(taken, after);
  assert.ok(tookMs < 5_000, `${tookMs} ms`);
  await session.endedPromise;
  await assert.rejects(talk({ port: remote, host: '127.0.0.1' }, 'x'));
  for (const socket of pouring) socket.destroy();
  for (const one of [...commandsOf('forward'), ...commandsOf('forwarded')])
    assert.equal((resultOf(one)?.['error'] as { code: string } | undefined)?.code, 'Killed');
  sink.close();
});

async function until(holds: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`waited too long for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
