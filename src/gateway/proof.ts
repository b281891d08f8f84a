// What a client's proof proves: a ticket or the grant's key names the grant, a token or a certificate a person, whose grant
// is then looked for. One verifier for each; what is not good as the one is never tried as another.
import { causeOf, lackOf, TOKEN_REFUSED } from '../identity/oidc/describe-fault.ts';
import { looksLikeToken } from '../identity/oidc/looks-like-token.ts';
import { readTokenText } from '../identity/oidc/token-text.ts';
import { type ProvenToken, type TokenVerdict, verifyToken } from '../identity/oidc/verify-token.ts';
import type { ProvenCertificate } from '../identity/ssh-certificates.ts';
import { claimedGrant, TICKET_SKEW_MS, type TicketFault, verifyTicket } from '../identity/tickets.ts';
import type { BundleGrant } from '../policy/bundle.ts';
import type { Principal } from '../policy/principal.ts';
import type { LoginFacts } from '../policy/step-up.ts';
import type { Offer, Proof } from '../protocols/protocol.ts';
import type { AdmissionRequest, RefusedLogin } from './admission.ts';
import type { ConnectionBundle } from './bundle-store.ts';
import { type GrantChoice, grantOf, type LoginName, owns, personIn, readLoginName } from './grant-of.ts';
import { certificateNamesSomebody, isOfferedCertificate, proveByCertificate } from './proof-by-certificate.ts';
import { isGrantKey, proveByKey } from './proof-by-key.ts';
import type { SessionWorld } from './session-world.ts';

/** By what a session was let in. */
export type Login =
  | { kind: 'Ticket'; jti: string; iatMs: number }
  | { kind: 'Token'; token: ProvenToken }
  /** The grant's key itself, as old as the login. */
  | { kind: 'Key'; publicKey: string; atMs: number }
  /** As old as the certificate: who shows it again has logged in nowhere since. */
  | { kind: 'Certificate'; certificate: ProvenCertificate };

/** The token that a session was let in or renewed by, if it was one. */
export const tokenOf = (login: Login): ProvenToken | undefined => (login.kind === 'Token' ? login.token : undefined);

/** Whom the proof itself names; tickets and keys name a grant. */
export function personShown(login: Login): Principal | undefined {
  if (login.kind === 'Token') return login.token.principal;
  if (login.kind !== 'Certificate') return undefined;
  const { persons } = login.certificate;
  const names = persons.flatMap(({ username, uid, aliases }) => [
    username,
    ...(uid === undefined ? [] : [uid]),
    ...aliases,
  ]);
  const [first] = persons;
  return { username: first?.username ?? '', groups: [], aliases: names };
}

/** Who the policy is about in a session of the grant: in a token's groups, else in those that the grant was given for. */
export function personOf(grant: BundleGrant, login: Login): Principal {
  if (login.kind === 'Token') return personIn(grant, login.token.principal);
  const shown = personShown(login);
  if (shown === undefined) return grant.principal;
  return { ...grant.principal, aliases: [...new Set([...grant.principal.aliases, ...shown.aliases])] };
}

export type Proven =
  | { kind: 'Proven'; grant: BundleGrant; login: Login }
  /** Proves nothing: it counts against the address. */
  | { kind: 'Failed'; cause: string; message: string; hint: string; grant?: BundleGrant }
  /** The person is proven and has no grant that fits. */
  | { kind: 'Unsuited'; cause: string; answer: Omit<RefusedLogin, 'kind'> };

/** How old a proof is and how long it is good for yet, milliseconds: what `StandingFacts` wants. */
export function proofTimes(login: Login, nowMs: number): { proofAgeMs: number; proofLeftMs: number | undefined } {
  const { fromMs, untilMs } = timesOf(login);
  return {
    proofAgeMs: Math.max(0, nowMs - fromMs),
    proofLeftMs: untilMs === undefined ? undefined : untilMs - nowMs,
  };
}

function timesOf(login: Login): { fromMs: number; untilMs: number | undefined } {
  switch (login.kind) {
    case 'Ticket':
      return { fromMs: login.iatMs, untilMs: undefined };
    case 'Token':
      return { fromMs: login.token.iatMs, untilMs: login.token.expMs };
    case 'Key':
      return { fromMs: login.atMs, untilMs: undefined };
    case 'Certificate':
      return { fromMs: login.certificate.validAfterMs, untilMs: login.certificate.validBeforeMs };
  }
}

/** How the person logged in, as the token says; nothing else says anything of it. */
export function loginFacts(login: Login): LoginFacts | undefined {
  if (login.kind !== 'Token') return undefined;
  const { authTimeMs, acr, amr } = login.token;
  return { atMs: authTimeMs, acr, amr };
}

/** What tokens may be used for to log in. An ID token is for the client that asked for it, and nobody else. */
export const LOGIN_USES = ['Access', 'Workload'] as const;

