// What of a notifier's messages has been dealt with, in a form that fits its status. Pure. `done` holds those of late by
// short id; what happened before `since` counts as dealt with and is forgotten. Guarantees: bounded; `since` never passes
// a message that is still to be sent, nor comes within MARGIN_MS of now while there is room, so that what is heard of late
// (a session told by a slow proxy, another replica's clock) is not taken for done.
import type { NotifierStatus } from '../../api/notifier.ts';
import type { Message } from './message.ts';

export interface Ledger {
  sinceMs: number;
  /** Short id to when it happened, ms. */
  done: Map<string, number>;
}

/** Entries above which the oldest are forgotten. */
export const MOST_DONE = 512;
const MARGIN_MS = 15 * 60_000;

/** Enough of a message's id to tell it from all others of its notifier: 96 bits. */
export const shortId = (id: string): string => id.slice(4, 20);

export function readLedger(status: NotifierStatus | undefined, bornMs: number): Ledger {
  const { outbox } = status ?? {};
  const sinceMs = Date.parse(outbox?.since ?? '');
  return {
    sinceMs: Number.isNaN(sinceMs) ? bornMs : Math.max(sinceMs, bornMs),
    done: new Map(Object.entries(outbox?.done ?? {})),
  };
}

export const isDone = (ledger: Ledger, id: string, atMs: number): boolean =>
  atMs < ledger.sinceMs || ledger.done.has(shortId(id));

export const markDone = (ledger: Ledger, { id, at }: Pick<Message, 'id' | 'at'>): void =>
  void ledger.done.set(shortId(id), Date.parse(at));

/** `oldestWaitingMs`: when the oldest message happened that is still to be sent. */
export function compact(ledger: Ledger, oldestWaitingMs: number | undefined, nowMs: number): void {
  if (ledger.done.size <= MOST_DONE) return;
  const entries = [...ledger.done].sort(([, a], [, b]) => a - b);
  const margin = nowMs - MARGIN_MS;
  const limit = Math.min(oldestWaitingMs ?? Infinity, entries.length > 2 * MOST_DONE ? Infinity : margin);
  for (const [id, atMs] of entries) {
    if (ledger.done.size <= MOST_DONE / 2) break;
    if (atMs >= limit) break;
    ledger.done.delete(id);
    // What happened in the same millisecond is done or forgotten together.
    ledger.sinceMs = Math.max(ledger.sinceMs, atMs + 1);
  }
  for (const [id, atMs] of ledger.done) if (atMs < ledger.sinceMs) ledger.done.delete(id);
}

export function writeLedger(ledger: Ledger): NonNullable<NotifierStatus['outbox']> {
  return { since: new Date(ledger.sinceMs).toISOString(), done: Object.fromEntries(ledger.done) };
}
