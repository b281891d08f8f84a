// What has happened, read from what objects say now. Pure, and level-triggered: an object tells of everything that
// happened to it so far, however often one looks, each time under the same id; who was told of what already is the
// outbox' to know. Guarantees: nothing that the operator did not seal is told; no text of a statement and none of its
// literals is in a fact (a held command is told by its kind and where to look at it). Sessions are told by the proxy
// that has them: that one is believed.
import type { AccessGrant } from '../../api/grant.ts';
import type { CommandHold } from '../../api/hold.ts';
import type { NotifierEvent } from '../../api/notifier.ts';
import type { AccessSession } from '../../api/session.ts';
import { sealedStatus } from '../grants/sealed.ts';
import { sealedHold } from '../holds/decide.ts';
import type { Sealer } from '../seal.ts';

/** By name; texts as people and other systems wrote them, so to be escaped for whatever they are put into. */
export type Facts = Readonly<Record<string, string>>;

export interface Occurrence {
  event: NotifierEvent;
  /** Of the object it happened to. */
  uid: string;
  kind: 'AccessGrant' | 'CommandHold' | 'AccessSession';
  namespace: string;
  name: string;
  /** ms since 1970. */
  atMs: number;
  connection: string;
  /** Names of AccessPolicies of the namespace that it runs under or that held it. */
  policies: readonly string[];
  /** Something later has happened to the object that makes a person's look at this one idle. */
  superseded: boolean;
  facts: Facts;
}

const ms = (text: string | undefined, otherwise: number): number => {
  const value = Date.parse(text ?? '');
  return Number.isNaN(value) ? otherwise : value;
};

/** Leaves out what is not there. */
function factsOf(facts: Readonly<Record<string, string | undefined>>): Facts {
  return Object.fromEntries(
    Object.entries(facts).filter((entry): entry is [string, string] => entry[1] !== undefined && entry[1] !== ''),
  );
}

export function grantOccurrences(grant: AccessGrant, sealer: Pick<Sealer, 'checkFacts'>): Occurrence[] {
  const status = sealedStatus(grant, sealer);
  if (status === undefined) return [];
  const { metadata, spec } = grant;
  const requestedMs = ms(spec.requester?.at, ms(metadata.creationTimestamp, 0));
  const started = status.expiresAt !== undefined;
  const over = status.phase === 'Denied' || status.phase === 'Expired' || status.phase === 'Revoked';
  const signOff = status.conditions?.find((each) => each.type === 'SignedOff');
  const emergency = spec.breakGlass === true && started && signOff !== undefined;
  const votes = status.approvals ?? [];
  const finishedMs = ms(status.finishedAt, ms(status.expiresAt, requestedMs));
  const facts = factsOf({
    requester: spec.requester?.username,
    beneficiary: spec.beneficiary?.name,
    connection: spec.connectionRef.name,
    account: status.account ?? spec.account,
    policy: status.policy?.name,
    duration: spec.duration,
    reason: spec.reason,
    ticket: spec.ticket,
    notBefore: status.notBefore ?? spec.notBefore,
    expiresAt: status.expiresAt,
  });
  const occurrence = (
    event: NotifierEvent,
    atMs: number,
    superseded: boolean,
    more: Readonly<Record<string, string | undefined>> = {},
  ): Occurrence => ({
    event,
    uid: metadata.uid,
    kind: 'AccessGrant',
    namespace: metadata.namespace ?? 'default',
    name: metadata.name,
    atMs,
    connection: spec.connectionRef.name,
    policies: status.policy === undefined ? [] : [status.policy.name],
    superseded,
    facts: { ...facts, ...factsOf(more) },
  });
  const found: Occurrence[] = [];
  const waits = status.phase === 'Pending' && !started;
  // What was given at once has not been asked of anybody.
  if (!emergency && (waits || votes.length > 0 || (over && !started)))
    found.push(occurrence('GrantRequested', requestedMs, !waits, waits ? { waitingFor: status.waitingFor } : {}));
  if (emergency) found.push(occurrence('BreakGlass', requestedMs, false, { signOff: signOff.message }));
  else if (started) {
    const lastMs = votes.reduce((latest, vote) => Math.max(latest, ms(vote.at, requestedMs)), requestedMs);
    found.push(
      occurrence('GrantApproved', lastMs, over, {
        approvers: votes.map((vote) => vote.approver).join(', '),
        connectCommand: status.connectCommand,
      }),
    );
  }
  if (over && !started)
    found.push(
      occurrence('GrantDenied', finishedMs, false, { finishedBy: status.finishedBy, message: status.message }),
    );
  if (over && started) {
    found.push(occurrence('GrantEnded', finishedMs, false, { finishedBy: status.finishedBy, phase: status.phase }));
    if (emergency) {
      // Once it is over, somebody has to have looked.
      const signed = signOff.status === 'True';
      if (!signed) found.push(occurrence('SignOffDue', finishedMs, false, { signOff: signOff.message }));
    }
  }
  return found;
}

