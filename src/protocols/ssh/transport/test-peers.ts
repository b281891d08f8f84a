// For tests alone: two transports over a connection, a middleman between them, and a client that does what it is told.
import { createHash, generateKeyPairSync } from 'node:crypto';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import { systemRandom } from '../../../system/random.ts';
import type { Signer } from '../keys/key.ts';
import { signerOfKeyObject } from '../keys/signer.ts';
import { verifySignature } from '../keys/verify.ts';
import { readData, writeData } from '../wire/data.ts';
import { MSG } from '../wire/message-numbers.ts';
import { readIdentification } from './identification.ts';
import { KEX_METHODS } from './kex-methods.ts';
import { encodeKexInit, FULL_OFFER, type KexInit, negotiate, ownKexInit, parseKexInit } from './kexinit.ts';
import { openTransport } from './open-transport.ts';
import { deriveKeys, openerOf, sealerOf } from './packet-cipher.ts';
import { type PacketInput, packetInput } from './packet-input.ts';
import { type PacketOutput, packetOutput } from './packet-output.ts';
import type { OpenTransport, Transport, TransportOptions } from './transport.ts';

export const ed25519Signer = (): Signer => signerOfKeyObject(generateKeyPairSync('ed25519').privateKey);

type ServerOptions = TransportOptions & { role: 'Server' };
type ClientOptions = TransportOptions & { role: 'Client' };

const HANDSHAKE_MS = 30_000;
const SHARED_KEY = ed25519Signer();

export const serverOptions = (more: Partial<ServerOptions> = {}): ServerOptions => ({
  role: 'Server',
  software: 'Sallyport',
  signal: new AbortController().signal,
  handshakeMs: HANDSHAKE_MS,
  hostKeys: [SHARED_KEY],
  ...more,
});

export const clientOptions = (more: Partial<ClientOptions> = {}): ClientOptions => ({
  role: 'Client',
  software: 'Client_1',
  signal: new AbortController().signal,
  handshakeMs: HANDSHAKE_MS,
  hostKeyAlgorithms: ['ssh-ed25519'],
  verifyHostKey: () => undefined,
  ...more,
});

/** Both ends of a TCP connection over loopback. */
export async function socketPair(): Promise<[net.Socket, net.Socket]> {
  const accepted = Promise.withResolvers<net.Socket>();
  const listener = net.createServer((socket) => accepted.resolve(socket)).listen(0, '127.0.0.1');
  await new Promise((resolve) => listener.once('listening', resolve));
  const far = net.connect((listener.address() as net.AddressInfo).port, '127.0.0.1');
  const near = await accepted.promise;
  if (far.connecting) await new Promise((resolve) => far.once('connect', resolve));
  listener.close();
  for (const socket of [near, far]) socket.on('error', () => undefined);
  return [near, far];
}

/** What somebody on the way does with the bytes of one direction: what is pushed passes. */
export type Meddle = (chunk: Buffer, push: (bytes: Buffer) => void) => void;

/** As `socketPair`, with somebody on the way. */
export async function meddledPair(
  toServer: Meddle = (chunk, push) => push(chunk),
  toClient: Meddle = (chunk, push) => push(chunk),
): Promise<[net.Socket, net.Socket]> {
  const [[server, nearServer], [nearClient, client]] = await Promise.all([socketPair(), socketPair()]);
  const join = (from: net.Socket, to: net.Socket, meddle: Meddle): void => {
    from.on('data', (chunk: Buffer) => meddle(chunk, (bytes) => to.writable && to.write(bytes)));
    from.on('end', () => to.end());
    from.on('close', () => to.destroy());
  };
  join(nearClient, nearServer, toServer);
  join(nearServer, nearClient, toClient);
  return [server, client];
}

/**
 * Somebody on the way who puts a message in while nothing is encrypted, and leaves the first encrypted packet out, so that the
 * numbers fit again (Terrapin, CVE-2023-48795). For either direction, where ciphers keep the length of a packet readable.
 */
