// The proxy's own login at a target: ssh-userauth from the client's side.
//
// Guarantees: a secret goes out once, and only after the transport has verified the host key; a login that was begun is ended by
// an answer or the deadline, never dropped halfway (sshd penalises the address all users share); no error holds a
// secret or a text of the target's. Not done: methods in a row (partial success), changes of passwords.
import type { Clock } from '../../../system/clock.ts';
import type { Random } from '../../../system/random.ts';
import type { Credential } from '../../credential.ts';
import type { ConnectionKeys } from '../../protocol.ts';
import { type LoginRights, mintUserCertificate } from '../keys/certificate.ts';
import { userAuthorityOf } from '../keys/derive.ts';
import type { Signer } from '../keys/key.ts';
import { certified, ed25519Signer, signerOf } from '../keys/signer.ts';
import type { Transport } from '../transport/transport.ts';
import { MalformedData, writeData } from '../wire/data.ts';
import { DISCONNECT, MSG } from '../wire/message-numbers.ts';
import { type HandOver, keepForOwner } from './hand-over.ts';
import {
  infoResponse,
  keyboardInteractiveRequest,
  noneRequest,
  passwordRequest,
  publicKeyRequest,
  readAuthFailure,
  readInfoRequest,
  readService,
  serviceRequest,
  signedData,
  USERAUTH,
} from './messages.ts';

export interface UpstreamLogin {
  /** The target's user. */
  user: string;
  credential: Credential;
  /** For credentials of kind Authority. */
  keys: ConnectionKeys | undefined;
  /** For the certificate of an Authority, and for nothing else. */
  session: { id: string; grant: string; person: string; grantExpiresAtMs: number };
  /** What a certificate permits: only what policy allows. */
  permits: Partial<LoginRights>;
  clock: Clock;
  random: Random;
  /** From here to the answer, milliseconds. */
  deadlineMs: number;
  /** Aborted: the login under way is still ended by the target’s answer, then the transport is closed. */
  signal: AbortSignal;
}

export class LoginError extends Error {
  readonly code:
    | 'Refused'
    | 'MoreWanted'
    | 'NoCommonMethod'
    | 'NoCommonAlgorithm'
    | 'BadCredential'
    | 'GrantEnded'
    | 'TimedOut'
    | 'Closed'
    | 'Protocol'
    | 'Aborted';
  readonly hint: string | undefined;
  constructor(code: LoginError['code'], message: string, hint?: string) {
    super(message); // never a cause: it could hold what was sent
    this.name = 'LoginError';
    this.code = code;
    this.hint = hint;
  }
}

export interface LoggedIn {
  /** Sets the transport's handlers. */
  handOver: HandOver;
}

const MOST_MESSAGES = 256;

/**
 * Logs in on a transport just opened, and takes its handlers in this turn. Rejects with LoginError; the target was told
 * and the transport is closed or closing by then. What can be seen to fail is refused before the first message.
 */
export async function logIn(transport: Transport, login: UpstreamLogin): Promise<LoggedIn> {
  let attempt: Attempt;
  try {
    attempt = attemptOf(login);
  } catch (error) {
    transport.disconnect(DISCONNECT.BY_APPLICATION, 'no login');
    throw error;
  }
  return await new Promise((resolve, reject) => run(transport, login, attempt, resolve, reject));
}

type Attempt = { kind: 'Key'; signer: Signer; certificate: boolean } | { kind: 'Password'; password: string };

/** Throws LoginError. */
function attemptOf(login: UpstreamLogin): Attempt {
  const { credential } = login;
  if (credential.kind === 'Password') return { kind: 'Password', password: credential.password };
  const signer = credential.kind === 'Key' ? signerOfCredential(credential.privateKey) : mintedSigner(login);
  return { kind: 'Key', signer, certificate: credential.kind === 'Authority' };
}

function signerOfCredential(privateKey: string): Signer {
  try {
    return signerOf(privateKey);
  } catch (error) {
    throw new LoginError(
      'BadCredential',
      error instanceof Error ? error.message : 'the private key can not be used',
      'Put a private key without passphrase into the Secret’s key ssh-privatekey.',
    );
  }
}

