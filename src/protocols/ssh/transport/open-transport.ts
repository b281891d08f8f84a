// A transport over any duplex: identification, key exchange, then messages, until either side has enough (RFC 4253).
//
// Guarantees what transport.ts promises of every implementation, and: memory is bounded for each peer (a packet, the
// chunk at hand, `queuedBytes`); who sends noise, key exchanges or messages of a later phase too often or too early is
// told and closed; nothing that a peer or a handler does throws out of here.
// Not here: what messages from 50 on mean, and who may send them when (but for 80 and up before login).
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Clock, systemClock } from '../../../system/clock.ts';
import { type Random, systemRandom } from '../../../system/random.ts';
import { MalformedData, readData, writeData } from '../wire/data.ts';
import { DISCONNECT, MSG } from '../wire/message-numbers.ts';
import { Fault, malformed } from './fault.ts';
import { identificationOf, readIdentification } from './identification.ts';
import { FULL_OFFER, type Offer, parseExtInfo } from './kexinit.ts';
import { keyExchange } from './key-exchange.ts';
import { DEFAULT_LIMITS, type TransportLimits } from './limits.ts';
import { packetInput } from './packet-input.ts';
import { packetOutput } from './packet-output.ts';
import { tokenBucket } from './token-bucket.ts';
import { type OpenTransport, type Transport, TransportError, type TransportOptions } from './transport.ts';

export interface TransportTools {
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: TransportLimits;
  readonly offer: Offer;
}

export const SYSTEM_TOOLS: TransportTools = {
  clock: systemClock,
  random: systemRandom,
  limits: DEFAULT_LIMITS,
  offer: FULL_OFFER,
};

export const openTransport: OpenTransport = (socket, options) => open(socket, options, SYSTEM_TOOLS);

/** As `openTransport`, with another clock, other limits or fewer algorithms. */
export const transportOpener =
  (tools: TransportTools): OpenTransport =>
  (socket, options) =>
    open(socket, options, tools);

type End = Parameters<Transport['onClose']>[0];

