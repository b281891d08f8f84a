// COPY FROM STDIN as the client's side sees it: the server reads data until the client has sent its end, and swallows
// every Sync before that.
import type { Ledger } from '../ledger.ts';
import type { Item } from './types.ts';

export class ClientCopy {
  readonly #ledger: Ledger<Item>;
  /** The server has swallowed a Sync of the client's. */
  #syncOwed = false;
  /** Which COPY of the session was last sent its end. */
  #ended = 0;

  constructor(ledger: Ledger<Item>) {
    this.#ledger = ledger;
  }

  /** The server reads COPY data, and its end is not on the way. */
  get runs(): boolean {
    return this.#ledger.copyIn && this.#ledger.copies !== this.#ended;
  }

  swallowSync(): void {
    this.#syncOwed = true;
  }

  /** CopyDone or CopyFail is on its way. */
  end(): void {
    this.#syncOwed = false;
    this.#ended = this.#ledger.copies;
  }

  /** An error ended it. True: a Sync had been swallowed, and the server waits for one. */
  failed(): boolean {
    const owed = this.#syncOwed;
    this.#syncOwed = false;
    return owed;
  }
}
