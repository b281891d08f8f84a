// Questions of auditors, to the records of real sessions: who did what with more rights, who touched a file by any way,
// what moved, where forwards led; and who it was that was let in.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { parse } from 'yaml';
import { sessionsOf } from '../../support/ssh-replay.ts';
import { alice, type SshScene, startSshScene } from '../../support/ssh-scene.ts';
import { freePort } from '../../support/sshd.ts';

let scene: SshScene;
let echo: net.Server;
/** Where the rules let forwards lead. */
let port: number;

before(async () => {
  echo = net.createServer({ allowHalfOpen: true }, (socket) => socket.on('error', () => undefined).pipe(socket));
  await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve));
  port = (echo.address() as net.AddressInfo).port;
  scene = await startSshScene({
    web: `  - {name: shadow, action: Deny, ssh: {paths: ['/etc/shadow'], effects: [Read, Write]}}
  - {name: forwards, action: Allow, ssh: {forwarding: ['127.0.0.1:${port}']}}
  - {name: some, action: Allow, ssh: {commands: ['echo **', 'cat **', 'rsync **']}}
  - {name: files, action: Allow, ssh: {paths: ['/**']}}`,
    wide: '  - {name: all, action: Allow}',
  });
  for (const name of ['web', 'wide']) await scene.request(name);
});
after(async () => {
  await scene?.stop();
  await new Promise((resolve) => echo?.close(resolve));
});

interface Answer {
  session: string;
  username: string;
  outcome: string;
  text: string;
  how?: string;
  direction?: string;
  destination?: string;
  bytes?: number;
  toTarget?: number;
  toClient?: number;
  path?: string;
  sha256?: string;
}

/** As a table, as JSON and as YAML, which say the same. */
async function answers(...question: string[]): Promise<{ items: Answer[]; table: string }> {
  const { items } = await scene.local.json<{ items: Answer[] }>(['audit', ...question], alice);
  const yaml = await scene.local.cli(['audit', ...question, '-o', 'yaml'], alice);
  assert.deepEqual(
    yaml.stdout
      .split(/^---\n/m)
      .slice(1)
      .map((document) => parse(document) as Answer),
    items,
  );
  const table = await scene.local.cli(['audit', ...question], alice);
  assert.equal(table.code, 0, table.output);
  assert.equal(table.stdout.trim().split('\n').length, items.length === 0 ? 1 : items.length + 1);
  return { items, table: table.stdout };
}

test('which privileged command ran without sign-off', async () => {
  await scene.ssh(['wide', 'sudo -n id']);
  const { items } = await answers('privileged');
  const one = items.find(({ text }) => text === 'sudo -n id');
  assert.deepEqual([one?.username, one?.outcome], [alice.as, 'Ran']);
});

test('who touched /etc/shadow, by exec, sftp, scp and rsync', async () => {
  const copy = path.join(scene.folder, 'copy');
  const to = `${scene.sshd.user}@web:/etc/shadow`;
  await scene.ssh(['web', 'cat /etc/shadow']);
  await scene.ssh(['web', 'echo x > /etc/shadow']);
  await scene.run('sftp', ['-F', scene.config, '-q', '-b', '-', `${scene.sshd.user}@web`], {
    input: `get /etc/shadow ${copy}\n`,
  });
  await scene.run('scp', ['-F', scene.config, '-q', '-O', to, copy]);
  await scene.run('rsync', ['-e', `ssh -F ${scene.config}`, to, copy]);
  const { items, table } = await answers('files', '/etc/shadow');
  for (const line of [
    /^cat \/etc\/shadow$/,
    /^echo x > /,
    /"\/etc\/shadow" \(read\)$/,
    /^scp -f /,
    /^rsync --server --sender /,
  ]) {
    const one = items.find(({ text }) => line.test(text));
    assert.deepEqual([one?.outcome, one?.username], ['Refused', alice.as], `${line}: ${table}`);
  }
  assert.ok(!fs.existsSync(copy));
});

