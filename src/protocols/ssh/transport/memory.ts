// Gives large buffers back as soon as they are done with. A gateway makes several a packet; left to the collector, which
// counts objects and not what hangs on them, they cost it a mark of the whole heap every few megabytes, as much CPU as the
// ciphers, and a resident memory several times what is in use.
//
// Guarantees: memory is given back only whole, and only where its owner says that nobody looks at it any more. Who does
// all the same sees an empty buffer, never another's bytes. Blocks go round and are not emptied: nothing is put in them but
// what is on its way over a wire, sealed.

/** Smaller ones are often parts of a pool, and cost the collector little. */
const WORTHWHILE = 4 * 1024;

/** Memory of payloads, so that it is known again when they are done with. */
const owned = new WeakSet<ArrayBuffer>();

/** `body` was made for one payload, which is a part of it: `releasePayload` may give it back. */
export function ownPayload(body: Buffer): void {
  if (body.length >= WORTHWHILE && isWhole(body)) owned.add(body.buffer as ArrayBuffer);
}

/** A payload was sent: nobody looks at it any more. Other memory than a received payload's stays as it is. */
export function releasePayload(payload: Buffer): void {
  if (payload.length < WORTHWHILE / 2) return;
  const memory = payload.buffer as ArrayBuffer;
  if (owned.delete(memory)) memory.transfer(0);
}

/** Nobody looks at the buffer any more, nor at anything else of its memory. */
export function release(buffer: Buffer): void {
  if (buffer.length >= WORTHWHILE && isWhole(buffer)) (buffer.buffer as ArrayBuffer).transfer(0);
}

/** Four packets of OpenSSH's. */
export const BLOCK_BYTES = 136 * 1024;
/** Of all transports: what more are free is the collector's. */
const FREE_BLOCKS = 16;
const free: Buffer[] = [];

/** `BLOCK_BYTES`, or as many as are wanted. What is in them is for nobody to read. */
export function takeBlock(wanted: number): Buffer {
  return (wanted <= BLOCK_BYTES ? free.pop() : undefined) ?? Buffer.allocUnsafeSlow(Math.max(wanted, BLOCK_BYTES));
}

/** Nobody looks at the block any more. */
export function giveBlock(block: Buffer): void {
  if (block.length === BLOCK_BYTES && free.length < FREE_BLOCKS) free.push(block);
  else release(block);
}

const isWhole = (buffer: Buffer): boolean =>
  buffer.buffer instanceof ArrayBuffer && buffer.buffer.byteLength === buffer.length;
