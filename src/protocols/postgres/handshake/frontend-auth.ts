// A client's way in, up to its proof: TLS, startup packet, password. One deadline over all of it, every size bounded,
// and nothing of the target is touched before the gateway has said `Granted`.
import type { Duplex } from 'node:stream';
import { looksLikeToken } from '../../../identity/oidc/looks-like-token.ts';
import type { AuthenticatedSession, Authentication, SessionContext } from '../../protocol.ts';
import { fatal, INVALID_AUTHORIZATION, LOGIN_SQLSTATE, type NativeError, PROTOCOL_VIOLATION } from '../errors.ts';
import {
  authenticationCleartextPassword,
  decodeText,
  FRONTEND,
  negotiateProtocolVersion,
  WireError,
} from '../wire/messages.ts';
import {
  authenticationSasl,
  authenticationSaslContinue,
  isDummyResponse,
  LONGEST_SASL,
  OAUTH_SUFFIX,
  readBearer,
  readInitialResponse,
  refusalJson,
} from './oauthbearer.ts';
import { HandshakeError, HandshakeReader } from './reader.ts';
import { LONGEST_STARTUP, readStartup, type Startup } from './startup.ts';
import { acceptTls } from './tls.ts';

/** A ticket is 600 bytes, a token of an identity provider some kilobytes. */
const LONGEST_PASSWORD = 16 * 1024;

export type Admission =
  | { kind: 'Granted'; stream: Duplex; leftover: Buffer; startup: Startup; session: AuthenticatedSession }
  | { kind: 'Cancel'; key: Buffer; stream: Duplex }
  /** Told natively where that was possible; the stream is ended or destroyed. */
  | { kind: 'Refused'; reason: string };

/** Never rejects. */
export async function admit(socket: Duplex, context: SessionContext): Promise<Admission> {
  const deadline = new AbortController();
  const stopTimer = context.clock.after(context.limits.handshakeMs, () => deadline.abort());
  const signal = AbortSignal.any([deadline.signal, context.signal]);
  const swallow = (): void => undefined;
  socket.on('error', swallow); // a reset must not become an uncaught exception, whoever is listening just then
  let current: Duplex = socket;
  try {
    return await negotiate(socket, context, signal, (stream) => {
      current = stream;
      stream.on('error', swallow);
    });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (error instanceof HandshakeError && error.code === 'Aborted') {
      await refuse(current, { code: '57014', message: 'Sallyport: canceling authentication due to timeout' });
    } else if (error instanceof WireError || (error instanceof HandshakeError && error.code === 'Invalid')) {
      await refuse(current, { code: PROTOCOL_VIOLATION, message: `Sallyport: ${reason}` });
    } else if (!(error instanceof HandshakeError)) {
      context.log('error', 'handshake failed', { error: reason });
    }
    current.destroy();
    socket.destroy();
    return { kind: 'Refused', reason };
  } finally {
    stopTimer();
  }
}

async function negotiate(
  socket: Duplex,
  context: SessionContext,
  signal: AbortSignal,
  switched: (stream: Duplex) => void,
): Promise<Admission> {
  const target = context.connection.spec.postgresql;
  let stream = socket;
  let secure = false;
  let gssAsked = false;
  let reader = new HandshakeReader(stream, signal);
  const upgrade = async (direct: boolean, material: NonNullable<SessionContext['tls']>): Promise<void> => {
    const secured = await acceptTls(stream, material, direct, signal);
    stream = secured;
    secure = true;
    switched(secured);
    reader = new HandshakeReader(stream, signal);
  };
  for (;;) {
    const first = await reader.read(1);
    if (first[0] === 0x16 && !secure && !gssAsked && stream === socket) {
      if (context.tls === undefined) return await close(stream, 'direct TLS without a certificate of ours');
      const rest = reader.release();
      stream.unshift(Buffer.concat([first, rest]));
      await upgrade(true, context.tls);
      continue;
    }
    const length = Buffer.concat([first, await reader.read(3)]).readInt32BE(0);
    if (length < 8 || length > LONGEST_STARTUP) {
      return await close(stream, 'invalid length of startup packet', {
        code: PROTOCOL_VIOLATION,
        message: 'invalid length of startup packet',
      });
    }
    const packet = readStartup(await reader.read(length - 4));
    switch (packet.kind) {
      case 'Refused':
        return await close(stream, packet.error.message, packet.error);
      case 'Cancel':
        reader.release();
        return { kind: 'Cancel', key: packet.key, stream };
      case 'SslRequest':
      case 'GssRequest': {
        // Bytes behind a request came before anything was agreed on: somebody put plain text in front of TLS (CVE-2021-23214).
        if (reader.buffered > 0) return await close(stream, 'bytes behind an encryption request');
        if (secure) return await close(stream, 'encryption asked for twice');
        if (packet.kind === 'GssRequest') {
          if (gssAsked) return await close(stream, 'GSS encryption asked for twice');
          gssAsked = true;
          stream.write('N');
        } else if (context.tls === undefined) {
          stream.write('N');
          if (target?.insecureClients !== true) context.log('warn', 'a client asked for TLS and there is none');
        } else {
          reader.release();
          stream.write('S');
          await upgrade(false, context.tls);
        }
        continue;
      }
      case 'Startup':
        if (!secure && target?.insecureClients !== true) {
          return await close(stream, 'a client without TLS', {
            code: INVALID_AUTHORIZATION,
            message: 'Sallyport accepts TLS connections only',
            hint: 'Set sslmode=verify-full (or at least require); the address the client used is the right one.',
          });
        }
        return await authenticate(stream, secure, reader, context, packet.startup);
    }
  }
}

