// One process owns a state folder: two would each believe their own history.
// The owner's lock file names it by pid and start time, so that a dead owner's is taken over at once and a later
// process with the same pid is not mistaken for it. Works among processes of one machine and pid namespace.
import fs from 'node:fs';
import os from 'node:os';
import { type Random, randomUid } from '../../system/random.ts';

export class StateInUse extends Error {
  override name = 'StateInUse';
}

interface Owner {
  pid: number;
  started: string;
  host: string;
  nonce: string;
}

/** Takes the lock or throws StateInUse. The returned function gives it back. */
export function lockState(folder: string, random: Random): () => void {
  const path = `${folder}/lock`;
  const owner: Owner = {
    pid: process.pid,
    started: startOf(process.pid) ?? '',
    host: os.hostname(),
    nonce: randomUid(random),
  };
  const text = JSON.stringify(owner);
  for (let attempt = 0; attempt < 3; attempt++) {
    if (tryCreate(path, text, owner.nonce)) {
      return () => {
        if (read(path)?.nonce === owner.nonce) fs.rmSync(path, { force: true });
      };
    }
    const held = readText(path);
    if (held === undefined) continue; // given back meanwhile
    const holder = parse(held);
    if (holder === undefined ? !isOld(path) : isAlive(holder)) throw inUse(folder, path, holder);
    takeAway(path, held, owner.nonce, folder);
  }
  throw inUse(folder, path, read(path));
}

function tryCreate(path: string, text: string, nonce: string): boolean {
  // Linked into place whole, so that nobody reads half of it.
  const own = `${path}.${nonce}`;
  fs.writeFileSync(own, text, { mode: 0o600, flag: 'wx' });
  try {
    fs.linkSync(own, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    fs.rmSync(own, { force: true });
  }
}

/** Removes a dead owner's lock; puts back what turns out to be another one's that was quicker. */
function takeAway(path: string, expected: string, nonce: string, folder: string): void {
  const aside = `${path}.${nonce}.old`;
  try {
    fs.renameSync(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  try {
    if (readText(aside) !== expected) {
      try {
        fs.linkSync(aside, path);
      } catch {
        // A third one has it by now; either way it is not ours.
      }
      throw inUse(folder, path, read(aside));
    }
  } finally {
    fs.rmSync(aside, { force: true });
  }
}

function inUse(folder: string, path: string, holder: Owner | undefined): StateInUse {
  const who = holder === undefined ? 'another process' : `process ${holder.pid} on ${holder.host}`;
  return new StateInUse(
    `The state folder ${folder} is in use by ${who}. Stop it first, or choose another with --state. If that process is surely gone, remove ${path}.`,
  );
}

function isAlive(owner: Owner): boolean {
  // Another host's processes can not be seen from here.
  if (owner.host !== os.hostname()) return true;
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const started = startOf(owner.pid);
  return started === undefined || owner.started === '' || started === owner.started;
}

/** Start of a process in clock ticks since boot (proc(5), field 22), with the boot's id; undefined where there is no /proc. */
function startOf(pid: number): string | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    const boot = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return `${boot}/${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]}`;
  } catch {
    return undefined;
  }
}

function isOld(path: string): boolean {
  try {
    return Date.now() - fs.statSync(path).mtimeMs > 10_000;
  } catch {
    return false;
  }
}

function readText(path: string): string | undefined {
  try {
    return fs.readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function parse(text: string): Owner | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null) return undefined;
    const { pid, started, host, nonce } = value as Record<string, unknown>;
    if (typeof pid !== 'number' || typeof started !== 'string' || typeof host !== 'string') return undefined;
    return { pid, started, host, nonce: typeof nonce === 'string' ? nonce : '' };
  } catch {
    return undefined;
  }
}

function read(path: string): Owner | undefined {
  const text = readText(path);
  return text === undefined ? undefined : parse(text);
}
