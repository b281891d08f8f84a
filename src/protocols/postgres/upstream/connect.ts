// The gateway's own login at a PostgreSQL server: TLS verified in full unless the Connection says otherwise, SCRAM
// unless it opts into weaker methods. The credential goes to the socket the dial guard gave and nowhere else; no error
// made here holds it.
import { createHash } from 'node:crypto';
import { isIP, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import type { ConnectionSpec } from '../../../api/connection.ts';
import type { Credential } from '../../credential.ts';
import { type Dial, DialError } from '../../protocol.ts';
import { CONNECTION_FAILURE, type NativeError } from '../errors.ts';
import { HandshakeError, HandshakeReader } from '../handshake/reader.ts';
import {
  BACKEND,
  BodyReader,
  cancelRequest,
  decodeErrorFields,
  FRONTEND,
  int32,
  message,
  SSL_REQUEST,
  startupMessage,
  WireError,
} from '../wire/messages.ts';
import { type ScramBinding, ScramError, type ScramExchange, type ScramKeyCache, startScram } from './scram.ts';
import { tlsFailure } from './tls-failure.ts';

export type PostgresTarget = NonNullable<ConnectionSpec['postgresql']>;

export interface UpstreamOptions {
  target: PostgresTarget;
  credential: Credential;
  dial: Dial;
  database: string;
  /** Startup parameters besides user, database and what the gateway pins. */
  settings: Readonly<Record<string, string>>;
  applicationName: string;
  signal: AbortSignal;
  keys: ScramKeyCache;
}

export interface Upstream {
  stream: Duplex;
  /** Bytes of the server behind its first ReadyForQuery; in practice none. */
  leftover: Buffer;
  /** As the server reported them, in its order. */
  parameters: Map<string, string>;
  /** Of the server; never told to the client. */
  cancelKey: { processId: number; secret: Buffer } | undefined;
  /** First part of `server_version`; 0 if it can not be read. */
  major: number;
}

/** A login that did not come about. `native` may be told to the client. */
export class UpstreamError extends Error {
  readonly native: NativeError;
  constructor(native: NativeError, options?: ErrorOptions) {
    super(native.message, options);
    this.name = 'UpstreamError';
    this.native = native;
  }
}

const LONGEST_LOGIN_MESSAGE = 64 * 1024;

/** Rejects with UpstreamError. */
export async function connectUpstream(options: UpstreamOptions): Promise<Upstream> {
  let stream: Duplex | undefined;
  try {
    stream = await openTransport(options.target, options.dial, options.signal);
    return await logIn(stream, options);
  } catch (error) {
    stream?.on('error', () => undefined);
    stream?.destroy();
    throw asUpstreamError(error, options.target);
  }
}

/** Asks the server to cancel what the backend runs. Resolves once the server has taken note, or the attempt is over; never rejects. */
export async function cancelUpstream(
  target: PostgresTarget,
  dial: Dial,
  key: { processId: number; secret: Buffer },
  signal: AbortSignal,
): Promise<void> {
  try {
    const stream = await openTransport(target, dial, signal);
    await new Promise<void>((resolve) => {
      const done = (): void => {
        signal.removeEventListener('abort', done);
        stream.destroy();
        resolve();
      };
      stream.on('error', done);
      stream.on('close', done);
      stream.on('end', done);
      stream.resume();
      signal.addEventListener('abort', done, { once: true });
      stream.write(cancelRequest(key.processId, key.secret));
    });
  } catch {
    // Nothing more can be done from here; the caller has other means.
  }
}

async function openTransport(target: PostgresTarget, dial: Dial, signal: AbortSignal): Promise<Duplex> {
  const socket = await dial({ host: target.host, port: target.port ?? 5432 }, signal);
  socket.on('error', () => undefined);
  socket.setNoDelay(true);
  const mode = target.tls?.mode ?? 'VerifyFull';
  if (mode === 'InsecureDisable') return socket;
  try {
    const reader = new HandshakeReader(socket, signal);
    socket.write(SSL_REQUEST);
    const answer = await reader.read(1);
    if (answer[0] !== 0x53) {
      throw new UpstreamError({
        code: CONNECTION_FAILURE,
        message: 'Sallyport: the database does not offer TLS and the Connection demands it',
        hint: 'Turn on ssl at the server, or set spec.postgresql.tls.mode to InsecureDisable.',
      });
    }
    // An honest server is silent until our ClientHello.
    if (reader.buffered > 0) throw new HandshakeError('Invalid', 'bytes in front of TLS');
    reader.release();
    return await secureTransport(socket, target, mode, signal);
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

async function secureTransport(
  socket: Socket,
  target: PostgresTarget,
  mode: 'VerifyFull' | 'VerifyCA' | 'InsecureSkipVerify',
  signal: AbortSignal,
): Promise<tls.TLSSocket> {
  const name = target.tls?.serverName ?? target.host;
  const secure = tls.connect({
    socket,
    host: name,
    ...(isIP(name) === 0 ? { servername: name } : {}),
    ...(target.tls?.ca === undefined ? {} : { ca: target.tls.ca }),
    ALPNProtocols: ['postgresql'],
    minVersion: 'TLSv1.2',
    rejectUnauthorized: mode !== 'InsecureSkipVerify',
    ...(mode === 'VerifyFull' ? {} : { checkServerIdentity: () => undefined }),
  });
  return await new Promise((resolve, reject) => {
    const finish = (error: Error | undefined): void => {
      signal.removeEventListener('abort', onAbort);
      secure.off('secureConnect', onSecure);
      secure.off('error', finish);
      secure.off('close', onClose);
      secure.on('error', () => undefined);
      if (error === undefined) resolve(secure);
      else {
        secure.destroy();
        reject(error);
      }
    };
    const onSecure = (): void => finish(undefined);
    const onClose = (): void => finish(new HandshakeError('Closed', 'the database closed the connection'));
    const onAbort = (): void => finish(new HandshakeError('Aborted', 'the database did not answer in time'));
    secure.on('secureConnect', onSecure);
    secure.on('error', finish);
    secure.on('close', onClose);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}

type PasswordCredential = Extract<Credential, { kind: 'Password' }>;

async function logIn(stream: Duplex, options: UpstreamOptions): Promise<Upstream> {
  const { credential } = options;
  if (credential.kind !== 'Password') {
    throw new UpstreamError({
      code: CONNECTION_FAILURE,
      message: 'Sallyport: the account’s Secret has no password',
    });
  }
  const reader = new HandshakeReader(stream, options.signal);
  const optedIn = options.target.insecureAuthentication ?? [];
  stream.write(
    startupMessage({
      user: credential.username,
      database: options.database,
      ...options.settings,
      application_name: options.applicationName,
      standard_conforming_strings: 'on',
    }),
  );
  const parameters = new Map<string, string>();
  let cancelKey: Upstream['cancelKey'];
  let scram: ScramExchange | undefined;
  let proven = false;
  let accepted = false;
  for (;;) {
    const { type, body } = await reader.message(LONGEST_LOGIN_MESSAGE);
    const fields = new BodyReader(body, 0, body.length);
    switch (type) {
      case BACKEND.ErrorResponse:
        throw refusedByServer(decodeErrorFields(body, 0, body.length));
      case BACKEND.NoticeResponse:
        break;
      case BACKEND.Authentication: {
        if (accepted) throw new WireError('authentication after its end');
        const method = fields.int32();
        if (method === 0) {
          // SASL's Ok counts only behind the server's own proof; without any challenge nobody was asked.
          if (scram !== undefined ? !proven : !proven && !optedIn.includes('Trust'))
            throw weak('no password at all', 'Trust');
          accepted = true;
        } else if (method === 3) {
          if (!optedIn.includes('Cleartext') || scram !== undefined) throw weak('the password in clear', 'Cleartext');
          stream.write(message(FRONTEND.Password, credential.password));
          proven = true;
        } else if (method === 5) {
          if (!optedIn.includes('MD5') || scram !== undefined) throw weak('an MD5 hash', 'MD5');
          stream.write(message(FRONTEND.Password, md5Answer(credential, fields.bytes(4))));
          proven = true;
        } else if (method === 10) {
          if (scram !== undefined) throw new WireError('SASL twice');
          const offered: string[] = [];
          for (let name = fields.cstring(); name !== ''; name = fields.cstring()) offered.push(name);
          scram = beginScram(stream, offered, credential.password, options.keys);
          stream.write(message(FRONTEND.Password, scram.mechanism, int32(scram.first.length), scram.first));
        } else if (method === 11) {
          if (scram === undefined) throw new WireError('SASL out of order');
          stream.write(message(FRONTEND.Password, await scram.respond(fields.bytes(fields.left).toString('utf8'))));
        } else if (method === 12) {
          if (scram === undefined) throw new WireError('SASL out of order');
          scram.verify(fields.bytes(fields.left).toString('utf8'));
          proven = true;
        } else {
          throw weak(`authentication method ${method}`, undefined);
        }
        break;
      }
      case BACKEND.ParameterStatus: {
        const name = fields.cstring();
        parameters.set(name, fields.cstring());
        break;
      }
      case BACKEND.BackendKeyData: {
        const processId = fields.int32();
        cancelKey = { processId, secret: Buffer.from(fields.bytes(fields.left)) };
        break;
      }
      case BACKEND.ReadyForQuery: {
        if (!accepted) throw new WireError('ready before authentication');
        const major = Number.parseInt(parameters.get('server_version') ?? '', 10);
        return { stream, leftover: reader.release(), parameters, cancelKey, major: Number.isNaN(major) ? 0 : major };
      }
      default:
        throw new WireError(`message type 0x${type.toString(16)} in a login`);
    }
  }
}

function beginScram(stream: Duplex, offered: readonly string[], password: string, keys: ScramKeyCache): ScramExchange {
  const endPoint = stream instanceof tls.TLSSocket ? certificateHash(stream) : undefined;
  const plus = offered.includes('SCRAM-SHA-256-PLUS');
  if (!plus && !offered.includes('SCRAM-SHA-256')) throw weak(`SASL ${offered.join(', ').slice(0, 100)}`, undefined);
  const binding: ScramBinding = plus
    ? { endPoint, couldBind: false }
    : { endPoint: undefined, couldBind: endPoint !== undefined };
  return startScram(password, binding, keys);
}

/** tls-server-end-point (RFC 5929, 4.1): the certificate's hash by its signature's hash, SHA-256 instead of MD5 and SHA-1. */
function certificateHash(stream: tls.TLSSocket): Buffer | undefined {
  const certificate = stream.getPeerX509Certificate();
  const algorithm = (certificate as { signatureAlgorithm?: string } | undefined)?.signatureAlgorithm ?? '';
  const hash = /(md5|sha-?1|sha-?224|sha-?256|sha-?384|sha-?512)(?![0-9])/i
    .exec(algorithm)?.[1]
    ?.toLowerCase()
    .replace('-', '');
  if (certificate === undefined || hash === undefined) return undefined;
  return createHash(hash === 'md5' || hash === 'sha1' ? 'sha256' : hash)
    .update(certificate.raw)
    .digest();
}

function md5Answer(credential: PasswordCredential, salt: Buffer): string {
  const md5 = (...parts: (string | Buffer)[]): string => {
    const hash = createHash('md5');
    for (const part of parts) hash.update(part);
    return hash.digest('hex');
  };
  return `md5${md5(md5(credential.password, credential.username), salt)}`;
}

function weak(asked: string, setting: string | undefined): UpstreamError {
  return new UpstreamError({
    code: CONNECTION_FAILURE,
    message: `Sallyport: the database asks for ${asked}, which this Connection does not allow`,
    hint:
      setting === undefined
        ? 'Set password_encryption and pg_hba.conf to scram-sha-256.'
        : `Set password_encryption and pg_hba.conf to scram-sha-256, or add ${setting} to spec.postgresql.insecureAuthentication.`,
  });
}

function refusedByServer(fields: Record<string, string>): UpstreamError {
  const code = fields.C ?? CONNECTION_FAILURE;
  // What class 28 says is about the account's credential, which is none of the user's business.
  if (code.startsWith('28')) {
    return new UpstreamError(
      {
        code: CONNECTION_FAILURE,
        message: "Sallyport: the database refused the Connection's own account",
        hint: 'Nothing is wrong with your login. Its owners have to check the account’s Secret and pg_hba.conf.',
      },
      { cause: fields.M },
    );
  }
  return new UpstreamError({
    code,
    message: fields.M ?? 'the database refused the login',
    ...(fields.D === undefined ? {} : { detail: fields.D }),
    ...(fields.H === undefined ? {} : { hint: fields.H }),
  });
}

function asUpstreamError(error: unknown, target: PostgresTarget): UpstreamError {
  if (error instanceof UpstreamError) return error;
  const place = `${target.host}:${target.port ?? 5432}`;
  const reason = error instanceof Error ? error.message : String(error);
  const make = (message: string, hint: string): UpstreamError =>
    new UpstreamError({ code: CONNECTION_FAILURE, message: `Sallyport: ${message}`, hint }, { cause: error });
  if (error instanceof DialError) {
    return make(
      `could not reach the database at ${place}: ${reason}`,
      'Check spec.postgresql.host and port, and that the server runs.',
    );
  }
  if (error instanceof ScramError) {
    return make(
      `could not trust the database at ${place}: ${reason}`,
      'Check the account’s Secret and that this is the right server.',
    );
  }
  if (error instanceof HandshakeError && error.code === 'Aborted') {
    return make(
      `the database at ${place} did not answer in time`,
      'Check that the server runs and is reachable from here.',
    );
  }
  if (error instanceof HandshakeError || error instanceof WireError) {
    return make(
      `the database at ${place} broke off the login: ${reason}`,
      'Check that a PostgreSQL server listens there.',
    );
  }
  const failure = tlsFailure(error, target.tls?.serverName ?? target.host);
  return make(`could not secure the connection to the database at ${place}: ${failure.reason}`, failure.hint);
}
