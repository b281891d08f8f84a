// Who stands behind an object that carries a proof in place of an author: what the approval page and pipelines make. The
// contract for whoever makes such objects is in identity/acts.ts; in the cluster it reads:
//   - the portal's own ServiceAccount creates the object, from its pod, in the namespace it is about;
//   - AccessGrant: `spec.requester` is exactly {via: 'Portal' | 'Pipeline', proof}; AccessApproval: `spec.approver`
//     likewise, by 'Pipeline' only for a Withdraw. AccessLock: never;
//   - `proof` is encrypted (identity/proof-encryption.ts) to the key that ConfigMap sallyport-trust publishes in its
//     annotation `sallyport.dev/proof-key`; in clear it is taken as well, but an audit log may then keep it;
//   - `metadata.name` is `provenName(stemOf(via, object), id)`; the same proof a second time is 409;
//   - what is stored has the stamp of the person (`via` kept, all else from the token) and no proof.
//
// Guarantees: whom the stamp names follows from the token alone, checked here and not by who sent it; a Portal proof
// serves exactly this object for two minutes, once; a Pipeline's token makes one grant, in whichever namespace, and what
// was made and deleted is not made again. (Giving up may be said twice: it takes from nobody but who says it.)
// Does not: say whether the request is eligible or the vote counts; believe that the sender is who the review says it is
// (whoever reaches the webhook may claim that): the admission policies see to it that such an answer is of no use.
import type { Stamp } from '../../api/schema.ts';
import { ACT_LIFETIME_MS, type ActObject, checkAct, provenName, stampIdentity, stemOf } from '../../identity/acts.ts';
import { causeOf } from '../../identity/oidc/describe-fault.ts';
import { type ProvenToken, verifyToken } from '../../identity/oidc/verify-token.ts';
import { decryptProof, isEncryptedProof, type ProofKey } from '../../identity/proof-encryption.ts';
import type { TokenUse, TrustedProvider } from '../../policy/bundle.ts';

export interface ProofSources {
  /** Username of the portal's ServiceAccount. */
  portal: string;
  /**
   * The client that is registered for the page. Logins of other clients decide nothing: whoever is talked into entering a
   * code for a device, or into a login on a laptop, has not looked at an act.
   */
  client: string | undefined;
  /** What tokens are verified by; undefined: not known yet. */
  providers(): readonly TrustedProvider[] | undefined;
  /** Ids of the operator's keys in force; acts are bound to one. */
  clusters: readonly string[];
  key: ProofKey;
  /** Whether the proof of this id, which nobody takes after `untilMs`, is used for the first time; asked last. */
  spend(use: { id: string; untilMs: number }): Promise<boolean>;
  /** A token shows a key that its issuer, by name of the IdentityProvider, had not published when it was asked last. */
  onUnknownKey?: ((provider: string) => void) | undefined;
  nowMs: number;
}

export type Via = Extract<Stamp['via'], 'Portal' | 'Pipeline'>;
export type StampIdentity = ReturnType<typeof stampIdentity>;

export type ProofVerdict =
  | { kind: 'Proven'; via: Via; identity: StampIdentity }
  /** `message` is for the sender; `cause` for the log alone. */
  | { kind: 'Refused'; status: 403 | 409 | 422 | 503; message: string; cause?: string };

export interface ProofRequest {
  kind: 'AccessGrant' | 'AccessApproval';
  /** Username of who sent it, as the review says. */
  sender: string;
  namespace: string;
  /** As it is to be stored; `name` is of the author's choice, not generated. */
  metadata: { name?: unknown; ownerReferences?: unknown };
  /** Without its stamp; valid by its schema. */
  spec: Readonly<Record<string, unknown>>;
  /** What stood in place of the stamp. */
  given: unknown;
}

/** Whether something claims to be a proof rather than a stamp that its author wrote. */
export function isProof(given: unknown): given is { via: Via; proof: unknown } {
  return isObject(given) && (given['via'] === 'Portal' || given['via'] === 'Pipeline') && 'proof' in given;
}

