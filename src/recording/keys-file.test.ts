import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { openTestLog, recordFolder, shortSession, testControllerKey } from '../../test/support/records.ts';
import { systemFiles } from '../system/files.ts';
import { manualClock } from '../system/manual-clock.ts';
import { keepCertified } from './keys-file.ts';
import type { KeysFile } from './signer.ts';
import { openRecordSigner } from './signer.ts';
import { verifyRecords } from './verify.ts';

const HOUR = 3_600_000;

test('INV-07: a process that outlives its key certificate goes on writing what can be proven', async (t) => {
  const folder = recordFolder(t);
  const clock = manualClock(Date.parse('2026-01-01T00:00:00Z'));
  const validForMs = 10 * HOUR;
  const signer = openRecordSigner({ controllerKey: testControllerKey(), nowMs: clock.now(), validForMs });
  const log = await openTestLog(folder, { signer, clock });
  const errors: string[] = [];
  let broken = false;
  const files = {
    ...systemFiles,
    renameSync(from: string, to: string) {
      if (broken) throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
      systemFiles.renameSync(from, to);
    },
  };
  const stop = keepCertified({ files, folder, clock, signer, onError: ({ message }) => errors.push(message) });
  const certificates = (): number =>
    (JSON.parse(fs.readFileSync(`${folder}/keys.json`, 'utf8')) as KeysFile).certificates.length;
  assert.equal(certificates(), 1);
  clock.advance(4 * HOUR);
  assert.equal(certificates(), 1);
  broken = true;
  clock.advance(2 * HOUR);
  assert.equal(certificates(), 1);
  assert.deepEqual([...new Set(errors)], ['no space']);
  broken = false;
  clock.advance(HOUR);
  assert.equal(certificates(), 2);
  clock.advance(9 * HOUR);
  await shortSession(log, 's-late');
  clock.advance(9 * HOUR);
  await shortSession(log, 's-later');
  await log.sealNow();
  clock.advance(72 * HOUR);
  assert.deepEqual(
    (await log.prune(clock.now() - 24 * HOUR, { username: 'retention' })).map(({ date }) => date),
    ['2026-01-01', '2026-01-02'],
  );
  stop();
  const before = certificates();
  await log.close();
  assert.deepEqual(verifyRecords(folder).findings, []);
  clock.advance(100 * HOUR);
  assert.equal(certificates(), before);
});
