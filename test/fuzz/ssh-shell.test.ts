// The parser of command lines against real shells: whatever it says it understands, each of them runs just the programs
// that it foretold, with arguments that its words describe, sets no other variable and opens no other file. FUZZ_RUNS
// sets how many random lines of each kind are tried (default a few dozen: each costs six shells).
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import fc from 'fast-check';
import type { ShellFacts, ShellWord } from '../../src/protocols/ssh/shell/facts.ts';
import { parseShell } from '../../src/protocols/ssh/shell/parse.ts';
import { SHELLS, STUBS, shellTrial } from '../support/shell-trial.ts';

const runs = Number(process.env.FUZZ_RUNS ?? 40);
const trial = shellTrial();
after(() => trial[Symbol.dispose]());

/** Whether the words may have become these arguments. */
function describes(words: readonly ShellWord[], given: readonly string[]): boolean {
  const [first, ...rest] = words;
  if (first === undefined) return given.length === 0;
  if (first.kind === 'Literal') return given[0] === first.text && describes(rest, given.slice(1));
  for (let taken = 0; taken <= given.length; taken++) if (describes(rest, given.slice(taken))) return true;
  return false;
}

const isStub = (name: string): boolean => STUBS.includes(name);
/** Builtins that run what follows them, in some shells. */
const TRANSPARENT = ['command', 'exec', 'time'];

/** Every shell. */
async function compare(line: string, facts: ShellFacts): Promise<void> {
  for (const [shell, ran] of await Promise.all(
    SHELLS.map(async (each) => [each, await trial.run(each, line)] as const),
  )) {
    const told = `${shell.join(' ')} ${JSON.stringify(line)}: ran ${JSON.stringify(ran)}, foretold ${JSON.stringify(facts)}`;
    for (const given of ran.commands)
      assert.ok(
        facts.commands.some(({ words }) => describes(words, given)),
        told,
      );
    for (const name of ran.variables) assert.ok(facts.assignments.includes(name), told);
    const targets = facts.redirections.filter(({ action }) => action === 'Write').map(({ target }) => target);
    for (const file of ran.files)
      assert.ok(
        targets.some((target) => target.kind === 'Pattern' || target.text === file),
        told,
      );
    // Where nothing depends on anything, all of it ran.
    const plain =
      !/&&|\|\||[<>!]/.test(line) &&
      !/\b(?:if|while|until|for|exec|command|time|exit)\b/.test(line) &&
      facts.commands.every(({ words }) => words.every(({ kind }) => kind === 'Literal'));
    if (!plain) continue;
    const outer = facts.commands.filter(({ by, words }) => by === undefined && isStub(words[0].text));
    assert.equal(ran.commands.length, outer.length, told);
  }
}

async function tryLine(line: string): Promise<boolean> {
  const parsed = parseShell(line);
  if (parsed.kind !== 'Understood') return false;
  const top = parsed.facts.commands.filter(({ by }) => by === undefined);
  // Only stubs and harmless builtins may be tried.
  if (
    !top.every(
      ({ words: [name] }) =>
        isStub(name.text) || TRANSPARENT.includes(name.text) || ['echo', 'true', ':', '['].includes(name.text),
    )
  )
    return false;
  await compare(line, parsed.facts);
  return true;
}

