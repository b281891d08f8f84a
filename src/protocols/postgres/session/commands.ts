// Records of commands: what was asked, what was decided, by which rule. Masked before it is written.
import type { Decision } from '../../../policy/decision.ts';
import { maskDetectedText } from '../../../policy/detectors/detectors.ts';
import { deniedMembers } from '../../../recording/denied-command.ts';
import type { CommandBody } from '../../../recording/envelope.ts';
import { type ConstantMembers, constantMembers } from '../../../recording/recorder.ts';
import type { Refusal } from '../errors.ts';
import type { RedactedCommand, SessionMasking } from '../masking/masking.ts';
import { hideDetected, hideLiterals, mayHoldSecret } from '../masking/redact.ts';
import type { ClassifiedStatement } from '../statement.ts';
import type { Core } from './core.ts';

export interface Described {
  text: string;
  parameters: readonly (string | null)[];
  statements: readonly ClassifiedStatement[] | undefined;
  masking: SessionMasking | undefined;
}

/** Text and parameters as records and approvers may see them. */
export function redacted(core: Core, command: Described): RedactedCommand {
  const policy = core.session.policy();
  // Whoever is exempt from a mask may write down and look for what it covers; nobody knows here which literal that is.
  if (policy.unmasked !== undefined || mayHoldSecret(command.text) || command.parameters.some(isSecret))
    return hideLiterals(command.text, command.parameters);
  if (command.masking !== undefined) {
    const single = command.statements?.length === 1 ? command.statements[0] : undefined;
    return command.masking.redact(single, command.text, command.parameters);
  }
  // A refusal is recorded without what its review knew: then all literals are hidden, not none.
  if (policy.masks.length > 0) return hideLiterals(command.text, command.parameters);
  return hideDetected(command.text, command.parameters);
}

const isSecret = (value: string | null): boolean => value !== null && mayHoldSecret(value);

type Allowed = Pick<Extract<Decision, { kind: 'Allow' }>, 'by' | 'warnings'>;

/** What the records of a statement that runs again and again have in common. */
interface Recurring {
  /** undefined: it differs from time to time, and is no part of the members. */
  text: string | undefined;
  by: Allowed['by'];
  warnings: Allowed['warnings'];
  members: ConstantMembers;
}

interface Understanding extends Pick<CommandBody, 'verb' | 'effects' | 'facts'> {
  /** Undefined until it is recorded the second time. */
  recurring: Recurring | undefined;
  recorded: boolean;
}

const NONE: readonly never[] = [];
const NOT_UNDERSTOOD = { verb: 'SQL', effects: [], facts: { postgresql: {} } };
/** A prepared statement is bound thousands of times: what is recorded of its meaning is made once. */
const understandings = new WeakMap<readonly ClassifiedStatement[], Understanding>();

function understanding(statements: readonly ClassifiedStatement[] | undefined): Understanding {
  if (statements === undefined) return { ...NOT_UNDERSTOOD, recurring: undefined, recorded: false };
  let known = understandings.get(statements);
  if (known === undefined) {
    known = {
      verb: verbOf(statements),
      effects: statements.flatMap(({ command }) =>
        command.effects.map((effect) => ({ ...effect, object: effect.object.map((name) => maskDetectedText(name)) })),
      ),
      facts: { postgresql: factsOf(statements, (name) => maskDetectedText(name)) },
      recurring: undefined,
      recorded: false,
    };
    understandings.set(statements, known);
  }
  return known;
}

function base(core: Core, id: number, command: Described): Omit<CommandBody, 'decision'> {
  const { text, parameters } = redacted(core, command);
  const { verb, effects, facts } = understanding(command.statements);
  return parameters.length === 0 ? { id, verb, text, effects, facts } : { id, verb, text, parameters, effects, facts };
}

/** Records a command that is let through. */
export function recordAllowed(
  core: Core,
  id: number,
  command: Described,
  decision: Allowed,
  hold?: { name: string; approvedBy: readonly string[] },
): void {
  const { record } = core.session;
  const constant = hold === undefined ? recurringMembers(core, command, decision) : undefined;
  if (constant !== undefined) {
    const { parameters, text } = command;
    const own: { id: number; decision: 'Allow'; text?: string; parameters?: readonly (string | null)[] } = {
      id,
      decision: 'Allow',
    };
    if (!('text' in constant.members)) own.text = hideDetected(text, NONE).text;
    if (parameters.length > 0) own.parameters = hideDetected('', parameters).parameters;
    record.append('command', own, undefined, constant);
    return;
  }
  const body: CommandBody = { ...base(core, id, command), decision: 'Allow', by: decision.by };
  if (decision.warnings.length > 0) body.warnings = decision.warnings;
  if (hold !== undefined) {
    body.hold = hold.name;
    body.approvedBy = hold.approvedBy;
  }
  record.append('command', body);
}

/** Of a command whose text is shown as `redacted` shows it whatever its parameters are, from the second time on. */
function recurringMembers(core: Core, command: Described, { by, warnings }: Allowed): ConstantMembers | undefined {
  const { masking, parameters, statements, text } = command;
  const policy = core.session.policy();
  if (masking !== undefined || policy.masks.length > 0 || policy.unmasked !== undefined) return undefined;
  if (statements === undefined || parameters.some(isSecret)) return undefined;
  const meaning = understanding(statements);
  const known = meaning.recurring;
  if (mayHoldSecretNow(known, text)) return undefined;
  if (
    known !== undefined &&
    (known.text === undefined || known.text === text) &&
    known.by === by &&
    known.warnings === warnings
  )
    return known.members;
  if (!meaning.recorded) {
    meaning.recorded = true;
    return undefined;
  }
  const varies = known !== undefined && known.text !== text;
  const members = constantMembers({
    verb: meaning.verb,
    ...(varies ? {} : { text: hideDetected(text, NONE).text }),
    effects: meaning.effects,
    facts: meaning.facts,
    by,
    ...(warnings.length === 0 ? {} : { warnings }),
  });
  meaning.recurring = { text: varies ? undefined : text, by, warnings, members };
  return members;
}

/** A text that was looked at before need not be looked at again. */
function mayHoldSecretNow(known: Recurring | undefined, text: string): boolean {
  return known?.text !== text && mayHoldSecret(text);
}

export function refusedBody(
  core: Core,
  id: number,
  command: Described,
  refusal: Refusal,
  denial: string,
  hold?: string,
): CommandBody {
  return {
    ...base(core, id, command),
    ...deniedMembers(refusal, denial, hold),
  };
}

function verbOf(statements: readonly ClassifiedStatement[]): string {
  if (statements.length === 1) return statements[0]!.command.verb;
  return statements.map(({ command }) => command.verb).join('; ');
}

/** `schema.table.column` and so on; a part that is not known is `*`. */
function factsOf(statements: readonly ClassifiedStatement[], scrub: (name: string) => string): object {
  const facts = statements.map(({ command }) => command.facts);
  const unique = (values: string[]): string[] => [...new Set(values.map(scrub))];
  return {
    tag: facts.map(({ tag }) => tag).join('; '),
    relations: unique(facts.flatMap(({ relations }) => relations.map((use) => `${use.schema ?? '*'}.${use.name}`))),
    columns: unique(
      facts.flatMap(({ columns }) => columns.map((use) => `${use.schema ?? '*'}.${use.relation ?? '*'}.${use.column}`)),
    ),
    functions: unique(facts.flatMap(({ functions }) => functions.map((use) => `${use.schema ?? '*'}.${use.name}`))),
  };
}
