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
/** Blocks of the process: being filled, or at the thread. They are shared memory, so that handing one over costs a word. */
const BLOCKS = 48;

// Plain JavaScript in a string: it runs from sources and from the build alike.
const THREAD = `
const { parentPort } = require('node:worker_threads');
const { createHash } = require('node:crypto');
const blocks = [];
const hashes = new Map();
parentPort.on('message', ({ id, index, memory, bytes, last }) => {
  let hash = hashes.get(id);
  if (hash === undefined) hashes.set(id, (hash = createHash('sha256')));
  if (memory) blocks[index] = new Uint8Array(memory);
  if (index >= 0) hash.update(blocks[index].subarray(0, bytes));
  if (last) hashes.delete(id);
  parentPort.postMessage({ id, index, digest: last === 'Digest' ? hash.digest('hex') : undefined });
});`;

interface Block {
  index: number;
  bytes: Buffer;
  memory: SharedArrayBuffer;
  /** The thread that has seen it. */
  known?: Thread;
}

interface Thread {
  worker: Worker;
  waiting: Map<number, (digest: string | undefined) => void>;
}

let thread: Thread | undefined;
let nextId = 0;
const blocks: Block[] = [];
const free: Block[] = [];

function start(): Thread {
  const worker = new Worker(THREAD, { eval: true, name: 'sallyport-sha256', execArgv: [], env: {} });
  const started: Thread = { worker, waiting: new Map() };
  worker.unref();
  worker.on('message', ({ id, index, digest }: { id: number; index: number; digest?: string }) => {
    const block = blocks[index];
    if (block) free.push(block);
    if (digest === undefined) return;
    started.waiting.get(id)?.(digest);
    started.waiting.delete(id);
    if (started.waiting.size === 0) worker.unref();
  });
  const gone = (): void => {
    if (thread !== started) return;
    thread = undefined;
    // What it was still reading is not used again.
    blocks.length = 0;
    free.length = 0;
    for (const tell of started.waiting.values()) tell(undefined);
    started.waiting.clear();
  };
  worker.on('error', gone);
  worker.on('exit', gone);
  return started;
}

function takeBlock(): Block | undefined {
  const block = free.pop();
  if (block || blocks.length >= BLOCKS) return block;
  const memory = new SharedArrayBuffer(BLOCK);
  const made = { index: blocks.length, bytes: Buffer.from(memory), memory };
  blocks.push(made);
  return made;
}

function giveBack(block: Block): void {
  if (blocks[block.index] === block) free.push(block);
}

export function createHasher(): Hasher {
  let here: Hash | undefined;
  let block: Block | undefined;
  let filled = 0;
  let sent: { id: number; to: Thread } | undefined;
  let failed = false;

  const hand = (last?: 'Digest' | 'Drop'): void => {
    thread ??= start();
    sent ??= { id: (nextId += 1), to: thread };
    // What it had is lost with the thread that had it; a block of before is no block of the new one.
    if (sent.to !== thread || (block && blocks[block.index] !== block)) {
      failed = true;
      block = undefined;
      return;
    }
    const memory = block && block.known !== thread ? block.memory : undefined;
    if (block) block.known = thread;
    thread.worker.postMessage({ id: sent.id, index: block?.index ?? -1, memory, bytes: filled, last });
    block = undefined;
    filled = 0;
  };

  const drop = (): void => {
    if (failed || here) return;
    failed = true;
    if (sent && sent.to === thread) hand('Drop');
    else if (block) {
      if (!sent) giveBack(block);
      block = undefined;
    }
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
      hash.update(block.bytes.subarray(0, filled));
      giveBack(block);
      block = undefined;
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
        const count = piece.copy(block.bytes, filled, at);
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
        block = undefined;
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
