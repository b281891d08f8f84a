// The portal's JSON API for jobs that have no kubeconfig: a workload token asks for a grant, and looks at it.
//
// Every call carries `Authorization: Bearer TOKEN`, a token that the IdentityProvider declares for Workload. Bodies are
// JSON, at most 256 KiB either way. A token makes one grant; to look at it any token of the same workload (its uid) is
// good, so that a job may wait longer than its token lasts.
//
//   POST /v1/requests                            PipelineRequest -> 201 RequestView
//   GET  /v1/requests?namespace=NS&connection=C  -> 200 {items: RequestView[]}: the workload's own, Pending or Active,
//                                                newest first, at most 20; a job that is run again finds what was approved
//   GET  /v1/requests/{namespace}/{name}         -> 200 RequestView; of somebody else's, or of none: 404
//   POST /v1/requests/{namespace}/{name}/withdraw {} -> 200 RequestView
//
// What no policy gives the workload is not left to wait: the request is withdrawn at once and the answer is 403.
// Refusals: 400 the body, 401 no good token, 403 no policy lets it, 404, 409 the token has made its grant, 413, 429 and
// 503 with Retry-After; the body is ApiProblem. Nothing of a token is ever in an answer. A 503 of code `UnknownKey` is for a
// token whose key is not known: its issuer is being asked for new ones, which takes seconds, a minute where it was asked a
// moment ago; nothing was done, and the same call may be made again.
import type { GrantPhase } from '../api/grant.ts';
import type { CommandHoldStatus } from '../api/hold.ts';

export const REQUESTS_PATH = '/v1/requests';
/** Largest body either way, bytes. */
export const API_BODY_BYTES = 256 * 1024;

export interface PipelineRequest {
  namespace: string;
  connection: string;
  account?: string;
  policy?: string;
  /** `30m`. */
  duration?: string;
  /** RFC 3339. */
  notBefore?: string;
  reason?: string;
  ticket?: string;
  /** Raw Ed25519 public key, base64url; its private half stays with the job and signs its tickets. */
  clientKey: string;
  /** Statements to be approved with the grant, as `AccessGrant.spec.commands` has them. */
  commands?: string[];
}

export interface RequestView {
  namespace: string;
  name: string;
  uid: string;
  phase: GrantPhase;
  message?: string;
  /** What the next step still needs; for people. */
  waitingFor?: string;
  deadline?: string;
  notBefore?: string;
  expiresAt?: string;
  account?: string;
  policy?: string;
  /** SHA-256 hex over the canonical JSON of `commands`, so that a job knows its own request again; absent: it has none. */
  commandsHash?: string;
  /** The page where people decide it. */
  link: string;
  /** Where the grant is good; without `endpoint` nothing listens yet. */
  connection: {
    uid: string;
    name: string;
    namespace: string;
    type: string;
    endpoint?: { host: string; port: number };
    /** PEM: what the endpoint's certificate is verified with. */
    caBundle?: string;
    database?: string;
  };
  /** Statements of the grant's sessions that were held, newest first, at most 20. */
  holds: HoldView[];
}

export interface RequestList {
  items: RequestView[];
}

export interface HoldView {
  name: string;
  phase: CommandHoldStatus['phase'];
  /** RFC 3339. */
  at: string;
  link: string;
}

export interface ApiProblem {
  error: { message: string; hint?: string; code?: ApiProblemCode };
}
export type ApiProblemCode = 'UnknownKey';
