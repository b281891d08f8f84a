// The heads, and the segments they name: each is what was signed, and follows the one before. A segment that no head
// names is judged last, when the live log has told what may be on its way.
import fs from 'node:fs';
import { systemFiles } from '../system/files.ts';
import { HEADS_FILE, parseSegmentName, SEALED_FOLDER, segmentName } from './layout.ts';
import { ZERO_HASH } from './log/batch.ts';
import { type Head, pruneDigest, readHeads } from './seal/heads.ts';
import { decodeSegment } from './seal/segment.ts';
import type { Verification, WalkedHeads } from './verification.ts';
import type { Finding, FindingCode } from './verify.ts';
import { headProblemMessage, problemMessage } from './verify-pieces.ts';

/** Follows the heads and proves every segment they name. */
export function walkHeads(
  verification: Verification,
  expectHead: { entry: number; hash: string } | undefined,
): WalkedHeads {
  const { view, find, notes, checked } = verification;
  let last: { entry: number; hash: string } | undefined;
  let open = false;
  let expected = expectHead === undefined;
  let adopted = 0;
  const missing = new Map<string, Finding>();
  const digests = new Map<string, ReturnType<typeof pruneDigest>>();
  const piece = HEADS_FILE;
  if (!fs.existsSync(view.headsPath)) {
    find({ code: 'Missing', piece, message: 'there are no heads: nobody can say which segments there should be' });
    return { head: last, open: undefined };
  }
  for (const item of readHeads(systemFiles, view.headsPath, view.keys)) {
    if (item.kind === 'Bad') {
      find({ code: 'Changed', piece, at: item.at, message: headProblemMessage(item.problem) });
      continue;
    }
    if (item.kind === 'Torn') {
      find({
        code: 'CutOff',
        piece,
        at: item.at,
        message: `the heads end within a line (${item.bytes} bytes of it are left)`,
      });
      continue;
    }
    const { head: entry } = item;
    checked.heads += 1;
    last = { entry: entry.entry, hash: item.hash };
    if (entry.entry === expectHead?.entry) {
      expected = true;
      if (item.hash !== expectHead.hash) {
        find({
          code: 'RolledBack',
          piece,
          at: item.at,
          message: `head ${entry.entry} is not the one that was noted`,
        });
      }
    }
    if (entry.kind === 'Opened') open = true;
    else if (entry.kind === 'Closed') open = false;
    else if (entry.kind === 'Damaged') {
      const message = `the heads before this were found damaged by the gateway and set aside as ${entry.file}`;
      find({ code: 'Changed', piece, at: item.at, message });
    } else if (entry.kind === 'Segment') {
      if (entry.adopted) adopted += 1;
      const digest = digests.get(entry.date) ?? pruneDigest();
      digests.set(entry.date, digest);
      digest.add(entry);
      const absent = checkSegment(verification, entry);
      if (absent !== undefined) missing.set(absent.piece, absent);
    } else if (entry.kind === 'Pruned') {
      const digest = digests.get(entry.date) ?? pruneDigest();
      if (digest.hex() !== entry.digest || digest.segments !== entry.segments) {
        find({
          code: 'Changed',
          piece,
          at: item.at,
          message: `the tombstone of ${entry.date} speaks of other segments than the heads`,
        });
      } else {
        const gone = `${SEALED_FOLDER}/${entry.date}/`;
        for (const name of missing.keys()) if (name.startsWith(gone)) missing.delete(name);
        notes.push(`${entry.segments} segments of ${entry.date} were deleted by retention (${entry.by})`);
      }
    }
  }
  for (const finding of missing.values()) find(finding);
  if (adopted > 0) notes.push(`${adopted} segments were found without their head after a crash and taken over`);
  if (!expected && expectHead !== undefined) {
    find({
      code: 'RolledBack',
      piece,
      message: `head ${expectHead.entry}, noted earlier, is not there any more`,
    });
  }
  return { head: last, open: last === undefined ? undefined : open };
}

