// PostgreSQL: the protocol as the gateway drives it. Reads in this order: handshake/ (who is it), upstream/ (our own
// login), session/ (every message since), side-pool.ts and side.ts (what is done past the session).
//
// Guarantees: whatever a client or server does costs that client its connection and nothing else; a session that was
// authenticated is `ended` exactly once; nothing is dialled before that.
import type { Duplex } from 'node:stream';
import { maskDetectedText } from '../../policy/detectors/detectors.ts';
import type { AuthenticatedSession, Cut, ProbeResult, ProbeTarget, Protocol, SessionContext } from '../protocol.ts';
import { createClassificationCache } from './classify/cache.ts';
import { loadClassifier } from './classify/classify.ts';
import { createShapeCache } from './classify/shape-cache.ts';
import { postgresDefinition } from './definition.ts';
import { CONNECTION_FAILURE, cutError, type NativeError, NOT_SUPPORTED } from './errors.ts';
import { admit, refuse } from './handshake/frontend-auth.ts';
import type { Startup } from './handshake/startup.ts';
import { openMaskingCatalog } from './masking/catalog.ts';
import type { MaskingCatalog } from './masking/masking.ts';
import { mustUnderstand, type Services } from './session/core.ts';
import { type RunningSession, runSession } from './session/session.ts';
import { type CatalogOptions, createSidePool, type Side, type SidePool } from './side-pool.ts';
import {
  cancelUpstream,
  connectUpstream,
  type PostgresTarget,
  type Upstream,
  UpstreamError,
} from './upstream/connect.ts';
import { applicationName, isTestedMajor } from './upstream/parameters.ts';
import { ScramKeyCache } from './upstream/scram.ts';
import { authenticationOk, backendKeyData, parameterStatus, readyForQuery } from './wire/messages.ts';

export interface PostgresOptions {
  /** How hints begin: `sallyport` (default) or `kubectl access`. */
  commandPrefix?: string;
  /** For tests; default: the real ones. */
  classify?: Services['classify'];
  openCatalog?: (options: CatalogOptions) => MaskingCatalog;
}

/** A login at a server that answers takes milliseconds. */
const UPSTREAM_MS = 10_000;
const CANCEL_MS = 5_000;
const TERMINATE_MS = 2_000;

interface Shared {
  services: Services;
  keys: ScramKeyCache;
  sides: SidePool;
}

export function createPostgresProtocol(options: PostgresOptions = {}): Protocol {
  const shared: Shared = {
    services: {
      ...(options.classify === undefined
        ? cachedClassifier()
        : { classify: options.classify, classifyLike: () => undefined }),
      prefix: options.commandPrefix ?? 'sallyport',
    },
    keys: new ScramKeyCache(),
    sides: createSidePool({ openCatalog: options.openCatalog ?? openMaskingCatalog }),
  };
  return {
    ...postgresDefinition,
    accept: (socket, context) => accept(socket, context, shared),
    probe: (target) => probe(target, shared.keys),
  };
}

/** Longer texts never come here: the session's own limit is lower or the same. */
const MOST_STATEMENT_BYTES = 64 * 1024 * 1024;

function cachedClassifier(): Pick<Services, 'classify' | 'classifyLike'> {
  const cache = createClassificationCache({ statementBytes: MOST_STATEMENT_BYTES });
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const shapes = createShapeCache({ classify: (text) => cache.classify(text) });
  return {
    classify(text) {
      let decoded: string;
      try {
        decoded = decoder.decode(text);
      } catch {
        return { kind: 'NotUnderstood', reason: 'it is not valid UTF-8' };
      }
      return cache.classify(decoded);
    },
    // Bytes above ASCII have no shape, so it does not matter how they are read here.
    classifyLike: (text) => shapes.find(text.toString('latin1')),
  };
}

async function accept(socket: Duplex, context: SessionContext, shared: Shared): Promise<void> {
  const admission = await admit(socket, context);
  switch (admission.kind) {
    case 'Refused':
      context.log('info', 'a client was not let in', { reason: admission.reason });
      return;
    case 'Cancel':
      // Whether the key was known is nobody's business: the answer is the same.
      context.cancels.cancel(admission.key);
      admission.stream.destroy();
      return;
    case 'Granted':
      await serve(admission, context, shared);
  }
}

