// One authenticated session between two sockets: wires frontend and backend, keeps memory bounded by pausing whichever
// side is faster, and ends it in one place: by either peer, by a cut, by a failure. Whatever ends it, the backend at the
// server is told, the client hears a native error where a message boundary allows, and `ended` is called once.
import type { Duplex } from 'node:stream';
import type { AuthenticatedSession, Cut, SessionContext } from '../../protocol.ts';
import { cutError, fatal, type NativeError, noticeFields, refusalError } from '../errors.ts';
import { Ledger } from '../ledger.ts';
import type { MaskingCatalog } from '../masking/masking.ts';
import { type NamesSource, SessionNames } from '../names/session.ts';
import type { Upstream } from '../upstream/connect.ts';
import { noticeResponse, SYNC, TERMINATE } from '../wire/messages.ts';
import { Outbox } from '../wire/outbox.ts';
import { Backend } from './backend.ts';
import { type Core, newNames, type Services } from './core.ts';
import { Frontend } from './frontend.ts';
import type { Batch, Outgoing } from './outgoing.ts';
import { recordRefusal, substitute } from './substitute.ts';
import type { Item } from './types.ts';

export interface SessionParts {
  context: SessionContext;
  session: AuthenticatedSession;
  services: Services;
  client: Duplex;
  clientLeftover: Buffer;
  upstream: Upstream;
  database: string;
  catalog(): MaskingCatalog;
  names: NamesSource;
  sideQuery(sql: string): Promise<(string | null)[][]>;
  /** CancelRequest at the server; never rejects. */
  cancel(): Promise<void>;
  /** Ends the backend at the server by every means; resolves when it was told. Never rejects. */
  terminate(): Promise<void>;
}

export interface RunningSession {
  /** Resolves when both sides are closed. */
  readonly closed: Promise<void>;
  cut(cut: Cut): void;
  /** A NOTICE of ours, on the next message boundary: at once where nothing runs. */
  tell(notice: { message: string; hint?: string }): void;
  /** A CancelRequest of the client's arrived. */
  cancelRequested(): void;
}

/** Above this much unsent the other side is asked to wait. */
const HIGH_WATER = 1024 * 1024;
/** A peer that was told goodbye gets this long to take it. */
const FAREWELL_MS = 2000;

