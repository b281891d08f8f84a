// Cuts at the worst moment: during a hold, a transfer, new keys; with a client that reads nothing or is frozen, a target
// that is frozen; with what runs there getting in the way. Whatever it is, the session ends within its bound.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { createSshProtocol } from '../../../src/protocols/ssh/protocol.ts';
import { transparentPolicy } from '../../support/session-context.ts';
import { collect, type SshGateway, startSshGateway } from '../../support/ssh-context.ts';
import { type Sshd, startSshd } from '../../support/sshd.ts';

type SshTestSession = SshGateway['sessions'][number];

let sshd: Sshd;
let gateway: SshGateway;
let host: string;
const CUT = { code: 'Expired', message: 'grant prod-7fk2p expired at 15:04:00Z' } as const;
const TOLD = /Sallyport: grant prod-7fk2p expired/;
/** A cut's own deadlines end well before; beyond it the gateway closes the socket. */
const GUARD_MS = 10_000;

before(async () => {
  sshd = await startSshd();
  gateway = await startSshGateway({ protocol: createSshProtocol(), sshd, policy: transparentPolicy() });
  host = `${sshd.user}@127.0.0.1`;
});
after(async () => {
  await gateway?.close();
  await sshd?.stop();
});

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function until(holds: () => boolean, what: string, ms = 20_000): Promise<void> {
  const deadline = Date.now() + ms;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`waited too long for ${what}`);
    await sleep(20);
  }
}

/** Something at the target that writes its number into a file, and is looked for by it. */
function sleeper(command = 'exec sleep 1000'): { line: string; started(): boolean; pid(): number; runs(): boolean } {
  const file = path.join(gateway.folder, `pid-${randomUUID().slice(0, 8)}`);
  const text = (): string => (fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '');
  const pid = (): number => Number(text());
  return {
    line: `echo $$ > ${file}; ${command}`,
    started: () => text().endsWith('\n'),
    pid,
    runs: () => pid() > 0 && fs.existsSync(`/proc/${pid()}`),
  };
}

/** The session ends in time, and nothing of `what` is left. */
async function assertEnds(session: SshTestSession, what: { runs(): boolean }): Promise<void> {
  const begun = performance.now();
  await Promise.race([session.endedPromise, sleep(GUARD_MS)]);
  assert.equal(session.ended?.reason, 'Expired', `not ended after ${Math.round(performance.now() - begun)} ms`);
  await until(() => !what.runs(), 'the end of what ran', GUARD_MS);
}

const latest = (): SshTestSession => gateway.sessions.at(-1)!;

test('INV-03: a command that is held never runs once its session is cut', async () => {
  const file = path.join(gateway.folder, 'never');
  gateway.judge = () => ({
    kind: 'Hold',
    reason: 'four eyes',
    requirements: [{ by: { policy: 'p', rule: 'r' }, count: 1, approvers: [], timeoutMs: 60_000 }],
    warnings: [],
  });
  const holding = gateway.nextHold();
  const child = gateway.spawn([host, `touch ${file}`]);
  const done = collect(child);
  const hold = await holding;
  gateway.judge = undefined;
  latest().cut(CUT);
  hold.resolve({ kind: 'Approved', by: ['bob'] });
  const ran = await done;
  assert.match(ran.stderr, TOLD);
  assert.notEqual(ran.code, 0);
  await assertEnds(latest(), { runs: () => false });
  assert.ok(hold.withdrawn);
  assert.ok(!fs.existsSync(file));
});

