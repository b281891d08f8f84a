// What the target itself says of paths, for transfers whose own protocol can not ask: scp, rsync. Asked over sftp on a
// session of the gateway's own (channels/path-lookup.ts); this says what the answers mean.
//
// Guarantees: a path that leads nowhere is told from one that is not there yet, so that nothing is created through a link.
// Does not guarantee: that a path leads there a moment later, or that it leads there for a program that starts elsewhere
// than sftp does (a target user's start-up files may say so: then relative paths are not known).
import type { FileAccess } from '../facts.ts';
import { join, lexicalForm, problemOfPath, splitName } from './paths.ts';
import { path, STATUS, TYPE } from './sftp/packets.ts';
import { createResolver, type Resolved } from './sftp/paths.ts';
import { Ended, type Upstream } from './sftp/upstream.ts';

export interface PathTeller {
  /** Where relative paths begin; undefined: the target says two things. */
  readonly home: string | undefined;
  /** Where an absolute path leads; what is not there yet leads where it would be made. */
  leads(spelled: string): Promise<Resolved>;
  /** Nothing more is asked. Once. */
  done(): void;
}

/** The target has no sftp: undefined. Rejects with LookupError where it can not be asked now. */
export type AskTarget = () => Promise<PathTeller | undefined>;

export class LookupError extends Error {
  override name = 'LookupError';
}

/** For the first words of a session; the extensions are those of VERSION. */
export async function homeOf(upstream: Upstream, extensions: readonly { name: string }[]): Promise<string | undefined> {
  const start = await createResolver(upstream).real('.');
  if (start.kind !== 'Path') return undefined;
  if (!extensions.some(({ name }) => name === 'expand-path@openssh.com')) return start.path;
  // sftp may be told to begin elsewhere (`internal-sftp -d`), scp and rsync are not.
  const { reply } = await upstream.ask(
    TYPE.EXTENDED,
    [{ string: 'expand-path@openssh.com' }, { string: '~' }],
    [TYPE.NAME],
  );
  const home = reply.kind === 'Names' ? reply.names[0] : undefined;
  return home === start.path ? home : undefined;
}

export async function leads(upstream: Upstream, spelled: string): Promise<Resolved> {
  const resolver = createResolver(upstream);
  const missing: string[] = [];
  try {
    for (let at = spelled; ; ) {
      const led = await resolver.resolve({ spelled: at, follow: true });
      if (led.kind === 'Path')
        return { kind: 'Path', path: missing.reduceRight((directory, name) => join(directory, name), led.path) };
      const split = splitName(at);
      if (led.code !== STATUS.NO_SUCH_FILE || split === undefined) return led;
      const { reply } = await upstream.ask(TYPE.LSTAT, [path(at)], [TYPE.ATTRS]);
      // A link to nothing: whoever writes there makes what it names.
      if (reply.kind !== 'Status' || reply.code !== STATUS.NO_SUCH_FILE) return led;
      missing.push(split.name);
      at = split.directory;
    }
  } catch (error) {
    if (error instanceof Ended) throw new LookupError('the target stopped telling where paths lead');
    throw error;
  }
}

/** A path of a command line as it is judged: `path` compares, `resolved` is where it leads. */
export interface Led {
  path: string;
  resolved?: string;
  /** Why it leads nowhere. */
  problem?: string;
}

/** Without a teller, or without a home for a relative one, a path stays as it is spelled. */
export async function ledBy(teller: PathTeller | undefined, spelled: string): Promise<Led> {
  const home = teller?.home;
  if (!spelled.startsWith('/') && home === undefined) return { path: spelled };
  const path = lexicalForm(home ?? '/', spelled);
  if (teller === undefined) return { path };
  const problem = problemOfPath(spelled);
  if (problem !== undefined) return { path, problem };
  const led = await teller.leads(spelled.startsWith('/') ? spelled : join(home!, spelled));
  return led.kind === 'Path' ? { path, resolved: led.path } : { path, problem: led.message };
}

export function accessTo({ path, resolved }: Led, action: FileAccess['action'], subtree = false): FileAccess {
  return { action, path, subtree, ...(resolved === undefined ? {} : { resolved }) };
}

export function sameLed(one: readonly Led[], other: readonly Led[]): boolean {
  return one.every(({ resolved, problem }, index) => {
    const again = other[index]!;
    return resolved === again.resolved && (problem === undefined) === (again.problem === undefined);
  });
}
