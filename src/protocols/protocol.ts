// The one interface between the gateway and a protocol. The gateway owns who, whether and when; the protocol owns the
// wire. Shaped for many channels a session, not for one query at a time.
import type { Duplex } from 'node:stream';
import type { Connection, ConnectionSpec, ConnectionStatus } from '../api/connection.ts';
import type { Command } from '../policy/command.ts';
import type { Decision, DenialCode } from '../policy/decision.ts';
import type { ProtocolRules, SessionPolicy } from '../policy/session-policy.ts';
import type { SessionRecorder } from '../recording/recorder.ts';
import type { Clock } from '../system/clock.ts';
import type { Random } from '../system/random.ts';
import type { Credential } from './credential.ts';

/** What the world outside needs to know to reach a Connection. */
export interface Description {
  /** The protocol's own: of the Service where `exposure.port` says nothing, of the target where it names none. */
  ports: readonly { name: string; port: number }[];
  capabilities: readonly ('holds' | 'masking' | 'cancel' | 'channels')[];
  /** For people: the command that uses it, with `{name}` in place of the grant. */
  connectCommand: string;
}

/** The pure half: no I/O, no state. Handed to controllers and policy. */
export interface ProtocolDefinition {
  /** Registry name: `postgresql`. */
  name: string;
  /** `Connection.spec.type`. */
  type: ConnectionSpec['type'] | (string & {});
  rules: ProtocolRules;
  describe(connection: Connection): Description;
  /** Proofs that one connection may try before it is authenticated. Default 1. */
  proofs?: number;
  /** From accept to authentication, milliseconds, where people may be asked for something meanwhile. Default: the process's. */
  handshakeMs?: number;
  /** Its listeners have keys of their own: `SessionContext.keys` is there. */
  ownKeys?: OwnKeys;
  /** Hash of a statement as this account sends it without parameters to the default database (`HoldRequest.commandHash`). */
  commandHash?(connection: Connection, account: string, text: string): string;
}

export interface Protocol extends ProtocolDefinition {
  /**
   * Serves one client until it or its session ends. Never rejects: whatever a client or target does costs that
   * client its connection, with the protocol's native error where there is one.
   */
  accept(socket: Duplex, context: SessionContext): Promise<void>;
  /** Logs in once and leaves, for health and conditions. */
  probe(target: ProbeTarget): Promise<ProbeResult>;
}

export interface ProbeTarget {
  connection: { uid: string; name: string; namespace: string; spec: ConnectionSpec };
  account: string;
  credential: Credential;
  keys: ConnectionKeys | undefined;
  dial: Dial;
  signal: AbortSignal;
}
export type ProbeResult = { kind: 'Reachable'; version: string } | { kind: 'Failed'; reason: string; hint: string };

/** Opens a TCP connection that the dial guard approved of. Rejects with DialError. */
export type Dial = (target: { host: string; port: number }, signal: AbortSignal) => Promise<import('node:net').Socket>;

export class DialError extends Error {
  readonly code: 'Refused' | 'Unreachable' | 'Forbidden' | 'TimedOut';
  constructor(code: DialError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'DialError';
    this.code = code;
  }
}

/** TLS material of the listener; protocols that upgrade in-band (PostgreSQL) need it. */
export interface ServerTls {
  /** PEM; replaced live when it rotates, so read it at each handshake. */
  current(): { key: string; cert: string };
}

/**
 * What a client shows to prove who it is. `user` names no identity: it is the account, or `account+grant` where somebody
 * has several grants for it; a ticket names its grant itself.
 */
export type Proof =
  /** A ticket or a token: the gateway tells them apart by their header, and tries nothing else. */
  | {
      kind: 'Password';
      secret: string;
      user: string /** The ticket is used up by this: whoever sees it can not use it. */;
      once?: true;
    }
  /** A token that came by a way of its own (OAUTHBEARER). */
  | { kind: 'Token'; token: string; user: string }
  /** A key whose possession the protocol has verified itself, over something unique to this connection. Raw Ed25519, base64url. */
  | { kind: 'Key'; publicKey: string; user: string }
  /** The same of a certified key; everything of the certificate but who its authority is was verified. */
  | { kind: 'Certificate'; certificate: UserCertificate; user: string };