export function prefixCutter(
  at: 'first' | 'afterKexInit',
  { inject, drop }: { inject: boolean; drop: boolean },
): Meddle {
  const ignore = writeData({ byte: MSG.IGNORE }, { string: 'x' });
  const packet = Buffer.concat([Buffer.from([0, 0, 0, 12, 5, ...ignore]), Buffer.alloc(5)]);
  let bytes = Buffer.alloc(0);
  /** 0: identification; then KEXINIT, the exchange's own, NEWKEYS; 4: encrypted. */
  let stage = 0;
  let dropping = drop;
  return (chunk, push) => {
    bytes = Buffer.concat([bytes, chunk]);
    for (;;) {
      if (stage === 0) {
        const end = bytes.indexOf(10);
        if (end === -1) return;
        push(bytes.subarray(0, end + 1));
        if (inject && at === 'first') push(packet);
        bytes = bytes.subarray(end + 1);
        stage = 1;
      }
      if (bytes.length < 4 || bytes.length < 4 + bytes.readUInt32BE(0)) return;
      const encrypted = stage === 4;
      const size = 4 + bytes.readUInt32BE(0) + (encrypted ? 16 : 0);
      if (bytes.length < size) return;
      if (encrypted && dropping) dropping = false;
      else push(bytes.subarray(0, size));
      bytes = bytes.subarray(size);
      if (inject && stage === 1 && at === 'afterKexInit') push(packet);
      if (stage < 4) stage += 1;
    }
  };
}

export interface Peers {
  readonly server: Transport;
  readonly client: Transport;
}

/** Both sides of one connection, with the first key exchange done, and both logged in. */
export async function openPeers(
  given: {
    server?: Partial<ServerOptions>;
    client?: Partial<ClientOptions>;
    openServer?: OpenTransport;
    openClient?: OpenTransport;
    sockets?: readonly [Duplex, Duplex];
  } = {},
): Promise<Peers> {
  const [serverSocket, clientSocket] = given.sockets ?? (await socketPair());
  const opened = await Promise.allSettled([
    (given.openServer ?? openTransport)(serverSocket, serverOptions(given.server)),
    (given.openClient ?? openTransport)(clientSocket, clientOptions(given.client)),
  ]);
  const [server, client] = opened;
  if (server.status === 'rejected') throw server.reason;
  if (client.status === 'rejected') throw client.reason;
  for (const side of [server.value, client.value]) {
    side.authenticated();
    side.onMessage = () => undefined;
  }
  return { server: server.value, client: client.value };
}

/** How a transport ended. */
export const endOf = (transport: Transport): Promise<Parameters<Transport['onClose']>[0]> =>
  new Promise((resolve) => {
    transport.onClose = resolve;
  });

export interface RawPeer {
  /** What a login's signature is over; empty while the exchange is not done. */
  readonly sessionId: Buffer;
  readonly hostKey: Buffer;
  readonly output: PacketOutput;
  readonly input: PacketInput;
  readonly server: KexInit;
  /** The next message; undefined at the end. */
  next(): Promise<Buffer | undefined>;
  /** Text of the next DISCONNECT, whatever comes before it; `closed` where there was none. */
  refusal(): Promise<string>;
  close(): void;
}

export interface RawBehaviour {
  /** Changes what is offered; the marks of the first exchange are in `kex`. */
  offer?: (init: KexInit) => KexInit;
  /** Sent, in clear, at these places. */
  beforeKexInit?: readonly Buffer[];
  afterKexInit?: readonly Buffer[];
  beforeNewKeys?: readonly Buffer[];
  /** Instead of the public value of the exchange. */
  init?: (right: Buffer) => Buffer;
  /** Stops here, and leaves the rest to the test. */
  until?: 'KexInit' | 'Reply';
}

