// The single things that one SSH command does, in the order of its effects: what an Allow must permit one by one.
import type { Effect } from '../../../policy/command.ts';
import type { FileAccess, ForwardDestination, ForwardFacts, SshFacts } from '../facts.ts';
import { destinationText, parseDestination } from '../forwarding/destination.ts';
import type { ShellFacts, SimpleCommand } from '../shell/facts.ts';
import { isForbiddenVariable } from './environment.ts';
import { plainPath, sensitiveSegments } from './path.ts';

export type Thing =
  /** A line that rules can only compare whole. */
  | { kind: 'Line'; refused: boolean }
  /** A program; `transfer`: all that it does to files is judged by itself. */
  | { kind: 'Program'; command: SimpleCommand; transfer: boolean }
  /** A login shell, or an interpreter that reads what comes. */
  | { kind: 'Shell'; user: string | undefined }
  | { kind: 'Subsystem'; name: string }
  /** `path` undefined: not known. */
  | { kind: 'File'; access: Omit<FileAccess, 'path'> & { path: string | undefined }; user: string | undefined }
  | {
      kind: 'Forward';
      direction: ForwardFacts['direction'];
      /** undefined: not known. */
      destination: ForwardDestination | undefined;
      guarded: ForwardFacts['guarded'];
    }
  | { kind: 'Variable'; name: string }
  | { kind: 'Feature'; name: 'agent' | 'x11' | 'tun' };

const FEATURES = { AgentForwarding: 'agent', X11Forwarding: 'x11', Tunnel: 'tun' } as const;

/** At least one. `refused`: nothing ever permits the line. */
export function thingsOf(facts: SshFacts, refused = false): readonly Thing[] {
  switch (facts.kind) {
    case 'Exec':
      return facts.shell === undefined
        ? [{ kind: 'Line', refused }]
        : programThings(facts.shell, facts.transfer !== undefined);
    case 'Shell':
      return [{ kind: 'Shell', user: undefined }];
    case 'Subsystem':
      return [{ kind: 'Subsystem', name: facts.name }];
    case 'File':
      // An operation without a path of its own tells of the file system as a whole.
      return facts.access.length === 0
        ? [{ kind: 'File', access: { action: 'Read', path: undefined, subtree: false }, user: undefined }]
        : facts.access.map((access) => ({ kind: 'File', access, user: undefined }));
    case 'Forward':
      return [
        {
          kind: 'Forward',
          direction: facts.direction,
          destination: facts.destination,
          guarded: facts.guarded,
        },
      ];
    case 'Environment':
      return [{ kind: 'Variable', name: facts.name }];
    case 'Feature':
      return [{ kind: 'Feature', name: FEATURES[facts.feature] }];
    default:
      return [{ kind: 'Line', refused: true }];
  }
}

function programThings({ commands, redirections, assignments }: ShellFacts, transfer: boolean): Thing[] {
  const things: Thing[] = [];
  const wrapping = new Set(commands.map(({ by }) => by));
  commands.forEach((command, index) => {
    // A wrapper that wraps something is permitted with what it wraps.
    if (command.wraps !== undefined && wrapping.has(index)) return;
    things.push({ kind: 'Program', command, transfer });
    if (command.interactive) things.push({ kind: 'Shell', user: command.user });
  });
  for (const { action, target, user } of redirections) {
    const text = target.kind === 'Literal' ? target.text : undefined;
    if (action === 'Connect') {
      const [host, port] = text?.split('/').slice(3) ?? [];
      const destination = host === undefined || port === undefined ? undefined : parseDestination(host, Number(port));
      things.push({ kind: 'Forward', direction: 'Local', destination, guarded: undefined });
    } else {
      const path = text === undefined ? undefined : plainPath(text);
      things.push({ kind: 'File', access: { action, path, subtree: false }, user });
    }
  }
  for (const name of assignments) things.push({ kind: 'Variable', name });
  return things;
}

/** What may do more than can be seen, or must never happen by a rule that is merely wide, says that it must be named. */
export function effectOf(thing: Thing): Effect {
  switch (thing.kind) {
    case 'Line':
      return { action: 'Execute', object: ['*'], named: thing.refused ? 'Always' : 'WhereRestricted' };
    case 'Program':
      return withName(
        { action: 'Execute', object: [thing.command.words[0].text] },
        thing.transfer ? undefined : 'WhereRestricted',
      );
    case 'Shell':
      return { action: 'Session', object: ['shell'], named: 'WhereRestricted' };
    case 'Subsystem':
      // Each operation of sftp is judged; what another subsystem does is not seen.
      return withName(
        { action: 'Session', object: ['subsystem', thing.name] },
        thing.name === 'sftp' ? undefined : 'WhereRestricted',
      );
    case 'File': {
      const { action, path, resolved } = thing.access;
      const sensitive =
        action !== 'Read' &&
        (path === undefined || [path, resolved ?? path].some((each) => sensitiveSegments(each).length > 0));
      return withName({ action, object: ['file', path ?? '*'] }, sensitive ? 'WhereRestricted' : undefined);
    }
    case 'Forward': {
      const { destination, direction, guarded } = thing;
      const kind = destination?.kind === 'Socket' ? 'socket' : direction === 'Remote' ? 'listen' : 'tcp';
      return withName(
        { action: 'Connect', object: [kind, destination === undefined ? '*' : destinationText(destination)] },
        guarded === undefined && destination !== undefined ? undefined : 'Always',
      );
    }
    case 'Variable':
      return {
        action: 'Session',
        object: ['env', thing.name],
        named: isForbiddenVariable(thing.name) ? 'Always' : 'WhereRestricted',
      };
    case 'Feature':
      return { action: 'Session', object: [thing.name], named: 'Always' };
    default:
      return { action: 'Execute', object: ['*'], named: 'Always' };
  }
}

function withName(effect: Effect, named: Effect['named']): Effect {
  return named === undefined ? effect : { ...effect, named };
}
