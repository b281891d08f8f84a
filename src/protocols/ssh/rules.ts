// The member `ssh` of policy rules: what a matcher restricts and what it permits. A matcher is about one kind of thing, so
// it has one of `commands`, `shell`, `subsystems`, `paths`, `forwarding`, `env`; `users` (the target's, those that sudo
// changes to included) narrows any of them, and `effects` (Read, Write, Grant) narrows `paths`. Values of one field are
// or-ed.
//
// Allow is exact: whatever the line may turn out to be at the target is described.
//   commands    permits a program by all of its words (match/command.ts), as the session's user or one of `users`. A wrapper
//               is permitted with what it runs; a pattern may also spell the wrapper out: `sudo systemctl restart nginx`.
//   shell       permits login shells, and interpreters that read what comes: `ssh host bash`
//   paths       permits operations of sftp, scp and rsync and what the shell opens by `<` and `>`, in the path as spelled
//               and as resolved; opens sftp and starts `scp` and `rsync` where each of their operations is judged
//   env         permits variables; LANG, LC_*, TERM, GIT_PROTOCOL are permitted by any Allow, and what changes what a
//               program is (PATH, LD_*, BASH_ENV) by none
//   users       given alone permits anything as these users
//
// Every program is opaque: it may do whatever its user may. So where any Deny or Hold is in force, a program, a shell, a
// subsystem or a variable needs an Allow that names it (`names`): one whose pattern spells its name. The same holds for
// writes to hidden files, directories of programs and the like (match/path.ts); metadata addresses and other sshds, agent and
// x11 need it always.
//
// Deny and Hold are generous: options in other places, programs by other paths, names that may be addresses, words that are
// not known, paths that are not known, and paths that are words of a program.
import type { SshMatcher } from '../../api/policy.ts';
import type { Command } from '../../policy/command.ts';
import { compileGlob } from '../../policy/glob.ts';
import type { PreparedMatcher, PresetRule, ProtocolRules } from '../../policy/session-policy.ts';
import { SSH, type SshCommand, type SshFacts } from './facts.ts';
import {
  type ForwardPattern,
  parseForwardPattern,
  permitsForward,
  restrictsForward,
} from './forwarding/destination.ts';
import { type CommandPattern, compileCommand } from './match/command.ts';
import { isForbiddenVariable, isHarmlessVariable } from './match/environment.ts';
import { adviseSsh, lintSshMatcher } from './match/lint.ts';
import { compilePath, isPlainPath, type PathPattern, plainPath, sensitiveSegments } from './match/path.ts';
import { type Thing, thingsOf } from './match/thing.ts';
import type { SimpleCommand } from './shell/facts.ts';

const readOnly: readonly PresetRule[] = [
  { name: 'read-files', action: 'Allow', matcher: { paths: ['/**'], effects: ['Read'] } },
];

const readWrite: readonly PresetRule[] = [
  { name: 'files', action: 'Allow', matcher: { paths: ['/**'], effects: ['Read', 'Write'] } },
];

const holdChanges: readonly PresetRule[] = [
  {
    name: 'other-users',
    action: 'Hold',
    matcher: {
      commands: ['sudo', 'sudoedit', 'doas', 'su', 'pkexec', 'runuser', 'setpriv', 'machinectl', 'systemd-run', 'run0'],
    },
    message: 'Commands as another user need an approval.',
  },
  {
    name: 'owners-and-rights',
    action: 'Hold',
    matcher: { paths: ['/**'], effects: ['Grant'] },
    message: 'Changes of owner and of set-user-id bits need an approval.',
  },
];

export const sshRules: ProtocolRules = {
  member: 'ssh',
  presets: { ReadOnly: readOnly, ReadWrite: readWrite, HoldSchemaAndPrivilegeChanges: holdChanges },
  lint: (matcher) => lintSshMatcher(matcher as SshMatcher),
  advise: adviseSsh,
  prepare: (matcher) => prepare(matcher as SshMatcher),
};

interface Patterns {
  commands: readonly CommandPattern[] | undefined;
  shell: boolean | undefined;
  subsystems: readonly NamePattern[] | undefined;
  paths: readonly PathPattern[] | undefined;
  effects: ReadonlySet<string> | undefined;
  forwarding: readonly ForwardPattern[] | undefined;
  env: readonly NamePattern[] | undefined;
  users: readonly ((user: string) => boolean)[] | undefined;
}

interface NamePattern {
  fits(name: string): boolean;
  /** No wildcard. */
  literal: boolean;
  /** Does not begin with one. */
  begins: boolean;
}

const namePattern = (pattern: string): NamePattern => ({
  fits: compileGlob(pattern),
  literal: !pattern.includes('*'),
  begins: !pattern.startsWith('*'),
});

