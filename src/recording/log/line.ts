// One record as its JSON line, built by hand around one JSON.stringify of what is new in the body: this runs for every
// message.
import type { RecordKind } from '../envelope.ts';
import type { ConstantMembers } from '../recorder.ts';

/** What stays the same for a stream: `{"v":1,"stream":"s-7fk2p","seq":`. */
export function linePrefix(stream: string): string {
  return `{"v":1,"stream":${JSON.stringify(stream)},"seq":`;
}

const PLAIN = /^[A-Za-z][A-Za-z0-9.-]{0,62}$/;

/** One record in two parts: what is new about it, and what records before had in common with it, spelled once. */
export interface Line {
  head: string;
  /** UTF-8. */
  tail: Buffer | undefined;
}

const tails = new WeakMap<ConstantMembers, Buffer>();

/** Throws what JSON.stringify throws. `ts` needs no escapes. */
export function recordLine(
  prefix: string,
  seq: number,
  ts: string,
  kind: RecordKind,
  body: object,
  channel?: number,
  constant?: ConstantMembers,
): Line {
  const spelled = kind === 'command' || kind === 'result' || PLAIN.test(kind) ? `"${kind}"` : JSON.stringify(kind);
  const where = channel === undefined ? '' : `,"channel":${channel}`;
  const own = JSON.stringify(body);
  if (constant === undefined)
    return { head: `${prefix}${seq},"ts":"${ts}","kind":${spelled}${where},"body":${own}}\n`, tail: undefined };
  const open = own.length === 2 ? '{' : `${own.slice(0, -1)},`;
  let tail = tails.get(constant);
  if (tail === undefined) {
    tail = Buffer.from(`${constant.json}}}\n`, 'utf8');
    tails.set(constant, tail);
  }
  return { head: `${prefix}${seq},"ts":"${ts}","kind":${spelled}${where},"body":${open}`, tail };
}

/** RFC 3339 of a time in milliseconds, remembered for as long as the millisecond lasts. */
export function timestamps(): (ms: number) => string {
  let lastMs = Number.NaN;
  let text = '';
  return (ms) => {
    if (ms !== lastMs) {
      lastMs = ms;
      text = new Date(ms).toISOString();
    }
    return text;
  };
}
