// A terminal with a program in it, that a test types into, resizes and reads the screen of: tmux, without a client.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export interface Terminal {
  /** Types text as it is. */
  type(text: string): void;
  /** Presses keys by tmux's names: `Enter`, `C-c`, `Escape`. */
  press(...keys: string[]): void;
  resize(columns: number, rows: number): void;
  /** The lines on the screen, without blanks at their ends. */
  screen(): string[];
  /** Waits until the screen matches; throws with the screen after `timeoutMs`. */
  waitFor(pattern: RegExp, timeoutMs?: number): Promise<string[]>;
  stop(): void;
}

const STEP_MS = 50;

export function startTerminal(
  command: string,
  options: { env?: Record<string, string>; columns?: number; rows?: number } = {},
): Terminal {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-tmux-'));
  const socket = path.join(folder, 'socket');
  const tmux = (...args: string[]): string =>
    execFileSync('tmux', ['-S', socket, '-f', path.join(folder, 'config'), ...args], {
      encoding: 'utf8',
      env: { ...process.env, ...options.env, TERM: 'xterm-256color', LC_ALL: 'C.UTF-8', TMUX: '' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  const size = ['-x', String(options.columns ?? 80), '-y', String(options.rows ?? 24)];
  // The status line would take a row; what has ended stays on the screen.
  fs.writeFileSync(path.join(folder, 'config'), 'set -g status off\nset -g remain-on-exit on\n');
  tmux('new-session', '-d', ...size, command);
  const terminal: Terminal = {
    type: (text) => void tmux('send-keys', '-l', '--', text),
    press: (...keys) => void tmux('send-keys', ...keys),
    resize: (columns, rows) => void tmux('resize-window', '-x', String(columns), '-y', String(rows)),
    screen: () =>
      tmux('capture-pane', '-p')
        .replace(/\n$/, '')
        .split('\n')
        .map((line) => line.trimEnd()),
    async waitFor(pattern, timeoutMs = 15_000) {
      const deadline = Date.now() + timeoutMs;
      for (;;) {
        const lines = terminal.screen();
        if (pattern.test(lines.join('\n'))) return lines;
        if (Date.now() > deadline) throw new Error(`no ${pattern} on the screen:\n${lines.join('\n').trimEnd()}`);
        await new Promise((resolve) => setTimeout(resolve, STEP_MS));
      }
    },
    stop() {
      try {
        tmux('kill-server');
      } catch {
        // It has ended by itself.
      }
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
  return terminal;
}
