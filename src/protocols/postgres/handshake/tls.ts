// The server's half of TLS on a stream that is already open: after SSLRequest, or at once (direct TLS, PostgreSQL 17).
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import type { ServerTls } from '../../protocol.ts';
import { HandshakeError } from './reader.ts';

/** Direct TLS must say what it is about to speak, lest another protocol's client be talked into it (ALPACA). */
const ALPN = 'postgresql';

const contexts = new WeakMap<ServerTls, { cert: string; context: tls.SecureContext }>();

function contextOf(material: ServerTls): tls.SecureContext {
  const current = material.current();
  const known = contexts.get(material);
  if (known !== undefined && known.cert === current.cert) return known.context;
  const context = tls.createSecureContext({ key: current.key, cert: current.cert, minVersion: 'TLSv1.2' });
  contexts.set(material, { cert: current.cert, context });
  return context;
}

/**
 * Resolves with the secured stream. `direct` demands ALPN `postgresql`. Rejects with HandshakeError; the caller then
 * destroys the stream underneath.
 */
export async function acceptTls(
  stream: Duplex,
  material: ServerTls,
  direct: boolean,
  signal: AbortSignal,
): Promise<tls.TLSSocket> {
  const secure = new tls.TLSSocket(stream as Socket, {
    isServer: true,
    secureContext: contextOf(material),
    ALPNProtocols: [ALPN],
    requestCert: false,
  });
  return await new Promise((resolve, reject) => {
    const finish = (error: HandshakeError | undefined): void => {
      signal.removeEventListener('abort', onAbort);
      secure.off('secure', onSecure);
      secure.off('error', onError);
      secure.off('close', onClose);
      if (error === undefined) resolve(secure);
      else {
        secure.on('error', () => undefined);
        secure.destroy();
        reject(error);
      }
    };
    const onSecure = (): void => {
      if (direct && secure.alpnProtocol !== ALPN) {
        finish(new HandshakeError('Invalid', 'direct TLS without ALPN "postgresql"'));
      } else finish(undefined);
    };
    const onError = (error: Error): void => finish(new HandshakeError('Invalid', error.message, { cause: error }));
    const onClose = (): void => finish(new HandshakeError('Closed', 'the connection was closed'));
    const onAbort = (): void => finish(new HandshakeError('Aborted', 'the handshake took too long'));
    secure.on('secure', onSecure);
    secure.on('error', onError);
    secure.on('close', onClose);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}
