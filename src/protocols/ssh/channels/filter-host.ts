// What a filter in a channel may ask of the relay: bytes into both flows, judgement, records, and the end.

import { MSG } from '../wire/message-numbers.ts';
import type { SessionChannel } from './channel.ts';
import type { FilterHost, Verdict } from './filter.ts';
import type { Flow } from './flow.ts';
import { type Judging, judge } from './judge.ts';
import { bare } from './messages.ts';

export interface FilterHostParts {
  channel: SessionChannel;
  /** Those that wait: withdrawn with the channel. */
  operations: Set<Judging>;
  fail(side: 'Client' | 'Target', text: string): void;
}

/** Larger buffers go out in several messages, so that one does not hold up the others. */
const LARGEST_PIECE = 128 * 1024;
/** Receivers that take less at once have it cut again by the flow. */
const SMALLEST_PIECE = 4 * 1024;

export function createFilterHost({ channel, operations, fail }: FilterHostParts): FilterHost {
  const { core } = channel;
  const isOver = (): boolean => core.ending || channel.phase === 'Over';
  return {
    channel: channel.number,
    user: core.user,
    toTarget(data) {
      if (isOver()) return;
      for (const piece of pieces(data, channel.toTarget)) channel.toTarget.bytes(piece);
      channel.toTarget.replenish();
    },
    toClient(data) {
      if (isOver()) return;
      channel.recorder?.passing('stdout', data);
      for (const piece of pieces(data, channel.toClient)) channel.toClient.bytes(piece);
      channel.toClient.replenish();
    },
    eofToTarget() {
      if (!isOver()) channel.toTarget.control(bare(MSG.CHANNEL_EOF, 0));
    },
    tell(line) {
      if (!isOver()) channel.tell(line);
    },
    async judge(command): Promise<Verdict> {
      const judging = judge({ core, channel: channel.number, command, tell: (line) => channel.tell(line) });
      operations.add(judging);
      const judged = await judging.outcome;
      operations.delete(judging);
      if (isOver() || judged.kind === 'Gone') return { kind: 'Gone' };
      if (judged.kind === 'Run') return judged;
      const { exitStatus: _, ...refused } = judged;
      return refused;
    },
    result(id, body) {
      core.session.record.append('result', { id, ...body }, channel.number);
    },
    finish(exitStatus) {
      if (!isOver()) channel.finish(exitStatus);
    },
    fail(side, text) {
      if (!core.ending) fail(side, text);
    },
  };
}

/** As the receiver takes them. */
function* pieces(data: Buffer, { maxPacket }: Flow): Generator<Buffer> {
  const size = Math.max(SMALLEST_PIECE, Math.min(maxPacket, LARGEST_PIECE));
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}
