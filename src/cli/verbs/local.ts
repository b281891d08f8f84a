// local: runs Sallyport over a directory of YAML until it is told to stop.
import path from 'node:path';
import type { Protocol } from '../../protocols/protocol.ts';
import { commandPrefix, stateFolder } from '../context.ts';
import { CliError, EXIT, type ExitCode, type Io, paint } from '../io.ts';
import { type DaemonOptions, startDaemon } from '../local/daemon.ts';
import { openTelemetry } from '../local/telemetry.ts';
import { version } from '../version.ts';

export interface LocalOptions {
  state?: string;
  drain?: string;
  metricsPort?: string;
  logLevel?: string;
}

const DRAIN_MS = 5_000;

/** `protocols`: loaded by the caller, so that other verbs start without a SQL parser. */
export async function local(
  io: Io,
  directory: string,
  options: LocalOptions,
  protocols: readonly Protocol[],
  catalog: DaemonOptions['catalog'],
): Promise<ExitCode> {
  const prefix = commandPrefix(io.env);
  const state = stateFolder(options.state, io.env);
  const drainMs = options.drain === undefined ? DRAIN_MS : Number(options.drain) * 1000;
  if (!(drainMs >= 0)) throw new CliError(EXIT.misconfigured, `--drain ${options.drain} is no number of seconds`);
  const telemetry = await openTelemetry({
    metricsPort: options.metricsPort,
    logLevel: options.logLevel,
    version: version(),
  });
  const folder = path.resolve(directory);
  let quiet = true; // while it is up, changes are not shown
  const daemon = await startDaemon({
    directory: folder,
    state,
    prefix,
    version: version(),
    protocols,
    log: telemetry.log,
    metrics: telemetry.metrics,
    catalog,
    onView: (view) => {
      if (!quiet) io.out(`\n${view}`);
    },
  }).catch(async (error: unknown) => {
    await telemetry.close();
    if (error instanceof CliError) throw error;
    throw new CliError(
      EXIT.misconfigured,
      `Sallyport can not start: ${error instanceof Error ? error.message : String(error)}`,
      ['EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')
        ? `Choose a state folder that you may write with --state; it is ${state}.`
        : undefined,
    );
  });
  telemetry.ready(() => daemon.gateway.ready());
  io.out(`Sallyport ${version()} serves ${folder}, state in ${state}\n`);
  io.err(
    paint(io, 'yellow', 'This is a try-out for one person: whoever may open the state folder may be anybody by --as.') +
      '\n',
  );
  if (telemetry.address) io.out(`Metrics and health: http://${telemetry.address}/metrics\n`);
  io.out(`Records are verified against root key ${daemon.rootKey}; keep a copy elsewhere.\n`);
  io.out(`\n${daemon.view()}`);
  io.out(
    `\nIn another terminal${state === stateFolder(undefined, { ...io.env, SALLYPORT_STATE: undefined }) ? '' : ` (export SALLYPORT_STATE=${state})`}:\n  ${prefix} ls\n  ${prefix} request CONNECTION --for 1h --reason TEXT\n`,
  );
  quiet = false;
  await new Promise<void>((resolve) => {
    if (io.signal.aborted) return resolve();
    // The listeners keep the process alive as well; the timer does where a directory has no Connection.
    const alive = setInterval(() => undefined, 3_600_000);
    io.signal.addEventListener(
      'abort',
      () => {
        clearInterval(alive);
        resolve();
      },
      { once: true },
    );
  });
  quiet = true; // listeners that close now are no news
  const open = daemon.gateway.sessions().length;
  io.err(
    open > 0
      ? `Stopping: ${open} sessions have ${drainMs / 1000} s to end. Interrupt again to stop at once.\n`
      : 'Stopping.\n',
  );
  const force = (): void => process.exit(130);
  process.once('SIGINT', force);
  try {
    await daemon.stop(drainMs);
  } finally {
    process.off('SIGINT', force);
    await telemetry.close();
  }
  return EXIT.ok;
}
