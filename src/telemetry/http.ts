// /metrics, /healthz and /readyz over plain HTTP, on loopback unless told otherwise. Reads nothing of a request but
// its method and path; slow, many or big requests cost their sender.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface TelemetryOptions {
  /** Default 127.0.0.1. */
  host?: string;
  /** 0: any. */
  port: number;
  metrics: { render(): Promise<{ contentType: string; body: string }> };
  ready(): { ok: boolean; reasons: readonly string[] };
}

export interface TelemetryServer {
  host: string;
  port: number;
  close(): Promise<void>;
}

/** Resolves once it listens; rejects with Node's error if it can not. */
export async function startTelemetry(options: TelemetryOptions): Promise<TelemetryServer> {
  const host = options.host ?? '127.0.0.1';
  const server = createServer(
    { headersTimeout: 5_000, requestTimeout: 5_000, maxHeaderSize: 8192 },
    (request, response) => {
      const answer = (status: number, contentType: string, body: string): void => {
        response.writeHead(status, {
          'content-type': contentType,
          'cache-control': 'no-store',
          'x-content-type-options': 'nosniff',
          connection: 'close', // nobody asks twice in a row, and what is left unread of the request goes with it
        });
        response.end(request.method === 'HEAD' ? undefined : body);
      };
      const text = 'text/plain; charset=utf-8';
      if (request.method !== 'GET' && request.method !== 'HEAD') return answer(405, text, 'GET only\n');
      switch (request.url?.split('?')[0]) {
        case '/healthz':
          return answer(200, text, 'ok\n');
        case '/readyz': {
          const { ok, reasons } = options.ready();
          return answer(ok ? 200 : 503, text, ok ? 'ready\n' : `${reasons.join('\n')}\n`);
        }
        case '/metrics':
          options.metrics.render().then(
            ({ contentType, body }) => answer(200, contentType, body),
            () => answer(500, text, 'metrics could not be collected\n'),
          );
          return;
        default:
          return answer(404, text, 'there is /metrics, /healthz and /readyz\n');
      }
    },
  );
  server.maxConnections = 64;
  await listening(server, options.port, host);
  return {
    host,
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listening(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      server.on('error', () => {});
      resolve();
    });
  });
}
