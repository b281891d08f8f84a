// One request that names paths, from its resolution to its result:
//
//   resolve (REALPATH at the target) -> judge (policy, record, hold) -> wait for its turn -> take the name lock
//   -> resolve again if names may have changed since -> send, by the resolved path -> answer -> release -> result
//
// What is sent is what was judged: the resolved path, never the client's spelling. Between the last REALPATH and the
// target's own system call this connection changes no names; whoever else can change names there (a shell of the same
// user, another connection, the target's programs) still can, as version 3 has nothing like openat(2).
import type { Clock } from '../../../../system/clock.ts';
import type { FilterHost, Verdict } from '../../channels/filter.ts';
import type { FileAccess } from '../../facts.ts';
import { fileCommand } from '../command.ts';
import type { NameLock } from '../name-lock.ts';
import { permitWithNamesHeld } from '../names-held.ts';
import { absolute, lexicalForm, problemOfPath } from '../paths.ts';
import type { Handle } from './handles.ts';
import { createHandle } from './handles.ts';
import { bytesOf, namePacket, packet, STATUS, statusPacket, TYPE } from './packets.ts';
import { createResolver, type Resolved, sameResolution } from './paths.ts';
import { accessOf, attributeActions, type PathRequest, type PlanContext, planOf } from './plan.ts';
import type { Reply } from './replies.ts';
import type { SftpRequest } from './requests.ts';
import { type Answer, Ended, type Upstream } from './upstream.ts';

export type JudgedRequest =
  | PathRequest
  | Extract<SftpRequest, { kind: 'ExpandPath' | 'HomeDirectory' | 'Names' | 'HandleSetStat' | 'CopyData' }>;

/** How one request is ordered among the client's others. */
export interface Turn {
  /** The client's id. */
  id: number;
  /** Resolves when all earlier requests were sent. */
  mine: Promise<void>;
  /** It was sent, or never will be: later ones may. */
  pass(): void;
  answer(packet: Buffer): void;
  /** Permitted, and its result is not written yet. */
  command: number | undefined;
}

export interface JudgedContext {
  host: FilterHost;
  upstream: Upstream;
  clock: Clock;
  names: NameLock;
  handles: Map<string, Handle>;
  /** REALPATH of `.`, and which order SYMLINK's arguments have; rejects with Ended. */
  ready: Promise<PlanContext>;
}