interface Granted {
  stream: Duplex;
  leftover: Buffer;
  startup: Startup;
  session: AuthenticatedSession;
}

async function serve(granted: Granted, context: SessionContext, shared: Shared): Promise<void> {
  const { stream, session } = granted;
  const login = new AbortController();
  let cut: Cut | undefined;
  let running: RunningSession | undefined;
  session.onCut((reason) => {
    cut = reason;
    if (running === undefined) login.abort();
    else running.cut(reason);
  });
  const untold: { message: string; hint?: string }[] = [];
  session.onNotice((notice) => {
    if (running === undefined) untold.push(notice);
    else running.tell(notice);
  });
  const onGone = (): void => login.abort();
  stream.on('close', onGone);
  const stopTimer = context.clock.after(UPSTREAM_MS, onGone);
  let side: Side | undefined;
  let unregister: (() => void) | undefined;
  try {
    await loadClassifier();
    const target = context.connection.spec.postgresql;
    if (target === undefined)
      throw new UpstreamError({
        code: CONNECTION_FAILURE,
        message: 'Sallyport: the Connection is not a PostgreSQL one',
      });
    const database = chooseDatabase(target, granted.startup.database);
    const open = (signal: AbortSignal, application: string, settings: Startup['settings']): Promise<Upstream> =>
      session.credential().then((credential) =>
        connectUpstream({
          target,
          credential,
          dial: session.dial,
          database,
          settings,
          applicationName: application,
          signal,
          keys: shared.keys,
        }),
      );
    const signal = AbortSignal.any([login.signal, context.signal]);
    const upstream = await open(
      signal,
      applicationName(session.principal.username, granted.startup.applicationName),
      granted.startup.settings,
    );
    stopTimer();
    const untrusted = unfit(upstream, session);
    if (untrusted !== undefined || cut !== undefined || stream.destroyed) {
      upstream.stream.destroy();
      throw new UpstreamError(
        untrusted ?? { code: CONNECTION_FAILURE, message: 'Sallyport: the login was broken off' },
      );
    }
    const sideOfSession = shared.sides.acquire(
      { connectionUid: context.connection.uid, account: session.account, database },
      context.clock,
      (sideSignal) =>
        open(AbortSignal.any([sideSignal, AbortSignal.timeout(UPSTREAM_MS)]), 'sallyport (side connection)', {
          client_encoding: 'UTF8',
        }),
      (error) =>
        context.log('warn', 'the names of the database could not be read; what needs them is refused', {
          account: session.account,
          database,
          error: error instanceof Error ? error.message : String(error),
        }),
    );
    side = sideOfSession;
    const key = newCancelKey(context, granted.startup.minor);
    unregister = context.cancels.register(key, () => running?.cancelRequested());
    const cancel = (): Promise<void> =>
      upstream.cancelKey === undefined
        ? Promise.resolve()
        : cancelUpstream(target, session.dial, upstream.cancelKey, AbortSignal.timeout(CANCEL_MS));
    stream.off('close', onGone);
    stream.write(
      Buffer.concat([
        authenticationOk(),
        ...[...upstream.parameters].map(([name, value]) => parameterStatus(name, value)),
        backendKeyData(key.readInt32BE(0), key.subarray(4)),
        readyForQuery('I'),
      ]),
    );
    running = runSession({
      context,
      session,
      services: shared.services,
      client: stream,
      clientLeftover: granted.leftover,
      upstream,
      database,
      catalog: () => sideOfSession.catalog(),
      names: { catalog: () => sideOfSession.names(), changed: () => sideOfSession.namesChanged() },
      sideQuery: (sql) => sideOfSession.connection.query(sql),
      cancel,
      terminate: () => terminate(upstream, sideOfSession, cancel, context.clock),
    });
    for (const notice of untold) running.tell(notice);
    await running.closed;
  } catch (error) {
    await giveUp(stream, session, context, cut, error);
  } finally {
    stopTimer();
    stream.off('close', onGone);
    unregister?.();
    side?.release();
  }
}