function prepare(matcher: SshMatcher): PreparedMatcher {
  const patterns: Patterns = {
    commands: matcher.commands?.map(compileCommand),
    shell: matcher.shell,
    subsystems: matcher.subsystems?.map(namePattern),
    paths: matcher.paths?.map(compilePath),
    effects: matcher.effects && new Set<string>(matcher.effects),
    forwarding: matcher.forwarding?.map((text) => {
      const parsed = parseForwardPattern(text);
      if (parsed.kind === 'Bad') throw new Error(parsed.problem);
      return parsed.pattern;
    }),
    env: matcher.env?.map(namePattern),
    users: matcher.users?.map(compileGlob),
  };
  return {
    restricts: (command) => restricts(patterns, command as SshCommand),
    permits: (command, index) => command.protocol === SSH && permits(patterns, command as SshCommand, index, false),
    names: (command, index) => command.protocol === SSH && permits(patterns, command as SshCommand, index, true),
  };
}

const known = new WeakMap<Command, readonly Thing[]>();

function thingsIn(command: SshCommand): readonly Thing[] {
  let things = known.get(command);
  if (things === undefined) known.set(command, (things = thingsOf(command.facts)));
  return things;
}

// --- Deny and Hold -------------------------------------------------------------------------------------------------

function restricts(patterns: Patterns, command: SshCommand): boolean {
  const { facts } = command;
  // What is not understood may be anything.
  if (facts.kind === 'Exec' && facts.problem !== undefined) return true;
  const { commands, shell, subsystems, paths, effects, forwarding, env } = patterns;
  const things = thingsIn(command);
  const asAny = (user: string | undefined): boolean => mayBe(patterns, user ?? facts.user);
  const is = (fits: (thing: Thing) => boolean): boolean => things.some(fits);
  if (commands) {
    if (facts.kind !== 'Exec') return false;
    if (facts.shell === undefined) return commands.some((pattern) => pattern.restrictsLine(command.text));
    return facts.shell.commands.some(
      ({ words, user }) => asAny(user) && commands.some((pattern) => pattern.restricts(words)),
    );
  }
  if (shell) return is((thing) => thing.kind === 'Line' || (thing.kind === 'Shell' && asAny(userOf(thing))));
  if (subsystems)
    return (
      asAny(undefined) && is((thing) => thing.kind === 'Subsystem' && subsystems.some(({ fits }) => fits(thing.name)))
    );
  if (paths || effects) return is((thing) => asAny(userOf(thing)) && touches(patterns, thing));
  if (forwarding) return asAny(undefined) && is((thing) => leads(forwarding, thing));
  if (env)
    return asAny(undefined) && is((thing) => thing.kind === 'Variable' && env.some(({ fits }) => fits(thing.name)));
  if (patterns.users === undefined) return true;
  // As these users, whatever it is: wrappers count with whom they change to.
  return asAny(undefined) || is((thing) => thing.kind === 'Line' || asAny(userOf(thing)));
}

function mayBe({ users }: Patterns, user: string): boolean {
  // A number may be any user's.
  return users === undefined || user.startsWith('#') || users.some((fits) => fits(user));
}

function userOf(thing: Thing): string | undefined {
  if (thing.kind === 'Program') return thing.command.user;
  return thing.kind === 'Shell' || thing.kind === 'File' ? thing.user : undefined;
}

function touches({ paths, effects }: Patterns, thing: Thing): boolean {
  if (thing.kind === 'Line') return true;
  // A program that is told a path may do anything with it.
  if (thing.kind === 'Program') return paths !== undefined && wordsTouch(paths, thing.command);
  if (thing.kind !== 'File') return false;
  const { action, path, resolved, subtree } = thing.access;
  if (effects && !effects.has(action)) return false;
  if (paths === undefined || path === undefined) return true;
  return [path, resolved ?? path].some(
    (each) =>
      !isPlainPath(each) || paths.some((pattern) => pattern.matches(each) || (subtree && pattern.reaches(each))),
  );
}

function wordsTouch(paths: readonly PathPattern[], { words }: SimpleCommand): boolean {
  return words.slice(1).some((word) => {
    if (word.kind === 'Pattern') return false;
    const at = word.text.indexOf('/');
    const path = at < 0 ? undefined : plainPath(word.text.slice(at));
    return path !== undefined && paths.some((pattern) => pattern.matches(path));
  });
}

function leads(patterns: readonly ForwardPattern[], thing: Thing): boolean {
  if (thing.kind === 'Line') return true;
  if (thing.kind === 'Feature')
    return patterns.some((pattern) => pattern.kind === 'Feature' && pattern.feature === thing.name);
  if (thing.kind !== 'Forward') return false;
  return patterns.some((pattern) => restrictsForward(pattern, thing.direction, thing.destination));
}

// --- Allow ---------------------------------------------------------------------------------------------------------

