// One record as its JSON line. Runs for every message: the envelope is built by hand, and of a body what was declared
// constant is spelled once and copied from then on. The result is what JSON.stringify makes of the same body.
import type { RecordKind } from '../envelope.ts';
import { spelledConstant } from '../recorder.ts';

/** What stays the same for a stream: `{"v":1,"stream":"s-7fk2p","seq":`. */
export function linePrefix(stream: string): string {
  return `{"v":1,"stream":${JSON.stringify(stream)},"seq":`;
}

const PLAIN = /^[A-Za-z][A-Za-z0-9.-]{0,62}$/;

/** Throws what JSON.stringify throws. `ts` needs no escapes. */
export function recordLine(
  prefix: string,
  seq: number,
  ts: string,
  kind: RecordKind,
  body: object,
  channel?: number,
): string {
  const spelled = kind === 'command' || kind === 'result' || PLAIN.test(kind) ? `"${kind}"` : JSON.stringify(kind);
  const where = channel === undefined ? '' : `,"channel":${channel}`;
  return `${prefix}${seq},"ts":"${ts}","kind":${spelled}${where},"body":${bodyJson(body)}}\n`;
}

/** Exported for its test alone. */
export function bodyJson(body: object): string {
  if (Object.getPrototypeOf(body) !== Object.prototype || 'toJSON' in body) return JSON.stringify(body);
  const members = body as Record<string, unknown>;
  let json = '';
  for (const key of Object.keys(members)) {
    const value = members[key];
    let text: string | undefined;
    switch (typeof value) {
      case 'number':
        text = Number.isFinite(value) ? `${value}` : 'null';
        break;
      case 'object':
        text = (value === null ? undefined : spelledConstant(value)) ?? JSON.stringify(value);
        break;
      default:
        text = JSON.stringify(value);
    }
    // JSON.stringify leaves out what has no spelling.
    if (text !== undefined) json += `${json === '' ? '{' : ','}${spelledKey(key)}:${text}`;
  }
  return json === '' ? '{}' : `${json}}`;
}

/** Keys come from source code: few, and the same ones for ever. Bounded all the same. */
const MOST_KEYS = 256;
const keys = new Map<string, string>();
function spelledKey(key: string): string {
  const known = keys.get(key);
  if (known !== undefined) return known;
  const spelled = JSON.stringify(key);
  if (keys.size < MOST_KEYS) keys.set(key, spelled);
  return spelled;
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
