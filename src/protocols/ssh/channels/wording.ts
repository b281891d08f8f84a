// What people read on stderr: refusals, holds, ends. One style, no control characters but ours.
import type { Subject } from '../../../api/schema.ts';
import type { DenialCode, HoldRequirement, RuleRef } from '../../../policy/decision.ts';
import { safeText } from '../../../policy/wording.ts';
import type { Cut } from '../../protocol.ts';

/** Exit status of a command that was refused; EX_NOPERM of sysexits.h. */
export const EXIT_REFUSED = 77;
/** Of one whose hold was not granted; EX_TEMPFAIL. */
export const EXIT_NOT_GRANTED = 75;
/** What ssh itself exits with where the server could not be reached. */
export const EXIT_UNREACHABLE = 255;

const LONGEST_LINE = 600;

/** Why a command does not run. */
export interface Refusal {
  code: DenialCode;
  /** One sentence without a full stop: `Sallyport refused exec on rm`. */
  message: string;
  by?: RuleRef | undefined;
  hint?: string | undefined;
}

export function line(text: string): string {
  return safeText(text, LONGEST_LINE);
}

/** `denial` is the id that `why` looks up; `prefix` how the person calls us: `sallyport`, `kubectl access`. */
export function refusalLines(refusal: Refusal, denial: string, prefix: string): readonly string[] {
  const { by, message } = refusal;
  const rule = by === undefined ? '' : `policy ${by.policy}, rule "${by.rule}" `;
  const joint = rule === '' ? ' ' : / refused [^:]*: /.test(message) ? '; ' : ': ';
  const lines = [line(`${message}${joint}${rule}(denial ${denial}). Nothing reached the target.`)];
  if (refusal.hint !== undefined) lines.push(line(`hint: ${refusal.hint}`));
  lines.push(`hint: ${prefix} why ${denial}`);
  return lines;
}

export function holdLine(name: string, requirements: readonly HoldRequirement[], leftMs: number): string {
  const needs = requirements
    .map(({ by, count, approvers }) => `rule "${by.rule}": needs ${count} of ${approversText(approvers)}`)
    .join(', and ');
  return line(
    `Sallyport: held as ${name} by ${needs} within ${Math.max(0, Math.round(leftMs / 1000))} s. Ctrl-C withdraws.`,
  );
}

function approversText(subjects: readonly Subject[]): string {
  if (subjects.length === 0) return 'nobody (the rule names no approvers)';
  const shown = subjects.slice(0, 3).map((subject) => `${subject.kind.toLowerCase()} ${subject.name ?? '?'}`);
  return shown.join(', ') + (subjects.length > 3 ? ` and ${subjects.length - 3} more` : '');
}

/** What the client hears when its session is cut. */
export function cutText(cut: Pick<Cut, 'message' | 'hint'>): string {
  const hint = cut.hint === undefined ? '' : ` ${cut.hint.replace(/\.?$/, '.')}`;
  return line(`Sallyport: ${cut.message.replace(/\.$/, '')}.${hint}`);
}

/** Takes a terminal back from whatever program drew on it: modes, screens, mouse, paste, colours, cursor. */
export const TERMINAL_RESET =
  '\u001b[?1049l\u001b[?1l\u001b>\u001b[?1000l\u001b[?1002l\u001b[?1003l\u001b[?1006l\u001b[?2004l\u001b[?25h\u001b[r\u001b[0m\r\n';
