// The entry of `sallyport` and `kubectl access`. Everything is decided by the verbs; here are signals and the exit code.
import { EXIT, systemIo } from './io.ts';
import { buildProgram, type Outcome, tellFailure } from './program.ts';

const interrupted = new AbortController();
const interrupt = (): void => interrupted.abort();
process.once('SIGINT', interrupt);
process.once('SIGTERM', interrupt);
// A reader that went away (`| head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok);
});

const io = systemIo(interrupted.signal);
const outcome: Outcome = { code: EXIT.ok };
try {
  await buildProgram(io, outcome).parseAsync(process.argv);
  process.exitCode = outcome.code;
  // Everything is closed that had anything to lose; a warm connection to a target must not keep the process.
  if (outcome.leave) process.exit(outcome.code);
} catch (error) {
  process.exitCode = tellFailure(io, error, outcome.verb);
}
