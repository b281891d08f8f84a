// `replay SESSION` tells a session to people: as text, played in their own terminal as its user saw it, as asciicast, or
// while it happens. Everything recorded is made harmless first.
import fs from 'node:fs';
import type { RecordEnvelope, StartBody } from '../../recording/envelope.ts';
import { readSession } from '../../recording/reader.ts';
import { createTeller } from '../../recording/replay.ts';
import { type Cast, createCast } from '../../recording/terminal/cast.ts';
import { createSanitiser } from '../../recording/terminal/sanitiser.ts';
import {
  createTimeline,
  type Moment,
  type Screen,
  screenOf,
  type Timeline,
} from '../../recording/terminal/timeline.ts';
import { harmlessLine } from '../../recording/text.ts';
import { CliError, EXIT, type ExitCode, type Io, paint, pause } from '../io.ts';
import { followSession } from './follow.ts';
import { eachRecord, noteReadOf, type RecordArgs, recordsOf } from './show.ts';
import { machine, openRecords, type RecordsDeps } from './source.ts';

export interface ReplayArgs extends RecordArgs {
  /** Plays a terminal; so does `speed`. */
  play?: boolean;
  /** How many times as fast; greater than 0. */
  speed?: number;
  /** Seconds; longer pauses are cut to it. Default 2. */
  maxPause?: number;
  asciicast?: boolean;
  /** File for the asciicast; default: standard output. */
  out?: string;
  /** Default: the only one with a terminal, or else the only one. */
  channel?: number;
  /** Goes on while the session lives. */
  follow?: boolean;
}

const MOST_PAUSE = 2;
/** What a shell ends with on Ctrl-C. */
const INTERRUPTED = 130;

/** With `-o json|yaml` as `records show`. Exit code 1 if there is no such session, or some of it could not be relied on. */
export async function replaySession(args: ReplayArgs, io: Io, deps: RecordsDeps): Promise<ExitCode> {
  const isPlayed = args.play === true || args.speed !== undefined;
  if (args.asciicast === true) return asciicast(args, io, deps);
  if (isPlayed && args.follow !== true) return play(args, io, deps);
  if (isPlayed) return watch(args, io, deps);
  const teller = createTeller();
  const show = (record: RecordEnvelope): void => {
    const text = machine(args.output, record) ?? teller.tell(record);
    if (text !== '') io.out(text);
  };
  const code =
    args.follow === true
      ? await followSession(args, io, deps, show)
      : await eachRecord('ReplayRecord', args, io, deps, show);
  io.out(args.output === 'json' || args.output === 'yaml' ? '' : teller.end());
  return code;
}

/** What can be played of a session, by its commands alone. */
function screensIn({ session }: ReplayArgs, deps: RecordsDeps): Screen[] {
  using view = openRecords(deps);
  const screens = new Map<number, Screen>();
  for (const item of readSession(view, session, { containing: '"kind":"command"' })) {
    const screen = item.kind === 'Record' ? screenOf(item.record) : undefined;
    if (screen !== undefined && !screens.has(screen.channel)) screens.set(screen.channel, screen);
  }
  return [...screens.values()];
}

/** Moments of the chosen channel, while the records are read: a session may be longer than memory. */
async function momentsOf(
  args: ReplayArgs,
  io: Io,
  deps: RecordsDeps,
): Promise<Generator<{ moment: Moment; start: StartBody | undefined }, ExitCode>> {
  await noteReadOf('ReplayRecord', args, deps);
  const screens = screensIn(args, deps);
  const records = recordsOf(args, io, deps);
  return (function* () {
    let start: StartBody | undefined;
    let timeline: Timeline | undefined;
    try {
      for (;;) {
        const next = records.next();
        if (next.done === true) {
          for (const moment of timeline?.end() ?? []) yield { moment, start };
          return next.value;
        }
        const record = next.value;
        // Only now: where there are no records at all, that is what was told.
        timeline ??= createTimeline(chosenOf(screens, args).channel);
        if (record.kind === 'start') start = record.body as StartBody;
        for (const moment of timeline.add(record)) yield { moment, start };
      }
    } finally {
      // The files that it holds open.
      records.return(EXIT.ok);
    }
  })();
}

