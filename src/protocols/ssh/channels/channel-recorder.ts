// What is kept of one command's bytes. Guarantees: how many bytes pass, and what of them and of those before is decided by
// the detectors (recording/masked-stream.ts), is queued for the records before they pass, and its caller is told to wait;
// PTY input is never handed in; of streams that may carry passwords only the length is kept, and of those in which
// something was masked no digest, since that would give the value away. Does not: mask files and packs, of which only
// lengths and digests are kept.

import { isUtf8 } from 'node:buffer';
import { createHash, type Hash } from 'node:crypto';
import type { OutputBody, ResizeBody, ResultBody } from '../../../recording/envelope.ts';
import { createMaskedStream, type MaskedStream, type Stored } from '../../../recording/masked-stream.ts';
import type { SessionRecorder } from '../../../recording/recorder.ts';
import type { Clock } from '../../../system/clock.ts';

export type Stream = OutputBody['stream'];

/** What is kept of a command's streams. */
export interface Keeping {
  /** Terminal: all of the output. Text: up to `TEXT_LIMIT` a stream, and a digest. Digest, Length: that alone. */
  output: 'Terminal' | 'Text' | 'Digest' | 'Length';
  /** Length: it may be a password, or what it is about is told elsewhere. */
  input: 'Text' | 'Digest' | 'Length';
}

/** Bytes of one stream of an exec that are kept as they are. */
export const TEXT_LIMIT = 1024 * 1024;

export interface CommandRecorder {
  readonly id: number;
  /** Takes note of bytes about to pass. false: they must wait until the records are written. */
  passing(stream: Stream, data: Buffer): boolean;
  /** What the gateway itself says there. `last`: nothing of the command's follows it. */
  own(stream: 'terminal' | 'stderr', text: string, place?: 'last'): void;
  resized(columns: number, rows: number): void;
  exited(exit: { status: number } | { signal: string; message: string }): void;
  /** Writes the result; once, whatever comes first. `undelivered`: bytes stored that the client was not sent in the end. */
  ended(error?: { code: string; message: string }, undelivered?: number): void;
}

interface StreamState {
  bytes: number;
  hash: Hash | undefined;
  /** Absent: nothing of it is stored, or nothing any more. */
  mask: MaskedStream | undefined;
  /** Bytes that were looked at for storing. */
  kept: number;
  masked: number;
}

/** What the result says of each stream, under `facts.ssh.streams`. */
export interface StreamSum {
  bytes: number;
  /** Of all of them; absent where it could give something away. */
  sha256?: string;
  /** How many are stored, where not all are. */
  kept?: number;
  masked?: number;
}

export interface CommandRecorderParts {
  record: SessionRecorder;
  clock: Clock;
  channel: number;
  id: number;
  keeping: Keeping;
}

export function createCommandRecorder(parts: CommandRecorderParts): CommandRecorder {
  const { record, clock, channel, id, keeping } = parts;
  const startedMs = clock.monotonic();
  const streams = new Map<Stream, StreamState>();
  let exit: { status: number } | { signal: string; message: string } | undefined;
  let isOver = false;

  const keptAs = (stream: Stream): Keeping['input'] | Keeping['output'] => {
    if (stream === 'terminal') return 'Terminal';
    return stream === 'stdin' ? keeping.input : keeping.output;
  };

  const stateOf = (stream: Stream, kept: ReturnType<typeof keptAs>): StreamState => {
    let state = streams.get(stream);
    if (state === undefined) {
      state = {
        bytes: 0,
        hash: kept === 'Text' || kept === 'Digest' ? createHash('sha256') : undefined,
        mask: kept === 'Text' || kept === 'Terminal' ? createMaskedStream() : undefined,
        kept: 0,
        masked: 0,
      };
      streams.set(stream, state);
    }
    return state;
  };

  const output = (stream: Stream, state: StreamState, stored: Stored, bytes: number): void => {
    state.masked += stored.masked;
    record.append('output', outputBody(id, stream, stored, bytes), channel);
  };

  /** Stores what was withheld of all streams. */
  const release = (): void => {
    for (const [stream, state] of streams) {
      const rest = state.mask?.flush();
      if (rest !== undefined && rest.bytes.length > 0) output(stream, state, rest, 0);
    }
  };

  return {
    id,
    passing(stream, data) {
      if (isOver || data.length === 0) return true;
      const kept = keptAs(stream);
      const state = stateOf(stream, kept);
      state.bytes += data.length;
      state.hash?.update(data);
      if (state.mask === undefined) return true;
      const isLast = kept === 'Text' && state.kept + data.length >= TEXT_LIMIT;
      const shown = isLast ? data.subarray(0, TEXT_LIMIT - state.kept) : data;
      state.kept += shown.length;
      output(stream, state, state.mask.push(shown), data.length);
      if (isLast) {
        output(stream, state, state.mask.flush(), 0);
        state.mask = undefined;
      }
      return false;
    },
    own(stream, text, place) {
      if (isOver) return;
      // What is withheld passed before it. In between it stays: what follows may show that it is part of a value.
      if (place === 'last') release();
      const body: OutputBody = { id, stream, text, bytes: Buffer.byteLength(text), own: true };
      record.append('output', body, channel);
    },
    resized(columns, rows) {
      if (!isOver) record.append('resize', { id, columns, rows } satisfies ResizeBody, channel);
    },
    exited(how) {
      exit ??= how;
    },
    ended(error, undelivered = 0) {
      if (isOver) return;
      isOver = true;
      const sums: Record<string, StreamSum> = {};
      let bytes = 0;
      let masked = 0;
      release();
      for (const [stream, state] of streams) {
        if (stream !== 'stdin') bytes += state.bytes;
        masked += state.masked;
        sums[stream] = sumOf(state);
      }
      const body: ResultBody = {
        id,
        bytes,
        ...(masked === 0 ? {} : { masked }),
        durationMs: Math.round(clock.monotonic() - startedMs),
        facts: {
          ssh: {
            ...(exit === undefined ? {} : exitFacts(exit)),
            ...(undelivered === 0 ? {} : { undelivered }),
            streams: sums,
          },
        },
      };
      if (exit !== undefined) body.tag = 'status' in exit ? `exit ${exit.status}` : `signal ${exit.signal}`;
      if (error !== undefined) body.error = error;
      record.append('result', body, channel);
    },
  };
}

function exitFacts(exit: { status: number } | { signal: string; message: string }): object {
  return 'status' in exit ? { exitStatus: exit.status } : { exitSignal: exit.signal };
}

function sumOf({ bytes, hash, kept, masked }: StreamState): StreamSum {
  return {
    bytes,
    ...(hash === undefined || masked > 0 ? {} : { sha256: hash.digest('hex') }),
    ...(kept === 0 || kept === bytes ? {} : { kept }),
    ...(masked === 0 ? {} : { masked }),
  };
}

function outputBody(id: number, stream: Stream, { bytes: data, masked }: Stored, bytes: number): OutputBody {
  return {
    id,
    stream,
    ...(data.length === 0 ? {} : isUtf8(data) ? { text: data.toString('utf8') } : { base64: data.toString('base64') }),
    bytes,
    ...(masked === 0 ? {} : { masked }),
  };
}
