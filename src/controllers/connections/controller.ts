// Says of each Connection where it is reached, what to trust there, and what is in its way. Reachability of the target
// is looked at when something changed and every few minutes, with the first account.
import type { Connection, ConnectionStatus } from '../../api/connection.ts';
import type { Condition } from '../../api/schema.ts';
import type { PolicyShard } from '../../policy/bundle.ts';
import { reservedInConnection, reservedNote } from '../../policy/reserved.ts';
import { sentence } from '../../policy/wording.ts';
import type { ProbeResult } from '../../protocols/protocol.ts';
import { withCondition } from '../conditions.ts';
import { objectOf } from '../grants/controller.ts';
import type { BrokenObject, ControllerContext } from '../ports.ts';
import { type Reconcile, splitKey } from '../runtime.ts';
import { writeStatus } from '../status.ts';

export const PROBE_EVERY_MS = 300_000;
const PROBE_RETRY_MS = 15_000;
/** How long the first word on a Connection waits for what there is to say of its proxies. */
const FIRST_WORD_MS = 600_000;

export interface ConnectionControllerOptions extends ControllerContext {
  compile(connection: Connection): PolicyShard | undefined;
  endpoint(connectionUid: string): { host: string; port: number } | undefined;
  caBundle: string;
  /** What is to be known of the keys of its listener; empty where its protocol has none. */
  publishedKeys(
    connection: Connection,
    endpoint: { host: string; port: number } | undefined,
  ): Pick<ConnectionStatus, 'ssh'>;
  broken(): readonly BrokenObject[];
  /** Logs in to the target once; never rejects. */
  probe(connection: Connection, signal: AbortSignal): Promise<ProbeResult>;
  /** Changes whenever the last probe says nothing any more, such as with a new password. */
  probeStamp?(connection: Connection): string;
  /** In a cluster the proxies serve and probe; this is what they say. Absent: this process serves and probes itself. */
  proxies?: ProxiesView;
}

export interface ProxiesView {
  /** Whether they were looked at since this process began. Until then what was said of them before stands. */
  known(connection: Connection): boolean;
  /** Why no proxy may serve this Connection as it is written; undefined: one may. */
  refused(connection: Connection): { reason: string; message: string } | undefined;
  /** Whether every proxy of the Connection enforces what is published, and if not, which does not and why. */
  programmed(connection: Connection): { ok: boolean; reason: string; message: string };
  /** What the proxies found at the target; undefined: none has looked yet. */
  reached(connection: Connection): ProbeResult | undefined;
}