test('INV-03: a file on its way stops where it is', async () => {
  const source = path.join(gateway.folder, 'source');
  const target = path.join(gateway.folder, 'target');
  fs.closeSync(fs.openSync(source, 'w'));
  fs.truncateSync(source, 1e12);
  const { port } = gateway;
  for (const legacy of [[], ['-O']]) {
    fs.rmSync(target, { force: true });
    const child = spawn('scp', [...legacy, ...gateway.args('-P', String(port)), source, `${host}:${target}`]);
    const done = collect(child);
    await until(() => fs.existsSync(target) && fs.statSync(target).size > 1e6, 'the transfer');
    latest().cut(CUT);
    const ran = await done;
    assert.notEqual(ran.code, 0);
    assert.match(ran.stderr, TOLD);
    await assertEnds(latest(), { runs: () => false });
    let size = -1;
    await until(() => size === (size = fs.statSync(target).size), 'the last byte');
    await sleep(300);
    assert.equal(fs.statSync(target).size, size);
  }
});

test('INV-03: eight sessions of one connection end together', async () => {
  const control = path.join(gateway.folder, `c-${randomUUID().slice(0, 8)}`);
  const master = gateway.spawn(['-M', '-S', control, '-N', host]);
  await until(() => fs.existsSync(control), 'master');
  const sleepers = Array.from({ length: 8 }, () => sleeper());
  const runs = sleepers.map(({ line }) => gateway.ssh(['-S', control, host, line], { timeoutMs: 60_000 }));
  await until(() => sleepers.every(({ started }) => started()), 'eight');
  await sleep(1500); // the gateway's own is the ninth
  latest().cut(CUT);
  for (const ran of await Promise.all(runs)) {
    assert.match(ran.stderr, TOLD);
    assert.notEqual(ran.code, 0);
  }
  await assertEnds(latest(), { runs: () => sleepers.some(({ runs: one }) => one()) });
  assert.deepEqual(latest().ended?.survivors, []);
  master.kill();
});

test('INV-03: a cut while keys are changed', async () => {
  for (let round = 0; round < 3; round += 1) {
    const stream = sleeper('while :; do head -c 300000 /dev/zero; done');
    const child = gateway.spawn(['-o', 'RekeyLimit=64K', host, stream.line]);
    let bytes = 0;
    let stderr = '';
    child.stdout!.on('data', (data: Buffer) => (bytes += data.length));
    child.stderr!.on('data', (data: Buffer) => (stderr += data.toString()));
    const closed = new Promise<number | null>((resolve) => child.once('close', resolve));
    await until(() => bytes > 2e6, 'some changes of keys');
    latest().cut(CUT);
    await assertEnds(latest(), stream);
    assert.notEqual(await closed, 0);
    assert.match(stderr, TOLD);
  }
});

test('INV-03: INV-11: a client that reads nothing, and one that is frozen: nothing runs on for them', async () => {
  for (const frozen of [false, true]) {
    const stream = sleeper('exec cat /dev/zero');
    const child = gateway.spawn([host, stream.line]);
    child.stdout!.pause();
    let stderr = '';
    child.stderr!.on('data', (data: Buffer) => (stderr += data.toString()));
    const closed = new Promise<number | null>((resolve) => child.once('close', resolve));
    await until(() => stream.started(), 'the stream');
    await sleep(1500); // the windows are full
    if (frozen) process.kill(child.pid!, 'SIGSTOP');
    const before_ = process.memoryUsage().rss;
    latest().cut(CUT);
    await assertEnds(latest(), stream);
    assert.deepEqual(latest().ended?.survivors, []);
    assert.ok(process.memoryUsage().rss - before_ < 64 * 1024 * 1024);
    if (frozen) process.kill(child.pid!, 'SIGCONT');
    child.stdout!.resume();
    assert.notEqual(await closed, 0);
    assert.match(stderr, TOLD);
  }
});

test('INV-03: a target that is frozen keeps nobody; its processes go once it wakes', async () => {
  const program = sleeper("trap '' TERM HUP; while :; do sleep 0.2; done");
  const child = gateway.spawn([host, program.line]);
  const done = collect(child);
  await until(() => program.started(), 'the program');
  await sleep(1500);
  const server = parentOf(program.pid());
  process.kill(server, 'SIGSTOP');
  latest().cut(CUT);
  const ran = await done;
  assert.match(ran.stderr, TOLD);
  await Promise.race([latest().endedPromise, sleep(GUARD_MS)]);
  assert.deepEqual(latest().ended?.survivors, ['unknown: the sweep has not come to its end']);
  assert.ok(program.runs());
  process.kill(server, 'SIGCONT');
  await until(() => !program.runs(), 'the end of the program');
});

