// Whether a statement may run: gate, understanding, rules, masks, in that order. Decides and changes nothing but caches;
// records, holds and what is sent instead are the frontend's business.
import type { Command } from '../../../policy/command.ts';
import { combine } from '../../../policy/decide.ts';
import type { Decision } from '../../../policy/decision.ts';
import type { SessionPolicy } from '../../../policy/session-policy.ts';
import type { Refusal } from '../errors.ts';
import { isClientOnlyEncoding } from '../handshake/startup.ts';
import type { MaskReview, SessionMasking } from '../masking/masking.ts';
import type { NameScope } from '../names/session.ts';
import type { ClassifiedStatement, SqlCommand } from '../statement.ts';
import { isTestedMajor } from '../upstream/parameters.ts';
import { type Core, mustUnderstand, wireName } from './core.ts';
import type { AppliedEffect, PassedVerdict, Portal, Prepared } from './types.ts';

export type Verdict =
  | { kind: 'Allow'; verdict: PassedVerdict; effects: readonly AppliedEffect[] }
  | {
      kind: 'Hold';
      decision: Extract<Decision, { kind: 'Hold' }>;
      /** What is held, for rules and people; several statements are joined. */
      command: Command;
      verdict: PassedVerdict;
      effects: readonly AppliedEffect[];
    }
  | {
      kind: 'Refuse';
      refusal: Refusal;
      statements: readonly ClassifiedStatement[] | undefined;
      decision: Decision | undefined;
    }
  /** The catalog must be read first; judge again when the promise has settled. Never rejects. */
  | { kind: 'Wait'; until: Promise<Refusal | undefined> };

const NOTHING: readonly never[] = [];

function refuse(refusal: Refusal, statements?: readonly ClassifiedStatement[], decision?: Decision): Verdict {
  return { kind: 'Refuse', refusal, statements, decision };
}

/** Judges the text of a Query. */
export function judgeText(core: Core, text: Buffer): Verdict {
  const policy = core.session.policy();
  const early = gateRefusal(core, policy);
  if (early !== undefined) return refuse(early);
  if (!mustUnderstand(policy)) return transparent(policy);
  const like = policy.masks.length === 0 ? core.services.classifyLike(text) : undefined;
  if (like !== undefined) {
    // What is said to people and what is held is this text's own: only an Allow may rest on another's.
    const verdict = judgeTexts(core, policy, like);
    if (verdict.kind === 'Allow') return verdict;
  }
  const statements = understand(core, text);
  if ('code' in statements) return refuse(statements);
  return judgeTexts(core, policy, statements);
}

/** Recurring statements are judged once while policy and names stay as they are. */
function judgeTexts(core: Core, policy: SessionPolicy, statements: readonly ClassifiedStatement[]): Verdict {
  if (policy.masks.length > 0) return judgeStatements(core, policy, statements, true);
  const known = core.passedTexts.get(statements);
  if (known !== undefined && known.generation === policy.generation && core.names.stands(known.verdict.basis))
    return { kind: 'Allow', verdict: known.verdict, effects: NOTHING };
  const verdict = judgeStatements(core, policy, statements, true);
  if (verdict.kind === 'Allow' && verdict.effects.length === 0 && statements.length === 1)
    core.passedTexts.set(statements, { generation: policy.generation, verdict: verdict.verdict });
  return verdict;
}

/**
 * Judges what a Bind would execute: every reading of the prepared statement's name. `bound`: it was planned earlier,
 * when names may have meant something else.
 */
export function judgePrepared(core: Core, candidates: readonly Prepared[], options: { bound?: boolean } = {}): Verdict {
  const policy = core.session.policy();
  const early = gateRefusal(core, policy);
  if (early !== undefined) return refuse(early);
  if (!mustUnderstand(policy)) return transparent(policy);
  if (candidates.length === 0) return refuse(unknownName('prepared statement'));
  const single = candidates[0]!;
  if (candidates.length === 1 && single.passed !== undefined && single.passed.generation === policy.generation) {
    const { verdict, basis } = single.passed;
    if (policy.masks.length === 0 && options.bound !== true && core.names.stands(basis))
      return { kind: 'Allow', verdict, effects: NOTHING };
  }
  const statements: ClassifiedStatement[] = [];
  for (const candidate of candidates) {
    if (candidate.statement !== undefined) {
      statements.push(candidate.statement);
      continue;
    }
    const understood = understand(core, Buffer.from(candidate.text, 'latin1'));
    if ('code' in understood) return refuse(understood);
    statements.push(...understood);
  }
  const verdict = judgeStatements(core, policy, statements, false, options.bound === true);
  if (verdict.kind === 'Allow' && candidates.length === 1 && verdict.effects.length === 0 && options.bound !== true) {
    single.passed = { generation: policy.generation, verdict: verdict.verdict, basis: verdict.verdict.basis };
  }
  return verdict;
}

