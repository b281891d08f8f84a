// What the gateway says in PostgreSQL's own words: SQLSTATEs for its denials and cuts, and the one style of message.
// Sources: PostgreSQL manual, Appendix A (codes) and "Error and Notice Message Fields".
import type { DenialCode, RuleRef } from '../../policy/decision.ts';
import type { Authentication, Cut } from '../protocol.ts';
import { type ErrorFields, errorResponse } from './wire/messages.ts';

/** SQLSTATE of every denial; the session goes on after it. */
export const DENIAL_SQLSTATE = {
  RuleDenied: '42501', // insufficient_privilege
  NoRuleAllows: '42501',
  NotUnderstood: '42501',
  PolicyNotAccepted: '42501',
  MaskedData: '42501',
  HoldDenied: '42501',
  HoldTimedOut: '42501',
  HoldWithdrawn: '57014', // query_canceled
  GrantEnded: '42501',
  Locked: '42501',
  ControllerSilent: '57P03', // cannot_connect_now
  RecordsUnwritable: '53100', // disk_full
  LimitReached: '54000', // program_limit_exceeded
  Unsupported: '0A000', // feature_not_supported
} as const satisfies Record<DenialCode, string>;

/** SQLSTATE of the FATAL that ends a session. */
export const CUT_SQLSTATE = {
  Expired: '57P01', // admin_shutdown
  Revoked: '57P01',
  Killed: '57P01',
  Locked: '57P01',
  IdleTimeout: '57P05', // idle_session_timeout
  MaxDuration: '57P01',
  Reauthenticate: '57P01',
  Shutdown: '57P01',
  PolicyChanged: '57P01',
  LimitReached: '53300', // too_many_connections
} as const satisfies Record<Cut['code'], string>;

/** SQLSTATE of a refused login. */
export const LOGIN_SQLSTATE = {
  InvalidProof: '28P01', // invalid_password
  NotActive: '28P01',
  UnknownUser: '28000', // invalid_authorization_specification
  StepUp: '28000',
  Locked: '28000',
  LimitReached: '53300',
  Unavailable: '57P03',
} as const satisfies Record<Extract<Authentication, { kind: 'Refused' }>['code'], string>;

export const PROTOCOL_VIOLATION = '08P01';
export const SYNTAX_ERROR = '42601';
export const NOT_SUPPORTED = '0A000';
export const INVALID_AUTHORIZATION = '28000';
export const CONNECTION_FAILURE = '08006';

/** An error in the protocol's terms, without severity. */
export interface NativeError {
  code: string;
  message: string;
  detail?: string;
  hint?: string;
  /** Character of the statement the error is about, counted from 1. */
  position?: number;
}

/** Why a command does not run. */
export interface Refusal {
  code: DenialCode;
  /** One sentence without a full stop: `Sallyport refused DROP TABLE orders`. */
  message: string;
  by?: RuleRef | undefined;
  hint?: string | undefined;
  /** Overrides the code's SQLSTATE. */
  sqlState?: string;
  /** More for DETAIL, a full sentence. */
  detail?: string;
  /** PostgreSQL's own parser refuses the text: told in its words, as if there were no gateway. Never recorded. */
  syntax?: { message: string; position: number };
}

export function errorFields(severity: 'ERROR' | 'FATAL', error: NativeError): ErrorFields {
  return {
    S: severity,
    V: severity,
    C: error.code,
    M: error.message,
    ...(error.detail === undefined ? {} : { D: error.detail }),
    ...(error.hint === undefined ? {} : { H: error.hint }),
    ...(error.position === undefined ? {} : { P: String(error.position) }),
  };
}

export function noticeFields({ message, hint }: { message: string; hint?: string }): ErrorFields {
  return {
    S: 'NOTICE',
    V: 'NOTICE',
    C: '00000', // successful_completion
    M: `Sallyport: ${message}`,
    ...(hint === undefined ? {} : { H: hint }),
  };
}

export function fatal(error: NativeError): Buffer {
  return errorResponse(errorFields('FATAL', error));
}

/** `denial` is the id that `why` looks up; `prefix` how the person calls us: `sallyport`, `kubectl access`. */
export function refusalError(refusal: Refusal, denial: string, prefix: string): NativeError {
  const { syntax } = refusal;
  if (syntax !== undefined) {
    return {
      code: syntax.message.endsWith('is not yet implemented') ? NOT_SUPPORTED : SYNTAX_ERROR,
      message: syntax.message,
      position: syntax.position,
      detail: `Sallyport could not parse it; nothing reached the database (denial ${denial}).`,
    };
  }
  const source =
    refusal.by === undefined
      ? `Denial ${denial}.`
      : `Policy ${refusal.by.policy}, rule "${refusal.by.rule}" (denial ${denial}).`;
  return {
    code: refusal.sqlState ?? DENIAL_SQLSTATE[refusal.code],
    message: refusal.message,
    detail: `${source} ${refusal.detail ?? 'Nothing reached the database.'}`,
    hint: refusal.hint ?? `${prefix} why ${denial}`,
  };
}

export function cutError(cut: Cut, running: boolean): NativeError {
  const message = `Sallyport: ${cut.message.replace(/\.$/, '')}${running ? '; the statement was cancelled.' : '.'}`;
  return {
    code: CUT_SQLSTATE[cut.code],
    message,
    ...(cut.hint === undefined ? {} : { hint: cut.hint }),
  };
}
