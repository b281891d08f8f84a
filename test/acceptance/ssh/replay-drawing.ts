// Random output of a program that draws: text of all widths, colours, cursor, regions, tabs, the other screen.

/** mulberry32: the same for the same seed. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const TEXTS = ['abc', 'wörld', '世界', 'ﾊﾛｰ', 'e\u0301', '👩‍👧', 'שלום', '─│┌┐└┘█░', '\t', 'x'.repeat(70), ' ', '~'];

/** UTF-8, 2,000 acts; digits stand alone, so that nothing in it looks like a card. */
export function randomDrawing(seed: number): string {
  const random = randomOf(seed);
  const upTo = (most: number): number => Math.floor(random() * most);
  const one = <T>(of: readonly T[]): T => of[upTo(of.length)]!;
  const acts: readonly (() => string)[] = [
    () => one(TEXTS),
    () => one(TEXTS),
    () => one(TEXTS),
    () => `\u001b[${1 + upTo(30)};${1 + upTo(100)}H`,
    () => `\u001b[${one(['1', '2', '3', '4', '7', '0', '22', '27', '31', '97', '44', '38;5;208', '48;2;10;20;30'])}m`,
    () => `\u001b[${1 + upTo(9)}${one(['A', 'B', 'C', 'D', 'E', 'F', 'G', 'd', 'X', 'P', '@', 'L', 'M', 'S', 'T'])}`,
    () => `\u001b[${upTo(3)}${one(['J', 'K'])}`,
    () => one(['\r\n', '\r', '\n', '\b', '\u001bD', '\u001bM', '\u001bE', '\u001bH', '\u001b[g']),
    () => one(['\u001b7', '\u001b8', '\u001b[s', '\u001b[u']),
    () => `\u001b[${1 + upTo(10)};${15 + upTo(16)}r`,
    () => `\u001b[?${one(['7', '25', '6'])}${one(['h', 'l'])}`,
    () => one(['\u001b[?1049h', '\u001b[?1049l', '\u001b[4h', '\u001b[4l', '\u001b(0qxlk\u001b(B', '\u001b[r']),
  ];
  let text = '';
  for (let act = 0; act < 2_000; act += 1) text += one(acts)();
  return text;
}
