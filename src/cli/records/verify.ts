// `verify [FOLDER…]`: proves records offline. Exit code 0: proven. 1: something is wrong, each on a line.

import { NotARecordFolder } from '../../recording/store-view.ts';
import { harmlessLine } from '../../recording/text.ts';
import { type Finding, type VerifyReport, verifyRecords } from '../../recording/verify.ts';
import { CliError, EXIT, type ExitCode, type Io } from '../io.ts';
import { type Form, machine, type RecordsDeps, rootKey } from './source.ts';

export interface VerifyArgs {
  /** Record folders; none: the one of the state folder. */
  folders: readonly string[];
  /** Root keys, raw or PEM files; beats what the state folder knows. */
  root?: readonly string[];
  /** `ENTRY:HASH` as an earlier run printed it. */
  expectHead?: string;
  output?: Form;
}

export async function verify(args: VerifyArgs, io: Io, deps: RecordsDeps): Promise<ExitCode> {
  const roots = args.root === undefined || args.root.length === 0 ? deps.roots : args.root.map(rootKey);
  const expectHead = args.expectHead === undefined ? undefined : parseHead(args.expectHead);
  const folders = args.folders.length === 0 ? [deps.folder] : args.folders;
  let bad = false;
  const none: string[] = [];
  for (const folder of folders) {
    let report: VerifyReport;
    try {
      report = verifyRecords(folder, {
        ...(roots === undefined ? {} : { roots }),
        ...(expectHead === undefined ? {} : { expectHead }),
        ...(deps.headsPath === undefined || folder !== deps.folder ? {} : { headsPath: deps.headsPath }),
      });
    } catch (error) {
      // A folder without its keys proves nothing, and that is a finding too.
      if (!(error instanceof NotARecordFolder)) throw error;
      none.push(harmlessLine(error.message));
      continue;
    }
    bad ||= report.findings.length > 0;
    io.out(machine(args.output, { folder, ...report }) ?? told(folder, report));
  }
  if (none.length > 0)
    throw new CliError(
      EXIT.failed,
      none.join('; '),
      'Give the folder that a Sallyport writes its records to: STATE/records in local mode, a copy of the claim or its mount otherwise.',
    );
  return bad ? EXIT.failed : EXIT.ok;
}

function parseHead(text: string): { entry: number; hash: string } {
  const match = /^([0-9]{1,15}):([0-9a-f]{64})$/.exec(text);
  if (match === null) {
    throw new CliError(
      EXIT.misconfigured,
      `--expect-head ${text} is no head`,
      'Write the number and hash that an earlier run printed: 17:9f86d0….',
    );
  }
  return { entry: Number(match[1]), hash: match[2]! };
}

export function findingLine({ code, session, piece, at, message }: Finding): string {
  const where = [session === undefined ? '' : `session ${session}`, piece, at === undefined ? '' : `byte ${at}`];
  return `${code.toUpperCase()}  ${where
    .filter((part) => part !== '')
    .map(harmlessLine)
    .join(', ')}: ${harmlessLine(message)}\n`;
}

function told(folder: string, report: VerifyReport): string {
  const { checked, findings, more, notes, head, roots, pinned } = report;
  const lines = findings.map(findingLine);
  if (more > 0) lines.push(`… and ${more} more\n`);
  for (const note of notes.slice(0, 20)) lines.push(`note  ${harmlessLine(note)}\n`);
  if (notes.length > 20) lines.push(`note  … and ${notes.length - 20} more notes\n`);
  const bad = findings.length + more;
  lines.push(
    `${harmlessLine(folder)}: ${bad === 0 ? 'good' : `${bad} ${bad === 1 ? 'finding' : 'findings'}`}: ${checked.sessions} sessions, ` +
      `${checked.segments} sealed segments, ${checked.records} records; ${checked.liveRecords} records not sealed yet\n`,
  );
  if (head !== undefined)
    lines.push(`head ${head.entry}:${head.hash} (note it elsewhere; --expect-head checks that it is still there)\n`);
  lines.push(`root ${roots.join(', ')}${pinned ? '' : ' (taken from the folder itself)'}\n`);
  return lines.join('');
}
