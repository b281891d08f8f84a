// Packets out of bytes, in whatever pieces those come (RFC 4253, 6).
//
// Guarantees: the same packets for every chunking; beside the chunk at hand at most one packet is kept; a length
// beyond the limit, a padding that does not fit and an empty payload end it, whatever the MAC says of them.
import { DISCONNECT } from '../wire/message-numbers.ts';
import { Fault, malformed } from './fault.ts';
import { ownPayload, release } from './memory.ts';
import { NO_OPENER, type Opener } from './packet-cipher.ts';

const EMPTY = Buffer.alloc(0);
/** A larger packet's memory is given back after it. */
const KEPT_BYTES = 64 * 1024;

export interface PacketInput {
  /** `owned`: nobody else looks at the chunk, so its memory is given back once it is read. */
  push(chunk: Buffer, owned?: boolean): void;
  /** The next packet's payload, in memory of its own; undefined where it is not all there. Throws Fault. */
  next(): Buffer | undefined;
  /** Of the packet that `next` answered last. */
  readonly sequence: number;
  /** Since the last `use`. */
  readonly bytes: number;
  readonly packets: number;
  /** Whether there is a piece of a packet. */
  readonly partial: boolean;
  /** From the next packet on. */
  use(opener: Opener, resetSequence: boolean): void;
  /** Largest packet from now on. */
  limit(packetBytes: number): void;
}

export function packetInput(packetBytes: number): PacketInput {
  let opener = NO_OPENER;
  let most = packetBytes;
  let following = 0;
  let sequence = 0;
  let bytes = 0;
  let packets = 0;
  let chunk: Buffer = EMPTY;
  let chunkOwned = false;
  let at = 0;
  let assembly: Buffer = EMPTY;
  let assembled = 0;

  const sizeOf = (length: number): number => {
    const aligned = (length + (opener.lengthCounts ? 4 : 0)) % opener.blockBytes === 0;
    if (length > most || length < 8 || !aligned)
      throw new Fault('Malformed', `A packet of ${length} bytes is not taken.`, DISCONNECT.PROTOCOL_ERROR);
    return 4 + length + opener.tagBytes;
  };
  const assemble = (wanted: number): boolean => {
    if (assembly.length < wanted) {
      const larger = Buffer.allocUnsafeSlow(Math.max(wanted, 256));
      assembly.copy(larger, 0, 0, assembled);
      assembly = larger;
    }
    const count = Math.min(wanted - assembled, chunk.length - at);
    if (count > 0) {
      chunk.copy(assembly, assembled, at, at + count);
      assembled += count;
      at += count;
    }
    return assembled >= wanted;
  };
  /** Length, body, tag: a view of the chunk where it holds all of them. */
  const packet = (): Buffer | undefined => {
    if (assembled === 0 && chunk.length - at >= 4) {
      const size = sizeOf(chunk.readUInt32BE(at));
      if (chunk.length - at >= size) {
        at += size;
        return chunk.subarray(at - size, at);
      }
      if (!assemble(size)) return undefined;
    }
    if (!assemble(4)) return undefined;
    const size = sizeOf(assembly.readUInt32BE(0));
    if (!assemble(size)) return undefined;
    const whole = assembly.subarray(0, size);
    assembled = 0;
    if (assembly.length > KEPT_BYTES) assembly = EMPTY;
    return whole;
  };

  /** What of it is needed yet was copied. */
  const drop = (): void => {
    if (chunkOwned) release(chunk);
    chunk = EMPTY;
    chunkOwned = false;
    at = 0;
  };

  return {
    push(more, owned = false) {
      const left = chunk.subarray(at);
      const all = left.length === 0 ? more : Buffer.concat([left, more]);
      drop();
      chunk = all;
      chunkOwned = owned && all === more;
    },
    next() {
      const whole = packet();
      if (whole === undefined) {
        drop();
        return undefined;
      }
      sequence = following;
      following = (following + 1) >>> 0;
      const body = opener.open(whole, whole.length - opener.tagBytes, sequence);
      if (body === undefined)
        throw new Fault('Malformed', 'A packet was changed on its way (MAC error).', DISCONNECT.MAC_ERROR);
      bytes += whole.length;
      packets += 1;
      const padding = body[0]!;
      if (padding < 4 || padding + 2 > body.length) throw malformed('A packet without payload, or with bad padding.');
      ownPayload(body);
      return body.subarray(1, body.length - padding);
    },
    get sequence() {
      return sequence;
    },
    get bytes() {
      return bytes;
    },
    get packets() {
      return packets;
    },
    get partial() {
      return assembled > 0;
    },
    use(next, resetSequence) {
      opener = next;
      bytes = 0;
      packets = 0;
      if (resetSequence) following = 0;
    },
    limit(next) {
      most = next;
    },
  };
}
