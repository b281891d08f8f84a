// Where a path leads, by the target's own word.
import { join, lexicalForm, problemOfPath, splitName } from '../paths.ts';
import { path, STATUS, TYPE } from './packets.ts';
import type { Place } from './plan.ts';
import type { Upstream } from './upstream.ts';

export type Resolved = { kind: 'Path'; path: string } | { kind: 'Status'; code: number; message: string };

export interface Resolver {
  /** REALPATH, links followed to the end. */
  real(spelled: string): Promise<Resolved>;
  resolve(place: Pick<Place, 'spelled' | 'follow'>): Promise<Resolved>;
}

export function createResolver(upstream: Upstream): Resolver {
  const real = async (spelled: string): Promise<Resolved> => {
    const { reply } = await upstream.ask(TYPE.REALPATH, [path(spelled)], [TYPE.NAME]);
    if (reply.kind === 'Status') return { kind: 'Status', code: reply.code, message: reply.message };
    const [name, more] = reply.kind === 'Names' ? reply.names : [];
    // One that is not canonical would be judged as one path and used as another.
    if (
      name === undefined ||
      more !== undefined ||
      problemOfPath(name) !== undefined ||
      lexicalForm('/', name) !== name
    )
      return { kind: 'Status', code: STATUS.FAILURE, message: 'the target resolved a path to no path' };
    return { kind: 'Path', path: name };
  };
  const named = async (spelled: string): Promise<Resolved | undefined> => {
    const split = splitName(spelled);
    if (!split) return undefined;
    const directory = await real(split.directory);
    return directory.kind === 'Path' ? { kind: 'Path', path: join(directory.path, split.name) } : directory;
  };
  return {
    real,
    async resolve({ spelled, follow }) {
      if (!follow) {
        const at = await named(spelled);
        if (at) return at;
      }
      const at = await real(spelled);
      if (at.kind === 'Path' || at.code !== STATUS.NO_SUCH_FILE) return at;
      // OpenSSH resolves what is not there yet, others do not: then its directory tells, unless a link is there that
      // leads nowhere, which an OPEN would follow.
      const instead = await named(spelled);
      if (instead?.kind !== 'Path') return at;
      const { reply } = await upstream.ask(TYPE.LSTAT, [path(instead.path)], [TYPE.ATTRS]);
      return reply.kind === 'Status' && reply.code === STATUS.NO_SUCH_FILE ? instead : at;
    },
  };
}

export function sameResolution(one: readonly Resolved[], other: readonly Resolved[]): boolean {
  return one.every((resolved, index) => {
    const again = other[index]!;
    return resolved.kind === 'Path' && again.kind === 'Path'
      ? resolved.path === again.path
      : resolved.kind === again.kind;
  });
}
