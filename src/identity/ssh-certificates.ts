// Whom an SSH user certificate names. Pure. Guarantees: an authority counts by the octets of its key and for one provider
// alone; a principal is a name as it stands (no pattern, no list in it), under the provider's prefix, so no authority names
// a person of another provider or of the cluster; a certificate says nothing of groups.
// Does not verify the certificate itself: whoever shows one to this has checked signature, type, options and possession.
import { createHash } from 'node:crypto';
import type { TrustedProvider } from '../policy/bundle.ts';
import type { Principal } from '../policy/principal.ts';
import { isGoodName } from './oidc/names.ts';
import { isVoid } from './oidc/verify-token.ts';

/** What of a certificate is judged here; times in milliseconds since 1970. */
export interface ShownCertificate {
  /** Wire form of the authority's public key, base64. */
  authority: string;
  keyId: string;
  serial: bigint;
  principals: readonly string[];
  validAfterMs: number;
  validBeforeMs: number;
}

export interface ProvenCertificate {
  /** Name of the IdentityProvider. */
  provider: string;
  /** One person for each of its principals; never empty. */
  persons: readonly Principal[];
  /** `SHA256:` and base64, as ssh-keygen prints it. */
  authority: string;
  authorityKey: string;
  keyId: string;
  serial: string;
  validAfterMs: number;
  validBeforeMs: number;
}

export type CertificateFault = 'UnknownAuthority' | 'AmbiguousAuthority' | 'NotYet' | 'Expired' | 'NoName' | 'Void';
export type CertificateVerdict =
  | { kind: 'Good'; certificate: ProvenCertificate }
  | { kind: 'Bad'; fault: CertificateFault; provider?: string };

/** Stamps hold no longer uid (api/schema.ts). */
const LONGEST_UID = 256;
const LONGEST_KEY_ID = 256;

export function trustsAuthority({ ssh }: Pick<TrustedProvider, 'ssh'>, authority: string): boolean {
  return ssh?.userAuthorities.includes(authority) ?? false;
}

export function verifyCertificate(
  shown: ShownCertificate,
  check: { providers: readonly TrustedProvider[]; nowMs: number },
): CertificateVerdict {
  const trusting = check.providers.filter((provider) => trustsAuthority(provider, shown.authority));
  const [provider] = trusting;
  if (provider === undefined) return { kind: 'Bad', fault: 'UnknownAuthority' };
  const bad = (fault: CertificateFault): CertificateVerdict => ({ kind: 'Bad', fault, provider: provider.name });
  if (trusting.length > 1) return bad('AmbiguousAuthority');
  if (!(shown.validAfterMs <= check.nowMs)) return bad('NotYet');
  if (!(check.nowMs < shown.validBeforeMs)) return bad('Expired');
  const persons = shown.principals.flatMap((principal) => personOf(provider, principal) ?? []);
  if (persons.length === 0) return bad('NoName');
  // Of several persons none could be told from the others once one of them was logged out.
  if (persons.some(({ uid }) => uid !== undefined && isVoid(provider, { uid, iatMs: shown.validAfterMs })))
    return bad('Void');
  return {
    kind: 'Good',
    certificate: {
      provider: provider.name,
      persons,
      authority: fingerprintOf(Buffer.from(shown.authority, 'base64')),
      authorityKey: shown.authority,
      keyId: shown.keyId.slice(0, LONGEST_KEY_ID),
      serial: String(shown.serial),
      validAfterMs: shown.validAfterMs,
      validBeforeMs: shown.validBeforeMs,
    },
  };
}

/** Whether a session that it let in may go on as far as the providers say: they trust the authority, and nothing was logged out. */
export function isCertificateVoid(certificate: ProvenCertificate, providers: readonly TrustedProvider[]): boolean {
  const provider = providers.find(({ name }) => name === certificate.provider);
  if (provider === undefined || !trustsAuthority(provider, certificate.authorityKey)) return true;
  return certificate.persons.some(
    ({ uid }) => uid !== undefined && isVoid(provider, { uid, iatMs: certificate.validAfterMs }),
  );
}

function personOf({ issuer, prefix, ssh }: TrustedProvider, principal: string): Principal | undefined {
  const username = prefix.username + principal;
  if (principal === '' || !isGoodName(principal) || !isGoodName(username)) return undefined;
  const named = { username, groups: [], aliases: username === principal ? [] : [principal] };
  if (ssh?.principals !== 'Uid') return named;
  const uid = `${issuer} ${principal}`;
  return uid.length > LONGEST_UID ? undefined : { ...named, uid };
}

/** `SHA256:` and the base64 of a key's hash, without padding, as ssh-keygen prints it. */
export function fingerprintOf(blob: Uint8Array): string {
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

/** The key of an `authorized_keys` line of an authority, canonical; undefined: it is none, or a certificate. */
export function readAuthorityLine(line: string): string | undefined {
  const [type = '', encoded = ''] = line.trim().split(/[ \t]+/);
  const blob = Buffer.from(encoded, 'base64');
  if (blob.length < 8 || blob.toString('base64') !== encoded) return undefined;
  const length = blob.readUInt32BE(0);
  if (length > 64 || blob.subarray(4, 4 + length).toString('latin1') !== type) return undefined;
  return AUTHORITY_TYPES.test(type) ? encoded : undefined;
}
const AUTHORITY_TYPES = /^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521))$/;
