// SHA-256 of long streams on a thread of its own, one for the process: at gigabits the hash would cost the event loop
// as much as a cipher does. Short ones are hashed where they are.
//
// Guarantees: memory is bounded: BLOCKS blocks in all. Who begins when none is free hashes on the spot; who runs out of
// them amid a stream (the thread got no processor for longer than they last) has no digest, and says so. Bytes are copied
// when they are handed in, so that nobody need keep them.
import { createHash, type Hash } from 'node:crypto';
import { Worker } from 'node:worker_threads';

export interface Hasher {
  update(piece: Buffer): void;
  /** Hex. Never rejects; undefined: the thread failed or fell behind. */
  digest(): Promise<string | undefined>;
  /** As `digest`, at once: undefined where the thread has a part of it. */
  digestNow(): string | undefined;
  drop(): void;
}

const BLOCK = 512 * 1024;
/** Blocks of the process: being filled, at the thread, or free. Handed over and back, not shared: copying to shared memory is slow. */
const BLOCKS = 48;

// Plain JavaScript in a string: it runs from sources and from the build alike.
const THREAD = `
const { parentPort } = require('node:worker_threads');
const { createHash } = require('node:crypto');
const hashes = new Map();
parentPort.on('message', ({ id, memory, bytes, last }) => {
  let hash = hashes.get(id);
  if (hash === undefined) hashes.set(id, (hash = createHash('sha256')));
  if (memory) hash.update(new Uint8Array(memory, 0, bytes));
  if (last) hashes.delete(id);
  const digest = last === 'Digest' ? hash.digest('hex') : undefined;
  parentPort.postMessage({ id, memory, digest }, memory ? [memory] : []);
});`;

interface Thread {
  worker: Worker;
  waiting: Map<number, (digest: string | undefined) => void>;
  /** Blocks that it has. */
  away: number;
}

let thread: Thread | undefined;
let nextId = 0;
/** How many there are, the free ones among them. */
let blocks = 0;
const free: Buffer[] = [];

function start(): Thread {
  const worker = new Worker(THREAD, { eval: true, name: 'sallyport-sha256', execArgv: [], env: {} });
  const started: Thread = { worker, waiting: new Map(), away: 0 };
  worker.on('message', ({ id, memory, digest }: { id: number; memory?: ArrayBuffer; digest?: string }) => {
    if (memory !== undefined) {
      if (thread === started) free.push(Buffer.from(memory));
      started.away -= 1;
    }
    if (digest === undefined) return;
    started.waiting.get(id)?.(digest);
    started.waiting.delete(id);
    if (started.waiting.size === 0) worker.unref();
  });
  const gone = (): void => {
    if (thread !== started) return;
    thread = undefined;
    // What it had is gone with it.
    blocks -= started.away;
    for (const tell of started.waiting.values()) tell(undefined);
    started.waiting.clear();
  };
  worker.on('error', gone);
  worker.on('exit', gone);
  worker.unref(); // listening for messages keeps the process
  return started;
}

function takeBlock(): Buffer | undefined {
  const block = free.pop();
  if (block || blocks >= BLOCKS) return block;
  blocks += 1;
  return Buffer.allocUnsafeSlow(BLOCK);
}

export function createHasher(): Hasher {
  let here: Hash | undefined;
  let block: Buffer | undefined;
  let filled = 0;
  let sent: { id: number; to: Thread } | undefined;
  let failed = false;

  const giveBack = (): void => {
    if (block) free.push(block);
    block = undefined;
  };
  const hand = (last?: 'Digest' | 'Drop'): void => {
    thread ??= start();
    sent ??= { id: (nextId += 1), to: thread };
    // What it had is lost with the thread that had it.
    if (sent.to !== thread) {
      failed = true;
      giveBack();
      return;
    }
    const memory = block?.buffer as ArrayBuffer | undefined;
    if (memory !== undefined) thread.away += 1;
    thread.worker.postMessage({ id: sent.id, memory, bytes: filled, last }, memory === undefined ? [] : [memory]);
    block = undefined;
    filled = 0;
  };

  const drop = (): void => {
    if (failed || here) return;
    failed = true;
    if (sent && sent.to === thread) hand('Drop');
    else giveBack();
  };
  const now = (): string | undefined => {
    if (failed) return undefined;
    if (here) return here.digest('hex');
    if (sent) {
      drop();
      return undefined;
    }
    const hash = createHash('sha256');
    if (block) {
      hash.update(block.subarray(0, filled));
      giveBack();
    }
    return hash.digest('hex');
  };

  return {
    update(piece) {
      if (failed) return;
      if (here) {
        here.update(piece);
        return;
      }
      for (let at = 0; at < piece.length; ) {
        if (!block) {
          block = takeBlock();
          if (!block) {
            if (!sent) {
              here = createHash('sha256');
              here.update(piece.subarray(at));
              return;
            }
            // The thread is behind by all that there is: memory is bounded before all else.
            failed = true;
            hand('Drop');
            return;
          }
        }
        const count = piece.copy(block, filled, at);
        filled += count;
        at += count;
        if (filled === BLOCK) hand();
        if (failed) return;
      }
    },
    async digest() {
      if (!sent || failed) return now();
      const { id, to } = sent;
      if (thread !== to) {
        failed = true;
        giveBack();
        return undefined;
      }
      return new Promise((resolve) => {
        to.waiting.set(id, resolve);
        to.worker.ref();
        hand('Digest');
      });
    },
    digestNow: now,
    drop,
  };
}
