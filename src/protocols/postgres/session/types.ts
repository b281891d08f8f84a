// What the parts of one session share. Types only.
import type { RuleRef } from '../../../policy/decision.ts';
import type { NativeError } from '../errors.ts';
import type { MaskReview, RowPlan, SessionMasking } from '../masking/masking.ts';
import type { NameContext } from '../names/resolve.ts';
import type { ClassifiedStatement, SessionEffect, SqlCommand } from '../statement.ts';
import type { Field } from '../wire/messages.ts';

/** A statement the client has prepared, by Parse or by SQL. */
export interface Prepared {
  /** Bytes of its text, for the bound on all of them. */
  size: number;
  text: string;
  /** `text` as UTF-8, once it was asked for. */
  decoded?: string;
  parameterTypes: readonly number[];
  /** What PREPARE or DECLARE names, already classified. */
  statement: ClassifiedStatement | undefined;
  /** The last verdict that let it pass, good for one policy generation and catalog version. */
  passed: { generation: number; verdict: PassedVerdict; basis: NameContext | undefined } | undefined;
}

/** A portal or cursor. */
export interface Portal {
  prepared: Prepared;
  /** Of its `command` record; undefined for a cursor that SQL declared. */
  commandId: number | undefined;
  generation: number;
  verdict: PassedVerdict;
  parameters: readonly (string | null)[];
  /** What its execution does to the session's names. */
  effects: readonly AppliedEffect[];
}

/** A command that may run. */
export interface PassedVerdict {
  by: readonly RuleRef[];
  warnings: readonly RuleRef[];
  /** undefined: the policy needs no understanding. */
  statements: readonly ClassifiedStatement[] | undefined;
  /** The statements', and those of what EXECUTE and FETCH run, their names resolved. */
  commands: readonly SqlCommand[] | undefined;
  /** What its unqualified names were taken to mean. */
  basis: NameContext | undefined;
  masking: SessionMasking | undefined;
  /** The strictest of its statements'. */
  review: MaskReview | undefined;
  /** What follows must be judged only when this has run: it may change how text is read or what names mean. */
  barrier: boolean;
  /** It may change the schema. */
  defines: boolean;
  /** `statements` are readings of one name, of which one runs; else they run one after the other. */
  alternatives: boolean;
}

/** One execution, from its being sent to its result. */
export interface Run {
  commandId: number;
  startedMs: number;
  verdict: PassedVerdict;
  rows: number;
  bytes: number;
  masked: number;
  tag: string | undefined;
  error: { code: string; message: string } | undefined;
  fields: readonly Field[] | undefined;
  plan: RowPlan | undefined;
  /** The plan said no: nothing of the result may pass. */
  refusal: NativeError | undefined;
  origins: readonly string[] | undefined;
  sample: (string | null)[][];
  /** Effects of its statements on the session, applied as each one's CommandComplete comes. */
  effects: readonly AppliedEffect[];
  completed: number;
}

export interface AppliedEffect {
  effect: SessionEffect;
  /** What a PREPARE or DECLARE defined. */
  prepared?: Prepared;
  portal?: Portal;
}

/** What stands behind an entry of the ledger. */
export type Item = ItemKind & {
  /** With what ends in ReadyForQuery: how much of what was sent that is the answer to (names/session.ts). */
  mark?: number;
};

type ItemKind =
  | { kind: 'Run'; run: Run }
  | { kind: 'Denial'; error: NativeError }
  | { kind: 'Parse'; name: string; prepared: Prepared }
  | { kind: 'Bind'; name: string; portal: Portal }
  /** `swallow`: the gateway's own, answered to `run` and not to the client. */
  | { kind: 'Describe'; swallow: Run | undefined; verdict: PassedVerdict | undefined }
  | { kind: 'CloseStatement' | 'ClosePortal'; name: string }
  | { kind: 'Plain' };
