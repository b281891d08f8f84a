// SFTP version 3 between a client and a target, judged one operation at a time.
//
// Guarantees: nothing reaches the target that was not permitted but READ, WRITE, READDIR, CLOSE, FSTAT, fsync and
// fstatvfs on handles that a permitted OPEN or OPENDIR gave to this client; requests go out in the client's order and
// answers come back in it; a request that waits (for a hold, for the target) makes the later ones wait; memory is
// bounded by REQUESTS, LONGEST_PACKET and what the relay grants. The data of READ and WRITE passes as it came.
//
// Does not guarantee anything against whoever else changes names at the target: see judged.ts.
import type { Clock } from '../../../../system/clock.ts';
import type { ChannelFilter, FilterHost } from '../../channels/filter.ts';
import { MalformedData } from '../../wire/data.ts';
import { createByteQueue } from '../byte-queue.ts';
import type { Meter } from '../digest.ts';
import type { NameLock } from '../name-lock.ts';
import { createOutlet } from '../outlet.ts';
import { type Answers, createAnswers, type Slot } from './answers.ts';
import type { Handle } from './handles.ts';
import { createJudged, type JudgedRequest } from './judged.ts';
import { createOnHandles, refuse } from './on-handles.ts';
import { LONGEST_HANDLE, LONGEST_PACKET, packet, STATUS, TYPE, VERSION } from './packets.ts';
import { createResolver } from './paths.ts';
import type { PlanContext } from './plan.ts';
import { EXTENSIONS, readRequest, type SftpRequest } from './requests.ts';
import { createUpstream, Ended } from './upstream.ts';

export interface SftpOptions {
  clock: Clock;
  /** One for all file channels of a connection. */
  names: NameLock;
  /** The target's identification, `SSH-2.0-OpenSSH_9.2p1`: says in which order it takes SYMLINK's arguments. */
  targetVersion?: string;
}

/** Requests of a client that are not answered yet; more wait unread. */
const REQUESTS = 256;
/** Requests that wait to be sent, read ahead so that they can be judged side by side. */
const AHEAD = 64;
const AHEAD_BYTES = 512 * 1024;
const JUDGED_AT_ONCE = 16;
const HANDLES = 1024;
/** Answers that came before their turn. */
const LONGEST_BACKLOG = 16 * 1024 * 1024;

interface Task {
  slot: Slot;
  request: SftpRequest;
  packet: Buffer;
  state: 'Waiting' | 'Judged' | 'Passed';
  /** Resolves its Turn.mine. */
  start: () => void;
  mine: Promise<void>;
}

const JUDGED: ReadonlySet<SftpRequest['kind']> = new Set([
  'Open',
  'OpenDirectory',
  'Look',
  'RealPath',
  'ExpandPath',
  'HomeDirectory',
  'Names',
  'SetStat',
  'HandleSetStat',
  'Remove',
  'MakeDirectory',
  'RemoveDirectory',
  'Rename',
  'HardLink',
  'SymbolicLink',
  'CopyData',
] satisfies JudgedRequest['kind'][]);

const isJudged = (request: SftpRequest): request is JudgedRequest => JUDGED.has(request.kind);

