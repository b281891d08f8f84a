// A sealed segment: one canonical JSON header line, one zstd frame of JSON lines, a raw Ed25519 signature (64 bytes)
// over everything before it. Exactly one spelling is accepted: other header bytes, trailing bytes, further frames and
// sizes or hashes that do not match are refused, whoever signed them. Pure but for the clock the caller reads.
import { hash } from 'node:crypto';
import { promisify } from 'node:util';
import { zstdCompress, zstdDecompressSync } from 'node:zlib';
import { canonicalJson } from '../../api/canonical.ts';
import { RECORD_VERSION, type RecordEnvelope } from '../envelope.ts';
import type { Keyring } from '../keyring.ts';
import { isStreamName } from '../layout.ts';
import { ZERO_HASH } from '../log/batch.ts';
import { linePrefix } from '../log/line.ts';
import type { RecordSigner } from '../signer.ts';
import { zstdFrame } from './zstd-frame.ts';

export const SEGMENT_FORMAT = 'sallyport-segment/1';
export const SIGNATURE_BYTES = 64;
/** What a reader is willing to hold of one segment, decompressed. A writer closes segments far earlier. */
export const LARGEST_SEGMENT = 256 * 1024 * 1024;
const LARGEST_HEADER = 2048;

export interface SegmentHeader {
  format: typeof SEGMENT_FORMAT;
  stream: string;
  /** From 0, without gaps, per stream. */
  index: number;
  /** SHA-256 over all bytes of the stream's segment before this one; 64 zeros for index 0. */
  prevHash: string;
  keyId: string;
  codec: 'zstd';
  encryption: 'none';
  /** Stored bytes of the payload. */
  length: number;
  /** Bytes of the JSON lines, and SHA-256 over them. */
  size: number;
  hash: string;
  /** `seq` of the first and last record. */
  first: number;
  last: number;
  /** The stream ends with this segment. */
  final: boolean;
  /** Sealed from what a dead process left behind. */
  recovered: boolean;
  /** RFC 3339 UTC. */
  sealedAt: string;
}

export type SegmentContent = Pick<
  SegmentHeader,
  'stream' | 'index' | 'prevHash' | 'first' | 'last' | 'final' | 'recovered' | 'sealedAt'
>;

const compress = promisify(zstdCompress);

/** The stored bytes. `lines` are whole JSON lines. */
export async function encodeSegment(signer: RecordSigner, content: SegmentContent, lines: Buffer): Promise<Buffer> {
  const payload = await compress(lines, { pledgedSrcSize: lines.length });
  const header: SegmentHeader = {
    format: SEGMENT_FORMAT,
    ...content,
    keyId: signer.keyId,
    codec: 'zstd',
    encryption: 'none',
    length: payload.length,
    size: lines.length,
    hash: hash('sha256', lines, 'hex'),
  };
  const signed = Buffer.concat([Buffer.from(`${canonicalJson(header)}\n`), payload]);
  return Buffer.concat([signed, await signer.sign(signed)]);
}

export type SegmentProblem =
  | 'Header' // not the canonical spelling of a known header
  | 'Length' // more or fewer bytes than the header says
  | 'UnknownKey'
  | 'OutOfTime' // signed when its key was not valid
  | 'BadSignature'
  | 'Frame' // the payload is not exactly one plain frame
  | 'Content' // size or hash of the decompressed lines
  | 'Records'; // lines are not records of this stream in order

export type SegmentResult =
  | { kind: 'Good'; header: SegmentHeader; lines: Buffer; hash: string }
  /** `at`: first byte known to be wrong, or 0. The header is there if it could be read at all; it is not trusted. */
  | { kind: 'Bad'; problem: SegmentProblem; at: number; header: SegmentHeader | undefined };

const HASH = /^[0-9a-f]{64}$/;
const count = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;

