// The operator's seals: on stamps (who asked, who approved) at admission, and on what it decided. Status is not
// authority: whoever can write a status can not write its seal, and without a good one the controller decides again.
import { hash, sign, verify } from 'node:crypto';
import { canonicalJson, specHash } from '../api/canonical.ts';
import type { Stamp } from '../api/schema.ts';
import { type SigningKey, type TrustedKey, trustedKeyOf } from '../policy/bundle-signing.ts';
import type { Principal } from '../policy/principal.ts';

export interface Sealer {
  /** Signs a stamp whose other fields are filled in; the value of `stamp.seal`. */
  sealStamp(stamp: Stamp): string;
  /** The stamp's time (ms) if it is the operator's own over exactly this spec, made when the object was. */
  checkStamp(stamp: Stamp | undefined, spec: object, creationTimestamp: string): StampCheck;
  /** Signs `facts` of the object with this uid. */
  sealFacts(purpose: string, uid: string, facts: unknown): string;
  checkFacts(purpose: string, uid: string, facts: unknown, seal: string | undefined): boolean;
}

export type StampCheck =
  | {
      kind: 'Good';
      principal: Principal;
      atMs: number;
      nonce: string;
      /** How the person had logged in, for step-up. */
      auth?: NonNullable<Stamp['auth']>;
    }
  | { kind: 'Bad'; message: string };

const CREATION_SLACK_MS = 2_000;
/** Good seals remembered at least; at most twice as many. Each takes some 250 bytes. */
const REMEMBERED = 32_768;

const stampBytes = (stamp: Stamp): Buffer => {
  const { seal: _seal, proof: _proof, ...signed } = stamp;
  return Buffer.from(`sallyport-stamp\n${canonicalJson(signed)}`);
};
const factBytes = (purpose: string, uid: string, facts: unknown): Buffer =>
  Buffer.from(`sallyport-status\n${canonicalJson({ purpose, uid, facts })}`);

export function createSealer(key: SigningKey, alsoTrusted: readonly TrustedKey[] = []): Sealer {
  const trusted = [trustedKeyOf(key), ...alsoTrusted];
  const good = createRemembered(REMEMBERED);
  const seal = (bytes: Buffer): string => {
    const what = digest(bytes);
    const known = good.get(what);
    // One of an earlier key is made anew, so that it goes on to hold when that key is trusted no more.
    if (known?.startsWith(`${key.keyId}.`)) return known;
    const made = `${key.keyId}.${sign(null, bytes, key.privateKey).toString('base64url')}`;
    good.set(what, made);
    return made;
  };
  const check = (bytes: Buffer, text: string | undefined): boolean => {
    const [keyId, signature, ...rest] = (text ?? '').split('.');
    const by = trusted.find((candidate) => candidate.keyId === keyId);
    if (by === undefined || signature === undefined || rest.length > 0) return false;
    const what = digest(bytes);
    if (good.get(what) === text) return true;
    const isGood = verify(null, bytes, by.publicKey, Buffer.from(signature, 'base64url'));
    if (isGood) good.set(what, text!);
    return isGood;
  };
  return {
    sealStamp: (stamp) => seal(stampBytes(stamp)),
    checkStamp(stamp, spec, creationTimestamp) {
      if (stamp === undefined) return { kind: 'Bad', message: 'it carries no stamp of who made it' };
      if (!check(stampBytes(stamp), stamp.seal)) return { kind: 'Bad', message: 'the seal of its stamp is not good' };
      if (stamp.specHash !== specHash(spec))
        return { kind: 'Bad', message: 'its spec is not the one that was stamped' };
      const atMs = Date.parse(stamp.at ?? '');
      if (Number.isNaN(atMs)) return { kind: 'Bad', message: 'its stamp has no time' };
      // creationTimestamp has whole seconds, so it may lie up to one second before the stamp.
      if (Math.abs(atMs - Date.parse(creationTimestamp)) > CREATION_SLACK_MS) {
        return { kind: 'Bad', message: 'its stamp was made at another time than the object' };
      }
      if (stamp.nonce === undefined || stamp.username === '')
        return { kind: 'Bad', message: 'its stamp is incomplete' };
      return {
        kind: 'Good',
        atMs,
        nonce: stamp.nonce,
        principal: {
          username: stamp.username,
          ...(stamp.uid ? { uid: stamp.uid } : {}),
          groups: stamp.groups ?? [],
          aliases: stamp.aliases ?? [],
          ...(stamp.kubernetes ? { kubernetes: stamp.kubernetes } : {}),
          ...(stamp.workload ? { workload: stamp.workload } : {}),
        },
        ...(stamp.auth ? { auth: stamp.auth } : {}),
      };
    },
    sealFacts: (purpose, uid, facts) => seal(factBytes(purpose, uid, facts)),
    checkFacts: (purpose, uid, facts, text) => check(factBytes(purpose, uid, facts), text),
  };
}

const digest = (bytes: Buffer): string => hash('sha256', bytes, 'base64');

/**
 * Good seals by what they are over. The same few are made and checked at every look at a grant, and a signature costs
 * fifty times as much as a hash. Ed25519 gives one signature for one content, and what was found good over exactly these
 * bytes stays good for as long as the keys are the same: as long as the sealer lives.
 */
function createRemembered(count: number): {
  get(what: string): string | undefined;
  set(what: string, seal: string): void;
} {
  let recent = new Map<string, string>();
  let older = new Map<string, string>();
  const set = (what: string, seal: string): void => {
    if (recent.size >= count) {
      older = recent;
      recent = new Map();
    }
    recent.set(what, seal);
  };
  return {
    get(what) {
      const known = recent.get(what);
      if (known !== undefined) return known;
      const before = older.get(what);
      if (before !== undefined) set(what, before);
      return before;
    },
    set,
  };
}
