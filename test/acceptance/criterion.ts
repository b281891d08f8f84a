// What an acceptance criterion is: one claim, checked against real servers, with the figure it measured.

export interface Criterion {
  /** The claim, as a person would say it; one line. */
  claim: string;
  /** Resolves with the figure; throws when the claim does not hold. */
  check(): Promise<string>;
}

/** Criteria that share servers; `start` and `stop` once each, `stop` also after a failed start. */
export interface CriteriaGroup {
  name: string;
  start?(): Promise<void>;
  criteria: readonly Criterion[];
  stop?(): Promise<void>;
}

/** How many of what a criterion repeats: `ACCEPT_TRIALS` of them, or all with `ACCEPT_FULL=1`. */
export function trials(full: number): number {
  if (process.env.ACCEPT_FULL === '1') return full;
  const asked = Number(process.env.ACCEPT_TRIALS ?? full);
  return Math.max(1, Math.min(full, asked));
}
