// Which channels have their file operations judged one by one, and by what. What the relay uses of this folder.
import type { Clock } from '../../../system/clock.ts';
import type { ChannelFilter, FilterHost } from '../channels/filter.ts';
import type { FileFacts, SshCommand } from '../facts.ts';
import type { ShellFacts } from '../shell/facts.ts';
import { parseShell } from '../shell/parse.ts';
import { type FileCommand, fileCommandOf } from './command-line.ts';
import type { AskTarget } from './lookup.ts';
import type { NameLock } from './name-lock.ts';
import { createRsyncFilter } from './rsync-filter.ts';
import { createScpFilter } from './scp/filter.ts';
import { createSftpFilter } from './sftp/filter.ts';

export interface FileChannelOptions {
  clock: Clock;
  /** One for all channels of a connection. */
  names: NameLock;
  /** The target's identification, `SSH-2.0-OpenSSH_9.2p1`. */
  targetVersion?: string;
  /** Where paths of scp and rsync lead. */
  askTarget: AskTarget;
}

const VIA = { SftpServer: 'sftp', Scp: 'scp', Rsync: 'rsync' } as const;

/** Whether the line of an exec request is nothing but the server's side of a transfer that is judged in its channel. */
export function transferOf(line: Buffer): FileFacts['via'] | undefined {
  const parsed = parseShell(line.toString('utf8'));
  const command = parsed.kind === 'NotUnderstood' ? undefined : commandOf(parsed.facts);
  return command && VIA[command.kind];
}

/** undefined: its bytes pass as they are. `command` was permitted. */
export function fileFilterFor(
  command: SshCommand,
  host: FilterHost,
  options: FileChannelOptions,
): ChannelFilter | undefined {
  const { facts } = command;
  if (facts.kind === 'Subsystem') return facts.name === 'sftp' ? createSftpFilter(host, options) : undefined;
  if (facts.kind !== 'Exec' || facts.transfer === undefined || facts.shell === undefined) return undefined;
  const transfer = commandOf(facts.shell);
  switch (transfer?.kind) {
    case 'SftpServer':
      return createSftpFilter(host, options);
    case 'Scp': {
      const { mode, paths, recursive, directory } = transfer;
      return createScpFilter(host, { ...options, mode, paths, recursive, directory });
    }
    case 'Rsync':
      return createRsyncFilter(host, transfer, options.askTarget);
    default:
      // It was permitted as one whose operations are judged: without that it must not run.
      throw new Error('a transfer that is none');
  }
}

function commandOf({ commands, redirections, assignments }: ShellFacts): FileCommand | undefined {
  const [only] = commands;
  if (commands.length !== 1 || !only || only.wraps !== undefined || only.user !== undefined) return undefined;
  if (redirections.length > 0 || assignments.length > 0) return undefined;
  const argv: string[] = [];
  for (const word of only.words) {
    if (word.kind !== 'Literal') return undefined;
    argv.push(word.text);
  }
  return fileCommandOf(argv);
}
