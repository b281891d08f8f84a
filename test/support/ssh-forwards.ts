// Forwards message by message: a relay whose rules let some through, and what either side says about them.
import assert from 'node:assert/strict';
import { channelOpen, channelRequest, globalRequest } from '../../src/protocols/ssh/channels/messages.ts';
import type { LoginRights } from '../../src/protocols/ssh/keys/certificate.ts';
import { type Field, readData, writeData } from '../../src/protocols/ssh/wire/data.ts';
import { MSG } from '../../src/protocols/ssh/wire/message-numbers.ts';
import { type RelayBed, relayBed, until } from './ssh-relay-bed.ts';
import { sshPolicy } from './ssh-rules.ts';

export async function forwardingBed(forwarding: readonly string[], rights?: LoginRights): Promise<RelayBed> {
  const bed = await relayBed({
    policy: sshPolicy({
      ...(forwarding.length === 0 ? {} : { forwards: { action: 'Allow', ssh: { forwarding } } }),
      run: { action: 'Allow', ssh: { commands: ['sleep *'] } },
    }),
    ...(rights === undefined ? {} : { rights }),
  });
  bed.clientGot.length = 0;
  return bed;
}

export const open = (type: string, sender: number, fields: readonly Field[], window = 100_000): Buffer =>
  Buffer.concat([channelOpen({ type, sender, window, maxPacket: 32_768 }), writeData(...fields)]);
export const direct = (host: string, port: number, sender = 7): Buffer =>
  open('direct-tcpip', sender, [{ string: host }, { uint32: port }, { string: '127.0.0.1' }, { uint32: 4 }]);
export const came = (host: string, port: number, sender = 3): Buffer =>
  open('forwarded-tcpip', sender, [{ string: host }, { uint32: port }, { string: '10.9.9.9' }, { uint32: 5 }]);
export const listen = (host: string, port: number, type = 'tcpip-forward'): Buffer =>
  globalRequest(type, true, { string: host }, { uint32: port });
export const success = (port?: number): Buffer =>
  writeData({ byte: MSG.REQUEST_SUCCESS }, ...(port === undefined ? [] : [{ uint32: port }]));
export const commandsOf = (bed: RelayBed) =>
  bed.records.filter(({ kind }) => kind === 'command').map(({ body }) => body);
export const texts = (bed: RelayBed): string[] =>
  commandsOf(bed).map(({ text, decision }) => `${String(text)} ${String(decision)}`);
export const failure = (payload: Buffer | undefined): { code: number; text: string } => {
  assert.equal(payload?.[0], MSG.CHANNEL_OPEN_FAILURE);
  const reader = readData(payload!, 5);
  return { code: reader.uint32(), text: reader.text() };
};
export const untilEnded = (bed: RelayBed): Promise<void> => until(() => bed.ended.length > 0);

export const COOKIE = 'c0ffee00c0ffee00c0ffee00c0ffee00';
export const x11Request = (single: boolean, cookie = COOKIE, protocol = 'MIT-MAGIC-COOKIE-1'): Buffer =>
  channelRequest(0, 'x11-req', true, { boolean: single }, { string: protocol }, { string: cookie }, { uint32: 0 });

/** A session that runs `sleep`, with these requests in front of it, each answered by the target with success. */
