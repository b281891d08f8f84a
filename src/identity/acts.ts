// Acts: what somebody does on the approval page, bound to the login that proves who did it. The page sends the browser
// to the identity provider with a nonce that hashes the act; the ID token that comes back is the act's proof. Whoever
// stamps the object (the admission webhook; in local mode the daemon) computes the nonce again from the object it is
// about to store, so the page can neither name a person nor alter a decision.
//
// The contract between who makes proofs and who checks them:
//   proof (Portal)    = SALT "." ID-TOKEN: 22 characters of base64url (16 random bytes), then a compact JWS. Four parts.
//   proof (Pipeline)  = the workload token itself: a compact JWS. Three parts.
//   proof, encrypted  = either of them as the plaintext of a compact JWE: five parts.
//   nonce             = base64url(SHA-256("sallyport-act\n" + canonical JSON of the Act))
//   metadata.name     = `provenName(stem, id)`, id: the nonce (Portal) or the token's `fingerprint` (Pipeline), so that
//                       the same proof a second time is a name that is taken.
//
// Guarantees: a proof serves one installation, one object, one decision, one reason, for two minutes.
// Does not say whether the person may do what they do: the controllers decide that from the stamp.
import { createHash } from 'node:crypto';
import { canonicalJson, specHash } from '../api/canonical.ts';
import type { AccessApprovalSpec, AccessGrantSpec } from '../api/grant.ts';
import type { Stamp } from '../api/schema.ts';
import type { Principal } from '../policy/principal.ts';

/** What the nonce binds. */
export interface Act {
  /** Id of the operator's signing key: what an installation is known by. */
  cluster: string;
  namespace: string;
  /** Of what is decided about; empty for a request, whose object does not exist yet. */
  kind: string;
  name: string;
  uid: string;
  /** Entry of an AccessReview; else empty. */
  item: string;
  /** Of the target as it was shown; for a request of what is asked for. */
  specHash: string;
  decision: AccessApprovalSpec['decision'] | 'Request';
  reason: string;
  /** 16 random bytes, base64url: two equal acts have different nonces, and a nonce tells nothing of the act. */
  salt: string;
}

/** An object that carries a proof, as it is to be created. A stamp in its spec is not looked at. */
export type ActObject =
  | { kind: 'AccessGrant'; metadata: { name: string; namespace?: string | undefined }; spec: AccessGrantSpec }
  | { kind: 'AccessApproval'; metadata: { name: string; namespace?: string | undefined }; spec: AccessApprovalSpec };

const SALT = /^[A-Za-z0-9_-]{22}$/;
/** How old the ID token of an act may be. */
export const ACT_LIFETIME_MS = 120_000;
const SUFFIX = 16;
const LONGEST_STEM = 200;

export function actOf(
  cluster: string,
  object: Omit<ActObject, 'metadata'> & { metadata: { namespace?: string | undefined } },
  salt: string,
): Act {
  const namespace = object.metadata.namespace ?? '';
  if (object.kind === 'AccessGrant') {
    const spec = object.spec as AccessGrantSpec;
    return {
      cluster,
      namespace,
      kind: '',
      name: '',
      uid: '',
      item: '',
      specHash: specHash(spec),
      decision: 'Request',
      reason: spec.reason ?? '',
      salt,
    };
  }
  const { targetRef, specHash: shown, decision, reason } = object.spec as AccessApprovalSpec;
  return {
    cluster,
    namespace,
    kind: targetRef.kind,
    name: targetRef.name,
    uid: targetRef.uid,
    item: targetRef.item ?? '',
    specHash: shown,
    decision,
    reason: reason ?? '',
    salt,
  };
}

export function actNonce(act: Act): string {
  return sha256(`sallyport-act\n${canonicalJson(act)}`).toString('base64url');
}

