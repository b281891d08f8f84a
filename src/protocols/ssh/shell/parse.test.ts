import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ShellFacts, ShellWord } from './facts.ts';
import { parseShell } from './parse.ts';

function facts(line: string): ShellFacts {
  const parsed = parseShell(line);
  assert.equal(parsed.kind, 'Understood', `${line}: ${parsed.kind === 'NotUnderstood' ? parsed.reason : ''}`);
  return (parsed as { facts: ShellFacts }).facts;
}

/** `?` for what is not known. */
const spell = (word: ShellWord): string =>
  word.kind === 'Literal' ? word.text : word.pieces.map((piece) => piece ?? '?').join('');
const commands = (line: string): string[] =>
  facts(line).commands.map(
    ({ words, user, within }) =>
      `${within.map((name) => `${name}>`).join('')}${user ? `${user}:` : ''}${words.map(spell).join(' ')}`,
  );

test('words: quotes come off, what is not known stays open', () => {
  for (const [line, words] of [
    ['a \'b c\' "d e" f\\ g', ['a', 'b c', 'd e', 'f g']],
    ['a "" \'\'', ['a', '', '']],
    ['a $X "${Y}z" x$(b)y', ['a', '?', '?z', 'x?y']],
    ['a *.log [ab]? ~/x', ['a', '?.log', '?ab]?', '?/x']],
    ['a "\\$X \\n \\\\"', ['a', '$X \\n \\']],
    ['a\'b\'"c"\\d', ['abcd']],
    ['a {} -I{}', ['a', '{}', '-I{}']],
  ] as const)
    assert.deepEqual(facts(line).commands.at(-1)!.words.map(spell), words, line);
});

test('every program of a line is told, wherever it stands', () => {
  const cases: [string, string[]][] = [
    ['a; b && c || d | e & f', ['a', 'b', 'c', 'd', 'e', 'f']],
    ['(a; { b; }) >o', ['a', 'b']],
    ['if a; then b; elif c; then d; else e; fi', ['a', 'b', 'c', 'd', 'e']],
    ['while a; do b; done; until c; do d; done', ['a', 'b', 'c', 'd']],
    ['for x in $(a) `b`; do c $x; done', ['a', 'b', 'c ?']],
    ['a $(b "$(c)")', ['c', 'b ?', 'a ?']],
    ['X=$(a) b >"$(c)"', ['a', 'c', 'b']],
    ["cat <<'E' | b\n$(x)\nE\nc", ['cat', 'b', 'c']],
  ];
  for (const [line, expected] of cases) assert.deepEqual(commands(line), expected, line);
});

test('wrappers are looked through, as whom they change to', () => {
  const cases: [string, string[]][] = [
    ['sudo -n -u app X_Y=1 a b', ['sudo -n -u app X_Y=1 a b', 'sudo>app:a b']],
    ['sudo env nice a', ['sudo env nice a', 'sudo>root:env nice a', 'sudo>env>root:nice a', 'sudo>env>nice>root:a']],
    ["su - bob -c 'a; b'", ['su - bob -c a; b', 'su>bob:a', 'su>bob:b']],
    ["bash -lc 'a $1' x y", ['bash -lc a $1 x y', 'bash>a ?']],
    ['xargs -P 2 -I % a %b', ['xargs -P 2 -I % a %b', 'xargs>a ?b']],
    ['xargs a b', ['xargs a b', 'xargs>a b ?']],
    ['find . -name x -exec a {} + -exec b \\;', ['find . -name x -exec a {} + -exec b ;', 'find>a ?', 'find>b']],
    ['timeout -s KILL 5 a', ['timeout -s KILL 5 a', 'timeout>a']],
    ['busybox sh -c a', ['busybox sh -c a', 'busybox>sh -c a', 'busybox>sh>a']],
    ['doas a', ['doas a', 'doas>root:a']],
  ];
  for (const [line, expected] of cases) assert.deepEqual(commands(line), expected, line);
});

test('files, variables and interpreters without a script are told', () => {
  const told = (line: string): string[] =>
    facts(line).redirections.map(({ action, target }) => `${action} ${spell(target)}`);
  assert.deepEqual(told('a <x >y 2>>z <>w'), ['Read x', 'Write y', 'Write z', 'Read w', 'Write w']);
  assert.deepEqual(told('a >/dev/null 2>&1 </dev/stdin'), []);
  assert.deepEqual(told('a >/dev/tcp/h/80'), ['Connect /dev/tcp/h/80', 'Write /dev/tcp/h/80']);
  assert.deepEqual(told('find /x -delete -fprint o'), ['Write /x?', 'Write o']);
  assert.deepEqual(told('a >$X'), ['Write ?']);
  assert.deepEqual(facts('A=1 B=$X a; C=2; x=1; env D=1 a').assignments, ['A', 'B', 'C', 'D']);
  for (const line of ['sh', 'a | bash -s', 'python3 -', 'sudo -i', 'su', 'perl', 'env sh'])
    assert.equal(facts(line).interactive, true, line);
  for (const line of ['sh -c a', 'sh x.sh', 'python3 x.py', 'perl -e 1'])
    assert.equal(facts(line).interactive, false, line);
});

test('a line that nests or repeats without end is refused in time', () => {
  const started = performance.now();
  for (const line of [
    '$('.repeat(1000),
    `${'a $('.repeat(30)}a${')'.repeat(30)}`,
    '('.repeat(20_000),
    '{ '.repeat(20_000),
    'if '.repeat(10_000),
    `${'busybox '.repeat(100)}a`,
    'a;'.repeat(30_000),
    `${'env '.repeat(1000)}a`,
    '! '.repeat(1000),
  ])
    assert.equal(parseShell(line).kind, 'NotUnderstood', line.slice(0, 40));
  assert.ok(performance.now() - started < 5000);
});
