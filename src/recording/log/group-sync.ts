// Group commit to disk: those who wait for it are told together, one fdatasync at a time; who comes while it runs is in
// the next group. Guarantees: nobody is told before a sync that began after they came; when one fails, everybody who
// waits hears of it, because nobody knows which pages reached the disk.
import { RecordingError } from '../recorder.ts';
import type { LiveWriter } from './live-writer.ts';

export interface SyncWaiter<Stream> {
  stream: Stream;
  callback: (error: RecordingError | undefined) => void;
  /** What it has to be told anyway. */
  error: RecordingError | undefined;
}

export interface GroupSync<Stream> {
  wait(waiter: SyncWaiter<Stream>): void;
  /** Begins a sync for those who wait, unless one runs: then it follows. */
  sync(): void;
}

export function createGroupSync<Stream>(options: {
  writer: LiveWriter;
  /** A sync failed; the streams of those who are about to be told. */
  onFailure(failure: RecordingError, streams: ReadonlySet<Stream>): void;
  /** Tells one; must not throw. `failure`: of the sync. */
  tell(waiter: SyncWaiter<Stream>, failure: RecordingError | undefined): void;
}): GroupSync<Stream> {
  const { writer } = options;
  let syncing = false;
  let waiting: SyncWaiter<Stream>[] = [];

  function sync(): void {
    if (syncing || waiting.length === 0) return;
    syncing = true;
    let group = waiting;
    waiting = [];
    writer.sync((error) => {
      syncing = false;
      let failure: RecordingError | undefined;
      if (error !== null) {
        failure = new RecordingError('IoError', `records can not be synced to disk: ${error.message}`, {
          cause: error,
        });
        group = group.concat(waiting);
        waiting = [];
        // After a failed sync nobody knows which pages of the file reached the disk: leave it.
        writer.giveUp();
        options.onFailure(failure, new Set(group.map((one) => one.stream)));
      }
      for (const one of group) options.tell(one, failure);
      sync();
    });
  }

  return {
    wait: (waiter) => {
      waiting.push(waiter);
    },
    sync,
  };
}
