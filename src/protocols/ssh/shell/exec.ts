// From the bytes of an exec request to what is known of it.
import { isUtf8 } from 'node:buffer';
import type { ExecFacts, FileFacts } from '../facts.ts';
import type { ShellFacts } from './facts.ts';
import { parseShell } from './parse.ts';

/** Longest line that is looked at, bytes; longer ones are refused. */
export const LONGEST_LINE = 64 * 1024;

export interface ReadLine {
  /** Never with bytes that are no text. */
  text: string;
  facts: ExecFacts;
  /** No policy lets it through. */
  refused: boolean;
}

export function execFacts(
  line: Buffer | string,
  context: { loginShell?: 'Posix' | 'Other' | undefined; pty: boolean; transfer?: FileFacts['via'] | undefined },
): ReadLine {
  const bytes = typeof line === 'string' ? Buffer.from(line, 'utf8') : line;
  const facts = { kind: 'Exec' as const, pty: context.pty };
  const refuse = (problem: string): ReadLine => ({
    text: bytes.subarray(0, LONGEST_LINE).toString('utf8').replaceAll('\0', '\ufffd'),
    facts: { ...facts, problem },
    refused: true,
  });
  if (bytes.length > LONGEST_LINE) return refuse('the command line is longer than 64 KiB');
  if (bytes.includes(0)) return refuse('the command line has a NUL byte');
  if (!isUtf8(bytes)) return refuse('the command line is not UTF-8');
  const text = bytes.toString('utf8');
  if (typeof line === 'string' && text !== line) return refuse('the command line is not UTF-8');
  if (context.loginShell === 'Other') return { text, facts: { ...facts, whole: true }, refused: false };
  const parsed = parseShell(text);
  if (parsed.kind === 'NotUnderstood') return { text, facts: { ...facts, problem: parsed.reason }, refused: false };
  const transfer = context.transfer !== undefined && isOneProgram(parsed.facts) ? { transfer: context.transfer } : {};
  return { text, facts: { ...facts, shell: parsed.facts, ...transfer }, refused: false };
}

/** Only what is nothing but the transfer's own program is judged by its operations. */
function isOneProgram({ commands, redirections, assignments }: ShellFacts): boolean {
  const [only] = commands;
  return commands.length === 1 && only?.wraps === undefined && redirections.length === 0 && assignments.length === 0;
}
