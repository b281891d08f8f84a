// For tests alone: two transports over a pair of streams, and a signer of each type that needs no other module.
import { generateKeyPairSync, sign } from 'node:crypto';
import { type Duplex, duplexPair } from 'node:stream';
import type { Signer } from '../keys/key.ts';
import { writeData } from '../wire/data.ts';
import { openTransport } from './open-transport.ts';
import type { OpenTransport, Transport, TransportOptions } from './transport.ts';

export function ed25519Signer(): Signer {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const raw = publicKey.export({ type: 'spki', format: 'der' }).subarray(-32);
  return {
    blob: writeData({ string: 'ssh-ed25519' }, { string: raw }),
    algorithms: ['ssh-ed25519'],
    sign: (data) => writeData({ string: 'ssh-ed25519' }, { string: sign(null, data, privateKey) }),
  };
}

export const serverOptions = (hostKeys: readonly Signer[] = [ed25519Signer()]): TransportOptions => ({
  role: 'Server',
  software: 'Sallyport',
  signal: new AbortController().signal,
  handshakeMs: 20_000,
  hostKeys,
});

export const clientOptions = (
  hostKeyAlgorithms: readonly string[] = ['ssh-ed25519'],
  verifyHostKey: (blob: Buffer) => string | undefined = () => undefined,
): TransportOptions => ({
  role: 'Client',
  software: 'Sallyport',
  signal: new AbortController().signal,
  handshakeMs: 20_000,
  hostKeyAlgorithms,
  verifyHostKey,
});

export interface Peers {
  readonly server: Transport;
  readonly client: Transport;
  readonly serverSocket: Duplex;
  readonly clientSocket: Duplex;
}

/** Both sides of one connection, with the first key exchange done. */
export async function openPeers(
  given: {
    server?: TransportOptions;
    client?: TransportOptions;
    open?: OpenTransport;
    sockets?: [Duplex, Duplex];
  } = {},
): Promise<Peers> {
  const [serverSocket, clientSocket] = given.sockets ?? duplexPair();
  const open = given.open ?? openTransport;
  const [server, client] = await Promise.all([
    open(serverSocket, given.server ?? serverOptions()),
    open(clientSocket, given.client ?? clientOptions()),
  ]);
  return { server, client, serverSocket, clientSocket };
}
