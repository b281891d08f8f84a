// The old scp protocol between a client and `scp -t` or `scp -f` at the target, each file judged before its first byte.
//
// Guarantees: the sides take turns as the protocol has it, so an answer of ours is never taken for another's; a refused
// file or directory is skipped and the rest goes on; names stay in the directory that they are for.
//
// Links, which scp follows without a word, are resolved at the target before each file that is written. Does not guarantee
// where they lead a moment later, if others than this connection change names; of files that are read scp has opened the
// one it names by then. Whether `scp -t PATH` writes PATH or a name below it only the target knows: both must be permitted,
// unless `-d` says it. Where the target has no sftp, nobody tells: paths count as they are spelled.
import type { Clock } from '../../../../system/clock.ts';
import type { ChannelFilter, FilterHost } from '../../channels/filter.ts';
import type { FileAccess } from '../../facts.ts';
import { MalformedData } from '../../wire/data.ts';
import { type ByteQueue, createByteQueue } from '../byte-queue.ts';
import { fileCommand } from '../command.ts';
import { createMeter, type Meter, type Tally } from '../digest.ts';
import { type AskTarget, accessTo, type Led, LookupError, ledBy, type PathTeller } from '../lookup.ts';
import type { NameLock } from '../name-lock.ts';
import { join, lexicalForm, splitName } from '../paths.ts';
import { type Answer, readAnswer, readLine, trouble } from './answers.ts';
import { permitEntry, type ScpEntry } from './permit.ts';
import { problemOfName, readRecord } from './records.ts';

export interface ScpOptions {
  /** Of the target's program: Write is `scp -t`, Read is `scp -f`. */
  mode: 'Read' | 'Write';
  /** Its arguments as bytes in latin1; one where it writes. */
  paths: readonly string[];
  recursive: boolean;
  /** `-d`: what it writes to is a directory. */
  directory?: boolean;
  clock: Clock;
  /** One for all file channels of a connection. */
  names: NameLock;
  askTarget: AskTarget;
}

type Phase =
  /** For the first answer of the receiving side. */
  | { kind: 'Start' }
  | { kind: 'Ready' }
  | { kind: 'Judging' }
  /** The receiving side is to answer a line. */
  | { kind: 'Answer'; done: (accepted: boolean) => void | Promise<void> }
  | { kind: 'Data'; left: number; file: Transfer }
  /** After the data the sender says whether it is whole. */
  | { kind: 'Closing'; file: Transfer }
  | { kind: 'Over' };

interface Transfer {
  id: number;
  size: number;
  meter: Meter;
}