export function createJudged(context: JudgedContext): (request: JudgedRequest, turn: Turn) => Promise<void> {
  const { host, upstream, clock, names, handles } = context;
  const resolver = createResolver(upstream);

  const status = (turn: Turn, code: number, message: string): void => {
    turn.answer(statusPacket(turn.id, code, message));
  };
  const judge = (operation: string, access: readonly FileAccess[]): Promise<Verdict> =>
    host.judge(fileCommand(host.user, 'sftp', operation, access));
  /** Undefined: it may not run, and the client was told. */
  const permitted = (turn: Turn, verdict: Verdict): number | undefined => {
    if (verdict.kind === 'Gone') throw new Ended('the session ended');
    if (verdict.kind === 'Run') {
      turn.command = verdict.id;
      return verdict.id;
    }
    for (const line of verdict.lines) host.tell(line);
    status(turn, STATUS.PERMISSION_DENIED, verdict.lines.join(' ') || 'Permission denied');
    return undefined;
  };
  const forward = (turn: Turn, answer: Answer): void => {
    answer.packet.writeUInt32BE(turn.id, 5);
    turn.answer(answer.packet);
  };
  const finish = (turn: Turn, body: Parameters<FilterHost['result']>[1]): void => {
    const id = turn.command;
    turn.command = undefined;
    if (id !== undefined) host.result(id, body);
  };
  const conclude = (turn: Turn, reply: Reply): void => {
    const failed = reply.kind === 'Status' && reply.code !== STATUS.OK;
    finish(turn, failed ? { error: errorOf(reply.code, reply.message) } : {});
  };

  async function onPaths(request: PathRequest, turn: Turn): Promise<void> {
    const at = await context.ready;
    // Where it is no client can do without, and whoever may open the channel may know it.
    if (request.kind === 'RealPath' && ['', '.', at.directory].includes(request.path))
      return turn.answer(namePacket(turn.id, at.directory));
    const plan = planOf(request, at);
    if ('problem' in plan)
      return status(turn, plan.unsupported ? STATUS.OP_UNSUPPORTED : STATUS.FAILURE, `Sallyport: ${plan.problem}`);
    let access: FileAccess[] = [];
    const held = await permitWithNamesHeld<Resolved[]>({
      clock,
      names,
      changesNames: plan.changesNames,
      resolve: () => Promise.all(plan.places.map((place) => resolver.resolve(place))),
      same: sameResolution,
      async judge(resolved) {
        access = accessOf(plan.places, resolved.map(pathOf));
        return permitted(turn, await judge(plan.operation, access));
      },
      turn: () => turn.mine,
      unused: (error) => finish(turn, { error }),
    });
    if (held.kind === 'Refused') return;
    if (held.kind === 'Failed') return status(turn, STATUS.FAILURE, `Sallyport: ${held.message}`);
    const { id, resolved, release } = held;
    try {
      // What leads nowhere is judged like everything, so that nobody learns by it what is there; then it ends here.
      const nowhere = resolved.find((at, index) => at.kind === 'Status' && !plan.places[index]!.mayDangle);
      if (nowhere?.kind === 'Status') {
        status(turn, nowhere.code, nowhere.message);
        finish(turn, { error: errorOf(nowhere.code, nowhere.message) });
        return;
      }
      const paths = resolved.map(pathOf);
      if (!plan.build) {
        turn.answer(namePacket(turn.id, paths[0]!));
        finish(turn, {});
        return;
      }
      const { type, fields } = plan.build(paths.map((path) => path ?? ''));
      const sent = upstream.ask(type, fields, ANSWERS[request.kind]);
      turn.pass();
      const answer = await sent;
      if (answer.reply.kind === 'Handle') {
        if (handles.has(answer.reply.handle)) {
          host.fail('Target', 'The target broke the file transfer protocol: a handle that is in use already');
          throw new Ended('the session ended');
        }
        const does = access.map(({ action }) => action);
        handles.set(
          answer.reply.handle,
          createHandle({
            kind: request.kind === 'Open' ? 'File' : 'Directory',
            reads: does.includes('Read'),
            writes: does.includes('Write'),
            at: { path: access[0]!.path, ...(paths[0] === undefined ? {} : { resolved: paths[0] }) },
            command: id,
          }),
        );
        turn.command = undefined;
      } else conclude(turn, answer.reply);
      forward(turn, answer);
    } finally {
      release();
    }
  }

  /** `~` and `~user`: only the target knows what it is, so it is asked before it is judged. */
  async function onHome(operation: string, field: string, shown: string, turn: Turn): Promise<void> {
    const { directory } = await context.ready;
    const extension = operation === 'expand-path' ? 'expand-path@openssh.com' : operation;
    const { reply } = await upstream.ask(
      TYPE.EXTENDED,
      [{ string: extension }, { string: bytesOf(field) }],
      [TYPE.NAME],
    );
    if (reply.kind === 'Status') {
      const { code, message } = reply;
      return tell(operation, lexicalForm(directory, shown), { kind: 'Status', code, message }, turn);
    }
    const name = reply.kind === 'Names' && reply.names.length === 1 ? reply.names[0]! : '';
    if (name === '' || problemOfPath(name)) return status(turn, STATUS.FAILURE, 'the target told no path');
    const path = lexicalForm(directory, name);
    if (path === directory) return turn.answer(namePacket(turn.id, directory));
    await tell(operation, path, { kind: 'Path', path: absolute(directory, name) }, turn);
  }

  async function tell(operation: string, path: string, at: Resolved, turn: Turn): Promise<void> {
    const resolved = at.kind === 'Path' ? { resolved: at.path } : {};
    const id = permitted(turn, await judge(operation, [{ action: 'Read', path, subtree: false, ...resolved }]));
    if (id === undefined) return;
    if (at.kind === 'Path') turn.answer(namePacket(turn.id, at.path));
    else status(turn, at.code, at.message);
    finish(turn, at.kind === 'Path' ? {} : { error: errorOf(at.code, at.message) });
  }

  /** Names of users and groups are what these two files hold. */
  async function onNames(request: Extract<SftpRequest, { kind: 'Names' }>, turn: Turn): Promise<void> {
    const access = ['/etc/passwd', '/etc/group'].map((path) => ({ action: 'Read' as const, path, subtree: false }));
    const verdict = await judge('users-groups-by-id', access);
    if (verdict.kind === 'Refused') {
      // Clients ask at every listing, and would print a refusal each time: "no name is known" is an answer they expect.
      const nothing = (ids: Buffer): Buffer => Buffer.alloc(ids.length & ~3);
      const empty = [{ string: nothing(request.users) }, { string: nothing(request.groups) }];
      return turn.answer(packet(TYPE.EXTENDED_REPLY, { uint32: turn.id }, ...empty));
    }
    if (permitted(turn, verdict) === undefined) return;
    await turn.mine;
    const sent = upstream.ask(
      TYPE.EXTENDED,
      [{ string: 'users-groups-by-id@openssh.com' }, { string: request.users }, { string: request.groups }],
      [TYPE.EXTENDED_REPLY],
    );
    turn.pass();
    const answer = await sent;
    conclude(turn, answer.reply);
    forward(turn, answer);
  }

  async function onHandles(
    request: Extract<SftpRequest, { kind: 'HandleSetStat' | 'CopyData' }>,
    turn: Turn,
  ): Promise<void> {
    const keys = request.kind === 'CopyData' ? [request.from, request.to] : [request.handle];
    const live = keys.map((key) => handles.get(key));
    const usable = (): boolean =>
      live.every((handle, index) => {
        if (!handle || handles.get(keys[index]!) !== handle) return false;
        if (request.kind !== 'CopyData') return true;
        return handle.kind === 'File' && (index === 0 ? handle.reads : handle.writes);
      });
    if (!usable()) return status(turn, STATUS.FAILURE, 'Sallyport: not a handle that is open for it');
    const [operation, actions] = onHandle(request);
    const access = actions.map(([index, action]) => ({ action, ...live[index]!.at, subtree: false }));
    const id = permitted(turn, await judge(operation, access));
    if (id === undefined) return;
    await turn.mine;
    if (!usable()) {
      status(turn, STATUS.FAILURE, 'Sallyport: the handle was closed');
      finish(turn, { error: { code: 'Closed', message: 'the handle was closed' } });
      return;
    }
    if (request.kind === 'CopyData') {
      live[0]!.read.scatter();
      live[1]!.written.scatter();
    } else if (request.attributes.size) {
      // It stands behind the flags.
      live[0]!.written.resized(request.attributes.bytes.readBigUInt64BE(4));
    }
    const fields =
      request.kind === 'HandleSetStat'
        ? [{ string: bytesOf(request.handle) }, { raw: request.attributes.bytes }]
        : [
            { string: 'copy-data' },
            { string: bytesOf(request.from) },
            { raw: request.fields.subarray(0, 16) },
            { string: bytesOf(request.to) },
            { raw: request.fields.subarray(16) },
          ];
    const sent = upstream.ask(request.kind === 'CopyData' ? TYPE.EXTENDED : TYPE.FSETSTAT, fields, [TYPE.STATUS]);
    turn.pass();
    const answer = await sent;
    conclude(turn, answer.reply);
    forward(turn, answer);
  }

  const perform = (request: JudgedRequest, turn: Turn): Promise<void> => {
    switch (request.kind) {
      case 'ExpandPath':
        return onHome('expand-path', request.path, request.path, turn);
      case 'HomeDirectory':
        return onHome('home-directory', request.user, `~${request.user}`, turn);
      case 'Names':
        return onNames(request, turn);
      case 'HandleSetStat':
      case 'CopyData':
        return onHandles(request, turn);
      default:
        return onPaths(request, turn);
    }
  };
  return async (request, turn) => {
    try {
      await perform(request, turn);
    } catch (error) {
      if (error instanceof Ended)
        finish(turn, { error: { code: 'Ended', message: 'the channel ended before the answer' } });
      throw error;
    }
  };
}

