// Criteria of what is left of a session: the screens that its user saw, harmless to whoever looks at them, without what
// must not be kept, and with every change to it found.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { assertHarmless, ESC, HOSTILE } from '../../support/hostile-terminal.ts';
import { SALLYPORT } from '../../support/local.ts';
import { type Keys, playOnPty } from '../../support/pty.ts';
import { type Compared, compareScreens, onTerminal } from '../../support/ssh-replay.ts';
import { type SshScene, startSshScene } from '../../support/ssh-scene.ts';
import { openScreen } from '../../support/terminal-screen.ts';
import { openTmuxScreen } from '../../support/tmux-screen.ts';
import { type CriteriaGroup, trials } from '../criterion.ts';
import { randomDrawing } from './replay-drawing.ts';
import { longSession } from './replay-long.ts';
import { keptSecrets } from './replay-secrets.ts';
import { changesFound } from './replay-tampering.ts';

const SEEDS = trials(12);

interface Program {
  what: string;
  command: readonly string[];
  steps: readonly Keys[];
  isLeftOpen?: true;
  columns?: number;
}

const LINES =
  '{ i=1; while [ $i -le 300 ]; do echo "line $i of many, with text that is wide 世界 ✓"; i=$((i+1)); done; }';

const PROGRAMS: readonly Program[] = [
  {
    what: 'shell',
    command: [],
    steps: [
      { keys: "PS1='\\[\\e[1;32m\\]\\u@web\\[\\e[0m\\]:\\w> '\r", after: '$' },
      { keys: 'ls --color=always /\r' },
      { keys: `echo ${'long '.repeat(40)}\u0001\u001b[C\u0005\r` },
      { keys: 'echo héllo 世界 👩‍👩‍👧 e\u0301 שלום\r' },
      { resize: [72, 20] },
      { keys: 'exit 3\r' },
    ],
  },
  {
    what: 'vim',
    command: ['vim -u NONE -N -c "syntax on" /etc/services'],
    steps: [
      { keys: 'jjjj/ssh\r', after: 'services' },
      { keys: ':vsplit\r' },
      { keys: 'ihéllo wörld € 世界\u001b' },
      { resize: [80, 24] },
      { keys: '\u0006' },
    ],
    isLeftOpen: true,
  },
  {
    what: 'less',
    command: [`${LINES} | less -R`],
    steps: [{ keys: ' ', after: 'line 20' }, { keys: '/line 99\r' }, { keys: 'G' }, { keys: 'b' }, { keys: 'q' }],
  },
  {
    what: 'top',
    command: ['top -d 9'],
    steps: [{ keys: '1', after: 'COMMAND' }, { resize: [90, 20] }, { keys: 'q' }],
  },
  {
    what: 'tmux',
    command: ['tmux -L sallyport-test -f /dev/null new-session "sh"'],
    steps: [
      { keys: 'echo in tmux\r', after: '0:sh*' },
      { keys: '\u0002' },
      { keys: '%' },
      { keys: 'exit\r' },
      { keys: 'exit\r', after: 'exit' },
    ],
  },
];

let scene: SshScene;

async function screens(): Promise<string> {
  const all: Compared[] = [];
  for (const { what, command, steps, ...options } of PROGRAMS) {
    try {
      all.push(await compareScreens(scene, await onTerminal(scene, command, steps, options)));
    } catch (error) {
      throw new Error(`${what}: ${(error as Error).message}`, { cause: error });
    }
  }
  const compared = all.reduce((sum, { screens: count }) => sum + count, 0);
  const skewMs = Math.max(...all.map((one) => one.skewMs));
  assert.ok(compared >= 20, `${compared} screens`);
  assert.ok(skewMs < 2_000, `${skewMs} ms`);
  return `${compared} screens of ${PROGRAMS.length} programs on xterm.js and tmux, times within ${skewMs.toFixed(0)} ms of when they were read`;
}

