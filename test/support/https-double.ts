// A small HTTPS server of a product's documented API, with the faults a network and a product have: outages, slow
// answers, errors, rate limits, redirects, answers lost after the work was done.
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TestCertificates } from './certificates.ts';

export interface Call {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}
export interface Reply {
  status: number;
  headers?: Record<string, string>;
  /** A string is sent as it is. */
  body?: unknown;
}

export type Fault =
  /** The socket is closed before anything is done. */
  | { kind: 'Reset' }
  /** It is done, and then the socket is closed. */
  | { kind: 'LostAnswer' }
  /** Done after so long. */
  | { kind: 'Slow'; ms: number }
  /** Answered so, nothing is done. */
  | { kind: 'Answer'; reply: Reply };

export interface HttpsDouble {
  url: string;
  host: string;
  ca: string;
  calls: Call[];
  /** The next calls whose path this matches meet these faults, one each. */
  fail(path: RegExp, ...faults: Fault[]): void;
  /** Until told otherwise every call meets this fault. */
  outage(fault: Fault | undefined): void;
  stop(): Promise<void>;
}

export async function startHttpsDouble(
  certificates: TestCertificates,
  handle: (call: Call) => Reply,
): Promise<HttpsDouble> {
  const planned: { path: RegExp; fault: Fault }[] = [];
  let always: Fault | undefined;
  const calls: Call[] = [];
  const server = https.createServer(certificates.server, (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('error', () => undefined);
    request.on('end', () => {
      const url = new URL(request.url ?? '/', 'https://localhost');
      const call: Call = {
        method: request.method ?? '',
        path: url.pathname,
        query: url.searchParams,
        headers: request.headers as Call['headers'],
        body: Buffer.concat(chunks).toString('utf8'),
      };
      calls.push(call);
      const at = planned.findIndex(({ path }) => path.test(call.path));
      const fault = always ?? (at >= 0 ? planned.splice(at, 1)[0]!.fault : undefined);
      const answer = (reply: Reply): void => {
        const text =
          reply.body === undefined ? '' : typeof reply.body === 'string' ? reply.body : JSON.stringify(reply.body);
        response.writeHead(reply.status, {
          ...(typeof reply.body === 'string' ? {} : { 'content-type': 'application/json' }),
          ...reply.headers,
        });
        response.end(text);
      };
      switch (fault?.kind) {
        case 'Reset':
          request.socket.destroy();
          return;
        case 'LostAnswer':
          handle(call);
          request.socket.destroy();
          return;
        case 'Answer':
          answer(fault.reply);
          return;
        case 'Slow':
          setTimeout(() => answer(handle(call)), fault.ms).unref();
          return;
        default:
          answer(handle(call));
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `https://localhost:${port}`,
    host: `localhost:${port}`,
    ca: certificates.ca,
    calls,
    fail: (path, ...faults) => void planned.push(...faults.map((fault) => ({ path, fault }))),
    outage: (fault) => (always = fault),
    async stop() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
