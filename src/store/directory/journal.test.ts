import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { type Files, systemFiles } from '../../system/files.ts';
import { openJournal, StateDamaged } from './journal.ts';

interface Note {
  n: number;
  text?: string;
}

function folderFor(t: TestContext): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-journal-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}
function reread(folder: string): Note[] {
  const { journal, entries } = openJournal<Note>(systemFiles, folder);
  journal.close();
  return entries;
}
function copyTo(folder: string, target: string): void {
  fs.rmSync(target, { recursive: true, force: true });
  fs.cpSync(folder, target, { recursive: true });
}

test('INV-10: a journal cut at any byte gives back every entry before the cut', (t) => {
  const folder = folderFor(t);
  const { journal } = openJournal<Note>(systemFiles, folder);
  const ends: number[] = [];
  const file = path.join(folder, 'store.journal.0');
  for (let n = 0; n < 5; n++) {
    journal.append([{ n, text: 'größe\n"' }]);
    ends.push(fs.statSync(file).size);
  }
  journal.close();
  const whole = fs.readFileSync(file);
  for (let length = 0; length <= whole.length; length++) {
    fs.writeFileSync(file, whole.subarray(0, length));
    const kept = ends.filter((end) => end <= length).length;
    const opened = openJournal<Note>(systemFiles, folder);
    assert.deepEqual(
      opened.entries.map(({ n }) => n),
      [0, 1, 2, 3, 4].slice(0, kept),
      `cut at ${length}`,
    );
    // And it goes on from there.
    opened.journal.append([{ n: 99 }]);
    opened.journal.close();
    assert.deepEqual(
      reread(folder).map(({ n }) => n),
      [...[0, 1, 2, 3, 4].slice(0, kept), 99],
      `cut at ${length}`,
    );
  }
});

test('a tail of zeros, as a power cut leaves it, is no damage', (t) => {
  const folder = folderFor(t);
  const { journal } = openJournal<Note>(systemFiles, folder);
  journal.append([{ n: 1 }]);
  journal.close();
  fs.appendFileSync(path.join(folder, 'store.journal.0'), Buffer.alloc(5000));
  assert.deepEqual(reread(folder), [{ n: 1 }]);
});

test('INV-04: damage before the end is an error, never a shorter history', (t) => {
  const folder = folderFor(t);
  const { journal } = openJournal<Note>(systemFiles, folder);
  for (let n = 0; n < 4; n++) journal.append([{ n }]);
  journal.close();
  const file = path.join(folder, 'store.journal.0');
  const whole = fs.readFileSync(file);
  const lines = whole.toString().split('\n').slice(0, -1);
  const lastLine = whole.length - lines.at(-1)!.length - 1;
  // Without the line feed before it the last entry is a longer one cut short.
  for (let offset = 0; offset < lastLine - 1; offset++) {
    const flipped = Buffer.from(whole);
    flipped[offset]! ^= 1;
    fs.writeFileSync(file, flipped);
    assert.throws(() => openJournal(systemFiles, folder), StateDamaged, `flip at ${offset}`);
  }
  const [a, b, c, d] = lines;
  for (const damaged of [
    [b, c, d],
    [a, c, d],
    [a, c, b, d],
    [a, a, b, c, d],
  ]) {
    fs.writeFileSync(file, `${damaged.join('\n')}\n`);
    assert.throws(() => openJournal(systemFiles, folder), StateDamaged);
  }
});

test('a snapshot that is damaged is an error that says what to do', (t) => {
  const folder = folderFor(t);
  const { journal } = openJournal<Note>(systemFiles, folder);
  journal.append([{ n: 1 }]);
  journal.compact([{ n: 1 }]);
  journal.append([{ n: 2 }]);
  journal.close();
  assert.deepEqual(reread(folder), [{ n: 1 }, { n: 2 }]);
  const file = path.join(folder, 'store.snapshot');
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace('"n":1', '"n":3'));
  assert.throws(() => openJournal(systemFiles, folder), /store\.snapshot: its checksum is wrong\. Restore the folder/);
});

class Killed extends Error {}

