// Proves a record folder, offline: that every segment is what was signed, that the segments of each session follow
// one another without gap, that none of those the heads speak of is missing and that nothing else lies among them, and
// that the live log continues them. INV-07.
// Guarantees: a flipped, missing, repeated, reordered, foreign or cut-off piece is a finding that names it. Does not:
// notice a whole folder rolled back to an earlier state of itself, unless told a head noted elsewhere; nor what was
// written to the live log after its last mark (about a second) and then cut off at a batch's end.
import fs from 'node:fs';
import { systemFiles } from '../system/files.ts';
import {
  HEADS_FILE,
  LIVE_FOLDER,
  liveFileName,
  MARK_FILE,
  parseSegmentName,
  SEALED_FOLDER,
  segmentName,
} from './layout.ts';
import { OPEN_BYTES, payloadLines, ZERO_HASH } from './log/batch.ts';
import { readLiveFile } from './log/live-reader.ts';
import { MARK_FORMAT, type Mark } from './log/mark.ts';
import { type Head, pruneDigest, readHeads } from './seal/heads.ts';
import { decodeSegment, parseRecord } from './seal/segment.ts';
import { decodeSignedLine } from './signed-line.ts';
import { type StoreView, type ViewOptions, viewRecords } from './store-view.ts';
import { checkKeys, headProblemMessage, listSealed, problemMessage, strangers } from './verify-pieces.ts';

export type FindingCode =
  | 'Changed' // bytes are not what was signed or chained
  | 'Missing'
  | 'Foreign' // a piece nobody signed for
  | 'Repeated' // a piece of another place
  | 'Gap' // records between two pieces are missing
  | 'CutOff'
  | 'Lost' // a dead process took records with it; recovery says so
  | 'Keys'
  | 'RolledBack';

export interface Finding {
  code: FindingCode;
  /** Session id, where the piece belongs to one. */
  session?: string;
  /** Path under the folder. */
  piece: string;
  /** First byte concerned, where it is known. */
  at?: number;
  message: string;
}

export interface VerifyReport {
  findings: readonly Finding[];
  /** Findings beyond the limit that were only counted. */
  more: number;
  /** What a reader should know and is no fault. */
  notes: readonly string[];
  checked: { heads: number; segments: number; sessions: number; records: number; bytes: number; liveRecords: number };
  /** Last head: note it elsewhere, hand it in next time. */
  head: { entry: number; hash: string } | undefined;
  /** Key ids of the roots relied on, and whether the caller brought them. */
  roots: readonly string[];
  pinned: boolean;
}

export interface VerifyOptions extends ViewOptions {
  /** A head noted earlier: the heads must still contain it. */
  expectHead?: { entry: number; hash: string };
  /** Findings kept; default 1000. */
  most?: number;
}

interface StreamState {
  index: number;
  hash: string;
  last: number;
  final: boolean;
}

