// Requests on handles that the target gave to this client, and the one that is about no file: they pass as they came, as
// what they may do was judged when the handle was opened.
//
// Guarantees: nothing passes on a handle that is not open for it; a file's record is complete before the client hears that
// it is closed; whatever ends the channel, each open file has its result.
import type { FilterHost } from '../../channels/filter.ts';
import type { Meter } from '../digest.ts';
import type { Answers, Slot } from './answers.ts';
import { closedByClient, closedByEnd, type Handle } from './handles.ts';
import { LONGEST_READ, STATUS, statusPacket, TYPE } from './packets.ts';
import { isName } from './replies.ts';
import type { SftpRequest } from './requests.ts';
import { Ended, type Upstream } from './upstream.ts';

export interface OnHandlesParts {
  host: FilterHost;
  upstream: Upstream;
  answers: Answers;
  /** Open ones; others add theirs. */
  handles: Map<string, Handle>;
  /** Extensions of the target's. */
  offered: ReadonlySet<string>;
  fail(side: 'Target', text: string): void;
  /** An answer is there: what waited may go on. */
  settle(): void;
}

export interface OnHandles {
  request(slot: Slot, request: SftpRequest, whole: Buffer): void;
  /** All of a WRITE but its data, which follows: what counts it. undefined: refused, so that it goes nowhere. */
  write(slot: Slot, header: Buffer, write: { handle: string; offset: number; size: number }): Meter | undefined;
  /** Results of what is open. */
  ended(): void;
}

export function refuse(answers: Answers, slot: Slot, code: number, message: string): void {
  answers.whole(slot, statusPacket(slot.id, code, message));
}

export function createOnHandles({
  host,
  upstream,
  answers,
  handles,
  offered,
  fail,
  settle,
}: OnHandlesParts): OnHandles {
  /** CLOSE was sent, and its result is not written. */
  const closing = new Set<Handle>();
  /** Sends a request as it came; its answer passes as it comes. */
  const relay = (slot: Slot, whole: Buffer, accepts: readonly number[], then?: (failed: boolean) => void): void => {
    upstream.pass(whole, accepts).then(({ reply, packet: answer }) => {
      then?.(reply.kind === 'Status' && reply.code !== STATUS.OK && reply.code !== STATUS.EOF);
      answer.writeUInt32BE(slot.id, 5);
      answers.whole(slot, answer);
      settle();
    }, ignoreEnd);
  };

  /** Requests on handles, and those that are about no file. */
  function request(slot: Slot, request: SftpRequest, whole: Buffer): void {
    if (request.kind === 'Limits') {
      if (offered.has('limits@openssh.com')) return relay(slot, whole, [TYPE.EXTENDED_REPLY]);
      return refuse(answers, slot, STATUS.OP_UNSUPPORTED, 'the target does not know it');
    }
    if (!('handle' in request)) return refuse(answers, slot, STATUS.OP_UNSUPPORTED, 'Sallyport: not supported');
    const handle = handles.get(request.handle);
    const fits =
      handle !== undefined &&
      (request.kind === 'Read'
        ? handle.kind === 'File' && handle.reads
        : request.kind === 'ReadDirectory'
          ? handle.kind === 'Directory'
          : true);
    if (!fits) return refuse(answers, slot, STATUS.FAILURE, 'Sallyport: not a handle that is open for it');
    const count = (failed: boolean): void => {
      if (failed) handle.errors += 1;
    };
    switch (request.kind) {
      case 'Read':
        return read(slot, handle, request.offset, request.length, whole);
      case 'ReadDirectory':
        upstream.pass(whole, [TYPE.NAME]).then(({ reply, packet: answer }) => {
          if (reply.kind === 'Names') {
            if (!reply.names.every(isName))
              return fail('Target', 'The target broke the file transfer protocol: a listed name is no name');
            handle.entries += reply.names.length;
          } else count(reply.kind === 'Status' && reply.code !== STATUS.EOF);
          answer.writeUInt32BE(slot.id, 5);
          answers.whole(slot, answer);
          settle();
        }, ignoreEnd);
        return;
      case 'Close':
        handles.delete(request.handle);
        closing.add(handle);
        upstream
          .pass(whole, [TYPE.STATUS])
          .then(async ({ packet: answer }) => {
            // Its record is complete before the client hears of it: then it may leave.
            const body = await closedByClient(handle);
            if (!closing.delete(handle)) return;
            host.result(handle.command, body);
            answer.writeUInt32BE(slot.id, 5);
            answers.whole(slot, answer);
            settle();
          })
          .catch(ignoreEnd);
        return;
      case 'HandleStat':
        return relay(slot, whole, [TYPE.ATTRS], count);
      case 'HandleFileSystem':
        return relay(slot, whole, [TYPE.EXTENDED_REPLY], count);
      case 'Sync':
        return relay(slot, whole, [TYPE.STATUS], count);
      default:
        return refuse(answers, slot, STATUS.OP_UNSUPPORTED, 'Sallyport: not supported');
    }
  }

  function read(slot: Slot, handle: Handle, offset: number, wanted: number, whole: Buffer): void {
    const length = Math.min(wanted, LONGEST_READ);
    let first = true;
    // The length is the last field; servers answer with less where more is asked than they give.
    whole.writeUInt32BE(length, whole.length - 4);
    upstream.read(whole, {
      length,
      begin(header) {
        header.writeUInt32BE(slot.id, 5);
        answers.part(slot, { data: header });
      },
      piece(data) {
        answers.part(slot, { data, meter: handle.read, ...(first ? { offset } : {}) });
        first = false;
      },
      end: () => answers.end(slot),
      status({ reply, packet: answer }) {
        if (reply.kind === 'Status' && reply.code !== STATUS.EOF) handle.errors += 1;
        answer.writeUInt32BE(slot.id, 5);
        answers.whole(slot, answer);
      },
    });
  }

  return {
    request,
    write(slot, header, { handle: key, offset, size }) {
      const handle = handles.get(key);
      if (handle?.kind !== 'File' || !handle.writes) {
        refuse(answers, slot, STATUS.FAILURE, 'Sallyport: not a handle that is open for it');
        return undefined;
      }
      if (size > 0) handle.written.seek(offset);
      relay(slot, header, [TYPE.STATUS], (failed) => {
        if (failed) handle.errors += 1;
      });
      return handle.written;
    },
    ended() {
      for (const handle of [...handles.values(), ...closing]) host.result(handle.command, closedByEnd(handle));
      handles.clear();
      closing.clear();
    },
  };
}

function ignoreEnd(error: unknown): void {
  if (!(error instanceof Ended)) throw error;
}
