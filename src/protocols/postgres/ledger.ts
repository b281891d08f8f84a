// The ledger of expected replies: which message of ours (or the client's) the server's next message answers.
//
// Pure. Follows "Frontend/Backend Protocol": Query is answered until ReadyForQuery; Parse, Bind, Describe, Execute and
// Close by one reply each; Sync by ReadyForQuery. An error at an extended entry makes the server skip to the next
// Sync, whatever stands between (postgres.c, ignore_till_sync). Errors may also come between a Sync and its
// ReadyForQuery (deferred constraints). Anything that does not fit is `Unexpected`, and the session must end: a reply
// attributed to the wrong command would be masked by the wrong plan.
import { BACKEND } from './wire/messages.ts';

export type EntryKind =
  | 'Query'
  | 'Parse'
  | 'Bind'
  | 'DescribeStatement'
  | 'DescribePortal'
  | 'Execute'
  | 'Close'
  | 'Sync';

export interface Entry<T> {
  kind: EntryKind;
  /** What the caller wants back with the reply. */
  value: T;
  /** Query or Execute: the end of its COPY data was sent. Sync: it was sent behind such an end. */
  copyEnded: boolean;
}

export type Attribution<T> =
  /** Answers `entry`, which stays in front or (`done`) is over. `dropped`: entries the server skips because of it. */
  | { kind: 'Reply'; entry: Entry<T>; done: boolean; dropped: readonly Entry<T>[] }
  /** An error that answers nothing: the server ends the session on its own account. */
  | { kind: 'Unasked' }
  | { kind: 'Unexpected' };

const NONE: readonly never[] = [];
const UNEXPECTED = { kind: 'Unexpected' } as const;
const UNASKED = { kind: 'Unasked' } as const;

export class Ledger<T> {
  #entries: (Entry<T> | undefined)[] = [];
  #head = 0;
  #skipping = false;
  #copyIn = false;
  #copies = 0;
  /** The newest Query or Execute has had the end of its COPY data. */
  #copyEnded = false;
  #described = false;

  /** Replies still to come. */
  get length(): number {
    return this.#entries.length - this.#head;
  }

  get idle(): boolean {
    return this.length === 0;
  }

  /** The server failed at an extended message and skips everything up to a Sync that was not sent yet. */
  get skipping(): boolean {
    return this.#skipping;
  }

  /** Whether the server reads COPY data now and was not sent the end of it. */
  get copyIn(): boolean {
    return this.#copyIn;
  }

  /** How many times the server asked for COPY data. */
  get copies(): number {
    return this.#copies;
  }

  /** CopyDone or CopyFail is being sent. */
  noteCopyEnd(): void {
    this.#copyIn = false;
    for (let at = this.#entries.length - 1; at >= this.#head; at -= 1) {
      const entry = this.#entries[at]!;
      if (entry.kind === 'Query' || entry.kind === 'Execute') {
        entry.copyEnded = true;
        this.#copyEnded = true;
        return;
      }
    }
  }

  get head(): Entry<T> | undefined {
    return this.#entries[this.#head];
  }

  /** Notes a message that is being sent. False: the server will skip it, no reply comes. */
  push(kind: EntryKind, value: T): boolean {
    if (this.#skipping) {
      if (kind !== 'Sync') return false;
      this.#skipping = false;
    }
    if (kind === 'Query' || kind === 'Execute') this.#copyEnded = false;
    this.#entries.push({ kind, value, copyEnded: kind === 'Sync' && this.#copyEnded });
    return true;
  }

