// Programs that do nothing but run another: what of their words is their own, and what they run, as whom. Each is a model
// of its documented options (POSIX, GNU coreutils and findutils, util-linux, sudo 1.9, doas, shadow and util-linux su,
// bash, dash, ksh, zsh). Whatever a model does not know is refused.
import type { ShellRedirection, ShellWord } from './facts.ts';
import { literal, type OptionModel, readOptions } from './options.ts';
import { refuse } from './refusal.ts';

export interface Wrapped {
  /** Commands that it runs: the words of each, and where in the wrapper's own they begin. */
  inner: readonly { words: readonly ShellWord[]; at: number }[];
  /** A line that it hands to a shell. */
  line?: string;
  user?: string;
  assignments?: readonly string[];
  redirections?: readonly ShellRedirection[];
  /** It reads commands from stdin. */
  interactive?: true;
  /** Does more than run the inner commands: needs an Allow of its own. */
  acts?: true;
}

type Model = (words: readonly ShellWord[]) => Wrapped | undefined;

const run = (words: readonly ShellWord[], at: number): Pick<Wrapped, 'inner'> => ({
  inner: at < words.length ? [{ words: words.slice(at), at }] : [],
});

/** Options, then the command. */
const plain =
  (model: OptionModel, operands = 0): Model =>
  (words) => {
    const { at } = readOptions(words, 1, model);
    for (let operand = 0; operand < operands; operand++) literal(words[at + operand], 'a wrapper');
    return at + operands < words.length ? run(words, at + operands) : refuse('a wrapper has nothing to run');
  };

const ASSIGNMENT = /^([A-Za-z_][A-Za-z0-9_]*)=/;

/** `NAME=value` before the command, as env and sudo take them. */
function assignmentsAt(words: readonly ShellWord[], from: number): { at: number; assignments: string[] } {
  const assignments: string[] = [];
  let at = from;
  for (; at < words.length; at++) {
    const word = words[at]!;
    const text = word.kind === 'Literal' ? word.text : (word.pieces[0] ?? '');
    const found = ASSIGNMENT.exec(text);
    if (found === null && word.kind === 'Literal' && text.includes('=')) refuse('a variable’s name is none');
    if (found === null) break;
    // A value that may be several words may be more than a value.
    if (word.kind === 'Pattern') refuse('a variable’s value before a command has an expansion');
    assignments.push(found[1]!);
  }
  return { at, assignments };
}

const env: Model = (words) => {
  const { at } = readOptions(words, 1, {
    flags: 'i0v',
    values: 'u',
    longFlags: ['ignore-environment', 'null', 'debug'],
    longValues: ['unset'],
  });
  // A bare `-` is -i.
  const from = isText(words[at], '-') ? at + 1 : at;
  const { at: command, assignments } = assignmentsAt(words, from);
  return { ...run(words, command), assignments };
};

const sudo: Model = (words) => {
  const { at, seen } = readOptions(words, 1, {
    flags: 'ABbEHiKklNnPSsVv',
    values: 'ugpCDT',
    longFlags: [
      'askpass',
      'bell',
      'background',
      'preserve-env',
      'set-home',
      'login',
      'remove-timestamp',
      'reset-timestamp',
      'list',
      'no-update',
      'non-interactive',
      'preserve-groups',
      'stdin',
      'shell',
      'version',
      'validate',
    ],
    longValues: ['user', 'group', 'prompt', 'close-from', 'chdir', 'command-timeout'],
  });
  if (seen.has('A') || seen.has('askpass')) refuse('sudo asks another program for the password');
  const user = userName(seen.get('u') ?? seen.get('user') ?? 'root');
  const { at: command, assignments } = assignmentsAt(words, at);
  const listing = ['l', 'list', 'v', 'validate', 'V', 'version', 'K', 'remove-timestamp'].some((each) =>
    seen.has(each),
  );
  if (listing) return { inner: [], acts: true };
  const shell = ['i', 'login', 's', 'shell'].some((each) => seen.has(each));
  // It hands them to a shell with every character escaped, but for this one.
  if (shell && words.slice(command).some((word) => word.kind === 'Literal' && word.text.includes('$')))
    refuse('sudo hands a $ to a shell');
  if (command < words.length) return { ...run(words, command), user, assignments };
  if (shell) return { inner: [], user, assignments, interactive: true };
  return seen.has('k') || seen.has('reset-timestamp') ? { inner: [], acts: true } : refuse('sudo has nothing to run');
};

