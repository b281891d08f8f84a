// Denials and holds as people with OpenSSH's ssh meet them: what they read, what they exit with, and that nothing of a
// refused command reaches the target.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import type { Command } from '../../../src/policy/command.ts';
import type { Decision } from '../../../src/policy/decision.ts';
import { createSshProtocol } from '../../../src/protocols/ssh/protocol.ts';
import { transparentPolicy } from '../../support/session-context.ts';
import { collect, type SshGateway, startSshGateway } from '../../support/ssh-context.ts';
import { type Sshd, startSshd } from '../../support/sshd.ts';

let sshd: Sshd;
let gateway: SshGateway;
let host: string;
const BY = { policy: 'payments/ops', rule: 'no-root' };

before(async () => {
  sshd = await startSshd();
  gateway = await startSshGateway({ protocol: createSshProtocol(), sshd, policy: transparentPolicy() });
  host = `${sshd.user}@127.0.0.1`;
});
after(async () => {
  await gateway?.close();
  await sshd?.stop();
});
beforeEach(() => {
  gateway.judge = undefined;
  gateway.gate = undefined;
  gateway.recordsFail = false;
  gateway.records.length = 0;
});

const deny =
  (part: string) =>
  (command: Command): Decision | undefined =>
    command.text.includes(part)
      ? { kind: 'Deny', code: 'RuleDenied', by: BY, message: `Sallyport refused ${command.verb}`, warnings: [] }
      : undefined;
const hold =
  (part: string) =>
  (command: Command): Decision | undefined =>
    command.text.includes(part)
      ? {
          kind: 'Hold',
          reason: 'needs consent',
          requirements: [{ by: BY, count: 1, approvers: [{ kind: 'Group', name: 'dba' }], timeoutMs: 60_000 }],
          warnings: [],
        }
      : undefined;
const file = (name: string): string => path.join(gateway.folder, name);
const kinds = (kind: string) => gateway.records.filter((record) => record.kind === kind).map(({ body }) => body);

test('INV-01: a denied command exits with 77, says by which rule, and dials nothing', async () => {
  gateway.judge = deny('touch');
  const logins = sshd.log().split('Accepted').length;
  const ran = await gateway.ssh([host, `touch ${file('denied')}`]);
  assert.equal(ran.code, 77);
  assert.equal(ran.stdout.length, 0);
  assert.match(
    ran.stderr,
    /^Sallyport refused exec: policy payments\/ops, rule "no-root" \(denial d-[0-9a-f]+\)\. Nothing reached the target\.\nhint: sallyport why d-[0-9a-f]+\n$/,
  );
  assert.ok(!fs.existsSync(file('denied')));
  assert.equal(sshd.log().split('Accepted').length, logins);
  const [command] = kinds('command');
  assert.equal(command?.['decision'], 'Deny');
  assert.match(String(command?.['denial']), /^d-/);
});

test('INV-09: a denial leaves the other channels of a multiplexed connection usable', async () => {
  gateway.judge = deny('forbidden');
  const control = file('control');
  const master = gateway.spawn(['-M', '-S', control, '-N', host]);
  await until(() => fs.existsSync(control));
  const over = (command: string, input?: string) => gateway.ssh(['-S', control, host, command], { input: input ?? '' });
  const long = over('sleep 2; echo still');
  assert.equal((await over('echo forbidden')).code, 77);
  const [cat, again, kept] = await Promise.all([over('cat', 'data'), over('echo forbidden'), long]);
  assert.equal(cat.stdout.toString(), 'data');
  assert.equal(again.code, 77);
  assert.equal(kept.stdout.toString(), 'still\n');
  assert.equal(gateway.sessions.at(-1)?.ended, undefined);
  // Not SIGTERM: between two looks at its flags the client may sleep through it.
  assert.equal((await gateway.ssh(['-S', control, '-O', 'exit', host])).code, 0);
  await until(() => master.exitCode !== null);
  await until(() => gateway.sessions.at(-1)?.ended !== undefined);
});

test('a denied shell with a terminal reads its lines with CR LF', async () => {
  gateway.judge = (command) => (command.verb === 'shell' ? deny('')(command) : undefined);
  const ran = await gateway.ssh(['-tt', host]);
  assert.equal(ran.code, 77);
  assert.match(ran.stderr + ran.stdout.toString(), /Nothing reached the target\.\r\n/);
});

