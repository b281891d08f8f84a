// Test support: a protocol small enough to read at a glance, so that the engine is tested apart from any real one.
// Commands are lines such as `GET a`, `PUT team/b`, `DROP c`, `MOVE a b`; `?` does not parse.
import type { Action, Command, Effect } from './command.ts';
import { compileGlob } from './glob.ts';
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
  return commandOf(verb, effects, line);
}

export function keyCommands(text: string): Command[] | undefined {
  const commands = text
    .split(';')
    .filter((line) => line.trim() !== '')
    .map(keyCommand);
  return commands.every((command) => command !== undefined) ? commands : undefined;
}

/** What a protocol works out once a command, since many rules judge it. */
interface KeyFacts {
  names: readonly string[];
  unknown: readonly boolean[];
}

export function commandOf(verb: string, effects: readonly Effect[], text = verb): Command<KeyFacts> {
  const names = effects.map(({ object }) => object.join('/'));
  const unknown = effects.map(({ object }) => object.includes('*'));
  return { protocol: 'keys', verb, effects, text, facts: { names, unknown } };
}

/** Made once a rule, as a real protocol does. */
function effectTest(matcher: KeyMatcher, anyReading: boolean): (command: Command, index: number) => boolean {
  const { actions, verbs } = matcher;
  const keys = matcher.keys?.map(compileGlob);
  return (command, index) => {
    const effect = command.effects[index];
    if (effect === undefined) return false;
    if (actions !== undefined && !actions.includes(effect.action)) return false;
    if (verbs !== undefined && !verbs.includes(command.verb)) return false;
    if (keys === undefined) return true;
    const { names, unknown } = command.facts as KeyFacts;
    // A `*` part of an object is not known: it may be anything.
    if (anyReading && unknown[index] === true) return true;
    const name = names[index] ?? '';
    for (const fits of keys) if (fits(name)) return true;
    return false;
  };
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
    const any = effectTest(matcher as KeyMatcher, true);
    const all = effectTest(matcher as KeyMatcher, false);
    return {
      restricts: (command) => {
        for (let index = 0; index < command.effects.length; index++) if (any(command, index)) return true;
        return false;
      },
      permits: all,
    };
  },
};
