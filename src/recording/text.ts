// Shows recorded text to people so that it can do them no harm: control characters, terminal escapes, marks that turn
// or hide text, and what has no glyph are spelled out as `\u{…}`. Pure.

const HARMFUL = /[\p{Cc}\p{Cf}\p{Cn}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;
// Letters of no width, which hide in a word as well as any format character does.
const HIDDEN = /[\p{Default_Ignorable_Code_Point}\u2800]/gu;
const spelled = (text: string): string => `\\u{${text.codePointAt(0)!.toString(16)}}`;

/** One line, whatever the text holds. */
export function harmlessLine(text: string): string {
  return text.replace(HARMFUL, spelled).replace(HIDDEN, spelled);
}

/** Several lines, each behind `indent`; only line feeds break lines, and tabs become two spaces. */
export function harmlessBlock(text: string, indent: string): string {
  const lines = text.replaceAll('\r\n', '\n').split('\n');
  return lines.map((each) => `${indent}${harmlessLine(each.replaceAll('\t', '  '))}\n`).join('');
}

const width = (text: string): number => Array.from(text).length;

/** Cells are made harmless; longer ones are cut at `widest` characters. */
export function alignedTable(
  rows: readonly (readonly string[])[],
  options: { indent?: string; widest?: number } = {},
): string {
  const { indent = '', widest = 60 } = options;
  const cells = rows.map((row) =>
    row.map((cell) => {
      const shown = Array.from(harmlessLine(cell));
      return shown.length > widest ? `${shown.slice(0, widest - 1).join('')}…` : shown.join('');
    }),
  );
  const columns = Math.max(0, ...cells.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, column) =>
    cells.reduce((most, row) => Math.max(most, width(row[column] ?? '')), 0),
  );
  return cells
    .map((row) => {
      const padded = row.map((cell, column) =>
        column === row.length - 1 ? cell : cell + ' '.repeat(widths[column]! - width(cell)),
      );
      return `${indent}${padded.join('   ').trimEnd()}\n`;
    })
    .join('');
}

/** `1.2 kB`, SI prefixes. */
export function byteCount(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const units = ['kB', 'MB', 'GB', 'TB'];
  let value = bytes / 1000;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}