/** The login at the target did not come about: says why, natively, and ends the session. */
async function giveUp(
  stream: Duplex,
  session: AuthenticatedSession,
  context: SessionContext,
  cut: Cut | undefined,
  error: unknown,
): Promise<void> {
  if (cut !== undefined) {
    await refuse(stream, cutError(cut, false));
    session.ended(cut.code, cut.message);
  } else if (stream.destroyed) {
    session.ended('ClientClosed');
  } else {
    const native: NativeError =
      error instanceof UpstreamError
        ? error.native
        : {
            code: CONNECTION_FAILURE,
            message: 'Sallyport: the database could not be reached with the Connection’s account',
            hint: 'The Connection’s owners find the cause in the gateway’s log.',
          };
    context.log('warn', 'no session at the target', { error: error instanceof Error ? error.message : String(error) });
    await refuse(stream, native);
    session.ended('TargetUnavailable', native.message);
  }
  stream.destroy();
}

function chooseDatabase(target: PostgresTarget, asked: string | undefined): string {
  const allowed = target.databases;
  if (asked === undefined) return allowed?.[0] ?? 'postgres';
  if (allowed !== undefined && !allowed.includes(asked)) {
    throw new UpstreamError({
      code: '3D000', // invalid_catalog_name
      message: `Sallyport: database "${maskDetectedText(asked.slice(0, 63))}" is not part of this Connection`,
      hint: `Connect to ${allowed.join(' or ')}.`,
    });
  }
  return asked;
}

/** Why the server can not be used under the policy in force. */
function unfit(upstream: Upstream, session: AuthenticatedSession): NativeError | undefined {
  const policy = session.policy();
  if (mustUnderstand(policy) && !isTestedMajor(upstream.major)) {
    return {
      code: NOT_SUPPORTED,
      message: `Sallyport: rules and masks are not known to hold on PostgreSQL ${upstream.major}`,
      hint: 'Versions 13 to 18 are known.',
    };
  }
  if (policy.masks.length > 0 && upstream.parameters.get('is_superuser') === 'on') {
    return {
      code: '42501',
      message: 'Sallyport: data is masked here, and the account is a superuser, from whom nothing can be hidden',
      hint: 'The Connection’s owners have to give the account fewer rights.',
    };
  }
  return undefined;
}

/** Process id and secret as the client will send them back. 3.0 has room for 4 bytes each, all of them random here. */
function newCancelKey(context: SessionContext, minor: 0 | 2): Buffer {
  const key = context.random.bytes(minor === 2 ? 36 : 8);
  key[0] = key[0]! & 0x7f; // clients print the process id as a positive number
  return key;
}

/** A backend may trap a cancel and outlive its socket: it is terminated by name, from beside. */
async function terminate(
  upstream: Upstream,
  side: Side,
  cancel: () => Promise<void>,
  clock: SessionContext['clock'],
): Promise<void> {
  const processId = upstream.cancelKey?.processId;
  if (processId === undefined) return;
  const kill = side.connection.query(`select pg_catalog.pg_terminate_backend(${processId})`).catch(() => undefined);
  // Until the side connection stands, a cancel is the quicker way.
  const told = side.connection.warm ? kill : Promise.all([kill, cancel()]);
  // A target that does not answer must not keep the session's end from being recorded.
  let stop: (() => void) | undefined;
  const late = new Promise<void>((resolve) => {
    stop = clock.after(TERMINATE_MS, resolve);
  });
  await Promise.race([told, late]);
  stop?.();
}

async function probe(target: ProbeTarget, keys: ScramKeyCache): Promise<ProbeResult> {
  const spec = target.connection.spec.postgresql;
  if (spec === undefined)
    return { kind: 'Failed', reason: 'the Connection is not a PostgreSQL one', hint: 'Set spec.postgresql.' };
  try {
    const upstream = await connectUpstream({
      target: spec,
      credential: target.credential,
      dial: target.dial,
      database: spec.databases?.[0] ?? 'postgres',
      settings: {},
      applicationName: 'sallyport probe',
      signal: AbortSignal.any([target.signal, AbortSignal.timeout(UPSTREAM_MS)]),
      keys,
    });
    upstream.stream.on('error', () => undefined);
    upstream.stream.destroy();
    return { kind: 'Reachable', version: upstream.parameters.get('server_version') ?? 'unknown' };
  } catch (error) {
    if (error instanceof UpstreamError) {
      return {
        kind: 'Failed',
        reason: error.native.message.replace(/^Sallyport: /, ''),
        hint: error.native.hint ?? 'Check the Connection.',
      };
    }
    return { kind: 'Failed', reason: 'the probe failed', hint: 'The cause is in the log.' };
  }
}
