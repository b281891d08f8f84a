// What is kept of one command's bytes. Guarantees: what is kept is queued for the records before its bytes pass, and its
// caller is told to wait; PTY input is never handed in; of streams that may carry passwords not even a digest is kept.

import { isUtf8 } from 'node:buffer';
import { createHash, type Hash } from 'node:crypto';
import type { OutputBody, ResizeBody, ResultBody } from '../../../recording/envelope.ts';
import type { SessionRecorder } from '../../../recording/recorder.ts';
import type { Clock } from '../../../system/clock.ts';

export type Stream = OutputBody['stream'];

/** What is kept of a command's streams. */
export interface Keeping {
  /** Terminal: all of the output. Text: up to `TEXT_LIMIT` a stream, and a digest. Digest: that alone. */
  output: 'Terminal' | 'Text' | 'Digest';
  /** Length: it may be a password. */
  input: 'Text' | 'Digest' | 'Length';
}

/** Bytes of one stream of an exec that are kept as they are. */
export const TEXT_LIMIT = 1024 * 1024;

export interface CommandRecorder {
  readonly id: number;
  /** Takes note of bytes about to pass. false: they must wait until the records are written. */
  passing(stream: Stream, data: Buffer): boolean;
  /** What the gateway itself says there. */
  own(stream: 'terminal' | 'stderr', text: string): void;
  resized(columns: number, rows: number): void;
  exited(exit: { status: number } | { signal: string; message: string }): void;
  /** Writes the result; once, whatever comes first. */
  ended(error?: { code: string; message: string }): void;
}

interface StreamState {
  bytes: number;
  hash: Hash | undefined;
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
      state = { bytes: 0, hash: kept === 'Text' || kept === 'Digest' ? createHash('sha256') : undefined };
      streams.set(stream, state);
    }
    return state;
  };

  return {
    id,
    passing(stream, data) {
      if (isOver || data.length === 0) return true;
      const kept = keptAs(stream);
      const state = stateOf(stream, kept);
      const before = state.bytes;
      state.bytes += data.length;
      state.hash?.update(data);
      if (kept === 'Digest' || kept === 'Length' || (kept === 'Text' && before >= TEXT_LIMIT)) return true;
      const shown = kept === 'Text' ? data.subarray(0, TEXT_LIMIT - before) : data;
      record.append('output', outputBody(id, stream, shown), channel);
      return false;
    },
    own(stream, text) {
      if (!isOver)
        record.append('output', { id, stream, text, bytes: Buffer.byteLength(text) } satisfies OutputBody, channel);
    },
    resized(columns, rows) {
      if (!isOver) record.append('resize', { id, columns, rows } satisfies ResizeBody, channel);
    },
    exited(how) {
      exit ??= how;
    },
    ended(error) {
      if (isOver) return;
      isOver = true;
      const sums: Record<string, { bytes: number; sha256?: string }> = {};
      let bytes = 0;
      for (const [stream, state] of streams) {
        if (stream !== 'stdin') bytes += state.bytes;
        sums[stream] = {
          bytes: state.bytes,
          ...(state.hash === undefined ? {} : { sha256: state.hash.digest('hex') }),
        };
      }
      const body: ResultBody = {
        id,
        bytes,
        durationMs: Math.round(clock.monotonic() - startedMs),
        facts: { ssh: { ...(exit === undefined ? {} : exitFacts(exit)), streams: sums } },
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

function outputBody(id: number, stream: Stream, data: Buffer): OutputBody {
  return isUtf8(data)
    ? { id, stream, text: data.toString('utf8'), bytes: data.length }
    : { id, stream, base64: data.toString('base64'), bytes: data.length };
}
