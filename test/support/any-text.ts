// Arbitrary text for property tests. What fast-check calls `unit: 'binary'` is the same set of characters, but builds a
// table of all 1.1 million of them first, a second's work in every file that asks for it.
import fc from 'fast-check';

const within = (min: number, max: number): fc.Arbitrary<string> =>
  fc.integer({ min, max }).map((code) => String.fromCodePoint(code));

/** One code point of any kind but a lone surrogate: controls, ASCII, other scripts, marks and directions, emoji. */
const anyCharacter: fc.Arbitrary<string> = fc.oneof(
  { weight: 4, arbitrary: within(0, 0x7f) },
  { weight: 1, arbitrary: within(0x80, 0x7ff) },
  { weight: 1, arbitrary: within(0x2000, 0x206f) },
  { weight: 1, arbitrary: within(0x800, 0xd7ff) },
  { weight: 1, arbitrary: within(0xe000, 0xffff) },
  { weight: 2, arbitrary: within(0x10000, 0x10ffff) },
);

/** Names that objects have of their own: where text becomes a key they do damage. */
const INHERITED = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf', 'length'];

/** Well-formed text; `maxLength`: in code points. */
export function anyText(options: { maxLength?: number } = {}): fc.Arbitrary<string> {
  return fc.oneof(
    { weight: 15, arbitrary: fc.string({ unit: anyCharacter, ...options }) },
    { weight: 1, arbitrary: fc.constantFrom(...INHERITED) },
  );
}
