// Packets to the peer: sealed as they come, written once a turn, counted until the socket has taken them.
//
// Guarantees: the order of messages; one write (of one or several parts) for all that a turn queued; `queuedBytes` is all that waits for the peer.
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Random } from '../../../system/random.ts';
import { release, releasePayload } from './memory.ts';
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
const SMALL_BYTES = 4 * 1024;
/** Packets are put together here; sealing is synchronous, so one is enough for all transports. */
let scratch = Buffer.allocUnsafeSlow(64 * 1024);

export function packetOutput(socket: Duplex, random: Random, onTaken: () => void): PacketOutput {
  // Corked parts are one writev(2) for the kernel's sockets, and one by one elsewhere.
  const gathers = socket instanceof Socket;
  let sealer = NO_SEALER;
  let sequence = 0;
  let bytes = 0;
  let packets = 0;
  let batch: Buffer[] = [];
  let batchBytes = 0;
  let inFlight = 0;
  let scheduled = false;
  let padding: Buffer = Buffer.alloc(0);
  let paddingAt = 0;

  const flush = (): void => {
    if (batch.length === 0) return;
    const size = batchBytes;
    const parts = gathers ? gathered(batch) : [Buffer.concat(batch, size)];
    batch = [];
    batchBytes = 0;
    if (socket.destroyed || socket.writableEnded) return;
    inFlight += size;
    const taken = (error?: Error | null): void => {
      inFlight -= size;
      // After a fault the kernel may have yet to let go of them.
      if (gathers && (error ?? undefined) === undefined) for (const part of parts) release(part);
      onTaken();
    };
    if (parts.length > 1) socket.cork();
    for (const [i, part] of parts.entries()) socket.write(part, i === parts.length - 1 ? taken : undefined);
    if (parts.length > 1) socket.uncork();
  };
  const schedule = (): void => {
    if (scheduled) return;
    scheduled = true;
    process.nextTick(() => {
      scheduled = false;
      flush();
    });
  };

  return {
    raw(line) {
      batch.push(line);
      batchBytes += line.length;
      schedule();
    },
    send(payload, more) {
      const block = sealer.blockBytes;
      const size = payload.length + (more?.length ?? 0);
      let pad = block - ((1 + size + (sealer.lengthCounts ? 4 : 0)) % block);
      if (pad < 4) pad += block;
      const length = 1 + size + pad;
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
      const sealed = sealer.seal(scratch.subarray(0, 4 + length), sequence, batch);
      sequence = (sequence + 1) >>> 0;
      batchBytes += sealed;
      bytes += sealed;
      packets += 1;
      schedule();
    },
    flush,
    get queuedBytes() {
      return batchBytes + inFlight;
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

/** Neighbours that are small become one: a copy costs less than a piece. */
function gathered(parts: readonly Buffer[]): Buffer[] {
  const all: Buffer[] = [];
  let small: Buffer[] = [];
  for (const part of parts) {
    if (part.length < SMALL_BYTES) {
      small.push(part);
      continue;
    }
    if (small.length > 0) all.push(Buffer.concat(small));
    small = [];
    all.push(part);
  }
  if (small.length > 0) all.push(Buffer.concat(small));
  return all;
}
