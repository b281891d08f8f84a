// SCRAM-SHA-256 and SCRAM-SHA-256-PLUS from the client's side (RFC 5802, RFC 7677; channel binding tls-server-end-point,
// RFC 5929). The server proves that it knows the password too, or the login fails. Derived keys are cached, so that a
// burst of logins does not cost a burst of PBKDF2.
import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';

const derive = promisify(pbkdf2);

/** PostgreSQL's default is 4096; a hostile server could ask for minutes of CPU. */
const MOST_ITERATIONS = 200_000;
const FEWEST_ITERATIONS = 4096;

export class ScramError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ScramError';
  }
}

/** Salted passwords by hash of (password, salt, iterations); bounded. */
export class ScramKeyCache {
  readonly #keys = new Map<string, Buffer>();

  async saltedPassword(password: string, salt: Buffer, iterations: number): Promise<Buffer> {
    const id = createHmac('sha256', salt).update(`${iterations}\0${password}`).digest('base64');
    const known = this.#keys.get(id);
    if (known !== undefined) return known;
    const key = await derive(password, salt, iterations, 32, 'sha256');
    if (this.#keys.size >= 256) this.#keys.clear();
    this.#keys.set(id, key);
    return key;
  }
}

export interface ScramBinding {
  /** Hash of the server's certificate; undefined: no TLS, or the server offers no -PLUS. */
  endPoint: Buffer | undefined;
  /** TLS is on and we could bind, but the server did not offer it: says so, so that a downgrade is noticed. */
  couldBind: boolean;
}

export interface ScramExchange {
  mechanism: 'SCRAM-SHA-256' | 'SCRAM-SHA-256-PLUS';
  first: Buffer;
  /** Answers the server's first message. Rejects with ScramError. */
  respond(serverFirst: string): Promise<Buffer>;
  /** Checks the server's signature. Throws ScramError. */
  verify(serverFinal: string): void;
}

export function startScram(password: string, binding: ScramBinding, cache: ScramKeyCache): ScramExchange {
  const nonce = randomBytes(18).toString('base64');
  const gs2 = binding.endPoint !== undefined ? 'p=tls-server-end-point,,' : binding.couldBind ? 'y,,' : 'n,,';
  // PostgreSQL takes the user from the startup packet and ignores this one.
  const clientFirstBare = `n=,r=${nonce}`;
  let expected: Buffer | undefined;
  return {
    mechanism: binding.endPoint === undefined ? 'SCRAM-SHA-256' : 'SCRAM-SHA-256-PLUS',
    first: Buffer.from(gs2 + clientFirstBare),
    async respond(serverFirst) {
      const { serverNonce, salt, iterations } = readServerFirst(serverFirst, nonce);
      const salted = await cache.saltedPassword(prepared(password), salt, iterations);
      const clientKey = hmac(salted, 'Client Key');
      const storedKey = createHash('sha256').update(clientKey).digest();
      const channel = Buffer.concat([Buffer.from(gs2), binding.endPoint ?? Buffer.alloc(0)]).toString('base64');
      const withoutProof = `c=${channel},r=${serverNonce}`;
      const authMessage = `${clientFirstBare},${serverFirst},${withoutProof}`;
      const signature = hmac(storedKey, authMessage);
      const proof = Buffer.alloc(clientKey.length);
      for (let i = 0; i < proof.length; i += 1) proof[i] = clientKey[i]! ^ signature[i]!;
      expected = hmac(hmac(salted, 'Server Key'), authMessage);
      return Buffer.from(`${withoutProof},p=${proof.toString('base64')}`);
    },
    verify(serverFinal) {
      const value = /^v=([A-Za-z0-9+/]+={0,2})$/.exec(serverFinal)?.[1];
      const shown = value === undefined ? undefined : Buffer.from(value, 'base64');
      if (
        expected === undefined ||
        shown === undefined ||
        shown.length !== expected.length ||
        !timingSafeEqual(shown, expected)
      ) {
        throw new ScramError('the server did not prove that it knows the password');
      }
    },
  };
}

function readServerFirst(message: string, nonce: string): { serverNonce: string; salt: Buffer; iterations: number } {
  const match = /^r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/]+={0,2}),i=([1-9][0-9]{0,9})$/.exec(message);
  if (match === null) throw new ScramError('the server sent a SCRAM message that is none');
  const serverNonce = match[1]!;
  const iterations = Number(match[3]);
  if (!serverNonce.startsWith(nonce) || serverNonce.length === nonce.length) {
    throw new ScramError('the server did not continue our nonce');
  }
  if (iterations < FEWEST_ITERATIONS || iterations > MOST_ITERATIONS) {
    throw new ScramError(
      `the server asks for ${iterations} iterations; ${FEWEST_ITERATIONS} to ${MOST_ITERATIONS} are accepted`,
    );
  }
  return { serverNonce, salt: Buffer.from(match[2]!, 'base64'), iterations };
}

/** SASLprep as far as it changes passwords in use: spaces, invisible characters, NFKC. ASCII stays as it is. */
function prepared(password: string): string {
  return password
    .replaceAll(/[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/g, ' ')
    .replaceAll(/\u00ad|\u034f|\u1806|[\u180b-\u180d]|\u200c|\u200d|\u2060|[\ufe00-\ufe0f]|\ufeff/g, '')
    .normalize('NFKC');
}

function hmac(key: Buffer, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest();
}
