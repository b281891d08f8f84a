// Recognises cards, e-mail addresses, IBANs, US social security numbers, phone numbers, JSON Web Tokens, private keys and API
// keys in text. A second net: it finds what is written plainly (ASCII, usual separators) and promises nothing of text
// that hides it. Every scanner is linear in the text, whoever wrote it; matches are starred out and lengths stay.
import { IBAN_LENGTHS } from './iban-lengths.ts';

export type DetectorKind = 'Card' | 'Email' | 'Iban' | 'Ssn' | 'Phone' | 'Jwt' | 'PrivateKey' | 'ApiKey';
export const ALL_DETECTORS: readonly DetectorKind[] = [
  'Card',
  'Email',
  'Iban',
  'Ssn',
  'Phone',
  'Jwt',
  'PrivateKey',
  'ApiKey',
];

type Bytes = Uint8Array;
type Report = (start: number, end: number) => void;

/** What a byte is, as bits: one table look-up instead of comparisons, since every byte of every text passes here. */
const DIGIT = 1;
const LETTER = 2;
/** Base64url and the like: what tokens are made of. */
const TOKEN = 4;
/** Part of an e-mail address's local part; bytes of other scripts count. */
const LOCAL = 8;
const DOMAIN = 16;
const AT = 32;
const DOT = 64;
const HYPHEN = 128;
const CLASS = Uint8Array.from({ length: 256 }, (_, byte) => {
  const character = String.fromCharCode(byte);
  const digit = /[0-9]/.test(character);
  const letter = /[A-Za-z]/.test(character);
  let bits = (digit ? DIGIT : 0) | (letter ? LETTER : 0);
  if (digit || letter || '-_'.includes(character)) bits |= TOKEN;
  if (digit || letter || byte >= 0x80 || ".!#$%&'*+-/=?^_`{|}~".includes(character)) bits |= LOCAL;
  if (digit || letter || byte >= 0x80 || '-.'.includes(character)) bits |= DOMAIN;
  if (character === '@') bits |= AT;
  if (character === '.') bits |= DOT;
  if (character === '-') bits |= HYPHEN;
  return bits;
});
/** Letters, digits, `-`, `_`, `.`, and bytes of other scripts: what a token, a key or a domain goes on with. */
export function continuesToken(byte: number): boolean {
  return (CLASS[byte]! & (TOKEN | DOMAIN)) !== 0;
}
const is = (byte: number | undefined, bits: number): boolean => byte !== undefined && (CLASS[byte]! & bits) !== 0;
const isDigit = (byte: number | undefined): boolean => is(byte, DIGIT);
const isLetter = (byte: number | undefined): boolean => is(byte, LETTER);
const isAlphanumeric = (byte: number | undefined): boolean => is(byte, DIGIT | LETTER);
const isToken = (byte: number | undefined): boolean => is(byte, TOKEN);
const isLocal = (byte: number | undefined): boolean => is(byte, LOCAL);
const isDomain = (byte: number | undefined): boolean => is(byte, DOMAIN);

export interface Detected {
  kind: DetectorKind;
  start: number;
  /** Behind its last byte. */
  end: number;
}

/** Stars out what is found in `bytes[start, end)`; returns how many matches there were. */
export function maskDetected(bytes: Bytes, start: number, end: number, kinds: readonly DetectorKind[]): number {
  const found = detect(bytes, start, end, kinds);
  if (found === undefined) return 0;
  for (const match of found) bytes.fill(0x2a, match.start, match.end);
  return found.length;
}