const word = fc.constantFrom(
  'a',
  'b',
  'f1',
  '-x',
  '--',
  '-',
  '+',
  'x=1',
  'a=b',
  '1',
  '12',
  '%',
  '%1',
  '@',
  ',',
  ':',
  'a:b',
  '.',
  '..',
  '{}',
  '-I{}',
  '{}x',
  'a{}{}b',
  "'a'{}",
  '!',
  '=',
  ']',
  'a]',
  '[',
  '[a',
  "'x y'",
  "'$A'",
  '"$A"',
  '"${A}x"',
  "'a\\b'",
  '"a\\b"',
  '"a\\$b"',
  '"a\\"b"',
  '"\\\\"',
  '"`b`"',
  '"$(b "x y")"',
  "''",
  '""',
  "'\n'",
  '"!a"',
  "'!!'",
  '$A',
  '${A}',
  'x$A',
  '$A$B',
  '$(b)',
  '`b`',
  '$(b;c)',
  '$?',
  '$$',
  '$1',
  '*',
  'f*',
  '?1',
  '[ab]*',
  '~',
  '\\a',
  '\\ ',
  '\\;',
  '\\$A',
  "\\'",
  '\\*',
  '\\~',
  '\\#',
  "'é'",
  '"ü x"',
  'a\'b\'"c"d',
  'then',
  'fi',
  'do',
  'done',
  'in',
  'time',
  'é',
  'a#b',
  'a~',
  'a^',
  '2',
  'if',
  'case',
  'function',
  'select',
);
const command = fc
  .tuple(
    fc.array(fc.constantFrom('A=1', "B='x y'", 'A=$(c)', 'A=', 'B=~', 'A="$B"', 'A=*'), { maxLength: 1 }),
    fc.constantFrom('a', 'b', 'c', 'ls', 'id', 'rm', 'cat', '\\a', "'b'", 'a', 'b', 'time a', 'command b', 'nohup a'),
    fc.array(word, { maxLength: 4 }),
    fc.array(
      fc.constantFrom(
        '>o',
        '> o',
        '2>&1',
        '>&2',
        '< f1',
        '>>o',
        '2>o',
        '<>f1',
        '>|o',
        '>$A',
        '>"o p"',
        '<&-',
        '<f2',
        '>o 2>&1',
        '3>&1',
      ),
      { maxLength: 1 },
    ),
  )
  .map(([set, name, words, redirections]) => [...set, name, ...words, ...redirections].join(' '));
const line: fc.Arbitrary<string> = fc.letrec<{ line: string; part: string }>((tie) => ({
  part: fc.oneof(
    { weight: 6, arbitrary: command },
    {
      weight: 1,
      arbitrary: fc
        .tuple(tie('line'), fc.constantFrom('(x)', '{ x; }', '(x )>o', '{ x\n}', '( x;)', '{ x;} 2>&1'))
        .map(([inner, form]) => form.replace('x', () => inner)),
    },
    {
      weight: 1,
      arbitrary: fc
        .tuple(tie('line'), command)
        .map(([inner, other]) => `if ${other}; then ${inner}; else ${other}; fi`),
    },
    {
      weight: 1,
      arbitrary: fc.tuple(tie('line'), word).map(([inner, each]) => `for x in ${each} 'y z'; do ${inner}; b $x; done`),
    },
    { weight: 1, arbitrary: tie('line').map((inner) => `a $(${inner})`) },
    { weight: 1, arbitrary: tie('line').map((inner) => `a "$(${inner})"`) },
    { weight: 1, arbitrary: command.map((inner) => `cat <<'E'\n$x ${inner}\nE\n`) },
  ),
  line: fc
    .array(fc.tuple(tie('part'), fc.constantFrom(';', ' ; ', '\n', '&&', ' || ', '|', ' | ', '&', ' &\n', ';\n\n')), {
      minLength: 1,
      maxLength: 3,
    })
    .map((parts) =>
      parts.map(([part, separator], at) => (at === parts.length - 1 ? part : `${part}${separator}`)).join(''),
    ),
})).line;

const token = fc.constantFrom(
  ...`a b c A=1 A= 'x' "y" "$A" $A \${A} $(c) \`c\` ; & && || | ( ) { } {} < > >> <> 2>&1 >&2 ! if then fi for x in do done while [ ] = == ~ * ?
  [a] \\ \\; # ^ % @ : , - -x 1 12 + += . time exec command $'a' $"a" $((1)) <( >( >| &> |& ;; () [[ ]] ~a =a {a,b} ** @(a) !(a) $# $@ $* $- $!
  $? $$ $1 $10 \${A:-b} \${#A} $A[1] $A:h <1-2> #c <<E <<<a é "é" 'é\\' >!o >&o 10>o {x}>o f1 f* A+=1 A[1]=2 a() function ' " \` $ *(N) (#q) $=A \${~A} $~A &! &| <-> <1-> \\\n
  noglob - builtin always until case esac ;& echo true`.split(/\s+/),
  ' ',
  ' ',
  ' ',
  ' ',
  '\n',
  '\t',
  '\\\n',
);
const soup = fc.array(token, { minLength: 1, maxLength: 12 }).map((tokens) => tokens.join(''));
const spaced = fc.array(token, { minLength: 1, maxLength: 10 }).map((tokens) => tokens.join(' '));

async function tryMany(arbitrary: fc.Arbitrary<string>, wanted: number, seed: number): Promise<number> {
  let tried = 0;
  // Most random lines are refused, which costs nothing.
  for (let round = 0; tried < wanted && round < 500; round++) {
    for (const text of fc.sample(arbitrary, { numRuns: wanted, seed: seed + round })) {
      if (text.includes('/')) continue;
      if (tried < wanted && (await tryLine(text))) tried++;
    }
  }
  return tried;
}

