// What every part of one client's connection works with.

import type { Clock } from '../../../system/clock.ts';
import type { AuthenticatedSession, SessionContext } from '../../protocol.ts';
import type { SshCommand } from '../facts.ts';
import type { AskTarget } from '../files/lookup.ts';
import type { NameLock } from '../files/name-lock.ts';
import type { LoginRights } from '../keys/certificate.ts';
import type { ChannelFilter, FilterHost } from './filter.ts';

export interface Services {
  /** How hints begin: `sallyport` (default) or `kubectl access`. */
  prefix: string;
  /** What judges the operations inside this command's channel; undefined: its bytes pass as they are. */
  filterFor(command: SshCommand, host: FilterHost, options: FilterOptions): ChannelFilter | undefined;
  /** Whether such a filter would stand there; asked before the command is judged. */
  transferOf(line: Buffer): 'sftp' | 'scp' | 'rsync' | undefined;
}

export interface FilterOptions {
  clock: Clock;
  /** One for all channels of a connection. */
  names: NameLock;
  /** The target's identification, `SSH-2.0-OpenSSH_9.2p1`. */
  targetVersion?: string;
  /** Where paths lead there. */
  askTarget: AskTarget;
}

export interface Core {
  readonly context: SessionContext;
  readonly session: AuthenticatedSession;
  readonly services: Services;
  /** The target's user. */
  readonly user: string;
  /** What the client's certificate permits; all of it for keys and tickets. */
  readonly rights: LoginRights;
  nextCommandId(): number;
  /** Nothing is judged, sent or told any more but last words. */
  readonly ending: boolean;
  /** Messages wait for their records in great number: nothing more is read until they are fewer. */
  recordsBehind(behind: boolean): void;
  /** A peer broke the protocol, or records can not be written: ends the connection. */
  fail(reason: FailReason, text: string): void;
}

export type FailReason = 'ClientFault' | 'TargetFault' | 'RecordsUnwritable' | 'Internal';
