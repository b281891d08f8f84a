// What the verbs ask, asked of a Kubernetes API server. It has no rights but the person's own: RBAC, admission and the
// operator decide. Whether a policy fits is computed here as the operator does it, where the person may read policies,
// so that a request that waits in vain is not made; where not, the operator tells in the grant's status.
// Every call has a deadline; refusals are CliErrors that say what is missing (failures.ts).
import type { Connection } from '../../api/connection.ts';
import { parseDuration } from '../../api/duration.ts';
import type { AccessGrantSpec } from '../../api/grant.ts';
import type { AccessPolicy, ClusterAccessPolicy } from '../../api/policy.ts';
import type { Resource } from '../../api/resource.ts';
import type { AccessSession } from '../../api/session.ts';
import type { SessionInfo } from '../../gateway/gateway.ts';
import { type KubeAnswer, KubeConnectionError } from '../../kube/answer.ts';
import type { KubeClient } from '../../kube/client.ts';
import type { Principal } from '../../policy/principal.ts';
import type { KindName, NewObject } from '../../store/resource-store.ts';
import type { Client, Prospect } from '../client.ts';
import { CliError, EXIT, pause } from '../io.ts';
import type { CreateAnswer, EligibilityQuery } from '../local/api-types.ts';
import {
  type Attempt,
  connectionFailure,
  ForbiddenError,
  failureError,
  namesObject,
  type Place,
  resourceOf,
  unlessForbidden,
} from './failures.ts';
import { isClusterScoped, pathOf } from './plurals.ts';
import { renewThrough } from './renew.ts';

const PAGE = 500;
/** What was read for one eligibility is good for the next that long. */
const POLICIES_MS = 5_000;
const WATCH_SECONDS = 240;
/** API servers send a bookmark each minute. */
const SILENCE_MS = 150_000;
const POLL_MS = 1_000;
const LONGEST_PAUSE_MS = 10_000;
/** A refusal so soon after the last answer is not believed. */
const FORGIVEN_MS = 60_000;

export interface ClusterClientOptions {
  kube: KubeClient;
  place: Place;
  /** Of the verbs; undefined: all. */
  namespace: string | undefined;
  signal: AbortSignal;
}

export interface Policies {
  policies: AccessPolicy[];
  clusterPolicies: ClusterAccessPolicy[];
  /** The ClusterAccessPolicies may not be read: `clusterPolicies` is empty. They never make anybody eligible. */
  guardrailsHidden: boolean;
}

export interface ClusterClient extends Client {
  /** Everything that bears on the Connections of a namespace. Rejects with ForbiddenError where it may not be read. */
  policies(namespace: string): Promise<Policies>;
}

