// Errors and notices of statements that touch masked data, made anew from what cannot carry data: where the server's own
// text may quote values (messages, details, context, and the internal query), only the condition's name is left.
import { maskDetectedText } from '../../../policy/detectors/detectors.ts';
import { CONDITION_NAMES } from './sqlstate-names.ts';

/** Field codes of ErrorResponse and NoticeResponse (manual, 55.8) that name things and never hold values. */
const KEPT = new Set(['S', 'V', 'C', 'P', 's', 't', 'c', 'n']);
/** Names that come from the statement or schema; still never more than an identifier's length. */
const LONGEST = 256;

export interface ErrorField {
  /** One letter, as in the message. */
  code: string;
  value: string;
}

/** The condition's name, `unique_violation`; of an unknown code, what its class says. */
export function conditionName(sqlstate: string): string {
  return CONDITION_NAMES[sqlstate] ?? CONDITION_NAMES[`${sqlstate.slice(0, 2)}000`] ?? 'error';
}

/** The fields that may pass, in their order; M becomes the SQLSTATE's condition name. Never longer in number. */
export function rebuildError(fields: readonly ErrorField[]): ErrorField[] {
  const raw = fields.find((field) => field.code === 'C')?.value ?? '';
  const known = /^[0-9A-Z]{5}$/.test(raw) && Object.hasOwn(CONDITION_NAMES, raw);
  // RAISE ... USING ERRCODE lets code choose five characters freely.
  const sqlstate = known ? raw : 'XX000';
  const rebuilt: ErrorField[] = [];
  for (const { code, value } of fields) {
    if (code === 'C') rebuilt.push({ code, value: sqlstate });
    else if (code === 'M') rebuilt.push({ code, value: conditionName(sqlstate) });
    else if (KEPT.has(code)) rebuilt.push({ code, value: maskDetectedText(value.slice(0, LONGEST)) });
  }
  return rebuilt;
}
