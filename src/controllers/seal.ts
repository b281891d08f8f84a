// The operator's seals: on stamps (who asked, who approved) at admission, and on what it decided. Status is not
// authority: whoever can write a status can not write its seal, and without a good one the controller decides again.
import { sign, verify } from 'node:crypto';
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
  | { kind: 'Good'; principal: Principal; atMs: number; nonce: string }
  | { kind: 'Bad'; message: string };

const CREATION_SLACK_MS = 2_000;

const stampBytes = (stamp: Stamp): Buffer => {
  const { seal: _seal, proof: _proof, ...signed } = stamp;
  return Buffer.from(`sallyport-stamp\n${canonicalJson(signed)}`);
};
const factBytes = (purpose: string, uid: string, facts: unknown): Buffer =>
  Buffer.from(`sallyport-status\n${canonicalJson({ purpose, uid, facts })}`);

export function createSealer(key: SigningKey, alsoTrusted: readonly TrustedKey[] = []): Sealer {
  const trusted = [trustedKeyOf(key), ...alsoTrusted];
  const seal = (bytes: Buffer): string => `${key.keyId}.${sign(null, bytes, key.privateKey).toString('base64url')}`;
  const check = (bytes: Buffer, text: string | undefined): boolean => {
    const [keyId, signature, ...rest] = (text ?? '').split('.');
    const by = trusted.find((candidate) => candidate.keyId === keyId);
    if (by === undefined || signature === undefined || rest.length > 0) return false;
    return verify(null, bytes, by.publicKey, Buffer.from(signature, 'base64url'));
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
        },
      };
    },
    sealFacts: (purpose, uid, facts) => seal(factBytes(purpose, uid, facts)),
    checkFacts: (purpose, uid, facts, text) => check(factBytes(purpose, uid, facts), text),
  };
}