const doas: Model = (words) => {
  const { at, seen } = readOptions(words, 1, { flags: 'nsL', values: 'u' });
  const user = userName(seen.get('u') ?? 'root');
  if (seen.has('L')) return { inner: [], acts: true };
  if (at < words.length) return { ...run(words, at), user };
  return seen.has('s') ? { inner: [], user, interactive: true } : refuse('doas has nothing to run');
};

/** `su [-] [-lmp] [user] [-c line]`, options before or after the user. */
const su: Model = (words) => {
  let user: string | undefined;
  let line: string | undefined;
  for (let at = 1; at < words.length; at++) {
    const word = literal(words[at], 'su');
    if (word === '-c' || word === '--command') line = literal(words[++at], 'su');
    else if (word.startsWith('--command=')) line = word.slice('--command='.length);
    else if (['-', '-l', '--login', '-m', '-p', '--preserve-environment'].includes(word)) continue;
    else if (word.startsWith('-')) refuse('an option of su is not known here');
    else if (user === undefined) user = word;
    else refuse('su has arguments for a shell');
  }
  const changed = userName(user ?? 'root');
  return line === undefined ? { inner: [], user: changed, interactive: true } : { inner: [], user: changed, line };
};

function userName(text: string): string {
  if (!/^(?:[A-Za-z_][A-Za-z0-9_.-]*\$?|#[0-9]+)$/.test(text)) refuse('the user to become is no plain name');
  return text === '#0' ? 'root' : text;
}

/** A shell: a line by -c, a script by its name, else whatever stdin says. */
const shell: Model = (words) => {
  let at = 1;
  let command = false;
  let stdin = false;
  for (; at < words.length; at++) {
    const word = literal(words[at], 'a shell');
    if (word === '--' || word === '-') {
      at++;
      break;
    }
    if (!/^[-+]/.test(word)) break;
    if (['--login', '--norc', '--noprofile', '--posix'].includes(word)) continue;
    if (!/^[-+][cefluxsoC]+$/.test(word) || /o.|^\+.*[cs]/.test(word)) refuse('an option of a shell is not known here');
    if (word.includes('s')) stdin = true;
    if (word.startsWith('-') && word.includes('c')) command = true;
    if (word.includes('o') && !/^[a-z]+$/.test(literal(words[++at], 'a shell')))
      refuse('an option of a shell is not known here');
  }
  if (command && stdin) refuse('a shell has both -c and -s');
  if (stdin) return { inner: [], interactive: true };
  if (command) {
    const line = literal(words[at], 'a shell');
    return { inner: [], line };
  }
  const script = words[at];
  if (script === undefined || isStdin(script)) return { inner: [], interactive: true };
  return undefined;
};

const STDIN = /^(?:-|\/dev\/stdin|\/dev\/fd\/\d+|\/proc\/self\/fd\/\d+|\/dev\/tty)$/;
const isStdin = (word: ShellWord): boolean => word.kind === 'Pattern' || STDIN.test(word.text);
const isText = (word: ShellWord | undefined, text: string): boolean => word?.kind === 'Literal' && word.text === text;

/** Interpreters of other languages, and shells with a grammar of their own: opaque, but for one that reads stdin. */
const interpreter: Model = (words) => {
  // Any operand is a script, any option may bring code: then an Allow must name it. Options alone leave stdin to be read.
  const own = words.slice(1);
  const brings = own.some((word) =>
    word.kind === 'Pattern'
      ? false
      : /^(?:-[A-Za-z]*[cemM]|--version|-V|-v|-h|--help|--eval|--print|-p|-r|-f)/.test(word.text) ||
        (!word.text.startsWith('-') && !STDIN.test(word.text)),
  );
  return brings ? undefined : { inner: [], interactive: true };
};

const xargs: Model = (words) => {
  const { at, seen } = readOptions(words, 1, {
    flags: '0rtxoi',
    values: 'adEILlnPs',
    longFlags: ['null', 'no-run-if-empty', 'verbose', 'exit', 'open-tty'],
    // Not those whose value may be left out.
    longValues: ['arg-file', 'delimiter', 'max-args', 'max-procs', 'max-chars'],
  });
  if (seen.has('i') || seen.has('l')) refuse('an option of xargs is not known here');
  const file = seen.get('a') ?? seen.get('arg-file');
  const redirections: ShellRedirection[] =
    file === undefined ? [] : [{ action: 'Read', target: { kind: 'Literal', text: file } }];
  const replace = seen.get('I');
  // Of these the last counts, and which that is differs.
  if (replace !== undefined && ['n', 'L', 'max-args'].some((each) => seen.has(each)))
    refuse('xargs has both -I and a number of words');
  const given = words.slice(at);
  if (given.length === 0) return { inner: [], redirections, acts: true };
  if (replace === undefined)
    return { inner: [{ words: [...given, { kind: 'Pattern', pieces: [undefined] }], at }], redirections };
  return { inner: [{ words: given.map((word) => withHoles(word, replace)), at }], redirections };
};

function withHoles(word: ShellWord, hole: string): ShellWord {
  if (hole === '') refuse('xargs replaces nothing');
  if (word.kind === 'Pattern') return word;
  const parts = word.text.split(hole);
  if (parts.length === 1) return word;
  return { kind: 'Pattern', pieces: parts.flatMap((part, index) => (index === 0 ? [part] : [undefined, part])) };
}

const FIND_FLAGS =
  /^(?:-?-?(?:!|\(|\)|,)|-(?:not|a|and|o|or|true|false|print|print0|ls|prune|quit|depth|d|daystart|mount|xdev|follow|nouser|nogroup|empty|executable|readable|writable|noleaf|warn|nowarn|ignore_readdir_race|H|L|P|O[0-3]))$/;
const FIND_VALUES =
  /^-(?:name|iname|path|ipath|wholename|iwholename|regex|iregex|regextype|lname|ilname|type|xtype|size|mtime|atime|ctime|mmin|amin|cmin|newer|anewer|cnewer|newer[aBcm][aBcmt]|user|group|uid|gid|perm|links|inum|samefile|maxdepth|mindepth|used|fstype|context|printf|D)$/;

/** Names what it would delete or write as well as what it would run. */
const find: Model = (words) => {
  const starts: ShellWord[] = [];
  const redirections: ShellRedirection[] = [];
  const inner: { words: readonly ShellWord[]; at: number }[] = [];
  let expression = false;
  for (let at = 1; at < words.length; at++) {
    const word = literal(words[at], 'find');
    const isExpression = /^(?:-.|[!(),]$)/.test(word) && !/^-[HLPOD]/.test(word);
    if (!isExpression) {
      if (expression) refuse('find has a word that is no expression');
      if (!/^-[HLP]$|^-O/.test(word)) starts.push({ kind: 'Literal', text: word });
      if (word === '-D') refuse('an option of find is not known here');
      continue;
    }
    expression = true;
    if (/^-(?:exec|execdir|ok|okdir)$/.test(word)) {
      const end = endOfExec(words, at + 1);
      const given = words.slice(at + 1, end).map((each) => withHoles(each, '{}'));
      if (given.length === 0) refuse('find has nothing to run');
      inner.push({ words: given, at: at + 1 });
      at = end;
    } else if (/^-(?:fprint|fprint0|fls|fprintf)$/.test(word)) {
      redirections.push({ action: 'Write', target: { kind: 'Literal', text: literal(words[++at], 'find') } });
      if (word === '-fprintf') literal(words[++at], 'find');
    } else if (word === '-delete') {
      const below = starts.length === 0 ? [''] : starts.map((start) => literal(start, 'find'));
      for (const start of below)
        redirections.push({ action: 'Write', target: { kind: 'Pattern', pieces: [start, undefined] } });
    } else if (FIND_VALUES.test(word)) {
      at++;
      if (at >= words.length) refuse('find lacks a word');
      literal(words[at], 'find');
    } else if (!FIND_FLAGS.test(word)) refuse('an expression of find is not known here');
  }
  return { inner, redirections, acts: true };
};

function endOfExec(words: readonly ShellWord[], from: number): number {
  for (let at = from; at < words.length; at++) {
    if (isText(words[at], ';')) return at;
    if (isText(words[at], '+') && isText(words[at - 1], '{}')) return at;
    literal(words[at], 'find');
  }
  return refuse('find’s -exec has no end');
}

const time: Model = (words) => {
  const first = literal(words[1], 'time');
  // bash and zsh have a keyword of that name, which takes other options than the program.
  if (first.startsWith('-')) refuse('an option of time is not known here');
  return run(words, 1);
};

const command: Model = (words) => {
  if (/^-[vV]$/.test(literal(words[1], 'command'))) return { inner: [], acts: true };
  return run(words, readOptions(words, 1, { flags: '' }).at);
};

const nice: Model = (words) => {
  const first = words[1];
  if (first?.kind === 'Literal' && /^-\d+$/.test(first.text)) return run(words, 2);
  return plain({ values: 'n', longValues: ['adjustment'] })(words);
};

const ionice: Model = (words) => {
  const { at, seen } = readOptions(words, 1, {
    flags: 't',
    values: 'cnpPu',
    longFlags: ['ignore'],
    longValues: ['class', 'classdata', 'pid'],
  });
  if (['p', 'P', 'u', 'pid'].some((each) => seen.has(each)) || at >= words.length) return { inner: [], acts: true };
  return run(words, at);
};

const MODELS: ReadonlyMap<string, Model> = new Map<string, Model>([
  ['env', env],
  ['sudo', sudo],
  ['doas', doas],
  ['su', su],
  ['xargs', xargs],
  ['find', find],
  ['time', time],
  ['command', command],
  [
    'exec',
    (words) =>
      literal(words[1], 'exec').startsWith('-') ? refuse('an option of exec is not known here') : run(words, 1),
  ],
  [
    'timeout',
    plain(
      {
        flags: 'v',
        values: 'ks',
        longFlags: ['preserve-status', 'foreground', 'verbose'],
        longValues: ['kill-after', 'signal'],
      },
      1,
    ),
  ],
  ['nohup', plain({})],
  ['nice', nice],
  ['ionice', ionice],
  ['setsid', plain({ flags: 'cfw', longFlags: ['ctty', 'fork', 'wait'] })],
  ['stdbuf', plain({ values: 'ioe', longValues: ['input', 'output', 'error'] })],
  ['busybox', (words) => (literal(words[1], 'busybox').startsWith('-') ? { inner: [], acts: true } : run(words, 1))],
]);

const SHELLS = /^(?:sh|bash|rbash|dash|ash|zsh|ksh|ksh93|mksh|lksh|pdksh|rksh|oksh|yash)$/;
const INTERPRETERS =
  /^(?:fish|csh|tcsh|rc|es|elvish|nu|xonsh|pwsh|python[0-9.]*|pypy[0-9.]*|perl[0-9.]*|ruby[0-9.]*|irb|node|nodejs|deno|bun|php[0-9.]*|lua[0-9.]*|luajit|tclsh[0-9.]*|wish|expect|guile|gdb|ed|ex|bc|dc|at|batch|m4|R|Rscript|julia|octave|erl|iex|ghci|scala|groovy|jshell|awk|sqlite3|psql|mysql)$/;

/** undefined: it is none, and opaque. Throws Refusal for one that is not used as its model knows. */
export function unwrap(words: readonly [{ kind: 'Literal'; text: string }, ...ShellWord[]]): Wrapped | undefined {
  const cut = words[0].text.lastIndexOf('/') + 1;
  const name = words[0].text.slice(cut);
  const wrapped = SHELLS.test(name)
    ? shell(words)
    : INTERPRETERS.test(name)
      ? interpreter(words)
      : MODELS.get(name)?.(words);
  // A file of that name elsewhere may be anything: what it seems to run is told, and it needs an Allow of its own.
  return wrapped === undefined || cut === 0 || SYSTEM.test(words[0].text) ? wrapped : { ...wrapped, acts: true };
}

const SYSTEM = /^(?:\/usr)?\/s?bin\/[^/]+$/;