/** What is found in `bytes[start, end)`, kind by kind; matches of several kinds may overlap. undefined: nothing. */
export function detect(
  bytes: Bytes,
  start: number,
  end: number,
  kinds: readonly DetectorKind[],
): readonly Detected[] | undefined {
  let found: Detected[] | undefined;
  let scanning: DetectorKind = 'Card';
  const report: Report = (from, to) => {
    found ??= [];
    found.push({ kind: scanning, start: from, end: to });
  };
  // One cheap pass tells which scanners can find anything at all.
  let digits = 0;
  let dots = 0;
  let hyphens = 0;
  let seen = 0;
  let run = 0;
  let longest = 0;
  for (let i = start; i < end; i++) {
    const bits = CLASS[bytes[i]!]!;
    seen |= bits;
    digits += bits & DIGIT;
    if ((bits & (DOT | HYPHEN)) !== 0) {
      if (bits & DOT) dots += 1;
      else hyphens += 1;
    }
    // A token with its dots: a key has no other gaps.
    run = (bits & (TOKEN | DOT)) === 0 ? 0 : run + 1;
    if (run > longest) longest = run;
  }
  const length = end - start;
  for (const kind of kinds) {
    let possible: boolean;
    switch (kind) {
      case 'Card':
        possible = digits >= 13;
        break;
      case 'Email':
        possible = (seen & AT) !== 0 && dots > 0;
        break;
      case 'Iban':
        possible = digits >= 4 && length >= 15 && (seen & LETTER) !== 0;
        break;
      case 'Ssn':
        possible = digits >= 9 && length >= 11;
        break;
      case 'Phone':
        possible = digits >= 8;
        break;
      case 'Jwt':
        possible = dots >= 2 && longest >= 24;
        break;
      case 'PrivateKey':
        possible = hyphens >= 5;
        break;
      case 'ApiKey':
        possible = longest >= 19;
        break;
    }
    if (!possible) continue;
    scanning = kind;
    SCANNERS[kind](bytes, start, end, report);
  }
  return found;
}

/** The same over a string; the string itself if nothing was found. */
export function maskDetectedText(text: string, kinds: readonly DetectorKind[] = ALL_DETECTORS): string {
  // Nothing but an e-mail address is recognised in fewer than eight characters.
  if (text.length < 8 && !text.includes('@')) return text;
  const bytes = Buffer.from(text, 'utf8');
  return maskDetected(bytes, 0, bytes.length, kinds) === 0 ? text : bytes.toString('utf8');
}

/**
 * Groups of digits with single blanks, dots or hyphens between them; a card is a run of whole groups with 13 to 19 digits
 * that passes Luhn and begins with 2 to 6, 8 or 9 (ISO/IEC 7812). Digits glued to a card on either side hide it.
 */
function cards(bytes: Bytes, start: number, end: number, report: Report): void {
  let at = start;
  while (at < end) {
    if (!isDigit(bytes[at])) {
      at += 1;
      continue;
    }
    const starts: number[] = [];
    const ends: number[] = [];
    // One chain of groups.
    for (;;) {
      starts.push(at);
      while (at < end && isDigit(bytes[at])) at += 1;
      ends.push(at);
      const separator = bytes[at];
      const joins = separator === 0x20 || separator === 0x2d || separator === 0x2e;
      if (joins && at + 1 < end && isDigit(bytes[at + 1])) at += 1;
      else break;
    }
    for (let first = 0; first < starts.length; first++) {
      const lead = bytes[starts[first]!]! - 0x30;
      if (lead < 2 || lead === 7) continue;
      let digits = 0;
      for (let last = first; last < starts.length; last++) {
        digits += ends[last]! - starts[last]!;
        if (digits > 19) break;
        if (digits >= 13 && luhn(bytes, starts[first]!, ends[last]!)) {
          report(starts[first]!, ends[last]!);
          break;
        }
      }
    }
  }
}

function luhn(bytes: Bytes, start: number, end: number): boolean {
  let sum = 0;
  let twice = false;
  let all = 0;
  for (let at = end - 1; at >= start; at--) {
    const byte = bytes[at]!;
    if (!isDigit(byte)) continue;
    let digit = byte - 0x30;
    all |= digit;
    if (twice) {
      digit *= 2;
      if (digit > 9) digit -= 9;
    }
    sum += digit;
    twice = !twice;
  }
  return sum % 10 === 0 && all !== 0;
}

