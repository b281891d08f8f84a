// Reads a handshake from a stream, piece by piece, with a bound on what is kept and an AbortSignal for the deadline.
// Used on both sides. After `release` the stream is the caller's again and what was read too far comes with it.
import type { Duplex } from 'node:stream';

export class HandshakeError extends Error {
  /** Closed: the peer left. Aborted: the deadline or a cut. Flooded: more bytes than a handshake has. */
  readonly code: 'Closed' | 'Aborted' | 'Flooded' | 'Invalid';
  constructor(code: HandshakeError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'HandshakeError';
    this.code = code;
  }
}

// A login is a few hundred bytes each way; a server may add its parameters in one go.
const MOST_BUFFERED = 256 * 1024;

export class HandshakeReader {
  readonly #stream: Duplex;
  readonly #signal: AbortSignal;
  #buffer: Buffer = Buffer.alloc(0);
  #failure: HandshakeError | undefined;
  #wake: (() => void) | undefined;
  readonly #onReadable: () => void;
  readonly #onGone: () => void;
  readonly #onError: (error: Error) => void;
  readonly #onAbort: () => void;

  constructor(stream: Duplex, signal: AbortSignal) {
    this.#stream = stream;
    this.#signal = signal;
    this.#onReadable = () => this.#fill();
    this.#onGone = () => this.#fail(new HandshakeError('Closed', 'the connection was closed'));
    this.#onError = (error) => this.#fail(new HandshakeError('Closed', error.message, { cause: error }));
    this.#onAbort = () => this.#fail(new HandshakeError('Aborted', 'the handshake took too long'));
    stream.on('readable', this.#onReadable);
    stream.on('end', this.#onGone);
    stream.on('close', this.#onGone);
    stream.on('error', this.#onError);
    signal.addEventListener('abort', this.#onAbort, { once: true });
    if (signal.aborted) this.#onAbort();
    else if (stream.destroyed) this.#onGone();
    else this.#fill();
  }

  /** Bytes received beyond what was read. */
  get buffered(): number {
    this.#fill();
    return this.#buffer.length;
  }

  /** The next `length` bytes. Rejects with HandshakeError. */
  async read(length: number): Promise<Buffer> {
    while (this.#buffer.length < length) {
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const taken = this.#buffer.subarray(0, length);
    this.#buffer = this.#buffer.subarray(length);
    return taken;
  }

  /** One typed message, body only, of at most `most` bytes. */
  async message(most: number): Promise<{ type: number; body: Buffer }> {
    const header = await this.read(5);
    const length = header.readInt32BE(1);
    if (length < 4 || length - 4 > most) {
      throw new HandshakeError('Invalid', `a message of ${length} bytes does not belong into a handshake`);
    }
    return { type: header[0]!, body: await this.read(length - 4) };
  }

  /** Stops reading and gives back what was received and not read. */
  release(): Buffer {
    this.#stream.off('readable', this.#onReadable);
    this.#stream.off('end', this.#onGone);
    this.#stream.off('close', this.#onGone);
    this.#stream.off('error', this.#onError);
    this.#signal.removeEventListener('abort', this.#onAbort);
    const rest = this.#buffer;
    this.#buffer = Buffer.alloc(0);
    return rest;
  }

  #fill(): void {
    for (;;) {
      if (this.#buffer.length >= MOST_BUFFERED) break; // read no more: TCP holds the rest back
      const chunk = this.#stream.read() as Buffer | null;
      if (chunk === null) break;
      this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk]);
    }
    this.#stir();
  }

  #fail(failure: HandshakeError): void {
    this.#failure ??= failure;
    this.#stir();
  }

  #stir(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
