// What the parts of verifying share: the folder under proof, what was found, and how far each session was followed.
import type { Mark } from './log/mark.ts';
import type { StoreView } from './store-view.ts';
import type { Finding, VerifyReport } from './verify.ts';

/** How far the heads follow one session. */
export interface StreamState {
  index: number;
  hash: string;
  last: number;
  final: boolean;
}

export interface Verification {
  view: StoreView;
  /** The mark of the live log; `problem`: there is one and it is not good. */
  marked: { mark: Mark | undefined; problem?: string };
  find(finding: Finding): void;
  notes: string[];
  checked: VerifyReport['checked'];
  streams: Map<string, StreamState>;
  /** Paths of segments that no head has named so far. */
  unlisted: Set<string>;
  /** Last record of each session in the live log. */
  ended: Map<string, { seq: number }>;
}

/** What the heads say in the end. */
export interface WalkedHeads {
  head: VerifyReport['head'];
  /** Whether a gateway began and did not close its records; undefined: no head says anything. */
  open: boolean | undefined;
}
