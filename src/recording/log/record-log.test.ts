import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import {
  faultyFiles,
  filesUnder,
  openTestLog,
  recordFolder,
  shortSession,
  testSigner,
  written,
} from '../../../test/support/records.ts';
import { manualClock } from '../../system/manual-clock.ts';
import type { RecordEnvelope } from '../envelope.ts';
import { readRecords, readSession } from '../reader.ts';
import { RecordingError } from '../recorder.ts';
import { viewRecords } from '../store-view.ts';
import { verifyRecords } from '../verify.ts';
import type { RecordHealth, RecordLogOptions } from './process-log.ts';

function recordsOf(folder: string, stream: string): RecordEnvelope[] {
  using view = viewRecords(folder);
  const records: RecordEnvelope[] = [];
  for (const item of readSession(view, stream)) {
    assert.equal(item.kind, 'Record');
    if (item.kind === 'Record') records.push(item.record);
  }
  return records;
}

test('a session is read back as it was written, live and sealed', async (t) => {
  const folder = recordFolder(t);
  const log = await openTestLog(folder);
  const session = log.session('s-live');
  session.append('start', { who: 'é\u2028"\n' });
  session.append('command', { id: 1 }, 7);
  assert.equal(await written(session), undefined);
  assert.deepEqual(
    recordsOf(folder, 's-live').map(({ seq, kind, channel, body }) => ({ seq, kind, channel, body })),
    [
      { seq: 0, kind: 'start', channel: undefined, body: { who: 'é\u2028"\n' } },
      { seq: 1, kind: 'command', channel: 7, body: { id: 1 } },
    ],
  );
  assert.deepEqual(verifyRecords(folder).findings, []);
  await log.sealNow();
  session.append('end', { reason: 'Done' });
  session.close();
  await log.close();
  assert.deepEqual(
    recordsOf(folder, 's-live').map(({ seq, kind }) => `${seq} ${kind}`),
    ['0 start', '1 command', '2 end'],
  );
  assert.deepEqual(
    filesUnder(folder).filter((name) => name.startsWith('live')),
    [],
  );
  const report = verifyRecords(folder);
  assert.deepEqual(report.findings, []);
  assert.equal(report.checked.sessions, 2);
});

test('INV-01: a callback comes later, in order, and only after the bytes are written', async (t) => {
  const folder = recordFolder(t);
  let wrote = 0;
  const files = faultyFiles(({ name, args }) => {
    if (name === 'writeSync' && String(Buffer.from(args[1] as Uint8Array).subarray(0, 1)) === '#') wrote += 1;
    return undefined;
  });
  const log = await openTestLog(folder, { files });
  const a = log.session('s-a');
  const b = log.session('s-b');
  const before = wrote;
  const order: string[] = [];
  let within = true;
  for (const [name, session] of [
    ['a1', a],
    ['b1', b],
    ['a2', a],
  ] as const) {
    session.append('command', { name });
    session.whenWritten((error) => {
      assert.equal(within, false);
      assert.equal(error, undefined);
      assert.equal(wrote, before + 1, 'one write for the whole turn, done before any callback');
      order.push(name);
    });
  }
  within = false;
  await written(b);
  assert.deepEqual(order, ['a1', 'b1', 'a2']);
  await log.close();
});

test('INV-01: with durability Disk a callback waits for the sync, and one sync serves many', async (t) => {
  const folder = recordFolder(t);
  let syncs = 0;
  const files = faultyFiles(({ name }) => {
    if (name === 'fdatasync') syncs += 1;
    return undefined;
  });
  const log = await openTestLog(folder, { files });
  const sessions = Array.from({ length: 20 }, (_, index) => log.session(`s-${index}`, { durability: 'Disk' }));
  const before = syncs;
  const errors = await Promise.all(
    sessions.map((session) => {
      session.append('command', {});
      return written(session);
    }),
  );
  assert.ok(errors.every((error) => error === undefined));
  assert.equal(syncs, before + 1);
  await log.close();
});

