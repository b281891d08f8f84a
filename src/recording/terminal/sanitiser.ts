// Lets through of a program's terminal output what draws a screen, and nothing else: text, colours, cursor movement,
// erasing, insertion and deletion, scroll regions, the alternate screen, line-drawing characters. For whoever looks at a
// recording in their own terminal, where everything else would act on them: titles, links (OSC 8), the clipboard (OSC 52),
// DCS, APC, PM, SOS, questions a terminal answers into its input, mouse and key modes, the scrollback, C1 controls.
//
// Guarantees, for any text in any pieces: the output holds no control but BS, HT, LF, VT, FF, CR, SO, SI and ESC of a
// listed sequence that is whole, with at most 16 parameters of at most 9,999; memory is bounded; and what `end` gives
// takes back every mode that was changed. Does not: hide text. A string that never ends is swallowed as the terminal does.
// The C1 controls of eight bits are dropped alone, since most terminals show what follows.
// Source: ECMA-48, and xterm's control sequences (ctlseqs).

export interface Sanitiser {
  push(text: string): string;
  /** What puts the terminal back; afterwards it begins anew. */
  end(): string;
}

const LONGEST_SEQUENCE = 128;
const MOST_PARAMETERS = 16;
const LARGEST_PARAMETER = 9_999;
/** Characters that one `REP` may repeat: more than any line has. */
const MOST_REPEATED = 999;

/** CSI without prefix and intermediates: cursor, erase, edit, scroll, tabs, SGR, repeat, insert mode, margins. */
const FINALS = new Set('ABCDEFGHIJKLMPSTXZ@`abdefgmrsuhl');
/** DECSET modes that change what is drawn. */
const PRIVATE_MODES = new Set([5, 6, 7, 25, 45, 47, 69, 1047, 1048, 1049]);
const ALTERNATE_SCREENS = new Set([47, 1047, 1049]);
/** Insert; line feed also returns. */
const ANSI_MODES = new Set([4, 20]);
/** How a terminal starts. */
const ON_AT_FIRST = new Set([7, 25]);
const PLAIN_CONTROLS = new Set('\b\t\n\v\f\r\u000e\u000f');
const ESCAPES = new Set('78DEMH');
const CHARACTER_SETS = new Set('0AB');
/** C1, DEL, marks that turn text around, interlinear notes. */
const DROPPED = /[\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]/;
const DROPPED_ALL = new RegExp(DROPPED, 'g');
/** A run of text without anything to decide. */
// oxlint-disable-next-line no-control-regex
const TEXT = /[^\u0000-\u001f]+/y;

type State = 'Ground' | 'Escape' | 'CharacterSet' | 'Other' | 'Csi' | 'CsiIgnored' | 'String' | 'StringEscape';

