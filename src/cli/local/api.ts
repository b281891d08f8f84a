// Serves the local API. The socket is 0600 in a 0700 folder: the operating system decides who may talk to it. Requests
// are bounded in size and time. It adds nothing to what the store and the operator check.
import fs from 'node:fs';
import http from 'node:http';
import type { Connection } from '../../api/connection.ts';
import { parseDuration } from '../../api/duration.ts';
import type { AccessGrantSpec } from '../../api/grant.ts';
import { objectOf } from '../../controllers/grants/controller.ts';
import type { Operator } from '../../controllers/operator.ts';
import type { ControlRecords } from '../../controllers/ports.ts';
import type { Gateway } from '../../gateway/gateway.ts';
import { sessionLimits } from '../../policy/prepare-session.ts';
import type { Principal } from '../../policy/principal.ts';
import type { Actor, KindName, NewObject, ResourceStore } from '../../store/resource-store.ts';
import { HttpError } from '../../system/http-error.ts';
import type {
  CreateAnswer,
  CreateRequest,
  EligibilityAnswer,
  EligibilityQuery,
  FileProblemView,
  LocalInfo,
  ReadNote,
} from './api-types.ts';
import { type ProofSources, provenBy } from './prove.ts';
import { renewLocally } from './renew.ts';

const BODY_LIMIT = 1024 * 1024;
const REQUEST_MS = 30_000;

export interface LocalServices {
  info: LocalInfo;
  store: ResourceStore;
  operator: Operator;
  gateway: Gateway;
  records: ControlRecords;
  problems(): FileProblemView[];
  /** What proofs are made for and checked with. */
  identity: Omit<ProofSources, 'store' | 'now'>;
  /** The schema of a Connection's target, as policy tests read it. Rejects with a message for people. */
  catalog(connection: Connection, account: string | undefined, signal: AbortSignal): Promise<unknown>;
}

export interface LocalApi {
  close(): Promise<void>;
}

/** Listens on `socketPath`; a socket that a dead process left is replaced (the store's lock says that it is dead). */
export async function serveLocalApi(socketPath: string, services: LocalServices): Promise<LocalApi> {
  fs.rmSync(socketPath, { force: true });
  const server = http.createServer((request, response) => {
    answer(services, request).then(
      (body) => send(response, 200, body),
      (error: unknown) => {
        const known = error instanceof HttpError;
        send(response, known ? error.status : 500, {
          error: {
            message: error instanceof Error ? error.message : String(error),
            ...(known && error.hint ? { hint: error.hint } : {}),
            ...(known && error.status === 403 ? { exitCode: 77 } : {}),
          },
        });
      },
    );
  });
  server.requestTimeout = REQUEST_MS;
  server.headersTimeout = REQUEST_MS;
  server.maxConnections = 256;
  const umask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(socketPath, resolve);
    });
  } finally {
    process.umask(umask);
  }
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function send(response: http.ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' });
  response.end(JSON.stringify(body));
}

async function readBody(request: http.IncomingMessage): Promise<Record<string, unknown>> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > BODY_LIMIT) throw new HttpError(413, 'The request is larger than 1 MiB.');
    parts.push(part);
  }
  try {
    const body = JSON.parse(Buffer.concat(parts).toString('utf8')) as unknown;
    if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body as Record<string, unknown>;
  } catch {
    // said below
  }
  throw new HttpError(400, 'The request holds no JSON object.');
}

function actorIn(body: Record<string, unknown>): Principal {
  const actor = body['actor'] as Partial<Principal> | undefined;
  const strings = (value: unknown): value is string[] =>
    Array.isArray(value) && value.every((each) => typeof each === 'string');
  if (typeof actor?.username !== 'string' || actor.username === '' || !strings(actor.groups)) {
    throw new HttpError(400, 'The request does not say who makes it.');
  }
  if (actor.username.startsWith('system:')) throw new HttpError(403, 'No person’s name begins with "system:".');
  return { username: actor.username, groups: actor.groups, aliases: [] };
}

