import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import {
  filesUnder,
  openTestLog,
  recordFolder,
  shortSession,
  testControllerKey,
  testSigner,
  written,
} from '../../test/support/records.ts';
import { trustedKeyOf } from '../policy/bundle-signing.ts';
import { manualClock } from '../system/manual-clock.ts';
import { keyringOf } from './keyring.ts';
import { ZERO_HASH } from './log/batch.ts';
import { decodeSegment, encodeSegment } from './seal/segment.ts';
import { type VerifyOptions, verifyRecords } from './verify.ts';

const controllerKey = testControllerKey();
const roots = [trustedKeyOf(controllerKey)];
const signer = testSigner(controllerKey);
const keys = keyringOf([signer.certificate], roots);

/** Each a copy of a whole folder that is verified. */
const RUNS = Number(process.env.FUZZ_RUNS ?? 20);

let good = '';
const cleanups: (() => void)[] = [];
before(async () => {
  good = recordFolder({ after: (done) => cleanups.push(done) });
  const log = await openTestLog(good, { signer, segmentBytes: 500 });
  await shortSession(log, 's-one', 6);
  await shortSession(log, 's-two');
  await log.sealNow();
  await shortSession(log, 's-three');
  await log.close();
});
after(() => {
  for (const done of cleanups) done();
});

/** Verifies a copy that `damage` was done to. */
function tampered(damage: (folder: string) => void, options: VerifyOptions = { roots }): string[] {
  const folder = fs.mkdtempSync(`${good}-copy-`);
  try {
    fs.cpSync(good, folder, { recursive: true });
    damage(folder);
    return verifyRecords(folder, options).findings.map(
      ({ code, session, piece }) => `${code} ${session ?? '-'} ${piece}`,
    );
  } catch (error) {
    return [String(error)];
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

test('INV-07: an untouched folder has no finding', () => {
  const report = verifyRecords(good, { roots });
  assert.deepEqual(report.findings, []);
  assert.equal(report.pinned, true);
  assert.equal(report.checked.sessions, 4);
  assert.ok(report.checked.segments > 6);
});

test('INV-07: a flipped bit in any file is found', () => {
  const places = filesUnder(good).flatMap((name) =>
    Array.from({ length: fs.statSync(`${good}/${name}`).size }, (_, at) => ({ name, at })),
  );
  fc.assert(
    fc.property(fc.constantFrom(...places), fc.integer({ min: 0, max: 7 }), ({ name, at }, bit) => {
      const findings = tampered((folder) => {
        const bytes = fs.readFileSync(`${folder}/${name}`);
        bytes[at]! ^= 1 << bit;
        fs.writeFileSync(`${folder}/${name}`, bytes);
      });
      assert.notEqual(findings.length, 0, `${name} at ${at}`);
      if (name.startsWith('sealed'))
        assert.ok(
          findings.some((finding) => finding.endsWith(name)),
          findings.join('; '),
        );
    }),
    { numRuns: RUNS },
  );
});

test('INV-07: a tail that is cut off or put on is found, in any file', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...filesUnder(good)),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      fc.uint8Array({ minLength: 1, maxLength: 8 }),
      (name, part, more) => {
        const cut = tampered((folder) => {
          const bytes = fs.readFileSync(`${folder}/${name}`);
          fs.writeFileSync(`${folder}/${name}`, bytes.subarray(0, Math.floor(bytes.length * part)));
        });
        assert.notEqual(cut.length, 0, `${name} cut at ${part}`);
        const appended = tampered((folder) => fs.appendFileSync(`${folder}/${name}`, more));
        assert.notEqual(appended.length, 0, `${name} with ${more}`);
      },
    ),
    { numRuns: RUNS },
  );
});

test('INV-07: heads cut off at the end of a line are found', () => {
  const lines = fs.readFileSync(`${good}/heads.log`, 'latin1').split('\n').slice(0, -1);
  for (let kept = 0; kept < lines.length; kept += 1) {
    const findings = tampered((folder) =>
      fs.writeFileSync(
        `${folder}/heads.log`,
        lines
          .slice(0, kept)
          .map((line) => `${line}\n`)
          .join(''),
      ),
    );
    assert.notEqual(findings.length, 0, `${kept} of ${lines.length} lines`);
  }
});