const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000);

test(`INV-02: what the grammar makes is run as foretold by every shell (seed ${seed})`, async () => {
  assert.ok((await tryMany(line, runs, seed)) >= runs);
});

test(`INV-02: random pieces that are understood are run as foretold by every shell (seed ${seed})`, async () => {
  assert.ok((await tryMany(fc.oneof(soup, spaced), runs, seed)) >= runs / 2);
});

const option = fc.constantFrom(
  ...`-n -n1 -n 1 -1 -5 5 1 0 -i -0 -t -r -x -c -c3 -f -w -k -s -u -o -oL -e -I -I{} -I % {} % -L -L1 -l -P2 -d -E -a f1 -- - -v A=1 B=2 -uA --unset=A --unset
  --null -c2 --class 3 --signal KILL --kill-after=1 --foreground -ec -xc -lc -co -oc -eo errexit pipefail --norc --login -p -S -C . --replace --replace=% --max-lines
  --max-lines=1 --max-args 1 --max-args=1 --no-run-if-empty -name f1 f* -exec -execdir -ok ; + -print -o ! ( ) -type f -maxdepth 1 -prune -quit -true -newer -H -L -O2 -depth`.split(
    /\s+/,
  ),
  "'a b'",
  "'a;b f1'",
  "'nice a'",
  '\\;',
  "';'",
  "'a $0 $1'",
);
const wrapper = fc.constantFrom(
  ...'env xargs find nohup timeout nice ionice setsid stdbuf busybox bash sh dash zsh ksh'.split(' '),
  'busybox env',
  'busybox xargs',
  'busybox find',
  'busybox nice',
  'busybox timeout',
  'busybox sh',
  'find . -name f1',
  'find .',
  'find . -exec',
  'sh -c',
  'timeout 5',
  'env A=1',
  'echo f1 | xargs',
);
const program = fc.constantFrom('a', 'b', 'c', 'a', 'b');
const wrapped = fc
  .tuple(
    wrapper,
    fc.array(option, { maxLength: 4 }),
    fc.array(wrapper, { maxLength: 1 }),
    fc.array(option, { maxLength: 2 }),
    program,
    fc.array(option, { maxLength: 3 }),
  )
  .map(([outer, options, inner, more, name, rest]) =>
    [outer, ...options, ...inner, ...more, name, ...rest]
      .map((part) => (/^[;()!]$/.test(part) ? `'${part}'` : part))
      .join(' '),
  );

test(`INV-02: real wrappers run what the models of their options foretell (seed ${seed})`, async () => {
  using real = shellTrial(true);
  let tried = 0;
  for (let round = 0; tried < runs * 2 && round < 400; round++) {
    for (const text of fc.sample(wrapped, { numRuns: runs, seed: seed + round })) {
      const parsed = parseShell(text);
      if (parsed.kind !== 'Understood' || tried >= runs * 2) continue;
      const { commands, interactive, assignments } = parsed.facts;
      // A shell that is given a script is opaque.
      if (
        commands.some(
          ({ words: [{ text: name }], wraps, interactive: reads }) => /^(?:[a-z]*sh)$/.test(name) && !wraps && !reads,
        )
      )
        continue;
      // Who asks or reads stdin gets none; a name that is no stub is not there.
      tried++;
      const ran = await real.run(['/bin/dash', '-c'], text);
      const told = `${JSON.stringify(text)}: ran ${JSON.stringify(ran)}, foretold ${JSON.stringify(parsed.facts)}`;
      for (const given of ran.commands.filter(([name]) => name !== 'id')) // asked by the machine’s own profile
        assert.ok(
          commands.some(({ words }) => describes(words, given)),
          told,
        );
      for (const name of ran.variables) assert.ok(interactive || assignments.includes(name), told);
    }
  }
  assert.ok(tried >= runs);
});

test('the parser answers whatever it is given, in time', () => {
  fc.assert(
    fc.property(fc.oneof(soup, spaced, line, fc.string({ unit: 'binary', maxLength: 200 })), (text) => {
      const parsed = parseShell(text);
      if (parsed.kind === 'NotUnderstood') assert.ok(parsed.reason.length > 0);
      else
        assert.ok(
          parsed.facts.commands.length + parsed.facts.assignments.length + parsed.facts.redirections.length >= 0,
        );
    }),
    { numRuns: runs * 20 },
  );
});
