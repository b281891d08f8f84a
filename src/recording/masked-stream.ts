// Masks what detectors recognise in a stream of bytes that comes in pieces of any size: what is stored does not depend on
// where the pieces end, and as many bytes are stored as came, each value starred out in its place.
//
// Guarantees: for the same bytes the same is stored, whatever the pieces. A value of at most 512 bytes is found wherever it
// would be found in the whole line, also where colours and other sequences that move nothing stand inside it, and in a line
// that was edited: backspaces, the cursor moved within it, text written over, inserted and deleted (64 moves in 256 bytes of
// ASCII, then what stands there is decided). What may still become part of a value is withheld: until a byte that ends it,
// at most 1,024 bytes of text (32 KiB with escape sequences, 4 KiB in an edited line). Longer tokens and keys are masked to
// their end, or for 16 KiB.
// Does not: look for a value whose parts are written to different lines or to distant places of a screen, or over several
// lines but for private keys and lines that a shell's editor wraps (` \r`). Two sequences of eight bits count as text.
import {
  ALL_DETECTORS,
  continuesToken,
  type Detected,
  type DetectorKind,
  detect,
} from '../policy/detectors/detectors.ts';
import { createPemWatch } from './pem-watch.ts';

export interface Stored {
  /** Empty: all that came may still become part of a value. */
  bytes: Buffer;
  /** Values that were starred out in them. */
  masked: number;
}

export interface MaskedStream {
  /** Takes the next bytes; answers what is to be stored now, of these and of earlier ones. */
  push(data: Uint8Array): Stored;
  /** The stream is over: what was withheld. */
  flush(): Stored;
}

/** Text that is looked at together; more is decided without what follows. */
const WINDOW = 1024;
/** Of which this much stays, so that a value across the end is whole once more. */
const KEPT = 512;
const MOST_RAW = 32 * 1024;
/** Where a line is edited: less, or whoever follows a counter that is written over sees it late. */
const MOST_EDITED = 4096;
/** Each makes the detectors look; whatever a program writes must stay cheap. */
const MOST_MOVES = 64;
const LONGEST_EDITED = 256;
const MOST_SHADOWS = 256;
const LONGEST_SEQUENCE = 64;
/** Of a token or a key that does not end. */
export const LONGEST_MASKED = 16 * 1024;

