// A key as proof: what the grants that carry it allow. The protocol has verified possession; here the key finds its grant.
// Guarantees: a key is compared by its one canonical text, on this Connection alone (INV-12); one that proves nothing
// because of its order is nobody's; what a grant became is told to whoever holds its key and to nobody else.
import { readClientKey } from '../identity/ed25519.ts';
import type { BundleGrant } from '../policy/bundle.ts';
import type { Proof } from '../protocols/protocol.ts';
import type { ConnectionBundle } from './bundle-store.ts';
import { readLoginName } from './grant-of.ts';
import type { ProofRequest, Proven } from './proof.ts';
import type { SessionWorld } from './session-world.ts';

interface KeyGrants {
  inForce: BundleGrant[];
  /** Has yet to begin; the soonest first. */
  early: BundleGrant[];
  /** The one that ended last first. */
  ended: BundleGrant[];
}

/** Every grant of this Connection that carries the key. */
function grantsOfKey(bundle: ConnectionBundle, publicKey: string, nowMs: number): KeyGrants {
  const found: KeyGrants = { inForce: [], early: [], ended: [] };
  if (readClientKey(publicKey).kind === 'Unusable') return found;
  for (const grant of bundle.view?.grants.values() ?? []) {
    if (grant.clientKey !== publicKey) continue;
    if (bundle.grant(grant.uid) === undefined || bundle.remaining(grant) <= 0) found.ended.push(grant);
    else if (grant.notBeforeMs > nowMs) found.early.push(grant);
    else found.inForce.push(grant);
  }
  const before = [...bundle.endedGrants()]
    .filter(({ grant }) => grant.clientKey === publicKey)
    .map(({ grant }) => grant);
  found.ended.push(...before.reverse()); // remembered oldest first
  found.early.sort((a, b) => a.notBeforeMs - b.notBeforeMs);
  return found;
}

const count = ({ inForce, early, ended }: KeyGrants): number => inForce.length + early.length + ended.length;

/** Whether any grant here carries it, in force or not: its holder may be told more once they have proven it. */
export function isGrantKey(bundle: ConnectionBundle, publicKey: string): boolean {
  if (readClientKey(publicKey).kind === 'Unusable') return false;
  for (const grant of bundle.view?.grants.values() ?? []) if (grant.clientKey === publicKey) return true;
  for (const { grant } of bundle.endedGrants()) if (grant.clientKey === publicKey) return true;
  return false;
}

export async function proveByKey(
  world: SessionWorld,
  request: ProofRequest,
  proof: Extract<Proof, { kind: 'Key' }>,
): Promise<Proven> {
  const { bundle, connection } = request;
  const { clock } = world.options;
  const { account: user, grant: name } = readLoginName(proof.user);
  const find = (): KeyGrants => grantsOfKey(bundle, proof.publicKey, clock.now());
  let found = find();
  if (found.inForce.length === 0) await request.wait(() => (found = find()).inForce.length > 0);
  if (count(found) === 0) {
    return {
      kind: 'Failed',
      cause: 'a key of no grant',
      message: 'Sallyport does not know this key.',
      hint: `${world.prefix} connect ${connection.name} logs in with the key of your grant.`,
    };
  }
  const named = (grants: readonly BundleGrant[]): BundleGrant[] =>
    name === undefined ? [...grants] : grants.filter((grant) => grant.name === name);
  const current = named(found.inForce);
  const [grant = named(found.early)[0] ?? named(found.ended)[0]] = current;
  if (current.length > 1 || grant === undefined) {
    const listed = found.inForce.length > 0 ? found.inForce : [...found.early, ...found.ended];
    const spelled = listed
      .map((each) => `${user}+${each.name}`)
      .sort()
      .slice(0, 8)
      .join(', ');
    const problem =
      grant === undefined
        ? `This key has no grant ${JSON.stringify(name?.slice(0, 64))} on ${connection.name}.`
        : `This key has ${current.length} grants on ${connection.name}: the user name has to say which.`;
    return {
      kind: 'Unsuited',
      cause: grant === undefined ? 'a key without such a grant' : 'a key of several grants',
      answer: { code: 'UnknownUser', message: problem, hint: `Log in as one of ${spelled}.` },
    };
  }
  return { kind: 'Proven', grant, login: { kind: 'Key', publicKey: proof.publicKey, atMs: clock.now() } };
}
