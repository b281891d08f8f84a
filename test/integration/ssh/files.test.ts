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
import { createNameLock } from '../../../src/protocols/ssh/files/name-lock.ts';
import { fileFilterFor, transferOf } from '../../../src/protocols/ssh/files/transfers.ts';
import { createSshProtocol } from '../../../src/protocols/ssh/protocol.ts';
import { systemClock } from '../../../src/system/clock.ts';
import { transparentPolicy } from '../../support/session-context.ts';
import { type SshGateway, startSshGateway } from '../../support/ssh-context.ts';
import { type Sshd, startSshd } from '../../support/sshd.ts';

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
    protocol: createSshProtocol({
      filterFor: (command, filterHost) =>
        fileFilterFor(command, filterHost, {
          clock: systemClock,
          names: createNameLock(),
          targetVersion: 'SSH-2.0-OpenSSH_9.2',
        }),
      transferOf,
    }),
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
