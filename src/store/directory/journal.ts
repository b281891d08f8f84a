// Entries on disk that survive a kill at any instant: a snapshot, replaced whole, and a journal of what came after it.
//
// Guarantees: an entry whose `append` returned is read again after any crash; a crash between leaves every earlier entry
// and nothing half; each line's hash covers all lines before it, so that a damaged, missing or reordered one is told
// from a write that a crash cut short. Damage before the last entry is an error and never a shorter history:
// that could bring a revoked grant back. Does not protect against somebody who may write the folder: what must be proven is sealed by its maker.
//
//   store.snapshot       `sallyport-state 1 GENERATION SHA256\n` and the entries as JSON lines
//   store.journal.N      a line `HASH JSON\n` for each entry after snapshot N; HASH is the first 32 hex digits of
//                        SHA-256 over the previous HASH (of the first: the snapshot's SHA256), a space and the JSON
import { createHash } from 'node:crypto';
import { type Files, writeFileAtomically } from '../../system/files.ts';

export interface Journal<Entry> {
  /** Writes and syncs; throws (with the file as it was before) where that fails. */
  append(entries: readonly Entry[]): void;
  /** Whether the journal has grown so much that a snapshot would be shorter. */
  readonly wantsCompaction: boolean;
  /** Replaces all entries by these, which must mean the same. */
  compact(entries: readonly Entry[]): void;
  close(): void;
}

/** The folder holds what no crash leaves behind. */
export class StateDamaged extends Error {
  override name = 'StateDamaged';
}

const COMPACT_ABOVE = 4 * 1024 * 1024;
const SNAPSHOT = 'store.snapshot';

function linkOf(previous: string, json: string): string {
  return createHash('sha256').update(`${previous} ${json}`).digest('hex').slice(0, 32);
}

export function openJournal<Entry>(files: Files, folder: string): { journal: Journal<Entry>; entries: Entry[] } {
  const snapshotPath = `${folder}/${SNAPSHOT}`;
  const snapshot = readSnapshot<Entry>(files, snapshotPath);
  let generation = snapshot.generation;
  const journalPath = (): string => `${folder}/store.journal.${generation}`;
  const read = readJournal<Entry>(files, journalPath(), snapshot.hash);
  const entries = [...snapshot.entries, ...read.entries];
  for (const name of files.readdirSync(folder)) {
    const leftover = /^store\.journal\.\d+$/.test(name) && name !== `store.journal.${generation}`;
    if (leftover || /^store\.snapshot\.\d+\.tmp$/.test(name)) files.unlinkSync(`${folder}/${name}`);
  }
  let last = read.last;
  let length = read.length;
  let fd = files.openSync(journalPath(), 'a', 0o600);
  if (read.torn) {
    files.ftruncateSync(fd, length);
    files.fsyncSync(fd);
  }
  syncFolder(files, folder);
  let damaged: unknown;

  const journal: Journal<Entry> = {
    append(added) {
      if (damaged !== undefined) throw damaged;
      let link = last;
      let text = '';
      for (const entry of added) {
        const json = JSON.stringify(entry);
        link = linkOf(link, json);
        text += `${link} ${json}\n`;
      }
      const bytes = Buffer.from(text);
      try {
        for (let offset = 0; offset < bytes.length; ) {
          offset += files.writeSync(fd, bytes, offset, bytes.length - offset);
        }
        files.fsyncSync(fd);
      } catch (error) {
        // What was written in part must go before anything else is written after it.
        try {
          files.ftruncateSync(fd, length);
          files.fsyncSync(fd);
        } catch {
          damaged = error;
        }
        throw error;
      }
      length += bytes.length;
      last = link;
    },
    get wantsCompaction() {
      return length > COMPACT_ABOVE;
    },
    compact(all) {
      const body = all.map((entry) => `${JSON.stringify(entry)}\n`).join('');
      const bodyHash = createHash('sha256').update(body).digest('hex');
      const next = generation + 1;
      writeFileAtomically(files, snapshotPath, Buffer.from(`sallyport-state 1 ${next} ${bodyHash}\n${body}`));
      // From here on the old journal is history: what follows must go to the new one or nowhere.
      const old = journalPath();
      files.closeSync(fd);
      generation = next;
      last = bodyHash;
      length = 0;
      try {
        fd = files.openSync(journalPath(), 'a', 0o600);
        syncFolder(files, folder);
      } catch (error) {
        damaged = error;
        throw error;
      }
      files.unlinkSync(old);
    },
    close() {
      files.closeSync(fd);
    },
  };
  return { journal, entries };
}

function syncFolder(files: Files, folder: string): void {
  const fd = files.openSync(folder, 'r');
  try {
    files.fsyncSync(fd);
  } finally {
    files.closeSync(fd);
  }
}

function readSnapshot<Entry>(files: Files, path: string): { generation: number; hash: string; entries: Entry[] } {
  if (!files.existsSync(path)) return { generation: 0, hash: 'sallyport-state', entries: [] };
  const text = files.readFileSync(path).toString('utf8');
  const end = text.indexOf('\n');
  const head = /^sallyport-state 1 (\d{1,15}) ([0-9a-f]{64})$/.exec(text.slice(0, Math.max(0, end)));
  const body = text.slice(end + 1);
  if (head === null || createHash('sha256').update(body).digest('hex') !== head[2]) {
    throw damage(path, 'its checksum is wrong');
  }
  const entries = body
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Entry);
  return { generation: Number(head[1]), hash: head[2]!, entries };
}

function readJournal<Entry>(
  files: Files,
  path: string,
  start: string,
): { entries: Entry[]; last: string; length: number; torn: boolean } {
  const entries: Entry[] = [];
  let last = start;
  let length = 0;
  if (!files.existsSync(path)) return { entries, last, length, torn: false };
  const bytes = files.readFileSync(path);
  while (length < bytes.length) {
    const end = bytes.indexOf(10, length);
    const line = bytes.subarray(length, end === -1 ? bytes.length : end).toString('utf8');
    const json = line.slice(33);
    if (end === -1 || line[32] !== ' ' || line.slice(0, 32) !== linkOf(last, json)) {
      // A crash cuts the end of the last write short, or leaves zeros where it should be. Nothing else does.
      const rest = bytes.subarray(length);
      const cut = end === -1 || end === bytes.length - 1 || rest.every((byte) => byte === 0);
      if (!cut) throw damage(path, `the entry at byte ${length} is damaged`);
      return { entries, last, length, torn: true };
    }
    entries.push(JSON.parse(json) as Entry);
    last = line.slice(0, 32);
    length = end + 1;
  }
  return { entries, last, length, torn: false };
}

function damage(path: string, what: string): StateDamaged {
  return new StateDamaged(
    `${path}: ${what}. Restore the folder from a copy, or move it away: grants and approvals must then be asked for again.`,
  );
}
