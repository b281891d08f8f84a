// Watches text for a private key in PEM (RFC 7468), byte by byte. What does not look like a key's lines ends it, so that
// nobody hides what they do behind a line that only begins one.

export interface PemWatch {
  /** Inside a key: whether the byte is still part of it. Outside: false. */
  take(byte: number): boolean;
  readonly inside: boolean;
  /** Neither a key nor the dashes before one. */
  readonly isIdle: boolean;
  /** The bytes before may be the beginning of one. */
  readonly isPending: boolean;
  /** Once inside: how long its beginning was, from the first of its five dashes. */
  readonly beginLength: number;
  /** What came before is not its beginning; nothing once inside. */
  forget(): void;
}

const BEGIN = 'BEGIN ';
const LABEL = 'PRIVATE KEY';
const END = 'END ';
const LONGEST_LABEL = 40;
const DASH = 0x2d;
/** Base64, its lines, headers of old forms, and `\n` of JSON. */
const OF_A_KEY = Uint8Array.from({ length: 256 }, (_, byte) =>
  /[A-Za-z0-9+/=\-:, \\\r\n\t]/.test(String.fromCharCode(byte)) ? 1 : 0,
);

/** `longest`: bytes of a key that does not end. */
export function createPemWatch(longest: number): PemWatch {
  let phase: 'Outside' | 'Word' | 'Label' | 'Inside' | 'EndWord' | 'Ending' = 'Outside';
  let dashes = 0;
  let matched = 0;
  let label = '';
  let taken = 0;
  let beginLength = 0;

  const outside = (byte: number): void => {
    if (byte === DASH) {
      dashes = phase === 'Outside' ? dashes + 1 : 1;
      phase = 'Outside';
      return;
    }
    if (phase === 'Outside' && dashes >= 5 && byte === BEGIN.charCodeAt(0)) {
      phase = 'Word';
      matched = 1;
    } else if (phase === 'Word' && byte === BEGIN.charCodeAt(matched)) {
      matched += 1;
      if (matched === BEGIN.length) {
        phase = 'Label';
        label = '';
      }
    } else if (phase === 'Label' && label.length < LONGEST_LABEL && /[A-Z0-9 ]/.test(String.fromCharCode(byte))) {
      label += String.fromCharCode(byte);
      if (label.endsWith(LABEL)) {
        phase = 'Inside';
        beginLength = 5 + BEGIN.length + label.length;
        taken = 0;
        // The dashes behind the label are none of an end.
        dashes = -5;
      }
      return;
    } else phase = 'Outside';
    dashes = 0;
  };

  const insideTakes = (byte: number): boolean => {
    taken += 1;
    if (OF_A_KEY[byte] === 0 || taken > longest) {
      phase = 'Outside';
      dashes = 0;
      return false;
    }
    if (byte === DASH) {
      dashes += 1;
      if (phase === 'Ending' && dashes === 5) {
        phase = 'Outside';
        dashes = 0;
        return true;
      }
      if (phase === 'EndWord') phase = 'Inside';
      return true;
    }
    if (phase === 'Inside' && dashes >= 5 && byte === END.charCodeAt(0)) {
      phase = 'EndWord';
      matched = 1;
    } else if (phase === 'EndWord') {
      if (byte === END.charCodeAt(matched)) {
        matched += 1;
        if (matched === END.length) phase = 'Ending';
      } else phase = 'Inside';
    }
    dashes = 0;
    return true;
  };

  return {
    take(byte) {
      if (phase === 'Inside' || phase === 'EndWord' || phase === 'Ending') return insideTakes(byte);
      outside(byte);
      return false;
    },
    get inside() {
      return phase === 'Inside' || phase === 'EndWord' || phase === 'Ending';
    },
    get isIdle() {
      return phase === 'Outside' && dashes === 0;
    },
    get isPending() {
      return phase === 'Word' || phase === 'Label';
    },
    get beginLength() {
      return beginLength;
    },
    forget() {
      if (phase !== 'Outside' && phase !== 'Word' && phase !== 'Label') return;
      phase = 'Outside';
      dashes = 0;
    },
  };
}
