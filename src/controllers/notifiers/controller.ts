// Tells notifiers what happened. Two queues: one keeps a channel and an outbox for every notifier, the other looks at
// grants, holds and sessions and hands over what nobody was told yet. What was dealt with is kept in the notifier's own
// status (ledger.ts), so a new process goes on where the last one was killed: it may send the last messages once more,
// under the same ids, and media that can look do so first. Nothing waits for a notifier: grants, holds and emergencies go
// on whether or not anybody can be told. Guarantees: a Notifier hears of its own namespace alone (INV-12).
import type { Connection } from '../../api/connection.ts';
import type { AccessGrant } from '../../api/grant.ts';
import type { CommandHold } from '../../api/hold.ts';
import type { AnyNotifier, ClusterNotifierSpec, NotifierEvent, NotifierStatus } from '../../api/notifier.ts';
import type { Condition } from '../../api/schema.ts';
import type { AccessSession } from '../../api/session.ts';
import { selectorMatches } from '../../policy/selectors.ts';
import type { KindName } from '../../store/resource-store.ts';
import { rfc3339, withCondition } from '../conditions.ts';
import type { ControllerContext } from '../ports.ts';
import { type CacheEvent, keyOf, type Reconcile, splitKey } from '../runtime.ts';
import { writeStatus } from '../status.ts';
import { type Channel, channelOf, type NotifierServices } from './channel.ts';
import { compact, isDone, type Ledger, markDone, readLedger, writeLedger } from './ledger.ts';
import { messageId, messageOf } from './message.ts';
import { grantOccurrences, holdOccurrences, type Occurrence, sessionOccurrences } from './occurrences.ts';
import { createOutbox, type Outbox, type Settled } from './outbox.ts';
import type { TicketSystem } from './tickets/system.ts';

export const NOTIFIER_KINDS: readonly KindName[] = ['Notifier', 'ClusterNotifier'];
/** What they are told of. */
export const TOLD_KINDS: readonly KindName[] = ['AccessGrant', 'CommandHold', 'AccessSession'];
/** What is older has had its time. */
const OLDEST_MS = 24 * 3_600_000;

interface Live {
  uid: string;
  key: string;
  notifier: AnyNotifier;
  outbox: Outbox | undefined;
  ledger: Ledger;
  tickets: TicketSystem | undefined;
  secretsSeen: number;
}

export interface TicketSource {
  system: TicketSystem;
  /** Account ids by user name. */
  accounts: ReadonlyMap<string, string>;
}

export interface NotifierDesk {
  notifierKeys(event: CacheEvent): string[];
  toldKeys(event: CacheEvent): string[];
  reconcileNotifier: Reconcile;
  reconcileTold: Reconcile;
  /** A session that is no object, where there is one process. */
  session(session: AccessSession): void;
  /** A Secret changed: whoever waits because of it tries again. */
  secretsChanged(): void;
  tickets(ref: { kind?: string; name: string }, namespace: string): TicketSource | string;
  readonly idle: boolean;
  stop(): Promise<void>;
}

