// Real programs on a real terminal, through OpenSSH, the gateway and a real sshd; and what records of them draw, on two
// terminals that others wrote, wherever the program was quiet.
import assert from 'node:assert/strict';
import type { OutputBody, RecordEnvelope } from '../../src/recording/envelope.ts';
import { type Keys, type PtyEvent, playOnPty } from './pty.ts';
import { alice, type SshScene } from './ssh-scene.ts';
import { openScreen } from './terminal-screen.ts';
import { openTmuxScreen } from './tmux-screen.ts';

export interface Played {
  events: PtyEvent[];
  session: string;
  columns: number;
  rows: number;
  isLeftOpen: boolean;
}

export interface Cast {
  header: { version: number; timestamp: number; term: { cols: number; rows: number } };
  events: [number, string, string][];
}

export async function sessionsOf(scene: SshScene): Promise<string[]> {
  const listed = await scene.local.cli(['records', 'ls', '-o', 'name'], alice);
  return listed.stdout.split('\n').filter((line) => line !== '');
}

/** Runs a command (none: a shell) on `web` in a terminal, and plays keys to it. `isLeftOpen`: then the terminal is shut. */
export async function onTerminal(
  scene: SshScene,
  command: readonly string[],
  steps: readonly Keys[],
  { columns = 100, rows = 30, isLeftOpen = false }: { columns?: number; rows?: number; isLeftOpen?: boolean } = {},
): Promise<Played> {
  const known = new Set(await sessionsOf(scene));
  const events = await playOnPty({
    argv: ['ssh', '-F', scene.config, '-q', '-tt', '-l', scene.sshd.user, 'web', ...command],
    env: { ...scene.env, TERM: 'xterm-256color' },
    columns,
    rows,
    // What was drawn last is compared before a last step that does nothing.
    steps: isLeftOpen ? [...steps, { keys: '' }] : steps,
    quiet: 0.7,
    ends: !isLeftOpen,
  });
  const exit = events.find((event) => 'exit' in event)!.exit;
  assert.equal(exit < 0, isLeftOpen, `ssh ended with ${exit}`);
  const made = (await sessionsOf(scene)).filter((session) => !known.has(session));
  assert.equal(made.length, 1, `${made.length} sessions were recorded`);
  return { events, session: made[0]!, columns, rows, isLeftOpen };
}

export async function castOf(scene: SshScene, session: string): Promise<Cast> {
  const made = await scene.local.cli(['replay', session, '--asciicast'], alice);
  assert.equal(made.code, 0, made.output);
  const [header, ...events] = made.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
  return { header: header as Cast['header'], events: events as Cast['events'] };
}

export async function recordsOf(scene: SshScene, session: string): Promise<RecordEnvelope[]> {
  const shown = await scene.local.cli(['records', 'show', session], alice);
  assert.equal(shown.code, 0, shown.output);
  return shown.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as RecordEnvelope);
}

export interface Compared {
  /** Moments at which both were looked at, on each of two terminals. */
  screens: number;
  /** The furthest that a recorded time was from when its bytes were read, in milliseconds. */
  skewMs: number;
}

type Act = { at: number } & ({ bytes: Uint8Array | string } | { resize: readonly [number, number] });

/**
 * Draws what the user saw and what is replayed, and compares both before each step and at the end. A moment is found again
 * in the records by the bytes and sizes that had passed. A program that was left open leaves its modes on; replay ends them.
 */
