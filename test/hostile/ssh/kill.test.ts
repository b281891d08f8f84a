// SIGKILL in the middle of sessions: of the daemon, and of the target's sshd. Nobody is left waiting, what has a terminal or
// writes does not go on, and the records say what became of it.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { EndBody, ResultBody } from '../../../src/recording/envelope.ts';
import { readRecords } from '../../../src/recording/reader.ts';
import { viewRecords } from '../../../src/recording/store-view.ts';
import { until } from '../../support/in-process.ts';
import { alice, type SshScene, startSshScene } from '../../support/ssh-scene.ts';

let scene: SshScene;

before(async () => {
  scene = await startSshScene({ web1: '  - {name: all, action: Allow}' });
  await scene.request('web1');
});
after(async () => scene?.stop());

interface Client {
  pid: number;
  closed: Promise<{ code: number | null; said: string }>;
}

/** `command` after its number is in a file. */
async function start(args: readonly string[], command: string): Promise<Client> {
  const file = path.join(scene.folder, `pid-${Math.random().toString(36).slice(2)}`);
  const client = scene.spawn([...args, 'web1', `echo $$ > ${file}; ${command}`]);
  const closed = ended(client);
  const pid = await until(
    'the program to start',
    () => {
      if (client.exitCode !== null) throw new Error('ssh ended early');
      const text = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
      return text.endsWith('\n') ? Number(text) : undefined;
    },
    30_000,
  );
  return { pid, closed };
}

function ended(client: ChildProcess): Promise<{ code: number | null; said: string }> {
  let said = '';
  const hear = (data: Buffer): void => {
    said = (said + data.toString('latin1')).slice(-4096);
  };
  client.stdout!.on('data', hear);
  client.stderr!.on('data', hear);
  return new Promise((resolve) => client.once('close', (code) => resolve({ code, said })));
}

const goes = (pid: number): Promise<true> =>
  until(`the end of ${pid}`, () => (fs.existsSync(`/proc/${pid}`) ? undefined : true), 20_000);

function records(): { ends: (string | undefined)[]; results: ResultBody[] } {
  using view = viewRecords(path.join(scene.local.state, 'records'));
  const ends = new Map<string, string | undefined>();
  const results: ResultBody[] = [];
  for (const item of readRecords(view)) {
    assert.equal(item.kind, 'Record', JSON.stringify(item));
    if (item.kind !== 'Record') continue;
    const { kind, stream, body } = item.record;
    if (kind === 'start') ends.set(stream, undefined);
    if (kind === 'end') ends.set(stream, (body as EndBody).reason);
    if (kind === 'result') results.push(body as ResultBody);
  }
  return { ends: [...ends.values()], results };
}

test('the target’s sshd dies: the client is told and fails, the record says why, and the next login works', async () => {
  const client = await start([], 'exec sleep 1000');
  const { PPid } = Object.fromEntries(
    fs
      .readFileSync(`/proc/${client.pid}/status`, 'utf8')
      .split('\n')
      .map((line) => line.split(/:\s+/)),
  ) as { PPid: string };
  process.kill(Number(PPid), 'SIGKILL');
  const { code, said } = await client.closed;
  assert.equal(code, 255);
  assert.match(said, /Sallyport: the target closed the connection\./);
  process.kill(client.pid, 'SIGKILL'); // sshd had no time to
  assert.equal(records().results.at(-1)?.error?.code, 'TargetClosed');
  const again = await scene.ssh(['web1', 'echo', 'again']);
  assert.equal(again.stdout, 'again\n', again.output);
});

test('the daemon dies: what runs on terminals or writes ends, records say Lost, and the grant goes on after a restart', async () => {
  const terminal = await start(['-tt'], 'exec cat');
  const writer = await start([], 'while echo; do sleep 0.1; done');
  await scene.local.kill();
  for (const client of [terminal, writer]) {
    const { code } = await client.closed;
    assert.equal(code, 255);
    await goes(client.pid);
  }
  await scene.local.start();
  await until('the record to be closed', () => (records().ends.includes(undefined) ? undefined : true));
  assert.equal(records().ends.filter((reason) => reason === 'Lost').length, 2, JSON.stringify(records().ends));
  const again = await until(
    'the grant to let in again',
    async () => {
      const ran = await scene.ssh(['web1', 'echo', 'again']);
      return ran.stdout === 'again\n' ? ran : undefined;
    },
    30_000,
    500,
  );
  assert.equal(again.code, 0);
  const verified = await scene.local.cli(['verify'], alice);
  assert.equal(verified.code, 0, verified.output);
});
