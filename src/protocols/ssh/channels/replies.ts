// Answers to requests in the order that they were asked in (RFC 4254, 4 and 5.4), whoever gives them and whenever.

/** More unanswered requests than this no client has. */
export const MOST_UNANSWERED = 64;

export interface Reply {
  /** Once; later calls change nothing. */
  settle(success: boolean, payload?: Buffer): void;
  readonly isSettled: boolean;
}

interface Entry {
  answer: { success: boolean; payload: Buffer | undefined } | undefined;
}

export class Replies {
  readonly #send: (success: boolean, payload: Buffer | undefined) => void;
  #waiting: Entry[] = [];

  constructor(send: (success: boolean, payload: Buffer | undefined) => void) {
    this.#send = send;
  }

  get unanswered(): number {
    return this.#waiting.length;
  }

  /** The next in turn. */
  open(): Reply {
    const entry: Entry = { answer: undefined };
    this.#waiting.push(entry);
    return {
      settle: (success, payload) => {
        if (entry.answer !== undefined) return;
        entry.answer = { success, payload };
        this.#flush();
      },
      get isSettled() {
        return entry.answer !== undefined;
      },
    };
  }

  #flush(): void {
    for (;;) {
      const answer = this.#waiting[0]?.answer;
      if (answer === undefined) return;
      this.#waiting.shift();
      this.#send(answer.success, answer.payload);
    }
  }
}
