// Runs somebody's client. It gets the terminal; its exit code is ours; signals from the keyboard are its own.
import { spawn } from 'node:child_process';
import os from 'node:os';
import { CliError, EXIT, type ExitCode } from '../io.ts';

/** Rejects with CliError where the program can not be started; `missing` is the hint where there is none. */
export function spawnClient(
  command: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  missing: string,
): Promise<ExitCode> {
  const [program = 'psql', ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: 'inherit', env });
    const ignored = (): void => undefined;
    const passOn = (): void => void child.kill('SIGTERM');
    process.on('SIGINT', ignored);
    process.on('SIGTERM', passOn);
    const done = (): void => {
      process.off('SIGINT', ignored);
      process.off('SIGTERM', passOn);
    };
    child.once('error', (error: NodeJS.ErrnoException) => {
      done();
      reject(
        error.code === 'ENOENT'
          ? new CliError(EXIT.misconfigured, `There is no program ${program} here`, missing)
          : new CliError(EXIT.failed, `${program} could not be started: ${error.message}`),
      );
    });
    child.once('exit', (code, signal) => {
      done();
      resolve(code ?? 128 + (signal === null ? 0 : os.constants.signals[signal]));
    });
  });
}