async function drawings(): Promise<string> {
  let compared = 0;
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const file = path.join(scene.folder, `drawing-${seed}`);
    fs.writeFileSync(file, randomDrawing(seed));
    const played = await onTerminal(scene, [`cat ${file}; read x`], [], { isLeftOpen: true });
    try {
      compared += (await compareScreens(scene, played)).screens;
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
  assert.ok(compared >= SEEDS, `only ${compared} were quiet`);
  return `${SEEDS} seeds, ${compared} screens`;
}

/** Beyond what the tests of one sequence have: bytes that are no UTF-8, and strings that do not end. */
const RAW: readonly [string, Buffer][] = [
  ['C1 as bytes', Buffer.from([0x9b, 0x35, 0x6e, 0x9d, 0x35, 0x32, 0x3b, 0x63, 0x3b, 0x41, 0x41, 0x3d, 0x3d, 0x9c])],
  ['C1 as UTF-8', Buffer.from('\u009b5n\u009d52;c;b3duZWQ=\u009c\u0090$q"p\u009c')],
  ['overlong', Buffer.from([0xc0, 0x9b, 0x35, 0x6e, 0xe0, 0x80, 0x9b, 0x36, 0x6e, 0xc1, 0x9b])],
  ['cut UTF-8', Buffer.from([0xe2, 0x82, 0x1b, 0x5b, 0x35, 0x6e, 0xf0, 0x9f])],
  ['a megabyte of OSC', Buffer.from(`${ESC}]52;c;${'QUFB'.repeat(300_000)}`)],
  ['a megabyte of DCS', Buffer.from(`${ESC}P$q${'m'.repeat(1_200_000)}`)],
];

async function hostile(): Promise<string> {
  const file = path.join(scene.folder, 'hostile');
  const attacks = [...HOSTILE.map(([, text]) => Buffer.from(text)), ...RAW.map(([, bytes]) => bytes)];
  const end = Buffer.from(`\u0018${ESC}\\\r\n`);
  // Twice: each ended, then each running into the next.
  fs.writeFileSync(
    file,
    Buffer.concat([...attacks.flatMap((attack) => [attack, end]), ...attacks, end, Buffer.from('the end\r\n')]),
  );
  const { session } = await onTerminal(scene, [`cat ${file} # \u009b5n\u202egpj ${ESC}]52;c;QQ==\u0007`], []);
  // Straight to a terminal they do act: otherwise that nothing happens below would say little.
  const straight = openScreen(100, 30);
  await straight.write(fs.readFileSync(file));
  assert.ok(straight.answers.length > 10 && straight.reached.length > 10, `${straight.answers.length} answers`);
  straight.close();
  const ways: readonly string[][] = [
    ['replay', session, '--play', '--speed', '1000'],
    ['replay', session],
    ['replay', session, '-o', 'yaml'],
    ['records', 'show', session],
    ['replay', session, '--asciicast'],
    ['audit', 'files', '*', '-o', 'json'],
  ];
  let bytes = 0;
  for (const [index, way] of ways.entries()) {
    const events = await playOnPty({ argv: [SALLYPORT, ...way], env: scene.env, columns: 100, quiet: 5, ends: true });
    const output = Buffer.concat(events.flatMap((event) => ('output' in event ? [event.output] : [])));
    const exit = events.find((event) => 'exit' in event)?.exit;
    assert.equal(exit, 0, `${way.join(' ')} ended with ${exit}: ${output.subarray(-500).toString()}`);
    bytes += output.length;
    const text = new TextDecoder('utf-8', { fatal: true }).decode(output);
    if (index !== 4) assertHarmless(text.replaceAll(`${ESC}[2m`, ''));
    if (index === 0) assert.match(text, /the end/);
    const screen = openScreen(100, 30);
    const tmux = await openTmuxScreen(100, 30);
    try {
      await screen.write(output);
      await tmux.write(output);
      assert.deepEqual([screen.answers, screen.reached], [[], []], way.join(' '));
      assert.deepEqual(tmux.acts(), { answers: '', title: '', clipboard: '' }, way.join(' '));
      assert.equal(screen.look().screen, 'normal');
    } finally {
      screen.close();
      tmux.close();
    }
  }
  return `${attacks.length} attacks, ${ways.length} ways to look, ${bytes} bytes on a terminal: no answer, no title, no clipboard`;
}

export const replay: CriteriaGroup = {
  name: 'replay',
  async start() {
    scene = await startSshScene({ web: '  - {name: all, action: Allow}' });
    await scene.request('web', '4h');
  },
  criteria: [
    { claim: 'real programs: every screen that is replayed is the one its user saw', check: screens },
    { claim: 'random drawing: the screen that is replayed is the one its user saw', check: drawings },
    { claim: 'hostile escape sequences do nothing to whoever replays them', check: hostile },
    {
      claim: 'passwords, cards and keys are in no record, plain, encoded or in pieces',
      check: () => keptSecrets(scene),
    },
    {
      claim: 'a long session is recorded, followed and replayed in bounded memory',
      check: () => longSession(scene),
    },
    {
      claim: 'every flip, cut, drop, insertion and exchange in any record file is found, with exit code 1',
      check: changesFound,
    },
  ],
  async stop() {
    await scene?.stop();
  },
};
