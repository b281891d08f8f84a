// One file or directory of an scp stream, from the name that it has to the permission to pass it on.
import type { Clock } from '../../../../system/clock.ts';
import { type Led, sameLed } from '../lookup.ts';
import type { NameLock } from '../name-lock.ts';
import { permitWithNamesHeld } from '../names-held.ts';
import { shownPath } from '../paths.ts';
import type { ScpRecord } from './records.ts';

export type ScpEntry = Extract<ScpRecord, { kind: 'File' | 'Directory' }>;

export interface PermitParts {
  clock: Clock;
  names: NameLock;
  /** The target is the one that writes. */
  writes: boolean;
  /** Every place that it may be. */
  resolve(): Promise<readonly Led[]>;
  /** `special`: bits are set that say as whom it runs. undefined: the channel is over. */
  judge(
    operation: string,
    places: readonly Led[],
    special: boolean,
  ): Promise<{ id: number } | { lines: readonly string[] } | undefined>;
  /** It was permitted and does not happen. */
  unused(error: { code: string; message: string }): void;
}

export type Permitted =
  /** Until `release` no name of this connection's comes to mean something else, where it is written. */
  { kind: 'Permitted'; id: number; release(): void } | { kind: 'Skipped'; lines: readonly string[] } | { kind: 'Gone' };

export async function permitEntry({ kind, mode }: ScpEntry, parts: PermitParts): Promise<Permitted> {
  const { writes } = parts;
  const operation = kind === 'File' ? (writes ? 'WRITE' : 'READ') : writes ? 'MKDIR' : 'READ TREE';
  let refused: readonly string[] | undefined;
  const held = await permitWithNamesHeld<readonly Led[]>({
    clock: parts.clock,
    names: parts.names,
    changesNames: writes && kind === 'Directory',
    resolve: () => parts.resolve(),
    same: sameLed,
    async judge(places) {
      const verdict = await parts.judge(operation, places, writes && (mode & 0o7000) !== 0);
      if (verdict && 'lines' in verdict) refused = verdict.lines;
      return verdict && 'id' in verdict ? verdict.id : undefined;
    },
    turn: () => Promise.resolve(),
    unused: (error) => parts.unused(error),
  });
  if (held.kind === 'Refused') return refused === undefined ? { kind: 'Gone' } : { kind: 'Skipped', lines: refused };
  if (held.kind === 'Failed') return { kind: 'Skipped', lines: [`Sallyport: ${held.message}`] };
  if (!writes) {
    // scp has opened it by now, and the client takes its time.
    held.release();
    return { kind: 'Permitted', id: held.id, release: () => undefined };
  }
  // Judged like everything, so that nobody learns by it what is there; then it ends here.
  const nowhere = held.resolved.find(({ problem }) => problem !== undefined);
  if (nowhere?.problem === undefined) return { kind: 'Permitted', id: held.id, release: held.release };
  held.release();
  parts.unused({ code: 'Nowhere', message: nowhere.problem });
  return { kind: 'Skipped', lines: [`${shownPath(nowhere.path)}: ${nowhere.problem}`] };
}
