// The local API: HTTP and JSON over a unix socket in the state folder. One person's machine: who may open the socket may
// say who they are, so it is for trying Sallyport out, not for guarding anybody.

import type { Resource } from '../../api/resource.ts';
import type { Principal } from '../../policy/principal.ts';
import type { NewObject, StoreResult } from '../../store/resource-store.ts';

export const SOCKET_NAME = 'api.sock';
/** Longest path the kernel takes for a unix socket (sun_path), bytes without its end. */
export const LONGEST_SOCKET_PATH = 107;

export interface LocalInfo {
  version: string;
  pid: number;
  directory: string;
  startedAt: string;
}

export interface EligibilityQuery {
  actor: Principal;
  namespace: string;
  connection: string;
  account?: string;
  policy?: string;
  durationMs?: number;
  breakGlass?: boolean;
}
export type EligibilityAnswer =
  | {
      kind: 'Eligible';
      policy: string;
      account: string;
      access: 'Grant' | 'Standing';
      durationMs: number;
      maxDurationMs: number;
      warnings: readonly string[];
      ticketUntilExpiry: boolean;
    }
  | { kind: 'NotEligible'; message: string; hint: string }
  | { kind: 'NotFound'; message: string };

export interface CreateRequest {
  actor: Principal;
  object: NewObject;
}
export type CreateAnswer = StoreResult<Resource> | { kind: 'NotEligible'; message: string; hint: string };

export interface FileProblemView {
  file: string;
  line?: number;
  column?: number;
  field?: string;
  severity: 'error' | 'warning';
  message: string;
  hint?: string;
}

/** That somebody read records. */
export interface ReadNote {
  act: string;
  object: { kind: string; name: string };
  details?: Readonly<Record<string, unknown>>;
}
