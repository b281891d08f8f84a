// What sessions share, and what one is made from. Types only.
import type { Socket } from 'node:net';
import type { CancelRegistry, ConnectionKeys, Protocol, ServerTls } from '../protocols/protocol.ts';
import type { ConnectionBundle } from './bundle-store.ts';
import type { GatewayConnection, GatewayOptions } from './gateway.ts';
import type { HoldDesk } from './holds.ts';
import type { FailureLimiter, KeyedCount, ProcessLimits } from './limits.ts';
import type { GatewayMetrics } from './observer.ts';
import type { UsedTickets } from './used-tickets.ts';

/** What all sessions of one gateway share. */
export interface SessionWorld {
  options: GatewayOptions;
  limits: ProcessLimits;
  metrics: GatewayMetrics;
  holds: HoldDesk;
  cancels: CancelRegistry;
  failures: FailureLimiter;
  sessionCounts: KeyedCount;
  usedTickets: UsedTickets;
  prefix: string;
  /** Aborts when the process must stop at once. */
  signal: AbortSignal;
  draining(): boolean;
}

export interface SessionSeed {
  id: string;
  socket: Socket;
  client: { address: string; port: number };
  connection: GatewayConnection;
  protocol: Protocol;
  bundle: ConnectionBundle;
  tls: ServerTls | undefined;
  keys: ConnectionKeys | undefined;
  /** Called when the handshake is over, one way or another. */
  onHandshakeOver(): void;
  /** Called once, when nothing of the session is left. */
  onGone(): void;
}
