import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { callsOfALife, everything, killedAt, life, recoveryKilledAt, signer } from '../../test/support/record-life.ts';
import { mortalFiles, openTestLog, recordFolder, shortSession, written } from '../../test/support/records.ts';
import { systemFiles } from '../system/files.ts';
import { manualClock } from '../system/manual-clock.ts';
import { recover } from './recover.ts';
import { verifyRecords } from './verify.ts';

// Every call is tried in test/fuzz/recording-crash.test.ts.
test('INV-07: killed at any file call, the next start loses nothing, shows nothing twice, and leaves a good folder', async (t) => {
  const calls = await callsOfALife(t);
  assert.ok(calls > 100);
  for (let at = 0; at < calls; at += 23) await killedAt(t, at);
});

test('INV-07: recovery itself may be killed at any file call', async (t) => {
  const folder = recordFolder(t);
  const acknowledged = await life(mortalFiles(95), folder);
  let at = 0;
  while (await recoveryKilledAt(t, { folder, acknowledged }, at)) at += 23;
  assert.ok(at > 50);
});

test('a session that a dead gateway left is ended by recovery, which says what is not known', async (t) => {
  const folder = recordFolder(t);
  const dying = mortalFiles(Number.POSITIVE_INFINITY);
  const log = await openTestLog(folder, { signer, files: dying, clock: manualClock(Date.now()) });
  const session = log.session('s-cut');
  session.append('start', {});
  session.append('command', { id: 1, decision: 'Allow' });
  session.append('result', { id: 1 });
  session.append('command', { id: 2, decision: 'Deny' });
  session.append('command', { id: 3, decision: 'Allow' });
  assert.equal(await written(session), undefined);
  const next = await openTestLog(folder, { signer });
  const [left] = next.recovered.sessions;
  assert.equal(left?.stream, 's-cut');
  assert.equal(left.cutShort, true);
  assert.deepEqual(left.commandsWithoutResult, [3]);
  await next.close();
  const end = everything(folder).get('s-cut')!.at(-1)!;
  assert.equal(end.kind, 'end');
  const body = end.body as { reason: string; by: string; message: string };
  assert.equal(body.reason, 'Lost');
  assert.equal(body.by, 'recovery');
  assert.match(body.message, /whether command 3 took effect/);
});

test('a batch cut at any byte does not count, and everything before it does', async (t) => {
  const dead = recordFolder(t);
  const log = await openTestLog(dead, { signer, clock: manualClock(Date.now()) });
  const session = log.session('s-torn');
  session.append('start', {});
  assert.equal(await written(session), undefined);
  const live = `${dead}/live/00000001.log`;
  const before = fs.statSync(live).size;
  session.append('command', { id: 1, decision: 'Allow' });
  assert.equal(await written(session), undefined);
  const bytes = fs.readFileSync(live);
  for (let length = before; length < bytes.length; length += 31) {
    const folder = recordFolder(t);
    fs.cpSync(dead, folder, { recursive: true });
    fs.writeFileSync(`${folder}/live/00000001.log`, bytes.subarray(0, length));
    const next = await openTestLog(folder, { signer });
    await next.close();
    assert.deepEqual(
      everything(folder)
        .get('s-torn')!
        .map(({ kind }) => kind),
      ['start', 'end'],
    );
    assert.deepEqual(verifyRecords(folder).findings, []);
    fs.rmSync(folder, { recursive: true });
  }
});

test('heads that were damaged are set aside and stay a finding', async (t) => {
  const folder = recordFolder(t);
  const log = await openTestLog(folder, { signer });
  await shortSession(log, 's-one');
  await log.close();
  const heads = fs.readFileSync(`${folder}/heads.log`);
  heads[40]! ^= 1;
  fs.writeFileSync(`${folder}/heads.log`, heads);
  const next = await openTestLog(folder, { signer });
  assert.equal(next.recovered.damage[0]?.piece, 'heads.log');
  await shortSession(next, 's-two');
  await next.close();
  const findings = verifyRecords(folder).findings.map(({ code, piece }) => `${code} ${piece}`);
  assert.ok(findings.includes('Changed heads.log'), findings.join());
});

test('INV-07: the end of long heads tells the next start what all of them would', async (t) => {
  const folder = recordFolder(t);
  for (let process = 0; process < 10; process += 1) {
    const log = await openTestLog(folder, { signer });
    for (let number = 0; number < 12; number += 1) await shortSession(log, `s-${process}-${number}`);
    await log.close();
  }
  const heads = fs.statSync(`${folder}/heads.log`).size;
  const calls = await callsOfALife(t);
  for (let at = 20; at < calls; at += 61) {
    const dead = recordFolder(t);
    fs.cpSync(folder, dead, { recursive: true });
    await life(mortalFiles(at), dead);
    const recovered = await Promise.all(
      [1500, 6000, heads * 10].map(async (headsWindow) => {
        const copy = recordFolder(t);
        fs.cpSync(dead, copy, { recursive: true });
        const reads = { bytes: 0 };
        const files = {
          ...systemFiles,
          readSync(...given: Parameters<typeof systemFiles.readSync>) {
            const read = systemFiles.readSync(...given);
            reads.bytes += read;
            return read;
          },
        };
        const result = await recover({
          files,
          folder: copy,
          headsPath: `${copy}/heads.log`,
          signer,
          now: () => 1_800_000_000_000,
          segmentBytes: 1 << 20,
          trusted: [],
          headsWindow,
        });
        const { position } = result.heads;
        result.heads.close();
        const { sessions, damage, nextFile, control } = result;
        fs.rmSync(copy, { recursive: true });
        return { told: { position, sessions, damage, nextFile, control }, bytes: reads.bytes };
      }),
    );
    for (const { told } of recovered) assert.deepEqual(told, recovered.at(-1)!.told, `killed at call ${at}`);
    assert.ok(recovered[1]!.bytes < recovered[2]!.bytes, `${recovered.map(({ bytes }) => bytes)}, killed at ${at}`);
    fs.rmSync(dead, { recursive: true });
  }
});
