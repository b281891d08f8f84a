// What was to be seen on one channel and when, from its records. Text is stored a little later than its bytes passed, as
// far as it is stored at all; it is put back to the time at which it passed. Pure: records in, moments out, in order.
// Memory: what passed and is not stored yet, some 32 KiB; records of any shape are read with suspicion.
import { StringDecoder } from 'node:string_decoder';
import type {
  CommandBody,
  EndBody,
  HoldBody,
  OutputBody,
  RecordEnvelope,
  ResizeBody,
  ResultBody,
} from '../envelope.ts';
import { harmlessLine } from '../text.ts';

export type Moment =
  | ({ kind: 'Begin'; atMs: number } & Screen)
  /** Not sanitised. Lines of commands without a terminal end in CR LF, too. */
  | { kind: 'Output'; atMs: number; text: string }
  | { kind: 'Resize'; atMs: number; columns: number; rows: number }
  /** Holds, refusals, the end: one harmless line. */
  | { kind: 'Marker'; atMs: number; label: string }
  | { kind: 'Exit'; atMs: number; status: number };

export interface Screen {
  channel: number;
  columns: number;
  rows: number;
  /** Absent: it had no terminal. */
  term?: string;
  /** As recorded: `uptime`, or empty for a shell. */
  command: string;
}

export interface Timeline {
  add(record: RecordEnvelope): Moment[];
  /** No more records come. */
  end(): Moment[];
}

const STARTS = new Set(['exec', 'shell', 'subsystem']);
const DEFAULT_COLUMNS = 80;
const DEFAULT_ROWS = 24;
const MOST_WAITING = 65_536;
/** POSIX numbers; a shell tells an end by signal as 128 and this. */
const SIGNALS: Readonly<Record<string, number>> = {
  HUP: 1,
  INT: 2,
  QUIT: 3,
  ILL: 4,
  ABRT: 6,
  FPE: 8,
  KILL: 9,
  USR1: 10,
  SEGV: 11,
  USR2: 12,
  PIPE: 13,
  ALRM: 14,
  TERM: 15,
};

/** Bodies may have any shape: nothing of theirs is called. */
const word = (value: unknown): string =>
  typeof value === 'string' ? value : value === undefined || value === null ? '' : JSON.stringify(value);
type Loose<T> = { readonly [K in keyof T]?: unknown };
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null;
const sshFacts = (facts: unknown): Readonly<Record<string, unknown>> =>
  isObject(facts) && isObject(facts['ssh']) ? facts['ssh'] : {};
const size = (value: unknown, usual: number): number =>
  typeof value === 'number' && Number.isInteger(value) && value > 0 && value <= 9_999 ? value : usual;

/** What begins on a channel with this record; undefined: nothing. */
export function screenOf(record: RecordEnvelope): Screen | undefined {
  if (record.kind !== 'command' || record.channel === undefined || !isObject(record.body)) return undefined;
  const { verb, text, facts }: Loose<CommandBody> = record.body;
  if (typeof verb !== 'string' || !STARTS.has(verb)) return undefined;
  const { terminal } = sshFacts(facts);
  const { columns, rows, term } = isObject(terminal) ? terminal : {};
  return {
    channel: record.channel,
    columns: size(columns, DEFAULT_COLUMNS),
    rows: size(rows, DEFAULT_ROWS),
    ...(isObject(terminal) ? { term: harmlessLine(word(term)).slice(0, 64) } : {}),
    command: harmlessLine(word(text)),
  };
}

interface Stream {
  stored: Buffer[];
  decoder: StringDecoder;
}

