// Folders for images that are made of this machine's programs and the libraries they need: no root and no network. For
// tests only, since nothing in them is ever updated.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

/** What every test image has in `bin`. */
const COREUTILS = [
  'cat',
  'chmod',
  'cp',
  'date',
  'echo',
  'head',
  'id',
  'ls',
  'mkdir',
  'mktemp',
  'mv',
  'rm',
  'sleep',
  'tail',
  'touch',
  'true',
  'wc',
];

/** Path of a program of this machine, looked for in `more` folders, too. Throws where there is none. */
export function findProgram(name: string, more: readonly string[] = []): string {
  const at = ['/usr/bin', '/bin', '/usr/sbin', ...more]
    .map((folder) => path.join(folder, name))
    .find((file) => fs.existsSync(file));
  if (at === undefined)
    throw new Error(
      `${name} is not on this machine (Debian: dash, coreutils, libc-bin, postgresql-client-15, openssh-server, openssh-client, python3)`,
    );
  return at;
}

export function put(from: string, to: string, mode = 0o755): void {
  fs.mkdirSync(path.dirname(to), { recursive: true });
  fs.copyFileSync(fs.realpathSync(from), to);
  fs.chmodSync(to, mode);
}

export function putText(stage: string, at: string, content: string, mode = 0o644): void {
  const to = path.join(stage, at);
  fs.mkdirSync(path.dirname(to), { recursive: true });
  fs.writeFileSync(to, content);
  fs.chmodSync(to, mode);
}

/** Copies the libraries of `binary` to where the loader looks for them; those below `except` are there already. */
export function putLibraries(binary: string, stage: string, except?: string): void {
  for (const line of execFileSync('ldd', [binary], { encoding: 'utf8' }).split('\n')) {
    const file = /(?:=>)?\s*(\/\S+) \(0x/.exec(line)?.[1];
    if (file === undefined || (except !== undefined && path.resolve(file).startsWith(except))) continue;
    const to = path.join(stage, file);
    if (!fs.existsSync(to)) put(file, to);
  }
}

/** A program with its libraries. */
export function putProgram(from: string, stage: string, to: string): void {
  put(from, path.join(stage, to));
  putLibraries(from, stage);
}

/** A shell, coreutils, getent, users, and a /tmp. `users`: lines of passwd and group after root's. */
export function stageBase(stage: string, users: { passwd: readonly string[]; group: readonly string[] }): void {
  for (const name of COREUTILS) putProgram(findProgram(name), stage, `bin/${name}`);
  putProgram(findProgram('dash'), stage, 'bin/sh');
  putProgram(findProgram('getent'), stage, 'usr/bin/getent');
  putText(stage, 'etc/passwd', ['root:x:0:0:root:/:/bin/sh', ...users.passwd, ''].join('\n'));
  putText(stage, 'etc/group', ['root:x:0:', ...users.group, ''].join('\n'));
  putText(stage, 'etc/nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files dns\n');
  fs.mkdirSync(path.join(stage, 'tmp'));
  fs.chmodSync(path.join(stage, 'tmp'), 0o1777);
}
