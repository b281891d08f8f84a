// What the gateway tells those who watch it. Telemetry implements both; nothing here carries a secret or a statement.
import type { Decision, DenialCode } from '../policy/decision.ts';
import type { Authentication, Cut } from '../protocols/protocol.ts';

export type LogLine = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields?: Readonly<Record<string, unknown>>,
) => void;

export type AuthFailureCode = Extract<Authentication, { kind: 'Refused' }>['code'];

/** Counters and gauges; `connection` is `namespace/name`. All must be cheap and never throw. */
export interface GatewayMetrics {
  sessionStarted(connection: string): void;
  sessionEnded(connection: string, reason: Cut['code'] | 'Closed'): void;
  decision(kind: Decision['kind'], code?: DenialCode): void;
  masked(values: number): void;
  /** What the gateway added to one command, milliseconds. */
  latency(milliseconds: number): void;
  holdOpened(): void;
  holdClosed(outcome: string): void;
  authFailure(code: AuthFailureCode): void;
  /** A live session proved again who uses it, did not, or was cut by what its proof said. */
  renewal(outcome: 'Renewed' | 'Refused' | 'Cut'): void;
  /** A socket that was closed before any byte of it was read. */
  socketRefused(reason: 'HalfOpen' | 'HalfOpenPerAddress' | 'Displaced' | 'Sockets' | 'Draining' | 'NoKeys'): void;
  badShard(reason: string): void;
  /** Policy generation in force and when the last heartbeat came, as wall time. */
  bundle(connection: string, generation: number, heartbeatAtMs: number | undefined): void;
  connectionGone(connection: string): void;
}

const nothing = (): void => {};
/** For those who do not watch. */
export const NO_METRICS: GatewayMetrics = {
  sessionStarted: nothing,
  sessionEnded: nothing,
  decision: nothing,
  masked: nothing,
  latency: nothing,
  holdOpened: nothing,
  holdClosed: nothing,
  authFailure: nothing,
  renewal: nothing,
  socketRefused: nothing,
  badShard: nothing,
  bundle: nothing,
  connectionGone: nothing,
};
