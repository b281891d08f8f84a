// A certificate authority of one machine: it vouches for the gateway's listeners, so that clients can say
// `sslmode=verify-full`. The CA's key stays in the state folder (0600); server keys live in memory only and are replaced
// after two thirds of their life, while old connections go on. Nobody else's names are ever signed.
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

export async function openAuthority(options: {
  folder: string;
  files: Files;
  clock: Clock;
  random: Random;
}): Promise<Authority> {
  const { files, folder, clock, random } = options;
  x509.cryptoProvider.set(webcrypto as never);
  files.mkdirSync(folder, { recursive: true, mode: 0o700 });
  const keyPath = `${folder}/ca.key`;
  const certPath = `${folder}/ca.crt`;

  let ca: x509.X509Certificate | undefined;
  let signingKey: webcrypto.CryptoKey | undefined;
  if (files.existsSync(keyPath) && files.existsSync(certPath)) {
    const stored = new x509.X509Certificate(files.readFileSync(certPath).toString('utf8'));
    if (stored.notAfter.getTime() - clock.now() > CA_MARGIN_MS) {
      ca = stored;
      const der = fromPem(files.readFileSync(keyPath).toString('utf8'));
      signingKey = await webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, false, ['sign']);
    }
  }
  if (ca === undefined || signingKey === undefined) {
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
    ca = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: serialNumber(random),
      name: `CN=Sallyport local CA ${random.bytes(3).toString('hex')}`,
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
    signingKey = keys.privateKey;
    // The key first: a crash between the two leaves a key without certificate, which is made anew.
    const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
    writeFileAtomically(files, keyPath, Buffer.from(toPem('PRIVATE KEY', pkcs8)), 0o600);
    writeFileAtomically(files, certPath, Buffer.from(`${ca.toString('pem')}\n`), 0o644);
  }
  const issuer = ca;
  const issuerKey = signingKey;

  return {
    caPem: `${issuer.toString('pem')}\n`,
    async issue(names, lifeMs) {
      const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
      const notAfterMs = Math.min(clock.now() + lifeMs, issuer.notAfter.getTime());
      const cert = await x509.X509CertificateGenerator.create({
        serialNumber: serialNumber(random),
        subject: `CN=${names[0] ?? 'localhost'}`,
        issuer: issuer.subject,
        notBefore: new Date(clock.now() - BACKDATE_MS),
        notAfter: new Date(notAfterMs),
        signingAlgorithm: ALGORITHM,
        publicKey: keys.publicKey,
        signingKey: issuerKey,
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
      const key = toPem('PRIVATE KEY', await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
      return { key, cert: `${cert.toString('pem')}\n`, notAfterMs };
    },
  };
}
