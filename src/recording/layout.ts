// Where the pieces of a record store lie under its folder. docs/records.md describes each.

export const LIVE_FOLDER = 'live';
export const SEALED_FOLDER = 'sealed';
export const HEADS_FILE = 'heads.log';
export const KEYS_FILE = 'keys.json';
export const MARK_FILE = 'live/mark';
export const LOCK_FILE = 'lock';

/** Stream of the control plane's own acts. It never ends and goes on over restarts. */
export const CONTROL_STREAM = 'control';

/** Streams name files, so their alphabet is closed: no separators, no dots, no upper case. */
const STREAM = /^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/;
export function isStreamName(text: string): boolean {
  return STREAM.test(text);
}

/** `live/00000001.log` */
export function liveFileName(number: number): string {
  return `${LIVE_FOLDER}/${String(number).padStart(8, '0')}.log`;
}

export function liveFileNumber(name: string): number | undefined {
  const match = /^([0-9]{8,15})\.log$/.exec(name);
  return match === null ? undefined : Number(match[1]);
}

/** `sealed/2026-01-31/s-7fk2p.000000.seg`; `ts` is that of the segment's first record. */
export function segmentName(stream: string, index: number, ts: string): string {
  return `${SEALED_FOLDER}/${ts.slice(0, 10)}/${stream}.${String(index).padStart(6, '0')}.seg`;
}

export function parseSegmentName(name: string): { stream: string; index: number } | undefined {
  const match = /^([a-z0-9-]+)\.([0-9]{6,15})\.seg$/.exec(name);
  if (match === null || !isStreamName(match[1]!)) return undefined;
  return { stream: match[1]!, index: Number(match[2]) };
}

export function isDateFolder(name: string): boolean {
  return /^[0-9]{4}-[0-9]{2}-[0-9]{2}$/.test(name);
}
