// Whether a command line is the server's side of a file transfer whose operations can be judged one by one, or told from
// its arguments. Pure; `argv` are literal words as every shell reads them. What is not known for certain is undefined:
// then the line is a command like any other.
//
// Sources: scp.c and sftp-server.c of OpenSSH 9.x, options.c of rsync 3.x (`server_options`).
import type { FileAccess } from '../facts.ts';
import { absolute } from './paths.ts';

export type FileCommand =
  | { kind: 'SftpServer' }
  | {
      kind: 'Scp';
      mode: 'Read' | 'Write';
      /** As given, bytes in latin1; relative ones begin at the user's home. */
      paths: readonly string[];
      recursive: boolean;
      /** `-d` */
      directory: boolean;
    }
  | RsyncCommand;

export interface RsyncCommand {
  kind: 'Rsync';
  /** Of the target's side: Read is `--sender`. */
  direction: 'Read' | 'Write';
  /** As given, bytes in latin1; relative ones begin at the user's home. Each with all that is below it. */
  paths: readonly string[];
  /**
   * Why the arguments do not tell all paths that it may touch (`-s` sends them later, links are followed, a list of
   * files): refused wherever paths are restricted. Undefined: they do.
   */
  hidden: string | undefined;
  /** It may set owners, permissions with setuid, devices, or attributes. */
  grants: boolean;
  /** It removes what it has sent, or what the sender has not. */
  deletes: boolean;
  /** Directories of options, relative to the destination: `--backup-dir`, `--link-dest`, … */
  others: readonly { path: string; action: 'Read' | 'Write' }[];
}

export function fileCommandOf(argv: readonly string[]): FileCommand | undefined {
  const [program, ...args] = argv.map((word) => Buffer.from(word, 'utf8').toString('latin1'));
  if (program === undefined) return undefined;
  if (SFTP_SERVERS.has(program)) return sftpServer(args);
  if (SCP.has(program)) return scp(args);
  if (RSYNC.has(program)) return rsync(args);
  return undefined;
}

/**
 * What rsync may do with which paths and all below them. Where it writes it may also remove, and it reads what it compares
 * with; `grants` is a Grant. Relative paths begin at the user's home.
 */
export function rsyncPlaces(command: RsyncCommand): { action: FileAccess['action']; spelled: string }[] {
  const places: { action: FileAccess['action']; spelled: string }[] = [];
  for (const spelled of command.paths) {
    places.push({ action: 'Read', spelled });
    if (command.direction === 'Write' || command.deletes) places.push({ action: 'Write', spelled });
    if (command.grants) places.push({ action: 'Grant', spelled });
  }
  const [base = '.'] = command.paths;
  for (const { path, action } of command.others) {
    const spelled = absolute(base, path);
    places.push({ action, spelled });
    // Backups keep owners and modes as they were.
    if (action === 'Write' && command.grants) places.push({ action: 'Grant', spelled });
  }
  return places;
}

const SFTP_SERVERS: ReadonlySet<string> = new Set([
  'sftp-server',
  '/usr/lib/openssh/sftp-server',
  '/usr/lib/ssh/sftp-server',
  '/usr/lib/sftp-server',
  '/usr/libexec/openssh/sftp-server',
  '/usr/libexec/sftp-server',
]);
const SCP: ReadonlySet<string> = new Set(['scp', '/usr/bin/scp', '/bin/scp', '/usr/local/bin/scp']);
const RSYNC: ReadonlySet<string> = new Set(['rsync', '/usr/bin/rsync', '/bin/rsync', '/usr/local/bin/rsync']);

function sftpServer(args: readonly string[]): FileCommand | undefined {
  for (let index = 0; index < args.length; index += 1) {
    const arg = args[index]!;
    if (arg === '-e' || arg === '-R') continue;
    if (!/^-[lfud]$/.test(arg) || args[index + 1] === undefined) return undefined;
    index += 1;
  }
  return { kind: 'SftpServer' };
}

function scp(args: readonly string[]): FileCommand | undefined {
  const flags = new Set<string>();
  let index = 0;
  for (; index < args.length; index += 1) {
    const arg = args[index]!;
    if (arg === '--') {
      index += 1;
      break;
    }
    if (!arg.startsWith('-') || arg === '-') break;
    if (!/^-[tfrpdvq]+$/.test(arg)) return undefined;
    for (const letter of arg.slice(1)) flags.add(letter);
  }
  const paths = args.slice(index);
  if (flags.has('t') === flags.has('f') || paths.length === 0) return undefined;
  if (flags.has('t') && paths.length > 1) return undefined;
  // getopt of some systems takes options after operands as well.
  if (paths.some((path) => path === '' || (path.startsWith('-') && args[index - 1] !== '--'))) return undefined;
  return {
    kind: 'Scp',
    mode: flags.has('t') ? 'Write' : 'Read',
    paths,
    recursive: flags.has('r'),
    directory: flags.has('d'),
  };
}

