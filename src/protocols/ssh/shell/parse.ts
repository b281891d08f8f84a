// What a command line would do, or that it is not understood. Own code, since a library parses one dialect: shfmt (and
// sh-syntax, its WASM) reads a line as bash, or POSIX, or mksh, and says nothing of what another shell at the target would
// make of it. Here a line is understood only if dash, bash, ksh, zsh and busybox read it alike (syntax.ts, word.ts), every
// program's name is plain text, and every wrapper around a program is one whose options are known (wrappers.ts).
//
// Guarantees: each program that running the line could start directly, by itself or through a wrapper, a substitution or
// `sh -c`, is among the facts, with words that describe its arguments; each file that the shell would open, and each
// variable it would set, too. It does not say what a program then does, nor what a name means at the target.
import type { ShellFacts, ShellRedirection, ShellWord, SimpleCommand } from './facts.ts';
import { Refusal, refuse } from './refusal.ts';
import { MOST_STEPS, readScript } from './syntax.ts';
import { type RawWord, shellWord } from './word.ts';
import { unwrap } from './wrappers.ts';

export type ParsedLine = { kind: 'Understood'; facts: ShellFacts } | { kind: 'NotUnderstood'; reason: string };

/** Programs, with those inside others. */
const MOST_COMMANDS = 512;
const DEEPEST = 8;