/** A key that is made here and now, and certified for this login alone. */
function mintedSigner(login: UpstreamLogin): Signer {
  if (login.keys === undefined)
    throw new LoginError('BadCredential', 'this proxy has no keys of its Connection yet', 'Try again in some seconds.');
  if (login.credential.kind !== 'Authority' || !login.credential.users.includes(login.user))
    throw new LoginError(
      'BadCredential',
      `the account has no user ${JSON.stringify(login.user)}`,
      'List it in the account’s certificate.users.',
    );
  const nowMs = login.clock.now();
  if (login.session.grantExpiresAtMs - nowMs < 1000) throw new LoginError('GrantEnded', 'the grant has ended');
  const plain = ed25519Signer(login.random.bytes(32));
  const certificate = mintUserCertificate({
    authority: userAuthorityOf(login.keys),
    key: plain.blob,
    principal: login.user,
    session: login.session.id,
    grant: login.session.grant,
    person: login.session.person,
    permits: login.permits,
    nowMs,
    grantExpiresAtMs: login.session.grantExpiresAtMs,
    random: login.random,
  });
  return certified(plain, certificate);
}

/**
 * For RSA the list decides (RFC 8332, 3.3); without one the strongest is tried. Of other keys there is one algorithm only,
 * and sshd 7.2 to 7.4 lists RSA's alone although it takes others.
 */
function algorithmFor(signer: Signer, accepted: readonly string[] | undefined): string | undefined {
  if (accepted === undefined || signer.algorithms.length === 1) return signer.algorithms[0];
  return signer.algorithms.find(
    (name) => accepted.includes(name) || accepted.includes(name.replace(/-cert-v01@.*$/, '')),
  );
}

type State =
  | 'Service'
  | 'Key'
  /** `none` was sent, to hear which methods there are. */
  | 'Asking'
  | 'Password'
  | 'Interactive'
  /** The password went out in an answer: no prompt is answered with it again. */
  | 'Answered';