/** A client made of the parts, without any of the checks. */
export async function rawClient(socket: Duplex, behaviour: RawBehaviour = {}): Promise<RawPeer> {
  const version = 'SSH-2.0-Raw';
  const input = packetInput(300_000);
  const output = packetOutput(socket, systemRandom, () => undefined);
  const reader = readIdentification('Client');
  const told = Promise.withResolvers<string>();
  let wake = Promise.withResolvers<void>();
  let ended = false;
  let identified = false;
  socket.on('data', (chunk: Buffer) => {
    if (identified) input.push(chunk);
    else {
      const line = reader.push(chunk);
      if (line === undefined) return;
      identified = true;
      told.resolve(line.version);
      input.push(line.rest);
    }
    wake.resolve();
  });
  const over = (): void => {
    ended = true;
    told.resolve('');
    wake.resolve();
  };
  socket.on('end', over);
  socket.on('close', over);
  const next = async (): Promise<Buffer | undefined> => {
    for (;;) {
      const payload = identified ? input.next() : undefined;
      if (payload !== undefined || ended) return payload;
      wake = Promise.withResolvers();
      await wake.promise;
    }
  };
  const refusal = async (): Promise<string> => {
    for (;;) {
      const payload = await next();
      if (payload === undefined) return 'closed';
      if (payload[0] !== MSG.DISCONNECT) continue;
      const data = readData(payload, 1);
      const code = data.uint32();
      return `${code}: ${data.text()}`;
    }
  };
  const sendAll = (messages: readonly Buffer[] = []): void => {
    for (const message of messages) output.send(message);
  };

  output.raw(Buffer.from(`${version}\r\n`));
  const serverVersion = await told.promise;
  sendAll(behaviour.beforeKexInit);
  const init = (behaviour.offer ?? ((same) => same))(ownKexInit('Client', FULL_OFFER, ['ssh-ed25519'], true));
  const clientInit = encodeKexInit(init, systemRandom.bytes(16));
  output.send(clientInit);
  sendAll(behaviour.afterKexInit);
  let server = init;
  let sessionId: Buffer = Buffer.alloc(0);
  let shownKey: Buffer = Buffer.alloc(0);
  const peer: RawPeer = {
    output,
    get sessionId() {
      return sessionId;
    },
    get hostKey() {
      return shownKey;
    },
    input,
    get server() {
      return server;
    },
    next,
    refusal,
    close: () => socket.destroy(),
  };
  const serverInit = await next();
  if (serverInit?.[0] !== MSG.KEXINIT) return peer;
  server = parseKexInit(serverInit);
  if (behaviour.until === 'KexInit') return peer;
  const strict = init.kex.some((name) => name.startsWith('kex-strict-c'));
  const agreement = negotiate(init, server, strict);
  const method = KEX_METHODS[agreement.kex];
  const half = method.begin();
  const value = behaviour.init?.(half.init) ?? half.init;
  output.send(writeData({ byte: MSG.KEX_ECDH_INIT }, { string: value }));
  if (behaviour.until === 'Reply') return peer;
  const reply = await next();
  if (reply?.[0] !== MSG.KEX_ECDH_REPLY) throw new Error(`no reply: ${reply?.toString('latin1')}`);
  const data = readData(reply, 1);
  const hostKey = data.string();
  const serverValue = data.string();
  const signature = data.string();
  const secret = half.finish(serverValue);
  const exchangeHash = createHash(method.hash)
    .update(
      writeData(
        { string: version },
        { string: serverVersion },
        { string: clientInit },
        { string: serverInit },
        { string: hostKey },
        { string: value },
        { string: serverValue },
        { raw: secret },
      ),
    )
    .digest();
  if (!verifySignature(hostKey, agreement.hostKey, exchangeHash, signature)) throw new Error('bad host signature');
  sendAll(behaviour.beforeNewKeys);
  output.send(Buffer.from([MSG.NEWKEYS]));
  const keys = (direction: 'clientToServer' | 'serverToClient') =>
    deriveKeys(
      method.hash,
      secret,
      exchangeHash,
      exchangeHash,
      direction === 'clientToServer' ? 'ClientToServer' : 'ServerToClient',
      { cipher: agreement.cipher[direction], mac: agreement.mac[direction] },
    );
  output.use(sealerOf(keys('clientToServer')), strict);
  const newKeys = await next();
  if (newKeys?.[0] !== MSG.NEWKEYS) throw new Error('no NEWKEYS');
  input.use(openerOf(keys('serverToClient')), strict);
  sessionId = exchangeHash;
  shownKey = hostKey;
  return peer;
}
