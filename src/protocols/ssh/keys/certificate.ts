// What a certificate is worth now, and new ones (OpenSSH's PROTOCOL.certkeys; ssh-keygen(1), "CERTIFICATES").
//
// Guarantees: a certificate that was found good was signed by the authority it names, is valid now, is of the right role, and
// has no condition that was not understood and met. What it does not say: whether that authority is believed
// (user certificates: the gateway knows; host certificates: host-trust.ts), nor that the peer has the certified key.
import { BlockList, isIP, isIPv4 } from 'node:net';
import type { Random } from '../../../system/random.ts';
import type { UserCertificate } from '../../protocol.ts';
import { MalformedData, readData, writeData } from '../wire/data.ts';
import {
  type CertificateOption,
  certificateToSign,
  type ParsedCertificate,
  parseCertificate,
} from './certificate-blob.ts';
import type { Signer } from './key.ts';
import type { PublicKey } from './public-key.ts';
import { SIGNATURE_ALGORITHMS, verifyByKey } from './verify.ts';

/** What a client may ask for at all. Of a key, everything: a certificate takes away what it does not permit. */
export interface LoginRights {
  pty: boolean;
  portForwarding: boolean;
  agentForwarding: boolean;
  x11Forwarding: boolean;
}

export const ALL_RIGHTS: LoginRights = { pty: true, portForwarding: true, agentForwarding: true, x11Forwarding: true };

const PERMITS: Readonly<Record<keyof LoginRights, string>> = {
  x11Forwarding: 'permit-X11-forwarding',
  agentForwarding: 'permit-agent-forwarding',
  portForwarding: 'permit-port-forwarding',
  pty: 'permit-pty',
};
/** Known, and of no effect here: nothing of ours ever runs an rc file. */
const PERMIT_USER_RC = 'permit-user-rc';

export type UserCertificateCheck =
  | {
      kind: 'Good';
      certificate: UserCertificate;
      /** Signs for it. */
      key: PublicKey;
      rights: LoginRights;
      /** The certificate wants a signature for which the security key asked who is there. */
      userVerified: boolean;
    }
  /** For the log. The client is told nothing before it has proven something. */
  | { kind: 'Refused'; reason: string };

export interface UserCertificateCircumstances {
  nowMs: number;
  /** Of the client. Through a tunnel it is no address but somebody's word for one, and bound certificates are refused. */
  peerAddress: string;
}

/** Every rule that needs no list of authorities. Never throws. */
export function checkUserCertificate(blob: Buffer, now: UserCertificateCircumstances): UserCertificateCheck {
  const refused = (reason: string): UserCertificateCheck => ({ kind: 'Refused', reason });
  let parsed: ParsedCertificate;
  try {
    parsed = parseCertificate(blob);
  } catch (error) {
    if (error instanceof MalformedData) return refused(error.message);
    throw error;
  }
  if (parsed.role !== 'User') return refused('it is not for a user');
  if (parsed.principals.length === 0) return refused('it names no principal');
  // eslint-disable-next-line no-control-regex
  if ([parsed.keyId, ...parsed.principals].some((text) => /[\u0000-\u001f\u007f-\u009f]/.test(text)))
    return refused('its texts hold control characters');
  const fault = basicFault(parsed, now.nowMs);
  if (fault !== undefined) return refused(fault);
  let userVerified = false;
  for (const { name, data } of parsed.criticalOptions) {
    switch (name) {
      case 'source-address': {
        const reason = sourceAddressFault(data, now.peerAddress);
        if (reason !== undefined) return refused(reason);
        break;
      }
      case 'verify-required':
        if (data.length > 0) return refused('its critical option verify-required has a value');
        if (parsed.key.kind !== 'SkEd25519' && parsed.key.kind !== 'SkEcdsa')
          return refused('it wants a user verified and is for a key that can not do that');
        userVerified = true;
        break;
      case 'force-command':
        return refused('it has force-command: commands are the policy’s to decide here');
      default:
        return refused('it has a critical option that is not known here');
    }
  }
  const rights: LoginRights = { ...NO_RIGHTS };
  for (const { name, data } of parsed.extensions) {
    const right = (Object.keys(PERMITS) as (keyof LoginRights)[]).find((key) => PERMITS[key] === name);
    if ((right !== undefined || name === PERMIT_USER_RC) && data.length > 0)
      return refused('one of its permits has a value');
    if (right !== undefined) rights[right] = true;
  }
  return {
    kind: 'Good',
    key: parsed.key,
    rights,
    userVerified,
    certificate: {
      authority: parsed.authority.blob.toString('base64'),
      keyId: parsed.keyId,
      serial: parsed.serial,
      principals: parsed.principals,
      validAfterMs: milliseconds(parsed.validAfter),
      validBeforeMs: milliseconds(parsed.validBefore),
    },
  };
}

