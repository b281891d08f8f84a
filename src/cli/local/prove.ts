// Who stands behind an object that carries a proof instead of an actor: the approval page's and pipelines'. The daemon's
// counterpart of the cluster's webhook, by the same checks. Guarantees: the person is the token's and nobody the sender
// names; a proof makes one object; what it proved with is not stored.
import type { AccessGrant } from '../../api/grant.ts';
import { ACT_LIFETIME_MS, type ActObject, checkAct, provenName, stampIdentity, stemOf } from '../../identity/acts.ts';
import { type ProvenToken, verifyToken } from '../../identity/oidc/verify-token.ts';
import type { TokenUse, TrustedProvider } from '../../policy/bundle.ts';
import type { Actor, NewObject, ResourceStore } from '../../store/resource-store.ts';
import type { SpentProofs } from './spent-proofs.ts';

export interface ProofSources {
  /** Id of the operator's signing key. */
  cluster: string;
  providers(): readonly TrustedProvider[];
  store: Pick<ResourceStore, 'list'>;
  spent: SpentProofs;
  /** A token shows a key that this provider is not known to have. Whoever asks issuers bounds how often. */
  onUnknownKey(provider: string): void;
  now(): number;
}

export type Proven =
  /** `proof`: what `spent` knows it by; given back where nothing is made. undefined: it may serve again. */
  | { kind: 'Proven'; actor: Actor & { kind: 'Person' }; object: NewObject; proof: string | undefined }
  | { kind: 'Used' }
  | { kind: 'Refused'; message: string };

const FIELDS = { AccessGrant: 'requester', AccessApproval: 'approver' } as const;

export async function provenBy(given: NewObject, sources: ProofSources): Promise<Proven> {
  const kind = given.kind;
  if ((kind !== 'AccessGrant' && kind !== 'AccessApproval') || !isObject(given.spec) || !isObject(given.metadata)) {
    return refused('Only requests and votes are made by proof.');
  }
  const { [FIELDS[kind]]: stamp, ...spec } = given.spec;
  if (!isObject(stamp)) return refused('The object carries no proof.');
  const { via, proof, ...rest } = stamp;
  if (typeof proof !== 'string' || Object.keys(rest).length > 0) {
    return refused('The object carries no proof, or says itself who made it.');
  }
  const object: NewObject = { ...given, spec };
  // Checked by the store's schema before anything of it is stored; here only compared.
  const act = { kind, metadata: object.metadata, spec } as unknown as ActObject;
  const verify = async (use: TokenUse, text: string): Promise<ProvenToken | undefined> => {
    const verdict = await verifyToken(text, { providers: sources.providers(), uses: [use], nowMs: sources.now() });
    if (verdict.kind === 'Good') return verdict.token;
    if (verdict.unknownKid === true && verdict.provider !== undefined) sources.onUnknownKey(verdict.provider);
    return undefined;
  };
  const spending = (id: string, untilMs: number, actor: Actor & { kind: 'Person' }): Proven =>
    sources.spent.spend(id, untilMs) ? { kind: 'Proven', actor, object, proof: id } : { kind: 'Used' };
  try {
    if (via === 'Portal') {
      const verdict = await checkAct(act, proof, {
        clusters: [sources.cluster],
        nowMs: sources.now(),
        verify: (text) => verify('ID', text),
      });
      if (verdict.kind === 'Refused') return verdict;
      return spending(`act ${verdict.id}`, verdict.token.iatMs + ACT_LIFETIME_MS, actorOf(verdict.token, via));
    }
    if (via !== 'Pipeline' || (act.kind === 'AccessApproval' && act.spec.decision !== 'Withdraw')) {
      return refused('Nobody makes this by such a proof.');
    }
    const token = await verify('Workload', proof);
    if (token === undefined) return refused('Nobody vouches for the token that is to prove this.');
    const name = provenName(stemOf(via, act), token.fingerprint);
    if (object.metadata.name !== name) return refused('The object is not named after its proof.');
    if (kind === 'AccessGrant') {
      // In every namespace: one token, one grant.
      const { items } = await sources.store.list<AccessGrant>('AccessGrant');
      if (items.some(({ metadata }) => metadata.name === name)) return { kind: 'Used' };
      return spending(`job ${token.fingerprint}`, token.expMs, actorOf(token, via));
    }
    return { kind: 'Proven', actor: actorOf(token, via), object, proof: undefined };
  } catch (error) {
    // A spec that is none can not be hashed.
    if (error instanceof TypeError) return refused('The object is not one that can be made.');
    throw error;
  }
}

function actorOf(token: ProvenToken, via: 'Portal' | 'Pipeline'): Actor & { kind: 'Person' } {
  const { auth } = stampIdentity(token);
  return { kind: 'Person', principal: token.principal, via, ...(auth === undefined ? {} : { auth }) };
}

const refused = (message: string): Proven => ({ kind: 'Refused', message: `${message} Nothing was made.` });

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
