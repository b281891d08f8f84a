// A session that is cut: what people see last, and that nothing of it goes on at the target, whatever it did to escape.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { createSshProtocol } from '../../../src/protocols/ssh/protocol.ts';
import { processesWhere } from '../../support/processes.ts';
import { transparentPolicy } from '../../support/session-context.ts';
import { collect, type SshGateway, startSshGateway } from '../../support/ssh-context.ts';
import { type Sshd, startSshd } from '../../support/sshd.ts';

let sshd: Sshd;
let gateway: SshGateway;
let host: string;
const CUT = { code: 'Killed', message: 'session s-1 was killed by bob' } as const;

before(async () => {
  sshd = await startSshd();
  gateway = await startSshGateway({ protocol: createSshProtocol(), sshd, policy: transparentPolicy() });
  host = `${sshd.user}@127.0.0.1`;
});
after(async () => {
  await gateway?.close();
  await sshd?.stop();
});

/** Processes whose arguments hold this. */
function running(mark: string): number[] {
  return processesWhere((read, pid) => read('cmdline').includes(mark) && !ownDescendant(pid));
}

/** The clients are children of this process; what runs at the target is sshd's. */
function ownDescendant(pid: number): boolean {
  try {
    const comm = fs.readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
    return comm === 'ssh';
  } catch {
    return true;
  }
}

async function cutWhenRunning(args: readonly string[], mark: string, count: number) {
  const child = gateway.spawn(args);
  const stderrDone = collect(child, undefined, 40_000);
  await until(() => running(mark).length >= count, `${count} of ${mark}`);
  const session = gateway.sessions.at(-1)!;
  const startedMs = performance.now();
  session.cut(CUT);
  const ran = await stderrDone;
  const clientMs = performance.now() - startedMs;
  await session.endedPromise;
  return { ran, session, clientMs, allMs: performance.now() - startedMs };
}

/** A number nobody else sleeps. */
const newMark = (): string => `86400.${Math.floor(Math.random() * 1e9)}`;

test('INV-03: a cut ends an exec: its line, its processes, also in groups and sessions of their own', async () => {
  const mark = newMark();
  const command = `trap "" HUP TERM; (setsid sleep ${mark} &) ; (nohup sleep ${mark} >/dev/null 2>&1 &); sleep ${mark}`;
  const { ran, session, clientMs } = await cutWhenRunning([host, command], `sleep\0${mark}`, 3);
  assert.match(ran.stderr, /Sallyport: session s-1 was killed by bob\./);
  assert.notEqual(ran.code, 0);
  assert.ok(clientMs < 5_000, `${clientMs} ms`);
  await gone(mark);
  assert.equal(session.ended?.reason, 'Killed');
  assertNoSurvivors(session.ended?.survivors);
});

test('INV-03: a cut ends a shell on a terminal, with what it started', async () => {
  const mark = newMark();
  const child = gateway.spawn(['-tt', host]);
  const done = collectKeepingInput(child);
  child.stdin!.write(`sleep ${mark} & nohup sleep ${mark} & \n`);
  await until(() => running(`sleep\0${mark}`).length >= 2, 'shell');
  const session = gateway.sessions.at(-1)!;
  session.cut(CUT);
  const output = await done;
  await session.endedPromise;
  assert.match(output, /killed by bob/);
  await gone(mark);
  assertNoSurvivors(session.ended?.survivors);
});

test('what has cleared its environment and left its parents is found by descent while it has any', async () => {
  const mark = newMark();
  const { session } = await cutWhenRunning(
    [host, `env -i setsid sh -c "sleep ${mark}; true" & wait`],
    `sleep\0${mark}`,
    1,
  );
  await gone(mark);
  assertNoSurvivors(session.ended?.survivors);
});

test('a cut leaves other sessions of the same user alone', async () => {
  const mark = newMark();
  const other = newMark();
  const bystander = gateway.spawn([host, `sleep ${other}`]);
  await until(() => running(`sleep\0${other}`).length === 1, 'bystander');
  await cutWhenRunning([host, `sleep ${mark}`], `sleep\0${mark}`, 1);
  assert.equal(running(`sleep\0${other}`).length, 1);
  gateway.sessions.at(-2)!.cut(CUT);
  await gateway.sessions.at(-2)!.endedPromise;
  await gone(other);
  bystander.kill();
});

test('every channel of a multiplexed connection hears of the cut', async () => {
  const mark = newMark();
  const control = path.join(gateway.folder, `c-${randomUUID().slice(0, 8)}`);
  const master = gateway.spawn(['-M', '-S', control, '-N', host]);
  await until(() => fs.existsSync(control), 'master');
  const runs = [1, 2, 3].map(() => gateway.ssh(['-S', control, host, `sleep ${mark}`]));
  await until(() => running(`sleep\0${mark}`).length === 3, 'three');
  const session = gateway.sessions.at(-1)!;
  session.cut(CUT);
  for (const ran of await Promise.all(runs)) assert.match(ran.stderr, /killed by bob/);
  await session.endedPromise;
  await gone(mark);
  master.kill();
});

test('a notice reaches the terminal, and the session goes on', async () => {
  const child = gateway.spawn(['-tt', host, 'sleep 1; echo after']);
  const done = collectKeepingInput(child);
  const before_ = gateway.sessions.length;
  await until(
    () =>
      gateway.records.some(({ session, kind }) => session === `s-${before_ + 1}` && kind === 'command') ||
      gateway.sessions.length > before_,
    'session',
  );
  await until(
    () => gateway.records.some((one) => one.session === gateway.sessions.at(-1)!.id && one.kind === 'command'),
    'command',
  );
  gateway.sessions.at(-1)!.notice({ message: 'this session ends in 5 minutes' });
  const output = await done;
  assert.match(output, /Sallyport: this session ends in 5 minutes\r\n/);
  assert.match(output, /after/);
});

function collectKeepingInput(child: ReturnType<SshGateway['spawn']>): Promise<string> {
  let output = '';
  child.stdout!.on('data', (data: Buffer) => (output += data.toString()));
  child.stderr!.on('data', (data: Buffer) => (output += data.toString()));
  return new Promise((resolve) => child.on('close', () => resolve(output)));
}

/** On a machine that is busy the sweep comes to its end after the session's record. */
function gone(mark: string): Promise<void> {
  return until(() => running(`sleep\0${mark}`).length === 0, `the end of ${mark}`);
}

function assertNoSurvivors(survivors: readonly string[] | undefined): void {
  assert.ok(survivors !== undefined && !survivors.some((one) => /^[0-9]/.test(one)), JSON.stringify(survivors));
}

async function until(holds: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`waited too long for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