// Reserved in some shell, or a builtin that changes how what follows is read, runs text, or is one shell's own.
const REFUSED = new Set(
  `if then else elif fi case esac for select while until do done in function time coproc repeat foreach end nocorrect noglob
  always nameref { } ! [[ ]] eval source . trap alias unalias set unset export readonly typeset declare local integer float
  let getopts read mapfile readarray enable shopt setopt unsetopt emulate zmodload autoload functions fc history hist builtin
  bind bindkey compgen complete compopt compadd compdef zle zstyle zparseopts zformat zcompile zregexparse sched vared print
  hash rehash unhash disable caller dirs pushd popd fg bg jobs disown suspend logout login chdir printenv0 private
  nameref unfunction whence where which type command_not_found_handler ulimit limit unlimit log times shift return break continue
  getln pushln r sleep0 stat0 syslog ztcp zsocket zselect ttyctl`
    .split(/\s+/)
    .filter((name) => name !== 'time'),
);
const NAME = /^(?:\[|:|[A-Za-z0-9_./+][A-Za-z0-9_./+:@%,-]*)$/;
// Builtins of which some shell reads an argument as arithmetic, and arithmetic as commands.
const ARITHMETIC = new Set(['test', '[', 'printf', 'exit', 'umask']);
/** Variables of the shell alone that mean nothing to any shell or program. */
const LOCAL =
  /^(?:[a-z]|[a-z][0-9]|file|dir|host|user|line|item|name|pod|node|unit|service|num|key|out|res|ret|rc|tmp|src|dst|id)$/;

/** Pure and total; linear in the line but for lines within lines, which nest eight deep at most. */
export function parseShell(line: string): ParsedLine {
  try {
    return { kind: 'Understood', facts: collect(line) };
  } catch (error) {
    if (error instanceof Refusal) return { kind: 'NotUnderstood', reason: error.message };
    throw error;
  }
}

interface Around {
  within: readonly string[];
  by: number | undefined;
  user: string | undefined;
  depth: number;
}

function collect(line: string): ShellFacts {
  const commands: SimpleCommand[] = [];
  const redirections: ShellRedirection[] = [];
  const assignments: string[] = [];
  let interactive = false;
  const steps = { left: MOST_STEPS, open: 0 };

  const readLine = (text: string, around: Around): void => {
    if (around.depth > DEEPEST) refuse('it nests too deep');
    const as = userOf(around.user);
    readScript(
      text,
      {
        command(words, names) {
          assignments.push(...names);
          addCommand(words.map(shellWord), around, words[0]);
        },
        redirection: (redirection) => void redirections.push({ ...redirection, ...as }),
        variable(name) {
          if (!LOCAL.test(name)) assignments.push(name);
        },
      },
      around.depth,
      steps,
    );
  };

  const addCommand = (words: readonly ShellWord[], around: Around, raw?: RawWord): void => {
    const [first, ...rest] = words;
    if (first?.kind !== 'Literal') refuse('a program’s name is not plain text');
    const name = first.text;
    if (!NAME.test(name) || REFUSED.has(name))
      refuse(
        `${raw === undefined ? 'a program' : 'a command'}’s name is not plain, or one that not every shell runs alike`,
      );
    if (ARITHMETIC.has(name)) checkArithmetic(name, rest);
    if (commands.length >= MOST_COMMANDS) refuse('it has too many commands');
    if (around.depth > DEEPEST) refuse('it nests too deep');
    const all = [first, ...rest] as const;
    const wrapped = unwrap(all);
    const index = commands.length;
    const { within, by, user } = around;
    const [inner] = wrapped?.inner ?? [];
    const wraps = wrapped !== undefined && wrapped.acts !== true && wrapped.interactive !== true;
    commands.push({
      words: all,
      within,
      ...(by === undefined ? {} : { by }),
      ...(wraps ? { wraps: { at: inner?.at } } : {}),
      // Of `sudo -i`, whose shell it is.
      ...userOf(wrapped?.interactive === true ? (wrapped.user ?? user) : user),
      ...(wrapped?.interactive === true ? { interactive: true as const } : {}),
    });
    if (wrapped === undefined) return;
    interactive ||= wrapped.interactive === true;
    assignments.push(...(wrapped.assignments ?? []));
    const as = userOf(user);
    redirections.push(...(wrapped.redirections ?? []).map((each) => ({ ...each, ...as })));
    const inside: Around = {
      within: [...within, name],
      by: index,
      user: wrapped.user ?? user,
      depth: around.depth + 1,
    };
    for (const each of wrapped.inner) addCommand(each.words, inside);
    if (wrapped.line !== undefined) readLine(wrapped.line, inside);
  };

  readLine(line, { within: [], by: undefined, user: undefined, depth: 0 });
  return { commands, redirections, assignments: [...new Set(assignments)], interactive };
}

const userOf = (user: string | undefined): { user?: string } => (user === undefined ? {} : { user });

/** A name would be a variable's, and what a variable holds may come from the client. */
function checkArithmetic(name: string, words: readonly ShellWord[]): void {
  const texts = words.map((word) => {
    if (word.kind === 'Pattern') refuse(`${name} has an expansion, which some shell may calculate with`);
    return word.text;
  });
  if (name === '[') {
    if (texts.pop() !== ']') refuse('a [ has no ]');
  }
  if (texts.some((text) => /[[\]`]|\$\(/.test(text))) refuse(`${name} has a word that some shell may calculate with`);
  const isNumber = (text: string): boolean => /^[-+]?[0-9]*(?:\.[0-9]*)?$/.test(text);
  const numbersOnly = (of: readonly string[]): void => {
    if (!of.every(isNumber)) refuse(`${name} has a word that some shell may calculate with`);
  };
  if (name === 'exit') numbersOnly(texts);
  else if (name === 'umask') {
    if (!texts.every((text) => /^(?:-S|[0-7]+|[ugoarwxXst,+=-]+)$/.test(text)))
      refuse('umask has a word that is no mask');
  } else if (name === 'printf') {
    const [format = '', ...given] = texts;
    if (format.startsWith('-')) refuse('an option of printf is not known here');
    if (!/^(?:[^%]|%%|%[-0-9.]*[sb])*$/.test(format)) numbersOnly(given);
  } else if (texts.some((text) => /^-(?:eq|ne|lt|le|gt|ge|t|v|R)$/.test(text)))
    numbersOnly(texts.filter((text) => !/^(?:-[a-z]+|[!()])$/.test(text)));
}