test('INV-03: who kills the shell that stands by gains nothing', async () => {
  const program = sleeper("trap '' TERM HUP; (setsid sleep 1000 &); sleep 1000; true");
  const done = collect(gateway.spawn([host, program.line]), undefined, 60_000);
  await until(() => program.started(), 'the program');
  const server = parentOf(program.pid());
  await until(() => standingBy(server).length === 1, 'the shell');
  process.kill(standingBy(server)[0]!, 'SIGKILL');
  await until(() => standingBy(server).length === 0, 'its end');
  latest().cut(CUT);
  assert.match((await done).stderr, TOLD);
  await assertEnds(latest(), program);
  assert.deepEqual(latest().ended?.survivors, []);
});

test('INV-03: what hides in a terminal multiplexer ends, too', { skip: !fs.existsSync('/usr/bin/tmux') }, async () => {
  const hidden = sleeper();
  const socket = `cut-${randomUUID().slice(0, 8)}`;
  const done = collect(gateway.spawn(['-tt', host, `tmux -L ${socket} new -d '${hidden.line}'; exec sleep 1000`]));
  await until(() => hidden.started(), 'the program');
  await sleep(1500);
  latest().cut(CUT);
  await done;
  await assertEnds(latest(), hidden);
  assert.deepEqual(latest().ended?.survivors, []);
});

test('where a forced command stands in the place of every other, the record says that it knows nothing', async () => {
  const forced = await startSshd({ config: ['ForceCommand cat'] });
  const behind = await startSshGateway({ protocol: createSshProtocol(), sshd: forced, policy: transparentPolicy() });
  try {
    const child = behind.spawn([`${forced.user}@127.0.0.1`, 'anything']);
    let echoed = '';
    child.stdout!.on('data', (data: Buffer) => (echoed += data.toString()));
    child.stdin!.write('hello\n');
    await until(() => echoed === 'hello\n', 'the forced command');
    await sleep(1500);
    const session = behind.sessions.at(-1)!;
    session.cut(CUT);
    await Promise.race([session.endedPromise, sleep(GUARD_MS)]);
    assert.deepEqual(session.ended?.survivors, ['unknown: the sweep has not come to its end']);
  } finally {
    await behind.close();
    await forced.stop();
  }
});

test('what ran when a session was cut is named in its record', async () => {
  const program = sleeper('(setsid sleep 1234 &); sleep 1000');
  const done = collect(gateway.spawn([host, program.line]));
  await until(() => program.started(), 'the program');
  await sleep(1500);
  latest().cut(CUT);
  await done;
  await assertEnds(latest(), program);
  const swept = gateway.records.find(({ session, body }) => session === latest().id && body['event'] === 'Swept');
  assert.ok(swept !== undefined);
  const sleeping = (swept.body['ran'] as string[]).filter((one) => /^\d+ sleep$/.test(one));
  assert.equal(sleeping.length, 2, JSON.stringify(swept.body));
  const order = gateway.records.filter(({ session }) => session === latest().id).map(({ kind }) => kind);
  assert.equal(order.at(-1), 'notice');
});

function parentOf(pid: number): number {
  return Number(/^PPid:\s+(\d+)$/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))![1]);
}

/** Shells of the gateway's among the children of a connection's sshd. */
function standingBy(server: number): number[] {
  const children = fs.readFileSync(`/proc/${server}/task/${server}/children`, 'utf8').trim().split(' ');
  return children.map(Number).filter((child) => {
    try {
      return fs.readFileSync(`/proc/${child}/cmdline`, 'utf8') === '/bin/sh\0-s\0sallyport\0';
    } catch {
      return false;
    }
  });
}
