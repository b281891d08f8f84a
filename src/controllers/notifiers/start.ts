// Notifiers and tickets as the operator runs them: three queues, and what the rest of it asks of them.
import type { AccessApproval, AccessGrant } from '../../api/grant.ts';
import type { AccessPolicy } from '../../api/policy.ts';
import type { KindName } from '../../store/resource-store.ts';
import { sealedStatus } from '../grants/sealed.ts';
import type { ControllerContext } from '../ports.ts';
import { type CacheEvent, keyOf, type Queue, type Reconcile } from '../runtime.ts';
import type { NotifierServices } from './channel.ts';
import { createNotifierDesk, NOTIFIER_KINDS, type NotifierDesk, TOLD_KINDS } from './controller.ts';
import { createTicketController, ticketVotes } from './tickets/controller.ts';
import { ticketWithholds } from './tickets/decide.ts';

export interface NotifiersOptions extends ControllerContext {
  services: NotifierServices;
  prefix: string;
  queue(
    name: string,
    kinds: readonly KindName[],
    touched: (event: CacheEvent) => string[],
    reconcile: Reconcile,
  ): Queue;
}

export function startNotifiers(options: NotifiersOptions): NotifierDesk {
  const { cache } = options;
  const desk = createNotifierDesk({
    ...options,
    rescan() {
      for (const kind of TOLD_KINDS)
        for (const { metadata } of cache.list(kind)) told.add(keyOf(metadata.namespace, metadata.name));
      for (const { metadata } of cache.list('AccessGrant')) tickets.add(keyOf(metadata.namespace, metadata.name));
    },
  });
  options.queue('notifiers', NOTIFIER_KINDS, desk.notifierKeys, desk.reconcileNotifier);
  const told: Queue = options.queue('notices', TOLD_KINDS, desk.toldKeys, desk.reconcileTold);
  const reader = createTicketController({ ...options, source: desk.tickets });
  const tickets: Queue = options.queue('tickets', ['AccessGrant'], reader.touched, reader.reconcile);
  return desk;
}

/** Why an approved grant gives no access yet because of its ticket. */
export function withheldByTicket(
  { cache, sealer }: Pick<ControllerContext, 'cache' | 'sealer'>,
  grant: AccessGrant,
): string | undefined {
  if (grant.spec.ticket === undefined) return undefined;
  const status = sealedStatus(grant, sealer);
  if (status?.policy === undefined || status.expiresAt === undefined || grant.spec.breakGlass === true)
    return undefined;
  const { namespace, name } = grant.metadata;
  const policy = cache.get<AccessPolicy>({
    kind: 'AccessPolicy',
    ...(namespace ? { namespace } : {}),
    name: status.policy.name,
  });
  const { ticket } = policy?.spec ?? {};
  if (ticket === undefined) return undefined;
  const approvals = cache.indexed<AccessApproval>('AccessApproval', 'target', `AccessGrant ${keyOf(namespace, name)}`);
  return ticketWithholds(status, ticket, ticketVotes(grant, approvals, sealer));
}

/** The Connection whose bundle a vote of a ticket system may change, beside the grant's own status. */
export function connectionTouchedByTicket(event: CacheEvent, cache: ControllerContext['cache']): string[] {
  if (event.kind !== 'AccessApproval') return [];
  const { spec, metadata } = event.object as AccessApproval;
  if (spec.approver?.via !== 'Ticket' || spec.decision !== 'Keep') return [];
  const within = metadata.namespace === undefined ? {} : { namespace: metadata.namespace };
  const grant = cache.get<AccessGrant>({ kind: 'AccessGrant', ...within, name: spec.targetRef.name });
  return grant === undefined ? [] : [keyOf(metadata.namespace, grant.spec.connectionRef.name)];
}
