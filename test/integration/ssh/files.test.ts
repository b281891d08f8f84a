// File transfers through the gateway to a real sshd by real clients: OpenSSH's sftp, scp (both protocols), rsync,
// paramiko. Every operation is judged, nothing is lost or changed.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { FileFacts, SshFacts } from '../../../src/protocols/ssh/facts.ts';
import { createSshProtocol } from '../../../src/protocols/ssh/protocol.ts';
import { transparentPolicy } from '../../support/session-context.ts';
import { type SshGateway, startSshGateway } from '../../support/ssh-context.ts';
import { type Sshd, startSshd } from '../../support/sshd.ts';
import { missing, tools } from '../../support/tools.ts';

let sshd: Sshd;
let gateway: SshGateway;
let host: string;
let local: string;
let remote: string;

before(async () => {
  local = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-files-local-'));
  remote = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-files-remote-')));
  sshd = await startSshd();
  gateway = await startSshGateway({
    protocol: createSshProtocol(),
    sshd,
    policy: transparentPolicy(),
  });
  host = `${sshd.user}@127.0.0.1`;
});
after(async () => {
  await gateway?.close();
  await sshd?.stop();
  fs.rmSync(local, { recursive: true, force: true });
  fs.rmSync(remote, { recursive: true, force: true });
});

interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

/** `sftp` and `scp` take the port by -P; all else of the gateway's ssh options is theirs as well. */
function run(program: string, args: readonly string[], input = ''): Promise<Ran> {
  return new Promise((resolve) => {
    const child = execFile(program, args, { timeout: 120_000, maxBuffer: 1 << 26 }, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code ?? 255) : 0, stdout, stderr }),
    );
    child.stdin?.end(input);
  });
}

const options = (): string[] => [...gateway.args(), '-P', String(gateway.port)];
const sftp = (batch: string, ...more: string[]): Promise<Ran> =>
  run('sftp', [...options(), ...more, '-b', '-', host], batch);
const scp = (...args: string[]): Promise<Ran> => run('scp', [...options(), ...args]);
const digest = (file: string): string => createHash('sha256').update(fs.readFileSync(file)).digest('hex');

interface Operation {
  facts: SshFacts;
  decision: string;
  result: Record<string, unknown> | undefined;
}

function operations(since: number): Operation[] {
  const records = gateway.records.slice(since);
  return records
    .filter(({ kind, body }) => kind === 'command' && (body.facts as { ssh?: SshFacts }).ssh?.kind === 'File')
    .map(({ body }) => ({
      facts: (body.facts as { ssh: SshFacts }).ssh,
      decision: String(body.decision),
      result: records.find((one) => one.kind === 'result' && one.body.id === body.id)?.body,
    }));
}

test('sftp puts and gets a file; what is recorded is what passed', async () => {
  const source = path.join(local, 'source');
  fs.writeFileSync(source, randomBytes(9_000_001));
  const since = gateway.records.length;
  const ran = await sftp(`put ${source} ${remote}/there\nget ${remote}/there ${local}/back\n`);
  assert.equal(ran.code, 0, ran.stderr);
  assert.equal(digest(`${remote}/there`), digest(source));
  assert.equal(digest(`${local}/back`), digest(source));
  const opens = operations(since).filter(({ facts }) => (facts as FileFacts).operation === 'OPEN');
  assert.equal(opens.length, 2);
  const told = opens.map(
    ({ result }) => (result!.facts as { ssh: Record<string, { bytes: number; sha256: string }> }).ssh,
  );
  assert.deepEqual(told[0]?.written, { bytes: 9_000_001, sha256: digest(source) });
  assert.deepEqual(told[1]?.read, { bytes: 9_000_001, sha256: digest(source) });
});

