// Within one connection, what changes names (renames, links, removals) never runs between the moment a path was
// resolved for a decision and the moment the target used it. All file channels of a connection share one of these.
//
// It does not stop the same user's shell, another connection or the target's own programs: sftp v3 has no openat(2).

export interface NameLock {
  /** Rises whenever names may have changed: what was resolved under an older one is to be resolved again. */
  readonly generation: number;
  /** While held, no name changes. The answer releases, once. */
  shared(): Promise<() => void>;
  /** While held, nobody else uses names, and they count as changed. */
  exclusive(): Promise<() => void>;
}

export function createNameLock(): NameLock {
  let generation = 0;
  let holders = 0; // -1: exclusive
  const waiting: { exclusive: boolean; start: () => void }[] = [];
  const next = (): void => {
    for (;;) {
      const head = waiting[0];
      if (!head || holders < 0 || (head.exclusive && holders > 0)) return;
      waiting.shift();
      head.start();
    }
  };
  const acquire = (exclusive: boolean): Promise<() => void> =>
    new Promise((resolve) => {
      waiting.push({
        exclusive,
        start() {
          if (exclusive) {
            holders = -1;
            generation += 1;
          } else holders += 1;
          let held = true;
          resolve(() => {
            if (!held) return;
            held = false;
            if (exclusive) {
              holders = 0;
              generation += 1;
            } else holders -= 1;
            next();
          });
        },
      });
      next();
    });
  return {
    get generation() {
      return generation;
    },
    shared: () => acquire(false),
    exclusive: () => acquire(true),
  };
}