test('what moved, with digests that the files have', async () => {
  const file = path.join(scene.folder, 'moved');
  fs.writeFileSync(file, 'what moved\n'.repeat(5000));
  const digest = createHash('sha256').update(fs.readFileSync(file)).digest('hex');
  const put = await scene.run('scp', ['-F', scene.config, '-q', file, `${scene.sshd.user}@web:${file}.there`]);
  assert.equal(put.code, 0, put.output);
  const got = await scene.run('scp', [
    '-F',
    scene.config,
    '-q',
    `${scene.sshd.user}@web:${file}.there`,
    `${file}.back`,
  ]);
  assert.equal(got.code, 0, got.output);
  const { items } = await answers('transfers');
  // Sessions of one folder come in the order of their names.
  const moved = items
    .filter((item) => item.path === `${file}.there`)
    .sort((one, other) => (one.direction! < other.direction! ? 1 : -1));
  assert.deepEqual(
    moved.map(({ direction, bytes, sha256 }) => [direction, bytes, sha256]),
    [
      ['Written', 55_000, digest],
      ['Read', 55_000, digest],
    ],
  );
});

test('which forwards there were, where to, with how many bytes each way', async () => {
  const local = await freePort();
  const client = scene.spawn(['-N', '-L', `${local}:127.0.0.1:${port}`, 'web']);
  const talk = (): Promise<number> =>
    new Promise((resolve, reject) => {
      const socket = net.connect(local, '127.0.0.1');
      let got = 0;
      socket.on('data', (data) => (got += data.length));
      socket.on('end', () => resolve(got));
      socket.on('error', reject);
      socket.end(Buffer.alloc(12_345));
    });
  for (let tries = 0; ; tries += 1) {
    try {
      assert.equal(await talk(), 12_345);
      break;
    } catch (error) {
      if (tries > 200) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  const refused = await scene.ssh(['-W', '169.254.169.254:80', 'web']);
  assert.notEqual(refused.code, 0);
  const closed = new Promise((resolve) => client.once('close', resolve));
  client.kill();
  await closed;
  const { items, table } = await answers('forwards');
  const led = items.find(({ destination }) => destination === `127.0.0.1:${port}`);
  assert.deepEqual(
    [led?.direction, led?.outcome, led?.bytes, led?.toTarget, led?.toClient],
    ['Local', 'Ran', 24_690, 12_345, 12_345],
    table,
  );
  assert.equal(items.find(({ destination }) => destination === '169.254.169.254:80')?.outcome, 'Refused', table);
});

test('a session tells who was let in, by what, and under which grant and policy', async () => {
  await scene.ssh(['web', 'echo this one']);
  const [session] = (await sessionsOf(scene)).slice(-1);
  const told = await scene.local.cli(['replay', session!], alice);
  assert.equal(told.code, 0, told.output);
  assert.match(
    told.stdout,
    /alice@corp\.example began a ssh session on payments\/web as deploy\n {4}grant web-\S+ under policy payments\/web-ops, from [^\n]*\n {4}let in by the grant’s key\n/,
  );
  assert.match(told.stdout, /allowed by payments\/web-ops "some"\n {4}echo this one\n/);
});

test('questions that can not be answered say what to do, with an exit code of their own', async () => {
  const relative = await scene.local.cli(['audit', 'files', 'shadow'], alice);
  assert.deepEqual([relative.code, /absolute path/.test(relative.output)], [78, true]);
  const since = await scene.local.cli(['audit', 'forwards', '--since', 'soon'], alice);
  assert.deepEqual([since.code, /Write 24h/.test(since.output)], [78, true]);
  const none = await scene.local.cli(['audit', 'forwards', '--user', 'nobody'], alice);
  assert.deepEqual([none.code, none.stdout, none.stderr], [0, '', 'No forward is recorded.\n']);
});
