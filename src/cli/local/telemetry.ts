// What the daemon tells about itself: a log on stderr.
import type { Log } from '../../controllers/runtime.ts';
import type { Readiness } from '../../gateway/gateway.ts';
import type { GatewayMetrics } from '../../gateway/observer.ts';

export interface Telemetry {
  log: Log;
  metrics: GatewayMetrics | undefined;
  address: string | undefined;
  ready(source: () => Readiness): void;
  close(): Promise<void>;
}

export async function openTelemetry(options: {
  metricsPort: string | undefined;
  logLevel: string | undefined;
}): Promise<Telemetry> {
  const order = ['debug', 'info', 'warn', 'error'];
  const least = Math.max(0, order.indexOf(options.logLevel ?? 'warn'));
  return {
    log: (level, message, fields) => {
      if (order.indexOf(level) < least) return;
      process.stderr.write(`${JSON.stringify({ ts: new Date().toISOString(), level, message, ...fields })}\n`);
    },
    metrics: undefined,
    address: undefined,
    ready: () => undefined,
    close: async () => undefined,
  };
}