/** Why nothing at all may run now. */
function gateRefusal(core: Core, policy: SessionPolicy): Refusal | undefined {
  const gate = core.session.gate();
  if (gate !== undefined) return { code: gate.code, message: gate.message, hint: gate.hint };
  if (!mustUnderstand(policy)) return undefined;
  if (policy.broken.length > 0) {
    const first = policy.broken[0]!;
    return {
      code: 'PolicyNotAccepted',
      message: `Sallyport refused the command: policy ${first.policy} is not in order, so everything here is denied`,
      hint: `${first.problem}. Its authors can mend it.`,
    };
  }
  if (!isTestedMajor(core.serverMajor)) {
    return {
      code: 'Unsupported',
      message: `Sallyport refused the command: rules and masks are not known to hold on PostgreSQL ${core.serverMajor}`,
      hint: 'Versions 13 to 18 are known.',
    };
  }
  if (policy.masks.length > 0 && core.parameters.get('is_superuser') === 'on') {
    return {
      code: 'MaskedData',
      message:
        'Sallyport refused the command: data is masked here, and the account is a superuser, from whom nothing can be hidden',
      hint: 'The Connection’s owners have to give the account fewer rights.',
    };
  }
  return undefined;
}

function transparent(policy: SessionPolicy): Verdict {
  return {
    kind: 'Allow',
    verdict: {
      by: policy.transparent === undefined ? NOTHING : [policy.transparent],
      warnings: NOTHING,
      statements: undefined,
      commands: undefined,
      basis: undefined,
      masking: undefined,
      review: undefined,
      barrier: false,
      defines: false,
      alternatives: false,
    },
    effects: NOTHING,
  };
}

function understand(core: Core, text: Buffer): readonly ClassifiedStatement[] | Refusal {
  const encoding = core.parameters.get('client_encoding') ?? 'UTF8';
  if (encoding !== 'UTF8' && !isAscii(text)) {
    return {
      code: 'NotUnderstood',
      message: `Sallyport refused the command: it has other than ASCII characters in client_encoding ${encoding}`,
      hint: 'SET client_encoding = UTF8.',
    };
  }
  const result = core.services.classify(text);
  if (result.kind === 'Statements') return result.statements;
  if (result.syntax !== undefined) {
    const { position } = result.syntax;
    return {
      code: 'NotUnderstood',
      // Recorded: without the piece of the text that the parser quotes.
      message: `Sallyport refused the command: syntax error at character ${position}`,
      syntax: { message: result.reason, position },
    };
  }
  return {
    code: 'NotUnderstood',
    message: `Sallyport refused the command: ${result.reason}`,
    hint: 'Rules or masks apply here, and what is not understood is not let through.',
  };
}

function isAscii(text: Buffer): boolean {
  for (let i = 0; i < text.length; i += 1) if (text[i]! > 0x7f) return false;
  return true;
}

function unknownName(what: string): Refusal {
  return {
    code: 'NotUnderstood',
    message: `Sallyport refused the command: the ${what} it names is not known here`,
    hint: 'Only what was prepared or declared through this session, while rules applied, can be judged. Prepare it again.',
  };
}