const secretOf = (proof: Proof): string =>
  proof.kind === 'Token' ? proof.token : proof.kind === 'Password' ? proof.secret : '';
const isToken = (proof: Proof): boolean => proof.kind === 'Token' || looksLikeToken(secretOf(proof));

export type ProofRequest = Pick<AdmissionRequest, 'proof' | 'connection' | 'bundle' | 'sessionId' | 'wait'>;

export async function prove(world: SessionWorld, request: ProofRequest): Promise<Proven> {
  const { proof } = request;
  switch (proof.kind) {
    case 'Key':
      return await proveByKey(world, request, proof);
    case 'Certificate':
      return await proveByCertificate(world, request, proof);
    default:
      return await (isToken(proof) ? proveByToken(world, request) : proveByTicket(world, request));
  }
}

/** Whether a proof of what is offered might let somebody in. Changes and counts nothing. */
export function recognises(offer: Offer, bundle: ConnectionBundle, nowMs: number): boolean {
  return offer.kind === 'Key'
    ? isGrantKey(bundle, offer.publicKey)
    : isOfferedCertificate(bundle, offer.certificate, nowMs);
}

async function proveByTicket(world: SessionWorld, { proof, connection, bundle, wait }: ProofRequest): Promise<Proven> {
  const secret = secretOf(proof);
  const known = (uid: string): BundleGrant | undefined => bundle.grant(uid) ?? bundle.endedGrant(uid)?.grant;
  const claimed = claimedGrant(secret);
  // A guess waits as long, under the bounds of half-open handshakes, and counts as a failure afterwards.
  if (claimed !== undefined) await wait(() => known(claimed) !== undefined);
  const verdict = verifyTicket(secret, {
    connectionUid: bundle.uid,
    nowMs: world.options.clock.now(),
    grant: known,
    isVoid: (jti) => bundle.isVoid(jti),
  });
  if (verdict.kind === 'Good') {
    const { jti, iat, exp } = verdict.claims;
    if (proof.kind === 'Password' && proof.once === true) {
      const taken = world.usedTickets.take(verdict.grant.uid, jti, exp * 1000 + TICKET_SKEW_MS);
      if (taken !== 'Taken') {
        return {
          kind: 'Failed',
          cause: taken === 'Used' ? 'a ticket for the second time' : 'too many tickets of this grant were used',
          message:
            taken === 'Used' ? 'This ticket was used before.' : 'Too many tickets of this grant were used of late.',
          hint: `${world.prefix} connect ${connection.name} logs in with the key of your grant.`,
          grant: verdict.grant,
        };
      }
    }
    return { kind: 'Proven', grant: verdict.grant, login: { kind: 'Ticket', jti, iatMs: iat * 1000 } };
  }
  return {
    kind: 'Failed',
    cause: verdict.fault,
    message: verdict.proven ? told(verdict.fault) : REFUSED,
    hint: `${world.prefix} connect ${connection.name} logs in with a fresh ticket.`,
    ...(verdict.grant === undefined ? {} : { grant: verdict.grant }),
  };
}

async function proveByToken(world: SessionWorld, request: ProofRequest): Promise<Proven> {
  const { proof, connection, bundle, sessionId } = request;
  const { clock } = world.options;
  // Whoever saw it on its way could use it again: where that may be, no token is taken.
  if (proof.kind === 'Password' && proof.once === true) {
    const hint = `${world.prefix} connect ${connection.name} logs in with the key of your grant.`;
    return { kind: 'Failed', cause: 'a token where only tickets are taken', message: REFUSED, hint };
  }
  const verdict = await verifyToken(secretOf(proof), {
    providers: bundle.view?.identity?.providers ?? [],
    uses: LOGIN_USES,
    nowMs: clock.now(),
  });
  if (verdict.kind === 'Bad') {
    tellOfUnknownKey(world, verdict);
    return {
      kind: 'Failed',
      cause: causeOf(verdict),
      message: TOKEN_REFUSED.replace(/\.$/, `, ${sessionId}.`),
      hint: `${world.prefix} connect ${connection.name} logs in with a fresh one.`,
    };
  }
  const { token } = verdict;
  const login = readLoginName(proof.user);
  const inForce = (grant: BundleGrant): boolean =>
    bundle.grant(grant.uid) !== undefined && grant.notBeforeMs <= clock.now() && bundle.remaining(grant) > 0;
  // What is sealed opens by its own key: it is for when no issuer may be within reach.
  const choose = (): GrantChoice => {
    const open = [...(bundle.view?.grants.values() ?? [])].filter(({ sealed }) => sealed === undefined);
    return grantOf(open, { ...token.principal, provider: token.provider }, login, inForce);
  };
  let choice = choose();
  if (choice.kind === 'None') {
    await request.wait(() => (choice = choose()).kind !== 'None');
  }
  if (choice.kind === 'One') return { kind: 'Proven', grant: choice.grant, login: { kind: 'Token', token } };
  return unsuited(choice, { world, request, login, token });
}