for (const [name, flags] of [
  ['over sftp', []],
  ['the old protocol', ['-O']],
] as const)
  test(`scp, ${name}: files, trees, modes and times both ways`, async () => {
    const tree = path.join(local, `tree${flags.length}`);
    fs.mkdirSync(path.join(tree, 'a/b'), { recursive: true });
    fs.writeFileSync(path.join(tree, 'a/b/deep'), randomBytes(100_000), { mode: 0o640 });
    fs.writeFileSync(path.join(tree, 'a/empty'), '');
    fs.writeFileSync(path.join(tree, 'näme with ßpace'), 'x');
    fs.utimesSync(path.join(tree, 'a/b/deep'), 1_000_000_000, 1_000_000_000);
    const up = await scp(...flags, '-r', '-p', tree, `${host}:${remote}/`);
    assert.equal(up.code, 0, up.stderr);
    const down = await scp(
      ...flags,
      '-r',
      '-p',
      `${host}:${remote}/tree${flags.length}`,
      `${local}/down${flags.length}`,
    );
    assert.equal(down.code, 0, down.stderr);
    const back = `${local}/down${flags.length}`;
    assert.equal(digest(`${back}/a/b/deep`), digest(`${tree}/a/b/deep`));
    assert.equal(fs.statSync(`${back}/a/b/deep`).mtimeMs, 1_000_000_000_000);
    assert.equal(fs.statSync(`${back}/a/b/deep`).mode & 0o777, 0o640);
    assert.equal(fs.readFileSync(`${back}/näme with ßpace`, 'utf8'), 'x');
    assert.equal(fs.statSync(`${back}/a/empty`).size, 0);
  });

test('rsync both ways, judged by its arguments', async () => {
  const tree = path.join(local, 'rsynced');
  fs.mkdirSync(path.join(tree, 'sub'), { recursive: true });
  fs.writeFileSync(path.join(tree, 'sub/data'), randomBytes(400_000));
  const ssh = ['ssh', ...gateway.args(), '-p', String(gateway.port)].join(' ');
  const since = gateway.records.length;
  const up = await run('rsync', ['-rt', '-e', ssh, `${tree}/`, `${host}:${remote}/rsynced/`]);
  assert.equal(up.code, 0, up.stderr);
  const down = await run('rsync', ['-a', '-e', ssh, `${host}:${remote}/rsynced/`, `${local}/rsynced-back/`]);
  assert.equal(down.code, 0, down.stderr);
  assert.equal(digest(`${local}/rsynced-back/sub/data`), digest(`${tree}/sub/data`));
  assert.deepEqual(
    operations(since).map(({ facts }) => {
      const { via, operation, access } = facts as FileFacts;
      return `${via} ${operation} ${access.map((one) => `${one.action} ${one.path}`).join()}`;
    }),
    [`rsync RECEIVE Read ${remote}/rsynced,Write ${remote}/rsynced`, `rsync SEND Read ${remote}/rsynced`],
  );
});

test('INV-09: the old scp and rsync are judged by where their paths lead, relative ones from the home directory', async () => {
  const outside = path.join(remote, 'outside');
  fs.mkdirSync(outside);
  fs.mkdirSync(path.join(remote, 'inside'));
  fs.symlinkSync(outside, path.join(remote, 'inside/link'));
  fs.writeFileSync(path.join(outside, 'file'), 'secret');
  fs.writeFileSync(path.join(remote, 'inside/file'), 'fine');
  const allowed = `${remote}/inside`;
  const isInside = (at: string): boolean => at === allowed || at.startsWith(`${allowed}/`);
  gateway.judge = ({ facts }) => {
    const about = facts as SshFacts;
    if (about.kind !== 'File' || about.access.every((one) => isInside(one.path) && isInside(one.resolved ?? '/')))
      return undefined;
    return { kind: 'Deny', code: 'RuleDenied', by: { policy: 'ns/p', rule: 'no' }, message: 'not this', warnings: [] };
  };
  const relative = path.relative(os.homedir(), allowed);
  const ssh = ['ssh', ...gateway.args(), '-p', String(gateway.port)].join(' ');
  const rsync = (...args: string[]): Promise<Ran> => run('rsync', ['-r', '-e', ssh, ...args]);
  try {
    for (const [what, transfer] of [
      ['scp', (from: string, to: string) => scp('-O', from, to)],
      ['rsync', (from: string, to: string) => rsync(from, to)],
    ] as const) {
      const back = `${local}/${what}-back`;
      const good = await transfer(`${host}:${relative}/file`, back);
      assert.equal(good.code, 0, good.stderr);
      assert.equal(fs.readFileSync(back, 'utf8'), 'fine');
      fs.rmSync(back);
      for (const refused of [
        await transfer(`${host}:${relative}/link/file`, back),
        await transfer(`${host}:${allowed}/link/file`, back),
        await transfer(`${host}:${relative}/../outside/file`, back),
        await transfer(path.join(remote, 'inside/file'), `${host}:${allowed}/link/planted`),
        await transfer(path.join(remote, 'inside/file'), `${host}:${relative}/link`),
      ]) {
        assert.notEqual(refused.code, 0, what);
        assert.match(refused.stderr, /not this: policy ns\/p, rule "no"/, what);
      }
      assert.ok(!fs.existsSync(back));
    }
    assert.deepEqual(fs.readdirSync(outside), ['file']);
  } finally {
    gateway.judge = undefined;
  }
});