export function createTimeline(channel: number): Timeline {
  const streams = new Map<string, Stream>();
  /** In order; bytes that passed wait for their text, and all behind them. */
  let waiting: (Moment | { kind: 'Passed'; atMs: number; stream: string; bytes: number })[] = [];
  let isTerminal = false;

  const streamOf = (name: string): Stream => {
    let stream = streams.get(name);
    if (stream === undefined) {
      stream = { stored: [], decoder: new StringDecoder('utf8') };
      streams.set(name, stream);
    }
    return stream;
  };

  const shown = (text: string): string => (isTerminal ? text : text.replace(/\r?\n/g, '\r\n'));

  const taken = (stream: Stream, most: number): { bytes: number; text: string } => {
    let bytes = 0;
    let text = '';
    while (bytes < most && stream.stored.length > 0) {
      const first = stream.stored[0]!;
      const part = first.subarray(0, most - bytes);
      if (part.length === first.length) stream.stored.shift();
      else stream.stored[0] = first.subarray(part.length);
      bytes += part.length;
      text += stream.decoder.write(part);
    }
    return { bytes, text };
  };

  /** `isLast`: what has no text by now never gets any. */
  const ready = (isLast: boolean): Moment[] => {
    const moments: Moment[] = [];
    let at = 0;
    for (; at < waiting.length; at += 1) {
      const next = waiting[at]!;
      if (next.kind !== 'Passed') {
        moments.push(next);
        continue;
      }
      const { bytes, text } = taken(streamOf(next.stream), next.bytes);
      if (text !== '') moments.push({ kind: 'Output', atMs: next.atMs, text: shown(text) });
      next.bytes -= bytes;
      if (next.bytes > 0 && !isLast && waiting.length <= MOST_WAITING) break;
    }
    waiting = waiting.slice(at);
    return moments;
  };

  const marker = (atMs: number, label: string): void => {
    waiting.push({ kind: 'Marker', atMs, label: harmlessLine(label).slice(0, 500) });
  };

  const output = (atMs: number, { stream, text, base64, bytes, own }: Loose<OutputBody>): void => {
    if (stream !== 'terminal' && stream !== 'stdout' && stream !== 'stderr') return;
    if (own === true) {
      if (typeof text === 'string') waiting.push({ kind: 'Output', atMs, text: shown(text) });
      return;
    }
    if (typeof bytes === 'number' && bytes > 0) waiting.push({ kind: 'Passed', atMs, stream, bytes });
    const data = typeof text === 'string' ? Buffer.from(text) : Buffer.from(word(base64), 'base64');
    if (data.length > 0) streamOf(stream).stored.push(data);
  };

  const result = (atMs: number, { facts, error }: Loose<ResultBody>): void => {
    const { exitStatus, exitSignal } = sshFacts(facts);
    if (isObject(error)) marker(atMs, `failed: ${word(error['message'])}`);
    if (typeof exitStatus === 'number') waiting.push({ kind: 'Exit', atMs, status: exitStatus });
    else if (typeof exitSignal === 'string')
      waiting.push({ kind: 'Exit', atMs, status: 128 + (SIGNALS[exitSignal] ?? 0) });
  };

  const command = (atMs: number, { text, decision, denial, hold }: Loose<CommandBody>): void => {
    if (decision === 'Deny') marker(atMs, `refused: ${word(text)} (denial ${word(denial)})`);
    else if (typeof hold === 'string') marker(atMs, `let through after hold ${hold}: ${word(text)}`);
  };

  let main: unknown;
  let isOver = false;
  return {
    add(record) {
      if (record.channel !== channel && !(record.channel === undefined && record.kind === 'end')) return [];
      const body = isObject(record.body) ? record.body : {};
      const atMs = Date.parse(record.ts);
      let isEnd = false;
      switch (record.kind) {
        case 'command': {
          const screen = screenOf(record);
          if (screen !== undefined && main === undefined) {
            main = body['id'];
            isTerminal = screen.term !== undefined;
            waiting.push({ kind: 'Begin', atMs, ...screen });
          }
          command(atMs, body);
          break;
        }
        case 'output':
          output(atMs, body);
          break;
        case 'resize': {
          const { columns, rows }: Loose<ResizeBody> = body;
          waiting.push({
            kind: 'Resize',
            atMs,
            columns: size(columns, DEFAULT_COLUMNS),
            rows: size(rows, DEFAULT_ROWS),
          });
          break;
        }
        case 'hold': {
          const { hold, event, by }: Loose<HoldBody> = body;
          marker(
            atMs,
            `hold ${word(hold)} ${word(event)}${Array.isArray(by) && by.length > 0 ? ` by ${by.map(word).join(', ')}` : ''}`,
          );
          break;
        }
        case 'result':
          if (body['id'] !== main) break;
          result(atMs, body);
          isOver = true;
          isEnd = true;
          break;
        case 'end': {
          const { reason, message }: Loose<EndBody> = body;
          if (main !== undefined && !isOver) marker(atMs, `session ended: ${word(message ?? reason)}`);
          isEnd = true;
          break;
        }
      }
      return ready(isEnd);
    },
    end: () => ready(true),
  };
}
