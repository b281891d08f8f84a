// Test support: a protocol small enough to read at a glance, so that the engine is tested apart from any real one.
// Commands are lines such as `GET a`, `PUT team/b`, `DROP c`, `MOVE a b`; `?` does not parse.
import type { Action, Command, Effect } from './command.ts';
import { globMatches } from './glob.ts';
import type { PreparedMatcher, ProtocolRules } from './session-policy.ts';

/** Fields given are and-ed, values or-ed. */
export interface KeyMatcher {
  actions?: Action[];
  verbs?: string[];
  keys?: string[];
}

const EFFECTS: Readonly<Record<string, readonly Action[]>> = {
  GET: ['Read'],
  PUT: ['Write'],
  DROP: ['Define'],
  MOVE: ['Read', 'Write'],
  GRANT: ['Grant'],
};

/** One command a line; undefined: not understood. */
export function keyCommand(line: string): Command | undefined {
  const [verb = '', ...keys] = line.trim().split(/\s+/);
  const actions = EFFECTS[verb];
  if (actions === undefined || keys.length !== actions.length) return undefined;
  const effects: Effect[] = actions.map((action, index) => ({ action, object: (keys[index] ?? '').split('/') }));
  return { protocol: 'keys', verb, effects, text: line, facts: {} };
}

export function keyCommands(text: string): Command[] | undefined {
  const commands = text
    .split(';')
    .filter((line) => line.trim() !== '')
    .map(keyCommand);
  return commands.every((command) => command !== undefined) ? commands : undefined;
}

function effectFits(matcher: KeyMatcher, command: Command, effect: Effect, anyReading: boolean): boolean {
  if (matcher.actions !== undefined && !matcher.actions.includes(effect.action)) return false;
  if (matcher.verbs !== undefined && !matcher.verbs.includes(command.verb)) return false;
  if (matcher.keys === undefined) return true;
  const name = effect.object.join('/');
  // A `*` part of an object is not known: it may be anything.
  if (effect.object.includes('*')) {
    return anyReading || matcher.keys.some((pattern) => globMatches(pattern, name));
  }
  return matcher.keys.some((pattern) => globMatches(pattern, name));
}

export const keyRules: ProtocolRules = {
  member: 'keys',
  presets: {
    ReadOnly: [{ name: 'reads', action: 'Allow', matcher: { actions: ['Read'] } }],
    ReadWrite: [
      { name: 'reads', action: 'Allow', matcher: { actions: ['Read'] } },
      { name: 'writes', action: 'Allow', matcher: { actions: ['Write'] } },
    ],
    HoldSchemaAndPrivilegeChanges: [
      {
        name: 'changes',
        action: 'Hold',
        matcher: { actions: ['Define', 'Grant'] },
        message: 'schema changes need consent',
      },
    ],
  },
  lint(matcher) {
    const { verbs } = matcher as KeyMatcher;
    return (verbs ?? [])
      .filter((verb) => !Object.hasOwn(EFFECTS, verb))
      .map((verb) => `there is no verb "${verb}"; write one of ${Object.keys(EFFECTS).join(', ')}`);
  },
  prepare(matcher): PreparedMatcher {
    const typed = matcher as KeyMatcher;
    return {
      restricts: (command) => command.effects.some((effect) => effectFits(typed, command, effect, true)),
      permits: (command, index) => {
        const effect = command.effects[index];
        return effect !== undefined && effectFits(typed, command, effect, false);
      },
    };
  },
};
