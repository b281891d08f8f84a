// An issuer's keys: discovery (OpenID Connect Discovery 1.0, 4), then its key set. Guarantees: keys come only of an
// issuer whose own document calls it exactly what the provider calls it, over the provider's CA, and form a set in which
// every key is public and strong; anything else is a fault whose sentence says what to do.
import type { IdentityProviderSpec } from '../../api/identity-provider.ts';
import { KEY_SET_BYTES, readKeySet } from '../../identity/oidc/key-set.ts';
import { isJsonObject, type JsonObject, type JsonValue, readStrictJson } from '../../identity/oidc/strict-json.ts';
import type { TrustedJwk } from '../../policy/bundle.ts';
import type { Document, FetchReason, HttpsGet } from './fetch.ts';

/** Of each of the two documents. */
export const FETCH_DEADLINE_MS = 5_000;

export type FaultReason = FetchReason | 'NotDiscovery' | 'WrongIssuer' | 'BadKeySet';

/** What the issuer says of itself that bears on logins. */
export interface IssuerFacts {
  deviceFlow: boolean;
  /** Undefined: it does not say. */
  algorithms?: string[];
  scopes?: string[];
  pkce?: string[];
}

export type KeyFetch =
  | { kind: 'Good'; keys: TrustedJwk[]; facts: IssuerFacts }
  | { kind: 'Bad'; reason: FaultReason; message: string };

export async function fetchKeys(get: HttpsGet, spec: IdentityProviderSpec, signal: AbortSignal): Promise<KeyFetch> {
  const { issuer, caBundle } = spec;
  const options = { ca: caBundle, deadlineMs: FETCH_DEADLINE_MS, maxBytes: KEY_SET_BYTES, signal };
  const discovery = await get(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`, options);
  if (discovery.kind === 'Bad') return unfetched(discovery, spec);
  const reading = readStrictJson(discovery.bytes, { bytes: KEY_SET_BYTES });
  if (reading.kind === 'Bad' || !isJsonObject(reading.value))
    return fault(
      'NotDiscovery',
      `What ${issuer} answers is no discovery document. Is issuer the address of an OpenID provider?`,
    );
  const said = reading.value['issuer'];
  if (said !== issuer) return wrongIssuer(issuer, said);
  const { jwks_uri: where } = reading.value;
  if (typeof where !== 'string') return fault('NotDiscovery', `The discovery document of ${issuer} names no jwks_uri.`);
  const document = await get(where, options);
  if (document.kind === 'Bad') return unfetched(document, spec);
  const set = readKeySet(document.bytes);
  return set.kind === 'Bad'
    ? fault('BadKeySet', `The key set at ${shown(where)} is refused: ${set.reason}.`)
    : { kind: 'Good', keys: set.keys, facts: factsOf(reading.value) };
}

const fault = (reason: FaultReason, message: string): KeyFetch => ({ kind: 'Bad', reason, message });

const shown = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, '?').slice(0, 300);

function wrongIssuer(issuer: string, said: JsonValue | undefined): KeyFetch {
  if (typeof said !== 'string')
    return fault('NotDiscovery', `The discovery document of ${issuer} does not say its issuer.`);
  const slash = said === `${issuer}/` || `${said}/` === issuer;
  const advice = `Write issuer: ${shown(said)}${slash ? ` (${said.endsWith('/') ? 'with' : 'without'} the slash at the end)` : ', if that is who you mean'}.`;
  return fault('WrongIssuer', `The issuer at ${issuer} calls itself ${shown(said)}; tokens bear that name. ${advice}`);
}

function unfetched({ reason, url, detail }: Extract<Document, { kind: 'Bad' }>, spec: IdentityProviderSpec): KeyFetch {
  const where = shown(url);
  const what = shown(detail);
  switch (reason) {
    case 'NotHttps':
      return fault(reason, `${where} is not https. Keys that anybody on the way could change prove nothing.`);
    case 'NameNotFound':
      return fault(
        reason,
        `The name in ${where} can not be resolved (${what}). Check issuer, and the DNS of the operator.`,
      );
    case 'CertificateNotTrusted':
      return fault(
        reason,
        spec.caBundle === undefined
          ? `The certificate of ${where} comes from no CA of the system (${what}). If it is a CA of your own, write its certificate into caBundle.`
          : `The certificate of ${where} does not come from the CA in caBundle (${what}). Write the CA that signs it now; if there is none to write, somebody else answers.`,
      );
    case 'CertificateNotForHost':
      return fault(reason, `The certificate of ${where} is for another name: ${what}. Check issuer.`);
    case 'CertificateExpired':
      return fault(reason, `The certificate of ${where} is not valid now (${what}). Renew it at the issuer.`);
    case 'TimedOut':
      return fault(reason, `${where} did not answer within ${what}. Check that the operator may reach it.`);
    case 'Redirected':
      return fault(
        reason,
        `${where} sends elsewhere${what === '' ? '' : ` (${what})`}; that is not followed. Write the issuer’s final address.`,
      );
    case 'BadStatus':
      return fault(reason, `${where} answers ${what}. Check issuer: /.well-known/openid-configuration is added to it.`);
    case 'TooLarge':
      return fault(reason, `The answer of ${where} is larger than ${KEY_SET_BYTES} bytes and was not read.`);
    case 'Unreachable':
      return fault(reason, `${where} can not be reached (${what}). Check issuer, and that the operator may reach it.`);
  }
}

function factsOf(document: JsonObject): IssuerFacts {
  const texts = (name: string): string[] | undefined => {
    const value = document[name];
    return Array.isArray(value) ? value.filter((each) => typeof each === 'string').slice(0, 256) : undefined;
  };
  const [algorithms, scopes, pkce] = [
    texts('id_token_signing_alg_values_supported'),
    texts('scopes_supported'),
    texts('code_challenge_methods_supported'),
  ];
  return {
    deviceFlow: typeof document['device_authorization_endpoint'] === 'string',
    ...(algorithms === undefined ? {} : { algorithms }),
    ...(scopes === undefined ? {} : { scopes }),
    ...(pkce === undefined ? {} : { pkce }),
  };
}
