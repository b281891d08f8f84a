// Hides a statement's literals for records and approvers, token by token with PostgreSQL's own scanner.
// What the scanner cannot read is hidden whole: nothing is guessed.

import { maskDetectedText } from '../../../policy/detectors/detectors.ts';
import { scan } from '../classify/parser.ts';
import type { RedactedCommand } from './masking.ts';

const HIDDEN = "'***'";
const WHOLE = '[statement hidden: it could not be read]';

/** Hides every literal and parameter, and what comments say. */
export function hideLiterals(text: string, parameters: readonly (string | null)[]): RedactedCommand {
  let hidden = 0;
  const hiddenParameters = parameters.map((value) => {
    if (value === null) return null;
    hidden += 1;
    return '***';
  });
  const tokens = scan(text);
  if (tokens === undefined) return { text: WHOLE, parameters: hiddenParameters, hiddenLiterals: hidden + 1 };
  // Offsets are in bytes of UTF-8.
  const bytes = Buffer.from(text, 'utf8');
  const pieces: string[] = [];
  let from = 0;
  for (const token of tokens) {
    const replacement = replaced(token);
    if (replacement === undefined) continue;
    if (token.start < from || token.end > bytes.length) {
      return { text: WHOLE, parameters: hiddenParameters, hiddenLiterals: hidden + 1 };
    }
    if (!token.tokenName.endsWith('COMMENT')) hidden += 1;
    pieces.push(bytes.toString('utf8', from, token.start), replacement);
    from = token.end;
  }
  pieces.push(bytes.toString('utf8', from));
  return { text: maskDetectedText(pieces.join('')), parameters: hiddenParameters, hiddenLiterals: hidden };
}

function replaced(token: { text: string; tokenName: string }): string | undefined {
  if (token.tokenName === 'SQL_COMMENT') return '-- ***';
  if (token.tokenName === 'C_COMMENT') return '/* *** */';
  if (token.tokenName === 'ICONST' || token.tokenName === 'FCONST') return '***';
  if (token.tokenName === 'SCONST') return HIDDEN;
  // Bit strings and U&'…' have no names of their own in the scanner's answer.
  return /^(?:[bx]|u&)?'/i.test(token.text) ? HIDDEN : undefined;
}

// Roles, user mappings, subscriptions and dblink take passwords as literals; so do tables of accounts.
const SECRETS = /passw|passphrase|pgpass|secret|:\/\/[^\s:/@]*:[^\s@]+@/i;

/** Whether a text may set or hold a password, so that none of its literals belong into a record. */
export function mayHoldSecret(text: string): boolean {
  return SECRETS.test(text);
}

/** Hides only what detectors recognise. */
export function hideDetected(text: string, parameters: readonly (string | null)[]): RedactedCommand {
  let hidden = 0;
  const scrub = (value: string): string => {
    const masked = maskDetectedText(value);
    if (masked !== value) hidden += 1;
    return masked;
  };
  return {
    text: scrub(text),
    parameters: parameters.map((value) => (value === null ? null : scrub(value))),
    hiddenLiterals: hidden,
  };
}
