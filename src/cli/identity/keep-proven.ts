// Keeps the sessions of one connect proven while they live: where the policy wants sessions to prove themselves again, a
// newer token goes to the gateway at half of the time that is left, and not more often than a provider is asked. Pure of
// I/O: tokens, sessions, time and pauses are handed in. What it can not do the gateway tells the client, and ends it.

/** Least time between two refreshes of one login, ms. */
export const REFRESH_APART_MS = 60_000;

export type Handed =
  /** Nothing lives any more that wants it. */
  | { kind: 'Nobody' }
  /** The sessions began with this very token, or have it already. */
  | { kind: 'Known' }
  /** `endsAtMs`: when the next is due at the latest; absent: the policy wants none. */
  | { kind: 'Renewed'; endsAtMs?: number }
  /** `message` is for the person. `final`: no other token will do either. */
  | { kind: 'Failed'; message: string; final: boolean };

export interface KeepProvenOptions {
  /** `session.reauthenticate` of the policy; undefined: it can not be read. */
  reauthenticateMs: number | undefined;
  /** The token that the first session began with. */
  first: { obtainedAtMs: number; expiresAtMs: number };
  /** A token handed out after then, if one may be asked for already, else the same as before. */
  fresh(obtainedAfterMs: number): Promise<{ token: string; obtainedAtMs: number; expiresAtMs: number }>;
  /** Whether anything lives that will want one: for nobody no token is made. */
  wanted(): Promise<boolean>;
  hand(token: string): Promise<Handed>;
  now(): number;
  /** Rejects when it is to end. */
  pause(ms: number): Promise<void>;
  onProblem(message: string): void;
}

/** After a failure that may pass, and until there is a session. */
const AGAIN_MS = 10_000;

/** Until when a session that was proven by this token lasts. */
export function lastsUntil(
  token: { obtainedAtMs: number; expiresAtMs: number },
  reauthenticateMs: number | undefined,
): number {
  return Math.min(token.expiresAtMs, token.obtainedAtMs + (reauthenticateMs ?? Number.POSITIVE_INFINITY));
}

/** When the next token is to be handed over. */
export function dueAt(obtainedAtMs: number, endsAtMs: number): number {
  return obtainedAtMs + Math.max(REFRESH_APART_MS, Math.floor((endsAtMs - obtainedAtMs) / 2));
}

/** Goes on until `pause` rejects, or nothing is wanted any more. */
export async function keepProven(options: KeepProvenOptions): Promise<void> {
  const { now, pause, onProblem } = options;
  let { obtainedAtMs } = options.first;
  let due = dueAt(obtainedAtMs, lastsUntil(options.first, options.reauthenticateMs));
  let told = '';
  const tell = (message: string): void => {
    if (message !== told) onProblem(message);
    told = message;
  };
  for (;;) {
    await pause(Math.max(0, due - now()));
    let next: Awaited<ReturnType<typeof options.fresh>>;
    try {
      if (!(await options.wanted())) {
        due = now() + AGAIN_MS;
        continue;
      }
      next = await options.fresh(obtainedAtMs);
    } catch (error) {
      tell(error instanceof Error ? error.message : String(error));
      due = now() + AGAIN_MS;
      continue;
    }
    if (next.obtainedAtMs <= obtainedAtMs) {
      due = now() + AGAIN_MS;
      continue;
    }
    const handed = await options.hand(next.token);
    switch (handed.kind) {
      case 'Renewed':
        if (handed.endsAtMs === undefined) return;
        obtainedAtMs = next.obtainedAtMs;
        due = dueAt(obtainedAtMs, handed.endsAtMs);
        told = '';
        break;
      case 'Known':
        obtainedAtMs = next.obtainedAtMs;
        due = dueAt(obtainedAtMs, lastsUntil(next, options.reauthenticateMs));
        break;
      case 'Nobody':
        due = now() + AGAIN_MS;
        break;
      case 'Failed':
        tell(handed.message);
        if (handed.final) return;
        due = now() + AGAIN_MS;
        break;
    }
  }
}
