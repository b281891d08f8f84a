// A client's way in: ssh-userauth from the server's side (RFC 4252, 4256; OpenSSH's PROTOCOL, 3.1).
//
// Guarantees: nobody gets in but by a signature over this connection's session id and exactly that request, by the very key it
// names, or by a secret, which the gateway granted; an offer proves nothing and leaves nothing behind; user and service are those
// of the first request; requests are answered in order, one at a time; no partial success; nothing of another layer is
// taken before SUCCESS; everything is counted, and one deadline is over all of it.
import type { AuthenticatedSession, Offer, Proof, SessionContext } from '../../protocol.ts';
import { ALL_RIGHTS, checkUserCertificate, type LoginRights } from '../keys/certificate.ts';
import { plainName } from '../keys/certificate-blob.ts';
import { fingerprintOf, type PublicKey, readPublicKey } from '../keys/public-key.ts';
import { fits, verifyByKey } from '../keys/verify.ts';
import type { Transport } from '../transport/transport.ts';
import { MalformedData } from '../wire/data.ts';
import { DISCONNECT, MSG } from '../wire/message-numbers.ts';
import { type HandOver, keepForOwner } from './hand-over.ts';
import {
  type AuthMethod,
  authFailure,
  authSuccess,
  banner,
  CONNECTION,
  infoRequest,
  keyAccepted,
  readAuthRequest,
  readInfoResponse,
  readService,
  serviceAccept,
  signedData,
  USERAUTH,
} from './messages.ts';

export interface ClientAuthOptions {
  /**
   * Asked once, after the gateway granted and before SUCCESS: why this user of the target is none of the session's account.
   * The text goes to the client; undefined: it is.
   */
  refuses?: (session: AuthenticatedSession, user: string) => Promise<{ message: string; hint?: string } | undefined>;
  /** What stands above the prompt for a ticket. */
  instruction?: string;
  /** Over all of it. Default `context.limits.handshakeMs`. */
  deadlineMs?: number;
}

export type ClientLogin =
  | {
      kind: 'Granted';
      session: AuthenticatedSession;
      /** The target's user: what stood before a `+`. */
      user: string;
      /** As the client sent it. */
      login: string;
      /** What its certificate permits; all of it for keys and tickets. */
      rights: LoginRights;
      /** For records and logs: `publickey SHA256:…`. Holds no secret. */
      by: string;
      /**
       * Sets the transport's handlers. A client's USERAUTH_REQUEST from here on is to be ignored in silence (RFC 4252, 5.1).
       */
      handOver: HandOver;
    }
  /** The client was told where that was possible; its transport is closed or closing. */
  | { kind: 'Gone'; reason: string };

/** What a client may try, in the order it should. */
export const METHODS: readonly string[] = ['publickey', 'keyboard-interactive'];

const MOST_PROOFS = 6;
const MOST_OFFERS = 20;
const MOST_SERVICE_REQUESTS = 32;
/** Messages that wait while one is answered: somebody who sends all offers at once fits. */
const MOST_QUEUED = 64;
const MOST_QUEUED_BYTES = 512 * 1024;

/** Serves the login on a transport just opened, and takes its handlers in this turn. Never rejects. */
export function authenticateClient(
  transport: Transport,
  context: SessionContext,
  options: ClientAuthOptions = {},
): Promise<ClientLogin> {
  return new Promise((resolve) => new ClientAuthentication(transport, context, options, resolve).start());
}

type Claim =
  | { kind: 'Key'; key: PublicKey; offer: Offer; rights: LoginRights; userVerified: boolean }
  | { kind: 'Refused'; reason: string };

class ClientAuthentication {
  readonly #transport: Transport;
  readonly #context: SessionContext;
  readonly #options: ClientAuthOptions;
  readonly #resolve: (login: ClientLogin) => void;
  readonly #queue: Buffer[] = [];
  #queuedBytes = 0;
  #busy = false;
  #done = false;
  #services = 0;
  #offers = 0;
  #proofs = 0;
  /** Fixed by the first request. */
  #login: string | undefined;
  #prompting = false;
  #stopTimer: () => void = () => undefined;
  readonly #onAbort = (): void => this.#leave(DISCONNECT.BY_APPLICATION, 'Sallyport is shutting down');

  constructor(
    transport: Transport,
    context: SessionContext,
    options: ClientAuthOptions,
    resolve: (login: ClientLogin) => void,
  ) {
    this.#transport = transport;
    this.#context = context;
    this.#options = options;
    this.#resolve = resolve;
  }

