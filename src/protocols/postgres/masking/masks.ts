// What each mask makes of one value: pure functions over bytes. The result is never longer than the value, neither in
// bytes nor in characters, and reads as UTF-8 where the value did. A mask shows only what its name says, for values of any shape.
import type { CompiledMask } from '../../../policy/bundle.ts';

export type MaskKind = CompiledMask['with'];

const STAR = 0x2a;
const AT = 0x40;

/** A byte that begins a character; the bytes 0x80 to 0xBF continue one in UTF-8. */
function startsCharacter(byte: number): boolean {
  return (byte & 0xc0) !== 0x80;
}

/**
 * Masks `value[start, end)` in place, from `start` on, and returns the end of what is left; at most `end`.
 * `Null` has no bytes: callers replace the whole value instead.
 */
export function maskInPlace(kind: Exclude<MaskKind, 'Null'>, bytes: Uint8Array, start: number, end: number): number {
  switch (kind) {
    case 'Redact':
      return redact(bytes, start, end);
    case 'Last4':
      return last4(bytes, start, end);
    case 'Email':
      return email(bytes, start, end);
  }
}

/** One `*` a character. */
function redact(bytes: Uint8Array, start: number, end: number): number {
  let write = start;
  for (let read = start; read < end; read++) {
    if (startsCharacter(bytes[read]!) || read === start) {
      bytes[write] = STAR;
      write += 1;
    }
  }
  return write;
}

/** All but the last four characters; values of four characters or fewer show none. */
function last4(bytes: Uint8Array, start: number, end: number): number {
  let characters = 0;
  let keep = end;
  // No character is longer than four bytes, so invalid text cannot stretch "four characters".
  for (let at = end - 1; at >= start && at >= end - 16; at--) {
    if (!startsCharacter(bytes[at]!)) continue;
    characters += 1;
    keep = at;
    if (characters === 4) break;
  }
  if (characters < 4 || keep === start) return redact(bytes, start, end);
  const write = redact(bytes, start, keep);
  bytes.copyWithin(write, keep, end);
  return write + (end - keep);
}

/** `a***@example.com`: the first character and the domain. What has no `@` is redacted whole. */
function email(bytes: Uint8Array, start: number, end: number): number {
  let at = end - start - 1;
  while (at >= 0 && bytes[start + at] !== AT) at -= 1;
  if (at <= 0) return redact(bytes, start, end);
  let first = 1;
  while (first < at && !startsCharacter(bytes[start + first]!)) first += 1;
  // A local part of one character would show whole.
  if (first === at || first > 4) first = 0;
  // One a character, as a column's own length counts; three tell no more than that there are some.
  let stars = 1;
  for (let next = first + 1; next < at && stars < 3; next += 1) if (startsCharacter(bytes[start + next]!)) stars += 1;
  bytes.fill(STAR, start + first, start + first + stars);
  const write = start + first + stars;
  bytes.copyWithin(write, start + at, end);
  return write + (end - start - at);
}

/** The same over a string; null for `Null`. */
export function maskText(kind: MaskKind, value: string): string | null {
  if (kind === 'Null') return null;
  const bytes = Buffer.from(value, 'utf8');
  return bytes.toString('utf8', 0, maskInPlace(kind, bytes, 0, bytes.length));
}
