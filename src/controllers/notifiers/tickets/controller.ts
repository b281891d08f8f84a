// Reads tickets where a policy goes by them, and casts the ticket system's votes (decide.ts). Guarantees: at most one
// vote of a purpose counts, since it is looked for before and made under a name that follows from the grant and the
// purpose; what could not be read is read again with growing, jittered pauses, or when the system says, for as long as
// the request waits; a vote is the operator's own, sealed like every other stamp.
import { specHash } from '../../../api/canonical.ts';
import type { AccessApproval, AccessApprovalSpec, AccessGrant } from '../../../api/grant.ts';
import { isTicketName } from '../../../api/notifier.ts';
import type { AccessPolicy } from '../../../api/policy.ts';
import type { Stamp } from '../../../api/schema.ts';
import { API_GROUP_VERSION } from '../../../api/schema.ts';
import type { Principal } from '../../../policy/principal.ts';
import { sealedStatus } from '../../grants/sealed.ts';
import { provenVotes } from '../../grants/votes.ts';
import type { ControllerContext } from '../../ports.ts';
import { type CacheEvent, keyOf, type Reconcile, splitKey } from '../../runtime.ts';
import type { Sealer } from '../../seal.ts';
import type { TicketSource } from '../controller.ts';
import { judgeReading, type TicketCase, ticketNeed, ticketSteps } from './decide.ts';

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;
const READ_MS = 20_000;
/** A ticket that nobody has approved yet is looked at again. */
const LOOK_AGAIN_MS = 30_000;

export interface TicketControllerOptions extends ControllerContext {
  source(ref: { kind?: string; name: string }, namespace: string): TicketSource | string;
}

/** The ticket system's own good votes on a grant. */
export function ticketVotes(
  grant: AccessGrant,
  approvals: readonly AccessApproval[],
  sealer: Pick<Sealer, 'checkStamp'>,
): TicketCase['votes'] {
  const { namespace, name, uid } = grant.metadata;
  const target = { kind: 'AccessGrant' as const, namespace, name, uid, specHash: specHash(grant.spec) };
  return provenVotes(target, approvals, sealer)
    .votes.filter((vote) => isTicketName(vote.voter.username))
    .map((vote) => ({ voter: vote.voter.username, decision: vote.decision, atMs: vote.atMs }));
}

export interface TicketController {
  touched(event: CacheEvent): string[];
  reconcile: Reconcile;
}

