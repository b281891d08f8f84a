// Test support: runs lines in real shells whose PATH holds nothing but stubs that write down their arguments, to compare
// with what the parser foretells. The lines that are given here have no `/`, so no other program can be named.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** Wrappers that may be the machine's own, to see what they run. */
const WRAPPERS = [
  'env',
  'xargs',
  'find',
  'nohup',
  'timeout',
  'nice',
  'ionice',
  'setsid',
  'stdbuf',
  'busybox',
  'bash',
  'dash',
  'zsh',
  'ksh',
];

export const STUBS = [
  'a',
  'b',
  'c',
  'ls',
  'id',
  'sudo',
  'env',
  'xargs',
  'find',
  'nohup',
  'timeout',
  'nice',
  'rm',
  'cat',
  'sh',
];

/** As sshd starts them: `SHELL -c LINE`. Those that this machine has. */
export const SHELLS: readonly (readonly string[])[] = [
  ['/bin/dash', '-c'],
  ['/bin/bash', '-c'],
  ['/bin/bash', '--posix', '-c'],
  ['/bin/zsh', '-c'],
  ['/bin/busybox', 'sh', '-c'],
  ['/bin/ksh', '-c'],
].filter(([file]) => fs.existsSync(file!));

export interface Ran {
  /** Programs in the order they were written down, each with its arguments. */
  commands: string[][];
  /** Which of A and B were in a program's environment. */
  variables: string[];
  /** Files that appeared. */
  files: string[];
}

export interface ShellTrial {
  run(shell: readonly string[], line: string): Promise<Ran>;
  [Symbol.dispose](): void;
}

/** `wrappers`: those that run other programs are real, and only what they run is written down. */
export function shellTrial(wrappers = false): ShellTrial {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'shell-trial-'));
  const bin = path.join(root, 'bin');
  fs.mkdirSync(bin);
  // One write a program, so that programs of a pipeline do not mix.
  const stub = `#!/bin/dash\nt="\${A+A}\${B+B}"\nfor w in "\${0##*/}" "$@"; do t="$t\x01$w"; done\nprintf '%s\\002' "$t" >> "$TRIAL_LOG"\n`;
  for (const name of STUBS) fs.writeFileSync(path.join(bin, name), stub, { mode: 0o755 });
  if (wrappers) {
    for (const name of WRAPPERS) {
      const real = [`/usr/bin/${name}`, `/bin/${name}`].find((file) => fs.existsSync(file));
      fs.rmSync(path.join(bin, name), { force: true });
      if (real !== undefined) fs.symlinkSync(real, path.join(bin, name));
    }
    fs.rmSync(path.join(bin, 'sh'));
    fs.symlinkSync('/bin/dash', path.join(bin, 'sh'));
  }
  let count = 0;
  return {
    async run(shell, line) {
      if (line.includes('/')) throw new Error('a line of a trial names a path');
      // Each run its own, so that nothing of one is taken for another's.
      const own = path.join(root, `${count++}`);
      const log = path.join(own, 'log');
      const work = path.join(own, 'work');
      fs.mkdirSync(work, { recursive: true });
      fs.writeFileSync(path.join(work, 'f1'), '');
      fs.writeFileSync(path.join(work, 'f2'), '');
      fs.writeFileSync(log, '');
      const [file, ...args] = shell;
      const child = spawn(file!, [...args, line], {
        cwd: work,
        env: { PATH: bin, HOME: work, LANG: 'C.UTF-8', TRIAL_LOG: log },
        stdio: 'ignore',
        detached: true,
      });
      await new Promise<void>((resolve, reject) => {
        const late = setTimeout(() => {
          if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
          reject(new Error(`${file} did not end: ${JSON.stringify(line)}`));
        }, 20_000);
        child.on('error', reject);
        child.on('close', () => {
          clearTimeout(late);
          resolve();
        });
      });
      // Other programs of a pipeline, and those in the background, may outlive the shell.
      for (let tries = 0; tries < 2000 && isAlive(-child.pid!); tries++)
        await new Promise((resolve) => setTimeout(resolve, 5));
      const entries = fs.readFileSync(log, 'utf8').split('\x02').slice(0, -1);
      const parts = entries.map((entry) => entry.split('\x01'));
      const files = fs.readdirSync(work).filter((name) => name !== 'f1' && name !== 'f2');
      fs.rmSync(own, { recursive: true, force: true });
      return {
        commands: parts.map(([, ...words]) => words),
        variables: [...new Set(parts.flatMap(([set]) => set!.split('')))],
        files,
      };
    },
    [Symbol.dispose]: () => fs.rmSync(root, { recursive: true, force: true }),
  };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