test('paramiko: pipelined writes, prefetched reads, listings, links', { skip: missing('sshPython') }, async () => {
  const script = `
import os, sys, hashlib, paramiko
key, known, port, user, remote = sys.argv[1:]
client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect('127.0.0.1', port=int(port), username=user, key_filename=key, allow_agent=False, look_for_keys=False)
sftp = client.open_sftp()
data = os.urandom(3000000)
with sftp.open(remote + '/paramiko', 'wb') as f:
    f.set_pipelined(True)
    f.write(data)
with sftp.open(remote + '/paramiko', 'rb') as f:
    f.prefetch()
    assert f.read() == data
assert 'paramiko' in sftp.listdir(remote)
sftp.symlink('paramiko', remote + '/link')
assert sftp.readlink(remote + '/link') == 'paramiko'
assert sftp.stat(remote + '/link').st_size == len(data)
sftp.chmod(remote + '/paramiko', 0o600)
sftp.posix_rename(remote + '/paramiko', remote + '/renamed')
sftp.chdir(remote)
assert sftp.normalize('renamed') == remote + '/renamed'
sftp.remove('renamed'); sftp.remove('link')
try:
    sftp.stat('renamed'); sys.exit('still there')
except FileNotFoundError: pass
client.close()
`;
  const ran = await run(tools.sshPython!, [
    '-c',
    script,
    gateway.keyFile,
    gateway.knownHosts,
    String(gateway.port),
    sshd.user,
    remote,
  ]);
  assert.equal(ran.code, 0, ran.stderr);
});

test('what is refused says so, and the session goes on', async () => {
  gateway.judge = (command) => {
    const facts = command.facts as SshFacts;
    if (facts.kind !== 'File' || !facts.access.some((one) => one.path.endsWith('forbidden'))) return undefined;
    return { kind: 'Deny', code: 'RuleDenied', by: { policy: 'ns/p', rule: 'no' }, message: 'not this', warnings: [] };
  };
  try {
    fs.writeFileSync(path.join(remote, 'forbidden'), 'x');
    fs.writeFileSync(path.join(remote, 'fine'), 'y');
    const ran = await sftp(`-get ${remote}/forbidden ${local}/got\nget ${remote}/fine ${local}/fine\n`);
    assert.equal(ran.code, 0, ran.stderr);
    assert.ok(!fs.existsSync(`${local}/got`));
    assert.equal(fs.readFileSync(`${local}/fine`, 'utf8'), 'y');
    assert.match(ran.stderr, /not this: policy ns\/p, rule "no"/);
    const old = await scp('-O', `${host}:${remote}/forbidden`, `${local}/got`);
    assert.notEqual(old.code, 0);
    assert.match(old.stderr, /not this: policy ns\/p, rule "no"/);
    assert.ok(!fs.existsSync(`${local}/got`));
  } finally {
    gateway.judge = undefined;
  }
});