/** Returns the finding if the segment is not there: a tombstone may still explain it. */
function checkSegment(
  { view, find, notes, checked, streams, unlisted }: Verification,
  head: Head & { kind: 'Segment' },
): Finding | undefined {
  const { stream, index } = head;
  const piece = segmentName(stream, index, head.date);
  const before = streams.get(stream);
  if (before === undefined) checked.sessions += 1;
  const say = (code: FindingCode, message: string, at?: number): void =>
    find({ code, session: stream, piece, ...(at === undefined ? {} : { at }), message });
  // A session id that came up again starts a stream of its own.
  const fresh = before === undefined || (before.final && index === 0);
  const expectedIndex = fresh ? 0 : before.index + 1;
  const expectedPrev = fresh ? ZERO_HASH : before.hash;
  const expectedFirst = fresh ? 0 : before.last + 1;
  if (before?.final === true && index !== 0) say('Foreign', 'the session had ended before this segment');
  else if (index !== expectedIndex) say('Gap', `segment ${expectedIndex} should come here, the heads name ${index}`);
  if (head.first !== expectedFirst) say('Gap', `records ${expectedFirst} to ${head.first - 1} are missing`);
  streams.set(stream, { index, hash: head.hash, last: head.last, final: head.final });
  unlisted.delete(piece);
  let bytes: Buffer;
  try {
    bytes = fs.readFileSync(`${view.folder}/${piece}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return {
      code: 'Missing',
      session: stream,
      piece,
      message: `segment ${index} with records ${head.first} to ${head.last} is missing`,
    };
  }
  const read = decodeSegment(bytes, view.keys);
  if (read.kind === 'Bad') {
    const other = read.header !== undefined && (read.header.stream !== stream || read.header.index !== index);
    say(
      read.problem === 'Length' && bytes.length < length(read) ? 'CutOff' : 'Changed',
      problemMessage(read.problem, other),
      read.at,
    );
    return undefined;
  }
  const { header } = read;
  if (header.stream !== stream || header.index !== index) {
    say('Repeated', `it is segment ${header.index} of session ${header.stream}`, 0);
  } else if (read.hash !== head.hash) {
    say('Changed', 'it is signed, but not the segment that the heads name', 0);
  } else if (header.prevHash !== expectedPrev && index === expectedIndex) {
    say('Gap', 'it does not follow the segment before', 0);
  } else if (header.first !== head.first || header.last !== head.last || header.final !== head.final) {
    say('Changed', 'its head says other things of it', 0);
  } else {
    checked.segments += 1;
    checked.records += header.last - header.first + 1;
    checked.bytes += bytes.length;
    if (header.recovered && header.final) {
      notes.push(`session ${stream} was sealed from what a dead gateway left; its last records say what is not known`);
    }
  }
  return undefined;
}

function length(read: { header: { length: number } | undefined }): number {
  return read.header === undefined ? 0 : read.header.length + 64;
}

/** A segment without a head: the one being sealed right now, or somebody else's. */
export function foreignSegment(verification: Verification, walked: WalkedHeads, name: string): void {
  const { view, find, notes, streams } = verification;
  const named = parseSegmentName(name.slice(name.lastIndexOf('/') + 1))!;
  const session = named.stream;
  const before = streams.get(session);
  const read = decodeSegment(fs.readFileSync(`${view.folder}/${name}`), view.keys);
  if (read.kind === 'Bad') {
    find({
      code: 'Foreign',
      session,
      piece: name,
      at: read.at,
      message: `no head names it; ${problemMessage(read.problem, false)}`,
    });
    return;
  }
  const { header } = read;
  const next =
    walked.open !== false &&
    header.stream === session &&
    header.index === named.index &&
    header.index === (before === undefined ? 0 : before.index + 1) &&
    header.prevHash === (before?.hash ?? ZERO_HASH) &&
    before?.final !== true &&
    covered(verification, session, header.first, header.last, header.recovered);
  if (next) notes.push(`${name} has no head yet: it is being sealed, or its writer was killed`);
  else {
    const elsewhere = header.stream !== session || header.index !== named.index;
    const what = elsewhere
      ? `it is segment ${header.index} of session ${header.stream}`
      : 'its head was cut off, or it was put here';
    find({
      code: elsewhere ? 'Repeated' : 'Foreign',
      session,
      piece: name,
      at: 0,
      message: `no head names it; ${what}`,
    });
  }
}

/** Only what the live log still holds can be on its way to a segment. */
function covered(
  { streams, ended }: Verification,
  session: string,
  first: number,
  last: number,
  recovered: boolean,
): boolean {
  const sealed = streams.get(session)?.last ?? -1;
  const inLive = ended.get(session)?.seq ?? sealed;
  return first === sealed + 1 && last <= inLive + (recovered ? 1 : 0);
}
