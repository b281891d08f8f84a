// Says when files of the directory may have changed. `fs.watch` is quick and may miss things (network file systems,
// renamed folders, exhausted inotify); a slow look at every file's stamp is the safety net.
import fs from 'node:fs';
import type { Clock } from '../../system/clock.ts';

export interface FileWatch {
  /** Watches these folders from now on, and no others. */
  folders(absolute: readonly string[]): void;
  stop(): void;
}

export function watchFiles(options: {
  clock: Clock;
  debounceMs: number;
  pollMs: number;
  /** Called once after a burst of events. */
  onChange: () => void;
  /** Called every `pollMs`; true: something differs. */
  changed: () => boolean;
}): FileWatch {
  const { clock, debounceMs, pollMs, onChange, changed } = options;
  const watchers = new Map<string, fs.FSWatcher>();
  let pending: (() => void) | undefined;
  let poll: () => void = () => {};
  let stopped = false;

  const soon = (): void => {
    // The first event starts the wait and later ones do not prolong it: a busy folder must not hold a change back.
    if (stopped || pending !== undefined) return;
    pending = clock.after(debounceMs, () => {
      pending = undefined;
      onChange();
    });
  };
  const arm = (): void => {
    poll = clock.after(pollMs, () => {
      if (stopped) return;
      if (changed()) onChange();
      arm();
    });
  };
  arm();
  return {
    folders(absolute) {
      if (stopped) return;
      for (const [folder, watcher] of watchers) {
        if (absolute.includes(folder)) continue;
        watcher.close();
        watchers.delete(folder);
      }
      for (const folder of absolute) {
        if (watchers.has(folder)) continue;
        try {
          const watcher = fs.watch(folder, { persistent: false }, soon);
          watcher.on('error', () => {
            watcher.close();
            watchers.delete(folder);
            soon();
          });
          watchers.set(folder, watcher);
        } catch {
          // No watch to be had: the poll sees it.
        }
      }
    },
    stop() {
      stopped = true;
      pending?.();
      poll();
      for (const watcher of watchers.values()) watcher.close();
      watchers.clear();
    },
  };
}
