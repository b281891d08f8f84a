// Holds back the judgement of what comes behind a statement that may change how text is read or what names mean, until
// that statement has run.
import type { Wait } from './comeback.ts';
import type { Core } from './core.ts';
import type { PassedVerdict } from './types.ts';

export class Barrier {
  readonly #core: Core;
  #up = false;
  #refreshCatalog = false;

  constructor(core: Core) {
    this.#core = core;
  }

  get up(): boolean {
    return this.#up;
  }

  raise(verdict: PassedVerdict): void {
    if (verdict.barrier) this.#up = true;
    if (verdict.defines && verdict.masking !== undefined) this.#refreshCatalog = true;
  }

  /** `answered`: nothing that was sent is without its answer. True: nothing is held back any more. */
  lower(answered: boolean): boolean {
    if (!answered) return false;
    this.#up = false;
    if (this.#refreshCatalog) this.#core.catalog().invalidate();
    this.#refreshCatalog = false;
    return true;
  }

  /** Until the server has answered everything. */
  wait(): Wait {
    return new Promise((resolve) => {
      this.#core.onIdle = () => resolve({ kind: 'Again' });
    });
  }
}