function judgeStatements(
  core: Core,
  policy: SessionPolicy,
  statements: readonly ClassifiedStatement[],
  fromText: boolean,
  bound = false,
): Verdict {
  const effects: AppliedEffect[] = [];
  /** Everything that must be allowed: the statements, and what EXECUTE and FETCH would run. */
  const all: ClassifiedStatement[] = [];
  const told = new Map<string, Prepared>();
  const declared = new Map<string, ClassifiedStatement>();
  let barrier = false;
  let defines = false;
  for (const statement of statements) {
    all.push(statement);
    const { facts } = statement.command;
    const refusal = pinnedSetting(statement);
    if (refusal !== undefined) return refuse(refusal, statements);
    if (mayChangeReading(statement)) barrier = true;
    if (mayDefine(statement)) {
      defines = true;
      barrier = barrier || policy.masks.length > 0;
    }
    const { session } = facts;
    if (session === undefined) continue;
    switch (session.kind) {
      case 'Prepare': {
        const prepared = preparedFrom(statement);
        told.set(session.name, prepared);
        effects.push({ effect: session, prepared });
        continue;
      }
      case 'Declare':
        declared.set(session.cursor, statement);
        effects.push({ effect: session, prepared: preparedFrom(statement) });
        continue;
      case 'Execute': {
        const local = told.get(session.name);
        const candidates = local === undefined ? core.statements.lookup(wireName(session.name), core.segment) : [local];
        if (candidates.length === 0) return refuse(unknownName('prepared statement'), statements);
        for (const candidate of candidates) {
          const inner = innerOf(core, candidate);
          if ('code' in inner) return refuse(inner, statements);
          all.push(...inner);
        }
        break;
      }
      case 'Fetch': {
        const local = declared.get(session.cursor);
        if (local !== undefined) {
          all.push(local);
          break;
        }
        const candidates = core.portals.lookup(wireName(session.cursor), core.segment);
        if (candidates.length === 0) return refuse(unknownName('cursor'), statements);
        for (const candidate of candidates) {
          const inner = innerOf(core, candidate.prepared);
          if ('code' in inner) return refuse(inner, statements);
          all.push(...inner);
        }
        break;
      }
      default:
        break;
    }
    effects.push({ effect: session });
  }
  const commands = all.map((statement) => statement.command);
  const reading = core.names.wait(policy, commands);
  if (reading !== undefined) return { kind: 'Wait', until: reading.then(() => undefined) };
  const scope = core.names.scope(policy, { bound });
  const meant = resolveAll(scope, commands);
  for (const { effect, prepared } of effects) {
    if (effect.kind !== 'Declare' || prepared?.statement === undefined) continue;
    const { command, tree } = prepared.statement;
    prepared.statement = { command: meant.declared.get(command) ?? command, tree };
  }
  const decision = combine(meant.resolved.map((command) => core.session.decide(command)));
  if (decision.kind === 'Deny') {
    const { code, message, by, hint } = decision;
    return refuse({ code, message, by, hint }, statements, decision);
  }
  const masked = policy.masks.length === 0 ? undefined : reviewAll(core, policy, all, defines && statements.length > 1);
  if (masked !== undefined && 'kind' in masked) return masked;
  const verdict: PassedVerdict = {
    by: decision.kind === 'Allow' ? decision.by : decision.requirements.map((requirement) => requirement.by),
    warnings: decision.warnings,
    statements,
    commands: meant.resolved,
    basis: scope.basis,
    masking: masked?.masking,
    review: masked?.review,
    barrier,
    defines,
    alternatives: !fromText,
  };
  const applied = fromText || effects.length > 0 ? effects : NOTHING;
  for (const item of applied)
    if (item.prepared !== undefined && item.effect.kind === 'Declare') declare(item, verdict, policy);
  if (decision.kind === 'Allow') return { kind: 'Allow', verdict, effects: applied };
  return { kind: 'Hold', decision, command: joined(statements), verdict, effects: applied };
}

/** A cursor is planned when it is declared: what its names mean then is what they mean when it is fetched from. */
function resolveAll(
  scope: NameScope,
  commands: readonly SqlCommand[],
): { resolved: readonly SqlCommand[]; declared: ReadonlyMap<SqlCommand, SqlCommand> } {
  const declared = new Map<SqlCommand, SqlCommand>();
  const resolved = commands.map((command) => {
    const before = declared.get(command);
    if (before !== undefined) return before;
    const one = scope.resolve(command);
    if (command.facts.session?.kind === 'Declare') declared.set(command, one);
    return one;
  });
  return { resolved, declared };
}

function declare(item: { prepared?: Prepared; portal?: Portal }, verdict: PassedVerdict, policy: SessionPolicy): void {
  const prepared = item.prepared;
  if (prepared === undefined) return;
  item.portal = {
    prepared,
    commandId: undefined,
    generation: policy.generation,
    verdict,
    parameters: NOTHING,
    effects: NOTHING,
  };
}

function preparedFrom(statement: ClassifiedStatement): Prepared {
  return { size: 0, text: statement.command.text, parameterTypes: NOTHING, statement, passed: undefined };
}

function innerOf(core: Core, prepared: Prepared): readonly ClassifiedStatement[] | Refusal {
  if (prepared.statement !== undefined) return [prepared.statement];
  return understand(core, Buffer.from(prepared.text, 'latin1'));
}

type Reviewed = { masking: SessionMasking; review: MaskReview };

