// Opens a page in the person's browser, where there is one.
import { spawn } from 'node:child_process';
import type { Io } from '../io.ts';

export type Browser = { kind: 'Program'; command: string; args: readonly string[] } | { kind: 'None'; remote: boolean };

/** Pure. BROWSER names a program to prefer, as elsewhere. Over ssh a browser would open on the wrong machine. */
export function browserOf(env: Io['env'], platform: NodeJS.Platform): Browser {
  const chosen = env['BROWSER'];
  if (chosen) return { kind: 'Program', command: chosen.split(':')[0]!, args: [] };
  const remote = Boolean(env['SSH_CONNECTION'] || env['SSH_TTY']);
  if (remote) return { kind: 'None', remote };
  if (platform === 'darwin') return { kind: 'Program', command: 'open', args: [] };
  if (platform === 'win32') return { kind: 'Program', command: 'rundll32', args: ['url.dll,FileProtocolHandler'] };
  if (env['DISPLAY'] || env['WAYLAND_DISPLAY']) return { kind: 'Program', command: 'xdg-open', args: [] };
  return { kind: 'None', remote };
}

const STARTED_MS = 3_000;

/** Whether it could be started. What it says is not shown; it may stay open longer than this process. */
export function openPage(
  browser: Extract<Browser, { kind: 'Program' }>,
  url: string,
  env: Io['env'],
): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(browser.command, [...browser.args, url], { stdio: 'ignore', detached: true, env: { ...env } });
    // A starter that neither failed nor ended by then is a browser that runs.
    const timer = setTimeout(() => resolve(true), STARTED_MS);
    child.once('error', () => {
      clearTimeout(timer);
      resolve(false);
    });
    child.once('exit', (code) => {
      clearTimeout(timer);
      resolve(code === 0);
    });
    child.unref();
  });
}