/** What a certificate authority says of a person (OpenSSH's PROTOCOL.certkeys). */
export interface UserCertificate {
  /** Wire form of the authority's public key, base64. */
  authority: string;
  keyId: string;
  serial: bigint;
  /** Never empty; compared whole. */
  principals: readonly string[];
  /** Milliseconds since 1970; Infinity: for ever. */
  validAfterMs: number;
  validBeforeMs: number;
}

/** What a client says it could prove. Looking it up proves nothing and changes nothing. */
export type Offer =
  | { kind: 'Key'; publicKey: string; user: string }
  | { kind: 'Certificate'; certificate: UserCertificate; user: string };

/** Keys of a Connection's listener where its protocol has keys of its own: the same over restarts, rollouts and replicas. */
export interface ConnectionKeys {
  /** 32 secret bytes of this Connection alone; a protocol derives its keys from it (HKDF, with labels of its own). */
  seed: Buffer;
  /** What the installation certified of them, in the protocol's own text form; read at each use, as they are renewed. */
  certificates(): readonly string[];
}

/** What is made of the seeds for others to see. Pure: the same seeds and names give the same keys. */
export interface OwnKeys {
  /** For the Connection's status: public halves alone. */
  publish(seeds: KeySeeds, names: readonly PublishedName[]): Pick<ConnectionStatus, 'ssh'>;
  /** Certificates of the installation's authority for the listener's keys; see `ConnectionKeys.certificates`. */
  certify(
    seeds: KeySeeds,
    names: readonly PublishedName[],
    given: { validAfterMs: number; validBeforeMs: number; random: Random },
  ): readonly string[];
}

/** 32 secret bytes each. */
export interface KeySeeds {
  connection: Buffer;
  installation: Buffer;
}

/** A name clients look keys up by; without a port: an alias, which is looked up as it stands. */
export interface PublishedName {
  host: string;
  port?: number;
}

/** Where a client may get a token, for mechanisms that tell it (RFC 7628). */
export interface TokenSource {
  /** `ISS/.well-known/openid-configuration`. */
  discovery: string;
  scope: string;
}

export type Authentication =
  | { kind: 'Granted'; session: AuthenticatedSession }
  /** `message` and `hint` may go to the client; the cause is logged by the gateway, never told. */
  | {
      kind: 'Refused';
      code: 'InvalidProof' | 'NotActive' | 'UnknownUser' | 'StepUp' | 'Locked' | 'LimitReached' | 'Unavailable';
      message: string;
      hint?: string;
    };

export interface Limits {
  handshakeMs: number;
  /** Proofs that one connection may try. */
  proofs: number;
  statementBytes: number;
  rowBytes: number;
  /** Bytes of a client that are kept while it waits (holds, slow targets). */
  clientBufferBytes: number;
  /** Rows recorded per command. */
  recordedRows: number;
  idleTimeoutMs?: number;
}