/** Names what a proof makes. `id`: the nonce, or a workload token's `fingerprint`. */
export function provenName(stem: string, id: string): string {
  const start = stem.slice(0, LONGEST_STEM).replace(/[^a-z0-9]+$/, '');
  return `${start}-${sha256(`sallyport-proof\n${id}`).toString('hex').slice(0, SUFFIX)}`;
}

/** What provenName begins with: the Connection for a request of a person, `job` for a pipeline's, the target for a vote. */
export function stemOf(via: 'Portal' | 'Pipeline', object: Pick<ActObject, 'kind' | 'spec'>): string {
  if (object.kind === 'AccessApproval') return (object.spec as AccessApprovalSpec).targetRef.name;
  // Of no Connection: one workload token makes one grant, whatever it is for.
  return via === 'Pipeline' ? 'job' : (object.spec as AccessGrantSpec).connectionRef.name;
}

/** What of a verified token is looked at; `ProvenToken` fits. */
export interface ActToken {
  principal: Principal;
  iatMs: number;
  nonce?: string | undefined;
  authTimeMs?: number | undefined;
  acr?: string | undefined;
  amr?: readonly string[] | undefined;
}

export type ActVerdict<T> =
  | { kind: 'Proven'; token: T /** Same for the same proof. */; id: string }
  | { kind: 'Refused'; message: string };

/**
 * Whether the proof is of exactly this object. `clusters`: ids of the operator's keys in force. `verify` checks an ID
 * token of a trusted provider and answers undefined for any other text; it need not look at its nonce.
 */
export async function checkAct<T extends ActToken>(
  object: ActObject,
  proof: string,
  context: { clusters: readonly string[]; nowMs: number; verify: (token: string) => Promise<T | undefined> },
): Promise<ActVerdict<T>> {
  const dot = proof.indexOf('.');
  const salt = proof.slice(0, Math.max(0, dot));
  if (!SALT.test(salt)) return refused('The proof is not one of an act on the page.');
  const token = await context.verify(proof.slice(dot + 1));
  if (token === undefined) return refused('Nobody vouches for the login that is to prove this.');
  // Exclusively by what is stored: names in the token that say otherwise do not exist.
  const nonce = context.clusters
    .map((cluster) => actNonce(actOf(cluster, object, salt)))
    .find((each) => each === token.nonce);
  if (nonce === undefined) return refused('The login proves another act than this one.');
  const age = context.nowMs - token.iatMs;
  if (age > ACT_LIFETIME_MS) return refused('The login that proves this is older than two minutes. Do it again.');
  if (object.metadata.name !== provenName(stemOf('Portal', object), nonce))
    return refused('The object is not named after its proof.');
  return { kind: 'Proven', token, id: nonce };
}

const refused = (message: string): { kind: 'Refused'; message: string } => ({ kind: 'Refused', message });

/** What a stamp says of who proved themselves with a token. */
export function stampIdentity(
  token: ActToken,
): Pick<Stamp, 'username' | 'uid' | 'groups' | 'aliases' | 'kubernetes' | 'workload' | 'auth'> {
  const { username, uid, groups, aliases, kubernetes, workload } = token.principal;
  const { authTimeMs, acr, amr } = token;
  const auth = {
    ...(authTimeMs === undefined ? {} : { at: new Date(authTimeMs).toISOString() }),
    ...(acr === undefined ? {} : { acr }),
    ...(amr === undefined ? {} : { amr: [...amr] }),
  };
  return {
    username,
    ...(uid === undefined || uid === '' ? {} : { uid }),
    ...(groups.length > 0 ? { groups: [...groups] } : {}),
    ...(aliases.length > 0 ? { aliases: [...aliases] } : {}),
    ...(kubernetes === undefined ? {} : { kubernetes }),
    ...(workload === undefined ? {} : { workload: { provider: workload.provider, claims: { ...workload.claims } } }),
    ...(Object.keys(auth).length > 0 ? { auth } : {}),
  };
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