const ANSWERS: Readonly<Record<PathRequest['kind'], readonly number[]>> = {
  Open: [TYPE.HANDLE],
  OpenDirectory: [TYPE.HANDLE],
  // READLINK answers with NAME, statvfs with EXTENDED_REPLY; what it was is known by the target as well.
  RealPath: [],
  Look: [TYPE.ATTRS, TYPE.NAME, TYPE.EXTENDED_REPLY],
  SetStat: [TYPE.STATUS],
  Remove: [TYPE.STATUS],
  MakeDirectory: [TYPE.STATUS],
  RemoveDirectory: [TYPE.STATUS],
  Rename: [TYPE.STATUS],
  HardLink: [TYPE.STATUS],
  SymbolicLink: [TYPE.STATUS],
};

const pathOf = (at: Resolved): string | undefined => (at.kind === 'Path' ? at.path : undefined);

/** Which handle (first, second) gets which action. */
function onHandle(
  request: Extract<SftpRequest, { kind: 'HandleSetStat' | 'CopyData' }>,
): [operation: string, actions: readonly (readonly [index: number, action: FileAccess['action']])[]] {
  return request.kind === 'CopyData'
    ? [
        'copy-data',
        [
          [0, 'Read'],
          [1, 'Write'],
        ],
      ]
    : ['FSETSTAT', attributeActions(request.attributes).map((action) => [0, action] as const)];
}

function errorOf(code: number, message: string): { code: string; message: string } {
  const name = Object.entries(STATUS).find(([, value]) => value === code)?.[0] ?? `STATUS ${code}`;
  return { code: name, message: message === '' ? name : message };
}
