// Whether a command may run: gate, rules, consent, record, in that order; and again when consent was given, as grant and
// rules may have changed meanwhile. What is sent to whom is the channel's business.
//
// Guarantees: `Run` is answered only after the command's record is written (INV-01); a wait always ends, and one that
// was withdrawn never runs.
import type { Decision } from '../../../policy/decision.ts';
import { safeText } from '../../../policy/wording.ts';
import { deniedMembers } from '../../../recording/denied-command.ts';
import type { CommandBody } from '../../../recording/envelope.ts';
import type { HoldHandle, HoldOutcome } from '../../protocol.ts';
import { hashedUser, sshCommandHash } from '../command-hash.ts';
import type { SshCommand } from '../facts.ts';
import type { Core } from './core.ts';
import { recordedFacts } from './recorded-facts.ts';
import { redactLine } from './redaction.ts';
import { EXIT_NOT_GRANTED, EXIT_REFUSED, holdLine, type Refusal, refusalLines } from './wording.ts';

export type Judged =
  | { kind: 'Run'; id: number }
  | {
      kind: 'Refused';
      id: number;
      lines: readonly string[];
      exitStatus: number;
      decision?: Extract<Decision, { kind: 'Deny' }>;
      hold?: HoldOutcome;
    }
  | { kind: 'Gone' };

export interface Judging {
  /** The client gave up, or left. Has no effect on what already runs. */
  withdraw(event?: 'ClientGone'): void;
  /** Never rejects. */
  readonly outcome: Promise<Judged>;
}

/** The client hears again after this long, so that people and idle timers on the way know it lives. */
const REMIND_MS = 20_000;

interface Consent {
  name: string;
  by: readonly string[];
  /** What was asked for: a rule that came since asks again. */
  decision: Extract<Decision, { kind: 'Hold' }>;
}

export interface JudgeParts {
  core: Core;
  /** undefined: it is the connection's as a whole. */
  channel: number | undefined;
  command: SshCommand;
  /** Names of variables and the like that go with it, for the record. */
  extras?: Readonly<Record<string, unknown>>;
  /** A line for people while they wait. */
  tell(line: string): void;
}

export function judge(parts: JudgeParts): Judging {
  const { core } = parts;
  let handle: HoldHandle | undefined;
  let withdrawn: { event: 'ClientGone' | undefined } | undefined;
  const outcome = run({
    parts,
    opened(opened) {
      handle = opened;
      if (withdrawn !== undefined) opened.withdraw(withdrawn.event);
    },
    isWithdrawn: () => withdrawn !== undefined,
  }).catch((error: unknown): Judged => {
    core.context.log('error', 'a command could not be judged', { error: String(error) });
    core.fail('Internal', 'Sallyport could not judge a command');
    return { kind: 'Gone' };
  });
  return {
    withdraw(event) {
      withdrawn ??= { event };
      handle?.withdraw(event);
    },
    outcome,
  };
}

interface Run {
  parts: JudgeParts;
  opened(handle: HoldHandle): void;
  isWithdrawn(): boolean;
}

async function run({ parts, opened, isWithdrawn }: Run): Promise<Judged> {
  const { core, command } = parts;
  const { session } = core;
  const id = core.nextCommandId();
  let consent: Consent | undefined;
  for (;;) {
    if (core.ending) return { kind: 'Gone' };
    const startedMs = core.context.clock.monotonic();
    const gate = session.gate();
    if (gate !== undefined)
      return await refuse(parts, id, { code: gate.code, message: gateMessage(command, gate.message), hint: gate.hint });
    if (consent !== undefined && isWithdrawn())
      return await refuse(parts, id, withdrawal(command, consent.name), consent);
    const decision = session.decide(command);
    session.observe.latency(core.context.clock.monotonic() - startedMs);
    if (decision.kind === 'Deny') {
      const { code, message, by, hint } = decision;
      return await refuse(parts, id, { code, message, by, hint }, consent, decision);
    }
    if (decision.kind === 'Allow' || (consent !== undefined && isCovered(decision, consent.decision)))
      return await allow(parts, id, decision, consent);
    session.observe.decision('Hold');
    const held = await hold(parts, decision, opened);
    if (held.outcome.kind !== 'Approved') {
      const by = decision.requirements[0]?.by;
      const refusal = { ...refusalOfHold(held.outcome, held.name, command, core.services.prefix), by };
      return await refuse(parts, id, refusal, { name: held.name, by: [], decision }, undefined, held.outcome);
    }
    consent = { name: held.name, by: held.outcome.by, decision };
  }
}

const gateMessage = (command: SshCommand, message: string): string =>
  message.startsWith('Sallyport') ? message : `Sallyport refused ${command.verb}: ${message}`;

/** Every rule that asks now was asked for then, and asks for no more. */
function isCovered(now: Extract<Decision, { kind: 'Hold' }>, then: Extract<Decision, { kind: 'Hold' }>): boolean {
  return now.requirements.every((one) =>
    then.requirements.some(
      ({ by, count }) => by.policy === one.by.policy && by.rule === one.by.rule && count >= one.count,
    ),
  );
}

