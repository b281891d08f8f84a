// A process that writes records and may be killed at any file call, and what must hold after the next one started.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import type { RecordEnvelope } from '../../src/recording/envelope.ts';
import type { ProcessRecordLog } from '../../src/recording/log/process-log.ts';
import { readRecords } from '../../src/recording/reader.ts';
import { viewRecords } from '../../src/recording/store-view.ts';
import { verifyRecords } from '../../src/recording/verify.ts';
import type { Files } from '../../src/system/files.ts';
import { manualClock } from '../../src/system/manual-clock.ts';
import { mortalFiles, openTestLog, recordFolder, shortSession, testSigner, written } from './records.ts';

/** One key for all: making one costs more than the rest of a test. */
export const signer = testSigner();

/** All records by stream; fails the test on a problem. */
export function everything(folder: string): Map<string, RecordEnvelope[]> {
  using view = viewRecords(folder);
  const streams = new Map<string, RecordEnvelope[]>();
  for (const item of readRecords(view)) {
    if (item.kind === 'Problem') assert.fail(`${item.piece}: ${item.message}`);
    const records = streams.get(item.record.stream) ?? [];
    streams.set(item.record.stream, records);
    records.push(item.record);
  }
  return streams;
}

/** What a process does that may die at any file call. Returns what it was told is written. */
export async function life(files: Files, folder: string): Promise<Map<string, number>> {
  const acknowledged = new Map<string, number>();
  const note = (stream: string, seq: number): void => void acknowledged.set(stream, seq);
  let log: ProcessRecordLog;
  try {
    log = await openTestLog(folder, {
      files,
      signer,
      clock: manualClock(Date.now()),
      segmentBytes: 600,
      fileBytes: 3000,
    });
  } catch {
    return acknowledged;
  }
  const open = log.session('s-open');
  open.append('start', {});
  if ((await written(open)) === undefined) note('s-open', 0);
  if ((await shortSession(log, 's-whole', 3)) === undefined) note('s-whole', 7);
  for (let number = 1; number < 6; number += 1) {
    open.append('command', { id: number, text: 'x'.repeat(200), decision: 'Allow' });
    if ((await written(open)) === undefined) note('s-open', number);
    if (number === 3) await log.sealNow();
  }
  await log.close().catch(() => {});
  return acknowledged;
}

/** The folder is good, holds what was acknowledged, and every session has one end. */
export function check(folder: string, acknowledged: ReadonlyMap<string, number>, where: string): void {
  const report = verifyRecords(folder);
  assert.deepEqual(report.findings, [], where);
  const streams = everything(folder);
  for (const [stream, seq] of acknowledged) {
    const records = streams.get(stream) ?? [];
    assert.ok(records.length > seq, `${where}: ${stream} has ${records.length} records, ${seq} was acknowledged`);
  }
  for (const [stream, records] of streams) {
    assert.deepEqual(
      records.map(({ seq }) => seq),
      records.map((_, index) => index),
      `${where}: ${stream}`,
    );
    if (stream !== 'control') {
      assert.equal(records.at(-1)?.kind, 'end', `${where}: ${stream} has an end`);
      assert.equal(records.filter(({ kind }) => kind === 'end').length, 1, `${where}: ${stream} ends once`);
    }
  }
}

/** Kills a process at call `at`, starts the next, and checks. */
export async function killedAt(t: { after: (done: () => void) => void }, at: number): Promise<void> {
  const folder = recordFolder(t);
  const acknowledged = await life(mortalFiles(at), folder);
  const next = await openTestLog(folder, { signer });
  await next.close();
  check(folder, acknowledged, `killed at call ${at}`);
  fs.rmSync(folder, { recursive: true });
}

/** How many file calls an undisturbed life makes. */
export async function callsOfALife(t: { after: (done: () => void) => void }): Promise<number> {
  const files = mortalFiles(Number.POSITIVE_INFINITY);
  await life(files, recordFolder(t));
  return files.calls;
}

/** Kills recovery of `dead` at call `at`, starts the next, and checks. False once recovery ends before that call. */
export async function recoveryKilledAt(
  t: { after: (done: () => void) => void },
  dead: { folder: string; acknowledged: ReadonlyMap<string, number> },
  at: number,
): Promise<boolean> {
  const folder = recordFolder(t);
  fs.cpSync(dead.folder, folder, { recursive: true });
  const files = mortalFiles(at);
  const first = await openTestLog(folder, { signer, files, clock: manualClock(Date.now()) }).catch(() => undefined);
  await first?.close().catch(() => {});
  const next = await openTestLog(folder, { signer });
  await next.close();
  check(folder, dead.acknowledged, `recovery killed at call ${at}`);
  fs.rmSync(folder, { recursive: true });
  return files.dead;
}