export function createClusterClient({ kube, place, namespace: chosen, signal }: ClusterClientOptions): ClusterClient {
  const asked = async <T>(attempt: Attempt, answer: Promise<KubeAnswer<T>>): Promise<KubeAnswer<T>> => {
    try {
      return await answer;
    } catch (error) {
      if (error instanceof KubeConnectionError) throw connectionFailure(error, attempt, place);
      throw error;
    }
  };
  const attemptOf = (verb: Attempt['verb'], kind: KindName, namespace?: string, name?: string): Attempt => ({
    verb,
    resource: resourceOf(kind),
    namespace: isClusterScoped(kind) ? undefined : namespace,
    name,
  });

  const list = async <R extends Resource>(kind: KindName, namespace?: string): Promise<R[]> => {
    const attempt = attemptOf('list', kind, namespace);
    const items: R[] = [];
    let next: string | undefined;
    do {
      const answer = await asked(
        attempt,
        kube.list<R>(pathOf(kind, { namespace }), { limit: PAGE, continue: next, signal }),
      );
      if (answer.kind === 'Failed') throw failureError(answer, attempt, place);
      for (const item of answer.value.items) items.push(complete(kind, item));
      next = answer.value.metadata.continue;
    } while (next);
    return items;
  };

  const get = async <R extends Resource>(
    kind: KindName,
    namespace: string | undefined,
    name: string,
  ): Promise<R | undefined> => {
    const attempt = attemptOf('get', kind, namespace, name);
    const answer = await asked(attempt, kube.get<R>(pathOf(kind, { namespace, name }), { signal }));
    if (answer.kind === 'Ok') return complete(kind, answer.value);
    if (answer.status === 404 && namesObject(answer)) return undefined;
    throw failureError(answer, attempt, place);
  };

  const read = new Map<string, { atMs: number; value: Promise<Policies> }>();
  const policies = (namespace: string): Promise<Policies> => {
    const known = read.get(namespace);
    if (known !== undefined && performance.now() - known.atMs < POLICIES_MS) return known.value;
    const value = Promise.all([
      list<AccessPolicy>('AccessPolicy', namespace),
      unlessForbidden(list<ClusterAccessPolicy>('ClusterAccessPolicy')),
    ]).then(([own, cluster]) => ({
      policies: own,
      clusterPolicies: cluster ?? [],
      guardrailsHidden: cluster === undefined,
    }));
    value.catch(() => undefined); // told by whoever awaits it
    read.set(namespace, { atMs: performance.now(), value });
    return value;
  };

  const eligibility = async (query: EligibilityQuery, given?: Connection): Promise<Prospect> => {
    const connection = given ?? (await get<Connection>('Connection', query.namespace, query.connection));
    if (connection === undefined) {
      return {
        kind: 'NotFound',
        message: `There is no Connection ${query.connection} in namespace ${query.namespace}`,
      };
    }
    let readable: Policies;
    try {
      readable = await policies(query.namespace);
    } catch (error) {
      if (error instanceof ForbiddenError) return { kind: 'Unknown', message: error.message };
      throw error;
    }
    return (await import('./prospect.ts')).prospect(connection, readable, query);
  };

  const create = async (actor: Principal, object: NewObject): Promise<CreateAnswer> => {
    const { kind, metadata } = object;
    if (kind === 'AccessGrant') {
      const refused = await refusedBefore(actor, object);
      if (refused !== undefined) return refused;
    }
    const { name, ...rest } = metadata;
    const attempt = attemptOf('create', kind, metadata.namespace);
    const body = { ...object, metadata: name.endsWith('-') ? { ...rest, generateName: name } : metadata };
    const answer = await asked(
      attempt,
      kube.create<Resource>(pathOf(kind, { namespace: metadata.namespace }), body, {
        signal,
        fieldManager: 'kubectl-access',
        fieldValidation: 'Strict',
      }),
    );
    if (answer.kind === 'Ok') return { kind: 'Ok', value: complete(kind, answer.value) };
    if (answer.reason === 'AlreadyExists') return { kind: 'AlreadyExists' };
    throw failureError(answer, attempt, place);
  };

  const refusedBefore = async (actor: Principal, object: NewObject): Promise<CreateAnswer | undefined> => {
    const spec = object.spec as AccessGrantSpec;
    const durationMs = spec.duration === undefined ? undefined : parseDuration(spec.duration);
    const answer = await eligibility({
      actor,
      namespace: object.metadata.namespace ?? 'default',
      connection: spec.connectionRef.name,
      ...(spec.account !== undefined ? { account: spec.account } : {}),
      ...(spec.policyRef !== undefined ? { policy: spec.policyRef.name } : {}),
      ...(durationMs !== undefined ? { durationMs } : {}),
      ...(spec.breakGlass ? { breakGlass: true } : {}),
    });
    if (answer.kind === 'NotFound') return { kind: 'NotEligible', message: answer.message, hint: '' };
    return answer.kind === 'NotEligible' ? answer : undefined;
  };

  const remove = async (kind: KindName, namespace: string, name: string, uid?: string): Promise<boolean> => {
    const attempt = attemptOf('delete', kind, namespace, name);
    const answer = await asked(attempt, kube.delete(pathOf(kind, { namespace, name }), { signal, uid }));
    if (answer.kind === 'Ok') return true;
    if (answer.status === 404 && namesObject(answer)) return false;
    throw failureError(answer, attempt, place);
  };

  /** One watch: yields what changes, returns when it is to be begun again, throws where that is of no use. */
  async function* changes<R extends Resource>(
    kind: KindName,
    namespace: string | undefined,
    name: string,
    stop: AbortSignal,
  ): AsyncGenerator<R | undefined> {
    const attempt = attemptOf('watch', kind, namespace, name);
    const path = pathOf(kind, { namespace });
    const fieldSelector = `metadata.name=${name}`;
    const answer = await asked(attempt, kube.list<R>(path, { fieldSelector, signal: stop }));
    if (answer.kind === 'Failed') throw failureError(answer, { ...attempt, verb: 'list' }, place);
    const [first] = answer.value.items;
    yield first === undefined ? undefined : complete(kind, first);
    const watched = kube.watch<R>(path, {
      fieldSelector,
      resourceVersion: answer.value.metadata.resourceVersion,
      timeoutSeconds: WATCH_SECONDS,
      silenceMs: SILENCE_MS,
      signal: stop,
    });
    for await (const line of watched) {
      if (line.type === 'ERROR') {
        if (line.failure.status === 403) throw failureError(line.failure, attempt, place);
        return;
      }
      if (line.type !== 'BOOKMARK') yield line.type === 'DELETED' ? undefined : complete(kind, line.object);
    }
  }

  async function* follow<R extends Resource>(
    kind: KindName,
    namespace: string | undefined,
    name: string,
    stop: AbortSignal,
  ): AsyncGenerator<R | undefined> {
    let seen = false;
    let awayMs: number | undefined;
    /** Since when nothing is heard; a watch may well be silent for long, so its last event says nothing. */
    let lostMs: number | undefined = performance.now();
    let pauseMs = 250;
    let mayWatch = true;
    while (!stop.aborted) {
      try {
        if (mayWatch) {
          for await (const object of changes<R>(kind, namespace, name, stop)) {
            yield object;
            seen = true;
            lostMs = undefined;
            pauseMs = 250;
          }
        } else {
          yield await get<R>(kind, namespace, name);
          seen = true;
          lostMs = undefined;
          pauseMs = POLL_MS;
        }
      } catch (error) {
        if (stop.aborted) break;
        if (error instanceof ForbiddenError && error.attempt.verb !== 'get' && mayWatch) {
          mayWatch = false;
          continue;
        }
        // A laptop that slept, an API server that restarts (whose RBAC knows nobody at first): the wait goes on.
        lostMs ??= performance.now();
        const within = (sinceMs: number): boolean => performance.now() - sinceMs < FORGIVEN_MS;
        const away =
          error instanceof KubeConnectionError || (error instanceof CliError && error.exitCode === EXIT.unavailable);
        if (away) awayMs = performance.now();
        // However long it was away: what it refuses counts from when it is back.
        const passing = away
          ? seen || within(lostMs)
          : error instanceof ForbiddenError && (seen || awayMs !== undefined) && within(awayMs ?? lostMs);
        if (!passing) throw error;
      }
      await pause(pauseMs, stop);
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    }
    throw new CliError(130, 'Given up.');
  }

  const live = async (): Promise<AccessSession[]> =>
    (await list<AccessSession>('AccessSession', chosen)).filter((each) => (each.status?.phase ?? 'Live') === 'Live');

  return {
    info: () => Promise.reject(inLocalModeOnly('A cluster has no directory of files', 'Use sallyport local DIR.')),
    list,
    get,
    follow,
    policies,
    eligibility,
    create,
    remove: (_actor, kind, namespace, name) => remove(kind, namespace, name),
    sessions: async () => (await live()).map(sessionInfo),
    async kill(_actor, id) {
      const found = (await live()).filter((each) => each.metadata.name === id);
      const [only] = found;
      if (only === undefined) return false;
      if (found.length > 1) {
        throw new CliError(
          EXIT.misconfigured,
          `${found.length} sessions are called ${id}`,
          `Say which with -n: ${found.map((each) => each.metadata.namespace).join(', ')}.`,
        );
      }
      return remove('AccessSession', only.metadata.namespace ?? 'default', id, only.metadata.uid);
    },
    renew: (session, proof) => renewThrough(kube, session, proof, signal),
    note: () => Promise.resolve(),
    problems: () => Promise.resolve([]),
    catalog: () => Promise.reject(inLocalModeOnly('A cluster exports no catalog', 'Use sallyport local DIR.')),
  };
}

const inLocalModeOnly = (message: string, hint: string): CliError => new CliError(EXIT.misconfigured, message, hint);

/** Items of a list come without their kind. */
function complete<R extends Resource>(kind: KindName, object: R): R {
  return object.kind === kind ? object : { ...object, apiVersion: 'sallyport.dev/v1alpha1', kind };
}

function sessionInfo(session: AccessSession): SessionInfo {
  const { spec, metadata } = session;
  const startedAtMs = Date.parse(spec.startedAt);
  return {
    id: metadata.name,
    connection: { uid: '', name: spec.connectionRef.name, namespace: metadata.namespace ?? '' },
    protocol: '',
    state: 'Live',
    client: { address: spec.client, port: 0 },
    startedAtMs,
    lastActivityMs: startedAtMs,
    principal: { username: spec.username },
    grant: { name: spec.grantRef.name, uid: spec.grantRef.uid, policy: '', expiresAtMs: 0 },
    account: spec.account,
    holds: [],
  };
}