export function readSegmentHeader(bytes: Buffer): { header: SegmentHeader; length: number } | undefined {
  const end = bytes.subarray(0, LARGEST_HEADER).indexOf(0x0a);
  if (end < 0) return undefined;
  const text = bytes.toString('utf8', 0, end);
  try {
    const header = JSON.parse(text) as SegmentHeader;
    if (typeof header !== 'object' || header === null || header.format !== SEGMENT_FORMAT) return undefined;
    const { codec, encryption, final, recovered, stream, prevHash, hash: plain, keyId, sealedAt, ...numbers } = header;
    const { format: _format, ...counts } = numbers;
    if (codec !== 'zstd' || encryption !== 'none' || typeof final !== 'boolean' || typeof recovered !== 'boolean') {
      return undefined;
    }
    if (!isStreamName(stream) || !HASH.test(prevHash) || !HASH.test(plain) || !/^[0-9a-f]{16}$/.test(keyId)) {
      return undefined;
    }
    if (typeof sealedAt !== 'string' || Object.keys(counts).length !== 5 || !Object.values(counts).every(count)) {
      return undefined;
    }
    if (header.last < header.first || header.size > LARGEST_SEGMENT) return undefined;
    if ((header.index === 0) !== (prevHash === ZERO_HASH)) return undefined;
    // The bytes, not the text: U+FFFD may stand for bytes that are no UTF-8.
    if (!Buffer.from(canonicalJson(header)).equals(bytes.subarray(0, end))) return undefined;
    return { header, length: end + 1 };
  } catch {
    return undefined;
  }
}

/** Reads one segment whole and checks everything that it can say about itself. */
export function decodeSegment(bytes: Buffer, keys: Keyring): SegmentResult {
  const read = readSegmentHeader(bytes);
  if (read === undefined) return { kind: 'Bad', problem: 'Header', at: 0, header: undefined };
  const { header, length } = read;
  const bad = (problem: SegmentProblem, at: number): SegmentResult => ({ kind: 'Bad', problem, at, header });
  const signedBytes = length + header.length;
  if (bytes.length !== signedBytes + SIGNATURE_BYTES) return bad('Length', Math.min(bytes.length, signedBytes));
  const signed = bytes.subarray(0, signedBytes);
  const verdict = keys.check(header.keyId, header.sealedAt, signed, bytes.subarray(signedBytes));
  if (verdict !== 'Good') return bad(verdict, 0);
  const payload = bytes.subarray(length, signedBytes);
  const frame = zstdFrame(payload);
  if (frame === undefined || frame.length !== payload.length || frame.size !== header.size) return bad('Frame', length);
  let lines: Buffer;
  try {
    lines = zstdDecompressSync(payload, { maxOutputLength: Math.max(1, header.size) });
  } catch {
    return bad('Frame', length);
  }
  if (lines.length !== header.size || hash('sha256', lines, 'hex') !== header.hash) return bad('Content', length);
  if (!inOrder(lines, header)) return bad('Records', length);
  return { kind: 'Good', header, lines, hash: hash('sha256', bytes, 'hex') };
}

/** By the members that every writer spells first and alike; the rest of a line is what was signed. */
function inOrder(lines: Buffer, header: SegmentHeader): boolean {
  let at = 0;
  for (let seq = header.first; seq <= header.last; seq += 1) {
    const prefix = `${linePrefix(header.stream)}${seq},`;
    const newline = lines.indexOf(0x0a, at);
    if (newline < 0 || lines.toString('latin1', at, at + prefix.length) !== prefix || lines[newline - 1] !== 0x7d)
      return false;
    at = newline + 1;
  }
  return at === lines.length;
}

/** The records of JSON lines; undefined for a line that is no record. */
export function* recordsOf(lines: Buffer): Generator<RecordEnvelope | undefined> {
  for (let at = 0; at < lines.length; ) {
    const newline = lines.indexOf(0x0a, at);
    yield newline < 0 ? undefined : parseRecord(lines.toString('utf8', at, newline));
    if (newline < 0) return;
    at = newline + 1;
  }
}

export function parseRecord(text: string): RecordEnvelope | undefined {
  try {
    const record = JSON.parse(text) as RecordEnvelope;
    if (typeof record !== 'object' || record === null || record.v !== RECORD_VERSION) return undefined;
    if (typeof record.stream !== 'string' || !count(record.seq)) return undefined;
    return typeof record.ts === 'string' && typeof record.kind === 'string' ? record : undefined;
  } catch {
    return undefined;
  }
}