export function createScpFilter(host: FilterHost, options: ScpOptions): ChannelFilter {
  const writes = options.mode === 'Write';
  const action = options.mode;
  const sender = createByteQueue();
  const receiver = createByteQueue();
  const toReceiver = writes ? host.toTarget : host.toClient;
  const toSender = writes ? host.toClient : host.toTarget;
  const senderSide = writes ? 'Client' : 'Target';
  const receiverSide = writes ? 'Target' : 'Client';
  const spelled = options.paths;
  let teller: PathTeller | undefined;
  /** While a name that is written must not come to mean something else. */
  let release = (): void => undefined;
  /** Each directory that is entered, as every path that it may be. */
  const directories: (readonly string[])[] = [];
  /** Paths of `scp -f` that were permitted before it began, with their commands. */
  const granted: { path: string; name: string; id: number | undefined }[] = [];
  let phase: Phase = { kind: 'Start' };
  let current: Transfer | undefined;
  let troubled = false;
  /** A command that was let through, and whose line the receiving side has not answered. */
  let asked: number | undefined;
  let eof: 'Open' | 'Seen' | 'Passed' = 'Open';

  const over = (): void => {
    phase = { kind: 'Over' };
    sender.clear();
    receiver.clear();
    if (current)
      report(current, current.meter.stop(), { code: 'Ended', message: 'the channel ended before the end of the file' });
    current = undefined;
    if (asked !== undefined) granted.push({ path: '', name: '', id: asked });
    asked = undefined;
    release();
    teller?.done();
    teller = undefined;
    for (const { id } of granted)
      if (id !== undefined) host.result(id, { error: { code: 'Ended', message: 'it was not sent' } });
    granted.length = 0;
  };
  const fail = (side: 'Client' | 'Target', text: string): void => {
    over();
    host.fail(side, `scp: ${text}`);
  };
  const report = (file: Transfer, tally: Tally | undefined, error?: { code: string; message: string }): void => {
    const key = writes ? 'written' : 'read';
    host.result(file.id, {
      bytes: file.meter.bytes,
      facts: { ssh: { [key]: tally ?? { bytes: 0 }, closed: error?.code === 'Ended' ? 'Channel' : 'Client' } },
      ...(error ? { error } : {}),
    });
  };
  const conclude = async (file: Transfer, error?: { code: string; message: string }): Promise<void> => {
    const tally = await file.meter.end();
    if (current !== file) return;
    current = undefined;
    report(file, tally, error);
  };
  /** Undefined: not here yet, or it is over. */
  const takeAnswer = (queue: ByteQueue, side: 'Client' | 'Target'): Answer | undefined =>
    orFail(side, () => readAnswer(queue));
  const takeLine = (queue: ByteQueue, side: 'Client' | 'Target'): Buffer | undefined =>
    orFail(side, () => readLine(queue));
  const orFail = <T>(side: 'Client' | 'Target', read: () => T): T | undefined => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof MalformedData)) throw error;
      fail(side, error.message);
      return undefined;
    }
  };
  const judge = async (
    operation: string,
    access: readonly FileAccess[],
  ): Promise<{ id: number } | { lines: readonly string[] } | undefined> => {
    const verdict = await host.judge(fileCommand(host.user, 'scp', operation, access));
    if (phase.kind === 'Over' || verdict.kind === 'Gone') return undefined;
    if (verdict.kind === 'Run') return { id: verdict.id };
    for (const line of verdict.lines) host.tell(line);
    return { lines: verdict.lines };
  };
  /** The first zero of the receiving side starts `scp -f`: until the paths are permitted it is kept here. */
  async function begin(answer: Buffer): Promise<void> {
    const asked = await options.askTarget();
    if (phase.kind === 'Over') return asked?.done();
    teller = asked;
    if (!writes) {
      for (const path of spelled) {
        const verdict = await judge(options.recursive ? 'READ TREE' : 'READ', accessOf([await ledBy(teller, path)]));
        if (!verdict) return;
        if ('lines' in verdict) return refuseAll(verdict.lines);
        const last = splitName(lexicalForm('/', path))?.name ?? '.';
        // The directory itself is no file: what is in it is judged one by one.
        if (options.recursive) host.result(verdict.id, {});
        granted.push({ path, name: last, id: options.recursive ? undefined : verdict.id });
      }
    }
    toSender(answer);
    phase = { kind: 'Ready' };
    run();
  }
  const refuseAll = (lines: readonly string[]): void => {
    host.toClient(trouble(lines));
    over();
    host.finish(1);
  };
  const accessOf = (places: readonly Led[], special = false): FileAccess[] =>
    places.flatMap((led) => [accessTo(led, action), ...(special ? [accessTo(led, 'Grant')] : [])]);

  /** Every path that a name may be. */
  function candidates(name: string): readonly string[] {
    const within = directories.at(-1);
    if (within) return within.map((directory) => join(directory, name));
    const [path] = spelled;
    if (!writes) return [granted.find((one) => one.name === name)?.path ?? ''];
    return options.directory ? [join(path!, name)] : [path!, join(path!, name)];
  }

  /** undefined: it is skipped, and both sides know. */
  async function permit(record: ScpEntry, paths: readonly string[]): Promise<number | undefined> {
    const permitted = await permitEntry(record, {
      clock: options.clock,
      names: options.names,
      writes,
      resolve: () => Promise.all(paths.map((path) => ledBy(teller, path))),
      async judge(operation, places, special) {
        const verdict = await judge(operation, accessOf(places, special));
        if (verdict && 'id' in verdict) asked = verdict.id;
        return verdict;
      },
      unused(error) {
        if (asked !== undefined) host.result(asked, { error });
        asked = undefined;
      },
    });
    if (permitted.kind === 'Permitted') {
      release = () => {
        release = () => undefined;
        permitted.release();
      };
      return permitted.id;
    }
    if (permitted.kind === 'Gone') return undefined;
    // The sender skips it as it would skip what the receiver can not take, and the client is told in either role.
    toSender(trouble(permitted.lines));
    if (!writes) toReceiver(trouble(permitted.lines));
    return undefined;
  }

  async function onEntry(record: ScpEntry, line: Buffer): Promise<void> {
    const { name } = record;
    const top = directories.length === 0;
    if (record.kind === 'Directory' && !options.recursive) return fail(senderSide, 'a directory, without -r');
    // `scp -r DIR/.` names its top directory `.`: its own, not another's.
    const problem = top && record.kind === 'Directory' && name === '.' && spelled[0] ? undefined : problemOfName(name);
    if (problem !== undefined) return fail(senderSide, problem);
    const paths = top && name === '.' ? [spelled[0]!] : candidates(name);
    if (paths.includes('')) return fail(senderSide, 'a file that nobody asked for');
    const before = top && !writes ? granted.find((one) => one.name === name && one.id !== undefined) : undefined;
    let id = before?.id;
    if (id === undefined) {
      phase = { kind: 'Judging' };
      id = await permit(record, paths);
      if (phase.kind === ('Over' as Phase['kind'])) return release();
      if (id === undefined) {
        phase = { kind: 'Ready' };
        return run();
      }
    }
    if (before) before.id = undefined;
    const command = id;
    toReceiver(line);
    asked = command;
    phase = {
      kind: 'Answer',
      done(accepted) {
        asked = undefined;
        release();
        if (record.kind === 'Directory') {
          host.result(command, accepted ? {} : { error: { code: 'Refused', message: 'the receiving side' } });
          if (accepted) directories.push(paths);
          phase = { kind: 'Ready' };
          return;
        }
        const file: Transfer = { id: command, size: record.size, meter: createMeter() };
        if (!accepted) {
          report(file, undefined, { code: 'Refused', message: 'the receiving side did not take it' });
          phase = { kind: 'Ready' };
          return;
        }
        current = file;
        file.meter.seek(0);
        phase = record.size === 0 ? { kind: 'Closing', file } : { kind: 'Data', left: record.size, file };
      },
    };
    run();
  }

  /** One step. False: somebody else is to go on. */
  function step(): boolean {
    switch (phase.kind) {
      case 'Start': {
        const answer = takeAnswer(receiver, receiverSide);
        if (!answer) return false;
        if (!answer.accepted) {
          toSender(answer.bytes);
          return true;
        }
        phase = { kind: 'Judging' };
        begin(answer.bytes).catch(unexpected);
        return false;
      }
      case 'Ready': {
        if (strayTrouble()) return true;
        if (sender.length === 0) return false;
        const line = takeLine(sender, senderSide);
        if (!line) return false;
        const record = readRecord(line.toString('latin1', 0, line.length - 1));
        if (!record) {
          fail(senderSide, 'a line that is none');
          return false;
        }
        if (record.kind === 'File' || record.kind === 'Directory') {
          onEntry(record, line).catch(unexpected);
          return phase.kind !== ('Judging' as Phase['kind']);
        }
        if (record.kind === 'End' && directories.length === 0) {
          fail(senderSide, 'the end of a directory that was not begun');
          return false;
        }
        toReceiver(line);
        if (record.kind === 'Trouble') return true;
        const ends = record.kind === 'End';
        phase = {
          kind: 'Answer',
          done() {
            if (ends) directories.pop();
            phase = { kind: 'Ready' };
          },
        };
        return true;
      }
      case 'Answer': {
        const answer = takeAnswer(receiver, receiverSide);
        if (!answer) return false;
        const { bytes } = answer;
        const waits = phase.done(answer.accepted);
        if (waits === undefined) {
          toSender(bytes);
          return true;
        }
        // Its record is complete before the answer passes: then the client may leave.
        phase = { kind: 'Judging' };
        waits
          .then(() => {
            if (phase.kind === 'Over') return;
            toSender(bytes);
            phase = { kind: 'Ready' };
            run();
          })
          .catch(unexpected);
        return false;
      }
      case 'Data': {
        if (strayTrouble()) return true;
        if (sender.length === 0) return false;
        const piece = sender.some(phase.left);
        phase.left -= piece.length;
        phase.file.meter.take(piece);
        toReceiver(piece);
        if (phase.left === 0) phase = { kind: 'Closing', file: phase.file };
        return true;
      }
      case 'Closing': {
        if (strayTrouble()) return true;
        const said = takeAnswer(sender, senderSide);
        if (!said) return false;
        const { file } = phase;
        toReceiver(said.bytes);
        const end = (accepted: boolean): Promise<void> => {
          const error = { code: 'Failed', message: said.accepted ? 'the receiving side' : 'the sending side' };
          return conclude(file, accepted && said.accepted ? undefined : error);
        };
        // A receiver that told of a trouble amid the data does not tell again.
        if (troubled) {
          troubled = false;
          phase = { kind: 'Judging' };
          end(false)
            .then(() => {
              if (phase.kind === 'Over') return;
              phase = { kind: 'Ready' };
              run();
            })
            .catch(unexpected);
          return false;
        } else phase = { kind: 'Answer', done: end };
        return true;
      }
      default:
        return false;
    }
  }

  /** The receiver may tell of a trouble (a full disk) before it is asked. */
  function strayTrouble(): boolean {
    if (receiver.length === 0) return false;
    const answer = takeAnswer(receiver, receiverSide);
    if (!answer) return false;
    if (answer.accepted) {
      fail(receiverSide, 'an answer to nothing');
      return false;
    }
    toSender(answer.bytes);
    if (phase.kind !== 'Ready') troubled = true;
    return true;
  }

  function run(): void {
    while (step());
    if (phase.kind === 'Over' || phase.kind === 'Judging' || eof !== 'Seen') return;
    eof = 'Passed';
    host.eofToTarget();
  }

  const unexpected = (error: unknown): void => {
    if (phase.kind === 'Over') return;
    if (error instanceof LookupError) return refuseAll([`Sallyport: ${error.message}`]);
    fail('Client', `the transfer can not go on (${error instanceof Error ? error.name : 'unknown'})`);
  };
  const feed = (queue: ByteQueue, data: Buffer): void => {
    if (phase.kind === 'Over') return;
    queue.push(data);
    run();
  };
  const [clientQueue, targetQueue] = writes ? [sender, receiver] : [receiver, sender];

  return {
    fromClient: (data) => feed(clientQueue, data),
    fromTarget: (data) => feed(targetQueue, data),
    clientEof() {
      if (eof !== 'Open') return;
      eof = 'Seen';
      run();
    },
    targetEof() {},
    heldBytes: {
      get client() {
        return clientQueue.length;
      },
      get target() {
        return targetQueue.length;
      },
    },
    closed: over,
  };
}