export function createSftpFilter(host: FilterHost, options: SftpOptions): ChannelFilter {
  const target = createOutlet(host.toTarget);
  let failed = false;
  const client = createOutlet((data) => {
    if (!failed) host.toClient(data);
  });
  const answers: Answers = createAnswers(client);
  const handles = new Map<string, Handle>();
  const input = createByteQueue();
  let over = false;
  const end = (): void => {
    over = true;
    input.clear();
    upstream.end();
  };
  const fail = (side: 'Client' | 'Target', text: string): void => {
    if (over) return;
    failed = true;
    end();
    host.fail(side, text);
  };
  const upstream = createUpstream(target, (text) => fail('Target', text));
  const offered = new Set<string>();
  const onHandles = createOnHandles({ host, upstream, answers, handles, offered, fail, settle });

  let greeted = false;
  let welcomed = false;
  let eof: 'Open' | 'Seen' | 'Passed' = 'Open';
  /** Bytes of a WRITE that go on to the target, or to nobody. */
  let body: { left: number; meter: Meter | undefined } | undefined;
  /** Whether what is in `input` waits for us, and not for more of it. */
  let blocked = false;

  const tasks: Task[] = [];
  let taskBytes = 0;
  let judging = 0;

  const ready = upstream.version.then(async (extensions): Promise<PlanContext> => {
    const kept = extensions.filter(({ name }) => EXTENSIONS.has(name));
    for (const { name } of kept) offered.add(name);
    client.push(
      packet(
        TYPE.VERSION,
        { uint32: VERSION },
        ...kept.flatMap(({ name, data }) => [{ string: name }, { string: data }]),
      ),
    );
    welcomed = true;
    const asked = createResolver(upstream).real('.');
    settle();
    const at = await asked;
    if (at.kind === 'Path')
      return { directory: at.path, symlinkOrderKnown: options.targetVersion?.startsWith('SSH-2.0-OpenSSH_') ?? false };
    fail('Target', `The target does not tell where paths begin: ${at.message}`);
    throw new Ended('the session ended');
  });
  ready.catch(() => {});
  const judge = createJudged({ host, upstream, clock: options.clock, names: options.names, handles, ready });

  /** Lets go on what can, until everything waits for somebody else. */
  function settle(): void {
    if (over) return;
    do {
      pump();
      blocked = false;
      parse();
    } while (!over && blocked && tasks[0] !== undefined && tasks[0].state === 'Passed');
    target.flush();
    client.flush();
    if (over || eof !== 'Seen' || blocked || tasks.length > 0 || answers.open > 0) return;
    eof = 'Passed';
    host.eofToTarget();
  }

  function pump(): void {
    for (;;) {
      const task = tasks[0];
      if (!task) break;
      if (task.state === 'Passed' || !isJudged(task.request)) {
        tasks.shift();
        taskBytes -= task.packet.length;
        if (task.state !== 'Passed') onHandles.request(task.slot, task.request, task.packet);
        continue;
      }
      task.start();
      break;
    }
    for (const task of tasks) {
      if (judging >= JUDGED_AT_ONCE) return;
      if (task.state === 'Waiting' && isJudged(task.request)) begin(task, task.request);
    }
  }

  function begin(task: Task, request: JudgedRequest): void {
    task.state = 'Judged';
    judging += 1;
    const pass = (): void => {
      if (task.state === 'Passed') return;
      task.state = 'Passed';
      judging -= 1;
    };
    const turn = {
      id: task.slot.id,
      mine: task.mine,
      pass() {
        pass();
        settle();
      },
      answer: (whole: Buffer) => answers.whole(task.slot, whole),
      command: undefined,
    };
    judge(request, turn)
      .catch((error: unknown) => {
        if (!(error instanceof Ended)) throw error;
      })
      .then(() => {
        pass();
        settle();
      })
      .catch((error: unknown) => {
        fail('Target', `The file transfer can not go on: ${error instanceof Error ? error.name : 'unknown'}`);
      });
  }

  /** Reads as many requests as may be dealt with now. */
  function parse(): void {
    while (!over && input.length > 0) {
      if (body) {
        const piece = input.some(body.left);
        body.left -= piece.length;
        if (body.meter) {
          body.meter.take(piece);
          target.push(piece);
        }
        if (body.left === 0) body = undefined;
        continue;
      }
      if (input.length < 5) return;
      const head = input.peek(5);
      const length = head.readUInt32BE(0);
      const type = head[4]!;
      if (length < 5 || length > LONGEST_PACKET) return fail('Client', `SFTP: a packet of ${length} bytes`);
      if (!greeted) {
        if (input.length < 4 + length) return;
        const whole = input.take(4 + length);
        if (type !== TYPE.INIT) return fail('Client', 'SFTP: the first packet must be INIT');
        if (whole.readUInt32BE(5) < VERSION) return fail('Client', 'SFTP: only version 3 is spoken here');
        greeted = true;
        upstream.start();
        continue;
      }
      if (!welcomed || answers.open >= REQUESTS) {
        blocked = true;
        return;
      }
      if (type === TYPE.WRITE) {
        if (tasks.length > 0) {
          blocked = true;
          return;
        }
        if (!write(length)) return;
        continue;
      }
      if (input.length < 4 + length) return;
      if (tasks.length >= AHEAD || taskBytes + length > AHEAD_BYTES) {
        blocked = true;
        return;
      }
      accept(type, Buffer.from(input.take(4 + length)));
    }
  }

  /** False: more bytes are needed before anything can be said. */
  function write(length: number): boolean {
    if (input.length < 13) return false;
    const named = input.peek(13).readUInt32BE(9);
    if (named > LONGEST_HANDLE || length < 21 + named) {
      fail('Client', 'SFTP: a WRITE that is none');
      return false;
    }
    const ahead = 25 + named;
    if (input.length < ahead) return false;
    const header = input.take(ahead);
    const size = header.readUInt32BE(ahead - 4);
    if (size !== length - 21 - named) {
      fail('Client', 'SFTP: a WRITE whose data is not as long as it says');
      return false;
    }
    const slot = answers.ask(header.readUInt32BE(5));
    const handle = header.toString('latin1', 13, 13 + named);
    const offset = header.readUInt32BE(ahead - 12) * 0x1_0000_0000 + header.readUInt32BE(ahead - 8);
    const meter = onHandles.write(slot, header, { handle, offset, size });
    if (size > 0) body = { left: size, meter };
    return true;
  }

  function accept(type: number, whole: Buffer): void {
    const slot = answers.ask(whole.readUInt32BE(5));
    let request: SftpRequest;
    try {
      request = readRequest(type, whole.subarray(9));
    } catch (error) {
      if (!(error instanceof MalformedData)) throw error;
      return refuse(answers, slot, STATUS.BAD_MESSAGE, `Sallyport: ${error.message}`);
    }
    if ((request.kind === 'Open' || request.kind === 'OpenDirectory') && handles.size + judging >= HANDLES)
      return refuse(answers, slot, STATUS.FAILURE, `Sallyport: ${HANDLES} handles are open`);
    if (tasks.length === 0 && !isJudged(request)) return onHandles.request(slot, request, whole);
    let start = (): void => {};
    const mine = new Promise<void>((resolve) => {
      start = resolve;
    });
    tasks.push({ slot, request, packet: whole, state: 'Waiting', start, mine });
    taskBytes += whole.length;
    pump();
  }

  return {
    fromClient(data) {
      if (over || eof !== 'Open') return;
      input.push(data);
      settle();
    },
    fromTarget(data) {
      if (over) return;
      upstream.feed(data);
      if (answers.waitingBytes > LONGEST_BACKLOG) return fail('Target', 'The target answers in too wild an order');
      settle();
    },
    clientEof() {
      if (eof !== 'Open') return;
      eof = 'Seen';
      settle();
    },
    targetEof() {
      end();
    },
    heldBytes: {
      get client() {
        return (blocked ? input.length : 0) + taskBytes;
      },
      get target() {
        return answers.waitingBytes;
      },
    },
    needs: {
      get client() {
        return input.length > 0;
      },
      get target() {
        return upstream.heldBytes > 0 || answers.waitingBytes > 0;
      },
    },
    closed() {
      end();
      onHandles.ended();
    },
  };
}
