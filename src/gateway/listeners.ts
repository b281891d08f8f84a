// A listener a Connection. They come, move and go with the Connections; live sessions never notice.
import { createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../system/clock.ts';
import type { LogLine } from './observer.ts';

export interface Listeners {
  /** Makes the Connection reachable at `wanted`, moving it if it is elsewhere. Resolves once it listens or the first try failed; it keeps trying. */
  want(uid: string, wanted: { host: string; port: number }): Promise<void>;
  /** Stops accepting for the Connection. */
  drop(uid: string): void;
  endpoints(): ReadonlyMap<string, { host: string; port: number }>;
  /** Why a wanted listener is not open; by uid. */
  problems(): ReadonlyMap<string, string>;
  /** Drops all; resolves once every port is free. */
  close(): Promise<void>;
}

export interface ListenersOptions {
  clock: Clock;
  log: LogLine;
  onSocket(uid: string, socket: Socket): void;
  onChange(): void;
}

interface Slot {
  wanted: { host: string; port: number };
  server: Server | undefined;
  endpoint: { host: string; port: number } | undefined;
  problem: string | undefined;
  attempts: number;
  cancelRetry(): void;
}

const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 10_000;

export function createListeners(options: ListenersOptions): Listeners {
  const { clock, log } = options;
  const slots = new Map<string, Slot>();
  const closing = new Set<Promise<void>>();

  function retire(server: Server | undefined): void {
    if (server === undefined) return;
    // close() refuses new sockets at once and leaves accepted ones alone; its callback waits for those, the port does not.
    server.removeAllListeners('connection');
    const freed = new Promise<void>((resolve) => {
      server.close(() => resolve());
      setImmediate(resolve);
    });
    closing.add(freed);
    void freed.finally(() => closing.delete(freed));
  }

  function open(uid: string, slot: Slot): Promise<void> {
    slot.cancelRetry();
    const { wanted } = slot;
    // The same port can not be held twice: then the old listener goes first, else it stays until the new one is open.
    if (slot.endpoint?.port === wanted.port) {
      retire(slot.server);
      slot.server = undefined;
      slot.endpoint = undefined;
    }
    const server = createServer({ noDelay: true }, (socket) => options.onSocket(uid, socket));
    const current = (): boolean => slots.get(uid) === slot && slot.wanted === wanted;
    return new Promise((resolve) => {
      const fail = (error: Error): void => {
        if (current()) {
          slot.problem = `${wanted.host}:${wanted.port} can not be listened on (${codeOf(error)})`;
          log('error', 'a listener could not be opened', { connection: uid, ...wanted, error: codeOf(error) });
          const wait = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(slot.attempts++, 10));
          slot.cancelRetry = clock.after(wait, () => void open(uid, slot));
          options.onChange();
        }
        resolve();
      };
      server.once('error', fail);
      server.listen({ host: wanted.host, port: wanted.port, backlog: 511 }, () => {
        server.off('error', fail);
        server.on('error', (error) => log('error', 'a listener failed', { connection: uid, error: codeOf(error) }));
        if (!current()) {
          retire(server);
          return resolve();
        }
        retire(slot.server);
        slot.server = server;
        slot.problem = undefined;
        slot.attempts = 0;
        const address = server.address();
        slot.endpoint = {
          host: wanted.host,
          port: typeof address === 'object' && address !== null ? address.port : wanted.port,
        };
        log('info', 'a Connection is reachable', { connection: uid, ...slot.endpoint });
        options.onChange();
        resolve();
      });
    });
  }

  function drop(uid: string): void {
    const slot = slots.get(uid);
    if (slot === undefined) return;
    slots.delete(uid);
    slot.cancelRetry();
    retire(slot.server);
    options.onChange();
  }

  return {
    async want(uid, wanted) {
      let slot = slots.get(uid);
      if (slot?.wanted.host === wanted.host && slot.wanted.port === wanted.port) return;
      slot ??= {
        wanted,
        server: undefined,
        endpoint: undefined,
        problem: undefined,
        attempts: 0,
        cancelRetry: () => {},
      };
      slot.wanted = wanted;
      slot.attempts = 0;
      slots.set(uid, slot);
      await open(uid, slot);
    },
    drop,
    endpoints: () => mapOf(slots, (slot) => slot.endpoint),
    problems: () => mapOf(slots, (slot) => slot.problem),
    async close() {
      for (const uid of slots.keys()) drop(uid);
      await Promise.all(closing);
    },
  };
}

function mapOf<V>(slots: ReadonlyMap<string, Slot>, pick: (slot: Slot) => V | undefined): Map<string, V> {
  const found = new Map<string, V>();
  for (const [uid, slot] of slots) {
    const value = pick(slot);
    if (value !== undefined) found.set(uid, value);
  }
  return found;
}

const codeOf = (error: Error): string =>
  'code' in error && typeof error.code === 'string' ? error.code : error.message;
