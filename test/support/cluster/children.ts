// Child processes that end when their parent does, however it ends: beside each stands a small shell that reads a pipe
// from the parent. When the pipe closes (exit, SIGKILL of the test) the shell kills the child and removes its folder.
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';

export interface Child {
  pid: number;
  /** Everything it wrote so far, the last megabyte of it. */
  log(): string;
  readonly exited: boolean;
  /** Sends `signal` and resolves once it is gone; after 5 s it is killed. */
  end(signal?: NodeJS.Signals): Promise<void>;
}

const LONGEST_END_MS = 5000;

/** Starts `program`; its output goes to `logFile`. `env` instead of this process' own. */
export function startChild(program: string, args: readonly string[], logFile: string, env?: NodeJS.ProcessEnv): Child {
  const out = fs.openSync(logFile, 'a');
  const child = spawn(program, args, { stdio: ['ignore', out, out], ...(env === undefined ? {} : { env }) });
  fs.closeSync(out);
  const pid = child.pid;
  if (pid === undefined) throw new Error(`${program} could not be started; is it executable?`);
  const watchdog = guard(`kill -9 ${pid}`);
  const gone = new Promise<void>((resolve) => {
    child.once('exit', () => {
      // First, so that a number given to somebody else is never killed.
      watchdog.kill('SIGKILL');
      resolve();
    });
  });
  child.on('error', () => undefined);
  child.unref();
  return {
    pid,
    log: () => {
      const text = fs.readFileSync(logFile);
      return text.subarray(Math.max(0, text.length - 2 ** 20)).toString();
    },
    get exited() {
      return child.exitCode !== null || child.signalCode !== null;
    },
    async end(signal = 'SIGTERM') {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.ref();
      child.kill(signal);
      const timer = setTimeout(() => child.kill('SIGKILL'), LONGEST_END_MS);
      await gone;
      clearTimeout(timer);
    },
  };
}

/** Removes `folder` when this process ends without `release`. Returns `release`. */
export function guardFolder(folder: string): () => void {
  const watchdog = guard(`sleep 1; rm -rf '${folder}'`);
  return () => watchdog.kill('SIGKILL');
}

function guard(atEnd: string): ChildProcess {
  // Ctrl-C reaches the whole process group: the watchdog must outlive its parent by a moment.
  const watchdog = spawn('/bin/sh', ['-c', `trap '' INT TERM HUP; read -r _; ${atEnd}`], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  watchdog.on('error', () => undefined);
  watchdog.stdin?.on('error', () => undefined);
  (watchdog.stdin as unknown as { unref?(): void } | null)?.unref?.();
  watchdog.unref();
  return watchdog;
}

/** Ports of 127.0.0.1 that are free now. Somebody may take one before you do: try again then. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<net.Server>((resolve, reject) => {
          const server = net.createServer();
          server.once('error', reject);
          server.listen(0, '127.0.0.1', () => resolve(server));
        }),
    ),
  );
  const ports = servers.map((server) => (server.address() as net.AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
