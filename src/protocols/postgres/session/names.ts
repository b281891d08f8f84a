// What a name of the session (prepared statement, portal, cursor) may stand for at the server. Pure.
//
// The gateway judges messages before the server has answered earlier ones, and the server may refuse those (a statement
// of that name exists already, an earlier error skips them). So a name holds every value it may have: one for sure once
// the server confirmed it, several while answers are out. A reader must judge all of them. Values told in the same
// pipeline segment (since the last Sync) are certain for its rest: if they fail, the server skips that rest.

interface State<T> {
  /** What the name may have meant when the newest definition was sent. */
  settled: T[];
  /** Confirmed after it had been forgotten for later ones like it: those may still fail. */
  base: T | undefined;
  pending: { value: T; segment: number } | undefined;
  weight: number;
}

/**
 * More readings than this are not worth telling apart: of those that are the same for every judgement (a batch binds one
 * statement hundreds of times before it hears an answer) older ones are forgotten, else the definition is refused.
 */
const MOST_READINGS = 8;

export class NameTable<T> {
  readonly #states = new Map<string, State<T>>();
  readonly #most: number;
  readonly #weigh: (value: T) => number;
  readonly #same: (a: T, b: T) => boolean;
  #weight = 0;

  /** `same`: whether two values are judged alike, always. Default: one and the same. */
  constructor(most: number, weigh: (value: T) => number, same: (a: T, b: T) => boolean = Object.is) {
    this.#most = most;
    this.#weigh = weigh;
    this.#same = same;
  }

  get size(): number {
    return this.#states.size;
  }

  /** Sum of the weights of all values kept. */
  get weight(): number {
    return this.#weight;
  }

  /** False: too many names, or too many open definitions of this one; nothing changed. */
  define(name: string, value: T, segment: number): boolean {
    let state = this.#states.get(name);
    if (state === undefined) {
      if (this.#states.size >= this.#most) return false;
      state = { settled: [], base: undefined, pending: undefined, weight: 0 };
      this.#states.set(name, state);
    } else if (state.pending !== undefined) {
      const { value: open } = state.pending;
      if (state.settled.length >= MOST_READINGS) {
        const older = state.settled.findIndex((one) => this.#same(one, open));
        if (older < 0) return false;
        state.settled.splice(older, 1);
      }
      state.settled.push(open);
    }
    state.pending = { value, segment };
    this.#reweigh(name, state);
    return true;
  }

  /** Every value the name may have now, the newest last; empty: it is not known. */
  lookup(name: string, segment: number): readonly T[] {
    const state = this.#states.get(name);
    if (state === undefined) return [];
    const { pending } = state;
    const settled = state.base === undefined ? state.settled : [state.base, ...state.settled];
    if (pending === undefined) return settled;
    return pending.segment === segment ? [pending.value] : [...settled, pending.value];
  }

  /** The server carried the definition out. */
  confirm(name: string, value: T): void {
    const state = this.#states.get(name);
    if (state === undefined) return;
    if (state.pending?.value === value) {
      state.settled = [value];
      state.base = undefined;
      state.pending = undefined;
    } else {
      // Definitions sent later than the confirmed one are still open.
      const at = state.settled.indexOf(value);
      if (at >= 0) {
        state.settled = state.settled.slice(at);
        state.base = undefined;
      } else state.base = value;
    }
    this.#reweigh(name, state);
  }

  /** The server refused or skipped the definition: the name means what it meant. */
  fail(name: string, value: T): void {
    const state = this.#states.get(name);
    if (state === undefined) return;
    if (state.pending?.value === value) state.pending = undefined;
    else state.settled = state.settled.filter((other) => other !== value);
    this.#reweigh(name, state);
  }

  /** The server dropped the name. Definitions still open stay. */
  remove(name: string): void {
    const state = this.#states.get(name);
    if (state === undefined) return;
    state.settled = [];
    state.base = undefined;
    this.#reweigh(name, state);
  }

  clear(): void {
    for (const name of this.#states.keys()) this.remove(name);
  }

  #reweigh(name: string, state: State<T>): void {
    this.#weight -= state.weight;
    state.weight = 0;
    if (state.pending === undefined && state.base === undefined && state.settled.length === 0) {
      this.#states.delete(name);
      return;
    }
    for (const value of state.settled) state.weight += this.#weigh(value);
    if (state.base !== undefined) state.weight += this.#weigh(state.base);
    if (state.pending !== undefined) state.weight += this.#weigh(state.pending.value);
    this.#weight += state.weight;
  }
}