async function authenticate(
  stream: Duplex,
  secure: boolean,
  reader: HandshakeReader,
  context: SessionContext,
  startup: Startup,
): Promise<Admission> {
  if (startup.negotiate !== undefined) {
    stream.write(negotiateProtocolVersion(startup.negotiate.minor, startup.negotiate.unknown));
  }
  if (startup.user.endsWith(OAUTH_SUFFIX)) {
    if (!secure) return await close(stream, 'a token without TLS', TOKEN_NEEDS_TLS);
    return await authenticateBearer(stream, reader, context, startup);
  }
  stream.write(authenticationCleartextPassword());
  const { type, body } = await reader.message(LONGEST_PASSWORD);
  if (type !== FRONTEND.Password) {
    return await close(stream, 'no password message', {
      code: PROTOCOL_VIOLATION,
      message: `expected password response, got message type ${type}`,
    });
  }
  const secret = decodeText(body, 0, body.length).toString('utf8');
  // A token is good elsewhere too: where a Connection puts up with plain text, it does so for its own tickets alone.
  if (!secure && looksLikeToken(secret)) return await close(stream, 'a token without TLS', TOKEN_NEEDS_TLS);
  const answer = await context.authenticate({ kind: 'Password', secret, user: startup.user });
  if (answer.kind === 'Refused') return await close(stream, answer.code, loginError(answer, false));
  // The signal may have fired while the gateway was thinking: the session exists now and must be ended by its owner.
  return { kind: 'Granted', stream, leftover: reader.release(), startup, session: answer.session };
}

/**
 * One round of OAUTHBEARER. Without a token the client is told where to get one and comes again on a new connection; no
 * connection waits for a person, and asking is no failure.
 */
async function authenticateBearer(
  stream: Duplex,
  reader: HandshakeReader,
  context: SessionContext,
  startup: Startup,
): Promise<Admission> {
  const violation = (message: string): Promise<Admission> =>
    close(stream, `OAUTHBEARER: ${message}`, {
      code: PROTOCOL_VIOLATION,
      message: `malformed OAUTHBEARER message: ${message}`,
    });
  const next = async (): Promise<Buffer | undefined> => {
    const { type, body } = await reader.message(LONGEST_SASL);
    return type === FRONTEND.Password ? body : undefined; // SASL responses share its type
  };
  const refuseToken = async (error: NativeError, reason: string): Promise<Admission> => {
    stream.write(authenticationSaslContinue(refusalJson(context.tokenSource())));
    const dummy = await next();
    if (dummy === undefined || !isDummyResponse(dummy)) return await violation('the answer to a refusal is \\x01');
    return await close(stream, reason, error);
  };

  stream.write(authenticationSasl());
  const first = await next();
  if (first === undefined) return await violation('expected a SASL response');
  let said = readInitialResponse(first);
  if (said.kind === 'Later') {
    stream.write(authenticationSaslContinue(''));
    const second = await next();
    if (second === undefined) return await violation('expected a SASL response');
    said = readBearer(second);
  }
  switch (said.kind) {
    case 'Malformed':
      return await violation(said.reason);
    case 'Discovery':
      return await refuseToken(
        context.tokenSource() === undefined
          ? {
              code: INVALID_AUTHORIZATION,
              message: 'Sallyport: no identity provider is known here that clients could get a token from',
              hint: 'Log in with a ticket, without +oauth; or have an IdentityProvider with spec.login set up.',
            }
          : { code: INVALID_AUTHORIZATION, message: 'Sallyport: a token is needed to log in with OAuth' },
        'told where to get a token',
      );
    case 'Token': {
      const user = startup.user.slice(0, -OAUTH_SUFFIX.length);
      const answer = await context.authenticate({ kind: 'Token', token: said.token, user });
      if (answer.kind === 'Refused') return await refuseToken(loginError(answer, true), answer.code);
      return { kind: 'Granted', stream, leftover: reader.release(), startup, session: answer.session };
    }
  }
}

const TOKEN_NEEDS_TLS: NativeError = {
  code: INVALID_AUTHORIZATION,
  message: 'Sallyport takes tokens of an identity provider inside TLS only',
  hint: 'Set sslmode=verify-full; whoever could read this connection may have the token now.',
};

/** `bearer`: there was no password that could be wrong, and clients must not ask for one. */
function loginError(answer: Extract<Authentication, { kind: 'Refused' }>, bearer: boolean): NativeError {
  const code = LOGIN_SQLSTATE[answer.code];
  return {
    code: bearer && code === '28P01' ? INVALID_AUTHORIZATION : code,
    message: answer.message,
    ...(answer.hint === undefined ? {} : { hint: answer.hint }),
  };
}

async function close(stream: Duplex, reason: string, error?: NativeError): Promise<Admission> {
  if (error !== undefined) await refuse(stream, error);
  stream.destroy();
  return { kind: 'Refused', reason };
}

/** Sends a FATAL and gives it a moment to leave; what the peer still sends is not read. */
export async function refuse(stream: Duplex, error: NativeError): Promise<void> {
  if (stream.destroyed || stream.writableEnded) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, 1000);
    const done = (): void => {
      clearTimeout(timer);
      resolve();
    };
    stream.once('close', done);
    stream.end(fatal(error), done);
  });
}
