// Answers to questions about SSH: what ran with more rights than its user's and without anybody's approval, who touched a
// file, which files moved, where forwards led. Streams over the store as audit.ts does, whose guarantees hold here.
// What a program does that it was not asked for on its command line is known to nobody but the target.
import { compileGlob } from '../policy/glob.ts';
import { type AuditFilter, withStart } from './audit.ts';
import type { CommandBody, RecordEnvelope, ResultBody, StartBody } from './envelope.ts';
import { destinationOf, type Facts, filesOf, programsOf, sshFactsOf, streamsOf } from './ssh-facts.ts';
import type { StoreView } from './store-view.ts';

export interface SshAct {
  at: string;
  session: string;
  username: string;
  connection: string;
  /** The target's user. */
  user: string;
  command: number;
  verb: string;
  text: string;
  /** Refused: it did not run. Unknown: no result is recorded. */
  outcome: 'Ran' | 'Refused' | 'Failed' | 'Unknown';
  approvedBy: readonly string[];
}

export interface PrivilegedCommand extends SshAct {
  /** `root's own login`, `sudo systemctl as root` */
  why: readonly string[];
}

export interface FileUse extends SshAct {
  actions: readonly string[];
  paths: readonly string[];
  /** Operation: of sftp, scp or rsync. Shell: a redirection. Named: a command line holds the path or a folder above it, and may do anything with it. */
  how: 'Operation' | 'Shell' | 'Named';
}

export interface Transfer extends SshAct {
  path: string;
  /** Seen from the target: Read left it, Written came to it. */
  direction: 'Read' | 'Written';
  bytes: number;
  /** Of the bytes, where they went in order from the file's beginning. */
  sha256?: string;
}

export interface ForwardUse extends SshAct {
  direction: string;
  destination: string;
  /** Both ways together, and each; 0 where nothing passed, as for a port that was only listened on. */
  bytes: number;
  toTarget: number;
  toClient: number;
}

interface Paired {
  act: SshAct;
  body: CommandBody;
  ssh: Facts;
  result: ResultBody | undefined;
}

/** Commands of one session whose results are awaited; above that they are answered as Unknown. */
const MOST_AWAITED = 4096;
const RAISES_RIGHTS = new Set(['sudo', 'su', 'doas', 'pkexec', 'runuser', 'setpriv']);

/** Without `all`: only those that ran and that nobody approved. */
export function* privilegedCommands(
  view: StoreView,
  filter: AuditFilter = {},
  options: { all?: boolean } = {},
): Generator<PrivilegedCommand> {
  for (const { act, ssh } of paired(view, filter, ({ kind }) => kind === 'Exec' || kind === 'Shell')) {
    if (options.all !== true && (act.outcome === 'Refused' || act.approvedBy.length > 0)) continue;
    const why = act.user === 'root' ? ['root’s own login'] : [];
    const programs = programsOf(ssh);
    const wrappers = new Set(programs.flatMap(({ within }) => within));
    for (const { name, within, user } of programs) {
      if (within.length === 0 && wrappers.has(name)) continue;
      const raising = [...within, name].filter((word) => RAISES_RIGHTS.has(word.slice(word.lastIndexOf('/') + 1)));
      if (raising.length > 0 || user !== undefined) {
        why.push(`${[...within, name].join(' ')}${user === undefined ? '' : ` as ${user}`}`);
      }
    }
    // A line that could not be read may hold anything.
    if (why.length === 0 && typeof ssh['problem'] === 'string' && /\b(?:sudo|su|doas|pkexec|runuser)\b/.test(act.text))
      why.push('not understood');
    if (why.length > 0) yield { ...act, why: [...new Set(why)] };
  }
}