const KINDS: readonly string[] = [
  'Connection',
  'AccessPolicy',
  'ClusterAccessPolicy',
  'AccessGrant',
  'AccessApproval',
  'CommandHold',
  'AccessLock',
  'IdentityProvider',
  'Notifier',
  'ClusterNotifier',
];
/** What people make; the rest is files or the gateway's own. */
const CREATABLE: readonly string[] = ['AccessGrant', 'AccessApproval', 'AccessLock'];

function kindIn(value: unknown, allowed = KINDS): KindName {
  if (typeof value === 'string' && allowed.includes(value)) return value as KindName;
  throw new HttpError(400, `This can not be done with kind ${String(value)}.`);
}

async function answer(services: LocalServices, request: http.IncomingMessage): Promise<unknown> {
  const url = new URL(request.url ?? '/', 'http://local');
  const parameter = (name: string): string | undefined => url.searchParams.get(name) ?? undefined;
  switch (`${request.method} ${url.pathname}`) {
    case 'GET /v1/info':
      return services.info;
    case 'GET /v1/list':
      return services.store.list(kindIn(parameter('kind')), parameter('namespace'));
    case 'GET /v1/get': {
      const namespace = parameter('namespace');
      const kind = kindIn(parameter('kind'));
      const object = await services.store.get({
        kind,
        ...(namespace ? { namespace } : {}),
        name: parameter('name') ?? '',
      });
      return object === undefined ? {} : { object };
    }
    case 'POST /v1/eligibility': {
      const body = await readBody(request);
      return eligibilityOf(services, { ...(body as unknown as EligibilityQuery), actor: actorIn(body) });
    }
    case 'POST /v1/create': {
      const body = await readBody(request);
      return create(services, { ...(body as unknown as CreateRequest), actor: actorIn(body) });
    }
    case 'GET /v1/identity':
      return { cluster: services.identity.cluster, providers: services.identity.providers() };
    case 'POST /v1/identity/unknown-key': {
      const { provider } = await readBody(request);
      if (typeof provider === 'string') services.identity.onUnknownKey(provider);
      return {};
    }
    case 'POST /v1/prove':
      return prove(services, ((await readBody(request))['object'] ?? {}) as NewObject);
    case 'POST /v1/delete': {
      const body = await readBody(request);
      const actor = actorIn(body);
      const key = {
        kind: kindIn(body['kind'], ['AccessLock']),
        namespace: String(body['namespace']),
        name: String(body['name']),
      };
      const object = await services.store.get(key);
      if (object === undefined) return { deleted: false };
      // Recorded before it takes effect; a refusal is recorded as well.
      await services.records.write({
        act: 'lock.delete',
        actor: { username: actor.username },
        object: objectOf(object),
      });
      const result = await services.store.delete({ kind: 'Person', principal: actor }, key, object.metadata.uid);
      if (result.kind === 'Forbidden' || result.kind === 'Conflict') {
        await services.records.write({
          act: 'lock.delete.refused',
          actor: { username: actor.username },
          object: objectOf(object),
          details: { message: result.message },
        });
        throw new HttpError(403, result.message);
      }
      return { deleted: result.kind === 'Ok' };
    }
    case 'GET /v1/sessions':
      return { sessions: services.gateway.sessions() };
    case 'POST /v1/kill': {
      const body = await readBody(request);
      const actor = actorIn(body);
      const id = String(body['id']);
      if (!services.gateway.sessions().some((session) => session.id === id)) return { killed: false };
      await services.records
        .write({
          act: 'session.kill',
          actor: { username: actor.username },
          object: { kind: 'Session', name: id },
        })
        .catch(() => undefined); // a full disk must not keep a session alive
      return { killed: services.gateway.kill(id, actor.username) };
    }
    case 'POST /v1/renew': {
      const renewal = await renewLocally(services.gateway, await readBody(request));
      if (renewal === undefined) throw new HttpError(400, 'The request holds no session and token.');
      return renewal;
    }
    case 'POST /v1/note': {
      const body = await readBody(request);
      const actor = actorIn(body);
      const { act, object, details } = body as unknown as ReadNote;
      if (!/^[A-Za-z]{1,40}$/.test(String(act))) throw new HttpError(400, 'The request names no act.');
      await services.records.write({
        act: `records.${act}`,
        actor: { username: actor.username },
        object: { kind: String(object?.kind).slice(0, 64), name: String(object?.name).slice(0, 512) },
        ...(details !== undefined && JSON.stringify(details).length < 4096 ? { details } : {}),
      });
      return {};
    }
    case 'GET /v1/problems':
      return { problems: services.problems() };
    case 'GET /v1/catalog': {
      const namespace = parameter('namespace') ?? '';
      const name = parameter('name') ?? '';
      const connection = services.operator.cache.get<Connection>({ kind: 'Connection', namespace, name });
      if (connection === undefined)
        throw new HttpError(404, `There is no Connection ${name} in namespace ${namespace}.`);
      return services
        .catalog(connection, parameter('account'), AbortSignal.timeout(REQUEST_MS))
        .catch((error: unknown) => {
          throw new HttpError(502, error instanceof Error ? error.message : String(error));
        });
    }
    default:
      throw new HttpError(
        404,
        `This Sallyport does not know ${request.method} ${url.pathname}.`,
        'Use a CLI of the same version.',
      );
  }
}

