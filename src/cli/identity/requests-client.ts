// The portal's JSON API, as a job asks it (src/portal/api-types.ts). Guarantees: waits by itself for a portal that restarts
// (20 s, for what only looks) and for the key of a token that is not known yet (90 s, said on stderr), and never longer.
import type { ApiProblem, PipelineRequest, RequestList, RequestView } from '../../portal/api-types.ts';
import { REQUESTS_PATH } from '../../portal/api-types.ts';
import { CliError, EXIT, type Io, pause } from '../io.ts';
import { line } from '../render.ts';
import { deepest, pinnedFetch, transportFailure } from './https.ts';
import type { WorkloadTokenSource } from './workload-token.ts';

export interface RequestsClient {
  /** Of the workload, Pending or Active, newest first. */
  mine(namespace: string, connection: string): Promise<RequestView[]>;
  ask(request: PipelineRequest): Promise<RequestView>;
  look(namespace: string, name: string): Promise<RequestView>;
}

const DEADLINE_MS = 30_000;
/** Of a portal that restarts or is busy. */
const MOST_TRIES = 5;
const AGAIN_MS = 2_000;
/** For a key that is not known: an issuer that was asked a moment ago is asked again within a minute. */
const KEY_WAIT_MS = 90_000;

export interface RequestsClientOptions {
  server: string;
  caPem: string | undefined;
  tokens: WorkloadTokenSource;
  io: Pick<Io, 'err' | 'signal'>;
  /** For tests: other times, ms. */
  againMs?: number;
  keyWaitMs?: number;
}

export function requestsClient(options: RequestsClientOptions): RequestsClient {
  const { server, caPem, tokens, io, againMs = AGAIN_MS, keyWaitMs = KEY_WAIT_MS } = options;
  const { signal } = io;
  const call = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const fetch = await pinnedFetch(caPem, true);
    let attempt = 1;
    let unknownSince: number | undefined;
    for (;;) {
      const token = await tokens.token(method === 'POST');
      let failure: CliError;
      try {
        const answer = await fetch(`${server}${path}`, {
          method,
          headers: {
            authorization: `Bearer ${token}`,
            accept: 'application/json',
            ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
          redirect: 'error',
          signal: AbortSignal.any([signal, AbortSignal.timeout(DEADLINE_MS)]),
        });
        const told = (await answer.json().catch(() => undefined)) as unknown;
        if (answer.ok && told !== undefined) {
          if (unknownSince !== undefined) io.err('The key is known now.\n');
          return told;
        }
        if (answer.status === 503 && (told as Partial<ApiProblem> | undefined)?.error?.code === 'UnknownKey') {
          if (unknownSince === undefined) {
            unknownSince = performance.now();
            io.err(
              `The key of this job’s token is not known yet; its issuer is asked for new ones. Waiting up to ${Math.round(keyWaitMs / 1000)} s.\n`,
            );
          }
          if (performance.now() - unknownSince >= keyWaitMs) throw unknownKey(keyWaitMs);
          await pause(againMs, signal);
          continue;
        }
        failure = refusal(server, answer.status, told);
      } catch (error) {
        if (error instanceof CliError) throw error;
        if (signal.aborted) throw new CliError(130, 'Given up.', undefined, { cause: error });
        const known = transportFailure(
          error,
          server,
          'Where its CA is not one of the system’s, name it with --server-ca FILE.',
        );
        failure = known ?? new CliError(EXIT.failed, `${server} can not be asked: ${line(deepest(error).message)}`);
      }
      // A POST that went unanswered may have made its grant: the same token then finds its name taken, and says so.
      const passing = failure.exitCode === EXIT.unavailable;
      if (!passing || attempt >= MOST_TRIES || method !== 'GET') throw failure;
      await pause(againMs * attempt, signal);
      attempt += 1;
    }
  };
  const query = (values: Record<string, string>): string => new URLSearchParams(values).toString();
  return {
    mine: async (namespace, connection) =>
      ((await call('GET', `${REQUESTS_PATH}?${query({ namespace, connection })}`)) as RequestList).items,
    ask: async (request) => (await call('POST', REQUESTS_PATH, request)) as RequestView,
    look: async (namespace, name) =>
      (await call(
        'GET',
        `${REQUESTS_PATH}/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`,
      )) as RequestView,
  };
}

const unknownKey = (waitedMs: number): CliError =>
  new CliError(
    EXIT.unavailable,
    `The key of this job’s token is still not known after ${Math.round(waitedMs / 1000)} s; nothing was done`,
    'Run the job again. If it stays so, whoever runs Sallyport sees in the conditions of the IdentityProvider whether its issuer can be asked.',
  );

function refusal(server: string, status: number, body: unknown): CliError {
  const { message, hint } = (body as Partial<ApiProblem> | undefined)?.error ?? {};
  const text = typeof message === 'string' ? line(message).slice(0, 1000) : `${server} answered ${status}`;
  const next = typeof hint === 'string' ? line(hint).slice(0, 1000) : undefined;
  switch (status) {
    case 400:
    case 413:
      return new CliError(EXIT.misconfigured, text, next);
    case 401:
    case 403:
    case 409:
      return new CliError(EXIT.denied, text, next);
    case 429:
    case 502:
    case 503:
    case 504:
      return new CliError(EXIT.unavailable, text, next ?? 'Try again.');
    default:
      return new CliError(EXIT.failed, text, next);
  }
}
