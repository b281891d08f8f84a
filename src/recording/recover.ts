// What a process does with the records that a dead one left: seals every whole record of the live log that is not
// sealed yet, ends the sessions that were cut short, and says per session what is not known.
// Guarantees: may itself be killed at any point and run again; nothing is lost, nothing appears twice. A record counts
// if its batch is whole. Does not: repair. What is damaged in the middle stays visible as a gap to `verify`.
import { createHash } from 'node:crypto';
import type { TrustedKey } from '../policy/bundle-signing.ts';
import type { Files } from '../system/files.ts';
import { RECORD_VERSION, type RecordEnvelope } from './envelope.ts';
import type { Keyring } from './keyring.ts';
import { ringOf, shareKeys } from './keys-file.ts';
import {
  CONTROL_STREAM,
  HEADS_FILE,
  isDateFolder,
  isStreamName,
  LIVE_FOLDER,
  liveFileName,
  liveFileNumber,
  MARK_FILE,
  SEALED_FOLDER,
} from './layout.ts';
import { decodeLiveHeader, payloadLines, readBatch, ZERO_HASH } from './log/batch.ts';
import {
  FIRST_POSITION,
  type HeadsPosition,
  type HeadsWriter,
  headsTail,
  openHeads,
  readHeads,
  syncFolder,
} from './seal/heads.ts';
import { createSealer, type Sealable } from './seal/sealer.ts';
import { parseRecord } from './seal/segment.ts';
import type { RecordSigner } from './signer.ts';

export interface RecoveredSession {
  stream: string;
  /** Last record that the dead process wrote; -1 if only its head is left. */
  lastSeq: number;
  /** When that was, RFC 3339. */
  lastTs: string | undefined;
  /** Whether its end had to be written for it. */
  cutShort: boolean;
  /** Commands among the unsealed records that have no result: whether they took effect is not known. */
  commandsWithoutResult: readonly number[];
}

export interface Damage {
  piece: string;
  at: number;
  message: string;
}

export interface Recovery {
  sessions: readonly RecoveredSession[];
  damage: readonly Damage[];
  heads: HeadsWriter;
  keys: Keyring;
  /** Number for the next live file. */
  nextFile: number;
  /** How far the control stream is sealed. */
  control: { nextSeq: number; index: number; prevHash: string };
}

interface LeftStream extends Sealable {
  nextSeq: number;
  lastTs: string | undefined;
  firstTs: string | undefined;
  ended: boolean;
  /** Nothing of it is known to the heads, or its last run is sealed to its end. */
  complete: boolean;
  open: Set<number>;
  lastSeq: number;
}

export interface RecoverOptions {
  files: Files;
  folder: string;
  headsPath: string;
  signer: RecordSigner;
  now: () => number;
  segmentBytes: number;
  /** Roots beside the signer's own, for keys of earlier controllers. */
  trusted: readonly TrustedKey[];
  /** How much of a long heads file is looked at first, bytes. */
  headsWindow?: number;
}

/** Some 10,000 heads; reading and checking them takes about a second. */
const HEADS_WINDOW = 4 * 1024 * 1024;

