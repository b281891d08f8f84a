// What a proven payload may be used for: which declared audience it fits. Pure. Guarantees: a token fits as one use or
// none, so that an ID token is never taken for an access token or the reverse; tokens that log somebody out, renew
// others, are bound to a key that nobody showed, or speak for somebody else, fit nothing.
import type { TokenUse, TrustedProvider } from '../../policy/bundle.ts';
import type { JsonObject, JsonValue } from './strict-json.ts';
import type { TokenFault } from './token-fault.ts';

export type Audience = TrustedProvider['audiences'][number];

export type AudienceVerdict =
  | { kind: 'Fits'; audience: Audience; client?: string }
  | { kind: 'Bad'; fault: TokenFault; detail?: string };

/** Most audiences that a token may name. */
const MOST_AUDIENCES = 64;

export function audienceOf(
  provider: TrustedProvider,
  header: JsonObject,
  payload: JsonObject,
  uses: readonly TokenUse[],
): AudienceVerdict {
  const type = headerType(header);
  const refused = refusedClass(type, payload);
  if (refused !== undefined) return { kind: 'Bad', fault: refused };
  const named = audiencesOf(payload['aud']);
  if (named === undefined) return { kind: 'Bad', fault: 'Audience', detail: 'no text or list of texts' };
  const declared = provider.audiences.filter(({ audience }) => named.includes(audience));
  if (declared.length === 0) return { kind: 'Bad', fault: 'Audience', detail: named.join(' ') };
  const judged = declared.map((audience) => ({ audience, fault: misfit(audience, type, payload, named) }));
  const fitting = judged.filter(({ fault }) => fault === undefined).map(({ audience }) => audience);
  if (fitting.length === 0) {
    // Of what was asked for, if that was declared: its misfit is the cause that helps.
    const told = judged.find(({ audience }) => uses.includes(audience.use)) ?? judged[0]!;
    return { kind: 'Bad', fault: told.fault!, detail: `${told.audience.use} audience ${told.audience.audience}` };
  }
  if (new Set(fitting.map(({ use }) => use)).size > 1) {
    return { kind: 'Bad', fault: 'AmbiguousUse', detail: fitting.map(({ use }) => use).join(' or ') };
  }
  const audience = fitting[0]!;
  if (!uses.includes(audience.use)) {
    return { kind: 'Bad', fault: 'Use', detail: `${audience.use} in place of ${uses.join(' or ')}` };
  }
  const client = clientOf(payload);
  return { kind: 'Fits', audience, ...(typeof client === 'string' ? { client } : {}) };
}

/** Lower case, `application/` left off (RFC 7515, 4.1.9). */
function headerType(header: JsonObject): string | undefined {
  const { typ } = header;
  return typeof typ === 'string' ? typ.toLowerCase().replace(/^application\//, '') : undefined;
}

function refusedClass(type: string | undefined, payload: JsonObject): TokenFault | undefined {
  const kinds = [payload['typ'], payload['token_use'], payload['token_type']]
    .filter((value) => typeof value === 'string')
    .map((value) => value.toLowerCase());
  // Every security event (RFC 8417) has `events`; a logout token is one.
  if (type === 'logout+jwt' || type === 'secevent+jwt' || 'events' in payload || kinds.includes('logout')) {
    return 'LogoutToken';
  }
  if (type === 'rt+jwt' || kinds.some((kind) => ['refresh', 'refresh_token', 'offline'].includes(kind))) {
    return 'RefreshToken';
  }
  if ('cnf' in payload) return 'BoundToKey';
  if ('act' in payload) return 'Delegated';
  return undefined;
}

function audiencesOf(aud: JsonValue | undefined): string[] | undefined {
  const list = Array.isArray(aud) ? aud : [aud];
  if (list.length === 0 || list.length > MOST_AUDIENCES) return undefined;
  return list.every((each): each is string => typeof each === 'string' && each !== '') ? list : undefined;
}

function misfit(
  audience: Audience,
  type: string | undefined,
  payload: JsonObject,
  named: readonly string[],
): TokenFault | undefined {
  const { use, types, marks } = audience;
  // RFC 9068 marks an access token by its type; where the provider states neither type nor marks, only that will do.
  const needed =
    types.length > 0 ? types : use === 'Access' && Object.keys(marks).length === 0 ? ['at+jwt'] : undefined;
  if (needed === undefined ? type !== undefined && type !== 'jwt' : type === undefined || !needed.includes(type)) {
    return 'Type';
  }
  if (Object.entries(marks).some(([name, value]) => payload[name] !== value)) return 'Mark';
  // Hashes of the tokens that came along stand in ID tokens only (OpenID Connect Core, 3.3.2.11).
  if (use !== 'ID' && ('at_hash' in payload || 'c_hash' in payload)) return 'HashOfAnother';
  return clientMisfit(audience, payload, named) ? 'Client' : undefined;
}

function clientMisfit(audience: Audience, payload: JsonObject, named: readonly string[]): boolean {
  const { use, clients } = audience;
  const client = clientOf(payload);
  if (client === null) return true;
  switch (use) {
    case 'ID': {
      // The audience is the client: alone, or with `azp` saying which of several it was made for.
      const allowed = clients.length > 0 ? clients : [audience.audience];
      if (client === undefined) return named.length !== 1 || !allowed.includes(audience.audience);
      return !allowed.includes(client);
    }
    case 'Access':
      return client === undefined || !clients.includes(client);
    case 'Workload':
      return clients.length > 0 && (client === undefined || !clients.includes(client));
  }
}

/**
 * `azp` and `client_id`, which must agree; `appid` or `cid`, as two common issuers call it, only where neither is there.
 * undefined: it names no client; null: not as text, or two.
 */
function clientOf(payload: JsonObject): string | undefined | null {
  const standard = ['azp', 'client_id'].filter((name) => name in payload);
  const names = standard.length > 0 ? standard : ['appid', 'cid'].filter((name) => name in payload);
  const values = new Set(names.map((name) => payload[name]));
  if (values.size === 0) return undefined;
  const [value] = values;
  return values.size === 1 && typeof value === 'string' && value !== '' ? value : null;
}