/** Throws NotARecordFolder or Node's error if the folder can not be read at all. */
export function verifyRecords(folder: string, options: VerifyOptions = {}): VerifyReport {
  const marked = openMarked(folder, options);
  using view = marked.view;
  const most = options.most ?? 1000;
  const findings: Finding[] = [];
  let more = 0;
  const notes: string[] = [];
  const checked = { heads: 0, segments: 0, sessions: 0, records: 0, bytes: 0, liveRecords: 0 };
  const find = (finding: Finding): void => {
    if (findings.length < most) findings.push(finding);
    else more += 1;
  };

  checkKeys(view, find, notes);
  // Listed before the heads are read: what is sealed meanwhile has its head, and is looked for by name.
  const unlisted = listSealed(view, find);
  const streams = new Map<string, StreamState>();
  const ended = new Map<string, { seq: number }>();
  const times = { first: '', last: '' };
  const walked = walkHeads();
  walkLive();
  for (const name of unlisted) foreignSegment(name);
  strangers(view, find, notes);
  const { head } = walked;
  return { findings, more, notes, checked, head, roots: view.roots.map(({ keyId }) => keyId), pinned: view.pinned };

  function walkHeads() {
    let last: { entry: number; hash: string } | undefined;
    let open = false;
    let expected = options.expectHead === undefined;
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
      if (entry.entry === options.expectHead?.entry) {
        expected = true;
        if (item.hash !== options.expectHead.hash) {
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
        const absent = checkSegment(entry);
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
    if (!expected) {
      find({
        code: 'RolledBack',
        piece,
        message: `head ${options.expectHead!.entry}, noted earlier, is not there any more`,
      });
    }
    return { head: last, open: last === undefined ? undefined : open };
  }

  /** Returns the finding if the segment is not there: a tombstone may still explain it. */
  function checkSegment(head: Head & { kind: 'Segment' }): Finding | undefined {
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
        notes.push(
          `session ${stream} was sealed from what a dead gateway left; its last records say what is not known`,
        );
      }
    }
    return undefined;
  }

  function length(read: { header: { length: number } | undefined }): number {
    return read.header === undefined ? 0 : read.header.length + 64;
  }

  function walkLive() {
    let prev: { number: number; end: number; hash: string } | undefined;
    let seenMark = marked.mark === undefined;
    for (const [place, file] of view.live.entries()) {
      const piece = file.name;
      const next = place + 1 < view.live.length ? peekAfter(view.live[place + 1]!.fd) : undefined;
      const until = next !== undefined && next.file === file.number ? next.length : undefined;
      const size = fs.fstatSync(file.fd).size;
      if (until !== undefined && until > size) {
        find({ code: 'CutOff', piece, at: size, message: `${until - size} bytes at its end are missing` });
      }
      let end = 0;
      let chain = prev?.hash ?? '';
      for (const item of readLiveFile(file.fd, until === undefined ? undefined : Math.min(until, size))) {
        if (item.kind === 'Header') {
          const { header } = item;
          end = item.end;
          if (header.file !== file.number)
            find({ code: 'Repeated', piece, at: 0, message: `it is live file ${header.file}` });
          if (prev !== undefined && header.after?.file !== prev.number) {
            find({
              code: 'Missing',
              piece,
              at: 0,
              message: `the live file before it, ${header.after?.file ?? 'none'}, is missing`,
            });
          } else if (prev !== undefined && header.prev !== prev.hash) {
            find({ code: 'Gap', piece, at: 0, message: 'it does not continue the live file before' });
          }
          chain = header.prev;
        } else if (item.kind === 'Batch') {
          end = item.end;
          chain = item.batch.hash;
          if (marked.mark !== undefined && item.batch.index === marked.mark.index && file.number === marked.mark.file) {
            seenMark = true;
            if (chain !== marked.mark.hash || end !== marked.mark.length) {
              find({ code: 'Changed', piece, at: item.at, message: 'its mark speaks of another batch' });
            }
          }
          for (const line of payloadLines(item.bytes, item.batch))
            liveLine(piece, item.at + OPEN_BYTES + line.offset - item.batch.payload, item.bytes, line);
        } else if (item.kind === 'Bad') {
          find({
            code: 'Changed',
            piece,
            at: item.at,
            message: `the batch here is damaged (${item.reason}); what follows it is not counted`,
          });
        } else {
          const growing = place === view.live.length - 1;
          const behind = marked.mark !== undefined && marked.mark.file === file.number && item.at < marked.mark.length;
          if (!growing || behind) find({ code: 'CutOff', piece, at: item.at, message: 'it ends within a batch' });
          else
            notes.push(
              `${piece} ends within a batch at byte ${item.at}: it is being written, or its writer was killed`,
            );
        }
      }
      prev = { number: file.number, end, hash: chain };
    }
    const { mark } = marked;
    const piece = mark === undefined ? LIVE_FOLDER : liveFileName(mark.file);
    if (mark !== undefined && !seenMark) {
      find({
        code: 'CutOff',
        piece,
        at: Math.min(mark.length, prev?.end ?? 0),
        message: `the live log ends before batch ${mark.index}, which its mark of ${mark.at} names`,
      });
    }
    const oldest = view.live[0]?.number;
    if (mark !== undefined && oldest !== undefined && oldest > mark.oldest) {
      find({ code: 'Missing', piece: LIVE_FOLDER, message: `live files ${mark.oldest} to ${oldest - 1} are missing` });
    }
    if (marked.problem !== undefined) find({ code: 'Changed', piece: MARK_FILE, at: 0, message: marked.problem });
    if (walked.open === true && view.live.length === 0) {
      find({
        code: 'Missing',
        piece: LIVE_FOLDER,
        message: 'the gateway did not close its records, and the live log is missing',
      });
    }
    // A process writes one record before the head that says it began, and its first mark a second later.
    if (walked.open !== true && (checked.liveRecords > 1 || mark !== undefined)) {
      find({
        code: 'CutOff',
        piece: HEADS_FILE,
        message: 'a gateway wrote to the live log, and the heads do not say that it began',
      });
    }
    if (marked.mark === undefined && Date.parse(times.last) - Date.parse(times.first) > 10_000) {
      find({
        code: 'Missing',
        piece: MARK_FILE,
        message: 'the live log has gone on for longer than a mark takes, and there is none',
      });
    }
  }

  function liveLine(piece: string, at: number, bytes: Buffer, line: { offset: number; length: number }): void {
    const record = parseRecord(bytes.toString('utf8', line.offset, line.offset + line.length - 1));
    if (record === undefined) {
      find({ code: 'Changed', piece, at, message: 'a line is no record' });
      return;
    }
    times.first ||= record.ts;
    times.last = record.ts;
    const sealed = streams.get(record.stream);
    if (sealed !== undefined && record.seq <= sealed.last) return;
    const before = ended.get(record.stream)?.seq ?? sealed?.last ?? -1;
    if (record.seq !== before + 1) {
      const message =
        record.seq > before
          ? `records ${before + 1} to ${record.seq - 1} are missing`
          : `record ${record.seq} comes twice`;
      find({ code: record.seq > before ? 'Gap' : 'Repeated', session: record.stream, piece, at, message });
    }
    ended.set(record.stream, { seq: record.seq });
    checked.liveRecords += 1;
  }

  /** A segment without a head: the one being sealed right now, or somebody else's. */
  function foreignSegment(name: string): void {
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
      covered(session, header.first, header.last, header.recovered);
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
  function covered(session: string, first: number, last: number, recovered: boolean): boolean {
    const sealed = streams.get(session)?.last ?? -1;
    const inLive = ended.get(session)?.seq ?? sealed;
    return first === sealed + 1 && last <= inLive + (recovered ? 1 : 0);
  }
}

function peekAfter(fd: number): { file: number; length: number } | undefined {
  for (const item of readLiveFile(fd)) return item.kind === 'Header' ? (item.header.after ?? undefined) : undefined;
  return undefined;
}

/**
 * Opens the folder together with a mark that agrees with it: a live file that was just sealed may be gone before the
 * mark, renewed each second, says so. Waits for at most two seconds.
 */
function openMarked(
  folder: string,
  options: VerifyOptions,
): { view: StoreView; mark: Mark | undefined; problem?: string } {
  const sleep = new Int32Array(new SharedArrayBuffer(4));
  for (let attempt = 0; ; attempt += 1) {
    const bytes = readIfThere(`${folder}/${MARK_FILE}`);
    const view = viewRecords(folder, options);
    if (bytes === undefined) return { view, mark: undefined };
    const end = bytes.length - 1;
    const line = bytes[end] === 0x0a ? decodeSignedLine(bytes.subarray(0, end), MARK_FORMAT, view.keys) : undefined;
    if (line?.kind !== 'Good') return { view, mark: undefined, problem: 'the mark of the live log is damaged' };
    const mark = line.body as Mark;
    const oldest = view.live[0]?.number;
    if ((oldest !== undefined && oldest <= mark.oldest) || attempt === 20) return { view, mark };
    view[Symbol.dispose]();
    Atomics.wait(sleep, 0, 0, 100);
  }
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return fs.readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
