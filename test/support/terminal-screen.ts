// A terminal without a window, to compare what was drawn: xterm.js, headless.
import xterm from '@xterm/headless';

export interface Screen {
  write(data: string | Uint8Array): Promise<void>;
  resize(columns: number, rows: number): void;
  /** Every line with its colours, which screen is shown, and where the cursor is. */
  look(): { lines: string[]; cursor: [number, number]; screen: string };
  /** What it would have typed by itself: answers to questions, mouse reports. */
  readonly answers: string[];
  /** Titles, links, the clipboard: what reached beyond the screen. */
  readonly reached: string[];
  readonly modes: Readonly<Record<string, unknown>>;
  close(): void;
}

export function openScreen(columns: number, rows: number): Screen {
  const terminal = new xterm.Terminal({ cols: columns, rows, allowProposedApi: true, scrollback: 100 });
  const answers: string[] = [];
  const reached: string[] = [];
  terminal.onData((data) => answers.push(data));
  terminal.onBinary((data) => answers.push(data));
  terminal.onTitleChange((title) => reached.push(`title ${title}`));
  terminal.onBell(() => reached.push('bell'));
  for (const code of [0, 1, 2, 4, 7, 8, 9, 10, 11, 12, 50, 52, 104, 110, 133, 777, 1337])
    terminal.parser.registerOscHandler(code, (data) => {
      reached.push(`osc ${code};${data}`);
      return false;
    });
  return {
    write: (data) => new Promise((resolve) => terminal.write(data, resolve)),
    resize: (width, height) => terminal.resize(width, height),
    look() {
      const buffer = terminal.buffer.active;
      const lines: string[] = [];
      for (let row = 0; row < terminal.rows; row += 1) {
        const line = buffer.getLine(buffer.viewportY + row);
        let text = '';
        let before = '';
        for (let column = 0; column < terminal.cols; column += 1) {
          const cell = line?.getCell(column);
          if (cell === undefined) continue;
          const style = [
            cell.getFgColorMode(),
            cell.getFgColor(),
            cell.getBgColorMode(),
            cell.getBgColor(),
            cell.isBold(),
            cell.isInverse(),
            cell.isUnderline(),
            cell.isDim(),
            cell.isInvisible(),
          ].join(',');
          if (style !== before) text += `{${style}}`;
          before = style;
          text += cell.getChars() || ' ';
        }
        lines.push(text);
      }
      return { lines, cursor: [buffer.cursorX, buffer.cursorY], screen: buffer.type };
    },
    answers,
    reached,
    modes: terminal.modes as unknown as Readonly<Record<string, unknown>>,
    close: () => terminal.dispose(),
  };
}