/** Everything of the gateway that one accepted socket may use. */
export interface SessionContext {
  /** Made at accept; `kill ID` works from now on. */
  readonly id: string;
  readonly connection: { uid: string; name: string; namespace: string; spec: ConnectionSpec };
  readonly client: { address: string; port: number };
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: Limits;
  readonly tls: ServerTls | undefined;
  /** undefined: the shell knows none, and the protocol needs none. */
  readonly keys: ConnectionKeys | undefined;
  /**
   * Looks up what proves this client; counts failures. After a refusal it may be called again, `limits.proofs` times a
   * handshake in all; after `Granted` never.
   */
  authenticate(proof: Proof): Promise<Authentication>;
  /**
   * Whether a proof of this might let somebody in, so that the client need not be asked for it in vain. Takes time only
   * where the user names a grant (`user+grant`) that may be on its way, once a connection.
   */
  recognises(offer: Offer): boolean | Promise<boolean>;
  /** undefined: no provider of tokens is known, or none that clients could use. */
  tokenSource(): TokenSource | undefined;
  /** For protocols whose cancel arrives on a connection of its own: process-wide, shared by all Connections. */
  readonly cancels: CancelRegistry;
  log(level: 'debug' | 'info' | 'warn' | 'error', message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** Aborts when the process must stop at once. */
  readonly signal: AbortSignal;
}

/** After authentication: decisions, holds, records and the cut. */
export interface AuthenticatedSession {
  readonly principal: { username: string };
  readonly grant: { name: string; uid: string; policy: string; expiresAtMs: number };
  readonly account: string;
  readonly record: SessionRecorder;
  /** The policy in force now. Cheap; compare `generation` before every command, suspended ones included. */
  policy(): SessionPolicy;
  /**
   * Whether a command may run at all now: grant in force, not locked, heartbeat fresh, records writable.
   * undefined: yes. Check before every command, and again when a hold is released.
   */
  gate(): Gate | undefined;
  /** Decides by policy alone. Pure, cached by nobody. */
  decide(command: Command): Decision;
  /** A new id for a denial, `d-51c0`, to be told and recorded. */
  denialId(): string;
  hold(request: HoldRequest): HoldHandle;
  credential(): Promise<Credential>;
  dial: Dial;
  /**
   * Calls back once, when the session must end now: freeze both directions, cancel what runs at the target, send the
   * protocol's native error, close. The listener answers when the target's side is gone, for metrics and the record.
   */
  onCut(listener: (cut: Cut) => void): void;
  /** Calls back with what the client is to be told between commands: that its session will end soon, and why. */
  onNotice(listener: (notice: { message: string; hint?: string }) => void): void;
  /** For metrics: nanoseconds the gateway held one command, without waiting for records' disk or for people. */
  observe: SessionMetrics;
  /**
   * Ends it: the socket is gone or going. Writes the `end` record. Idempotent. `survivors`: what still runs at the target
   * although it was to end, for people.
   */
  ended(reason: string, message?: string, survivors?: readonly string[]): void;
}

export interface SessionMetrics {
  decision(kind: Decision['kind'], code?: DenialCode): void;
  masked(values: number): void;
  latency(milliseconds: number): void;
}

export interface Gate {
  code: Extract<DenialCode, 'GrantEnded' | 'Locked' | 'ControllerSilent' | 'RecordsUnwritable' | 'PolicyNotAccepted'>;
  message: string;
  hint?: string;
}

export interface Cut {
  code:
    | 'Expired'
    | 'Revoked'
    | 'Killed'
    | 'Locked'
    | 'IdleTimeout'
    | 'MaxDuration'
    | 'Reauthenticate'
    | 'Shutdown'
    | 'PolicyChanged'
    | 'LimitReached';
  /** Ready for the client: `grant orders-db-7fk2p expired at 15:04:00Z`. */
  message: string;
  hint?: string;
}

export interface HoldRequest {
  channel?: number;
  command: Command;
  decision: Extract<Decision, { kind: 'Hold' }>;
  /** Masked text for approvers, and how many values it hides. */
  shown: { text: string; hiddenLiterals: number };
  /** SHA-256 hex over text, parameters, database, account. */
  commandHash: string;
  /** Upper bound from the protocol's side, e.g. below idle_in_transaction_session_timeout. */
  longestMs?: number;
}

export type HoldOutcome =
  | { kind: 'Approved'; by: readonly string[] }
  | { kind: 'Denied'; by: readonly string[]; reason?: string }
  | { kind: 'TimedOut' }
  | { kind: 'Withdrawn' }
  | { kind: 'Failed'; message: string };

export interface HoldHandle {
  /** `h-3b7`; known at once. */
  readonly name: string;
  readonly untilMs: number;
  /** An approval given earlier for the same command hash, not used yet: no wait. */
  readonly preapproved: boolean;
  /** Never rejects. After `Approved` the approval is used up. */
  readonly outcome: Promise<HoldOutcome>;
  /** The client gave up: by a cancel, or by leaving. */
  withdraw(event?: 'ClientGone'): void;
}

/** Cancel keys are the gateway's own; a cancel touches only the session that owns the key. */
export interface CancelRegistry {
  register(key: Buffer, cancel: () => void): () => void;
  /** True if a session owns the key. Constant time in the key. */
  cancel(key: Buffer): boolean;
}
