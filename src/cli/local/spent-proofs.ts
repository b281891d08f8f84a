// Which proofs this daemon has seen used, so that of two requests with one proof in the same moment one is served, and what
// was made and deleted is not made again. Guarantees: asked and remembered in one step; nothing is kept longer than its
// proof is good for. Does not outlive the process: whoever owns this machine's files owns the objects as well, and what
// is there by the proof's name refuses it then.
export interface SpentProofs {
  /** False: it was used. `untilMs`: past it nobody takes the proof. */
  spend(id: string, untilMs: number): boolean;
  /** Nothing was made by it after all. */
  giveBack(id: string): void;
}

/** By so much clocks of issuers may differ. */
const KEPT_MS = 10 * 60_000;

export function createSpentProofs(now: () => number): SpentProofs {
  const spent = new Map<string, number>();
  return {
    spend(id, untilMs) {
      const nowMs = now();
      for (const [each, over] of spent) if (over < nowMs) spent.delete(each);
      if (spent.has(id)) return false;
      spent.set(id, untilMs + KEPT_MS);
      return true;
    },
    giveBack(id) {
      spent.delete(id);
    },
  };
}
