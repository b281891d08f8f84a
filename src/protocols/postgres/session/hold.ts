// A command that waits for somebody's consent: what the client is told, how long it may wait, how it ends.
import type { Subject } from '../../../api/schema.ts';
import type { Command } from '../../../policy/command.ts';
import type { Decision, HoldRequirement } from '../../../policy/decision.ts';
import type { HoldHandle, HoldOutcome } from '../../protocol.ts';
import { commandHash } from '../command-hash.ts';
import type { Refusal } from '../errors.ts';
import { noticeResponse } from '../wire/messages.ts';
import { type Described, redacted } from './commands.ts';
import type { Core } from './core.ts';

export interface Held {
  name: string;
  by: readonly string[];
}

export type HoldEnd = { kind: 'Released'; held: Held } | { kind: 'Refused'; refusal: Refusal; hold: string };

export interface Waiting {
  /** The client gave up. */
  withdraw(event?: 'ClientGone'): void;
  /** Never rejects. */
  outcome: Promise<HoldEnd>;
}

/** The client hears again after this long, so that people and idle timers on the way know it lives. */
const REMIND_MS = 20_000;
/** Left of idle_in_transaction_session_timeout when the wait ends, so that the denial still finds the transaction. */
const MARGIN_MS = 2_000;

export function holdCommand(
  core: Core,
  decision: Extract<Decision, { kind: 'Hold' }>,
  command: Command,
  described: Described,
  tell: (notice: Buffer) => void,
  /** Nothing the client sent before is unanswered, so the transaction state is known. */
  alone: boolean,
): Waiting {
  let handle: HoldHandle | undefined;
  let withdrawn = false;
  let gone: 'ClientGone' | undefined;
  const run = async (): Promise<HoldEnd> => {
    const longestMs = await longestWait(core, alone);
    const shown = redacted(core, described);
    handle = core.session.hold({
      command,
      decision,
      shown: { text: shown.text, hiddenLiterals: shown.hiddenLiterals },
      commandHash: commandHash({
        text: described.text,
        parameters: described.parameters,
        database: core.database,
        account: core.session.account,
      }),
      ...(longestMs === undefined ? {} : { longestMs }),
    });
    if (withdrawn) handle.withdraw(gone);
    const { name, untilMs, preapproved } = handle;
    let stopReminding: (() => void) | undefined;
    if (!preapproved && !withdrawn) {
      const remind = (): void => {
        tell(noticeOf(name, decision.requirements, untilMs - core.context.clock.now()));
        stopReminding = core.context.clock.after(REMIND_MS, remind);
      };
      remind();
    }
    try {
      return endOf(await handle.outcome, handle, decision, command, core.services.prefix);
    } finally {
      stopReminding?.();
    }
  };
  return {
    withdraw(event) {
      withdrawn = true;
      gone ??= event;
      handle?.withdraw(event);
    },
    outcome: run(),
  };
}

/** In an open transaction the server ends the session when it idles too long: the wait must end before. */
async function longestWait(core: Core, alone: boolean): Promise<number | undefined> {
  if (core.transaction === 'I' && alone) return undefined;
  try {
    const rows = await core.sideQuery(
      "select setting from pg_catalog.pg_settings where name = 'idle_in_transaction_session_timeout'",
    );
    const ms = Number(rows[0]?.[0] ?? '0');
    if (!(ms > 0)) return undefined;
    return Math.max(1_000, ms - Math.min(MARGIN_MS, ms / 2));
  } catch {
    return undefined; // the server's own timeout then ends the session, natively
  }
}

function noticeOf(name: string, requirements: readonly HoldRequirement[], leftMs: number): Buffer {
  const needs = requirements
    .map((one) => `rule "${one.by.rule}": needs ${one.count} of ${approvers(one.approvers)}`)
    .join(', and ');
  return noticeResponse({
    S: 'NOTICE',
    V: 'NOTICE',
    C: '00000',
    M: `Held as ${name} by ${needs} within ${Math.max(0, Math.round(leftMs / 1000))} s. Ctrl-C withdraws.`,
  });
}

function approvers(subjects: readonly Subject[]): string {
  if (subjects.length === 0) return 'nobody (the rule names no approvers)';
  const shown = subjects.slice(0, 3).map((subject) => `${subject.kind.toLowerCase()} ${subject.name ?? '?'}`);
  return shown.join(', ') + (subjects.length > 3 ? ` and ${subjects.length - 3} more` : '');
}

function endOf(
  outcome: HoldOutcome,
  handle: HoldHandle,
  decision: Extract<Decision, { kind: 'Hold' }>,
  command: Command,
  prefix: string,
): HoldEnd {
  const { name } = handle;
  const by = decision.requirements[0]?.by;
  const refused = (refusal: Omit<Refusal, 'by'>): HoldEnd => ({
    kind: 'Refused',
    hold: name,
    refusal: { ...refusal, by },
  });
  switch (outcome.kind) {
    case 'Approved':
      return { kind: 'Released', held: { name, by: outcome.by } };
    case 'Denied':
      return refused({
        code: 'HoldDenied',
        message: `Denied by an approver (${outcome.by.join(', ')})${outcome.reason === undefined ? '' : `: "${outcome.reason}"`} (hold ${name})`,
      });
    case 'TimedOut':
      return refused({
        code: 'HoldTimedOut',
        message: `Sallyport refused ${command.verb}: nobody consented in time (hold ${name})`,
        hint: `Ask an approver to look at \`${prefix} pending\`, then run it again.`,
      });
    case 'Withdrawn':
      return refused({
        code: 'HoldWithdrawn',
        message: `canceling statement due to user request (hold ${name} was withdrawn)`,
      });
    case 'Failed':
      return refused({
        code: 'HoldDenied',
        message: `Sallyport refused ${command.verb}: ${outcome.message} (hold ${name})`,
      });
  }
}