/** `pattern`: an absolute path; `*` stands for any characters, `/` too. Operations on a folder above reach it if they reach all below. */
export function* fileUses(view: StoreView, pattern: string, filter: AuditFilter = {}): Generator<FileUse> {
  const matches = compileGlob(pattern);
  const fixed = pattern.split('*', 1)[0]!;
  const reaches = (path: string, subtree: boolean): boolean =>
    matches(path) || (subtree && (path === '/' || `${fixed}/`.startsWith(`${path}/`)));
  for (const { act, body, ssh } of paired(view, filter, isAboutFiles)) {
    const used = filesOf(ssh).filter(
      ({ path, resolved, subtree }) => reaches(path, subtree) || (resolved !== undefined && reaches(resolved, subtree)),
    );
    if (used.length > 0) {
      yield {
        ...act,
        actions: unique(used.map(({ action }) => action)),
        paths: unique(used.map(({ path, resolved }) => resolved ?? path)),
        how: 'Operation',
      };
      continue;
    }
    const named = (Array.isArray(body.effects) ? body.effects : []).filter(
      ({ object }) => object[0] === 'file' && reaches(String(object[1] ?? ''), false),
    );
    if (named.length > 0) {
      const paths = unique(named.map(({ object }) => object[1] ?? ''));
      yield { ...act, actions: unique(named.map(({ action }) => action)), paths, how: 'Shell' };
    } else {
      // A folder above it, too: `cd /etc; cat shadow`.
      const words = act.text
        .split(/[\s'"=;|&<>()]+/)
        .filter((word) => word.startsWith('/') && reaches(word.replace(/(?<=.)\/+$/, ''), word !== '/'));
      if (words.length > 0) yield { ...act, actions: [], paths: unique(words), how: 'Named' };
    }
  }
}

const isAboutFiles = ({ kind }: Facts): boolean => kind === 'File' || kind === 'Exec';
const unique = (words: readonly string[]): string[] => [...new Set(words)];

/** Files whose contents passed, each way; refused and empty ones are left out. */
export function* fileTransfers(view: StoreView, filter: AuditFilter = {}): Generator<Transfer> {
  for (const { act, ssh, result } of paired(view, filter, ({ kind }) => kind === 'File')) {
    const said = sshFactsOf(result?.facts);
    const path = unique(filesOf(ssh).map((file) => file.resolved ?? file.path)).join(', ');
    for (const [direction, sum] of [
      ['Read', said['read'] ?? said['fromTarget']],
      ['Written', said['written'] ?? said['toTarget']],
    ] as const) {
      const { bytes, sha256 } = tallyOf(sum);
      if (bytes > 0) yield { ...act, path, direction, bytes, ...(sha256 === undefined ? {} : { sha256 }) };
    }
  }
}

function tallyOf(sum: unknown): { bytes: number; sha256?: string } {
  if (typeof sum === 'number') return { bytes: sum };
  if (typeof sum !== 'object' || sum === null) return { bytes: 0 };
  const { bytes, sha256 } = sum as { bytes?: unknown; sha256?: unknown };
  return { bytes: typeof bytes === 'number' ? bytes : 0, ...(typeof sha256 === 'string' ? { sha256 } : {}) };
}

export function* forwardUses(view: StoreView, filter: AuditFilter = {}): Generator<ForwardUse> {
  for (const { act, ssh, result } of paired(view, filter, ({ kind }) => kind === 'Forward')) {
    const { direction } = ssh;
    const streams = streamsOf(sshFactsOf(result?.facts));
    const passed = (way: string): number => streams.find(({ name }) => name === way)?.bytes ?? 0;
    yield {
      ...act,
      direction: typeof direction === 'string' ? direction : '',
      destination: destinationOf(ssh) ?? act.text,
      bytes: result?.bytes ?? 0,
      toTarget: passed('toTarget'),
      toClient: passed('toClient'),
    };
  }
}

/** Commands of SSH with their results, in the order in which these came. */
function* paired(view: StoreView, filter: AuditFilter, wanted: (ssh: Facts) => boolean): Generator<Paired> {
  const sessions = new Map<string, Map<number, Omit<Paired, 'result'>>>();
  const unanswered = function* (stream: string): Generator<Paired> {
    const awaited = sessions.get(stream);
    sessions.delete(stream);
    for (const one of awaited?.values() ?? []) yield { ...one, result: undefined };
  };
  for (const { record, start } of withStart(view, filter)) {
    if (start.body.protocol !== 'ssh') continue;
    if (record.kind === 'command') {
      const body = record.body as CommandBody;
      const ssh = sshFactsOf(body.facts);
      if (!wanted(ssh)) continue;
      const one = { act: actOf(record as RecordEnvelope<CommandBody>, start, ssh), body, ssh };
      if (body.decision === 'Deny') {
        yield { ...one, result: undefined };
        continue;
      }
      const awaited = sessions.get(record.stream) ?? new Map<number, Omit<Paired, 'result'>>();
      sessions.set(record.stream, awaited);
      if (awaited.size >= MOST_AWAITED) {
        const [oldest] = awaited;
        awaited.delete(oldest![0]);
        yield { ...oldest![1], result: undefined };
      }
      awaited.set(body.id, one);
    } else if (record.kind === 'result') {
      const result = record.body as ResultBody;
      const one = sessions.get(record.stream)?.get(result.id);
      if (one === undefined) continue;
      sessions.get(record.stream)?.delete(result.id);
      yield { ...one, act: { ...one.act, outcome: result.error === undefined ? 'Ran' : 'Failed' }, result };
    } else if (record.kind === 'end') yield* unanswered(record.stream);
  }
  for (const stream of sessions.keys()) yield* unanswered(stream);
}

function actOf(record: RecordEnvelope<CommandBody>, { body: start }: RecordEnvelope<StartBody>, ssh: Facts): SshAct {
  const { id, verb, text, decision, approvedBy } = record.body;
  return {
    at: record.ts,
    session: record.stream,
    username: start.principal.username,
    connection: `${start.connection.namespace}/${start.connection.name}`,
    user: typeof ssh['user'] === 'string' ? ssh['user'] : start.account,
    command: id,
    verb,
    text,
    outcome: decision === 'Deny' ? 'Refused' : 'Unknown',
    approvedBy: approvedBy ?? [],
  };
}