function open(
  socket: Duplex,
  options: TransportOptions,
  { clock, random, limits, offer }: TransportTools,
): Promise<Transport> {
  const highWater = options.highWaterBytes ?? limits.highWaterBytes;
  const ownVersion = identificationOf(options.software);
  let peerVersion: string | undefined;
  const identification = readIdentification(options.role);
  const input = packetInput(limits.packetBytesBeforeLogin);
  const output = packetOutput(socket, random, onTaken);
  const exchange = keyExchange(
    options,
    {
      client: () => (options.role === 'Client' ? ownVersion : peerVersion!),
      server: () => (options.role === 'Server' ? ownVersion : peerVersion!),
    },
    input,
    output,
    random,
    offer,
  );
  const peerRekeys = tokenBucket(clock, limits.peerRekeys.burst, limits.peerRekeys.everyMs);
  const laterNoise = tokenBucket(clock, limits.noise.burst, limits.noise.everyMs);
  let earlyNoise = limits.noise.beforeLogin;
  let state: 'Open' | 'Ending' | 'Closed' = 'Open';
  let end: End | undefined;
  let paused = false;
  /** Until the owner of a new transport had its turn. */
  let handingOut = false;
  /** Our own answers wait for a peer that does not read them. */
  let stalled = false;
  let pumping = false;
  let peerEnded = false;
  let blocked = false;
  let loggedIn = false;
  let held: Buffer[] = [];
  let heldBytes = 0;
  const beganAt = clock.monotonic();
  let exchangedAt = beganAt;
  let extInfos = 0;
  let signatureAlgorithms: readonly string[] | undefined;
  let transport: Transport | undefined;
  let withdrawDeadline: () => void = () => undefined;
  let withdrawLinger: (() => void) | undefined;
  let withdrawPatience: () => void = () => undefined;
  const opened = Promise.withResolvers<Transport>();

  // A kernel socket's chunk is memory of its own that only this listener is given.
  const ownsChunks = socket instanceof Socket;

  const queuedBytes = (): number => output.queuedBytes + heldBytes;

  const closedByPeer = (text: string, more?: ErrorOptions): TransportError =>
    new TransportError(options.role === 'Client' && peerVersion === undefined ? 'TurnedAway' : 'Closed', text, more);

  // ---- the end -------------------------------------------------------------------------------------------------

  const finish = (): void => {
    if (state === 'Closed') return;
    state = 'Closed';
    withdrawDeadline();
    withdrawLinger?.();
    withdrawPatience();
    options.signal.removeEventListener('abort', onAbort);
    socket.destroy();
    held = [];
    heldBytes = 0;
    const final = end ?? { error: closedByPeer('The connection was closed.') };
    if (transport === undefined)
      opened.reject(
        final.error ??
          (final.disconnect === undefined
            ? new TransportError('Closed', 'The connection was closed during the handshake.')
            : new TransportError('Disconnected', `The peer disconnected: ${final.disconnect.text}`)),
      );
    else
      try {
        transport.onClose(final);
      } catch {
        // The owner's teardown failed; there is nobody left here to tell.
      }
  };
  /** No message passes any more; what is queued is written, what still comes is thrown away. */
  const leave = (how: End): void => {
    if (state !== 'Open') return;
    state = 'Ending';
    end = how;
    output.flush();
    withdrawDeadline();
    withdrawLinger = clock.after(limits.lingerMs, finish);
    socket.end();
    socket.resume();
  };
  const disconnect = (code: number, text: string, how: End): void => {
    if (state !== 'Open') return;
    if (peerVersion === undefined) output.raw(Buffer.from(`${text}\r\n`));
    else
      output.send(
        writeData({ byte: MSG.DISCONNECT }, { uint32: code }, { string: text.slice(0, 1000) }, { string: '' }),
      );
    leave(how);
  };
  const fail = (error: unknown): void => {
    if (error instanceof Fault)
      disconnect(error.reason, error.message, { error: new TransportError(error.code, error.message) });
    else if (error instanceof MalformedData)
      disconnect(DISCONNECT.PROTOCOL_ERROR, `A malformed message: ${error.message}.`, {
        error: new TransportError('Malformed', `A malformed message: ${error.message}.`, { cause: error }),
      });
    else
      disconnect(DISCONNECT.BY_APPLICATION, 'An internal error.', {
        error: new TransportError('Closed', 'A handler failed.', { cause: error }),
      });
  };
  function onAbort(): void {
    disconnect(DISCONNECT.BY_APPLICATION, 'The connection is closed.', {
      error: new TransportError('Closed', 'The connection was given up.', { cause: options.signal.reason }),
    });
  }
  const deadline = (ms: number, text: string, pauses: number = limits.pausedDeadlines): void => {
    withdrawDeadline();
    withdrawDeadline = clock.after(ms, () => {
      // Who has stopped reading can not see the peer's part of the exchange: it gets the time again, some times.
      if (paused && pauses > 0) deadline(ms, text, pauses - 1);
      else fail(new Fault('TimedOut', text, DISCONNECT.KEY_EXCHANGE_FAILED));
    });
  };

  // ---- sending -------------------------------------------------------------------------------------------------

  const startExchange = (): void => {
    exchange.start();
    if (!exchange.initial) deadline(limits.rekeyDeadlineMs, 'The key exchange took too long.');
  };
  const beginAnyway = (): void => {
    if (state === 'Open' && exchange.initial && !exchange.running) startExchange();
  };
  const rekeyIfDue = (): void => {
    if (exchange.running || !loggedIn || state !== 'Open') return;
    if (
      input.bytes >= limits.rekeyBytes ||
      output.bytes >= limits.rekeyBytes ||
      input.packets >= limits.rekeyPackets ||
      output.packets >= limits.rekeyPackets ||
      clock.monotonic() - exchangedAt >= limits.rekeyMs
    )
      startExchange();
  };
  const send = (payload: Buffer, more?: Buffer): boolean => {
    if (state !== 'Open') return true;
    rekeyIfDue();
    if (exchange.sendingHeld) {
      const whole = more === undefined ? payload : Buffer.concat([payload, more]);
      held.push(whole);
      heldBytes += whole.length + 64;
    } else output.send(payload, more);
    if (output.queuedBytes <= highWater && heldBytes <= limits.heldBytes) return true;
    blocked = true;
    if (queuedBytes() > limits.queuedBytes)
      fail(new Fault('Closed', 'Too much waits for this side to be read.', DISCONNECT.CONNECTION_LOST));
    return false;
  };
  /** Answers of the transport's own: who provokes them without reading them is not read either. */
  const answer = (payload: Buffer): void => {
    send(payload);
    // What waits for a key exchange does not count: that one needs to be read.
    if (output.queuedBytes > highWater) {
      stalled = true;
      socket.pause();
    }
  };
  const sendHeld = (): void => {
    if (exchange.sendingHeld || held.length === 0) return;
    const messages = held;
    held = [];
    heldBytes = 0;
    for (const payload of messages) output.send(payload);
  };
  function onTaken(): void {
    if (state !== 'Open') return;
    if (stalled && output.queuedBytes <= highWater / 2) {
      stalled = false;
      readOn();
    }
    // What waits for a key exchange keeps nobody waiting, as in `send`: that exchange may need what would be read.
    if (!blocked || output.queuedBytes > highWater / 2 || heldBytes > limits.heldBytes) return;
    blocked = false;
    try {
      transport?.onDrain();
    } catch (error) {
      fail(error);
    }
  }

  // ---- receiving -----------------------------------------------------------------------------------------------

  const mayRead = (): boolean => state === 'Open' && !paused && !handingOut && !stalled;
  function readOn(): void {
    if (pumping) return;
    process.nextTick(() => {
      pump();
      if (mayRead()) socket.resume();
    });
  }
  const pump = (): void => {
    if (pumping || peerVersion === undefined) return;
    pumping = true;
    try {
      while (mayRead()) {
        const payload = input.next();
        if (payload === undefined) break;
        handle(payload);
        rekeyIfDue();
      }
    } catch (error) {
      fail(error);
    }
    pumping = false;
    if (peerEnded && mayRead()) onPeerEnd();
  };

  const noise = (): void => {
    if (loggedIn ? !laterNoise() : (earlyNoise -= 1) < 0) throw malformed('Too many messages without meaning.');
  };
  const handle = (payload: Buffer): void => {
    const number = payload[0]!;
    if (number === MSG.DISCONNECT) takeDisconnect(payload);
    else if (number >= MSG.KEXINIT && number <= LAST_KEX) takeKex(payload, number);
    else if (exchange.initial) takeEarly(number);
    else if (exchange.peerBusy && !isGeneric(number)) throw malformed(`Message ${number} came during a key exchange.`);
    else if (isForAbove(number)) {
      if (!loggedIn && options.role === 'Server' && number >= MSG.GLOBAL_REQUEST)
        throw malformed(`Message ${number} came before login.`);
      // What a server sends after this may be large at once, and in the same chunk.
      if (number === MSG.USERAUTH_SUCCESS && options.role === 'Client') input.limit(packetBytes);
      transport!.onMessage(payload);
    } else if (number === MSG.EXT_INFO) takeExtInfo(payload);
    else {
      noise();
      if (!isGeneric(number)) answer(writeData({ byte: MSG.UNIMPLEMENTED }, { uint32: input.sequence }));
    }
  };
  const takeEarly = (number: number): void => {
    if (exchange.strict || !isGeneric(number)) throw malformed(`Message ${number} came during the first key exchange.`);
    noise();
  };
  const takeDisconnect = (payload: Buffer): void => {
    const reader = readData(payload, 1);
    const code = reader.uint32();
    const text = readable(reader.string());
    leave({ disconnect: { code, text } });
  };
  const takeExtInfo = (payload: Buffer): void => {
    extInfos += 1;
    if (loggedIn || extInfos > 4) return noise();
    const names = parseExtInfo(payload).get('server-sig-algs');
    if (names !== undefined && options.role === 'Client')
      signatureAlgorithms = names.toString('latin1').split(',').slice(0, 64);
  };
  const takeKex = (payload: Buffer, number: number): void => {
    if (number !== MSG.KEXINIT && !exchange.running) {
      if (number > MSG.NEWKEYS && number < MSG.KEX_ECDH_INIT && !exchange.initial) {
        noise();
        return answer(writeData({ byte: MSG.UNIMPLEMENTED }, { uint32: input.sequence }));
      }
      throw malformed(`Message ${number} came outside a key exchange.`);
    }
    if (number === MSG.KEXINIT && !exchange.running && !exchange.initial) {
      const free = loggedIn && Math.max(input.bytes, output.bytes) >= limits.peerRekeys.freeBytes;
      if (!free && !peerRekeys()) throw malformed('Too many key exchanges.');
      deadline(limits.rekeyDeadlineMs, 'The key exchange took too long.');
    }
    const first = exchange.initial;
    const over = exchange.take(payload);
    if (over) {
      exchangedAt = clock.monotonic();
      withdrawDeadline();
      if (first) return handOut();
    }
    if (first && options.role === 'Server' && number > MSG.NEWKEYS)
      deadline(options.handshakeMs - (clock.monotonic() - beganAt), SLOW);
    sendHeld();
  };

  const onPeerEnd = (): void => {
    if (transport === undefined || input.partial)
      leave({ error: closedByPeer('The peer closed the connection in the middle of something.') });
    else leave({});
  };
  const onData = (chunk: Buffer): void => {
    if (state !== 'Open') return;
    try {
      if (peerVersion === undefined) {
        const line = identification.push(chunk);
        if (line === undefined) return;
        peerVersion = line.version;
        if (options.role === 'Client') startExchange();
        // A server's offer depends on the client's, which comes by itself; one that waits for ours gets it a little later.
        else withdrawPatience = clock.after(limits.firstOfferMs, beginAnyway);
        input.push(line.rest);
      } else input.push(chunk, ownsChunks);
    } catch (error) {
      return fail(error);
    }
    pump();
  };

  // ---- the handle ----------------------------------------------------------------------------------------------

  const packetBytes = options.packetBytes ?? limits.packetBytes;
  const handOut = (): void => {
    const result = exchange.result!;
    transport = {
      role: options.role,
      sessionId: result.sessionId,
      peerVersion: peerVersion!,
      hostKey: result.hostKey,
      algorithms: result.algorithms,
      get peerSignatureAlgorithms() {
        return signatureAlgorithms;
      },
      onMessage: () => {
        throw new Error('nobody takes the messages');
      },
      onClose: () => undefined,
      onDrain: () => undefined,
      send,
      get queuedBytes() {
        return queuedBytes();
      },
      pause() {
        paused = true;
        if (state === 'Open') socket.pause();
      },
      resume() {
        if (!paused) return;
        paused = false;
        readOn();
      },
      authenticated() {
        loggedIn = true;
        input.limit(packetBytes);
      },
      disconnect: (code, text) => disconnect(code, text, {}),
      destroy: finish,
    };
    handingOut = true;
    socket.pause();
    setImmediate(() => {
      handingOut = false;
      readOn();
    });
    opened.resolve(transport);
  };

  if (options.signal.aborted) {
    socket.destroy();
    return Promise.reject(
      new TransportError('Closed', 'The connection was given up.', { cause: options.signal.reason }),
    );
  }
  options.signal.addEventListener('abort', onAbort, { once: true });
  if (socket instanceof Socket) socket.setNoDelay(true);
  socket.on('data', onData);
  socket.on('end', () => {
    peerEnded = true;
    if (mayRead()) onPeerEnd();
  });
  socket.on('error', (error) => {
    end ??= { error: closedByPeer(`The connection broke: ${error.message}`, { cause: error }) };
    finish();
  });
  socket.on('close', finish);
  deadline(options.role === 'Server' ? Math.min(limits.openingMs, options.handshakeMs) : options.handshakeMs, SLOW);
  output.raw(Buffer.from(`${ownVersion}\r\n`));
  return opened.promise;
}

const LAST_KEX = 49;
const SLOW = 'The handshake took too long.';
const LONGEST_TEXT = 1_000;

/** Those that may come during a key exchange (RFC 4253, 7.1), DISCONNECT apart. */
const isGeneric = (number: number): boolean =>
  number === MSG.IGNORE || number === MSG.DEBUG || number === MSG.UNIMPLEMENTED;

/** What RFC 4252, 4254 and 4256 have numbers for. */
const isForAbove = (number: number): boolean =>
  (number >= MSG.CHANNEL_OPEN && number <= MSG.CHANNEL_FAILURE) ||
  (number >= MSG.GLOBAL_REQUEST && number <= MSG.REQUEST_FAILURE) ||
  (number >= MSG.USERAUTH_REQUEST && number <= MSG.USERAUTH_BANNER) ||
  (number >= 60 && number <= 79) ||
  number === MSG.SERVICE_REQUEST ||
  number === MSG.SERVICE_ACCEPT;

/** A peer's words for logs and terminals: printable ASCII, and not too many of them. */
const readable = (text: Buffer): string => text.toString('latin1', 0, LONGEST_TEXT).replaceAll(/[^\x20-\x7e]/g, '?');