export function runSession(parts: SessionParts): RunningSession {
  const { context, session, client, upstream } = parts;
  const server = upstream.stream;
  const ledger = new Ledger<Item>();
  const { promise: closed, resolve: resolveClosed } = Promise.withResolvers<void>();
  let ending = false;
  let serverGone = false;
  let clientGone = false;
  let unwritten = 0;
  let clientLeft = false;
  let refusing = false;
  let cancelling: Promise<void> | undefined;
  const toServer = new Outbox();

  const core: Core = {
    context,
    session,
    services: parts.services,
    database: parts.database,
    serverMajor: upstream.major,
    parameters: upstream.parameters,
    ledger,
    ...newNames(),
    catalog: parts.catalog,
    names: new SessionNames(parts.names, upstream.parameters),
    sideQuery: parts.sideQuery,
    transaction: 'I',
    segment: 0,
    nextCommandId: 0,
    fail: (error, reason) => end(error, reason, error.message),
    cancelRunning: () => cancelUpstream(),
    onIdle: undefined,
    masking: undefined,
    passedTexts: new WeakMap(),
  };

  // --- to the server

  const forward = (batch: Batch, failed: boolean): void => {
    if (ending) return;
    if (cancelling !== undefined) {
      // A cancel that is still under way must hit what it was meant for, not what comes next.
      void cancelling.then(() => forward(batch, failed));
      return;
    }
    for (const one of batch.messages) send(one, failed);
    if (batch.last) {
      clientLeft = true;
      toServer.add(TERMINATE);
      toServer.flush(server);
      server.end();
      context.clock.after(FAREWELL_MS, () => server.destroy());
      return;
    }
    if (!toServer.flush(server) && server.writableLength > HIGH_WATER) throttleClient();
    if (unwritten === 0 && ledger.idle) backendIdle();
  };

  /** `refusing`: a record could not be written; extended messages up to the client's Sync are gone with it. */
  const send = (one: Outgoing, failed: boolean): void => {
    if (refusing && one.refuseAs !== 'Sync') {
      if (one.item !== undefined) backend.skipped(one.item);
      return;
    }
    if (one.refuseAs === 'CopyEnd') ledger.noteCopyEnd();
    if (one.refuseAs === 'Sync') refusing = false;
    else if (failed && (one.refuseAs === 'Query' || one.refuseAs === 'Extended')) {
      if (one.item !== undefined) backend.skippedNames(one.item);
      const denial = session.denialId();
      const refusal = recordRefusal();
      session.observe.decision('Deny', refusal.code);
      const bytes = substitute(one.refuseAs, denial);
      const item: Item = { kind: 'Denial', error: refusalError(refusal, denial, parts.services.prefix) };
      ledger.push(one.refuseAs === 'Query' ? 'Query' : 'Parse', item);
      if (one.refuseAs === 'Extended') refusing = true;
      toServer.add(bytes);
      return;
    }
    if (one.expect !== undefined && !ledger.push(one.expect, one.item!)) backend.skipped(one.item!);
    toServer.span(one.buffer, one.start, one.end);
  };

  const seal = (batch: Batch): void => {
    if (ending) return;
    if (!batch.recorded && unwritten === 0) {
      forward(batch, false);
      return;
    }
    unwritten += 1;
    session.record.whenWritten((error) => {
      unwritten -= 1;
      if (error !== undefined) context.log('error', 'records could not be written', { code: error.code });
      forward(batch, error !== undefined);
    });
  };

  const backendIdle = (): void => {
    const { onIdle } = core;
    core.onIdle = undefined;
    onIdle?.();
  };

  let clientThrottled = false;
  const throttleClient = (): void => {
    if (clientThrottled) return;
    clientThrottled = true;
    client.pause();
    frontend.framer.pause();
    server.once('drain', () => {
      clientThrottled = false;
      if (ending) return;
      if (!frontend.isSuspended) frontend.drained();
      readClient();
    });
  };

  /** Reads the client unless it is held up with a full buffer, or the server is behind. */
  const readClient = (): void => {
    if (ending || clientThrottled) return;
    if (frontend.framer.buffered > context.limits.clientBufferBytes) client.pause();
    else client.resume();
  };

  const frontend = new Frontend(core, {
    tell: (message) => {
      backend.tell(message);
      flushClient();
    },
    get unwritten() {
      return unwritten;
    },
    seal,
    suspended: () => undefined,
    resumed: () => setImmediate(readClient),
  });

  // --- to the client

  const backend = new Backend(core, {
    copyFailed: () => {
      if (!frontend.copyFailed()) return;
      ledger.push('Sync', { kind: 'Plain' });
      toServer.add(SYNC);
      toServer.flush(server);
    },
    paused: () => server.pause(),
    resumed: () => {
      setImmediate(() => {
        flushClient();
        if (!ending && !serverThrottled) server.resume();
      });
    },
  });

  let serverThrottled = false;
  const flushClient = (): void => {
    if (backend.outbox.bytes === 0) return;
    if (backend.outbox.flush(client) || client.writableLength <= HIGH_WATER || serverThrottled) return;
    serverThrottled = true;
    server.pause();
    client.once('drain', () => {
      serverThrottled = false;
      if (!ending && !backend.framer.paused) server.resume();
    });
  };

  // --- cancel and cut

  const cancelUpstream = (): Promise<void> => {
    cancelling ??= parts.cancel().finally(() => {
      cancelling = undefined;
    });
    return cancelling;
  };

  const cancelRequested = (): void => {
    if (ending) return;
    if (frontend.withdraw()) return;
    const head = ledger.head;
    if (head === undefined || head.kind === 'Sync') return; // idle: there is nothing of this session's to cancel
    void cancelUpstream();
  };

  /** The one way out for a session that does not end by itself. `error` is told to the client where that is possible. */
  const end = (error: NativeError | undefined, reason: string, message?: string): void => {
    if (ending) return;
    ending = true;
    const busy = !ledger.idle && !serverGone;
    const mayTell = error !== undefined && !backend.framer.inMessage && !clientGone;
    frontend.stop(reason === 'ClientClosed');
    backend.stop();
    client.pause();
    server.pause();
    for (const entry of ledger.clear()) {
      if (entry.value.kind === 'Run') entry.value.run.error ??= { code: '57P01', message: `session ended: ${reason}` };
      backend.skipped(entry.value);
    }
    const told = mayTell ? fatal(error) : undefined;
    const farewell = (async (): Promise<void> => {
      // An idle backend goes when it is told; a busy one would run on, whoever listens.
      if (busy) await parts.terminate();
      else if (!serverGone && !server.destroyed) {
        await new Promise<void>((resolve) => {
          context.clock.after(FAREWELL_MS, resolve);
          server.end(TERMINATE, () => resolve());
        });
      }
      server.destroy();
    })();
    if (told !== undefined) {
      backend.outbox.add(told);
      backend.outbox.flush(client);
    }
    client.end();
    client.resume(); // what it still sends is read and forgotten, or the close would wait for it
    const stop = context.clock.after(FAREWELL_MS, () => client.destroy());
    void farewell.finally(() => {
      session.ended(reason, message);
      if (client.destroyed) stop();
      serverGone = true;
      settle();
    });
  };

  const settle = (): void => {
    if (serverGone && clientGone) resolveClosed();
  };

  /** Neither side broke anything: both are closed and the books are closed with them. */
  const endQuietly = (reason: string): void => {
    if (ending) return;
    ending = true;
    frontend.stop();
    backend.stop();
    for (const entry of ledger.clear()) backend.skipped(entry.value);
    flushClientLast();
    server.destroy();
    session.ended(reason);
    serverGone = true;
    context.clock.after(FAREWELL_MS, () => client.destroy());
    settle();
  };
  const flushClientLast = (): void => {
    backend.outbox.flush(client);
    client.end();
    client.resume();
  };

  // --- sockets

  client.on('data', (chunk: Buffer) => {
    if (ending) return;
    frontend.receive(chunk);
    if (frontend.framer.buffered > context.limits.clientBufferBytes) client.pause();
  });
  client.on('end', () => {
    if (ending) return;
    if (frontend.isSuspended) end(undefined, 'ClientClosed');
    else frontend.finish();
  });
  client.on('error', () => undefined);
  client.on('close', () => {
    clientGone = true;
    if (!ending) {
      if (clientLeft) endQuietly('ClientClosed');
      else end(undefined, 'ClientClosed');
    }
    settle();
  });

  server.on('data', (chunk: Buffer) => {
    if (ending) return;
    backend.framer.push(chunk);
    flushClient();
  });
  server.on('error', () => undefined);
  const onServerGone = (): void => {
    serverGone = true;
    if (ending) return;
    if (clientLeft) endQuietly('ClientClosed');
    else if (backend.serverSaidFatal) endQuietly('ServerClosed');
    else {
      end(
        {
          code: '57P02',
          message: 'Sallyport: the database closed the connection',
          hint: 'Reconnect; if it stays so, the database’s own log says why.',
        },
        'ServerClosed',
      );
    }
  };
  server.on('end', onServerGone);
  server.on('close', onServerGone);

  setImmediate(() => {
    if (ending) return;
    if (parts.upstream.leftover.length > 0) backend.framer.push(parts.upstream.leftover);
    if (parts.clientLeftover.length > 0) frontend.receive(parts.clientLeftover);
    flushClient();
    client.resume();
    server.resume();
    if (client.destroyed) end(undefined, 'ClientClosed');
    else if (server.destroyed) onServerGone();
  });

  return {
    closed,
    cut: (cut) => end(cutError(cut, !ledger.idle || frontend.isSuspended), cut.code, cut.message),
    tell(notice) {
      if (ending) return;
      backend.tell(noticeResponse(noticeFields(notice)));
      flushClient();
    },
    cancelRequested,
  };
}
