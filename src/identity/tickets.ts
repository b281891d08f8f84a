// Tickets: how an engineer's machine proves to a gateway that it may use a grant. A ticket is a compact JWS (RFC 7515)
// by the key whose public half the grant carries, good for one Connection and a few minutes; it is what psql and its
// like send as the password.
//
// Guarantees: one text for one ticket (constant header, canonical base64url, no duplicate members, reduced signature);
// a ticket for one Connection is worthless at another; nothing that the ticket says chooses key or algorithm.
// Does not guarantee single use: pools and IDEs open many connections with one ticket until it expires.
import { type KeyObject, sign } from 'node:crypto';
import type { BundleGrant } from '../policy/bundle.ts';
import type { Random } from '../system/random.ts';
import { decodeBase64Url, readClientKey, verifyStrictly } from './ed25519.ts';

/** The only header there is; compared, never parsed. */
export const TICKET_HEADER = '{"alg":"Ed25519","typ":"sallyport-ticket+jwt"}';
const HEADER_PART = Buffer.from(TICKET_HEADER).toString('base64url');

/** Longest ticket, bytes. */
export const TICKET_BYTES = 600;
/** Longest life of an ordinary ticket. */
export const TICKET_LIFETIME_MS = 5 * 60_000;
/** How far the two clocks may differ. */
export const TICKET_SKEW_MS = 30_000;

export interface TicketClaims {
  /** Grant uid. */
  sub: string;
  /** Connection uid. */
  aud: string;
  /** Seconds since 1970. */
  iat: number;
  exp: number;
  jti: string;
}

export interface TicketRequest {
  privateKey: KeyObject;
  grantUid: string;
  connectionUid: string;
  nowMs: number;
  /** Default five minutes. More only where the grant's policy allows tickets to its end. */
  lifetimeMs?: number;
  random: Random;
}

/** Makes a ticket. Throws RangeError if it would be longer than gateways accept. */
export function issueTicket(request: TicketRequest): string {
  const iat = Math.floor(request.nowMs / 1000);
  const claims: TicketClaims = {
    sub: request.grantUid,
    aud: request.connectionUid,
    iat,
    exp: iat + Math.max(1, Math.floor((request.lifetimeMs ?? TICKET_LIFETIME_MS) / 1000)),
    jti: request.random.bytes(16).toString('base64url'),
  };
  const signed = `${HEADER_PART}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}`;
  const ticket = `${signed}.${sign(null, Buffer.from(signed), request.privateKey).toString('base64url')}`;
  if (ticket.length > TICKET_BYTES) throw new RangeError('the uid of the grant or Connection is too long for a ticket');
  return ticket;
}

export type TicketFault =
  | 'Malformed' // no ticket at all: size, parts, base64url, JSON, claims
  | 'Header'
  | 'UnknownGrant'
  | 'NoKey' // the grant has no usable client key
  | 'Signature'
  | 'Audience'
  | 'FromTheFuture'
  | 'Expired'
  | 'LivesTooLong'
  | 'Void';

export type TicketVerdict =
  | { kind: 'Good'; grant: BundleGrant; claims: TicketClaims }
  /** `proven`: the signature was good, so the bearer has the grant's key and may be told more. */
  | { kind: 'Bad'; fault: TicketFault; proven: boolean; grant?: BundleGrant };

export interface TicketCheck {
  /** Of the Connection that the client came to. */
  connectionUid: string;
  nowMs: number;
  grant(uid: string): BundleGrant | undefined;
  isVoid(jti: string): boolean;
}

const bad = (fault: TicketFault): TicketVerdict => ({ kind: 'Bad', fault, proven: false });

/** Verifies what a client sent in place of a password. Never throws; does no more work than the faults before the signature need. */
export function verifyTicket(secret: string, check: TicketCheck): TicketVerdict {
  if (secret.length > TICKET_BYTES) return bad('Malformed');
  const parts = secret.split('.');
  if (parts.length !== 3) return bad('Malformed');
  const [header, payload, signature] = parts as [string, string, string];
  if (header !== HEADER_PART) return bad('Header');
  const claims = readClaims(payload);
  const signatureBytes = decodeBase64Url(signature);
  if (claims === undefined || signatureBytes === undefined) return bad('Malformed');
  const grant = check.grant(claims.sub);
  if (grant === undefined || grant.uid !== claims.sub) return bad('UnknownGrant');
  const key = grant.clientKey === undefined ? undefined : readClientKey(grant.clientKey);
  if (key === undefined || key.kind === 'Unusable') return bad('NoKey');
  if (!verifyStrictly(key.key, Buffer.from(`${header}.${payload}`), signatureBytes)) return bad('Signature');

  const fault = faultOf(claims, grant, check);
  return fault === undefined ? { kind: 'Good', grant, claims } : { kind: 'Bad', fault, proven: true, grant };
}

function faultOf(claims: TicketClaims, grant: BundleGrant, check: TicketCheck): TicketFault | undefined {
  const { nowMs } = check;
  if (claims.aud !== check.connectionUid) return 'Audience';
  if (claims.iat * 1000 > nowMs + TICKET_SKEW_MS) return 'FromTheFuture';
  if (claims.exp * 1000 <= nowMs - TICKET_SKEW_MS) return 'Expired';
  const short = claims.exp - claims.iat <= TICKET_LIFETIME_MS / 1000;
  const toTheEnd = grant.ticketUntilExpiry && claims.exp * 1000 <= grant.expiresAtMs;
  if (claims.exp <= claims.iat || !(short || toTheEnd)) return 'LivesTooLong';
  if (check.isVoid(claims.jti)) return 'Void';
  return undefined;
}

/** Cheap look at whose ticket this claims to be, nothing verified. */
export function claimedGrant(secret: string): string | undefined {
  if (secret.length > TICKET_BYTES || !secret.startsWith(`${HEADER_PART}.`)) return undefined;
  const parts = secret.split('.');
  return parts.length === 3 ? readClaims(parts[1]!)?.sub : undefined;
}

// One member: a name, then a string of printable ASCII without quote or backslash, or an integer without sign or
// leading zero. No escapes, so that no name or value has a second spelling.
const MEMBER = /"([a-z]{3})":(?:"([\x20\x21\x23-\x5b\x5d-\x7e]{1,128})"|(0|[1-9][0-9]{0,10}))([,}])/y;

/** Strict JSON: exactly the five members, each once, in any order, no white space. */
function readClaims(part: string): TicketClaims | undefined {
  const bytes = decodeBase64Url(part);
  if (bytes === undefined) return undefined;
  const text = bytes.toString('latin1');
  if (!text.startsWith('{')) return undefined;
  const found = new Map<string, string | number>();
  let at = 1;
  for (;;) {
    MEMBER.lastIndex = at;
    const match = MEMBER.exec(text);
    if (match === null) return undefined;
    const [whole, name, string, number, after] = match;
    if (found.has(name!)) return undefined;
    found.set(name!, string ?? Number(number));
    at += whole.length;
    if (after === '}') break;
  }
  if (at !== text.length || found.size !== 5) return undefined;
  const sub = found.get('sub');
  const aud = found.get('aud');
  const iat = found.get('iat');
  const exp = found.get('exp');
  const jti = found.get('jti');
  if (typeof sub !== 'string' || typeof aud !== 'string' || typeof jti !== 'string') return undefined;
  if (typeof iat !== 'number' || typeof exp !== 'number' || !/^[A-Za-z0-9_-]{8,64}$/.test(jti)) return undefined;
  return { sub, aud, iat, exp, jti };
}
