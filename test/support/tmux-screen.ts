// A second terminal without a window, to compare what was drawn with one that others wrote: tmux, whose pane holds a
// program that only listens. What the terminal would type by itself, its title and its clipboard are told, too.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export interface TmuxScreen {
  write(data: string | Uint8Array): Promise<void>;
  resize(columns: number, rows: number): void;
  /** Every line with its colours, where the cursor is, and which screen is shown. */
  look(): { lines: string[]; cursor: string };
  /** What it typed by itself, and what reached beyond the screen. */
  acts(): { answers: string; title: string; clipboard: string };
  close(): void;
}

const MOST_MS = 20_000;
/** XTVERSION. */
// oxlint-disable-next-line no-control-regex
const NAME = /\u001bP>\|tmux [^\u001b]*\u001b\\/g;

export async function openTmuxScreen(columns: number, rows: number): Promise<TmuxScreen> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-screen-'));
  const typed = path.join(folder, 'typed');
  const tmux = (...args: string[]): string =>
    execFileSync('tmux', ['-S', path.join(folder, 'socket'), '-f', path.join(folder, 'config'), ...args], {
      encoding: 'utf8',
      env: { ...process.env, TERM: 'xterm-256color', LC_ALL: 'C.UTF-8', TMUX: '' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  fs.writeFileSync(
    path.join(folder, 'config'),
    'set -g status off\nset -g set-clipboard on\nset -g default-terminal xterm-256color\nset -g escape-time 0\nset -g history-limit 100\n',
  );
  const listener = `stty raw -echo; : > ${typed}.ready; exec cat > ${typed}`;
  tmux('new-session', '-d', '-x', String(columns), '-y', String(rows), listener);
  const shown = (format: string): string => tmux('display-message', '-p', format).replace(/\n$/, '');
  const until = async (holds: () => boolean): Promise<void> => {
    const deadline = Date.now() + MOST_MS;
    while (!holds()) {
      if (Date.now() > deadline) throw new Error('tmux did not draw in time');
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  await until(() => fs.existsSync(`${typed}.ready`));
  const tty = await fs.promises.open(shown('#{pane_tty}'), fs.constants.O_WRONLY | fs.constants.O_NOCTTY);
  const answers = (): string => fs.readFileSync(typed, 'latin1');
  let asked = 0;
  let marks = 0;
  let title = '';

  /** Until all that was written is drawn: by a title, which the pane has once it came so far. */
  const drawn = async (): Promise<void> => {
    marks += 1;
    // A sequence that does not end would hide it.
    await tty.writeFile(`\u0018\u001b]2;mark-${marks}\u001b\\`);
    await until(() => shown('#{pane_title}') === `mark-${marks}`);
  };
  await drawn();

  return {
    async write(data) {
      await tty.writeFile(data);
      // The answer to what nothing else asks comes behind all others; a title that was set meanwhile is still there.
      await tty.writeFile('\u0018\u001b[>q');
      asked += 1;
      await until(() => answers().split(NAME).length > asked);
      const now = shown('#{pane_title}');
      if (now !== `mark-${marks}`) title = now;
      await drawn();
    },
    resize: (width, height) => void tmux('resize-window', '-x', String(width), '-y', String(height)),
    look: () => ({
      lines: tmux('capture-pane', '-p', '-e', '-N').split('\n'),
      cursor: shown('#{cursor_x},#{cursor_y} #{alternate_on}'),
    }),
    acts() {
      let clipboard = '';
      try {
        clipboard = tmux('show-buffer');
      } catch {
        // There is none.
      }
      return { answers: answers().replaceAll(NAME, ''), title, clipboard };
    },
    close() {
      void tty.close();
      try {
        tmux('kill-server');
      } catch {
        // It has ended by itself.
      }
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
}
