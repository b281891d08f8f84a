// Answers reach the client in the order of its requests, whatever order they are known in: OpenSSH's client dies of
// "ID mismatch" otherwise. The answer that is next passes piece by piece; others wait here.
import type { Meter } from '../digest.ts';
import type { Outlet } from '../outlet.ts';

export interface Slot {
  /** The client's own id. */
  readonly id: number;
  pieces: Piece[];
  complete: boolean;
}

interface Piece {
  data: Buffer;
  /** Counts and hashes it once it is delivered; `offset` where a run begins. */
  meter?: Meter;
  offset?: number;
}

export interface Answers {
  /** Requests without a complete answer, or whose answer waits. */
  readonly open: number;
  /** Bytes that wait for their turn. */
  readonly waitingBytes: number;
  ask(id: number): Slot;
  whole(slot: Slot, packet: Buffer): void;
  part(slot: Slot, piece: Piece): void;
  end(slot: Slot): void;
}

export function createAnswers(client: Outlet): Answers {
  const slots: Slot[] = [];
  let waitingBytes = 0;
  const deliver = ({ data, meter, offset }: Piece): void => {
    if (meter) {
      if (offset !== undefined) meter.seek(offset);
      meter.take(data);
    }
    client.push(data);
  };
  const part = (slot: Slot, piece: Piece): void => {
    if (slots[0] === slot) deliver(piece);
    else {
      slot.pieces.push(piece);
      waitingBytes += piece.data.length;
    }
  };
  const end = (slot: Slot): void => {
    slot.complete = true;
    while (slots[0]?.complete) {
      slots.shift();
      const next = slots[0];
      if (!next) return;
      for (const piece of next.pieces) {
        waitingBytes -= piece.data.length;
        deliver(piece);
      }
      next.pieces = [];
    }
  };
  return {
    get open() {
      return slots.length;
    },
    get waitingBytes() {
      return waitingBytes;
    },
    ask(id) {
      const slot: Slot = { id, pieces: [], complete: false };
      slots.push(slot);
      return slot;
    },
    whole(slot, packet) {
      part(slot, { data: packet });
      end(slot);
    },
    part,
    end,
  };
}