export async function compareScreens(scene: SshScene, played: Played): Promise<Compared> {
  const cast = await castOf(scene, played.session);
  const records = await recordsOf(scene, played.session);
  const replayed = replayedActs(cast, records);
  const passed = passedIn(records);
  const isMasked = records.some(({ kind, body }) => kind === 'output' && (body as OutputBody).masked !== undefined);
  const screens = [
    { mine: openScreen(played.columns, played.rows), its: openScreen(cast.header.term.cols, cast.header.term.rows) },
    {
      mine: await openTmuxScreen(played.columns, played.rows),
      its: await openTmuxScreen(cast.header.term.cols, cast.header.term.rows),
    },
  ] as const;
  let done = 0;
  let compared = 0;
  let skewMs = 0;
  const compare = async (until: number, what: string): Promise<void> => {
    const end = replayed.findIndex((act, index) => index >= done && act.at > until);
    const due = replayed.slice(done, end < 0 ? undefined : end);
    done = end < 0 ? replayed.length : end;
    for (const { mine, its } of screens) {
      await draw(its, due);
      const shown = its.look();
      assert.deepEqual(shown, isMasked ? starred(mine.look(), shown) : mine.look(), what);
      compared += 1;
    }
  };
  try {
    let bytes = 0;
    let sizes = 0;
    let readMs = 0;
    let drawn: Act[] = [];
    const catchUp = async (): Promise<void> => {
      for (const { mine } of screens) await draw(mine, drawn);
      drawn = [];
    };
    for (const event of played.events) {
      if ('output' in event) {
        bytes += event.output.length;
        readMs = event.atMs;
        drawn.push({ at: 0, bytes: event.output });
      } else if ('resize' in event) {
        sizes += 1;
        drawn.push({ at: 0, resize: event.resize });
      } else if ('step' in event) {
        const at = passed(bytes, sizes);
        // The program was not quiet, but this machine slow: no moment of the records is this one.
        if (at === undefined) continue;
        await catchUp();
        skewMs = Math.max(skewMs, Math.abs(readMs - at.outputMs));
        await compare(at.ms, `before step ${event.step}`);
      }
    }
    await catchUp();
    if (played.isLeftOpen) {
      await draw(screens[0].its, replayed.slice(done));
      assert.equal(screens[0].its.look().screen, 'normal');
    } else await compare(Number.POSITIVE_INFINITY, 'at the end');
    assert.deepEqual(screens[0].its.answers, []);
    assert.deepEqual(screens[1].its.acts(), { answers: '', title: '', clipboard: '' });
  } finally {
    for (const { mine, its } of screens) for (const screen of [mine, its]) screen.close();
  }
  return { screens: compared, skewMs };
}

/** The detectors take some numbers for cards: what records star out is starred out of what the user saw, too. */
function starred<Look extends { lines: string[] }>(seen: Look, shown: Look): Look {
  const lines = seen.lines.map((line, row) =>
    line.replace(/./gsu, (character, at: number) => (shown.lines[row]?.[at] === '*' ? '*' : character)),
  );
  return { ...seen, lines };
}

async function draw(
  screen: { write(data: string | Uint8Array): Promise<void>; resize(columns: number, rows: number): void },
  acts: readonly Act[],
): Promise<void> {
  let waiting: Uint8Array[] = [];
  const written = async (): Promise<void> => {
    if (waiting.length > 0) await screen.write(Buffer.concat(waiting));
    waiting = [];
  };
  for (const act of acts) {
    if ('bytes' in act) waiting.push(Buffer.from(act.bytes as string));
    else {
      await written();
      screen.resize(...act.resize);
    }
  }
  await written();
}

function replayedActs({ events }: Cast, records: readonly RecordEnvelope[]): Act[] {
  // The first interval begins where the command was recorded, to the millisecond.
  let at = Date.parse(records.find(({ kind }) => kind === 'command')!.ts);
  const acts: Act[] = [];
  for (const [interval, code, data] of events) {
    at += Math.round(interval * 1000);
    if (code === 'o') acts.push({ at, bytes: data });
    else if (code === 'r') acts.push({ at, resize: data.split('x').map(Number) as [number, number] });
  }
  return acts;
}

/** When so many bytes and sizes had passed and not more, by the records. */
function passedIn(
  records: readonly RecordEnvelope[],
): (bytes: number, sizes: number) => { ms: number; outputMs: number } | undefined {
  const moments = new Map<string, { ms: number; outputMs: number }>();
  let bytes = 0;
  let sizes = 0;
  let outputMs = 0;
  for (const { kind, ts, body } of records) {
    const ms = Date.parse(ts);
    if (kind === 'output') {
      bytes += (body as OutputBody).bytes;
      if ((body as OutputBody).bytes > 0) outputMs = ms;
    } else if (kind === 'resize') sizes += 1;
    else continue;
    const key = `${bytes} ${sizes}`;
    // Text that was withheld is stored later, but shown when its bytes passed.
    if (!moments.has(key)) moments.set(key, { ms, outputMs });
  }
  return (passedBytes, passedSizes) => moments.get(`${passedBytes} ${passedSizes}`);
}
