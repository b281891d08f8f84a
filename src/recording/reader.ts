// Reads records back, one at a time and in bounded memory: sealed segments first, then what the live log has beyond
// them. Only pieces whose signature is good are read; what is passed over is told as a Problem, never dropped in silence.
// Guarantees: no record comes twice, and none is missed because it was sealed meanwhile. Does not: prove completeness;
// `verify` does.
import fs from 'node:fs';
import type { RecordEnvelope } from './envelope.ts';
import { CONTROL_STREAM, parseSegmentName, SEALED_FOLDER } from './layout.ts';
import { payloadLines } from './log/batch.ts';
import { linePrefix } from './log/line.ts';
import { readLiveFile } from './log/live-reader.ts';
import { decodeSegment, parseRecord, readSegmentHeader, recordsOf } from './seal/segment.ts';
import { listNames, type StoreView, sealedDates } from './store-view.ts';

export type ReadItem =
  /** `sealed` false: from the live log, not signed yet. */
  | { kind: 'Record'; record: RecordEnvelope; piece: string; sealed: boolean }
  | { kind: 'Problem'; piece: string; message: string };

export interface ReadOptions {
  /** RFC 3339 UTC with milliseconds: only records from then on. */
  since?: string;
  /** Only this stream. */
  stream?: string;
  /** With `stream`: only records from this `seq` on. Segments before it are passed over, unread but for their headers. */
  from?: number;
  /** Only records whose JSON holds this text; what does not is not even parsed. */
  containing?: string;
}

/**
 * All records, a stream's own in order; streams of a day come one after the other, what is live comes last.
 * `since` is compared with each record's own time.
 */
export function* readRecords(view: StoreView, options: ReadOptions = {}): Generator<ReadItem> {
  const { since, stream } = options;
  const needle = options.containing;
  const first = stream === undefined ? 0 : (options.from ?? 0);
  const wanted = (record: RecordEnvelope): boolean =>
    record.seq >= first && (since === undefined || record.ts >= since);
  // A segment lies under the date of its first record, and may go on into the next days.
  const firstDate = since === undefined ? '' : new Date(Date.parse(since) - 2 * 86_400_000).toISOString().slice(0, 10);
  const liveStreams = stream === undefined ? streamsInLive(view) : new Set([stream]);
  const sealedTo = new Map<string, number>();
  for (const date of sealedDates(view.folder)) {
    const folder = `${SEALED_FOLDER}/${date}`;
    if (date < firstDate) {
      // Not read, but how far a stream is sealed has to be known if the live log goes on with it.
      for (const [name, named] of segmentsIn(view, folder)) {
        if (liveStreams.has(named.stream)) noteSealed(`${view.folder}/${folder}/${name}`, sealedTo);
      }
      continue;
    }
    for (const [name, named] of segmentsIn(view, folder)) {
      if (stream !== undefined && named.stream !== stream) continue;
      const piece = `${folder}/${name}`;
      if (first > 0 && (lastOf(`${view.folder}/${piece}`)?.last ?? first) < first) continue;
      const read = readSegment(view, piece, named);
      if (read.kind === 'Problem') {
        yield read;
        continue;
      }
      if (liveStreams.has(named.stream)) sealedTo.set(named.stream, read.last);
      for (const record of needle === undefined ? recordsOf(read.lines) : recordsWith(read.lines, needle)) {
        if (record === undefined) yield { kind: 'Problem', piece, message: 'a line is no record' };
        else if (wanted(record)) yield { kind: 'Record', record, piece, sealed: true };
      }
    }
  }
  for (const item of readLive(view, stream)) {
    if (item.kind === 'Problem') yield item;
    else if (needle !== undefined && !JSON.stringify(item.record).includes(needle)) continue;
    else if (item.record.seq > (sealedTo.get(item.record.stream) ?? -1) && wanted(item.record)) yield item;
  }
}

function* recordsWith(lines: Buffer, needle: string): Generator<RecordEnvelope | undefined> {
  for (let at = lines.indexOf(needle); at >= 0; ) {
    const end = lines.indexOf(0x0a, at);
    yield parseRecord(lines.toString('utf8', lines.lastIndexOf(0x0a, at) + 1, end));
    at = lines.indexOf(needle, end);
  }
}

