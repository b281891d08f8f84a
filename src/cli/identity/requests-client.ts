// The portal's JSON API, as a job asks it (src/portal/api-types.ts).
import type { ApiProblem, PipelineRequest, RequestList, RequestView } from '../../portal/api-types.ts';
import { REQUESTS_PATH } from '../../portal/api-types.ts';
import { CliError, EXIT, pause } from '../io.ts';
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

export function requestsClient(
  server: string,
  caPem: string | undefined,
  tokens: WorkloadTokenSource,
  signal: AbortSignal,
): RequestsClient {
  const call = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const fetch = await pinnedFetch(caPem, true);
    for (let attempt = 1; ; attempt += 1) {
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
        if (answer.ok && told !== undefined) return told;
        failure = refusal(server, answer.status, told);
      } catch (error) {
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
      await pause(AGAIN_MS * attempt, signal);
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