/** Whoever is told asks the issuer once a minute at most: it costs nobody anything to show such tokens. */
export function tellOfUnknownKey(world: SessionWorld, verdict: TokenVerdict & { kind: 'Bad' }): void {
  if (verdict.unknownKid === true && verdict.provider !== undefined) world.options.onUnknownKey?.(verdict.provider);
}

/** Says which of their own grants the person could have meant, and of nobody else's anything. */
function unsuited(
  choice: Exclude<GrantChoice, { kind: 'One' }>,
  given: { world: SessionWorld; request: ProofRequest; login: LoginName; token: ProvenToken },
): Proven {
  const { world, request, login, token } = given;
  const { name, spec } = request.connection;
  const lack = lackOf(token);
  const cause = `${token.principal.username} (${token.provider})${lack === undefined ? '' : ` (${lack})`}: `;
  const spelled = (grants: readonly BundleGrant[], full: boolean): string =>
    grants
      .slice(0, 8)
      .map((grant) => (full ? `${grant.account}+${grant.name}` : grant.account))
      .filter((each, index, all) => all.indexOf(each) === index)
      .join(', ');
  if (choice.kind === 'Several') {
    return {
      kind: 'Unsuited',
      cause: `${cause}several grants fit`,
      answer: {
        code: 'UnknownUser',
        message: `You have ${choice.grants.length} grants for the account ${login.account} of ${name}: the user name has to say which.`,
        hint: `Log in as one of ${spelled(choice.grants, true)}.`,
      },
    };
  }
  const again = `${world.prefix} request ${name} --for 1h`;
  const user = JSON.stringify(request.proof.user.slice(0, 128));
  if (choice.others.length > 0) {
    const byName = login.grant !== undefined;
    return {
      kind: 'Unsuited',
      cause: `${cause}no grant for the user ${user}`,
      answer: {
        code: 'UnknownUser',
        message: `The user name says which account a token is for, and you have no grant for ${user} on ${name}.`,
        hint: `Log in as ${spelled(choice.others, byName)}, or ask: ${again}`,
      },
    };
  }
  const isAccount = spec.accounts.some((account) => account.name === login.account);
  return {
    kind: 'Unsuited',
    cause: `${cause}no grant`,
    answer: isAccount
      ? {
          code: 'NotActive',
          message: `You have no grant in force for the account ${login.account} of ${name}.`,
          hint: again,
        }
      : {
          code: 'UnknownUser',
          message: `The user name says which account a token is for, and ${name} has no ${user}.`,
          hint: `Log in as an account you have a grant for. To get one: ${again}`,
        },
  };
}

/**
 * Cheap look at whether the proof claims to be of a grant, or by a person with a grant, that exists here. Nothing is
 * verified.
 */
export function proofNamesSomebody(proof: Proof, bundle: ConnectionBundle): boolean {
  if (proof.kind === 'Key') return isGrantKey(bundle, proof.publicKey);
  if (proof.kind === 'Certificate') return certificateNamesSomebody(bundle, proof.certificate);
  const secret = secretOf(proof);
  if (!isToken(proof)) {
    const uid = claimedGrant(secret);
    return uid !== undefined && (bundle.grant(uid) ?? bundle.endedGrant(uid)) !== undefined;
  }
  const reading = readTokenText(secret);
  if (reading.kind === 'Bad') return false;
  const { payload } = reading.text;
  for (const { name, issuer, claims, prefix, kubernetes } of bundle.view?.identity?.providers ?? []) {
    if (payload['iss'] !== issuer) continue;
    const uid = `${issuer} ${String(payload[claims.uid])}`;
    const known = kubernetes === undefined ? undefined : `${kubernetes.prefix}${String(payload[kubernetes.claim])}`;
    const who = {
      username: `${prefix.username}${String(payload[claims.username])}`,
      provider: name,
      uid,
      groups: [],
      aliases: [],
      ...(known === undefined ? {} : { kubernetes: known }),
    };
    for (const grant of bundle.view?.grants.values() ?? []) if (owns(grant, who)) return true;
  }
  return false;
}

const REFUSED = 'Sallyport did not accept this password.';

/** What somebody who has the grant's key may know of a ticket that did not do. */
function told(fault: TicketFault): string {
  switch (fault) {
    case 'Expired':
      return 'This ticket has expired.';
    case 'FromTheFuture':
      return 'This ticket is from the future: the clock of the machine that made it is ahead.';
    case 'Audience':
      return 'This ticket is for another Connection.';
    case 'LivesTooLong':
      return 'This ticket would live longer than its policy allows.';
    case 'Void':
      return 'This ticket was declared void.';
    default:
      return REFUSED;
  }
}