test('an act may ask to be synced before it takes effect, where others are only written', async (t) => {
  const folder = recordFolder(t);
  let syncs = 0;
  let failing = false;
  const files = faultyFiles(({ name }) => {
    if (name === 'fdatasync') syncs += 1;
    return failing && name === 'fdatasync' ? { kind: 'Fail', code: 'EIO' } : undefined;
  });
  const log = await openTestLog(folder, { files });
  const act = { act: 'grant.break-glass', actor: { username: 'sallyport' } };
  const before = syncs;
  await log.control(act);
  assert.equal(syncs, before);
  await log.control(act, { durability: 'Disk' });
  assert.equal(syncs, before + 1);
  failing = true;
  await assert.rejects(log.control(act, { durability: 'Disk' }), RecordingError);
  failing = false;
  await log.close().catch(() => undefined);
});

test('INV-04: a failed sync fails everything that waited for it, also what was written meanwhile', async (t) => {
  const folder = recordFolder(t);
  let failing = false;
  const files = faultyFiles(({ name }) =>
    failing && name === 'fdatasync' ? { kind: 'Fail', code: 'EIO' } : undefined,
  );
  const clock = manualClock(Date.now());
  const log = await openTestLog(folder, { files, clock });
  const session = log.session('s-disk', { durability: 'Disk' });
  const other = log.session('s-other', { durability: 'Disk' });
  failing = true;
  session.append('command', { id: 1 });
  const first = written(session);
  await new Promise((resolve) => setImmediate(resolve));
  other.append('command', { id: 2 });
  const second = written(other);
  assert.equal((await first)?.code, 'IoError');
  assert.equal((await second)?.code, 'IoError');
  assert.equal(session.writable, false);
  failing = false;
  clock.advance(200);
  assert.equal(session.writable, true);
  session.append('command', { id: 3 });
  assert.equal(await written(session), undefined);
  await log.close();
  assert.deepEqual(verifyRecords(folder).findings, []);
});

for (const code of ['ENOSPC', 'EIO'] as const) {
  test(`INV-04: ${code} at any write of the log leaves it well-formed, is told, and passes by itself`, async (t) => {
    for (const short of [undefined, 0, 1, 50, 200]) {
      for (const truncates of [true, false]) {
        const folder = recordFolder(t);
        let failing = false;
        let shortened = false;
        const files = faultyFiles(({ name, args }) => {
          if (!failing) return undefined;
          if (name === 'ftruncateSync' && !truncates) return { kind: 'Fail', code: 'EIO' };
          if (name === 'openSync' && String(args[1]).startsWith('wx')) return { kind: 'Fail', code };
          if (name !== 'writeSync') return undefined;
          if (short === undefined || shortened) return { kind: 'Fail', code };
          shortened = true;
          return { kind: 'Short', bytes: short };
        });
        const clock = manualClock(Date.now());
        const healths: RecordHealth[] = [];
        const log = await openTestLog(folder, { files, clock, onHealth: (health) => healths.push(health) });
        const session = log.session('s-full');
        const leaving = log.session('s-leaving');
        session.append('start', {});
        leaving.append('start', {});
        assert.equal(await written(session), undefined);

        failing = true;
        session.append('command', { id: 1, text: 'x'.repeat(300) });
        const error = await written(session);
        assert.ok(error instanceof RecordingError);
        assert.equal(error.code, code === 'ENOSPC' && short !== 0 ? 'NoSpace' : 'IoError');
        assert.equal(session.writable, false);
        session.append('command', { id: 2 });
        assert.notEqual(await written(session), undefined, 'nothing is acted on while the store refuses');
        leaving.append('end', { reason: 'Gone' });
        leaving.close();
        shortened = false;
        clock.advance(100);
        assert.equal(session.writable, false, 'the probe failed');
        assert.deepEqual(verifyRecords(folder).findings, [], 'well-formed while it fails');

        failing = false;
        clock.advance(5000);
        assert.equal(session.writable, true);
        session.append('command', { id: 3 });
        assert.equal(await written(session), undefined);
        session.append('end', { reason: 'Done' });
        session.close();
        await log.close();
        assert.deepEqual(
          healths.map(({ kind }) => kind),
          ['Unwritable', 'Writable'],
        );
        assert.deepEqual(verifyRecords(folder).findings, []);
        const bodies = recordsOf(folder, 's-full').map(({ kind, body }) => ({ kind, ...(body as object) }));
        assert.deepEqual(
          bodies.map(({ kind }) => kind),
          ['start', 'notice', 'command', 'end'],
        );
        assert.equal((bodies[1] as { lost?: number }).lost, 2);
        assert.equal((bodies[2] as { id?: number }).id, 3);
        assert.deepEqual(
          recordsOf(folder, 's-leaving').map(({ kind }) => kind),
          ['start', 'notice', 'end'],
        );
      }
    }
  });
}

