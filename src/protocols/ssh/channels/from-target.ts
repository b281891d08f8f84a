// What a target sends on a channel: checked for its place, recorded, and passed on to the client in order.
import { releasePayload } from '../transport/memory.ts';
import { MalformedData, readData } from '../wire/data.ts';
import { MSG } from '../wire/message-numbers.ts';
import type { SessionChannel } from './channel.ts';
import { bare, dataOf, parseChannelRequest, parseOpenConfirmation, parseOpenFailure, STDERR } from './messages.ts';
import { waitForRecord } from './record-wait.ts';

/** Throws MalformedData where it has no place. */
export function takeFromTarget(channel: SessionChannel, payload: Buffer): void {
  switch (payload[0]) {
    case MSG.CHANNEL_OPEN_CONFIRMATION:
      return opened(channel, payload);
    case MSG.CHANNEL_OPEN_FAILURE: {
      channel.target.openFailed();
      const { text } = parseOpenFailure(payload);
      channel.expecting.opened?.(text.slice(0, 200));
      channel.settle();
      return;
    }
  }
  if (!channel.target.isLive) throw new MalformedData('a message for a channel that is not open');
  switch (payload[0]) {
    case MSG.CHANNEL_WINDOW_ADJUST: {
      const bytes = readData(payload, 5).uint32();
      if (channel.toTarget.isOpen) {
        if (!channel.toTarget.adjust(bytes)) throw new MalformedData('a window too large');
      } else channel.target.adjust(bytes);
      return;
    }
    case MSG.CHANNEL_DATA:
    case MSG.CHANNEL_EXTENDED_DATA:
      return data(channel, payload);
    case MSG.CHANNEL_EOF:
      channel.filter?.targetEof();
      channel.toClient.control(payload);
      return;
    case MSG.CHANNEL_CLOSE:
      return closed(channel);
    case MSG.CHANNEL_REQUEST:
      return request(channel, payload);
    case MSG.CHANNEL_SUCCESS:
    case MSG.CHANNEL_FAILURE: {
      const success = payload[0] === MSG.CHANNEL_SUCCESS;
      const { answered } = channel.expecting;
      if (answered !== undefined) {
        channel.expecting = {};
        answered(success);
        return;
      }
      const reply = channel.atTarget.shift();
      if (reply === undefined) throw new MalformedData('an answer to nothing');
      reply.settle(success);
      return;
    }
    default:
      throw new MalformedData('a message that has no place on a channel');
  }
}

function opened(channel: SessionChannel, payload: Buffer): void {
  channel.target.opened(parseOpenConfirmation(payload));
  if (channel.phase === 'Over') return channel.endTarget();
  channel.expecting.opened?.(undefined);
}

function data(channel: SessionChannel, payload: Buffer): void {
  const data = dataOf(payload);
  if (data === undefined) throw new MalformedData('data of another length than it says');
  if (!channel.toClient.received(data.length)) throw new MalformedData('more data than the window allows');
  if (data.length === 0 || channel.isClosedToClient) return;
  const isStdout = payload[0] === MSG.CHANNEL_DATA;
  if (!isStdout && payload.readUInt32BE(5) !== STDERR) return;
  if (isStdout && channel.filter !== undefined) {
    channel.filter.fromTarget(data);
    if (channel.filter.needs?.target === false) releasePayload(payload);
    channel.toClient.replenish();
    return;
  }
  const stream = channel.pty !== undefined ? 'terminal' : isStdout ? 'stdout' : 'stderr';
  const recorded = channel.recorder?.passing(stream, data) ?? true;
  channel.toClient.data(payload, recorded);
  if (!recorded) waitForRecord(channel.core, channel.toClient);
}

function request(channel: SessionChannel, payload: Buffer): void {
  const { type, wantReply, rest } = parseChannelRequest(payload);
  if (type === 'exit-status') channel.recorder?.exited({ status: readData(rest).uint32() });
  else if (type === 'exit-signal') {
    const reader = readData(rest);
    const signal = reader.text(64);
    reader.boolean();
    channel.recorder?.exited({ signal, message: reader.string().subarray(0, 200).toString('utf8') });
  } else if (type !== 'eow@openssh.com' && type !== 'xon-xoff') {
    if (wantReply) channel.target.send(bare(MSG.CHANNEL_FAILURE, 0));
    return;
  }
  if (wantReply) throw new MalformedData('a request that wants no answer wants one');
  channel.toClient.control(payload);
}

function closed(channel: SessionChannel): void {
  channel.target.hasClosed();
  channel.phase = 'Over';
  channel.filter?.closed();
  channel.toTarget.stop();
  channel.target.close();
  channel.recorder?.ended();
  channel.toClient.control(bare(MSG.CHANNEL_CLOSE, 0));
  channel.settle();
}