/** Letters before `e` in the one word that rsync packs them in. */
const LETTERS = 'vqnbulLkKWOJHogDtUNpAXrRxESyzcCmIidh';
const GRANTING = 'ogDpAXE';

const PLAIN: ReadonlySet<string> = new Set([
  '--append',
  '--delay-updates',
  '--delete',
  '--delete-after',
  '--delete-before',
  '--delete-delay',
  '--delete-during',
  '--delete-excluded',
  '--delete-missing-args',
  '--existing',
  '--force',
  '--from0',
  '--fsync',
  '--fuzzy',
  '--ignore-errors',
  '--ignore-existing',
  '--ignore-missing-args',
  '--inplace',
  '--list-only',
  '--mkpath',
  '--msgs2stderr',
  '--munge-links',
  '--new-compress',
  '--no-implied-dirs',
  '--no-msgs2stderr',
  '--no-W',
  '--no-r',
  '--numeric-ids',
  '--old-compress',
  '--open-noatime',
  '--partial',
  '--preallocate',
  '--remove-sent-files',
  '--remove-source-files',
  '--safe-links',
  '--size-only',
  '--stats',
  '--use-qsort',
]);
const WITH_VALUE =
  /^--(?:bwlimit|checksum-choice|checksum-seed|compress-choice|compress-level|debug|info|log-format|max-alloc|max-delete|max-size|min-size|modify-window|out-format|skip-compress|stop-at|timeout|zc|cc|zl)=/;
const OWNERS = /^--(?:usermap|groupmap)=/;
const DIRECTORIES: Readonly<Record<string, 'Read' | 'Write'>> = {
  '--backup-dir': 'Write',
  '--temp-dir': 'Write',
  '--partial-dir': 'Write',
  '--compare-dest': 'Read',
  '--copy-dest': 'Read',
  '--link-dest': 'Read',
};

function rsync(args: readonly string[]): FileCommand | undefined {
  if (args[0] !== '--server') return undefined;
  const sender = args[1] === '--sender';
  const others: { path: string; action: 'Read' | 'Write' }[] = [];
  let hidden: string | undefined;
  let grants = false;
  let deletes = false;
  let index = sender ? 2 : 1;
  for (; index < args.length; index += 1) {
    const arg = args[index]!;
    if (!arg.startsWith('-')) break;
    if (!arg.startsWith('--')) {
      // A block size, or what modification times may differ by.
      if (/^-[B@][0-9-]+$/.test(arg)) continue;
      const packed = /^-([A-Za-z]*?)(?:e[0-9]*\.[0-9]*[A-Za-z]*)?$/.exec(arg);
      if (!packed) return undefined;
      for (const letter of packed[1]!) {
        if (letter === 's') hidden = 'its arguments come later (--secluded-args)';
        else if (!LETTERS.includes(letter)) return undefined;
        if (letter === 'L' || letter === 'k' || letter === 'K') hidden ??= 'it follows links';
        // Where the receiver makes the directories of each name, links among them lead it elsewhere.
        if (letter === 'R' && !sender) hidden ??= 'names bring their own directories (--relative)';
        if (!sender && GRANTING.includes(letter)) grants = true;
      }
      continue;
    }
    if (PLAIN.has(arg)) {
      if (arg.startsWith('--delete') || arg.startsWith('--remove')) deletes = true;
      continue;
    }
    if (WITH_VALUE.test(arg)) continue;
    if (arg === '--suffix' || arg.startsWith('--suffix=')) {
      const suffix = arg === '--suffix' ? args[(index += 1)] : arg.slice('--suffix='.length);
      if (suffix === undefined || suffix.includes('/')) return undefined;
      continue;
    }
    const [name, value] = split(arg);
    const action = DIRECTORIES[name];
    if (action) {
      const path = value ?? args[(index += 1)];
      if (path === undefined || path === '') return undefined;
      others.push({ path, action });
      continue;
    }
    if (name === '--files-from') hidden ??= 'a list of files names the paths (--files-from)';
    else if (arg === '--copy-unsafe-links') hidden ??= 'it follows links';
    else if (arg === '--secluded-args' || arg === '--protect-args')
      hidden ??= 'its arguments come later (--secluded-args)';
    else if (arg === '--super' || arg === '--fake-super' || OWNERS.test(arg)) grants = true;
    else return undefined;
  }
  const shape = { kind: 'Rsync' as const, direction: sender ? ('Read' as const) : ('Write' as const) };
  const rest = { hidden, grants, deletes, others };
  if (index === args.length) return hidden === undefined ? undefined : { ...shape, paths: [], ...rest };
  const [dot, ...paths] = args.slice(index);
  if (dot !== '.' || (!sender && paths.length !== 1)) return undefined;
  return { ...shape, paths: paths.length === 0 ? ['.'] : paths, ...rest };
}

function split(arg: string): [name: string, value: string | undefined] {
  const at = arg.indexOf('=');
  return at < 0 ? [arg, undefined] : [arg.slice(0, at), arg.slice(at + 1)];
}
