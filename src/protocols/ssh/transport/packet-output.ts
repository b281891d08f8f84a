// Packets to the peer: sealed as they come, put together in blocks, written once a turn, counted until the socket has taken
// them.
//
// Guarantees: the order of messages; what one turn of the event loop queued is one write, or one a full block; little is
// written at once, much to a kernel's socket when all that came in this turn was dealt with; `queuedBytes` is all that waits for the peer, and the
// memory for it at most twice that and a block.
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Random } from '../../../system/random.ts';
import { BLOCK_BYTES, giveBlock, release, releasePayload, takeBlock } from './memory.ts';
import { NO_SEALER, type Sealer } from './packet-cipher.ts';

export interface PacketOutput {
  /** Bytes as they are: the identification line. */
  raw(bytes: Buffer): void;
  /** Copies the payload, whose memory may be given back, and `more` of it behind it. */
  send(payload: Buffer, more?: Buffer): void;
  flush(): void;
  /** Sealed and not yet taken by the socket. */
  readonly queuedBytes: number;
  /** Since the last `use`. */
  readonly bytes: number;
  readonly packets: number;
  /** From the next packet on. */
  use(sealer: Sealer, resetSequence: boolean): void;
}

const PADDING_POOL = 8 * 1024;
/** More than somebody who types or asks has to say: what comes in the same turn may follow in the same write. */
const BULK_BYTES = 16 * 1024;
interface Part {
  bytes: Buffer;
  /** The block that they are in; undefined: a copy. */
  block: Buffer | undefined;
}

/** Nobody looks at them any more. */
function letGo(parts: readonly Part[]): void {
  for (const { bytes, block } of parts) {
    if (block === undefined) release(bytes);
    else giveBlock(block);
  }
}

/** Packets are put together here; sealing is synchronous, so one is enough for all transports. */
let scratch = Buffer.allocUnsafeSlow(64 * 1024);

export function packetOutput(socket: Duplex, random: Random, onTaken: () => void): PacketOutput {
  // A kernel's socket is done with the memory when it says so; another stream may have passed it on.
  const letsGo = socket instanceof Socket;
  let sealer = NO_SEALER;
  let sequence = 0;
  let bytes = 0;
  let packets = 0;
  let block: Buffer | undefined;
  /** Of the block. */
  let filled = 0;
  /** In front of the block. Not written where they are made: another stream might answer before `send` has come to its end. */
  let parts: Part[] = [];
  let waiting = 0;
  let inFlight = 0;
  let scheduled = false;
  let padding: Buffer = Buffer.alloc(0);
  let paddingAt = 0;

  /** Ends the block; it goes out itself where it is at least half full. */
  const finishBlock = (): void => {
    if (block === undefined) return;
    const bytes = block.subarray(0, filled);
    if (letsGo && filled >= BLOCK_BYTES / 2) parts.push({ bytes, block });
    else {
      const copy = filled < BULK_BYTES ? Buffer.allocUnsafe(filled) : Buffer.allocUnsafeSlow(filled);
      bytes.copy(copy);
      giveBlock(block);
      parts.push({ bytes: copy, block: undefined });
    }
    block = undefined;
    filled = 0;
  };
  const flush = (): void => {
    if (waiting === 0) return;
    finishBlock();
    const going = parts;
    const size = waiting;
    parts = [];
    waiting = 0;
    if (socket.destroyed || socket.writableEnded) return letGo(going);
    inFlight += size;
    const taken = (error?: Error | null): void => {
      inFlight -= size;
      // After a fault the kernel may have yet to let go of them.
      if (letsGo && (error ?? undefined) === undefined) letGo(going);
      onTaken();
    };
    if (going.length === 1) {
      socket.write(going[0]!.bytes, taken);
      return;
    }
    // One writev(2) for the kernel's sockets, and one by one elsewhere.
    socket.cork();
    for (const [i, { bytes }] of going.entries()) socket.write(bytes, i === going.length - 1 ? taken : undefined);
    socket.uncork();
  };
  const flushLater = (): void => {
    scheduled = false;
    flush();
  };
  const schedule = (): void => {
    if (scheduled) return;
    scheduled = true;
    process.nextTick(() => {
      // What saves calls of the kernel saves none elsewhere.
      if (letsGo && waiting >= BULK_BYTES) setImmediate(flushLater);
      else flushLater();
    });
  };
  /** Where so many bytes fit: `filled` is where. */
  const room = (wanted: number): Buffer => {
    if (block !== undefined && block.length - filled < wanted) {
      finishBlock();
      process.nextTick(flush);
    }
    return (block ??= takeBlock(wanted));
  };
  const fill = (count: number): void => {
    filled += count;
    waiting += count;
    schedule();
  };

  return {
    raw(line) {
      line.copy(room(line.length), filled);
      fill(line.length);
    },
    send(payload, more) {
      const multiple = sealer.blockBytes;
      const size = payload.length + (more?.length ?? 0);
      let pad = multiple - ((1 + size + (sealer.lengthCounts ? 4 : 0)) % multiple);
      if (pad < 4) pad += multiple;
      const length = 1 + size + pad;
      const into = room(4 + length + sealer.tagBytes);
      if (scratch.length < 4 + length) scratch = Buffer.allocUnsafeSlow(4 + length + 4096);
      scratch.writeUInt32BE(length, 0);
      scratch[4] = pad;
      payload.copy(scratch, 5);
      more?.copy(scratch, 5 + payload.length);
      releasePayload(payload);
      if (padding.length - paddingAt < pad) {
        padding = random.bytes(PADDING_POOL);
        paddingAt = 0;
      }
      padding.copy(scratch, 5 + size, paddingAt, paddingAt + pad);
      paddingAt += pad;
      const sealed = sealer.seal(scratch.subarray(0, 4 + length), sequence, into, filled);
      sequence = (sequence + 1) >>> 0;
      bytes += sealed;
      packets += 1;
      fill(sealed);
    },
    flush,
    get queuedBytes() {
      return waiting + inFlight;
    },
    get bytes() {
      return bytes;
    },
    get packets() {
      return packets;
    },
    use(next, resetSequence) {
      sealer = next;
      bytes = 0;
      packets = 0;
      if (resetSequence) sequence = 0;
    },
  };
}