  start(): void {
    const { clock, limits, signal } = this.#context;
    this.#transport.onMessage = (payload) => this.#take(payload);
    this.#transport.onClose = ({ error, disconnect }) =>
      this.#finish({ kind: 'Gone', reason: disconnect?.text ?? error?.message ?? 'the client left' });
    this.#stopTimer = clock.after(this.#options.deadlineMs ?? limits.handshakeMs, () =>
      this.#leave(DISCONNECT.BY_APPLICATION, 'Sallyport: the login took too long'),
    );
    signal.addEventListener('abort', this.#onAbort, { once: true });
    if (signal.aborted) this.#onAbort();
  }

  #finish(login: ClientLogin): void {
    if (this.#done) return;
    this.#done = true;
    this.#queue.length = 0;
    this.#stopTimer();
    this.#context.signal.removeEventListener('abort', this.#onAbort);
    this.#resolve(login);
  }

  #leave(code: number, text: string): void {
    if (this.#done) return;
    this.#transport.disconnect(code, text);
    this.#finish({ kind: 'Gone', reason: text });
  }

  #take(payload: Buffer): void {
    if (this.#done) return;
    const number = payload[0]!;
    if (number !== MSG.SERVICE_REQUEST && number !== MSG.USERAUTH_REQUEST && number !== MSG.USERAUTH_INFO_RESPONSE)
      return this.#leave(DISCONNECT.PROTOCOL_ERROR, `message ${number} does not belong in front of a login`);
    this.#queue.push(payload);
    this.#queuedBytes += payload.length;
    if (this.#queue.length > MOST_QUEUED || this.#queuedBytes > MOST_QUEUED_BYTES)
      return this.#leave(DISCONNECT.PROTOCOL_ERROR, 'too many messages at once in front of a login');
    if (!this.#busy) void this.#work();
  }

  async #work(): Promise<void> {
    this.#busy = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined && !this.#done; next = this.#queue.shift()) {
        this.#queuedBytes -= next.length;
        await this.#handle(next);
      }
    } catch (error) {
      if (error instanceof MalformedData) {
        this.#leave(DISCONNECT.PROTOCOL_ERROR, `malformed login message: ${error.message}`);
      } else {
        this.#context.log('error', 'a login failed', { error: error instanceof Error ? error.message : String(error) });
        this.#leave(DISCONNECT.BY_APPLICATION, 'Sallyport can not log anybody in just now');
      }
    } finally {
      this.#busy = false;
    }
  }

  async #handle(payload: Buffer): Promise<void> {
    switch (payload[0]) {
      case MSG.SERVICE_REQUEST:
        return this.#serve(readService(payload));
      case MSG.USERAUTH_REQUEST:
        if (this.#services === 0)
          return this.#leave(DISCONNECT.PROTOCOL_ERROR, `the service ${USERAUTH} was not asked for`);
        return await this.#request(payload);
      default:
        if (!this.#prompting) return this.#leave(DISCONNECT.PROTOCOL_ERROR, 'an answer to nothing that was asked');
        return await this.#answer(readInfoResponse(payload));
    }
  }

  /** Some clients ask for the service before each attempt. */
  #serve(service: string): void {
    if (service !== USERAUTH)
      return this.#leave(DISCONNECT.SERVICE_NOT_AVAILABLE, `only ${USERAUTH} is served before a login`);
    this.#services += 1;
    if (this.#services > MOST_SERVICE_REQUESTS) return this.#tooMany();
    this.#prompting = false;
    this.#transport.send(serviceAccept(USERAUTH));
  }

  async #request(payload: Buffer): Promise<void> {
    // A new request gives up what was asked by an earlier one (RFC 4256, 3.1).
    this.#prompting = false;
    const { user, service, method } = readAuthRequest(payload);
    if (service !== CONNECTION)
      return this.#leave(DISCONNECT.SERVICE_NOT_AVAILABLE, `only ${CONNECTION} is served after a login`);
    this.#login ??= user;
    if (user !== this.#login)
      return this.#leave(DISCONNECT.PROTOCOL_ERROR, 'the user name may not change during a login');
    if (method.kind === 'PublicKey' && method.proof !== undefined)
      return await this.#signed(user, method, method.proof);
    this.#offers += 1;
    if (this.#offers > MOST_OFFERS) return this.#tooMany();
    switch (method.kind) {
      case 'PublicKey': {
        const claim = this.#claim(user, method);
        const known = claim.kind === 'Key' && (await this.#context.recognises(claim.offer));
        if (this.#done) return;
        if (known) this.#transport.send(keyAccepted(method.algorithm, method.blob));
        else this.#fail();
        return;
      }
      case 'KeyboardInteractive':
        this.#prompting = true;
        this.#transport.send(
          infoRequest('Sallyport', this.#options.instruction ?? 'A ticket opens one login.', [
            { text: 'Ticket: ', echo: false },
          ]),
        );
        return;
      case 'None':
      case 'Other':
        return this.#fail();
    }
  }

  /** What a request would prove if it were signed. */
  #claim(user: string, method: Extract<AuthMethod, { kind: 'PublicKey' }>): Claim {
    const refused = (reason: string): Claim => ({ kind: 'Refused', reason });
    if (method.hostKey !== undefined && !method.hostKey.equals(this.#transport.hostKey))
      return refused('the request is bound to another host key');
    if (!fits(method.blob, method.algorithm)) return refused('the algorithm does not fit the key');
    if (plainName(method.algorithm) !== undefined) {
      const check = checkUserCertificate(method.blob, {
        nowMs: this.#context.clock.now(),
        peerAddress: this.#context.client.address,
      });
      if (check.kind === 'Refused') return refused(`the certificate is not taken: ${check.reason}`);
      const { certificate, key, rights, userVerified } = check;
      return { kind: 'Key', key, rights, userVerified, offer: { kind: 'Certificate', certificate, user } };
    }
    let key: PublicKey;
    try {
      key = readPublicKey(method.blob);
    } catch (error) {
      if (error instanceof MalformedData) return refused(error.message);
      throw error;
    }
    if (key.kind !== 'Ed25519') return refused('the key of a grant is an Ed25519 key');
    const offer: Offer = { kind: 'Key', publicKey: key.raw.toString('base64url'), user };
    return { kind: 'Key', key, rights: ALL_RIGHTS, userVerified: false, offer };
  }

  async #signed(
    user: string,
    method: Extract<AuthMethod, { kind: 'PublicKey' }>,
    { signed, signature }: { signed: Buffer; signature: Buffer },
  ): Promise<void> {
    const claim = this.#claim(user, method);
    if (claim.kind === 'Refused') return this.#failedProof(claim.reason);
    const { key, offer, rights, userVerified } = claim;
    const algorithm = plainName(method.algorithm) ?? method.algorithm;
    const data = signedData(this.#transport.sessionId, signed);
    if (!verifyByKey(key, algorithm, data, signature, { userVerified }))
      return this.#failedProof('the signature is not the key’s over this login');
    const certificate = offer.kind === 'Certificate' ? ` certificate ${JSON.stringify(offer.certificate.keyId)}` : '';
    await this.#prove(offer, rights, `publickey ${fingerprintOf(key.blob)}${certificate}`);
  }

  async #answer(secret: string): Promise<void> {
    this.#prompting = false;
    if (secret === '') return this.#failedProof('an empty answer');
    const proof: Proof = { kind: 'Password', secret, user: this.#login!, once: true };
    await this.#prove(proof, ALL_RIGHTS, 'keyboard-interactive');
  }

  async #prove(proof: Proof, rights: LoginRights, by: string): Promise<void> {
    const answer = await this.#context.authenticate(proof);
    if (answer.kind === 'Refused') {
      if (this.#done) return;
      // Whoever has proven a key may hear why it opens nothing; whoever has not, hears nothing that tells keys apart.
      if (answer.code !== 'InvalidProof') this.#tell(answer);
      return this.#failedProof(answer.code);
    }
    const { session } = answer;
    if (this.#done) return session.ended('ClientClosed');
    const user = this.#login!.split('+', 1)[0]!;
    let problem: { message: string; hint?: string } | undefined;
    try {
      problem = await this.#options.refuses?.(session, user);
    } catch (error) {
      session.ended('Refused', 'the login could not be completed');
      throw error;
    }
    if (this.#done) return session.ended('ClientClosed');
    if (problem !== undefined) {
      this.#tell(problem);
      this.#fail();
      session.ended('Refused', problem.message);
      return this.#leave(DISCONNECT.NO_MORE_AUTH_METHODS_AVAILABLE, problem.message);
    }
    const handOver = keepForOwner(this.#transport);
    this.#transport.send(authSuccess());
    this.#transport.authenticated();
    this.#finish({ kind: 'Granted', session, user, login: this.#login!, rights, by, handOver });
  }

  #tell({ message, hint }: { message: string; hint?: string }): void {
    this.#transport.send(banner(hint === undefined ? [message] : [message, hint]));
  }

  #failedProof(reason: string): void {
    if (this.#done) return;
    this.#context.log('info', 'a proof was refused', { reason, user: this.#login });
    this.#proofs += 1;
    if (this.#proofs >= Math.min(MOST_PROOFS, this.#context.limits.proofs)) return this.#tooMany();
    this.#fail();
  }

  #fail(): void {
    this.#transport.send(authFailure(METHODS));
  }

  #tooMany(): void {
    this.#leave(DISCONNECT.NO_MORE_AUTH_METHODS_AVAILABLE, 'Sallyport: too many failed attempts');
  }
}
