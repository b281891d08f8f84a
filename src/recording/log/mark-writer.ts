// Renews the mark about a second after the log has grown. Guarantees: one write of it at a time, none after `stop`.
// Does not: fail; where the store refuses, the mark is only older than it could be, and the next batch finds out.
import type { Clock } from '../../system/clock.ts';
import type { Files } from '../../system/files.ts';
import { MARK_FILE } from '../layout.ts';
import { encodeSignedLine } from '../signed-line.ts';
import type { RecordSigner } from '../signer.ts';
import type { LiveWriter } from './live-writer.ts';
import { MARK_FORMAT, type Mark } from './mark.ts';

export interface MarkWriter {
  /** The log has grown, or a live file is not needed any more. */
  due(): void;
  stop(): void;
}

const MARK_MS = 1000;

export function createMarkWriter(options: {
  files: Files;
  folder: string;
  clock: Clock;
  signer: RecordSigner;
  writer: LiveWriter;
  /** Numbers of the live files that are still needed. */
  needed(): Iterable<number>;
}): MarkWriter {
  const { files, folder, clock, signer, writer } = options;
  let stopped = false;
  let marking = false;
  let stopTimer: (() => void) | undefined;

  async function write(): Promise<void> {
    const file = writer.current;
    if (file === undefined || stopped) return;
    const { hash, index } = writer.head;
    const oldest = Math.min(file.number, ...options.needed());
    const body: Mark = {
      at: new Date(clock.now()).toISOString(),
      file: file.number,
      format: MARK_FORMAT,
      hash,
      index: index - 1,
      keyId: signer.keyId,
      length: file.size,
      oldest,
    };
    try {
      const line = await encodeSignedLine(signer, body);
      if (stopped) return;
      const path = `${folder}/${MARK_FILE}`;
      const fd = files.openSync(`${path}.tmp`, 'w', 0o600);
      try {
        files.writeSync(fd, line, 0, line.length);
      } finally {
        files.closeSync(fd);
      }
      files.renameSync(`${path}.tmp`, path);
    } catch {
      // The store is failing.
    }
  }

  return {
    due() {
      if (stopTimer !== undefined || marking || stopped) return;
      stopTimer = clock.after(MARK_MS, () => {
        stopTimer = undefined;
        marking = true;
        void write().finally(() => {
          marking = false;
        });
      });
    },
    stop() {
      stopped = true;
      stopTimer?.();
    },
  };
}