export async function recover(options: RecoverOptions): Promise<Recovery> {
  const { files, folder, signer, now } = options;
  for (const name of [LIVE_FOLDER, SEALED_FOLDER])
    files.mkdirSync(`${folder}/${name}`, { recursive: true, mode: 0o700 });
  const keys = ringOf(signer, shareKeys(files, folder, signer), [signer.root, ...options.trusted]);
  const damage: Damage[] = [];

  const liveFiles = files
    .readdirSync(`${folder}/${LIVE_FOLDER}`)
    .map(liveFileNumber)
    .filter((number) => number !== undefined)
    .sort((a, b) => a - b);
  const present = new Set<string>();
  for (const { record } of leftRecords(files, folder, liveFiles, [])) present.add(record.stream);

  const streams = new Map<string, LeftStream>();
  const { position, live } = gatherHeads(options, keys, { streams: present, files: liveFiles }, streams, damage);
  const heads = openHeads(files, options.headsPath, signer, now, position.position);
  if (position.damaged !== undefined) await heads.append({ kind: 'Damaged', ...position.damaged });

  for (const { record, file, offset, length } of leftRecords(files, folder, liveFiles, damage)) {
    if (!isStreamName(record.stream)) continue;
    const stream = streams.get(record.stream) ?? newStream(record.stream);
    streams.set(record.stream, stream);
    noteRecord(stream, record, file, offset, length);
  }

  const sealer = createSealer({
    files,
    folder,
    signer,
    heads,
    now,
    segmentBytes: options.segmentBytes,
    onSealed: () => {},
  });
  const dates = files.readdirSync(`${folder}/${SEALED_FOLDER}`).filter(isDateFolder);
  const sessions: RecoveredSession[] = [];
  for (const stream of streams.values()) {
    if (!stream.complete) {
      const from = stream.firstTs?.slice(0, 10) ?? '';
      const adoption = await sealer.adopt(
        stream,
        dates.filter((date) => date >= from),
        keys,
      );
      if (adoption.kind === 'SetAside')
        damage.push({ piece: adoption.path, at: 0, message: 'a foreign file lay where a segment belongs' });
      if (adoption.kind === 'Adopted') {
        stream.nextSeq = Math.max(stream.nextSeq, adoption.last + 1);
        stream.complete = adoption.final;
      }
    }
    if (stream.extents.length === 0 && stream.complete) continue;
    const control = stream.id === CONTROL_STREAM;
    if (control && stream.extents.length === 0) continue;
    const cutShort = !control && !stream.ended;
    const session: RecoveredSession = {
      stream: stream.id,
      lastSeq: stream.lastSeq,
      lastTs: stream.lastTs,
      cutShort,
      commandsWithoutResult: [...stream.open],
    };
    const extra = cutShort ? { lines: lostEnd(stream, session, now()), count: 1 } : undefined;
    for (;;) {
      const request = { final: !control, recovered: true, ...(extra === undefined ? {} : { extra }) };
      if ((await sealer.seal(stream, request)).done) break;
    }
    if (!control) sessions.push(session);
  }

  const control = streams.get(CONTROL_STREAM);
  for (const number of liveFiles) files.unlinkSync(`${folder}/${liveFileName(number)}`);
  if (files.existsSync(`${folder}/${MARK_FILE}`)) files.unlinkSync(`${folder}/${MARK_FILE}`);
  syncFolder(files, `${folder}/${LIVE_FOLDER}`);
  return {
    sessions,
    damage,
    heads,
    keys,
    nextFile: Math.max(live, ...liveFiles) + 1,
    control: { nextSeq: control?.nextSeq ?? 0, index: control?.index ?? 0, prevHash: control?.prevHash ?? ZERO_HASH },
  };
}

function newStream(id: string): LeftStream {
  return {
    id,
    index: 0,
    prevHash: ZERO_HASH,
    extents: [],
    unsealedBytes: 0,
    headless: undefined,
    nextSeq: 0,
    lastTs: undefined,
    firstTs: undefined,
    ended: false,
    complete: false,
    open: new Set(),
    lastSeq: -1,
  };
}

function noteRecord(stream: LeftStream, record: RecordEnvelope, file: number, offset: number, length: number): void {
  // Sealed already, and its live file only not deleted yet.
  if (record.seq < stream.nextSeq || stream.complete) return;
  stream.extents.push({ file, offset, length, seq: record.seq, count: 1 });
  stream.unsealedBytes += length;
  stream.firstTs ??= record.ts;
  stream.nextSeq = record.seq + 1;
  stream.lastSeq = record.seq;
  stream.lastTs = record.ts;
  const id = (record.body as { id?: unknown } | null)?.id;
  if (record.kind === 'end') stream.ended = true;
  else if (
    record.kind === 'command' &&
    typeof id === 'number' &&
    (record.body as { decision?: unknown }).decision !== 'Deny'
  ) {
    stream.open.add(id);
  } else if (record.kind === 'result' && typeof id === 'number') stream.open.delete(id);
}

/** The `end` that the dead process could not write. `by: 'recovery'` says who did. */
function lostEnd(stream: LeftStream, session: RecoveredSession, nowMs: number): Buffer {
  const unknown = session.commandsWithoutResult;
  const message =
    `The gateway ended before this session did. ` +
    (session.lastTs === undefined ? 'Its last record is sealed. ' : `Its last record is of ${session.lastTs}. `) +
    `What happened after that is not known` +
    (unknown.length > 0
      ? `, nor whether command ${unknown.slice(0, 20).join(', ')}${unknown.length > 20 ? ' …' : ''} took effect.`
      : '.');
  const record: RecordEnvelope = {
    v: RECORD_VERSION,
    stream: stream.id,
    seq: stream.nextSeq,
    ts: new Date(nowMs).toISOString(),
    kind: 'end',
    body: { reason: 'Lost', message, by: 'recovery', commandsWithoutResult: unknown.slice(0, 1000) },
  };
  return Buffer.from(`${JSON.stringify(record)}\n`);
}