function eligibilityOf(services: LocalServices, query: EligibilityQuery): EligibilityAnswer {
  const { namespace, connection: name, actor } = query;
  const connection = services.operator.cache.get<Connection>({ kind: 'Connection', namespace, name });
  const found =
    connection &&
    services.operator.eligibility(connection, actor, {
      ...(query.account !== undefined ? { account: query.account } : {}),
      ...(query.policy !== undefined ? { policyRef: query.policy } : {}),
      ...(query.durationMs !== undefined ? { durationMs: query.durationMs } : {}),
      ...(query.breakGlass ? { breakGlass: true } : {}),
    });
  if (connection === undefined || found === undefined) {
    return { kind: 'NotFound', message: `There is no Connection ${name} in namespace ${namespace}` };
  }
  if (found.kind === 'NotEligible') return { kind: 'NotEligible', message: found.message, hint: found.hint };
  const { policy, compiled, account, access, durationMs, maxDurationMs, warnings } = found;
  const shard = services.operator.compile(connection)!;
  const { ticketUntilExpiry } = sessionLimits(shard, compiled.name);
  return {
    kind: 'Eligible',
    policy: policy.metadata.name,
    account,
    access,
    durationMs,
    maxDurationMs,
    warnings,
    ticketUntilExpiry,
  };
}

const create = (services: LocalServices, { actor, object }: CreateRequest): Promise<CreateAnswer> =>
  createAs(services, { kind: 'Person', principal: actor }, object);

async function createAs(
  services: LocalServices,
  actor: Actor & { kind: 'Person' },
  object: NewObject,
): Promise<CreateAnswer> {
  const kind = kindIn((object as Partial<CreateRequest['object']> | undefined)?.kind, CREATABLE);
  if (kind === 'AccessGrant') {
    // Told at once rather than by a request that waits in vain; the operator decides by itself all the same.
    const spec = object.spec as AccessGrantSpec;
    const durationMs = spec.duration === undefined ? undefined : parseDuration(spec.duration);
    const answer = eligibilityOf(services, {
      actor: actor.principal,
      namespace: object.metadata.namespace ?? '',
      connection: String(spec.connectionRef?.name),
      ...(spec.account !== undefined ? { account: spec.account } : {}),
      ...(spec.policyRef !== undefined ? { policy: spec.policyRef.name } : {}),
      ...(durationMs !== undefined ? { durationMs } : {}),
      ...(spec.breakGlass ? { breakGlass: true } : {}),
    });
    if (answer.kind === 'NotFound') return { kind: 'NotEligible', message: answer.message, hint: '' };
    if (answer.kind === 'NotEligible') return answer;
  }
  return services.store.create(actor, object);
}

/** Made as whoever the object's proof names; the caller's word for it counts nothing. */
async function prove(services: LocalServices, object: NewObject): Promise<CreateAnswer> {
  const { identity, store } = services;
  const proven = await provenBy(object, { ...identity, store, now: () => Date.now() });
  if (proven.kind === 'Used') return { kind: 'AlreadyExists' };
  if (proven.kind === 'Refused') return { kind: 'Forbidden', message: proven.message };
  const answer = await createAs(services, proven.actor, proven.object);
  if (answer.kind !== 'Ok' && proven.proof !== undefined) identity.spent.giveBack(proven.proof);
  return answer;
}
