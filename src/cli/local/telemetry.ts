// What the daemon tells about itself: a log on stderr, and metrics and health on a loopback port if one is asked for.
import type { Gateway } from '../../gateway/gateway.ts';
import type { GatewayMetrics } from '../../gateway/observer.ts';
import { systemClock } from '../../system/clock.ts';
import { startTelemetry } from '../../telemetry/http.ts';
import { createLog, LOG_LEVELS, type Log, type LogLevel } from '../../telemetry/log.ts';
import { createMetrics, type Metrics } from '../../telemetry/metrics.ts';
import { CliError, EXIT } from '../io.ts';

export interface Telemetry {
  log: Log;
  metrics: GatewayMetrics & Pick<Metrics, 'recordsWritable' | 'notice'>;
  /** `127.0.0.1:9464`; undefined: nothing is served. */
  address: string | undefined;
  /** Readiness is asked for here from now on; before, the process is not ready. */
  ready(source: Gateway['ready']): void;
  close(): Promise<void>;
}

export async function openTelemetry(options: {
  metricsPort: string | undefined;
  logLevel: string | undefined;
  version: string;
}): Promise<Telemetry> {
  const level = LOG_LEVELS.find((each): each is LogLevel => each === options.logLevel) ?? 'warn';
  const metrics = createMetrics(systemClock, options.version);
  let ready: Gateway['ready'] = () => ({ ok: false, reasons: ['it is starting'] });
  let server: Awaited<ReturnType<typeof startTelemetry>> | undefined;
  if (options.metricsPort !== undefined) {
    const port = Number(options.metricsPort);
    if (!Number.isInteger(port) || port < 0 || port > 65_535) {
      throw new CliError(
        EXIT.misconfigured,
        `--metrics-port ${options.metricsPort} is no port`,
        'Write a number from 0 (any) to 65535.',
      );
    }
    server = await startTelemetry({ port, metrics, ready: () => ready() }).catch((error: Error) => {
      throw new CliError(
        EXIT.misconfigured,
        `Port ${port} can not be opened: ${error.message}`,
        'Choose another --metrics-port.',
      );
    });
  }
  return {
    log: createLog({ clock: systemClock, level }),
    metrics,
    address: server && `${server.host}:${server.port}`,
    ready: (source) => {
      ready = source;
    },
    close: async () => server?.close(),
  };
}
