// Keeps in a password file whatever token a job has now: those of pods and of CI systems are renewed under a running
// client, which may connect again at any time. Guarantees: a token that can not be had leaves the one before; ends with
// its signal; never rejects.
import { CliError, type Io, pause } from '../io.ts';
import { line } from '../render.ts';
import type { PassFile } from './passfile.ts';
import type { WorkloadTokenSource } from './workload-token.ts';

/** Tokens in files are renewed minutes before their end. */
const LOOK_MS = 10_000;

export async function keepNewest(options: {
  file: Pick<PassFile, 'replace'>;
  tokens: WorkloadTokenSource;
  /** The one that is in the file. */
  first: string;
  io: Pick<Io, 'err'>;
  signal: AbortSignal;
  /** For tests: another time between two looks, ms. */
  lookMs?: number;
}): Promise<void> {
  const { file, tokens, io, signal, lookMs = LOOK_MS } = options;
  let last = options.first;
  let told = '';
  const wait = (): Promise<boolean> =>
    pause(lookMs, signal).then(
      () => true,
      () => false,
    );
  while (await wait()) {
    try {
      const next = await tokens.token();
      if (next === last || signal.aborted) continue;
      file.replace(next);
      last = next;
      told = '';
    } catch (error) {
      const what = error instanceof CliError ? error.message : 'The newest token can not be kept for the client';
      if (what !== told) io.err(`${line(what)}; new connections use the token of before.\n`);
      told = what;
    }
  }
}