function chosenOf(screens: readonly Screen[], { session, channel }: ReplayArgs): Screen {
  const name = harmlessLine(session);
  const found = channel === undefined ? screens : screens.filter((screen) => screen.channel === channel);
  const terminals = found.filter((screen) => screen.term !== undefined);
  const [only, ...others] = terminals.length > 0 ? terminals : found;
  if (only !== undefined && others.length === 0) return only;
  if (only === undefined) {
    throw new CliError(
      EXIT.failed,
      channel === undefined
        ? `Nothing of session ${name} can be played`
        : `Session ${name} ran nothing on channel ${channel}`,
      `What happened in it: replay ${name}`,
    );
  }
  const list = [only, ...others].map((one) => `${one.channel} (${one.command || 'shell'})`.slice(0, 80));
  throw new CliError(
    EXIT.misconfigured,
    `Session ${name} has several channels: ${list.slice(0, 20).join(', ')}${list.length > 20 ? ', …' : ''}`,
    'Choose one with --channel NUMBER.',
  );
}

async function asciicast(args: ReplayArgs, io: Io, deps: RecordsDeps): Promise<ExitCode> {
  const moments = await momentsOf(args, io, deps);
  // Nothing is made where nothing can be played.
  let next = moments.next();
  const out = args.out === undefined ? { write: io.out, close: () => undefined } : newFile(args.out);
  try {
    let cast: Cast | undefined;
    for (; next.done !== true; next = moments.next()) {
      cast ??= createCast(args.session, next.value.start);
      out.write(cast.add(next.value.moment));
      await io.ready();
      if (io.signal.aborted) return INTERRUPTED;
    }
    out.write(cast?.end() ?? '');
    return next.value;
  } finally {
    // What it holds open.
    moments.return(EXIT.ok);
    out.close();
  }
}

function newFile(path: string): { write(text: string): void; close(): void } {
  let fd: number;
  try {
    fd = fs.openSync(path, 'wx', 0o600);
  } catch (error) {
    throw new CliError(
      EXIT.failed,
      `${path} can not be written: ${(error as Error).message}`,
      'Name a file that is not there yet.',
      { cause: error },
    );
  }
  return { write: (text) => void fs.writeSync(fd, text), close: () => fs.closeSync(fd) };
}

/** In the pace in which it happened; Ctrl-C ends it. */
async function play(args: ReplayArgs, io: Io, deps: RecordsDeps): Promise<ExitCode> {
  const speed = args.speed ?? 1;
  const moments = await momentsOf(args, io, deps);
  const player = createPlayer(io);
  let beforeMs: number | undefined;
  try {
    for (;;) {
      const next = moments.next();
      if (next.done === true) return next.value;
      const { moment } = next.value;
      const waitMs = Math.min(moment.atMs - (beforeMs ?? moment.atMs), (args.maxPause ?? MOST_PAUSE) * 1000) / speed;
      if (waitMs >= 1) await pause(waitMs, io.signal);
      if (io.signal.aborted) return INTERRUPTED;
      beforeMs = moment.atMs;
      player.show(moment);
      await io.ready();
    }
  } catch (error) {
    if (io.signal.aborted) return INTERRUPTED;
    throw error;
  } finally {
    // What it holds open.
    moments.return(EXIT.ok);
    player.end();
  }
}

/** A terminal while it lives, as soon as its text is decided and stored. */
async function watch(args: ReplayArgs, io: Io, deps: RecordsDeps): Promise<ExitCode> {
  const player = createPlayer(io);
  let chosen = args.channel;
  let timeline = chosen === undefined ? undefined : createTimeline(chosen);
  try {
    return await followSession(args, io, deps, (record) => {
      const screen = chosen === undefined ? screenOf(record) : undefined;
      if (screen?.term !== undefined) {
        chosen = screen.channel;
        timeline = createTimeline(chosen);
      }
      for (const moment of timeline?.add(record) ?? []) player.show(moment);
    });
  } finally {
    for (const moment of timeline?.end() ?? []) player.show(moment);
    player.end();
  }
}

function createPlayer(io: Io): { show(moment: Moment): void; end(): void } {
  const sanitiser = createSanitiser();
  let size = '';
  let last: Moment | undefined;
  return {
    show(moment) {
      last = moment;
      switch (moment.kind) {
        case 'Begin':
        case 'Resize': {
          const told = `${moment.columns} columns and ${moment.rows} rows`;
          if (told !== size && moment.kind === 'Begin') io.err(`Its terminal had ${told}.\n`);
          size = told;
          return;
        }
        case 'Output':
          io.out(sanitiser.push(moment.text));
          return;
        case 'Marker':
          // Into the picture it would draw over what was seen.
          if (!io.errTty) io.err(`${moment.label}\n`);
          return;
        case 'Exit':
          io.out(sanitiser.end());
          io.err(`\n${paint(io, 'dim', `exit status ${moment.status}`)}\n`);
      }
    },
    end() {
      io.out(sanitiser.end());
      // Where it was cut, this is all there is of why.
      if (io.errTty && last?.kind === 'Marker') io.err(`\n${paint(io, 'dim', last.label)}\n`);
    },
  };
}
