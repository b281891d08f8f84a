// Deletes whole days of sealed segments once they are old enough. A signed tombstone in the heads comes first, so that
// `verify` can tell what was deleted by retention from what somebody took away: it commits to every head of that day.
// May be killed at any point: a day with a tombstone is deleted to its end by the next run.
import fs from 'node:fs';
import type { Files } from '../system/files.ts';
import type { Keyring } from './keyring.ts';
import { isDateFolder, SEALED_FOLDER } from './layout.ts';
import { type HeadsWriter, pruneDigest, readHeads } from './seal/heads.ts';

export interface PrunedDay {
  date: string;
  segments: number;
}

/**
 * Deletes the days that end before `olderThan` (RFC 3339 date). `by`: who or what asked, for the tombstone. Rejects
 * with Node's error; days before the failing one are done.
 */
export async function pruneDays(
  options: { files: Files; folder: string; headsPath: string; heads: HeadsWriter; keys: Keyring },
  olderThan: string,
  by: string,
): Promise<PrunedDay[]> {
  const { files, folder, headsPath, heads, keys } = options;
  const days = files
    .readdirSync(`${folder}/${SEALED_FOLDER}`)
    .filter((name) => isDateFolder(name) && name < olderThan)
    .sort();
  if (days.length === 0) return [];
  const digests = new Map(days.map((day) => [day, pruneDigest()]));
  const buried = new Map<string, string>();
  for (const item of readHeads(files, headsPath, keys)) {
    if (item.kind !== 'Head') continue;
    const { head } = item;
    if (head.kind === 'Segment') digests.get(head.date)?.add(head);
    else if (head.kind === 'Pruned') buried.set(head.date, head.digest);
  }
  const pruned: PrunedDay[] = [];
  for (const [date, digest] of digests) {
    const names = files.readdirSync(`${folder}/${SEALED_FOLDER}/${date}`);
    if (digest.segments > 0 && buried.get(date) !== digest.hex()) {
      await heads.append({ kind: 'Pruned', date, segments: digest.segments, digest: digest.hex(), by });
    }
    // What no head speaks of is not ours to delete: `verify` is to find it.
    const own = names.filter((name) => name.endsWith('.seg'));
    for (const name of own) files.unlinkSync(`${folder}/${SEALED_FOLDER}/${date}/${name}`);
    if (own.length === names.length) removeIfEmpty(`${folder}/${SEALED_FOLDER}/${date}`);
    pruned.push({ date, segments: own.length });
  }
  return pruned;
}

function removeIfEmpty(path: string): void {
  try {
    fs.rmdirSync(path);
  } catch {
    // An empty folder harms nobody.
  }
}
