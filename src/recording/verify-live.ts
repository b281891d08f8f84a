// The live log: its files and batches follow one another up to the mark, and each session's records continue its segments.
import fs from 'node:fs';
import { HEADS_FILE, LIVE_FOLDER, liveFileName, MARK_FILE } from './layout.ts';
import { OPEN_BYTES, payloadLines } from './log/batch.ts';
import { readLiveFile } from './log/live-reader.ts';
import { parseRecord } from './seal/segment.ts';
import type { Verification, WalkedHeads } from './verification.ts';

/** Follows the live log from where the segments end. */
export function walkLive(verification: Verification, walked: WalkedHeads): void {
  const { view, marked, find, notes, checked } = verification;
  /** Of the first and the last record. */
  const times = { first: '', last: '' };
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
          liveLine(
            verification,
            times,
            piece,
            item.at + OPEN_BYTES + line.offset - item.batch.payload,
            item.bytes,
            line,
          );
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
          notes.push(`${piece} ends within a batch at byte ${item.at}: it is being written, or its writer was killed`);
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

function liveLine(
  { find, checked, streams, ended }: Verification,
  times: { first: string; last: string },
  piece: string,
  at: number,
  bytes: Buffer,
  line: { offset: number; length: number },
): void {
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

function peekAfter(fd: number): { file: number; length: number } | undefined {
  for (const item of readLiveFile(fd)) return item.kind === 'Header' ? (item.header.after ?? undefined) : undefined;
  return undefined;
}
