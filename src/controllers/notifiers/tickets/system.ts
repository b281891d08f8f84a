// What policies ask of a ticket system. A reading is what the system said just now about exactly the ticket that was
// named; whatever else happened is Unknown, which is no.
import type { Medium } from '../media/medium.ts';

/** Whoever approved the ticket, by every name the system has for them. */
export interface TicketApprover {
  account: string;
  names: readonly string[];
}

export type TicketReading =
  | {
      kind: 'Read';
      /** Id of the state; names can be changed and translated. */
      state: string;
      stateName: string;
      /** Account id of whom it is assigned to. */
      assignee?: string;
      /** Empty: nobody has approved it, or the system does not say. */
      approvedBy: readonly TicketApprover[];
    }
  /** No such ticket, or none that the credential may see. */
  | { kind: 'Absent' }
  | { kind: 'Unknown'; reason: string; retryAfterMs?: number };

export interface TicketSystem extends Medium {
  /** `approvals`: whether who approved it is asked as well. */
  read(ticket: string, approvals: boolean, signal: AbortSignal): Promise<TicketReading>;
}

/** Letters, digits and marks that mean nothing in a path, a query or a filter. */
export const isTicketKey = (text: string): boolean => /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/.test(text);
