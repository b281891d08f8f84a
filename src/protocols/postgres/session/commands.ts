// Records of commands: what was asked, what was decided, by which rule. Masked before it is written.
import type { Decision } from '../../../policy/decision.ts';
import type { CommandBody } from '../../../recording/envelope.ts';
import { constantMember } from '../../../recording/recorder.ts';
import type { Refusal } from '../errors.ts';
import { maskDetectedText } from '../masking/detectors.ts';
import type { RedactedCommand, SessionMasking } from '../masking/masking.ts';
import { hideDetected, hideLiterals } from '../masking/redact.ts';
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
  if (command.masking !== undefined) {
    const single = command.statements?.length === 1 ? command.statements[0] : undefined;
    return command.masking.redact(single, command.text, command.parameters);
  }
  // A refusal is recorded without what its review knew: then all literals are hidden, not none.
  if (core.session.policy().masks.length > 0) return hideLiterals(command.text, command.parameters);
  return hideDetected(command.text, command.parameters);
}

function base(core: Core, id: number, command: Described): Omit<CommandBody, 'decision'> {
  const meaning = understanding(command.statements);
  let text: string;
  let parameters: readonly (string | null)[];
  if (command.masking === undefined && core.session.policy().masks.length === 0) {
    text = shownText(meaning, command.text);
    parameters = command.parameters.map((value) => (value === null ? null : maskDetectedText(value)));
  } else ({ text, parameters } = redacted(core, command));
  const { verb, effects, facts } = meaning;
  return parameters.length === 0 ? { id, verb, text, effects, facts } : { id, verb, text, parameters, effects, facts };
}

interface Understanding extends Pick<CommandBody, 'verb' | 'effects' | 'facts'> {
  /** It was recorded before, so it will be again. */
  again: boolean;
  /** The text it was last recorded with, and what is shown of it where no column is masked. */
  text: string | undefined;
  shown: string;
}
const NOT_UNDERSTOOD = {
  verb: 'SQL',
  effects: constantMember<readonly never[]>([]),
  facts: constantMember({ postgresql: {} }),
};
/** A prepared statement is bound thousands of times: what is recorded of its meaning is made once. */
const understandings = new WeakMap<readonly ClassifiedStatement[], Understanding>();

function understanding(statements: readonly ClassifiedStatement[] | undefined): Understanding {
  if (statements === undefined) return { ...NOT_UNDERSTOOD, again: false, text: undefined, shown: '' };
  let known = understandings.get(statements);
  if (known === undefined) {
    known = {
      verb: verbOf(statements),
      effects: statements.flatMap((statement) => statement.command.effects),
      facts: { postgresql: factsOf(statements) },
      again: false,
      text: undefined,
      shown: '',
    };
    understandings.set(statements, known);
  } else if (!known.again) {
    known.again = true;
    constantMember(known.effects);
    constantMember(known.facts);
  }
  return known;
}

/** Searching a text for what detectors recognise costs more than all else about recording it. */
function shownText(meaning: Understanding, text: string): string {
  if (meaning.text !== text) {
    meaning.text = text;
    meaning.shown = maskDetectedText(text);
  }
  return meaning.shown;
}

export function allowedBody(
  core: Core,
  id: number,
  command: Described,
  decision: Pick<Extract<Decision, { kind: 'Allow' }>, 'by' | 'warnings'>,
  hold?: { name: string; approvedBy: readonly string[] },
): CommandBody {
  const body: CommandBody = { ...base(core, id, command), decision: 'Allow', by: decision.by };
  if (decision.warnings.length > 0) body.warnings = decision.warnings;
  if (hold !== undefined) {
    body.hold = hold.name;
    body.approvedBy = hold.approvedBy;
  }
  return body;
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
    decision: 'Deny',
    code: refusal.code,
    denial,
    ...(refusal.by === undefined ? {} : { by: [refusal.by] }),
    message: refusal.message,
    ...(hold === undefined ? {} : { hold }),
  };
}

function verbOf(statements: readonly ClassifiedStatement[]): string {
  if (statements.length === 1) return statements[0]!.command.verb;
  return statements.map(({ command }) => command.verb).join('; ');
}

/** `schema.table.column` and so on; a part that is not known is `*`. */
function factsOf(statements: readonly ClassifiedStatement[]): object {
  const facts = statements.map(({ command }) => command.facts);
  const unique = (values: string[]): string[] => [...new Set(values)];
  return {
    tag: facts.map(({ tag }) => tag).join('; '),
    relations: unique(facts.flatMap(({ relations }) => relations.map((use) => `${use.schema ?? '*'}.${use.name}`))),
    columns: unique(
      facts.flatMap(({ columns }) => columns.map((use) => `${use.schema ?? '*'}.${use.relation ?? '*'}.${use.column}`)),
    ),
    functions: unique(facts.flatMap(({ functions }) => functions.map((use) => `${use.schema ?? '*'}.${use.name}`))),
  };
}
