// What the verbs ask of Sallyport, wherever it runs, and how the local daemon is asked: over its unix socket. Every call
// has a deadline; a daemon that is not there is a misconfiguration with a sentence that says how to start one. A cluster
// is asked by cluster/client.ts.
import http from 'node:http';
import path from 'node:path';
import type { Resource } from '../api/resource.ts';
import type { SessionInfo } from '../gateway/gateway.ts';
import type { Renewal, RenewalProof } from '../gateway/renewal.ts';
import type { Principal } from '../policy/principal.ts';
import type { KindName, NewObject } from '../store/resource-store.ts';
import { CliError, EXIT, pause } from './io.ts';
import {
  type CreateAnswer,
  type EligibilityAnswer,
  type EligibilityQuery,
  type FileProblemView,
  type LocalInfo,
  type ReadNote,
  SOCKET_NAME,
} from './local/api-types.ts';

const DEADLINE_MS = 15_000;
const POLL_MS = 150;
const ANSWER_LIMIT = 256 * 1024 * 1024;

/** `Unknown`: the policies may not be read, so only the operator can tell. */
export type Prospect = EligibilityAnswer | { kind: 'Unknown'; message: string };

/** Where a session is. */
export interface SessionPlace {
  namespace: string;
  connection: string;
  id: string;
}

export interface Client {
  info(): Promise<LocalInfo>;
  list<R extends Resource>(kind: KindName, namespace?: string): Promise<R[]>;
  get<R extends Resource>(kind: KindName, namespace: string | undefined, name: string): Promise<R | undefined>;
  /** The object now and after each change; undefined once it is gone. Ends with the signal's CliError. */
  follow<R extends Resource>(
    kind: KindName,
    namespace: string | undefined,
    name: string,
    signal: AbortSignal,
  ): AsyncIterable<R | undefined>;
  eligibility(query: EligibilityQuery): Promise<Prospect>;
  create(actor: Principal, object: NewObject): Promise<CreateAnswer>;
  remove(actor: Principal, kind: KindName, namespace: string, name: string): Promise<boolean>;
  sessions(): Promise<SessionInfo[]>;
  kill(actor: Principal, id: string): Promise<boolean>;
  /** Hands a live session of a Connection a newer token of its person. */
  renew(session: SessionPlace, proof: RenewalProof): Promise<Renewal>;
  /** Records that records were read. */
  note(actor: Principal, note: ReadNote): Promise<void>;
  problems(): Promise<FileProblemView[]>;
  catalog(namespace: string, name: string, account: string | undefined): Promise<unknown>;
}

export type LocalCall = (
  method: 'GET' | 'POST',
  route: string,
  body?: unknown,
  deadlineMs?: number,
) => Promise<unknown>;

/** Asks the daemon whose state is there. Rejects with a CliError. */
export function localCaller(state: string, prefix: string): LocalCall {
  const socketPath = path.join(state, SOCKET_NAME);
  return (method, route, body, deadlineMs = DEADLINE_MS) =>
    new Promise((resolve, reject) => {
      const request = http.request(
        {
          socketPath,
          method,
          path: route,
          agent: false,
          signal: AbortSignal.timeout(deadlineMs),
          headers: { 'content-type': 'application/json', host: 'sallyport' },
        },
        (response) => {
          const parts: Buffer[] = [];
          let size = 0;
          response.on('data', (part: Buffer) => {
            size += part.length;
            if (size > ANSWER_LIMIT) request.destroy(new Error('the answer is too large'));
            else parts.push(part);
          });
          response.on('error', reject);
          response.on('end', () => {
            try {
              const answer = JSON.parse(Buffer.concat(parts).toString('utf8')) as unknown;
              if ((response.statusCode ?? 500) < 400) return resolve(answer);
              const { error } = answer as { error: { message: string; hint?: string; exitCode?: number } };
              reject(new CliError(error.exitCode ?? EXIT.failed, error.message, error.hint));
            } catch (error) {
              reject(error as Error);
            }
          });
        },
      );
      request.on('error', (error: NodeJS.ErrnoException) => {
        const absent = error.code === 'ENOENT' || error.code === 'ECONNREFUSED';
        reject(
          absent
            ? new CliError(
                EXIT.misconfigured,
                `No Sallyport is running with state in ${state}`,
                `Start one with \`${prefix} local DIR --state ${state}\`, or name the state of a running one with --state or SALLYPORT_STATE.`,
              )
            : new CliError(EXIT.failed, `Sallyport at ${socketPath} did not answer: ${error.message}`),
        );
      });
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
}

export function createClient(state: string, prefix: string): Client {
  const call = localCaller(state, prefix);
  const query = (values: Record<string, string | undefined>): string =>
    new URLSearchParams(
      Object.entries(values).filter((entry): entry is [string, string] => entry[1] !== undefined),
    ).toString();

  const get = async <R extends Resource>(kind: KindName, namespace: string | undefined, name: string) =>
    ((await call('GET', `/v1/get?${query({ kind, namespace, name })}`)) as { object?: R }).object;

  return {
    info: async () => (await call('GET', '/v1/info')) as LocalInfo,
    list: async <R extends Resource>(kind: KindName, namespace?: string) =>
      ((await call('GET', `/v1/list?${query({ kind, namespace })}`)) as { items: R[] }).items,
    get,
    async *follow<R extends Resource>(
      kind: KindName,
      namespace: string | undefined,
      name: string,
      signal: AbortSignal,
    ) {
      for (;;) {
        yield await get<R>(kind, namespace, name);
        await pause(POLL_MS, signal);
      }
    },
    eligibility: async (asked) => (await call('POST', '/v1/eligibility', asked)) as EligibilityAnswer,
    create: async (actor, object) => (await call('POST', '/v1/create', { actor, object })) as CreateAnswer,
    remove: async (actor, kind, namespace, name) =>
      ((await call('POST', '/v1/delete', { actor, kind, namespace, name })) as { deleted: boolean }).deleted,
    sessions: async () => ((await call('GET', '/v1/sessions')) as { sessions: SessionInfo[] }).sessions,
    kill: async (actor, id) => ((await call('POST', '/v1/kill', { actor, id })) as { killed: boolean }).killed,
    renew: async ({ id }, proof) => (await call('POST', '/v1/renew', { session: id, ...proof })) as Renewal,
    note: async (actor, note) => void (await call('POST', '/v1/note', { actor, ...note })),
    problems: async () => ((await call('GET', '/v1/problems')) as { problems: FileProblemView[] }).problems,
    catalog: (namespace, name, account) =>
      call('GET', `/v1/catalog?${query({ namespace, name, account })}`, undefined, 60_000),
  };
}
