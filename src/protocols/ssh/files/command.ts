// How an operation on files is put to policy: one effect for each access, in the same order, so that a rule that is
// asked about effect N finds the path, its resolved form and its reach in access N.
import { commandOfFile } from '../commands.ts';
import type { FileAccess, FileFacts, SshCommand } from '../facts.ts';
import { shownPath } from './paths.ts';

export function fileCommand(
  user: string,
  via: FileFacts['via'],
  operation: string,
  access: readonly FileAccess[],
): SshCommand {
  return commandOfFile({ user, text: `${operation} ${describe(access)}`, via, operation, access });
}

/** `"/srv/a" (read, write; it is "/data/a") -> "/srv/b" (write)`: each path once, with all that is done to it. */
function describe(access: readonly FileAccess[]): string {
  const byPath = new Map<string, FileAccess[]>();
  for (const one of access) {
    const key = `${one.path}\0${one.resolved ?? ''}`;
    const same = byPath.get(key);
    if (same) same.push(one);
    else byPath.set(key, [one]);
  }
  return [...byPath.values()]
    .map((same) => {
      const { path, resolved } = same[0]!;
      const actions = [...new Set(same.map(({ action }) => action.toLowerCase()))].join(', ');
      const leads = resolved === undefined || resolved === path ? '' : `; it is ${shownPath(resolved)}`;
      return `${shownPath(path)} (${actions}${leads})`;
    })
    .join(' ');
}