export function holdOccurrences(hold: CommandHold, sealer: Pick<Sealer, 'checkFacts'>): Occurrence[] {
  const { metadata, spec } = hold;
  const decided = sealedHold(hold, sealer);
  const namespace = metadata.namespace ?? 'default';
  const own = spec.rules
    .map(({ policy }) => policy.split('/'))
    .flatMap(([place, name]) => (place === namespace && name !== undefined ? [name] : []));
  const occurrence = (
    event: NotifierEvent,
    atMs: number,
    more: Readonly<Record<string, string | undefined>>,
  ): Occurrence => ({
    event,
    uid: metadata.uid,
    kind: 'CommandHold',
    namespace,
    name: metadata.name,
    atMs,
    connection: spec.connectionRef.name,
    policies: [...new Set(own)],
    superseded: event === 'HoldOpened' && decided !== undefined,
    facts: factsOf({
      requester: spec.requester.username,
      connection: spec.connectionRef.name,
      grant: spec.grantRef.name,
      command: commandKind(spec.summary),
      rules: spec.rules.map(({ policy, rule }) => `${policy} ${rule}`).join(', '),
      session: spec.sessionId,
      ...more,
    }),
  });
  const requestedMs = ms(spec.requestedAt, ms(metadata.creationTimestamp, 0));
  return [
    occurrence('HoldOpened', requestedMs, { until: spec.until }),
    ...(decided === undefined
      ? []
      : [
          occurrence('HoldDecided', ms(decided.decidedAt, requestedMs), {
            phase: decided.phase,
            deciders: decided.decidedBy?.join(', '),
            message: decided.reason,
          }),
        ]),
  ];
}

/** Words in capitals at the beginning, as command tags have them: whatever else a proxy writes there is left out. */
function commandKind(summary: string | undefined): string | undefined {
  return /^[A-Z]{2,24}( [A-Z]{2,24}){0,3}/.exec(summary ?? '')?.[0];
}

/** A session as told by its proxy, or by the process itself where there is only one. */
export function sessionOccurrences(session: AccessSession, grant: AccessGrant | undefined): Occurrence[] {
  const { metadata, spec, status } = session;
  const same = grant?.metadata.uid === spec.grantRef.uid ? grant : undefined;
  const occurrence = (
    event: NotifierEvent,
    atMs: number,
    more: Readonly<Record<string, string | undefined>> = {},
  ): Occurrence => ({
    event,
    uid: metadata.uid,
    kind: 'AccessSession',
    namespace: metadata.namespace ?? 'default',
    name: metadata.name,
    atMs,
    connection: spec.connectionRef.name,
    policies: same?.status?.policy === undefined ? [] : [same.status.policy.name],
    superseded: false,
    facts: factsOf({
      requester: spec.username,
      connection: spec.connectionRef.name,
      account: spec.account,
      grant: spec.grantRef.name,
      ticket: same?.spec.ticket,
      record: metadata.name,
      ...more,
    }),
  });
  const startedMs = ms(spec.startedAt, ms(metadata.creationTimestamp, 0));
  const ended = status?.phase === 'Ended' || status?.phase === 'Lost';
  return [
    occurrence('SessionStarted', startedMs),
    ...(ended ? [occurrence('SessionEnded', ms(status.endedAt, startedMs), { message: status.reason })] : []),
  ];
}