const NO_RIGHTS: LoginRights = { pty: false, portForwarding: false, agentForwarding: false, x11Forwarding: false };

/** Signature and time, which users and hosts have in common. */
function basicFault(parsed: ParsedCertificate, nowMs: number): string | undefined {
  const now = BigInt(Math.floor(nowMs / 1000));
  if (now < parsed.validAfter) return 'it is not valid yet';
  if (now >= parsed.validBefore) return 'it has expired';
  const algorithm = signatureName(parsed.signature);
  if (algorithm === undefined || !verifyByKey(parsed.authority, algorithm, parsed.signedBytes, parsed.signature))
    return 'its signature is not its authority’s';
  return undefined;
}

function signatureName(signature: Buffer): string | undefined {
  try {
    const name = readData(signature).text(64);
    return SIGNATURE_ALGORITHMS.find((known) => known === name);
  } catch (error) {
    if (error instanceof MalformedData) return undefined;
    throw error;
  }
}

/** Seconds as a certificate has them; what no clock will reach is Infinity. */
function milliseconds(seconds: bigint): number {
  const value = seconds * 1000n;
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.POSITIVE_INFINITY : Number(value);
}

/** "Comma-separated list of source addresses … in CIDR format (nn.nn.nn.nn/nn or hhhh::hhhh/nn)". */
function sourceAddressFault(data: Buffer, peer: string): string | undefined {
  let list: string;
  try {
    const reader = readData(data);
    list = reader.text(4096);
    reader.end();
  } catch (error) {
    if (error instanceof MalformedData) return 'its source-address can not be read';
    throw error;
  }
  // One list a family: a list of both would take IPv4 for mapped IPv6.
  const allowed = { ipv4: new BlockList(), ipv6: new BlockList() };
  for (const entry of list.split(',')) {
    const [, address = '', bits] = /^([0-9A-Fa-f:.]+)(?:\/(0|[1-9][0-9]{0,2}))?$/.exec(entry) ?? [];
    const family = isIP(address);
    const [name, whole] = family === 4 ? (['ipv4', 32] as const) : (['ipv6', 128] as const);
    if (family === 0 || Number(bits ?? whole) > whole) return 'its source-address can not be read';
    allowed[name].addSubnet(address, Number(bits ?? whole), name);
  }
  const address = peer
    .toLowerCase()
    .replace(/^::ffff:(?=[0-9.]+$)/, '')
    .replace(/%.*$/, '');
  if (isIP(address) === 0) return 'it is bound to an address, and a tunnel hides where this client is';
  const name = isIPv4(address) ? 'ipv4' : 'ipv6';
  return allowed[name].check(address, name) ? undefined : 'it is bound to another address';
}