/** `named`: only by patterns that spell it out. */
function permits(patterns: Patterns, command: SshCommand, index: number, named: boolean): boolean {
  const thing = thingsIn(command)[index];
  if (thing === undefined) return false;
  const { facts } = command;
  if (thing.kind === 'Variable' && isHarmlessVariable(thing.name)) return true;
  const { commands, shell, subsystems, paths, effects, forwarding, env, users } = patterns;
  const onlyUsers = [commands, shell, subsystems, paths, effects, forwarding, env].every((each) => each === undefined);
  if (thing.kind === 'Program') return permitsProgram(patterns, facts, thing, onlyUsers, named);
  if (!isAs(patterns, facts, userOf(thing))) return false;
  if (onlyUsers && users !== undefined) return !named && thing.kind !== 'Line';
  switch (thing.kind) {
    case 'Line':
      return facts.kind === 'Exec' && facts.whole === true && permitsLine(commands, command.text, named);
    case 'Shell':
      return shell === true;
    case 'Subsystem':
      // sftp may begin where some path is permitted: each of its operations is judged.
      if (thing.name === 'sftp' && paths) return true;
      return subsystems?.some(({ fits, literal }) => fits(thing.name) && (literal || !named)) === true;
    case 'File':
      return permitsFile(paths, effects, thing.access);
    case 'Forward':
      return forwarding?.some((pattern) => describes(pattern, thing, named)) === true;
    case 'Variable':
      if (isForbiddenVariable(thing.name)) return false;
      return env?.some(({ fits, begins }) => fits(thing.name) && (begins || !named)) === true;
    case 'Feature':
      return forwarding?.some((pattern) => pattern.kind === 'Feature' && pattern.feature === thing.name) === true;
    default:
      return false;
  }
}

/** As the session's own user where `users` says nothing. */
function isAs({ users }: Patterns, facts: SshFacts, user: string | undefined): boolean {
  return users === undefined
    ? user === undefined || user === facts.user
    : users.some((fits) => fits(user ?? facts.user));
}

function permitsProgram(
  patterns: Patterns,
  facts: SshFacts,
  { command, transfer }: Extract<Thing, { kind: 'Program' }>,
  onlyUsers: boolean,
  named: boolean,
): boolean {
  const { commands, shell, paths, users } = patterns;
  if (isAs(patterns, facts, command.user)) {
    if (onlyUsers && users !== undefined) return !named;
    if (shell === true && command.interactive === true) return true;
    if (paths && transfer) return true;
    if (commands?.some((pattern) => pattern.permits(command.words) && (!named || pattern.literal(0)))) return true;
  }
  if (commands === undefined || facts.kind !== 'Exec' || facts.shell === undefined) return false;
  return permitsWithin(patterns, facts, facts.shell.commands, command, commands);
}

/** A pattern that spells the wrappers out, down to the name of what they run. */
function permitsWithin(
  patterns: Patterns,
  facts: SshFacts,
  all: readonly SimpleCommand[],
  command: SimpleCommand,
  commands: readonly CommandPattern[],
): boolean {
  let offset: number | undefined = 0;
  for (let at = command.by; at !== undefined; at = all[at]!.by) {
    const wrapper: SimpleCommand = all[at]!;
    // One that also acts by itself does not stand for what it runs.
    if (wrapper.wraps === undefined) return false;
    offset = wrapper.wraps.at === undefined || offset === undefined ? undefined : offset + wrapper.wraps.at;
    const place = offset;
    if (!isAs(patterns, facts, wrapper.user)) continue;
    const spelled = (pattern: CommandPattern): boolean =>
      pattern.permits(wrapper.words) &&
      pattern.literal(0) &&
      (place === undefined ? pattern.exact : pattern.literal(place));
    if (commands.some(spelled)) return true;
  }
  return false;
}

function permitsLine(commands: Patterns['commands'], line: string, named: boolean): boolean {
  return commands?.some((pattern) => pattern.permitsLine(line) && (!named || pattern.literal(0))) === true;
}

type Access = Extract<Thing, { kind: 'File' }>['access'];

function permitsFile(paths: Patterns['paths'], effects: Patterns['effects'], access: Access): boolean {
  if (paths === undefined || (effects && !effects.has(access.action))) return false;
  const { path, resolved, subtree } = access;
  if (path === undefined) return false;
  return [path, resolved ?? path].every((each) => {
    const sensitive = access.action === 'Read' ? [] : sensitiveSegments(each);
    return paths.some(
      (pattern) =>
        pattern.matches(each) &&
        (pattern.tree || !subtree) &&
        // Also where nothing restricts: a wide pattern does not mean these.
        sensitive.every((part) => pattern.literals.has(part)),
    );
  });
}

function describes(pattern: ForwardPattern, thing: Extract<Thing, { kind: 'Forward' }>, named: boolean): boolean {
  const { destination, direction, guarded } = thing;
  if (destination === undefined || !permitsForward(pattern, direction, destination)) return false;
  return (!named && guarded === undefined) || (pattern.kind !== 'Feature' && pattern.exact);
}