async function hold(
  parts: JudgeParts,
  decision: Extract<Decision, { kind: 'Hold' }>,
  opened: (handle: HoldHandle) => void,
): Promise<{ name: string; outcome: HoldOutcome }> {
  const { core, command, channel } = parts;
  const { session, context } = core;
  const redacted = redactLine(command.text === '' ? command.verb : command.text);
  const handle = session.hold({
    ...(channel === undefined ? {} : { channel }),
    command,
    decision,
    shown: { text: safeText(redacted.text, Number.POSITIVE_INFINITY), hiddenLiterals: redacted.hidden },
    commandHash: sshCommandHash({
      kind: command.facts.kind,
      text: command.text,
      account: session.account,
      user: hashedUser(context.connection.spec, session.account, core.user),
    }),
  });
  opened(handle);
  let stopReminding: (() => void) | undefined;
  if (!handle.preapproved) {
    const remind = (): void => {
      if (core.ending) return;
      parts.tell(holdLine(handle.name, decision.requirements, handle.untilMs - context.clock.now()));
      stopReminding = context.clock.after(REMIND_MS, remind);
    };
    remind();
  }
  const outcome = await handle.outcome;
  stopReminding?.();
  return { name: handle.name, outcome };
}

function refusalOfHold(
  outcome: Exclude<HoldOutcome, { kind: 'Approved' }>,
  name: string,
  command: SshCommand,
  prefix: string,
): Refusal {
  switch (outcome.kind) {
    case 'Denied': {
      const reason = outcome.reason === undefined ? '' : `: "${outcome.reason}"`;
      return {
        code: 'HoldDenied',
        message: `Sallyport refused ${command.verb}: denied by ${outcome.by.join(', ')}${reason} (hold ${name})`,
      };
    }
    case 'TimedOut':
      return {
        code: 'HoldTimedOut',
        message: `Sallyport refused ${command.verb}: nobody consented in time (hold ${name})`,
        hint: `Ask an approver to look at \`${prefix} pending\`, then run it again.`,
      };
    case 'Withdrawn':
      return withdrawal(command, name);
    case 'Failed':
      return { code: 'HoldDenied', message: `Sallyport refused ${command.verb}: ${outcome.message} (hold ${name})` };
  }
}

const withdrawal = (command: SshCommand, name: string): Refusal => ({
  code: 'HoldWithdrawn',
  message: `Sallyport refused ${command.verb}: you withdrew it (hold ${name})`,
});

async function allow(
  parts: JudgeParts,
  id: number,
  decision: Extract<Decision, { kind: 'Allow' | 'Hold' }>,
  consent: Consent | undefined,
): Promise<Judged> {
  const { core } = parts;
  if (!(await recordAllowance(parts, id, decision, consent))) {
    return await refuse(parts, core.nextCommandId(), {
      code: 'RecordsUnwritable',
      message: `Sallyport refused ${parts.command.verb}: it could not be recorded`,
      hint: 'The gateway’s operators make room for records; it recovers by itself.',
    });
  }
  if (core.ending) return { kind: 'Gone' };
  core.session.observe.decision('Allow');
  return { kind: 'Run', id };
}

/** Records a command that may run. false: it could not be written, so that it may not. */
export function recordAllowance(
  parts: Omit<JudgeParts, 'tell'>,
  id: number,
  decision: Extract<Decision, { kind: 'Allow' | 'Hold' }>,
  consent?: Pick<Consent, 'name' | 'by'>,
): Promise<boolean> {
  const by = decision.kind === 'Allow' ? decision.by : decision.requirements.map((requirement) => requirement.by);
  const body: CommandBody = {
    ...base(parts, id),
    decision: 'Allow',
    by,
    ...(decision.warnings.length === 0 ? {} : { warnings: decision.warnings }),
    ...(consent === undefined ? {} : { hold: consent.name, approvedBy: consent.by }),
  };
  parts.core.session.record.append('command', body, parts.channel);
  return isWritten(parts.core);
}

async function refuse(
  parts: JudgeParts,
  id: number,
  refusal: Refusal,
  consent?: Consent,
  decision?: Extract<Decision, { kind: 'Deny' }>,
  outcome?: HoldOutcome,
): Promise<Judged> {
  const { core } = parts;
  const denial = recordDenial(parts, id, refusal, consent?.name);
  // Refused it is in any case; told it is when the record of it is on its way, too.
  await isWritten(core);
  if (core.ending) return { kind: 'Gone' };
  return {
    kind: 'Refused',
    id,
    lines: refusalLines(refusal, denial, core.services.prefix),
    exitStatus: outcome === undefined && refusal.code !== 'HoldWithdrawn' ? EXIT_REFUSED : EXIT_NOT_GRANTED,
    ...(decision === undefined ? {} : { decision }),
    ...(outcome === undefined ? {} : { hold: outcome }),
  };
}

/** Records a command that does not run; answers the denial's id. */
export function recordDenial(
  parts: Pick<JudgeParts, 'core' | 'channel' | 'command' | 'extras'>,
  id: number,
  refusal: Refusal,
  hold?: string,
): string {
  const { session } = parts.core;
  const denial = session.denialId();
  session.observe.decision('Deny', refusal.code);
  const body: CommandBody = {
    ...base(parts, id),
    ...deniedMembers(refusal, denial, hold),
  };
  session.record.append('command', body, parts.channel);
  return denial;
}

function base({ command, extras }: Pick<JudgeParts, 'command' | 'extras'>, id: number): Omit<CommandBody, 'decision'> {
  return {
    id,
    verb: command.verb,
    text: redactLine(command.text).text,
    effects: command.effects.map(({ action, object }) => ({
      action,
      object: object.map((part) => redactLine(part).text),
    })),
    facts: { ssh: { ...recordedFacts(command.facts), ...extras } },
  };
}

function isWritten(core: Core): Promise<boolean> {
  return new Promise((resolve) => {
    core.session.record.whenWritten((error) => {
      if (error !== undefined) core.context.log('error', 'records could not be written', { code: error.code });
      resolve(error === undefined);
    });
  });
}