test('INV-07: heads dropped, repeated and swapped are found', () => {
  const lines = fs.readFileSync(`${good}/heads.log`, 'latin1').split('\n').slice(0, -1);
  const write = (changed: readonly string[]) => (folder: string) =>
    fs.writeFileSync(`${folder}/heads.log`, changed.map((line) => `${line}\n`).join(''));
  for (let at = 0; at < lines.length; at += 1) {
    assert.notEqual(tampered(write(lines.toSpliced(at, 1))).length, 0);
    assert.notEqual(tampered(write(lines.toSpliced(at, 0, lines[at]!))).length, 0);
    if (at > 0) assert.notEqual(tampered(write(lines.with(at, lines[at - 1]!).with(at - 1, lines[at]!))).length, 0);
  }
});

test('INV-07: each segment that is missing, repeated or swapped is found and named', () => {
  const segments = filesUnder(good).filter((name) => name.endsWith('.seg'));
  assert.ok(segments.length > 6);
  for (const [place, name] of segments.entries()) {
    const session = /([a-z-]+)\.[0-9]+\.seg$/.exec(name)![1]!;
    assert.deepEqual(
      tampered((folder) => fs.unlinkSync(`${folder}/${name}`)),
      [`Missing ${session} ${name}`],
    );
    const copy = name.replace(/[0-9]{6}\.seg$/, '000099.seg');
    assert.deepEqual(
      tampered((folder) => fs.copyFileSync(`${folder}/${name}`, `${folder}/${copy}`)),
      [`Repeated ${session} ${copy}`],
    );
    const other = segments[(place + 1) % segments.length]!;
    const swapped = tampered((folder) => {
      fs.copyFileSync(`${good}/${other}`, `${folder}/${name}`);
      fs.copyFileSync(`${good}/${name}`, `${folder}/${other}`);
    });
    assert.ok(
      swapped.some((finding) => finding.startsWith('Repeated') && finding.endsWith(name)),
      swapped.join('; '),
    );
    assert.ok(
      swapped.some((finding) => finding.endsWith(other)),
      swapped.join('; '),
    );
  }
});

test('INV-07: a session that is missing whole is found, and so is a foreign one', async (t) => {
  const gone = tampered((folder) => {
    for (const name of filesUnder(folder)) if (name.includes('/s-two.')) fs.unlinkSync(`${folder}/${name}`);
  });
  assert.ok(gone.length > 0 && gone.every((finding) => finding.startsWith('Missing s-two')));
  const elsewhere = recordFolder(t);
  const log = await openTestLog(elsewhere, { signer });
  await shortSession(log, 's-foreign');
  await log.close();
  const name = filesUnder(elsewhere).find((piece) => piece.includes('s-foreign'))!;
  assert.deepEqual(
    tampered((folder) => fs.copyFileSync(`${elsewhere}/${name}`, `${folder}/${name}`)),
    [`Foreign s-foreign ${name}`],
  );
});

test('INV-07: a folder signed under another root, or rolled back, is found', async (t) => {
  assert.notEqual(tampered(() => {}, { roots: [trustedKeyOf(testControllerKey())] }).length, 0);
  const folder = recordFolder(t);
  const log = await openTestLog(folder, { signer });
  await shortSession(log, 's-early');
  await log.close();
  const earlier = recordFolder(t);
  fs.cpSync(folder, earlier, { recursive: true });
  const next = await openTestLog(folder, { signer });
  await shortSession(next, 's-late');
  await next.close();
  const { head } = verifyRecords(folder, { roots });
  assert.deepEqual(verifyRecords(folder, { roots, expectHead: head! }).findings, []);
  assert.deepEqual(verifyRecords(earlier, { roots }).findings, [], 'it agrees with itself');
  assert.equal(verifyRecords(earlier, { roots, expectHead: head! }).findings[0]?.code, 'RolledBack');
});

