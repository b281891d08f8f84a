// OAUTHBEARER (RFC 7628) as PostgreSQL 18 speaks it: what a client's SASL messages say, and what it is answered. Pure.
//
// Guarantees: one reading of every message, or none; what is accepted is at most what PostgreSQL's own server accepts
// (src/backend/libpq/auth-oauth.c). Does not look into the token.
import type { TokenSource } from '../../protocol.ts';
import { BACKEND, BodyReader, int32, message, WireError } from '../wire/messages.ts';

export const OAUTHBEARER = 'OAUTHBEARER';
/** A user name that ends so asks for the mechanism; the rest is the user. */
export const OAUTH_SUFFIX = '+oauth';
/** Longest SASL message: a token of 16 KiB and what stands around it. */
export const LONGEST_SASL = 17 * 1024;

const SEPARATOR = 0x01;

export type BearerMessage =
  /** No token yet: the client wants to be told where to get one. */
  | { kind: 'Discovery' }
  | { kind: 'Token'; token: string }
  /** `reason` is a sentence without a full stop, about the message's form alone. */
  | { kind: 'Malformed'; reason: string };

/** AuthenticationSASL, offering this mechanism alone. */
export function authenticationSasl(): Buffer {
  return message(BACKEND.Authentication, int32(10), OAUTHBEARER, Buffer.from([0]));
}

export function authenticationSaslContinue(data: string): Buffer {
  return message(BACKEND.Authentication, int32(11), Buffer.from(data));
}

/**
 * What a refused or missing token is answered. `status` is always the same: libpq shows its own text for any other, and
 * not the error that follows.
 */
export function refusalJson(source: TokenSource | undefined): string {
  return JSON.stringify({
    status: 'invalid_token',
    ...(source === undefined ? {} : { 'openid-configuration': source.discovery, scope: source.scope }),
  });
}

/** The body of SASLInitialResponse. `Later`: the client waits for an empty challenge before it says anything. */
export function readInitialResponse(body: Buffer): BearerMessage | { kind: 'Later' } {
  try {
    const reader = new BodyReader(body, 0, body.length);
    if (reader.latin1() !== OAUTHBEARER) return malformed('client selected an invalid SASL authentication mechanism');
    const length = reader.int32();
    if (length === -1) {
      reader.done();
      return { kind: 'Later' };
    }
    const data = reader.bytes(length);
    reader.done();
    return readBearer(data);
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return malformed(error.message);
  }
}

/** The client's only answer to a refusal. */
export const isDummyResponse = (body: Buffer): boolean => body.length === 1 && body[0] === SEPARATOR;

// client-resp = gs2-header kvsep *kvpair kvsep
const HEADER = /^[ny],([^,\x01]*),\x01/;
const PAIR = /([A-Za-z]+)=([\x20-\x7e\t\r\n]*)\x01/y;
const BEARER = /^Bearer +([A-Za-z0-9\-._~+/]+=*)$/i;

/** The client's response itself (RFC 7628, 3.1). Never throws. */
export function readBearer(data: Buffer): BearerMessage {
  if (data.length > LONGEST_SASL) return malformed('the message is too long');
  const text = data.toString('latin1');
  if (text.startsWith('p')) return malformed('OAUTHBEARER has no channel binding');
  const header = HEADER.exec(text);
  if (header === null) return malformed('the GS2 header is malformed');
  if (header[1] !== '') return malformed('an authorization identity is not taken');
  let at = header[0].length;
  let auth: string | undefined;
  while (text.charCodeAt(at) !== SEPARATOR) {
    PAIR.lastIndex = at;
    const pair = PAIR.exec(text);
    if (pair === null) return malformed('a key or value is malformed');
    if (pair[1] === 'auth') {
      if (auth !== undefined) return malformed('there are two auth values');
      auth = pair[2]!;
    }
    at += pair[0].length;
  }
  if (at !== text.length - 1) return malformed('there is something behind the final separator');
  if (auth === undefined) return malformed('there is no auth value');
  if (auth === '') return { kind: 'Discovery' };
  const token = BEARER.exec(auth)?.[1];
  return token === undefined ? malformed('the auth value is no bearer token') : { kind: 'Token', token };
}

const malformed = (reason: string): { kind: 'Malformed'; reason: string } => ({ kind: 'Malformed', reason });