const BS = 0x08;
const ESC = 0x1b;
const SPACE = 0x20;
const CR = 0x0d;
const LF = 0x0a;
const STAR = 0x2a;
const DASH = 0x2d;
/** No part of anything that is looked for: whatever came before is decided. */
const ENDS_VALUES = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte < 0x20 || '",:;<>[\\]'.includes(String.fromCharCode(byte)) ? 1 : 0,
);
/** Letters and the like, which decide nothing by themselves: most of what comes. */
const IS_ORDINARY = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte > 0x20 && byte !== 0x7f && !/["',:;<>[\\\]@0-9-]/.test(String.fromCharCode(byte)) ? 1 : 0,
);
const IS_UNSEEN = Uint8Array.from({ length: 256 }, (_, byte) => ([0x00, 0x0e, 0x0f, 0x7f].includes(byte) ? 1 : 0));
/** Final bytes of CSI after which text stands elsewhere, or text before is gone; within the line some are followed. */
const MOVES = new Set(Array.from('ABDEFGHJLMPSTXZ@`adefrsu', (final) => final.charCodeAt(0)));
const isDigit = (byte: number | undefined): boolean => byte !== undefined && byte >= 0x30 && byte <= 0x39;
const isLetter = (byte: number | undefined): boolean =>
  byte !== undefined && (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a;
const isAlphanumeric = (byte: number | undefined): boolean => isDigit(byte) || isLetter(byte);
const isSeparator = (byte: number | undefined): boolean =>
  byte === SPACE || byte === 0x2d || byte === 0x2e || byte === 0x28 || byte === 0x29;
/** The longest IBAN, with a blank behind every group of one. */
const LONGEST_IBAN = 68;

export function createMaskedStream(kinds: readonly DetectorKind[] = ALL_DETECTORS): MaskedStream {
  /** What was withheld and what comes now, with their stars; up to where it was looked at, and may be stored. */
  let raw = Buffer.alloc(4096);
  let rawLength = 0;
  let done = 0;
  /** Of those, what a reader sees as text, without stars; and where it stands in `raw`. */
  const text = new Uint8Array(WINDOW);
  const places = new Int32Array(WINDOW);
  let length = 0;
  /** Where the next byte of text goes; but for edited lines, at the end. */
  let cursor = 0;
  let moves = 0;
  /** Places in `raw` of text that was written over or deleted. */
  let shadows: number[] = [];
  /** Whether there may be anything at all in `text`. */
  let digits = 0;
  let hasAt = false;
  /** Bytes of an escape sequence so far; 0: none. */
  let sequence = 0;
  let sequenceKind: 'Escape' | 'Csi' | 'Intermediate' = 'Escape';
  let carriageReturn = false;
  /** A token is being masked whose beginning is stored already: how much of it was. 0: none. */
  let carried = 0;
  const pem = kinds.includes('PrivateKey') ? createPemWatch(LONGEST_MASKED) : undefined;
  const others = kinds.filter((kind) => kind !== 'PrivateKey');

  let masked = 0;
  /** No state but `text` itself tells what an ordinary byte is. */
  let isPlain = true;

  /** The next byte of `raw`. */
  const take = (byte: number): void => {
    if (IS_ORDINARY[byte] === 1 && isPlain && length < WINDOW && rawLength - done < MOST_RAW) {
      text[length] = byte;
      places[length] = rawLength;
      length += 1;
      cursor = length;
      rawLength += 1;
      return;
    }
    takeAny(byte);
    isPlain =
      sequence === 0 && !carriageReturn && carried === 0 && cursor === length && (pem === undefined || pem.isIdle);
  };

  const takeAny = (byte: number): void => {
    if (rawLength - done >= (moves === 0 ? MOST_RAW : MOST_EDITED) && sequence === 0 && !carriageReturn) decide(length);
    rawLength += 1;
    if (sequence > 0) return inSequence(byte);
    if (carriageReturn) {
      carriageReturn = false;
      if (byte !== LF) {
        // A shell's editor wraps the line it edits: the blank before is none.
        length -= 1;
        cursor = length;
        return ground(byte);
      }
    }
    ground(byte);
  };

  const ground = (byte: number): void => {
    if (byte === ESC) {
      sequence = 1;
      sequenceKind = 'Escape';
      return;
    }
    if (IS_UNSEEN[byte] === 1) return released();
    if (byte === BS && moveTo(cursor - 1)) return;
    visible(byte);
  };

  /** Follows the cursor to another place of the text; false: there is none, or it moved too often. */
  const moveTo = (place: number): boolean => {
    // A character alone is turned round and round by what shows that it works.
    if (
      length < 2 ||
      length > LONGEST_EDITED ||
      place < 0 ||
      place > length ||
      moves >= MOST_MOVES ||
      (pem !== undefined && !pem.isIdle)
    )
      return false;
    if (cursor === length) {
      // Bytes are columns only there.
      for (let index = 0; index < length; index += 1) if (text[index]! >= 0x80) return false;
      // What stands there may be gone soon.
      find();
    }
    cursor = place;
    moves += 1;
    return true;
  };

  const forgetAt = (from: number, to: number): void => {
    for (let index = from; index < to; index += 1) if (places[index]! >= 0) shadows.push(places[index]!);
  };

  /** CSI sequences that edit the line before its end; false: not that. */
  const edited = (final: number, given: number): boolean => {
    const count = Math.max(1, given);
    switch (final) {
      case 0x44: // D
        return moveTo(cursor - count);
      case 0x43: // C
        return cursor < length && moveTo(cursor + count);
      case 0x4b: // K, to the end
        if (cursor === length || given !== 0) return false;
        forgetAt(cursor, length);
        length = cursor;
        return true;
      case 0x50: {
        // P: deletes
        if (cursor === length) return false;
        const to = Math.min(length, cursor + count);
        forgetAt(cursor, to);
        text.copyWithin(cursor, to, length);
        places.copyWithin(cursor, to, length);
        length -= to - cursor;
        return true;
      }
      case 0x40: // @: inserts blanks, which are nowhere in what is stored
        if (cursor === length || length + count > LONGEST_EDITED) return false;
        text.copyWithin(cursor + count, cursor, length);
        places.copyWithin(cursor + count, cursor, length);
        text.fill(SPACE, cursor, cursor + count);
        places.fill(-1, cursor, cursor + count);
        length += count;
        return true;
      default:
        return false;
    }
  };

  /** Text in the place of other text. */
  const writeOver = (byte: number): void => {
    forgetAt(cursor, cursor + 1);
    text[cursor] = byte;
    places[cursor] = rawLength - 1;
    cursor += 1;
    if (isDigit(byte)) digits += 1;
    else if (byte === 0x40) hasAt = true;
    if (shadows.length > MOST_SHADOWS) decide(length);
  };

  /** One byte of text, the last of `raw`. */
  const visible = (byte: number): void => {
    if (cursor < length && ENDS_VALUES[byte] === 0) {
      if (byte < 0x80) return writeOver(byte);
      decide(length);
    }
    cursor = length;
    if (length === WINDOW) overflow();
    const at = rawLength - 1;
    if (pem !== undefined && pem.inside) {
      if (pem.take(byte)) {
        if (byte >= SPACE) raw[at] = STAR;
        return released();
      }
      // It ended before this byte, which is ordinary text.
    }
    if (carried > 0) {
      if (continuesToken(byte) && carried < LONGEST_MASKED) {
        carried += 1;
        raw[at] = STAR;
      } else carried = 0;
    }
    if (byte === CR && length > 1 && text[length - 1] === SPACE && isAlphanumeric(text[length - 2])) {
      carriageReturn = true;
      return;
    }
    text[length] = byte;
    places[length] = at;
    length += 1;
    cursor = length;
    if (isDigit(byte)) digits += 1;
    else if (byte === 0x40) hasAt = true;
    if (pem !== undefined && (byte === DASH || !pem.isIdle)) {
      pem.take(byte);
      if (pem.inside) {
        // From its first dash on; the rest of the text before is decided without it.
        const begin = Math.max(0, length - pem.beginLength);
        find();
        for (let index = begin; index < length; index += 1) raw[places[index]!] = STAR;
        masked += 1;
        store(rawLength, length);
        return;
      }
    }
    if (ENDS_VALUES[byte] === 1) return decide(length);
    if (byte === SPACE && isOver()) decide(length);
  };

  /** Whether nothing goes on behind the blank that `text` ends with. */
  const isOver = (): boolean => {
    if (pem?.isPending) return false;
    const before = text[length - 2];
    if (isDigit(before) || before === 0x28) return false;
    if (isSeparator(before) && isDigit(text[length - 3])) return false;
    return digits < 2 || !ibanGoesOn();
  };

  const ibanGoesOn = (): boolean => {
    for (let at = Math.max(0, length - LONGEST_IBAN); at + 4 < length; at += 1) {
      if (!isLetter(text[at]) || !isLetter(text[at + 1]) || !isDigit(text[at + 2]) || !isDigit(text[at + 3])) continue;
      if (at > 0 && isAlphanumeric(text[at - 1])) continue;
      let to = at;
      while (
        to < length - 1 &&
        (isAlphanumeric(text[to]) || ((text[to] === SPACE || text[to] === 0x2d) && isAlphanumeric(text[to + 1])))
      )
        to += 1;
      if (to === length - 1) return true;
    }
    return false;
  };

  const inSequence = (byte: number): void => {
    sequence += 1;
    if (sequenceKind === 'Escape') {
      if (byte === 0x5b) {
        sequenceKind = 'Csi';
        return;
      }
      if (byte >= 0x20 && byte <= 0x2f) {
        sequenceKind = 'Intermediate';
        return;
      }
      // ESC = > only switch the keypad; all others move, or begin or end a string whose text is looked at like any other.
      sequenceEnds(byte !== 0x3d && byte !== 0x3e, byte);
      return;
    }
    if (sequence > LONGEST_SEQUENCE) return notASequence();
    if (sequenceKind === 'Intermediate') {
      if (byte < 0x20 || byte > 0x2f) sequenceEnds(false, byte);
      return;
    }
    if (byte >= 0x20 && byte <= 0x3f) return;
    const given = parameter();
    maskSequence();
    if (given !== undefined && edited(byte, given)) return sequenceEnds(false, byte);
    sequenceEnds(MOVES.has(byte) || (byte === 0x43 && !isOneStep()) || byte < 0x20, byte);
  };

  /** Of a CSI with one number, or none: 0. undefined: it has others. */
  const parameter = (): number | undefined => {
    if (sequence > 6) return undefined;
    let value = 0;
    for (let at = rawLength - sequence + 2; at < rawLength - 1; at += 1) {
      if (!isDigit(raw[at])) return undefined;
      value = value * 10 + raw[at]! - 0x30;
    }
    return value;
  };

  /** `CSI C` and `CSI 1 C`: a blank to whoever looks. */
  const isOneStep = (): boolean => sequence === 3 || (sequence === 4 && raw[rawLength - 2] === 0x31);

  const sequenceEnds = (isBreak: boolean, byte: number): void => {
    sequence = 0;
    if (byte === ESC) {
      sequence = 1;
      sequenceKind = 'Escape';
      if (isBreak && length > 0) {
        // The new one's first byte stays.
        rawLength -= 1;
        decide(length);
        rawLength += 1;
      }
      return;
    }
    if (isBreak) decide(length);
    else released();
  };

  /** Numbers of a sequence can spell a value as well. */
  const maskSequence = (): void => {
    if (sequence < 12) return;
    const found = detect(raw, rawLength - sequence, rawLength, others);
    for (const { start, end } of found ?? []) raw.fill(STAR, start, end);
    masked += found?.length ?? 0;
  };

  /** Too long to be one: what was taken for it is text. */
  const notASequence = (): void => {
    const start = rawLength - sequence;
    const bytes = Buffer.from(raw.subarray(start, rawLength));
    sequence = 0;
    rawLength = start;
    for (const byte of bytes) {
      rawLength += 1;
      if (byte === ESC) decide(length);
      else if (IS_UNSEEN[byte] === 0) visible(byte);
    }
  };

  /** Bytes that are no text need not wait where no text does. */
  const released = (): void => {
    if (length === 0) done = rawLength;
  };

  /** Stars out what is found in `text`. */
  const find = (): readonly Detected[] => {
    if (length < 6 || (!hasAt && digits < 4 && length < 19)) return [];
    const found = detect(text, 0, length, others) ?? [];
    for (const { start, end } of found) {
      let isNew = false;
      let first = rawLength;
      let last = -1;
      for (let index = start; index < end; index += 1) {
        const place = places[index]!;
        if (place < 0) continue;
        isNew ||= raw[place] !== STAR;
        raw[place] = STAR;
        first = Math.min(first, place);
        last = Math.max(last, place);
      }
      if (isNew) masked += 1;
      // What was written there before may be the same once more.
      for (const place of shadows) if (place > first && place < last) raw[place] = STAR;
    }
    return found;
  };

  const decide = (count: number): void => {
    find();
    store(rawLength, count);
    pem?.forget();
  };

  /** The window is full: all but its end is decided. */
  const overflow = (): void => {
    // Where a line was edited, the order of the text is not that of the bytes.
    if (moves > 0) return decide(length);
    const found = find();
    let cut = WINDOW - KEPT;
    while (cut > WINDOW - KEPT - 3 && (text[cut]! & 0xc0) === 0x80) cut -= 1;
    const open = found.some(
      ({ kind, start, end }) =>
        end === length && start < cut && (kind === 'Email' || kind === 'Jwt' || kind === 'ApiKey'),
    );
    const token = open ? -1 : openToken(cut);
    if (token >= 0) {
      for (let index = token; index < length; index += 1) raw[places[index]!] = STAR;
      masked += 1;
    }
    if (open || token >= 0) carried = KEPT;
    store(places[cut]!, cut);
  };

  /** Where a run begins that goes on at the end, and looks like a JSON Web Token of more than the window; -1: nowhere. */
  const openToken = (cut: number): number => {
    if (!kinds.includes('Jwt')) return -1;
    let from = length;
    while (from > 0 && continuesToken(text[from - 1]!)) from -= 1;
    for (let at = from; at < cut; at += 1)
      if (text[at] === 0x65 && text[at + 1] === 0x79 && text[at + 2] === 0x4a) return at;
    return -1;
  };

  /** `raw` up to `end` may be stored, which holds `count` of `text`. */
  const store = (end: number, count: number): void => {
    done = end;
    if (count < length) {
      text.copyWithin(0, count, length);
      places.copyWithin(0, count, length);
    }
    length -= count;
    cursor = length;
    if (length > 0) return;
    moves = 0;
    shadows = [];
    digits = 0;
    hasAt = false;
  };

  const stored = (): Stored => {
    const result = { bytes: Buffer.from(raw.subarray(0, done)), masked };
    raw.copyWithin(0, done, rawLength);
    if (done > 0) {
      for (let index = 0; index < length; index += 1) places[index] = Math.max(-1, places[index]! - done);
      shadows = shadows.map((place) => place - done).filter((place) => place >= 0);
    }
    rawLength -= done;
    done = 0;
    masked = 0;
    return result;
  };

  return {
    push(data) {
      if (rawLength + data.length > raw.length) {
        const larger = Buffer.alloc(rawLength + data.length);
        larger.set(raw.subarray(0, rawLength));
        raw = larger;
      }
      raw.set(data, rawLength);
      for (let left = data.length; left > 0; left -= 1) take(raw[rawLength]!);
      return stored();
    },
    flush() {
      if (sequence > 0) maskSequence();
      sequence = 0;
      carriageReturn = false;
      carried = 0;
      isPlain = false;
      decide(length);
      return stored();
    },
  };
}
