// A client over TCP that sends what it is told to, message by message, behind an honest key exchange.
import assert from 'node:assert/strict';
import net from 'node:net';
import { openTransport } from '../../src/protocols/ssh/transport/open-transport.ts';
import type { Transport } from '../../src/protocols/ssh/transport/transport.ts';
import { readData, writeData } from '../../src/protocols/ssh/wire/data.ts';
import { MSG } from '../../src/protocols/ssh/wire/message-numbers.ts';

export interface RawClient {
  transport: Transport;
  /** Messages that nobody has asked for yet. */
  seen: Buffer[];
  /** The first message of one of these numbers from now on; undefined once nothing comes any more. */
  next(...numbers: number[]): Promise<Buffer | undefined>;
  /** The peer's last words. */
  closed: Promise<string>;
}

/** `from`: the address to come from. Rejects where the key exchange fails. */
export async function rawConnection(port: number, from = '127.0.0.1'): Promise<RawClient> {
  const socket = net.connect({ port, host: '127.0.0.1', localAddress: from });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  const transport = await openTransport(socket, {
    role: 'Client',
    software: 'Attack',
    signal: new AbortController().signal,
    handshakeMs: 10_000,
    hostKeyAlgorithms: ['ssh-ed25519'],
    verifyHostKey: () => undefined,
  });
  const seen: Buffer[] = [];
  const waiting = new Set<() => void>();
  const closed = Promise.withResolvers<string>();
  let over = false;
  transport.onMessage = (payload) => {
    seen.push(payload);
    for (const look of waiting) look();
  };
  transport.onClose = ({ disconnect, error }) => {
    over = true;
    closed.resolve(disconnect?.text ?? error?.message ?? '');
    for (const look of waiting) look();
  };
  return {
    transport,
    seen,
    closed: closed.promise,
    next: (...numbers) => {
      let from = 0;
      return new Promise((resolve) => {
        const look = (): void => {
          for (; from < seen.length; from += 1)
            if (numbers.includes(seen[from]![0]!)) {
              const [found] = seen.splice(from, 1);
              waiting.delete(look);
              return resolve(found);
            }
          if (over) resolve(undefined);
        };
        waiting.add(look);
        look();
      });
    },
  };
}

/** What a session says after `echo`, so that somebody is really in; nothing where it does not come to that. */
export async function echo({ transport, next }: RawClient, text: string): Promise<string> {
  transport.send(
    writeData({ byte: MSG.CHANNEL_OPEN }, { string: 'session' }, { uint32: 7 }, { uint32: 65_536 }, { uint32: 32_768 }),
  );
  const confirmation = await next(MSG.CHANNEL_OPEN_CONFIRMATION);
  assert.ok(confirmation);
  const channel = confirmation.readUInt32BE(5);
  transport.send(
    writeData(
      { byte: MSG.CHANNEL_REQUEST },
      { uint32: channel },
      { string: 'exec' },
      { boolean: false },
      { string: `echo ${text}` },
    ),
  );
  const data = await next(MSG.CHANNEL_DATA, MSG.CHANNEL_CLOSE);
  transport.send(writeData({ byte: MSG.CHANNEL_CLOSE }, { uint32: channel }));
  return data?.[0] === MSG.CHANNEL_DATA ? readData(data, 5).text().trim() : '';
}