/** Dies at the k-th call that changes anything, before or after doing (half of) it. */
function dyingFiles(k: number, half: boolean): Files {
  let left = k;
  const dead = (): boolean => left < 0;
  const step = <T>(work: () => T, part?: () => void): T => {
    if (dead()) throw new Killed();
    if (left-- === 0) {
      if (half) part?.();
      left = -1;
      throw new Killed();
    }
    return work();
  };
  return {
    ...systemFiles,
    openSync: (file, flags, mode) => step(() => fs.openSync(file, flags, mode)),
    writeSync: (fd, bytes, offset, length) =>
      step(
        () => fs.writeSync(fd, bytes, offset, length),
        () => fs.writeSync(fd, bytes, offset, Math.floor(length / 2)),
      ),
    fsyncSync: (fd) => step(() => fs.fsyncSync(fd)),
    ftruncateSync: (fd, length) => step(() => fs.ftruncateSync(fd, length)),
    renameSync: (from, to) =>
      step(
        () => fs.renameSync(from, to),
        () => fs.renameSync(from, to),
      ),
    unlinkSync: (file) =>
      step(
        () => fs.unlinkSync(file),
        () => fs.unlinkSync(file),
      ),
    closeSync: (fd) => fs.closeSync(fd),
  };
}

test('INV-10: killed at any call, whatever was acknowledged is there and nothing is there by half', (t) => {
  const folder = folderFor(t);
  const scene = path.join(folder, 'scene');
  fs.mkdirSync(scene);
  const { journal } = openJournal<Note>(systemFiles, scene);
  journal.append([{ n: 0 }]);
  journal.close();
  const copy = path.join(folder, 'copy');
  let finished = false;
  for (let k = 0; !finished; k++) {
    assert.ok(k < 200);
    for (const half of [false, true]) {
      copyTo(scene, copy);
      const acknowledged = [0];
      let attempted = 0;
      try {
        const opened = openJournal<Note>(dyingFiles(k, half), copy);
        for (const n of [1, 2, 3, 4]) {
          attempted = n;
          opened.journal.append([{ n }]);
          acknowledged.push(n);
          if (n % 2 === 0) opened.journal.compact(acknowledged.map((kept) => ({ n: kept })));
        }
        finished = true;
      } catch (error) {
        assert.ok(error instanceof Killed, String(error));
      }
      const found = reread(copy).map(({ n }) => n);
      assert.deepEqual(found.slice(0, acknowledged.length), acknowledged, `k=${k} half=${half}`);
      // What was under way may be there, whole.
      assert.ok(
        found.length === acknowledged.length ||
          (found.length === acknowledged.length + 1 && found.at(-1) === attempted),
      );
      assert.deepEqual(
        fs.readdirSync(copy).filter((name) => name.endsWith('.tmp')),
        [],
      );
    }
  }
});

test('INV-04: a full disk fails the append and leaves the journal as it was', (t) => {
  const folder = folderFor(t);
  let full = false;
  const files: Files = {
    ...systemFiles,
    writeSync(fd, bytes, offset, length, position) {
      if (!full) return fs.writeSync(fd, bytes, offset, length, position);
      fs.writeSync(fd, bytes, offset, Math.min(7, length));
      throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
    },
  };
  const { journal } = openJournal<Note>(files, folder);
  journal.append([{ n: 1 }]);
  full = true;
  assert.throws(() => journal.append([{ n: 2 }]), /no space/);
  full = false;
  journal.append([{ n: 3 }]);
  journal.close();
  assert.deepEqual(reread(folder), [{ n: 1 }, { n: 3 }]);
});

test('INV-04: a journal whose end could not be mended takes nothing more', (t) => {
  const folder = folderFor(t);
  let broken = false;
  const fail = (): never => {
    throw Object.assign(new Error('i/o'), { code: 'EIO' });
  };
  const { journal } = openJournal<Note>(
    {
      ...systemFiles,
      fsyncSync: (fd) => (broken ? fail() : fs.fsyncSync(fd)),
      ftruncateSync: (fd, length) => (broken ? fail() : fs.ftruncateSync(fd, length)),
    },
    folder,
  );
  broken = true;
  assert.throws(() => journal.append([{ n: 1 }]), /i\/o/);
  broken = false;
  assert.throws(() => journal.append([{ n: 2 }]), /i\/o/);
  journal.close();
});

test('any entries read back as they were', (t) => {
  const folder = folderFor(t);
  fc.assert(
    fc.property(
      fc.array(
        fc.array(fc.record({ n: fc.integer(), text: fc.string() }, { noNullPrototype: true }), { maxLength: 3 }),
        { maxLength: 6 },
      ),
      (batches) => {
        fs.rmSync(folder, { recursive: true });
        fs.mkdirSync(folder);
        const { journal } = openJournal<Note>(systemFiles, folder);
        for (const batch of batches) journal.append(batch);
        journal.close();
        assert.deepEqual(reread(folder), batches.flat());
      },
    ),
    { numRuns: 30 },
  );
});