/** Whoever sent it may have heard of a key before this replica did: that is no reason to tell a person no for good. */
const UNKNOWN_KEY = 'The key of the proof is not known here yet; its issuer is asked. Try again.';

export async function checkProof(request: ProofRequest, sources: ProofSources): Promise<ProofVerdict> {
  const { kind, sender, given, namespace, spec } = request;
  if (sender !== sources.portal) {
    return refused(403, 'Only the approval page of this installation makes this by proof; leave the stamp out.');
  }
  if (!isProof(given) || typeof given.proof !== 'string' || Object.keys(given).length !== 2) {
    return refused(422, 'Beside via and proof nothing is said of who made this: that follows from the proof.');
  }
  const { via } = given;
  const { name } = request.metadata;
  if (typeof name !== 'string') return refused(422, 'What is made by proof is named after it.');
  // With an owner that is gone it would be deleted, and its proof be good once more.
  if (request.metadata.ownerReferences !== undefined) return refused(422, 'What is made by proof has no owner.');
  const providers = sources.providers();
  if (providers === undefined) return refused(503, 'The identity providers’ keys are not known yet. Try again.');
  const proof = isEncryptedProof(given.proof) ? await decryptProof(given.proof, sources.key) : given.proof;
  if (proof === undefined) return refused(403, 'The proof is not encrypted for this operator. Do it again.');

  let cause: string | undefined;
  let unknownKey = false;
  const verify = async (use: TokenUse, text: string): Promise<ProvenToken | undefined> => {
    const verdict = await verifyToken(text, { providers, uses: [use], nowMs: sources.nowMs });
    if (verdict.kind === 'Bad') {
      cause = causeOf(verdict);
      if (verdict.unknownKid === true && verdict.provider !== undefined) {
        sources.onUnknownKey?.(verdict.provider);
        unknownKey = true;
      }
      return undefined;
    }
    const { token } = verdict;
    if (use === 'ID' && sources.client !== undefined && (token.client ?? token.audience) !== sources.client) {
      cause = `A token of ${token.provider} was refused (Client): it is a login of another client than the page’s`;
      return undefined;
    }
    return token;
  };
  const object = { kind, metadata: { name, namespace }, spec } as unknown as ActObject;
  if (via === 'Portal') {
    const verdict = await checkAct(object, proof, {
      clusters: sources.clusters,
      nowMs: sources.nowMs,
      verify: (text) => verify('ID', text),
    });
    if (unknownKey) return refused(503, UNKNOWN_KEY, cause);
    if (verdict.kind === 'Refused') return refused(403, verdict.message, cause);
    const use = { id: `act ${verdict.id}`, untilMs: verdict.token.iatMs + ACT_LIFETIME_MS };
    if (!(await sources.spend(use))) return refused(409, 'This was done already: what proves it serves once.');
    return { kind: 'Proven', via, identity: stampIdentity(verdict.token) };
  }
  if (kind === 'AccessApproval' && spec['decision'] !== 'Withdraw') {
    return refused(403, 'A pipeline decides nothing; it may give up what it asked for.');
  }
  const token = await verify('Workload', proof);
  if (unknownKey) return refused(503, UNKNOWN_KEY, cause);
  if (token === undefined) return refused(403, 'Nobody vouches for the token that is to prove this.', cause);
  if (name !== provenName(stemOf(via, object), token.fingerprint)) {
    return refused(403, 'The object is not named after its proof.');
  }
  if (kind === 'AccessGrant' && !(await sources.spend({ id: `job ${token.fingerprint}`, untilMs: token.expMs }))) {
    return refused(409, 'The token has made its grant already. A job’s token makes one; let the job fetch another.');
  }
  return { kind: 'Proven', via, identity: stampIdentity(token) };
}

function refused(status: 403 | 409 | 422 | 503, message: string, cause?: string): ProofVerdict {
  return { kind: 'Refused', status, message, ...(cause === undefined ? {} : { cause }) };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
