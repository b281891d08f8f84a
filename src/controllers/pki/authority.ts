// Sallyport's own certificate authority: it vouches for the gateways' listeners, so that clients can say
// `sslmode=verify-full`. Its key stays where it was made (the state folder, 0600, or the operator's Secret); server keys
// live in memory only and are replaced after two thirds of their life, while old connections go on.
import 'reflect-metadata'; // x509's injector needs it loaded first
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import type { Clock } from '../../system/clock.ts';
import { type Files, writeFileAtomically } from '../../system/files.ts';
import type { Random } from '../../system/random.ts';

export interface Authority {
  /** PEM of the certificate clients verify with. */
  readonly caPem: string;
  /** A new key and certificate for these host names and addresses, good for `lifeMs`. */
  issue(names: readonly string[], lifeMs: number): Promise<Issued>;
  /** A certificate for somebody else's key (SubjectPublicKeyInfo, DER). Whoever asks must have proven to hold it. */
  certify(publicKey: Uint8Array<ArrayBuffer>, names: readonly string[], lifeMs: number): Promise<Certified>;
}
export interface Certified {
  cert: string;
  notAfterMs: number;
}
export interface Issued {
  key: string;
  cert: string;
  notAfterMs: number;
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const CA_LIFE_MS = 10 * 365 * 86_400_000;
/** A CA this close to its end is replaced at start: no server certificate may outlive it. */
const CA_MARGIN_MS = 90 * 86_400_000;
const BACKDATE_MS = 3_600_000;

const toPem = (label: string, bytes: ArrayBuffer): string =>
  `-----BEGIN ${label}-----\n${Buffer.from(bytes)
    .toString('base64')
    .replace(/.{64}(?!$)/g, '$&\n')}\n-----END ${label}-----\n`;
const fromPem = (pem: string): Buffer => Buffer.from(pem.replace(/-----[^-]+-----/g, '').replace(/\s+/g, ''), 'base64');

/** RFC 5280 4.1.2.2: positive, at most 20 octets. */
function serialNumber(random: Random): string {
  const bytes = random.bytes(16);
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return bytes.toString('hex');
}

/** What a certificate authority is made of, as PEM. */
export interface AuthorityKeys {
  key: string;
  cert: string;
}

interface Sources {
  clock: Clock;
  random: Random;
}

/** A new authority that calls itself `name`. */
export async function makeAuthorityKeys(name: string, { clock, random }: Sources): Promise<AuthorityKeys> {
  x509.cryptoProvider.set(webcrypto as never);
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(random),
    name: `CN=${name} ${random.bytes(3).toString('hex')}`,
    notBefore: new Date(clock.now() - BACKDATE_MS),
    notAfter: new Date(clock.now() + CA_LIFE_MS),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return { key: toPem('PRIVATE KEY', pkcs8), cert: `${ca.toString('pem')}\n` };
}

/** Whether an authority can still vouch for certificates of any life it is asked for. */
export function isFresh(keys: AuthorityKeys, clock: Clock): boolean {
  return new x509.X509Certificate(keys.cert).notAfter.getTime() - clock.now() > CA_MARGIN_MS;
}

/** Throws on PEM that is no such key or certificate. */
export async function authorityOf(keys: AuthorityKeys, { clock, random }: Sources): Promise<Authority> {
  x509.cryptoProvider.set(webcrypto as never);
  const issuer = new x509.X509Certificate(keys.cert);
  const signingKey = await webcrypto.subtle.importKey('pkcs8', fromPem(keys.key), ALGORITHM, false, ['sign']);

  const sign = async (publicKey: x509.PublicKeyType, names: readonly string[], lifeMs: number): Promise<Certified> => {
    const notAfterMs = Math.min(clock.now() + lifeMs, issuer.notAfter.getTime());
    const cert = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(random),
      subject: `CN=${commonName(names)}`,
      issuer: issuer.subject,
      notBefore: new Date(clock.now() - BACKDATE_MS),
      notAfter: new Date(notAfterMs),
      signingAlgorithm: ALGORITHM,
      publicKey,
      signingKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
        new x509.SubjectAlternativeNameExtension(
          names.map((value) => ({ type: /^[0-9.]+$|:/.test(value) ? ('ip' as const) : ('dns' as const), value })),
        ),
        await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
      ],
    });
    return { cert: `${cert.toString('pem')}\n`, notAfterMs };
  };

  return {
    caPem: `${issuer.toString('pem')}\n`,
    async issue(names, lifeMs) {
      const pair = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
      const certified = await sign(pair.publicKey, names, lifeMs);
      return { key: toPem('PRIVATE KEY', await webcrypto.subtle.exportKey('pkcs8', pair.privateKey)), ...certified };
    },
    certify: (publicKey, names, lifeMs) => sign(new x509.PublicKey(publicKey), names, lifeMs),
  };
}

/** RFC 5280 (upper bounds): a common name has at most 64 characters; names proper are in the extension. */
function commonName(names: readonly string[]): string {
  return names.find((name) => name.length <= 64) ?? 'sallyport';
}

/** The authority kept in `folder`, made there if need be. */
export async function openAuthority(options: Sources & { folder: string; files: Files }): Promise<Authority> {
  const { files, folder, clock } = options;
  files.mkdirSync(folder, { recursive: true, mode: 0o700 });
  const keyPath = `${folder}/ca.key`;
  const certPath = `${folder}/ca.crt`;
  if (files.existsSync(keyPath) && files.existsSync(certPath)) {
    const stored = {
      key: files.readFileSync(keyPath).toString('utf8'),
      cert: files.readFileSync(certPath).toString('utf8'),
    };
    if (isFresh(stored, clock)) return authorityOf(stored, options);
  }
  const made = await makeAuthorityKeys('Sallyport local CA', options);
  // The key first: a crash between the two leaves a key without certificate, which is made anew.
  writeFileAtomically(files, keyPath, Buffer.from(made.key), 0o600);
  writeFileAtomically(files, certPath, Buffer.from(made.cert), 0o644);
  return authorityOf(made, options);
}