/** RFC 5322 dot-atom `@` a domain with at least one dot. */
function emails(bytes: Bytes, start: number, end: number, report: Report): void {
  for (let at = start; at < end; at++) {
    if (bytes[at] !== 0x40) continue;
    let from = at;
    while (from > start && isLocal(bytes[from - 1])) from -= 1;
    while (from < at && bytes[from] === 0x27) from += 1; // the quote before it is not its own
    let to = at + 1;
    let dotted = false;
    while (to < end && isDomain(bytes[to])) {
      if (bytes[to] === 0x2e && to > at + 1 && to + 1 < end && isAlphanumeric(bytes[to + 1])) dotted = true;
      to += 1;
    }
    if (from < at && dotted) report(from, to);
  }
}

function ibans(bytes: Bytes, start: number, end: number, report: Report): void {
  for (let at = start; at + 14 < end; at++) {
    if (!isLetter(bytes[at]) || (at > start && isAlphanumeric(bytes[at - 1]))) continue;
    if (!isLetter(bytes[at + 1]) || !isDigit(bytes[at + 2]) || !isDigit(bytes[at + 3])) continue;
    const country = String.fromCharCode(bytes[at]!, bytes[at + 1]!).toUpperCase();
    const wanted = IBAN_LENGTHS[country];
    if (wanted === undefined) continue;
    let have = 0;
    let to = at;
    const characters: number[] = [];
    while (to < end && have < wanted) {
      if (isAlphanumeric(bytes[to])) {
        characters.push(bytes[to]!);
        have += 1;
      } else if (!((bytes[to] === 0x20 || bytes[to] === 0x2d) && to + 1 < end && isAlphanumeric(bytes[to + 1]))) break;
      to += 1;
    }
    if (have === wanted && !(to < end && isAlphanumeric(bytes[to])) && mod97(characters) === 1) {
      report(at, to);
      at = to - 1;
    }
  }
}

/** ISO 13616: the first four characters go last, letters count 10 to 35, the number modulo 97. */
function mod97(characters: readonly number[]): number {
  let rest = 0;
  for (const byte of [...characters.slice(4), ...characters.slice(0, 4)]) {
    if (isDigit(byte)) rest = (rest * 10 + byte - 0x30) % 97;
    else rest = (rest * 100 + (byte & 0x1f) + 9) % 97;
  }
  return rest;
}

/** `ddd-dd-dddd` or with blanks; areas 000, 666 and 9xx, group 00 and serial 0000 are never issued. */
function socialSecurity(bytes: Bytes, start: number, end: number, report: Report): void {
  for (let at = start; at + 11 <= end; at++) {
    if (!isDigit(bytes[at]) || (at > start && isDigit(bytes[at - 1]))) continue;
    const separator = bytes[at + 3];
    if ((separator !== 0x2d && separator !== 0x20) || bytes[at + 6] !== separator) continue;
    let digits = true;
    for (const offset of [1, 2, 4, 5, 7, 8, 9, 10]) digits &&= isDigit(bytes[at + offset]);
    if (!digits || (at + 11 < end && isDigit(bytes[at + 11]))) continue;
    const text = Buffer.from(bytes.buffer, bytes.byteOffset + at, 11).toString('latin1');
    if (text.startsWith('000') || text.startsWith('666') || text.startsWith('9')) continue;
    if (text.slice(4, 6) === '00' || text.endsWith('0000')) continue;
    report(at, at + 11);
    at += 10;
  }
}

const isPhoneSeparator = (b: number | undefined): boolean =>
  b === 0x20 || b === 0x2d || b === 0x2e || b === 0x28 || b === 0x29;