function run(
  transport: Transport,
  login: UpstreamLogin,
  attempt: Attempt,
  resolve: (done: LoggedIn) => void,
  reject: (error: LoginError) => void,
): void {
  let state: State = 'Service';
  let messages = 0;
  let done = false;
  let interactiveRounds = 0;

  const settle = (): boolean => {
    if (done) return false;
    done = true;
    stopTimer();
    return true;
  };
  const fail = (error: LoginError, code: number = DISCONNECT.BY_APPLICATION): void => {
    if (!settle()) return;
    // What still comes is nobody's.
    transport.onMessage = () => undefined;
    transport.onClose = () => undefined;
    transport.disconnect(code, 'login failed');
    reject(error);
  };
  const stopTimer = login.clock.after(login.deadlineMs, () =>
    fail(new LoginError('TimedOut', `the target did not answer the login within ${login.deadlineMs / 1000} s`)),
  );
  const protocol = (text: string): void => fail(new LoginError('Protocol', text), DISCONNECT.PROTOCOL_ERROR);

  const begin = (): void => {
    if (attempt.kind === 'Password') {
      state = 'Asking';
      transport.send(noneRequest(login.user));
      return;
    }
    state = 'Key';
    const { signer } = attempt;
    // The list comes behind the key exchange, in front of the first answer: only now it is known not to come.
    const algorithm = algorithmFor(signer, transport.peerSignatureAlgorithms);
    if (algorithm === undefined)
      return fail(
        new LoginError(
          'NoCommonAlgorithm',
          `the target takes none of ${signer.algorithms.join(', ')}`,
          'Use an Ed25519 key for this account, or allow these in PubkeyAcceptedAlgorithms of the target’s sshd.',
        ),
      );
    const request = publicKeyRequest({ user: login.user, algorithm, blob: signer.blob });
    const signature = signer.sign(signedData(transport.sessionId, request), algorithm);
    transport.send(writeData({ raw: request }, { string: signature }));
  };

  const failure = (payload: Buffer): void => {
    const { methods, partial } = readAuthFailure(payload);
    if (partial)
      return fail(
        new LoginError(
          'MoreWanted',
          `the target took the ${attempt.kind === 'Key' ? 'key' : 'password'} and wants a second factor`,
          'Set AuthenticationMethods of the target’s sshd so that one suffices for this user.',
        ),
      );
    if (state === 'Asking' && attempt.kind === 'Password') {
      if (methods.includes('password')) {
        state = 'Password';
        transport.send(passwordRequest(login.user, attempt.password));
      } else if (methods.includes('keyboard-interactive')) {
        state = 'Interactive';
        transport.send(keyboardInteractiveRequest(login.user));
      } else
        fail(
          new LoginError(
            'NoCommonMethod',
            'the target takes no passwords',
            'Give the account a private key (ssh-privatekey), or a certificate.',
          ),
        );
      return;
    }
    fail(refusal(attempt, login.user));
  };

  const prompted = (payload: Buffer): void => {
    const prompts = readInfoRequest(payload);
    interactiveRounds += 1;
    if (interactiveRounds > 8) return protocol('the target asks for ever');
    if (prompts.length === 0) {
      transport.send(infoResponse([]));
      return;
    }
    const [prompt] = prompts;
    if (state === 'Interactive' && prompts.length === 1 && prompt?.echo === false && attempt.kind === 'Password') {
      state = 'Answered';
      transport.send(infoResponse([attempt.password]));
      return;
    }
    fail(
      new LoginError(
        'MoreWanted',
        'the target asks for something that is no single password',
        'Give the account a private key (ssh-privatekey), or a certificate.',
      ),
    );
  };

  const handle = (payload: Buffer): void => {
    switch (payload[0]) {
      case MSG.SERVICE_ACCEPT:
        if (state !== 'Service' || readService(payload) !== USERAUTH)
          return protocol('the target accepted what was not asked for');
        return begin();
      case MSG.USERAUTH_BANNER:
        return; // what a target tells people before a login is not passed on
      case MSG.USERAUTH_FAILURE:
        if (state === 'Service') return protocol('the target answered what was not sent');
        return failure(payload);
      case MSG.USERAUTH_SUCCESS: {
        if (state === 'Service' || payload.length !== 1) return protocol('the target answered what was not sent');
        if (login.signal.aborted) return fail(new LoginError('Aborted', 'the session ended during the login'));
        const handOver = keepForOwner(transport);
        transport.authenticated();
        if (settle()) resolve({ handOver });
        return;
      }
      case MSG.USERAUTH_INFO_REQUEST:
        if (state === 'Interactive' || state === 'Answered') return prompted(payload);
        if (state === 'Password')
          return fail(
            new LoginError('Refused', 'the target wants the password changed', 'Change it, and the Secret with it.'),
          );
        return protocol('the target asked for what was not offered');
      default:
        return protocol(`the target sent message ${payload[0]} before the login was done`);
    }
  };

  transport.onMessage = (payload) => {
    if (done) return;
    messages += 1;
    if (messages > MOST_MESSAGES) return protocol('the target sends too much before the login is done');
    try {
      handle(payload);
    } catch (error) {
      if (error instanceof MalformedData) return protocol(`the target sent a malformed message: ${error.message}`);
      fail(new LoginError('Protocol', 'the login could not be made'));
    }
  };
  transport.onClose = ({ disconnect }) => {
    if (!settle()) return;
    const told = disconnect === undefined ? '' : ` (reason ${disconnect.code})`;
    reject(
      new LoginError(
        'Closed',
        `the target closed the connection during the login${told}`,
        'Its log says why; sshd also does so where MaxAuthTries, MaxStartups or PerSourcePenalties are used up.',
      ),
    );
  };
  transport.send(serviceRequest(USERAUTH));
}

function refusal(attempt: Attempt, user: string): LoginError {
  const who = JSON.stringify(user);
  if (attempt.kind === 'Password')
    return new LoginError('Refused', `the target refused the password of ${who}`, 'Compare it with the Secret’s.');
  if (attempt.certificate)
    return new LoginError(
      'Refused',
      `the target refused a certificate for ${who}`,
      'Put status.ssh.userAuthority of the Connection into the target’s TrustedUserCAKeys, and see that the user exists and both clocks are right.',
    );
  return new LoginError(
    'Refused',
    `the target refused the key of ${who}`,
    'Put its public key into the user’s authorized_keys.',
  );
}