/** Why a certificate does not make its key the host's, or undefined. Never throws. */
export function hostCertificateFault(
  blob: Buffer,
  expected: { authorities: readonly Buffer[]; principal: string; nowMs: number },
): string | undefined {
  let parsed: ParsedCertificate;
  try {
    parsed = parseCertificate(blob);
  } catch (error) {
    if (error instanceof MalformedData) return `the host certificate is malformed: ${error.message}`;
    throw error;
  }
  if (parsed.role !== 'Host') return 'the certificate is not for a host';
  if (!expected.authorities.some((authority) => authority.equals(parsed.authority.blob)))
    return 'the host certificate is of an authority that is not listed';
  if (!parsed.principals.includes(expected.principal))
    return `the host certificate does not name ${JSON.stringify(expected.principal)}`;
  if (parsed.criticalOptions.length > 0) return 'the host certificate has a critical option that is not known here';
  const fault = basicFault(parsed, expected.nowMs);
  return fault === undefined ? undefined : `the host certificate can not be believed: ${fault}`;
}

export interface UserCertificateRequest {
  authority: Signer;
  /** Blob of the key that was made for this one login. */
  key: Buffer;
  /** The target's user. */
  principal: string;
  session: string;
  grant: string;
  /** Who it is, for the target's log. */
  person: string;
  permits: Partial<LoginRights>;
  nowMs: number;
  grantExpiresAtMs: number;
  random: Random;
}

const CLOCKS_DIFFER_SECONDS = 5n * 60n;
const LOGIN_SECONDS = 2n * 60n;
const LONGEST_PERSON = 256;

/**
 * For one login: one principal, from 5 minutes ago (clocks differ) to 2 minutes from now or the grant's end, never
 * permit-user-rc, no force-command. sshd looks at it once: ending the session is the gateway's. Throws where the grant has ended.
 */
export function mintUserCertificate(request: UserCertificateRequest): Buffer {
  const now = BigInt(Math.floor(request.nowMs / 1000));
  const grantEnd = BigInt(Math.floor(Math.min(request.grantExpiresAtMs, Number.MAX_SAFE_INTEGER) / 1000));
  const validBefore = grantEnd < now + LOGIN_SECONDS ? grantEnd : now + LOGIN_SECONDS;
  if (validBefore <= now) throw new Error('the grant has ended');
  const extensions: CertificateOption[] = (Object.keys(PERMITS) as (keyof LoginRights)[])
    .filter((right) => request.permits[right] === true)
    .map((right) => ({ name: PERMITS[right], data: Buffer.alloc(0) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  return signed(
    certificateToSign({
      nonce: request.random.bytes(32),
      key: request.key,
      serial: request.random.bytes(8).readBigUInt64BE(),
      role: 'User',
      keyId: `sallyport session=${oneLine(request.session)} grant=${oneLine(request.grant)} user=${oneLine(request.person)}`,
      principals: [request.principal],
      validAfter: now > CLOCKS_DIFFER_SECONDS ? now - CLOCKS_DIFFER_SECONDS : 0n,
      validBefore,
      extensions,
      authority: request.authority.blob,
    }),
    request.authority,
  );
}

/** What a log line of the target's may hold: no blank or control that would begin a field or a line of its own. */
function oneLine(text: string): string {
  return text.replaceAll(/[^\p{L}\p{N}\p{P}\p{S}]/gu, '_').slice(0, LONGEST_PERSON);
}

export interface HostCertificateRequest {
  authority: Signer;
  key: Buffer;
  keyId: string;
  /** Published names and aliases. */
  principals: readonly string[];
  validAfterMs: number;
  validBeforeMs: number;
  random: Random;
}

export function mintHostCertificate(request: HostCertificateRequest): Buffer {
  if (request.principals.length === 0) throw new Error('a host certificate names its host');
  return signed(
    certificateToSign({
      nonce: request.random.bytes(32),
      key: request.key,
      serial: request.random.bytes(8).readBigUInt64BE(),
      role: 'Host',
      keyId: request.keyId,
      principals: request.principals,
      validAfter: BigInt(Math.floor(request.validAfterMs / 1000)),
      validBefore: BigInt(Math.floor(request.validBeforeMs / 1000)),
      authority: request.authority.blob,
    }),
    request.authority,
  );
}

function signed(content: Buffer, authority: Signer): Buffer {
  return writeData({ raw: content }, { string: authority.sign(content, authority.algorithms[0]!) });
}