test('short writes without an error are continued', async (t) => {
  const folder = recordFolder(t);
  const files = faultyFiles(({ name }) => (name === 'writeSync' ? { kind: 'Short', bytes: 7 } : undefined));
  const log = await openTestLog(folder, { files });
  assert.equal(await shortSession(log, 's-short'), undefined);
  await log.close();
  assert.deepEqual(verifyRecords(folder).findings, []);
  assert.equal(recordsOf(folder, 's-short').length, 6);
});

test('what can not be encoded costs its own session an error and no other', async (t) => {
  const folder = recordFolder(t);
  const log = await openTestLog(folder);
  const bad = log.session('s-bad');
  const good = log.session('s-good');
  const cyclic: Record<string, unknown> = {};
  cyclic['self'] = cyclic;
  bad.append('start', {});
  bad.append('command', cyclic);
  good.append('start', {});
  const [first, second] = await Promise.all([written(bad), written(good)]);
  assert.equal(first?.code, 'IoError');
  assert.equal(second, undefined);
  await log.close();
  assert.deepEqual(verifyRecords(folder).findings, []);
});

test('a callback that throws keeps nobody else waiting', async (t) => {
  const folder = recordFolder(t);
  const log = await openTestLog(folder);
  const session = log.session('s-throws');
  // The test runner listens too, and would take the error for the test's own.
  const listeners = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  const uncaught = new Promise((resolve) => process.once('uncaughtException', resolve));
  session.append('start', {});
  session.whenWritten(() => {
    throw new Error('mine');
  });
  assert.equal(await written(session), undefined);
  const thrown = await uncaught;
  for (const listener of listeners) process.on('uncaughtException', listener);
  assert.match(String(thrown), /mine/);
  await log.close();
});

test('long sessions are sealed in pieces and old live files go away', async (t) => {
  const folder = recordFolder(t);
  const log = await openTestLog(folder, { fileBytes: 20_000, segmentBytes: 4_000 });
  const session = log.session('s-long');
  const idle = log.session('s-idle');
  idle.append('start', {});
  for (let number = 0; number < 600; number += 1) {
    session.append('command', { id: number, text: 'x'.repeat(100) });
    assert.equal(await written(session), undefined);
  }
  await log.sealNow();
  assert.ok(filesUnder(folder).filter((name) => name.startsWith('sealed') && name.includes('s-long')).length > 10);
  assert.ok(filesUnder(folder).filter((name) => name.endsWith('.log') && name.startsWith('live')).length <= 2);
  assert.deepEqual(verifyRecords(folder).findings, []);
  assert.equal(recordsOf(folder, 's-long').length, 600);
  assert.equal(recordsOf(folder, 's-idle').length, 1);
  await log.close();
  assert.deepEqual(verifyRecords(folder).findings, []);
  assert.equal(recordsOf(folder, 's-long').length, 601);
});

test('failing to seal does not stop writing, and is made up for', async (t) => {
  const folder = recordFolder(t);
  let failing = false;
  const files = faultyFiles(({ name, args }) =>
    failing && name === 'renameSync' && String(args[1]).endsWith('.seg') ? { kind: 'Fail', code: 'EIO' } : undefined,
  );
  const healths: string[] = [];
  const log = await openTestLog(folder, { files, onHealth: ({ kind }) => healths.push(kind) });
  failing = true;
  assert.equal(await shortSession(log, 's-one'), undefined);
  await log.sealNow();
  assert.equal(await shortSession(log, 's-two'), undefined);
  failing = false;
  await log.sealNow();
  assert.deepEqual(healths, ['SealFailing', 'SealWorking']);
  await log.close();
  assert.deepEqual(verifyRecords(folder).findings, []);
  assert.equal(recordsOf(folder, 's-one').length, 6);
});

test('one process a folder; a lock of a dead process does not count', async (t) => {
  const folder = recordFolder(t);
  fs.writeFileSync(`${folder}/lock`, '1 1\n');
  const log = await openTestLog(folder);
  await log.close();
  const started = fs.readFileSync('/proc/1/stat', 'latin1');
  const ticks = started.slice(started.lastIndexOf(')') + 2).split(' ')[19];
  fs.writeFileSync(`${folder}/lock`, `1 ${ticks}\n`);
  await assert.rejects(openTestLog(folder), { name: 'RecordFolderInUse' });
});