function reviewAll(
  core: Core,
  policy: SessionPolicy,
  statements: readonly ClassifiedStatement[],
  definesAmongOthers: boolean,
): Reviewed | Verdict {
  const catalog = core.catalog();
  if (catalog.stale) {
    return {
      kind: 'Wait',
      until: catalog.refresh(false).then(
        () => undefined,
        (error: unknown): Refusal => {
          core.context.log('warn', 'the masking catalog could not be read', { error: String(error) });
          return {
            code: 'MaskedData',
            message:
              'Sallyport refused the command: data is masked here, and the catalog that says where could not be read',
            hint: 'Try again; if it stays so, the Connection’s owners find the cause in the gateway’s log.',
          };
        },
      ),
    };
  }
  if (definesAmongOthers) {
    return refuse({
      code: 'MaskedData',
      message: 'Sallyport refused the command: where data is masked, a schema change must be sent alone',
      hint: 'Send the statements one by one.',
    });
  }
  const masking = resolveMasking(core, policy);
  let review: MaskReview = { kind: 'Clear' };
  for (const statement of statements) {
    const one = masking.review(statement);
    if (one.kind === 'Refused') {
      return refuse({ code: 'MaskedData', message: one.message, by: one.by, hint: one.hint }, statements);
    }
    if (one.kind === 'Masked') {
      review =
        review.kind === 'Masked'
          ? { kind: 'Masked', relations: [...new Set([...review.relations, ...one.relations])] }
          : one;
    }
  }
  return { masking, review };
}

/** The session's masks against the catalog as it is now. */
export function resolveMasking(core: Core, policy: SessionPolicy): SessionMasking {
  const known = core.masking;
  const fresh = core.catalog().resolve(policy.masks, policy.trustedFunctions);
  // The one at hand remembers its reviews: kept as long as it says the same.
  if (
    known !== undefined &&
    known.generation === policy.generation &&
    known.value.catalogVersion === fresh.catalogVersion
  ) {
    return known.value;
  }
  core.masking = { generation: policy.generation, value: fresh };
  return fresh;
}

/** Whether a verdict given earlier still rests on the catalog as it is. */
export function restsOnCurrentCatalog(core: Core, verdict: PassedVerdict, policy: SessionPolicy): boolean {
  if (verdict.masking === undefined) return policy.masks.length === 0;
  return !core.catalog().stale && resolveMasking(core, policy) === verdict.masking;
}

/** Settings without which SQL could not be read; refused under any rule. */
function pinnedSetting(statement: ClassifiedStatement): Refusal | undefined {
  const { session } = statement.command.facts;
  if (session?.kind !== 'Set') return undefined;
  const name = session.name.toLowerCase();
  const value = session.value;
  if (
    name === 'standard_conforming_strings' &&
    (value === undefined || !['on', 'true', 'yes', '1', 'tru', 'tr', 't', 'y', 'ye'].includes(value.toLowerCase()))
  ) {
    return {
      code: 'Unsupported',
      message: 'Sallyport refused SET standard_conforming_strings: it stays on, so that quotes can be told from text',
      hint: "Write E'…' where a backslash is meant as an escape.",
    };
  }
  if ((name === 'client_encoding' || name === 'names') && value !== undefined && isClientOnlyEncoding(value)) {
    return {
      code: 'Unsupported',
      message: `Sallyport refused SET client_encoding: ${value.slice(0, 40)} hides quotes inside characters`,
      hint: 'Use UTF8.',
    };
  }
  return undefined;
}

/** It may change how the server reads the text that follows. */
function mayChangeReading(statement: ClassifiedStatement): boolean {
  const { facts, effects } = statement.command;
  if (facts.session?.kind === 'Set' || facts.session?.kind === 'Reset' || facts.session?.kind === 'DiscardAll') {
    const name = 'name' in facts.session ? facts.session.name?.toLowerCase() : undefined;
    return (
      name === undefined || name === 'client_encoding' || name === 'names' || name === 'standard_conforming_strings'
    );
  }
  return (
    effects.some((effect) => effect.action === 'Execute') || facts.functions.some(({ name }) => name === 'set_config')
  );
}

/** It may change what names mean. */
function mayDefine(statement: ClassifiedStatement): boolean {
  return statement.command.effects.some((effect) => effect.action === 'Define' || effect.action === 'Execute');
}

function joined(statements: readonly ClassifiedStatement[]): Command {
  const first = statements[0]!.command;
  if (statements.length === 1) return first;
  return {
    ...first,
    verb: [...new Set(statements.map(({ command }) => command.verb))].join(', '),
    effects: statements.flatMap(({ command }) => command.effects),
    text: statements.map(({ command }) => command.text).join(';'),
  };
}
