// Records on a real file system that fills up, and under a real kill -9.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import { test } from 'node:test';
import { readSession } from '../../src/recording/reader.ts';
import { viewRecords } from '../../src/recording/store-view.ts';
import { verifyRecords } from '../../src/recording/verify.ts';
import { openTestLog, recordFolder, testControllerKey, testSigner, written } from '../support/records.ts';

test('INV-04: a file system that is full refuses records whole, and takes them again when there is room', async (t) => {
  const mount = recordFolder(t);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', mount], { stdio: 'ignore' });
  } catch {
    t.skip('a file system can be mounted by root alone');
    return;
  }
  try {
    const folder = `${mount}/records`;
    const log = await openTestLog(folder);
    const session = log.session('s-full');
    session.append('start', {});
    assert.equal(await written(session), undefined);
    const ballast = `${mount}/ballast`;
    let acknowledged = 0;
    let refused: { code: string } | undefined;
    fs.writeFileSync(ballast, Buffer.alloc(500_000));
    for (let id = 1; id < 5000 && refused === undefined; id += 1) {
      session.append('command', { id, text: 'x'.repeat(1000), decision: 'Allow' });
      refused = await written(session);
      if (refused === undefined) acknowledged = id;
    }
    assert.equal(refused?.code, 'NoSpace');
    assert.equal(session.writable, false);
    assert.deepEqual(verifyRecords(folder).findings, []);
    fs.unlinkSync(ballast);
    for (let waited = 0; !session.writable && waited < 200; waited += 1)
      await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(session.writable, true);
    session.append('end', { reason: 'Done' });
    assert.equal(await written(session), undefined);
    session.close();
    await log.close();
    assert.deepEqual(verifyRecords(folder).findings, []);
    using view = viewRecords(folder);
    const kinds = [...readSession(view, 's-full')].map((item) =>
      item.kind === 'Record' ? item.record.kind : item.message,
    );
    assert.equal(kinds.filter((kind) => kind === 'command').length, acknowledged);
    assert.deepEqual(kinds.slice(-2), ['notice', 'end']);
  } finally {
    execFileSync('umount', [mount]);
  }
});

const WRITER = `
import { openRecordLog } from '${new URL('../../src/recording/log/record-log.ts', import.meta.url).pathname}';
import { openRecordSigner } from '${new URL('../../src/recording/signer.ts', import.meta.url).pathname}';
import { signingKeyFromPem } from '${new URL('../../src/policy/bundle-signing.ts', import.meta.url).pathname}';
import { systemClock } from '${new URL('../../src/system/clock.ts', import.meta.url).pathname}';
import { systemFiles } from '${new URL('../../src/system/files.ts', import.meta.url).pathname}';
import { systemRandom } from '${new URL('../../src/system/random.ts', import.meta.url).pathname}';
const [folder, pem, run] = process.argv.slice(-3);
const signer = openRecordSigner({ controllerKey: signingKeyFromPem(pem), nowMs: Date.now() });
const log = await openRecordLog({ folder, files: systemFiles, clock: systemClock, random: systemRandom, signer, segmentBytes: 2000, fileBytes: 20000 });
for (let number = 0; ; number += 1) {
  const id = 's-' + run + '-' + number;
  const session = log.session(id);
  session.append('start', {});
  for (let command = 1; command < 20; command += 1) {
    session.append('command', { id: command, text: 'x'.repeat(300), decision: 'Allow' });
    const error = await new Promise((done) => session.whenWritten(done));
    if (error === undefined) process.stdout.write(id + ' ' + command + '\\n');
  }
  session.append('end', { reason: 'Done' });
  session.close();
}
`;

test('INV-07: kill -9 at any time loses nothing that was acknowledged', async (t) => {
  const folder = recordFolder(t);
  const controllerKey = testControllerKey();
  const pem = controllerKey.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  const acknowledged = new Map<string, number>();
  for (let run = 0; run < 5; run += 1) {
    const child: ChildProcess = spawn(
      process.execPath,
      ['--input-type=module', '-e', WRITER, folder, pem, String(run)],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    let said = '';
    child.stdout!.on('data', (bytes: Buffer) => {
      said += bytes.toString();
    });
    const gone = new Promise((resolve) => child.once('close', resolve));
    for (let waited = 0; said.length < 200 && waited < 2000; waited += 1)
      await new Promise((resolve) => setTimeout(resolve, 10));
    await new Promise((resolve) => setTimeout(resolve, 37 * run));
    child.kill('SIGKILL');
    await gone;
    for (const line of said.split('\n').slice(0, -1)) {
      const [id, command] = line.split(' ');
      acknowledged.set(id!, Number(command));
    }
  }
  const log = await openTestLog(folder, { signer: testSigner(controllerKey) });
  await log.close();
  assert.deepEqual(verifyRecords(folder).findings, []);
  assert.ok(acknowledged.size > 5);
  using view = viewRecords(folder);
  for (const [id, command] of acknowledged) {
    const seqs: number[] = [];
    for (const item of readSession(view, id)) if (item.kind === 'Record') seqs.push(item.record.seq);
    assert.deepEqual(
      seqs,
      seqs.map((_, index) => index),
    );
    assert.ok(seqs.length > command + 1, `${id} has ${seqs.length} records after command ${command}`);
  }
});