  /** Attributes one message of the server. Asynchronous ones (notice, notification, parameter status) are not for here. */
  reply(type: number): Attribution<T> {
    const entry = this.#entries[this.#head];
    if (entry === undefined) return type === BACKEND.ErrorResponse ? UNASKED : UNEXPECTED;
    const kind = entry.kind;
    switch (type) {
      case BACKEND.DataRow:
        return kind === 'Query' || kind === 'Execute' ? part(entry) : UNEXPECTED;
      case BACKEND.ReadyForQuery:
        this.#copyIn = false;
        return kind === 'Query' || kind === 'Sync' ? this.#done(entry) : UNEXPECTED;
      case BACKEND.ErrorResponse:
        return this.#error(entry);
      case BACKEND.CommandComplete:
      case BACKEND.EmptyQueryResponse:
        this.#copyIn = false;
        return kind === 'Query' ? part(entry) : kind === 'Execute' ? this.#done(entry) : UNEXPECTED;
      case BACKEND.PortalSuspended:
        return kind === 'Execute' ? this.#done(entry) : UNEXPECTED;
      case BACKEND.ParseComplete:
        return kind === 'Parse' ? this.#done(entry) : UNEXPECTED;
      case BACKEND.BindComplete:
        return kind === 'Bind' ? this.#done(entry) : UNEXPECTED;
      case BACKEND.CloseComplete:
        return kind === 'Close' ? this.#done(entry) : UNEXPECTED;
      case BACKEND.ParameterDescription:
        if (kind !== 'DescribeStatement' || this.#described) return UNEXPECTED;
        this.#described = true;
        return part(entry);
      case BACKEND.RowDescription:
        if (kind === 'Query') return part(entry);
        return this.#descriptionEnd(entry);
      case BACKEND.NoData:
        return this.#descriptionEnd(entry);
      case BACKEND.CopyInResponse:
        if (kind !== 'Query' && kind !== 'Execute') return UNEXPECTED;
        this.#copies += 1;
        this.#copyIn = !entry.copyEnded;
        this.#swallowSyncs();
        return part(entry);
      case BACKEND.CopyOutResponse:
      case BACKEND.CopyData:
      case BACKEND.CopyDone:
        return kind === 'Query' || kind === 'Execute' ? part(entry) : UNEXPECTED;
      default:
        return UNEXPECTED;
    }
  }

  /** Takes out everything, for a session that ends. */
  clear(): Entry<T>[] {
    const rest = this.#entries.slice(this.#head).filter((entry) => entry !== undefined);
    this.#entries = [];
    this.#head = 0;
    return rest;
  }

  #descriptionEnd(entry: Entry<T>): Attribution<T> {
    if (entry.kind === 'DescribePortal') return this.#done(entry);
    if (entry.kind !== 'DescribeStatement' || !this.#described) return UNEXPECTED;
    return this.#done(entry);
  }

  #error(entry: Entry<T>): Attribution<T> {
    this.#copyIn = false;
    this.#described = false;
    if (entry.kind === 'Query' || entry.kind === 'Sync') return part(entry);
    const dropped: Entry<T>[] = [];
    this.#shift();
    for (;;) {
      const next = this.#entries[this.#head];
      if (next === undefined) {
        this.#skipping = true;
        break;
      }
      if (next.kind === 'Sync') break;
      dropped.push(next);
      this.#shift();
    }
    return { kind: 'Reply', entry, done: true, dropped };
  }

  // A server that reads COPY data ignores Sync (copyfromparse.c): those sent between the COPY and its end get no answer.
  #swallowSyncs(): void {
    let at = this.#head + 1;
    while (at < this.#entries.length && this.#entries[at]!.kind === 'Sync' && !this.#entries[at]!.copyEnded) at += 1;
    this.#entries.splice(this.#head + 1, at - this.#head - 1);
  }

  #done(entry: Entry<T>): Attribution<T> {
    this.#described = false;
    this.#shift();
    return { kind: 'Reply', entry, done: true, dropped: NONE };
  }

  #shift(): void {
    this.#entries[this.#head] = undefined;
    this.#head += 1;
    if (this.#head === this.#entries.length) {
      this.#entries.length = 0;
      this.#head = 0;
    } else if (this.#head > 1024) {
      this.#entries.splice(0, this.#head);
      this.#head = 0;
    }
  }
}

function part<T>(entry: Entry<T>): Attribution<T> {
  return { kind: 'Reply', entry, done: false, dropped: NONE };
}