/** One session from its start or `from` on, whatever the dates. Yields nothing if there is none of that name. */
export function readSession(
  view: StoreView,
  session: string,
  options: Pick<ReadOptions, 'from' | 'containing'> = {},
): Generator<ReadItem> {
  return readRecords(view, { ...options, stream: session });
}

/** The `start` record of a session whose later segments were met first. */
export function findStart(view: StoreView, session: string, before: string): RecordEnvelope | undefined {
  for (const date of sealedDates(view.folder).reverse()) {
    if (date > before) continue;
    const piece = `${SEALED_FOLDER}/${date}/${session}.000000.seg`;
    if (!fs.existsSync(`${view.folder}/${piece}`)) continue;
    const read = readSegment(view, piece, { stream: session, index: 0 });
    if (read.kind === 'Problem') return undefined;
    for (const record of recordsOf(read.lines)) return record?.kind === 'start' ? record : undefined;
  }
  return undefined;
}

function segmentsIn(view: StoreView, folder: string): [string, { stream: string; index: number }][] {
  const segments: [string, { stream: string; index: number }][] = [];
  for (const name of listNames(`${view.folder}/${folder}`)) {
    const named = parseSegmentName(name);
    if (named !== undefined) segments.push([name, named]);
  }
  return segments.sort(([, a], [, b]) => (a.stream === b.stream ? a.index - b.index : a.stream < b.stream ? -1 : 1));
}

function readSegment(
  view: StoreView,
  piece: string,
  named: { stream: string; index: number },
): { kind: 'Read'; lines: Buffer; last: number } | { kind: 'Problem'; piece: string; message: string } {
  let bytes: Buffer;
  try {
    bytes = fs.readFileSync(`${view.folder}/${piece}`);
  } catch (error) {
    return { kind: 'Problem', piece, message: `it can not be read: ${(error as Error).message}` };
  }
  const read = decodeSegment(bytes, view.keys);
  if (read.kind === 'Bad') return { kind: 'Problem', piece, message: `it can not be relied on (${read.problem})` };
  if (read.header.stream !== named.stream || read.header.index !== named.index) {
    return { kind: 'Problem', piece, message: `it is segment ${read.header.index} of ${read.header.stream}` };
  }
  return { kind: 'Read', lines: read.lines, last: read.header.last };
}

/** By its header alone: this only keeps records from being shown twice. */
function noteSealed(path: string, sealedTo: Map<string, number>): void {
  const header = lastOf(path);
  if (header !== undefined) sealedTo.set(header.stream, header.last);
}

function lastOf(path: string): { stream: string; last: number } | undefined {
  const fd = fs.openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(2048);
    const length = fs.readSync(fd, bytes, 0, bytes.length, 0);
    return readSegmentHeader(bytes.subarray(0, length))?.header;
  } finally {
    fs.closeSync(fd);
  }
}

function streamsInLive(view: StoreView): ReadonlySet<string> {
  const streams = new Set<string>([CONTROL_STREAM]);
  for (const item of readLive(view)) if (item.kind === 'Record') streams.add(item.record.stream);
  return streams;
}

/** `stream`: lines of others are passed over by how they begin, and not parsed. */
function* readLive(view: StoreView, stream?: string): Generator<ReadItem> {
  const prefix = stream === undefined ? undefined : Buffer.from(linePrefix(stream));
  for (const file of view.live) {
    for (const item of readLiveFile(file.fd)) {
      if (item.kind === 'Bad') yield { kind: 'Problem', piece: file.name, message: `it is damaged at byte ${item.at}` };
      if (item.kind !== 'Batch') continue;
      for (const { offset, length } of payloadLines(item.bytes, item.batch)) {
        if (prefix !== undefined && item.bytes.compare(prefix, 0, prefix.length, offset, offset + prefix.length) !== 0)
          continue;
        const record = parseRecord(item.bytes.toString('utf8', offset, offset + length - 1));
        if (record === undefined) yield { kind: 'Problem', piece: file.name, message: 'a line is no record' };
        else yield { kind: 'Record', record, piece: file.name, sealed: false };
      }
    }
  }
}