export function createConnectionReconciler(options: ConnectionControllerOptions): Reconcile {
  const { cache, clock, records } = options;
  const probes = new Map<string, { stamp: string; atMs: number; result: ProbeResult }>();
  /** By key of Connections of which nothing was ever said: since when. */
  const unsaid = new Map<string, number>();
  const probed = async (key: string, connection: Connection, signal: AbortSignal): Promise<ProbeResult> => {
    const stamp = `${connection.metadata.generation} ${options.probeStamp?.(connection) ?? ''}`;
    const known = probes.get(key);
    const goodForMs = known?.result.kind === 'Reachable' ? PROBE_EVERY_MS : PROBE_RETRY_MS;
    if (known?.stamp === stamp && clock.monotonic() - known.atMs < goodForMs) return known.result;
    const result = await options.probe(connection, signal);
    probes.set(key, { stamp, atMs: clock.monotonic(), result });
    return result;
  };
  return async (key, signal) => {
    const { namespace, name } = splitKey(key);
    const connection = cache.get<Connection>({ kind: 'Connection', ...(namespace ? { namespace } : {}), name });
    if (connection === undefined) {
      probes.delete(key);
      unsaid.delete(key);
      return undefined;
    }
    const { uid, generation } = connection.metadata;
    // It is looked at again once they are known; to write a guess first would be two writes a Connection.
    const observed = connection.status?.observedGeneration;
    if (options.proxies?.known(connection) === false) {
      if (observed === generation) return undefined;
      const since = unsaid.get(key) ?? clock.monotonic();
      unsaid.set(key, since);
      const leftMs = since + FIRST_WORD_MS - clock.monotonic();
      if (observed === undefined && leftMs > 0) return { againInMs: leftMs };
    }
    unsaid.delete(key);
    const shard = options.compile(connection);
    const endpoint = options.endpoint(uid);
    const result =
      options.proxies === undefined ? await probed(key, connection, signal) : options.proxies.reached(connection);
    const programmed = options.proxies?.programmed(connection) ?? listening(endpoint);
    const set = (
      conditions: Condition[] | undefined,
      type: string,
      status: 'True' | 'False',
      reason: string,
      message: string,
    ): Condition[] =>
      withCondition(
        conditions,
        { type, status, reason, message: message.slice(0, 4096), observedGeneration: generation },
        clock.now(),
      );
    const broken = options
      .broken()
      .find((each) => each.kind === 'Connection' && each.namespace === namespace && each.name === name);
    const unserved = options.proxies?.refused(connection);
    const refused = shard?.policies.filter((policy) => !policy.accepted) ?? [];
    const brokenText = broken && `${sentence(broken.problem)} Until then every command is denied.`;
    const refusedText = `every command is denied because of ${refused.map((policy) => sentence(`${policy.name}: ${policy.problem ?? 'not accepted'}`)).join(' ')}`;
    let conditions = connection.status?.conditions;
    conditions =
      brokenText !== undefined
        ? set(conditions, 'Accepted', 'False', 'Broken', brokenText)
        : shard === undefined
          ? set(conditions, 'Accepted', 'False', 'UnknownType', `No protocol serves type ${connection.spec.type}.`)
          : unserved !== undefined
            ? set(conditions, 'Accepted', 'False', unserved.reason, unserved.message)
            : refused.length > 0
              ? set(conditions, 'Accepted', 'False', 'PolicyNotAccepted', `E${refusedText.slice(1)}`)
              : shard.policies.length === 0
                ? set(
                    conditions,
                    'Accepted',
                    'True',
                    'NoPolicy',
                    'No policy selects it, so nobody has access. Write an AccessPolicy.',
                  )
                : set(
                    conditions,
                    'Accepted',
                    'True',
                    'Accepted',
                    `${shard.policies.length === 1 ? '1 policy is' : `${shard.policies.length} policies are`} in force.${reservedNote(reservedInConnection(connection, options.proxies === undefined ? 'Local' : 'Cluster'))}`,
                  );
    conditions = set(conditions, 'Programmed', programmed.ok ? 'True' : 'False', programmed.reason, programmed.message);
    conditions =
      brokenText !== undefined
        ? // Whoever looks at one column is to see it, whatever the target that was meant before answers.
          set(conditions, 'Ready', 'False', 'Broken', brokenText)
        : result?.kind === 'Failed'
          ? set(
              conditions,
              'Ready',
              'False',
              'TargetUnreachable',
              [result.reason, result.hint].map(sentence).join(' ').trim(),
            )
          : !programmed.ok
            ? set(conditions, 'Ready', 'False', programmed.reason, programmed.message)
            : result === undefined
              ? set(conditions, 'Ready', 'False', 'NotProbed', 'No proxy has logged in to the target yet.')
              : refused.length > 0
                ? // It can be reached and yet not be used: whoever looks at one column is to see that.
                  set(conditions, 'Ready', 'False', 'PolicyNotAccepted', `The target answers, but ${refusedText}`)
                : set(conditions, 'Ready', 'True', 'Ready', `The target answers (${result.version}).`);
    const status: ConnectionStatus = {
      observedGeneration: generation,
      ...(endpoint !== undefined ? { endpoint, caBundle: options.caBundle } : {}),
      ...options.publishedKeys(connection, endpoint),
      conditions,
    };
    if (observed !== generation) {
      await records.write({
        act: observed === undefined ? 'connection.create' : 'connection.change',
        actor: { username: options.proxies === undefined ? 'files' : 'kubernetes' },
        object: objectOf(connection),
        details: { generation },
      });
    }
    await writeStatus(options, connection, status);
    if (options.proxies !== undefined) return undefined;
    return { againInMs: result?.kind === 'Reachable' ? PROBE_EVERY_MS : PROBE_RETRY_MS };
  };
}

const listening = (endpoint: { host: string; port: number } | undefined) =>
  endpoint === undefined
    ? {
        ok: false,
        reason: 'NotListening',
        message: 'No listener is open for it. See the log for why; a port may be taken.',
      }
    : { ok: true, reason: 'Listening', message: `Listens on ${endpoint.host}:${endpoint.port}.` };
