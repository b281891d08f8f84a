// What stands in a channel whose bytes are judged one operation at a time: sftp, scp. The relay (relay.ts) owns windows,
// order and the ends; a filter owns meaning.
import type { Decision } from '../../../policy/decision.ts';
import type { HoldOutcome } from '../../protocol.ts';
import type { SshCommand } from '../facts.ts';

export interface ChannelFilter {
  /** Bytes as they came, in any pieces. They are the filter's to keep. */
  fromClient(data: Buffer): void;
  fromTarget(data: Buffer): void;
  clientEof(): void;
  targetEof(): void;
  /** Bytes of each side that it keeps: the relay grants no window while these are many. */
  readonly heldBytes: { client: number; target: number };
  /**
   * Whether it may yet look at something that it was given by that side: what it is done with is given back at once. Absent:
   * it does not say.
   */
  readonly needs?: { client: boolean; target: boolean };
  /** The channel is gone: settles every hold and hash. */
  closed(): void;
}

export interface FilterHost {
  readonly channel: number;
  /** The target's user. */
  readonly user: string;
  /** Takes whole buffers, in order. What was judged may go out only by `run`. */
  toTarget(data: Buffer): void;
  toClient(data: Buffer): void;
  /** EOF to the target, after what was queued: nothing of the client will follow. Its own ends (EOF, exit status, CLOSE) pass by the relay. */
  eofToTarget(): void;
  /** A line of ours on stderr, for people. */
  tell(line: string): void;
  /**
   * Decides, records (`command`, before `Run` is answered; masked), opens and waits for holds, decides again on release.
   * One at a time is not needed: answers may come in any order. `id` pairs it with `result`.
   */
  judge(command: SshCommand): Promise<Verdict>;
  result(
    id: number,
    body: { error?: { code: string; message: string }; bytes?: number; facts?: Readonly<Record<string, unknown>> },
  ): void;
  /** Sends EOF both ways and closes the channel with this exit status, after what was queued. */
  finish(exitStatus: number): void;
  /** The peer broke the protocol: ends the connection with this text. */
  fail(side: 'Client' | 'Target', text: string): void;
}

export type Verdict =
  | { kind: 'Run'; id: number }
  /** `lines` are for stderr; the protocol's own error is the filter's to send. */
  | {
      kind: 'Refused';
      id: number;
      lines: readonly string[];
      decision?: Extract<Decision, { kind: 'Deny' }>;
      hold?: HoldOutcome;
    }
  /** The session is ending. */
  | { kind: 'Gone' };