export function createNotifierDesk(
  context: ControllerContext & { services: NotifierServices; prefix: string; rescan(): void },
): NotifierDesk {
  const { cache, clock, sealer, services, log } = context;
  const startedMs = clock.now();
  const live = new Map<string, Live>();
  const sessions = new Map<string, AccessSession>();

  const close = async (key: string): Promise<void> => {
    const known = live.get(key);
    live.delete(key);
    await known?.outbox?.stop();
  };

  const find = (key: string): AnyNotifier | undefined => {
    const { namespace, name } = splitKey(key);
    return namespace === undefined
      ? cache.get<AnyNotifier>({ kind: 'ClusterNotifier', name })
      : cache.get<AnyNotifier>({ kind: 'Notifier', namespace, name });
  };

  const statusOf = (
    notifier: AnyNotifier,
    channel: Channel,
    ready?: Omit<Condition, 'lastTransitionTime' | 'type'>,
  ) => {
    const { status, metadata } = notifier;
    const now = clock.now();
    const accepted =
      channel.kind === 'Good'
        ? { status: 'True' as const, reason: 'Accepted', message: 'It can be used.' }
        : { status: 'False' as const, reason: 'Unusable', message: channel.message };
    let conditions = withCondition(
      status?.conditions,
      { type: 'Accepted', observedGeneration: metadata.generation, ...accepted },
      now,
    );
    const next =
      channel.kind === 'Good'
        ? (ready ??
          (conditions.some(({ type }) => type === 'Ready') && status?.observedGeneration === metadata.generation
            ? undefined
            : { status: 'Unknown' as const, reason: 'NothingSent', message: 'Nothing was sent since it was written.' }))
        : { status: 'False' as const, reason: 'Unusable', message: channel.message };
    if (next !== undefined)
      conditions = withCondition(conditions, { type: 'Ready', observedGeneration: metadata.generation, ...next }, now);
    const made: NotifierStatus = {
      ...status,
      observedGeneration: metadata.generation,
      conditions,
      ...(channel.kind === 'Good' && channel.publicKey !== undefined ? { publicKey: channel.publicKey } : {}),
    };
    if (channel.kind !== 'Good' || channel.publicKey === undefined) delete made.publicKey;
    return made;
  };

  const settled = async (
    entry: Live,
    { taken, dropped, trouble, waiting, oldestWaitingMs }: Settled,
  ): Promise<void> => {
    for (const message of [...taken, ...dropped]) markDone(entry.ledger, message);
    const now = clock.now();
    compact(entry.ledger, oldestWaitingMs, now);
    const notifier = find(entry.key);
    if (notifier?.metadata.uid !== entry.uid) return;
    const channel = channelOf(notifier, services, clock);
    if (trouble !== undefined && notifier.status?.conditions?.find(({ type }) => type === 'Ready')?.status !== 'False')
      log('warn', 'notices do not get through', { notifier: entry.key, why: trouble });
    const lost = dropped.length === 0 ? '' : ` ${dropped.length} were given up.`;
    const status = statusOf(
      notifier,
      channel,
      trouble === undefined
        ? { status: 'True', reason: 'Delivered', message: 'The last message was taken.' }
        : {
            status: 'False',
            reason: 'NotDelivered',
            message:
              `${trouble}. ${waiting === 0 ? 'Nothing waits' : `${waiting} wait and are tried again`}.${lost}`.slice(
                0,
                1024,
              ),
          },
    );
    await writeStatus(context, notifier, {
      ...status,
      delivered: (status.delivered ?? 0) + taken.length,
      ...(dropped.length > 0 || status.dropped !== undefined
        ? { dropped: (status.dropped ?? 0) + dropped.length }
        : {}),
      ...(taken.length > 0 ? { lastDeliveredAt: rfc3339(now) } : {}),
      outbox: writeLedger(entry.ledger),
    } satisfies NotifierStatus);
  };

  const reconcileNotifier: Reconcile = async (key) => {
    const notifier = find(key);
    if (notifier === undefined) {
      await close(key);
      return undefined;
    }
    const { uid, generation, creationTimestamp } = notifier.metadata;
    let entry = live.get(key);
    if (entry !== undefined && entry.uid !== uid) {
      await close(key);
      entry = undefined;
    }
    const channel = channelOf(notifier, services, clock);
    const fresh = entry === undefined || entry.notifier.metadata.generation !== generation;
    entry ??= {
      uid,
      key,
      notifier,
      outbox: undefined,
      ledger: readLedger(notifier.status, Date.parse(creationTimestamp)),
      tickets: undefined,
      secretsSeen: 0,
    };
    entry.notifier = notifier;
    if (fresh) {
      entry.tickets = channel.kind === 'Good' ? channel.tickets : undefined;
      if (channel.kind === 'Unusable') {
        log('warn', 'a notifier can not be used', { notifier: key, why: channel.message });
        await entry.outbox?.stop();
        entry.outbox = undefined;
      } else if (entry.outbox !== undefined) {
        entry.outbox.use(channel.medium);
      } else {
        const own = entry;
        entry.outbox = createOutbox({
          medium: channel.medium,
          clock,
          random: context.random,
          log,
          name: key,
          onSettled: (batch) => settled(own, batch),
          count: (outcome) => services.count?.(notifier.spec.type, outcome),
        });
      }
      live.set(key, entry);
    }
    await writeStatus(context, notifier, statusOf(notifier, channel));
    if (fresh) context.rescan();
    return undefined;
  };

  const wants = (notifier: AnyNotifier, occurrence: Occurrence): boolean => {
    const { spec, metadata } = notifier;
    const { namespace, connection: name } = occurrence;
    if (notifier.kind === 'Notifier' ? metadata.namespace !== namespace : !coversNamespace(notifier.spec, namespace))
      return false;
    if (spec.events !== undefined && !(spec.events as readonly NotifierEvent[]).includes(occurrence.event))
      return false;
    if (spec.policies !== undefined && !occurrence.policies.some((policy) => spec.policies!.includes(policy)))
      return false;
    if (spec.connections === undefined) return true;
    const connection = cache.get<Connection>({ kind: 'Connection', namespace, name });
    return selectorMatches(spec.connections, { namespace, name, labels: connection?.metadata.labels ?? {} });
  };

  const tell = (occurrences: readonly Occurrence[]): void => {
    const oldestMs = clock.now() - OLDEST_MS;
    for (const { notifier, outbox, ledger, uid } of live.values()) {
      if (outbox === undefined) continue;
      const idle = new Set<string>();
      for (const occurrence of occurrences) {
        if (occurrence.atMs < oldestMs || !wants(notifier, occurrence)) continue;
        const id = messageId(uid, occurrence);
        // Somebody who keeps books wants all of it; a person wants what can still be acted on.
        if (occurrence.superseded && notifier.spec.type !== 'Webhook') {
          idle.add(id);
          continue;
        }
        if (isDone(ledger, id, occurrence.atMs) || outbox.has(id)) continue;
        outbox.add(
          messageOf(occurrence, { uid, portalUrl: notifier.spec.portalUrl }, context.prefix),
          occurrence.atMs < startedMs,
        );
      }
      if (idle.size > 0) outbox.retract(idle);
    }
  };

  const grantOf = (session: AccessSession): AccessGrant | undefined =>
    cache.get<AccessGrant>({
      kind: 'AccessGrant',
      namespace: session.metadata.namespace ?? 'default',
      name: session.spec.grantRef.name,
    });

  return {
    notifierKeys: (event) =>
      NOTIFIER_KINDS.includes(event.kind) &&
      (event.type !== 'Modified' || event.previous?.metadata.generation !== event.object.metadata.generation)
        ? [keyOf(event.object.metadata.namespace, event.object.metadata.name)]
        : [],
    toldKeys: (event) =>
      TOLD_KINDS.includes(event.kind) && event.type !== 'Deleted'
        ? [keyOf(event.object.metadata.namespace, event.object.metadata.name)]
        : [],
    reconcileNotifier,
    async reconcileTold(key) {
      if (live.size === 0) return undefined;
      const { namespace = 'default', name } = splitKey(key);
      const grant = cache.get<AccessGrant>({ kind: 'AccessGrant', namespace, name });
      if (grant !== undefined) tell(grantOccurrences(grant, sealer));
      const hold = cache.get<CommandHold>({ kind: 'CommandHold', namespace, name });
      if (hold !== undefined) tell(holdOccurrences(hold, sealer));
      const session = cache.get<AccessSession>({ kind: 'AccessSession', namespace, name }) ?? sessions.get(key);
      if (session !== undefined) tell(sessionOccurrences(session, grantOf(session)));
      return undefined;
    },
    session(session) {
      const key = keyOf(session.metadata.namespace, session.metadata.name);
      if (session.status?.phase === 'Live') sessions.set(key, session);
      else sessions.delete(key);
      tell(sessionOccurrences(session, grantOf(session)));
    },
    secretsChanged() {
      for (const { notifier, outbox } of live.values()) {
        const channel = channelOf(notifier, services, clock);
        if (channel.kind === 'Good') outbox?.use(channel.medium);
      }
    },
    tickets(ref, namespace) {
      const cluster = ref.kind !== 'Notifier';
      const what = `${cluster ? 'ClusterNotifier' : 'Notifier'} ${ref.name}`;
      const entry = live.get(keyOf(cluster ? undefined : namespace, ref.name));
      if (entry === undefined) return `there is no ${what}`;
      const { notifier, tickets } = entry;
      if (notifier.kind === 'ClusterNotifier' && !coversNamespace(notifier.spec, namespace))
        return `${what} is not for namespace ${namespace}`;
      if (tickets === undefined) return `${what} is no ticket system that can be used; see its conditions`;
      const accounts = notifier.spec.jira?.accounts ?? notifier.spec.serviceNow?.accounts ?? [];
      return { system: tickets, accounts: new Map(accounts.map(({ username, account }) => [username, account])) };
    },
    get idle() {
      return [...live.values()].every(({ outbox }) => outbox?.idle ?? true);
    },
    async stop() {
      await Promise.all([...live.keys()].map(close));
    },
  };
}

const coversNamespace = (spec: ClusterNotifierSpec, namespace: string): boolean =>
  spec.namespaces === undefined || spec.namespaces.includes(namespace);
