// How a client's message that had to wait comes back to be handled. Types and small readings of them.
import type { Refusal } from '../errors.ts';
import type { Held } from './hold.ts';

/** How a message that had to wait comes back. */
export type Comeback =
  | { kind: 'Again' }
  | { kind: 'Refused'; refusal: Refusal; hold?: string }
  | { kind: 'Released'; held: Held };
/** Never rejects. */
export type Wait = Promise<Comeback>;

export function waitFor(until: Promise<Refusal | undefined>, before?: Comeback): Wait {
  return until.then(
    (refusal): Comeback => (refusal === undefined ? (before ?? { kind: 'Again' }) : { kind: 'Refused', refusal }),
  );
}

export function heldName(comeback: Comeback | undefined): string | undefined {
  return comeback?.kind === 'Released' ? comeback.held.name : undefined;
}

export function releasedHold(
  comeback: Comeback | undefined,
): { name: string; approvedBy: readonly string[] } | undefined {
  return comeback?.kind === 'Released' ? { name: comeback.held.name, approvedBy: comeback.held.by } : undefined;
}