test('a held command waits visibly with its input kept, and runs on release', async () => {
  gateway.judge = hold('cat');
  const child = gateway.spawn([host, 'cat; exit 3']);
  let stderr = '';
  child.stderr!.on('data', (data: Buffer) => (stderr += data.toString()));
  const held = gateway.nextHold();
  const done = collect(child, 'kept while it waited', 30_000);
  const hold_ = await held;
  await until(() => /held as h-\d+ by rule "no-root": needs 1 of group dba/.test(stderr));
  assert.equal(hold_.request.channel, 0);
  assert.equal(hold_.request.shown.text, 'cat; exit 3');
  assert.ok(!kinds('command').some(({ decision }) => decision === 'Allow'));
  hold_.resolve({ kind: 'Approved', by: ['bob'] });
  const ran = await done;
  assert.equal(ran.stdout.toString(), 'kept while it waited');
  assert.equal(ran.code, 3);
  const [command] = kinds('command');
  assert.deepEqual(command?.['approvedBy'], ['bob']);
});

test('a held command without input (ssh -n) runs on release', async () => {
  gateway.judge = hold('echo');
  const held = gateway.nextHold();
  const done = gateway.ssh(['-n', host, 'echo ran']);
  (await held).resolve({ kind: 'Approved', by: ['bob'] });
  assert.equal((await done).stdout.toString(), 'ran\n');
});

test('a hold that is denied, times out or is decided against on release exits with 75 or 77', async () => {
  gateway.judge = hold('echo');
  for (const [outcome, expected] of [
    [{ kind: 'Denied', by: ['bob'], reason: 'not today' }, /denied by bob: "not today"/],
    [{ kind: 'TimedOut' }, /nobody consented in time/],
  ] as const) {
    const held = gateway.nextHold();
    const done = gateway.ssh([host, 'echo no']);
    (await held).resolve(outcome);
    const ran = await done;
    assert.equal(ran.code, 75);
    assert.match(ran.stderr, expected);
    assert.equal(ran.stdout.length, 0);
  }
  const held = gateway.nextHold();
  const done = gateway.ssh([host, 'echo no']);
  const last = await held;
  gateway.judge = deny('echo');
  last.resolve({ kind: 'Approved', by: ['bob'] });
  const ran = await done;
  assert.equal(ran.code, 77);
  assert.equal(ran.stdout.length, 0);
});

test('^C on a terminal withdraws a hold, and so does leaving', async () => {
  gateway.judge = hold('echo');
  const child = gateway.spawn(['-tt', host, 'echo no']);
  const held = gateway.nextHold();
  const done = new Promise<number | null>((resolve) => child.on('close', resolve));
  const hold_ = await held;
  child.stdin!.write('\u0003');
  assert.equal(await done, 75);
  assert.ok(hold_.withdrawn);
  const leaving = gateway.spawn([host, 'echo no']);
  const second = await gateway.nextHold();
  leaving.kill('SIGKILL');
  await until(() => second.withdrawn);
});

test('INV-04: what can not be recorded does not run', async () => {
  gateway.recordsFail = true;
  const ran = await gateway.ssh([host, `touch ${file('unrecorded')}`]);
  assert.equal(ran.code, 77);
  assert.ok(!fs.existsSync(file('unrecorded')));
});

test('INV-02: bytes that are no text, and lines without end, are refused under any policy', async () => {
  for (const command of [`echo ${'x'.repeat(70_000)}`]) {
    const ran = await gateway.ssh([host, command]);
    assert.equal(ran.code, 77, command.slice(0, 20));
    assert.equal(ran.stdout.length, 0);
  }
});

test('forwarding is refused natively, and recorded', async () => {
  gateway.judge = (command) => (/^(?:exec|shell)$/.test(command.verb) ? undefined : deny('')(command));
  const ran = await gateway.ssh(['-W', '127.0.0.1:22', host]);
  assert.notEqual(ran.code, 0);
  assert.match(ran.stderr, /administratively prohibited|forwarding failed/i);
  const remote = await gateway.ssh(['-o', 'ExitOnForwardFailure=yes', '-R', '0:127.0.0.1:22', host, 'true']);
  assert.notEqual(remote.code, 0);
  const agent = await gateway.ssh(['-A', host, 'echo "${SSH_AUTH_SOCK:-none}"']);
  assert.equal(agent.stdout.toString(), 'none\n');
});

async function until(holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error('waited too long');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