test('INV-07: a live log that was changed, cut below its mark or taken away is found', async (t) => {
  const folder = recordFolder(t);
  const clock = manualClock(Date.now());
  const log = await openTestLog(folder, { signer, clock, fileBytes: 1500 });
  const session = log.session('s-live');
  for (let id = 0; id < 12; id += 1) {
    session.append('command', { id, text: 'x'.repeat(200) });
    assert.equal(await written(session), undefined);
  }
  clock.advance(1000);
  while (!fs.existsSync(`${folder}/live/mark`)) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(verifyRecords(folder, { roots }).findings, []);
  const copy = (damage: (folder: string) => void): number => {
    const other = recordFolder(t);
    fs.cpSync(folder, other, { recursive: true });
    damage(other);
    const { findings } = verifyRecords(other, { roots });
    fs.rmSync(other, { recursive: true });
    return findings.length;
  };
  const names = filesUnder(folder).filter((name) => name.startsWith('live/'));
  assert.ok(names.length > 3);
  for (const name of names) {
    const bytes = fs.readFileSync(`${folder}/${name}`);
    if (name !== 'live/mark')
      assert.notEqual(
        copy((other) => fs.unlinkSync(`${other}/${name}`)),
        0,
        `${name} missing`,
      );
    for (let at = 0; at < bytes.length; at += 97) {
      const flipped = Buffer.from(bytes);
      flipped[at]! ^= 4;
      assert.notEqual(
        copy((other) => fs.writeFileSync(`${other}/${name}`, flipped)),
        0,
        `${name} flipped at ${at}`,
      );
      assert.notEqual(
        copy((other) => fs.writeFileSync(`${other}/${name}`, bytes.subarray(0, at))),
        0,
        `${name} cut at ${at}`,
      );
    }
  }
  await log.close();
});

test('INV-07: one segment: every bit, every length, every addition is refused', async () => {
  const content = {
    stream: 's-x',
    index: 0,
    prevHash: ZERO_HASH,
    first: 0,
    last: 1,
    final: true,
    recovered: false,
    sealedAt: new Date().toISOString(),
  };
  const line = (seq: number): string =>
    `{"v":1,"stream":"s-x","seq":${seq},"ts":"2026-01-01T00:00:00.000Z","kind":"start","body":{}}\n`;
  const bytes = await encodeSegment(signer, content, Buffer.from(line(0) + line(1)));
  assert.equal(decodeSegment(bytes, keys).kind, 'Good');
  for (let at = 0; at < bytes.length; at += 1) {
    const flipped = Buffer.from(bytes);
    flipped[at]! ^= 1 << (at % 8);
    assert.equal(decodeSegment(flipped, keys).kind, 'Bad', `flipped at ${at}`);
    assert.equal(decodeSegment(bytes.subarray(0, at), keys).kind, 'Bad', `cut at ${at}`);
  }
  assert.equal(decodeSegment(Buffer.concat([bytes, Buffer.of(0)]), keys).kind, 'Bad');
});

test('INV-07: a signer that spells a segment otherwise is refused too', async () => {
  const line = '{"v":1,"stream":"s-x","seq":0,"ts":"2026-01-01T00:00:00.000Z","kind":"start","body":{}}\n';
  const content = {
    stream: 's-x',
    index: 0,
    prevHash: ZERO_HASH,
    first: 0,
    last: 0,
    final: true,
    recovered: false,
    sealedAt: new Date().toISOString(),
  };
  const bytes = await encodeSegment(signer, content, Buffer.from(line));
  const newline = bytes.indexOf(0x0a);
  const header = bytes.toString('utf8', 0, newline);
  const payload = bytes.subarray(newline + 1, -64);
  const signed = async (head: string, body: Buffer): Promise<string> => {
    const all = Buffer.concat([Buffer.from(`${head}\n`), body]);
    const read = decodeSegment(Buffer.concat([all, await signer.sign(all)]), keys);
    return read.kind === 'Good' ? 'Good' : read.problem;
  };
  const length = (extra: number): string =>
    header.replace(`"length":${payload.length}`, `"length":${payload.length + extra}`);
  assert.equal(await signed(header, payload), 'Good');
  assert.equal(await signed(header.replace('{', '{ '), payload), 'Header');
  assert.equal(await signed(header.replace('"codec":"zstd",', '').replace('}', ',"codec":"zstd"}'), payload), 'Header');
  assert.equal(await signed(header.replace('"final":true', '"final":true,"final":true'), payload), 'Header');
  assert.equal(await signed(header.replace('}', ',"zz":1}'), payload), 'Header');
  assert.equal(await signed(length(4), Buffer.concat([payload, Buffer.from('more')])), 'Frame');
  assert.equal(await signed(length(payload.length), Buffer.concat([payload, payload])), 'Frame');
  const skippable = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
  assert.equal(await signed(length(8), Buffer.concat([payload, skippable])), 'Frame');
  assert.equal(await signed(length(8), Buffer.concat([skippable, payload])), 'Frame');
  assert.equal(
    await signed(
      header.replace(/"hash":"[0-9a-f]/, (text) => `${text.slice(0, -1)}${text.endsWith('0') ? '1' : '0'}`),
      payload,
    ),
    'Content',
  );
  assert.equal(await signed(header.replace('"last":0', '"last":1'), payload), 'Records');
});