/** `+` and 8 to 15 digits (E.164), or three, three and four digits with separators. */
function phones(bytes: Bytes, start: number, end: number, report: Report): void {
  for (let at = start; at < end; at++) {
    const plus = bytes[at] === 0x2b && (isDigit(bytes[at + 1]) || bytes[at + 1] === 0x28);
    const local = !plus && (isDigit(bytes[at]) || bytes[at] === 0x28) && !(at > start && isAlphanumeric(bytes[at - 1]));
    if (!plus && !local) continue;
    const groups: number[] = [];
    let digits = 0;
    let group = 0;
    let to = at + (plus ? 1 : 0);
    let lastDigit = to;
    let separators = 0;
    for (; to < end && to - at < 40; to++) {
      if (isDigit(bytes[to])) {
        digits += 1;
        group += 1;
        lastDigit = to + 1;
        separators = 0;
      } else if (isPhoneSeparator(bytes[to]) && separators < 2) {
        if (group > 0) groups.push(group);
        group = 0;
        separators += 1;
      } else break;
    }
    if (group > 0) groups.push(group);
    const shape = groups.join('-');
    if (plus ? digits >= 8 && digits <= 15 : shape === '3-3-4' || shape === '1-3-3-4') report(at, lastDigit);
    at = Math.max(at, lastDigit - 1);
  }
}

/** `eyJ….….…`: three base64url parts, the first of them a JSON object. */
function tokens(bytes: Bytes, start: number, end: number, report: Report): void {
  for (let at = start; at + 3 < end; at++) {
    if (bytes[at] !== 0x65 || bytes[at + 1] !== 0x79 || bytes[at + 2] !== 0x4a) continue; // eyJ
    let to = at;
    let dots = 0;
    for (; to < end; to++) {
      if (bytes[to] === 0x2e && dots < 4 && isToken(bytes[to - 1])) dots += 1;
      else if (!isToken(bytes[to])) break;
    }
    if (dots >= 2 && to - at >= 24) report(at, to);
    at = to; // whatever else begins inside ends at the same place
  }
}

const BEGIN = Buffer.from('-----BEGIN ');
const KEY = Buffer.from('PRIVATE KEY');
const END = Buffer.from('-----END ');

/** A PEM block whose label ends in PRIVATE KEY (RFC 7468), to its end line or the text's. */
function privateKeys(bytes: Bytes, start: number, end: number, report: Report): void {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start);
  for (let at = 0; ; ) {
    const begin = text.indexOf(BEGIN, at);
    if (begin < 0) return;
    const label = text.subarray(begin + BEGIN.length, begin + BEGIN.length + 40).indexOf(KEY);
    if (label < 0) {
      at = begin + BEGIN.length;
      continue;
    }
    const last = text.indexOf(END, begin);
    const close = last < 0 ? -1 : text.indexOf('-----', last + END.length);
    const to = last < 0 ? text.length : close < 0 ? text.length : close + 5;
    report(start + begin, start + to);
    at = to;
  }
}

const PREFIXES = [
  'sk_live_',
  'sk_test_',
  'rk_live_',
  'pk_live_',
  'whsec_',
  'sk-',
  'AKIA',
  'ASIA',
  'AIza',
  'ghp_',
  'gho_',
  'ghs_',
  'ghu_',
  'github_pat_',
  'glpat-',
  'xoxb-',
  'xoxp-',
  'xoxa-',
  'npm_',
  'SG.',
  'hf_',
].map((prefix) => Buffer.from(prefix));
const FIRST_OF_PREFIX = new Set(PREFIXES.map((prefix) => prefix[0]!));

/** A well-known prefix and at least 16 characters of a token. */
function apiKeys(bytes: Bytes, start: number, end: number, report: Report): void {
  for (let at = start; at < end; at++) {
    if (!FIRST_OF_PREFIX.has(bytes[at]!) || (at > start && isToken(bytes[at - 1]))) continue;
    for (const prefix of PREFIXES) {
      if (at + prefix.length > end || !prefix.every((byte, i) => bytes[at + i] === byte)) continue;
      let to = at + prefix.length;
      while (to < end && (isToken(bytes[to]) || bytes[to] === 0x2e)) to += 1;
      if (to - at - prefix.length < 16) continue;
      report(at, to);
      at = to - 1;
      break;
    }
  }
}

const SCANNERS: Readonly<Record<DetectorKind, (bytes: Bytes, start: number, end: number, report: Report) => void>> = {
  Card: cards,
  Email: emails,
  Iban: ibans,
  Ssn: socialSecurity,
  Phone: phones,
  Jwt: tokens,
  PrivateKey: privateKeys,
  ApiKey: apiKeys,
};
