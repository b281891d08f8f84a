// A password file for one client (PostgreSQL manual, 34.16): what libpq and its like read at each login, so that no token
// is in an argument or an environment, and a long-lived client finds the newest. It names the gateway's host and port: a
// client that is pointed elsewhere sends nothing. In memory-backed storage where the system gives some; gone with the
// client, and after a crash with the next one.
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { systemFiles, writeFileAtomically } from '../../system/files.ts';
import type { Io } from '../io.ts';

export interface PassFile {
  path: string;
  replace(password: string): void;
  remove(): void;
}

const NAME = /^pass-([0-9]+)-[0-9a-f]{16}$/;

export function openPassFile(
  home: string,
  env: Io['env'],
  gateway: { host: string; port: number },
  password: string,
): PassFile {
  const folder = folderOf(home, env);
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  fs.chmodSync(folder, 0o700);
  tidy(folder);
  const file = path.join(folder, `pass-${process.pid}-${randomBytes(8).toString('hex')}`);
  const remove = (): void => fs.rmSync(file, { force: true });
  const replace = (next: string): void =>
    writeFileAtomically(
      systemFiles,
      file,
      Buffer.from(`${[gateway.host, String(gateway.port), '*', '*', next].map(field).join(':')}\n`),
      0o600,
    );
  replace(password);
  process.once('exit', remove);
  return {
    path: file,
    replace,
    remove() {
      process.off('exit', remove);
      remove();
    },
  };
}

function folderOf(home: string, env: Io['env']): string {
  const runtime = env['XDG_RUNTIME_DIR'];
  if (runtime && path.isAbsolute(runtime)) {
    try {
      const { uid } = fs.statSync(runtime);
      if (uid === process.getuid?.()) return path.join(runtime, 'sallyport');
    } catch {
      // Named and not there: as in containers.
    }
  }
  return path.resolve(home, 'run');
}

/** `*` alone stands for anything; elsewhere a colon and a backslash are escaped. */
const field = (text: string): string => text.replace(/[\\:]/g, (char) => `\\${char}`);

function tidy(folder: string): void {
  for (const name of fs.readdirSync(folder)) {
    const pid = Number(NAME.exec(name)?.[1]);
    if (!(pid > 0) || pid === process.pid) continue;
    try {
      process.kill(pid, 0);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') fs.rmSync(path.join(folder, name), { force: true });
    }
  }
}