/** Whole records of the live files in order; what is torn or damaged ends a file. */
function* leftRecords(
  files: Files,
  folder: string,
  numbers: readonly number[],
  damage: Damage[],
): Generator<{ record: RecordEnvelope; file: number; offset: number; length: number }> {
  let prev: string | undefined;
  for (const [place, number] of numbers.entries()) {
    const piece = liveFileName(number);
    const bytes = files.readFileSync(`${folder}/${piece}`);
    const start = decodeLiveHeader(bytes);
    if (start === undefined) {
      if (bytes.length > 0 && place < numbers.length - 1)
        damage.push({ piece, at: 0, message: 'the header is damaged' });
      continue;
    }
    if (prev !== undefined && start.header.prev !== prev)
      damage.push({ piece, at: 0, message: 'it does not continue the file before' });
    prev = start.header.prev;
    let at = start.bytes;
    while (at < bytes.length) {
      const read = readBatch(bytes, at);
      if (read.kind !== 'Batch' || read.batch.prev !== prev) {
        damage.push({ piece, at, message: `${bytes.length - at} bytes do not form whole batches` });
        break;
      }
      for (const { offset, length } of payloadLines(bytes, read.batch)) {
        const record = parseRecord(bytes.toString('utf8', offset, offset + length - 1));
        if (record === undefined) damage.push({ piece, at: offset, message: 'a line is no record' });
        else yield { record, file: number, offset, length };
      }
      prev = read.batch.hash;
      at = read.batch.end;
    }
  }
}

interface HeadsState {
  position: HeadsPosition;
  damaged: { file: string; hash: string } | undefined;
}

/**
 * Puts into `streams` how far each stream is sealed that is not ended or that the live log has records of. Of a long
 * file only as much is read, from its end, as there can be something in: a process that says `Opened` has ended every
 * session before it, and removed their live files; `control` alone goes on, from its last segment.
 */
function gatherHeads(
  options: RecoverOptions,
  keys: Keyring,
  left: { streams: ReadonlySet<string>; files: readonly number[] },
  streams: Map<string, LeftStream>,
  damage: Damage[],
): { position: HeadsState; live: number } {
  const { files, headsPath } = options;
  if (!files.existsSync(headsPath)) return { position: { position: FIRST_POSITION, damaged: undefined }, live: 0 };
  for (let window = options.headsWindow ?? HEADS_WINDOW; ; window *= 4) {
    const from = headsTail(files, headsPath, keys, window) ?? FIRST_POSITION;
    streams.clear();
    const found = walkHeads(options, keys, left.streams, from, streams);
    const enough = found.live > 0 && left.files.every((number) => number >= found.live) && streams.has(CONTROL_STREAM);
    if (from.length > 0 && !enough) continue;
    damage.push(...found.damage);
    if (found.damage.length === 0)
      return { position: { position: found.position, damaged: undefined }, live: found.live };
    const aside = `${headsPath}.${options.now()}.damaged`;
    const digest = hashOfFile(files, headsPath);
    files.renameSync(headsPath, aside);
    const file = aside.slice(aside.lastIndexOf('/') + 1);
    return { position: { position: FIRST_POSITION, damaged: { file, hash: digest } }, live: found.live };
  }
}

function walkHeads(
  { files, headsPath }: RecoverOptions,
  keys: Keyring,
  present: ReadonlySet<string>,
  from: HeadsPosition,
  streams: Map<string, LeftStream>,
): { position: HeadsPosition; live: number; damage: Damage[] } {
  let position = from;
  let live = 0;
  const damage: Damage[] = [];
  for (const item of readHeads(files, headsPath, keys, from)) {
    if (item.kind === 'Torn') continue;
    if (item.kind === 'Bad') {
      damage.push({ piece: HEADS_FILE, at: item.at, message: `the heads are damaged (${item.problem})` });
      continue;
    }
    const { head } = item;
    if (head.kind === 'Opened') live = Math.max(live, head.live);
    if (head.kind === 'Segment') {
      if (head.final && !present.has(head.stream)) streams.delete(head.stream);
      else {
        const stream = streams.get(head.stream) ?? newStream(head.stream);
        streams.set(head.stream, stream);
        stream.index = head.index + 1;
        stream.prevHash = head.hash;
        stream.nextSeq = head.last + 1;
        stream.complete = head.final;
      }
    }
    position = { entry: head.entry + 1, prev: item.hash, length: item.end };
  }
  return { position, live, damage };
}

function hashOfFile(files: Files, path: string): string {
  const digest = createHash('sha256');
  const chunk = Buffer.allocUnsafe(1 << 20);
  const fd = files.openSync(path, 'r');
  try {
    for (let at = 0; ; ) {
      const read = files.readSync(fd, chunk, 0, chunk.length, at);
      if (read === 0) return digest.digest('hex');
      digest.update(chunk.subarray(0, read));
      at += read;
    }
  } finally {
    files.closeSync(fd);
  }
}
