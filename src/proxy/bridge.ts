// Moves bytes between a WebSocket and a socket, with backpressure both ways and half-close. Used by both ends of a
// tunnel. Guarantees: never more in memory than a few messages and one socket buffer a direction; whoever ends first,
// both are closed once nothing is left to carry; a peer that says nothing at all is found by pings.
import type { Socket } from 'node:net';
import type { RawData, WebSocket } from 'ws';
import type { Clock } from '../system/clock.ts';
import { TUNNEL_PING_MS, TUNNEL_SILENCE_MS } from './tunnel-protocol.ts';

/** Of what the WebSocket has not sent yet; past it the socket is not read. */
const HIGH_WATER = 1024 * 1024;
const LOW_WATER = 256 * 1024;
/** How long the other end may take to answer our close. */
const CLOSE_MS = 2_000;

const EMPTY = Buffer.alloc(0);

/** Codes of RFC 6455, 7.4.1. */
const NORMAL = 1000;
const GOING_AWAY = 1001;
const UNSUPPORTED = 1003;

/**
 * `socket` must have been made with `allowHalfOpen`; `web` may be paused, lest it speaks before it is listened to. Resolves when both are gone; never rejects. `signal` ends both.
 */
export function bridge(web: WebSocket, socket: Socket, clock: Clock, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    let heard = clock.monotonic();
    let weEnded = false;
    let peerEnded = false;
    let webGone = false;
    let socketGone = false;
    let cancelPing = (): void => {};
    let cancelClose = (): void => {};

    const hear = (): void => {
      heard = clock.monotonic();
    };
    const settle = (): void => {
      if (!webGone || !socketGone) return;
      cancelPing();
      cancelClose();
      signal?.removeEventListener('abort', abort);
      resolve();
    };
    const close = (code: number): void => {
      if (webGone || web.readyState === web.CLOSING || web.readyState === web.CLOSED) return;
      web.close(code);
      cancelClose = clock.after(CLOSE_MS, () => web.terminate());
    };
    const abort = (): void => {
      close(GOING_AWAY);
      socket.destroy();
    };
    const ping = (): void => {
      // Who does not listen hears nothing. The peer pings as well, even while it does not listen.
      if (web.isPaused) hear();
      if (clock.monotonic() - heard > TUNNEL_SILENCE_MS) return web.terminate();
      if (web.readyState === web.OPEN) web.ping();
      cancelPing = clock.after(TUNNEL_PING_MS, ping);
    };
    web.on('message', (data: RawData, binary: boolean) => {
      hear();
      if (!binary) return close(UNSUPPORTED);
      if (peerEnded) return;
      const bytes = Buffer.isBuffer(data) ? data : Buffer.concat(Array.isArray(data) ? data : [Buffer.from(data)]);
      if (bytes.length === 0) {
        peerEnded = true;
        socket.end();
        return;
      }
      // Once paused, the WebSocket reads nothing more, so its peer's TCP window closes.
      if (!socket.writableEnded && !socket.destroyed && !socket.write(bytes)) web.pause();
    });
    web.on('ping', hear);
    web.on('pong', hear);
    web.on('error', () => {}); // `close` follows
    web.on('close', () => {
      webGone = true;
      // A peer that went without ending its direction may have been cut: what it was sending is not whole.
      if (!peerEnded || !weEnded) socket.destroy();
      settle();
    });

    socket.on('drain', () => {
      if (web.readyState === web.OPEN) web.resume();
    });
    const sent = (): void => {
      if (socket.isPaused() && web.bufferedAmount < LOW_WATER) socket.resume();
    };
    socket.on('data', (bytes: Buffer) => {
      if (web.readyState !== web.OPEN) return;
      web.send(bytes, { binary: true, compress: false }, sent);
      if (web.bufferedAmount > HIGH_WATER) socket.pause();
    });
    const endOurs = (): void => {
      if (weEnded) return;
      weEnded = true;
      if (web.readyState === web.OPEN) web.send(EMPTY, { binary: true, compress: false });
    };
    socket.on('end', endOurs);
    socket.on('error', () => {}); // `close` follows
    socket.on('close', () => {
      socketGone = true;
      if (!socket.readableEnded && !weEnded) close(GOING_AWAY);
      else {
        endOurs();
        close(NORMAL);
      }
      // Nobody takes what still comes; a paused WebSocket would not see the close either.
      if (web.readyState !== web.CLOSED) web.resume();
      settle();
    });
    if (signal?.aborted === true) abort();
    else signal?.addEventListener('abort', abort, { once: true });
    if (web.readyState === web.CLOSED) web.emit('close');
    cancelPing = clock.after(TUNNEL_PING_MS, ping);
    web.resume();
  });
}
