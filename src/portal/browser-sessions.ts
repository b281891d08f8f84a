// Who is logged in to the page. Everything stays in this process: the browser holds a random number, of which only the
// hash is kept here. Guarantees: an id is given out anew at each login, so that one planted before is worth nothing; ends
// after 30 minutes without use and after 8 hours whatever happens; memory is bounded, and strangers who begin logins
// never cost anybody theirs who is logged in.
import { createHash } from 'node:crypto';
import type { ActObject } from '../identity/acts.ts';
import type { Clock } from '../system/clock.ts';
import type { Random } from '../system/random.ts';
import type { Reader } from './concerns.ts';

export const IDLE_MS = 30 * 60_000;
export const LONGEST_MS = 8 * 3_600_000;
const FLOW_MS = 10 * 60_000;
const MOST_FLOWS = 8;
const MOST_VISITORS = 4_096;
const MOST_SESSIONS = 10_000;
const MOST_NOTES = 4;

/** One round trip to the identity provider, known by its `state`. */
export type Flow = {
  verifier: string;
  nonce: string;
  startedMs: number;
  /** Where to on this site afterwards. */
  returnTo: string;
} & (
  | { kind: 'Login' }
  | {
      kind: 'Act';
      object: ActObject;
      salt: string /** With `prompt=none`. */;
      silent: boolean;
      parameters: Readonly<Record<string, string>>;
    }
);

export interface Note {
  tone: 'good' | 'bad' | 'plain';
  text: string;
}

/** A browser that is logging in. */
export interface Visitor {
  flows: Map<string, Flow>;
  startedMs: number;
}

export interface BrowserSession extends Visitor {
  /** In every form; another site can not know it. */
  csrf: string;
  principal: Reader;
  lastMs: number;
  notes: Note[];
  /** Open event streams. */
  streams: Set<() => void>;
}

export interface BrowserSessions {
  /** The session of a cookie's value, if it is in force. `touch`: it counts as used by that. */
  find(id: string | undefined, touch: boolean): BrowserSession | undefined;
  visitor(id: string | undefined): Visitor | undefined;
  /** A new visitor and the cookie's value. */
  welcome(): { id: string; visitor: Visitor };
  /** A new session and the cookie's value; what the old id stood for is gone. */
  begin(oldId: string | undefined, principal: Reader): { id: string; session: BrowserSession };
  end(id: string | undefined): void;
  readonly size: number;
  stop(): void;
}

export function addFlow(holder: Visitor, state: string, flow: Flow): void {
  for (const [known, { startedMs }] of holder.flows) {
    if (holder.flows.size >= MOST_FLOWS || flow.startedMs - startedMs > FLOW_MS) holder.flows.delete(known);
  }
  holder.flows.set(state, flow);
}

/** The flow, which is gone by that: an answer is taken once. */
export function takeFlow(holder: Visitor | undefined, state: string, nowMs: number): Flow | undefined {
  const flow = holder?.flows.get(state);
  holder?.flows.delete(state);
  return flow !== undefined && nowMs - flow.startedMs <= FLOW_MS ? flow : undefined;
}

export function addNote(session: BrowserSession, note: Note): void {
  session.notes.push(note);
  session.notes.splice(0, session.notes.length - MOST_NOTES);
}

const keyOf = (id: string): string => createHash('sha256').update(id).digest('base64url');

export function createBrowserSessions(clock: Clock, random: Random): BrowserSessions {
  const sessions = new Map<string, BrowserSession>();
  const visitors = new Map<string, Visitor>();
  const newId = (): string => random.bytes(32).toString('base64url');
  const inForce = (session: BrowserSession, nowMs: number): boolean =>
    nowMs - session.lastMs <= IDLE_MS && nowMs - session.startedMs <= LONGEST_MS;
  const drop = (key: string): void => {
    const session = sessions.get(key);
    sessions.delete(key);
    for (const close of session?.streams ?? []) close();
  };
  const sweep = (): void => {
    const now = clock.now();
    for (const [key, session] of sessions) if (!inForce(session, now)) drop(key);
    for (const [key, { startedMs }] of visitors) if (now - startedMs > FLOW_MS) visitors.delete(key);
  };
  let cancel: () => void = () => undefined;
  const later = (): void => {
    cancel = clock.after(30_000, () => {
      sweep();
      later();
    });
  };
  later();
  const oldest = <T>(map: Map<string, T>, most: number, remove: (key: string) => void): void => {
    // Maps keep their order, and what is used goes to the end of it.
    for (const key of map.keys()) {
      if (map.size < most) return;
      remove(key);
    }
  };
  return {
    find(id, touch) {
      if (id === undefined) return undefined;
      const key = keyOf(id);
      const session = sessions.get(key);
      if (session === undefined) return undefined;
      const now = clock.now();
      if (!inForce(session, now)) {
        drop(key);
        return undefined;
      }
      if (!touch) return session;
      session.lastMs = now;
      sessions.delete(key);
      sessions.set(key, session);
      return session;
    },
    visitor(id) {
      const found = id === undefined ? undefined : visitors.get(keyOf(id));
      return found !== undefined && clock.now() - found.startedMs <= FLOW_MS ? found : undefined;
    },
    welcome() {
      oldest(visitors, MOST_VISITORS, (key) => visitors.delete(key));
      const id = newId();
      const visitor: Visitor = { flows: new Map(), startedMs: clock.now() };
      visitors.set(keyOf(id), visitor);
      return { id, visitor };
    },
    begin(oldId, principal) {
      if (oldId !== undefined) {
        visitors.delete(keyOf(oldId));
        drop(keyOf(oldId));
      }
      oldest(sessions, MOST_SESSIONS, drop);
      const id = newId();
      const now = clock.now();
      const session: BrowserSession = {
        flows: new Map(),
        startedMs: now,
        lastMs: now,
        csrf: newId(),
        principal,
        notes: [],
        streams: new Set(),
      };
      sessions.set(keyOf(id), session);
      return { id, session };
    },
    end(id) {
      if (id !== undefined) drop(keyOf(id));
    },
    get size() {
      return sessions.size;
    },
    stop() {
      cancel();
      for (const key of Array.from(sessions.keys())) drop(key);
      visitors.clear();
    },
  };
}
