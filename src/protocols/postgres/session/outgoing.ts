// What one turn of the client's messages has become, on its way to the server: held back until its records are written,
// then sent with one write. If the records can not be written, every command of it is refused instead, in place.
import type { EntryKind } from '../ledger.ts';
import type { Item } from './types.ts';

export interface Outgoing {
  buffer: Buffer;
  start: number;
  end: number;
  /** The ledger's entry; undefined: no reply is due. */
  expect: EntryKind | undefined;
  item: Item | undefined;
  /** How it is to be refused when its record could not be written. */
  refuseAs: 'Query' | 'Extended' | 'Pass' | 'Sync' | 'CopyEnd';
}

export interface Batch {
  messages: Outgoing[];
  /** At least one record was appended for it. */
  recorded: boolean;
  /** The client is leaving: nothing comes after. */
  last: boolean;
  receivedMs: number;
}

export function newBatch(receivedMs: number): Batch {
  return { messages: [], recorded: false, last: false, receivedMs };
}