export function createTicketController(options: TicketControllerOptions): TicketController {
  const { cache, sealer, clock, store, log } = options;
  /** By uid of the grant: what this process has seen of its ticket. */
  const seen = new Map<string, { looked: boolean; failures: number; nextMs: number }>();

  const again = (ms: number): { againInMs: number } => ({ againInMs: ms });
  const jittered = (ms: number): number => ms / 2 + (ms / 2) * (options.random.bytes(2).readUInt16BE() / 65_536);

  return {
    touched(event) {
      const { namespace, name } = event.object.metadata;
      if (event.kind === 'AccessGrant') {
        if (event.type === 'Deleted') seen.delete(event.object.metadata.uid);
        return [keyOf(namespace, name)];
      }
      return [];
    },
    async reconcile(key, signal) {
      const { namespace = 'default', name } = splitKey(key);
      const grant = cache.get<AccessGrant>({ kind: 'AccessGrant', namespace, name });
      const status = grant && sealedStatus(grant, sealer);
      const ref = status?.policy;
      if (grant === undefined || status === undefined || ref === undefined || grant.spec.breakGlass === true)
        return undefined;
      const policy = cache.get<AccessPolicy>({ kind: 'AccessPolicy', namespace, name: ref.name });
      const { ticket } = policy?.spec ?? {};
      if (policy === undefined || policy.metadata.uid !== ref.uid || ticket === undefined) return undefined;
      const approvals = cache.indexed<AccessApproval>('AccessApproval', 'target', `AccessGrant ${key}`);
      const stamp = sealer.checkStamp(grant.spec.requester, grant.spec, grant.metadata.creationTimestamp);
      if (stamp.kind === 'Bad') return undefined;
      const { uid } = grant.metadata;
      const known = seen.get(uid) ?? { looked: false, failures: 0, nextMs: 0 };
      const steps = (policy.spec.approval?.steps ?? []).map((step) => ({ ...step, count: step.count ?? 1 }));
      const need = ticketNeed({
        status,
        ticket,
        steps: [...(policy.spec.access === 'Standing' ? [] : steps), ...ticketSteps(policy)],
        requestedMs: stamp.atMs,
        votes: ticketVotes(grant, approvals, sealer),
        looked: known.looked,
        nowMs: clock.now(),
      });
      if (need.kind === 'Nothing') {
        if (status.phase !== 'Pending' && status.phase !== 'Active') seen.delete(uid);
        return need.nextMs === undefined ? undefined : again(need.nextMs - clock.now());
      }
      // Whoever stamped the vote before it may have a clock that is ahead; one from before its step was open counts not.
      if (clock.now() <= need.afterMs) return again(need.afterMs + 1 - clock.now());
      // A change of the grant is no reason to ask sooner than the system or the pause allows.
      if (clock.now() < known.nextMs) return again(known.nextMs - clock.now());
      const source = options.source(ticket.notifier, namespace);
      const number = grant.spec.ticket ?? '';
      const reading =
        typeof source === 'string'
          ? ({ kind: 'Unknown', reason: source } as const)
          : await source.system
              .read(number, need.approvals, AbortSignal.any([signal, AbortSignal.timeout(READ_MS)]))
              .catch((error: unknown) => ({ kind: 'Unknown', reason: (error as Error).message }) as const);
      const verdict = judgeReading(reading, {
        ticket,
        number,
        purpose: need.purpose,
        votes: need.approvals,
        people: peopleOf(stamp.principal, grant),
        accounts: typeof source === 'string' ? new Map() : source.accounts,
      });
      switch (verdict.kind) {
        case 'Unknown': {
          const failures = known.failures + 1;
          const pause = jittered(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures - 1, 10)));
          const waitMs = Math.max(pause, verdict.retryAfterMs ?? 0);
          seen.set(uid, { ...known, failures, nextMs: clock.now() + waitMs });
          log(failures > 3 ? 'warn' : 'info', 'a ticket could not be read; it is tried again', {
            grant: key,
            notifier: ticket.notifier.name,
            why: verdict.reason,
          });
          return again(waitMs);
        }
        case 'Silent':
          seen.set(uid, {
            looked: !verdict.again,
            failures: 0,
            nextMs: verdict.again ? clock.now() + LOOK_AGAIN_MS : 0,
          });
          return verdict.again ? again(LOOK_AGAIN_MS) : undefined;
        case 'Vote':
          seen.set(uid, { looked: true, failures: 0, nextMs: 0 });
          await cast(grant, approvals, verdict);
          return undefined;
      }
    },
  };

  async function cast(
    grant: AccessGrant,
    approvals: readonly AccessApproval[],
    vote: { voter: string; decision: AccessApprovalSpec['decision']; reason: string },
  ): Promise<void> {
    const { namespace, name, uid } = grant.metadata;
    const purpose = `${vote.voter.startsWith('ticket-check:') ? 'check' : 'vote'}-${vote.decision.toLowerCase()}`;
    // One of an earlier try whose stamp did not hold (a slow API server) leaves its name taken.
    const tries = approvals.filter((each) => each.metadata.name.startsWith(`ticket-${uid}-${purpose}-`)).length;
    const spec: AccessApprovalSpec = {
      targetRef: { kind: 'AccessGrant', name, uid },
      specHash: specHash(grant.spec),
      decision: vote.decision,
      reason: vote.reason.slice(0, 1024),
    };
    const unsealed: Stamp = {
      via: 'Ticket',
      username: vote.voter,
      specHash: specHash(spec),
      nonce: options.random.bytes(16).toString('base64url'),
      at: new Date(clock.now()).toISOString(),
    };
    const result = await store.create<AccessApproval>(
      { kind: 'Operator' },
      {
        apiVersion: API_GROUP_VERSION,
        kind: 'AccessApproval',
        metadata: { name: `ticket-${uid}-${purpose}-${tries}`, ...(namespace ? { namespace } : {}) },
        spec: { ...spec, approver: { ...unsealed, seal: sealer.sealStamp(unsealed) } },
      },
    );
    if (result.kind === 'Ok' || result.kind === 'AlreadyExists') return;
    const why = result.kind === 'Invalid' ? result.problems.join('; ') : 'message' in result ? result.message : '';
    throw new Error(`the vote of ${vote.voter} could not be cast: ${result.kind} ${why}`);
  }
}

function peopleOf(requester: Principal, grant: AccessGrant): readonly Principal[] {
  const { beneficiary } = grant.spec;
  return beneficiary?.name === undefined
    ? [requester]
    : [requester, { username: beneficiary.name, groups: [], aliases: [] }];
}
