// What is replayed is what the user saw: real programs on a real terminal, through OpenSSH, the gateway and a real sshd,
// drawn by two kinds of terminals, from what ssh wrote and from the records.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { type Keys, type PtyEvent, playOnPty } from '../../support/pty.ts';
import { castOf, compareScreens, onTerminal, sessionsOf } from '../../support/ssh-replay.ts';
import { alice, type SshScene, startSshScene } from '../../support/ssh-scene.ts';

const CARD = '4556737586899855';
let scene: SshScene;

before(async () => {
  scene = await startSshScene({
    web: '  - {name: all, action: Allow}',
  });
  await scene.request('web');
});
after(async () => {
  await scene?.stop();
});

test('INV-07: a shell: prompts, colours, completion, a line longer than the screen, keys not stored', async () => {
  const seen = await onTerminal(
    scene,
    [],
    [
      { keys: "PS1='\\[\\e[1;32m\\]\\u@web\\[\\e[0m\\]:\\w\\$ '\r" },
      { keys: 'ls --color=always /\r' },
      { keys: `echo ${'long '.repeat(40)}\u0001\u001b[C\u0005\r` },
      { keys: 'read -s secret\r' },
      { keys: 'hunter2\r' },
      { keys: 'exit 3\r' },
    ],
  );
  assert.ok((await compareScreens(scene, seen)).screens >= 10);
  assert.deepEqual((await castOf(scene, seen.session)).events.at(-1)!.slice(1), ['x', '3']);
  const raw = await scene.local.cli(['records', 'show', seen.session], alice);
  assert.ok(!raw.stdout.includes('hunter2'), 'keys were stored');
});

for (const [what, command, steps, isLeftOpen = false] of [
  [
    'vim, left open in its alternate screen',
    ['vim -u NONE -N -c "syntax on" /etc/services'],
    [
      { keys: 'jjjj/ssh\r', after: 'services' },
      { keys: ':vsplit\r' },
      { keys: 'ihéllo wörld €\u001b' },
      { keys: '\u0006' },
    ],
    true,
  ],
  ['vim, left again', ['vim -u NONE -N /etc/passwd'], [{ keys: 'ggdG', after: 'passwd' }, { keys: ':q!\r' }]],
  ['less', ['less -R /etc/services'], [{ keys: ' ' }, { keys: '/ftp\r' }, { keys: 'G' }, { keys: 'b' }], true],
  ['top, resized', ['top -d 9'], [{ keys: '1', after: 'COMMAND' }, { resize: [90, 20] }, { keys: 'q' }]],
  [
    'tmux',
    ['tmux -L sallyport-test -f /dev/null new-session "sh"'],
    [
      { keys: 'echo in tmux\r', after: '0:sh*' },
      { keys: '\u0002' },
      { keys: '%' },
      { keys: 'exit\r' },
      { keys: 'exit\r', after: 'exit' },
    ],
  ],
] as [string, string[], Keys[], true?][])
  test(`INV-07: ${what} is replayed as it was seen`, async () => {
    const { screens } = await compareScreens(scene, await onTerminal(scene, command, steps, { isLeftOpen }));
    assert.ok(screens > steps.length, `${screens} screens`);
  });

test('INV-06: a card on the screen is in no record, whatever colours are in it', async () => {
  const { events, session } = await onTerminal(
    scene,
    [`printf 'card 4556\\033[1m7375\\033[0m86899855 ok\\n'; printf ${CARD}; sleep 0.1; echo`],
    [],
  );
  // The user saw it.
  const seen = Buffer.concat(events.flatMap((event) => ('output' in event ? [event.output] : []))).toString();
  assert.ok(seen.includes(CARD), seen);
  const raw = await scene.local.cli(['records', 'show', session], alice);
  const output = raw.stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as { kind: string; body: { text?: string; masked?: number } })
    .filter(({ kind }) => kind === 'output');
  const text = output.map(({ body }) => body.text ?? '').join('');
  assert.equal(text, 'card ****\u001b[1m****\u001b[0m******** ok\r\n****************\r\n');
});

test('replay plays in a terminal, as text, and into a file', async () => {
  const { session } = await onTerminal(scene, ['echo shown; exit 4'], []);
  const played = await scene.local.cli(['replay', session, '--speed', '50'], alice);
  assert.equal(played.code, 0, played.output);
  assert.match(played.stdout, /shown\r\n/);
  assert.match(played.stderr, /Its terminal had 100 columns and 30 rows\.[^]*exit status 4/);
  const told = await scene.local.cli(['replay', session], alice);
  assert.match(
    told.stdout,
    /#0 exec: allowed by payments\/web-ops "all"\n {4}echo shown; exit 4\n {4}terminal xterm-256color, 100x30\n/,
  );
  assert.match(told.stdout, /#0 terminal: 7 B, see it with --play\n/);
  const file = path.join(scene.folder, 'one.cast');
  assert.equal((await scene.local.cli(['replay', session, '--asciicast', '--out', file], alice)).code, 0);
  assert.match(fs.readFileSync(file, 'utf8'), /^\{"version":3,"term":\{"cols":100,"rows":30,"type":"xterm-256color"\}/);
  // It is not written over.
  assert.equal((await scene.local.cli(['replay', session, '--asciicast', '--out', file], alice)).code, 1);
});

test('a live session is followed to its end', async () => {
  const known = new Set(await sessionsOf(scene));
  const ran = onTerminalOf('echo first; sleep 4; echo second');
  let session: string | undefined;
  for (let tries = 0; session === undefined && tries < 100; tries += 1) {
    session = (await sessionsOf(scene)).find((name) => !known.has(name));
    if (session === undefined) await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const followed = await scene.local.cli(['replay', session!, '--play', '--follow'], alice);
  assert.equal(followed.code, 0, followed.output);
  assert.match(followed.stdout, /first\r\n[^]*second\r\n/);
  await ran;
});

function onTerminalOf(command: string): Promise<PtyEvent[]> {
  return playOnPty({
    argv: ['ssh', '-F', scene.config, '-q', '-tt', '-l', scene.sshd.user, 'web', command],
    env: { ...scene.env, TERM: 'xterm-256color' },
    quiet: 6,
  });
}
