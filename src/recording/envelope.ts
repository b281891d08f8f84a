// The record envelope. Every event of every protocol has this shape; unknown kinds still verify.
// Protocol facts live only under `body.facts[protocol]`.

export const RECORD_VERSION = 1;

/** Kinds written today. Readers must accept others. */
export type RecordKind =
  | 'start' // session began: who, grant, connection, client
  | 'command' // before forwarding: text (masked), facts, decision
  | 'result' // tag, rows, bytes, error, masked rows up to a limit
  | 'output' // bytes of a channel, before they pass
  | 'resize' // of a terminal
  | 'notice'
  | 'hold' // opened and how it ended
  | 'end' // why the session ended
  | 'control'; // an act of the control plane: request, approval, policy change, read of records

export interface RecordEnvelope<Body = unknown> {
  v: typeof RECORD_VERSION;
  /** Session id; `control` for the control plane's own acts. */
  stream: string;
  /** From 0, without gaps, per stream. */
  seq: number;
  /** RFC 3339 UTC with milliseconds. */
  ts: string;
  kind: RecordKind | (string & {});
  channel?: number;
  body: Body;
}

export interface StartBody {
  protocol: string;
  connection: { uid: string; name: string; namespace: string };
  grant: { name: string; uid: string; policy: string };
  principal: { username: string; uid?: string; groups: readonly string[] };
  /**
   * What let it in; absent: a ticket by the grant's key. An identity provider's token; a certificate of an authority of its
   * (`use: Certificate`); the grant's key itself (`use: Key`, without a provider).
   */
  login?: {
    provider?: string;
    use: string;
    issuedAt: string;
    jti?: string;
    /** Of a certificate: what its authority calls it, and the authority's fingerprint. */
    keyId?: string;
    serial?: string;
    authority?: string;
  };
  account: string;
  client: { address: string; application?: string };
  policyGeneration: number;
}

export interface CommandBody {
  /** Pairs it with its result. */
  id: number;
  verb: string;
  /** Masked. */
  text: string;
  /** Masked, positional; null is SQL NULL. */
  parameters?: readonly (string | null)[];
  effects: readonly { action: string; object: readonly string[] }[];
  decision: 'Allow' | 'Deny' | 'Hold';
  code?: string;
  /** Denial id, `d-51c0`; what `why` looks up. */
  denial?: string;
  by?: readonly { policy: string; rule: string }[];
  warnings?: readonly { policy: string; rule: string }[];
  message?: string;
  /** Name of the hold that let it pass or stopped it. */
  hold?: string;
  approvedBy?: readonly string[];
  /** `facts.postgresql` and so on. */
  facts: Readonly<Record<string, unknown>>;
}

export interface ResultBody {
  /** The CommandBody's id. */
  id: number;
  /** Command tag as the target said it. */
  tag?: string;
  rows?: number;
  /** Bytes of result sent to the client. */
  bytes?: number;
  /** Masked values replaced in this result. */
  masked?: number;
  error?: { code: string; message: string };
  columns?: readonly string[];
  /** Masked rows up to the Connection's limit, text form; null is NULL. */
  sample?: readonly (readonly (string | null)[])[];
  durationMs?: number;
  /** What only the answer told, e.g. which columns the rows came from: `facts.postgresql.origins`. */
  facts?: Readonly<Record<string, unknown>>;
}

/**
 * Bytes of one stream of a channel. What is stored of a stream is as long as what passed, each masked value starred out in
 * its place, but may come later: the end of what passed is withheld while it may be part of a value. So the bytes of a
 * stream's records in their order, and the numbers of those that passed, count the same positions.
 */
export interface OutputBody {
  /** The CommandBody's id they belong to. */
  id: number;
  stream: 'terminal' | 'stdin' | 'stdout' | 'stderr';
  /** Masked; UTF-8 where the bytes are, else `base64` is there instead. Absent both: only a number is kept. */
  text?: string;
  base64?: string;
  /** How many bytes passed with this record; of these and earlier ones `text` is what was decided meanwhile. */
  bytes: number;
  /** Values that were masked in `text`. */
  masked?: number;
  /** The gateway said it itself: whole, and at no position of the target's stream. */
  own?: true;
}

export interface ResizeBody {
  id: number;
  columns: number;
  rows: number;
}

export interface HoldBody {
  hold: string;
  event: 'Opened' | 'Approved' | 'Denied' | 'TimedOut' | 'Withdrawn' | 'GrantEnded' | 'ClientGone';
  by?: readonly string[];
  reason?: string;
  commandHash: string;
}

export interface EndBody {
  reason: string;
  message?: string;
  /** What still ran at the target although it was to end. */
  survivors?: readonly string[];
}

export interface ControlBody {
  act: string;
  actor: { username: string; uid?: string };
  object?: { kind: string; namespace?: string; name: string; uid?: string };
  details?: Readonly<Record<string, unknown>>;
}