export function createSanitiser(): Sanitiser {
  let state: State = 'Ground';
  let sequence = '';
  let isOsc = false;
  /** What `end` takes back: private modes, `4`, `20` as `a4`, and what has no number. */
  let changed = new Set<string>();
  let out = '';

  const step = (character: string): void => {
    const code = character.charCodeAt(0);
    if (state === 'String' || state === 'StringEscape') return inString(character, code);
    if (code === 0x1b) {
      state = 'Escape';
      sequence = '';
      return;
    }
    if (code === 0x18 || code === 0x1a) {
      state = 'Ground';
      return;
    }
    // Controls act inside of sequences, too.
    if (code < 0x20) {
      if (!PLAIN_CONTROLS.has(character)) return;
      if (character === '\u000e') changed.add('shift');
      out += character;
      return;
    }
    switch (state) {
      case 'Ground':
        if (!DROPPED.test(character)) out += character;
        return;
      case 'Escape':
        return escape(character);
      case 'CharacterSet':
        if (CHARACTER_SETS.has(character)) {
          out += `\u001b${sequence}${character}`;
          changed.add('sets');
        }
        state = 'Ground';
        return;
      case 'Other':
        if (code >= 0x30) state = 'Ground';
        return;
      case 'CsiIgnored':
        if (code >= 0x40) state = 'Ground';
        return;
      case 'Csi':
        if (code > 0x7e) state = 'CsiIgnored';
        else if (code >= 0x40) {
          state = 'Ground';
          out += csi(sequence, character);
        } else if (sequence.length >= LONGEST_SEQUENCE) state = 'CsiIgnored';
        else sequence += character;
        return;
    }
  };

  const escape = (character: string): void => {
    state = 'Ground';
    switch (character) {
      case '[':
        state = 'Csi';
        return;
      case ']':
      case 'P':
      case 'X':
      case '^':
      case '_':
        state = 'String';
        isOsc = character === ']';
        return;
      case '(':
      case ')':
        sequence = character;
        state = 'CharacterSet';
        return;
      case 'c':
        out += reset();
        return;
      default:
        if (ESCAPES.has(character)) out += `\u001b${character}`;
        else if (character >= ' ' && character <= '/') state = 'Other';
    }
  };

  const inString = (character: string, code: number): void => {
    if (state === 'StringEscape') {
      state = 'Ground';
      // ESC \ ends it; any other sequence ends it and begins.
      if (character === '\\') return;
      state = 'Escape';
      sequence = '';
      return step(character);
    }
    if (code === 0x1b) state = 'StringEscape';
    else if (code === 0x18 || code === 0x1a || (isOsc && code === 7)) state = 'Ground';
  };

  /** A reset, without the harm to what is above the screen. */
  const reset = (): string => `${takeBack()}\u001b[H\u001b[2J`;

  const csi = (given: string, final: string): string => {
    if (/[ -/]/.test(given)) {
      // Soft reset.
      return given === '!' && final === 'p' ? takeBack() : '';
    }
    if (given.startsWith('?')) return privateCsi(given.slice(1), final);
    if (!/^[0-9;:]*$/.test(given) || !FINALS.has(final)) return '';
    if (final === 'm') {
      changed.add('colours');
      return colours(given);
    }
    if (given.includes(':')) return '';
    const numbers = parameters(given);
    if (numbers === undefined) return '';
    // More of them mean something else: T with five begins to follow the mouse.
    if (final !== 'h' && final !== 'l' && numbers.length > 2) return '';
    if (final === 'T' && numbers.length > 1) return '';
    switch (final) {
      case 'J':
        // 3 would take the viewer's own scrollback away.
        return numbers[0] === 3 ? '' : `\u001b[${given === '' ? '' : numbers[0]}J`;
      case 'b':
        return `\u001b[${Math.min(numbers[0] ?? 1, MOST_REPEATED)}b`;
      case 'h':
      case 'l':
        return modes(numbers, ANSI_MODES, '', final);
      case 'r':
        changed.add('region');
        break;
      case 's':
        if (given !== '') changed.add('?69');
        break;
    }
    return `\u001b[${joined(given, numbers)}${final}`;
  };

  const privateCsi = (given: string, final: string): string => {
    const numbers = /^[0-9;]*$/.test(given) ? parameters(given) : undefined;
    if (numbers === undefined) return '';
    if (final === 'J' || final === 'K') return numbers[0] === 3 ? '' : `\u001b[?${joined(given, numbers)}${final}`;
    return final === 'h' || final === 'l' ? modes(numbers, PRIVATE_MODES, '?', final) : '';
  };

  const modes = (numbers: readonly number[], allowed: ReadonlySet<number>, prefix: string, final: string): string => {
    const kept = numbers.filter((number) => allowed.has(number));
    for (const number of kept) {
      const isUsual = (final === 'h') === (prefix === '?' && ON_AT_FIRST.has(number));
      if (isUsual) changed.delete(`${prefix}${number}`);
      else if (number !== 1048) changed.add(`${prefix}${number}`);
    }
    return kept.length === 0 ? '' : `\u001b[${prefix}${kept.join(';')}${final}`;
  };

  const takeBack = (): string => {
    let text = '';
    for (const screen of ALTERNATE_SCREENS) if (changed.has(`?${screen}`)) text += `\u001b[?${screen}l`;
    // These move the cursor. It would be saved with the origin mode, so that goes first.
    if (changed.has('?6')) text += '\u001b[?6l';
    if (changed.has('region') || changed.has('?69')) text += '\u001b7\u001b[?69l\u001b[r\u001b8';
    for (const mode of [5, 45]) if (changed.has(`?${mode}`)) text += `\u001b[?${mode}l`;
    for (const mode of ON_AT_FIRST) if (changed.has(`?${mode}`)) text += `\u001b[?${mode}h`;
    for (const mode of ANSI_MODES) if (changed.has(`${mode}`)) text += `\u001b[${mode}l`;
    if (changed.has('sets') || changed.has('shift')) text += '\u000f\u001b(B\u001b)B';
    if (text !== '' || changed.has('colours')) text += '\u001b[m';
    changed = new Set();
    return text;
  };

  return {
    push(text) {
      out = '';
      for (let at = 0; at < text.length; ) {
        if (state === 'Ground') {
          TEXT.lastIndex = at;
          const run = TEXT.exec(text)?.[0];
          if (run !== undefined) {
            out += run.replace(DROPPED_ALL, '');
            at += run.length;
            continue;
          }
        }
        step(text[at]!);
        at += 1;
      }
      return out;
    },
    end() {
      state = 'Ground';
      return takeBack();
    },
  };
}

/** undefined: more than any sequence has. Absent numbers are 0. */
function parameters(given: string): number[] | undefined {
  if (given === '') return [];
  const numbers = given.split(';').map((part) => Math.min(Number(part), LARGEST_PARAMETER));
  return numbers.length > MOST_PARAMETERS ? undefined : numbers;
}

function joined(given: string, numbers: readonly number[]): string {
  const parts = given.split(';');
  return numbers.map((number, index) => (parts[index] === '' ? '' : String(number))).join(';');
}

/** SGR: numbers, and sub-parameters behind colons. */
function colours(given: string): string {
  const parts = given.split(';');
  const isFine =
    parts.length <= 2 * MOST_PARAMETERS && parts.every((part) => /^(?:[0-9]{0,4}(?::[0-9]{0,4}){0,6})$/.test(part));
  return isFine ? `\u001b[${given}m` : '';
}
