// While a connect lives: newer tokens of its person for its sessions, where the policy wants sessions to prove themselves
// again. Without a login here nothing is done; the gateway tells the client in time, and ends the session.
import { parseDuration } from '../../api/duration.ts';
import type { AccessGrant } from '../../api/grant.ts';
import type { AccessPolicy, ClusterAccessPolicy } from '../../api/policy.ts';
import type { Renewal } from '../../gateway/renewal.ts';
import type { Context } from '../context.ts';
import { pause } from '../io.ts';
import { line } from '../render.ts';
import { type Handed, type KeepProvenOptions, keepProven } from './keep-proven.ts';
import type { Person } from './person.ts';

export interface RenewOptions {
  person: Person;
  namespace: string;
  connection: string;
  /** The grant in force now. */
  grant(): AccessGrant;
  /** Beside the token, where tickets open the sessions. */
  ticket(): string | undefined;
  /** Ids of sessions, where the way there tells them. */
  sessions?: (() => readonly string[]) | undefined;
  /** Each newer token, for clients that log in again. */
  onToken?(token: string): void;
  signal: AbortSignal;
}

/** Goes on until the signal fires. Never rejects. */
export async function renewSessions(context: Context, options: RenewOptions): Promise<void> {
  const { person, signal } = options;
  try {
    const reauthenticateMs = await reauthenticateOf(context, options.namespace, options.grant());
    if (reauthenticateMs === 'None') return;
    const first = await person.fresh({ signal });
    await keepProven({
      reauthenticateMs,
      first,
      async fresh(obtainedAfterMs) {
        const next = await person.fresh({ obtainedAfterMs, signal });
        if (next.token !== first.token) options.onToken?.(next.token);
        return next;
      },
      ...handOver(context, options),
      now: () => context.now(),
      pause: (ms) => pause(ms, signal),
      onProblem: (message) => context.io.err(`The session could not be proven again: ${line(message)}\n`),
    });
  } catch {
    // Given up, or the login is over: the gateway says the rest.
  }
}

function handOver(context: Context, options: RenewOptions): Pick<KeepProvenOptions, 'wanted' | 'hand'> {
  const startedMs = context.now();
  /** Ones that moved to an extension of the grant stay ours. */
  const ours = new Set<string>();
  const ids = async (): Promise<readonly string[]> => {
    if (options.sessions !== undefined) return options.sessions();
    const all = await context.client.sessions();
    for (const each of all) {
      const own = each.grant?.uid === options.grant().metadata.uid && each.startedAtMs >= startedMs - SKEW_MS;
      if (own) ours.add(each.id);
    }
    return all.map((each) => each.id).filter((id) => ours.has(id));
  };
  return {
    wanted: async () => (await ids()).length > 0,
    async hand(token) {
      const { namespace, connection } = options;
      const renewals: Renewal[] = [];
      try {
        for (const id of await ids()) {
          const ticket = options.ticket();
          const proof = { token, ...(ticket === undefined ? {} : { ticket }) };
          renewals.push(await context.client.renew({ namespace, connection, id }, proof));
        }
      } catch (error) {
        return { kind: 'Failed', message: error instanceof Error ? error.message : String(error), final: false };
      }
      return summary(renewals);
    },
  };
}

/** What became of all, as one answer: the earliest end, the worst refusal. Pure. */
export function summary(renewals: readonly Renewal[]): Handed {
  let known = false;
  let renewed = false;
  let endsAtMs = Number.POSITIVE_INFINITY;
  for (const each of renewals) {
    // One that was cut was told why, one that ended meanwhile wants nothing.
    if (each.kind === 'Cut' || (each.kind === 'Refused' && each.code === 'NoSession')) continue;
    if (each.kind === 'Renewed') {
      renewed = true;
      endsAtMs = Math.min(endsAtMs, each.endsAtMs ?? Number.POSITIVE_INFINITY);
    } else if (each.code === 'NotNewer') known = true;
    else return { kind: 'Failed', message: each.message, final: each.code === 'InvalidProof' };
  }
  if (renewed) return { kind: 'Renewed', ...(Number.isFinite(endsAtMs) ? { endsAtMs } : {}) };
  return { kind: known ? 'Known' : 'Nobody' };
}

/** How far a cluster's clock may be off from ours. */
const SKEW_MS = 5_000;

/** Of the grant's policy and of every guardrail; undefined: not all may be read, so the gateway is asked. */
async function reauthenticateOf(
  { client }: Context,
  namespace: string,
  grant: AccessGrant,
): Promise<number | 'None' | undefined> {
  const { policy } = grant.status ?? {};
  if (policy === undefined) return undefined;
  try {
    const [own, guardrails] = await Promise.all([
      client.get<AccessPolicy>('AccessPolicy', namespace, policy.name),
      client.list<ClusterAccessPolicy>('ClusterAccessPolicy'),
    ]);
    if (own === undefined) return undefined;
    const found = [own, ...guardrails].flatMap(({ spec }) => {
      const wanted = spec.session?.reauthenticate;
      const ms = wanted === undefined ? undefined : parseDuration(wanted);
      return ms === undefined ? [] : [ms];
    });
    return found.length === 0 ? 'None' : Math.min(...found);
  } catch {
    return undefined;
  }
}