test('control acts are records of a stream that goes on over restarts', async (t) => {
  const folder = recordFolder(t);
  const signer = testSigner();
  const options: Partial<RecordLogOptions> = { signer };
  for (const act of ['Approve', 'Revoke']) {
    const log = await openTestLog(folder, options);
    await log.control({ act, actor: { username: 'dba@corp.example' } });
    await log.close();
  }
  const acts = recordsOf(folder, 'control').map(({ seq, body }) => `${seq} ${(body as { act: string }).act}`);
  assert.deepEqual(acts, [
    '0 RecordsOpened',
    '1 Approve',
    '2 RecordsClosed',
    '3 RecordsOpened',
    '4 Revoke',
    '5 RecordsClosed',
  ]);
  assert.deepEqual(verifyRecords(folder).findings, []);
});

test('names of streams can not leave the folder or be used twice', async (t) => {
  const folder = recordFolder(t);
  const log = await openTestLog(folder);
  for (const name of ['../x', 'A', '', 'control', 'a/b', 'a.b', '-a'])
    assert.throws(() => log.session(name), TypeError);
  assert.equal(await shortSession(log, 's-twice'), undefined);
  await log.sealNow();
  assert.throws(() => log.session('s-twice'), TypeError);
  await log.close();
});

test('everything of all sessions is read, filtered by time', async (t) => {
  const folder = recordFolder(t);
  const clock = manualClock(Date.parse('2026-01-01T23:59:00Z'));
  const signer = testSigner(undefined, clock.now());
  const log = await openTestLog(folder, { clock, signer });
  await shortSession(log, 's-before');
  clock.advance(120_000);
  await shortSession(log, 's-after');
  await log.sealNow();
  await log.close();
  using view = viewRecords(folder);
  const streams = new Set<string>();
  for (const item of readRecords(view, { since: '2026-01-02T00:00:00.000Z' })) {
    if (item.kind === 'Record') streams.add(item.record.stream);
  }
  assert.deepEqual([...streams].sort(), ['control', 's-after']);
});

test('a result rides along with what is waited for, or is written by itself a little later', async (t) => {
  const folder = recordFolder(t);
  const clock = manualClock(Date.now());
  const log = await openTestLog(folder, { clock });
  const session = log.session('s-ride');
  const batches = (): number => log.stats().batches;
  session.append('command', { id: 1 });
  assert.equal(await written(session), undefined);
  const before = batches();
  session.append('result', { id: 1 });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(batches(), before, 'nobody waits for it');
  session.append('command', { id: 2 });
  assert.equal(await written(session), undefined);
  assert.equal(batches(), before + 1);
  session.append('result', { id: 2 });
  clock.advance(10);
  assert.equal(batches(), before + 2);
  // More than is worth keeping back.
  session.append('result', { id: 3, sample: [['x'.repeat(100_000)]] });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(batches(), before + 3);
  // Whoever waits for a result gets it.
  session.append('result', { id: 4 });
  assert.equal(await written(session), undefined);
  session.append('result', { id: 5 });
  session.close();
  await log.close();
  assert.deepEqual(
    recordsOf(folder, 's-ride').map(({ kind }) => kind),
    ['command', 'result', 'command', 'result', 'result', 'result', 'result', 'end'],
  );
  assert.deepEqual(verifyRecords(folder).findings, []);
});

test('INV-04: records that somebody removes while they are written stop new commands', async (t) => {
  const folder = recordFolder(t);
  const clock = manualClock(Date.now());
  const health: RecordHealth[] = [];
  const log = await openTestLog(folder, { clock, onHealth: (each) => health.push(each) });
  const session = log.session('s-removed');
  session.append('command', { id: 1 });
  assert.equal(await written(session), undefined);
  fs.rmSync(folder, { recursive: true });
  clock.advance(100);
  session.append('command', { id: 2 });
  const error = await written(session);
  assert.ok(error instanceof RecordingError);
  assert.equal(session.writable, false);
  assert.equal(health.at(-1)?.kind, 'Unwritable');
  clock.advance(10_000);
  assert.equal(session.writable, false, 'it does not begin anew in a folder without its past');
  await assert.rejects(log.close(), RecordingError);
});
