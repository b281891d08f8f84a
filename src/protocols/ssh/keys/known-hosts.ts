// Keys as lines of text: `authorized_keys`, `known_hosts`, `.pub` files (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").
import { MalformedData, readData } from '../wire/data.ts';
import { fingerprintOf } from './public-key.ts';

const LINE = /^([a-z0-9@.-]{1,64})[ \t]+([A-Za-z0-9+/]{1,43692}={0,2})(?:[ \t]+(.*))?$/;

export interface KeyLine {
  /** As the line and the blob both say. */
  type: string;
  /** A key's or a certificate's; what is in it was not looked at beyond its type. */
  blob: Buffer;
  comment: string;
}

/** Reads `ssh-ed25519 AAAA… comment`. Options in front are not for here. Throws MalformedData. */
export function readPublicKeyLine(line: string): KeyLine {
  const found = LINE.exec(line.trim());
  if (found === null) throw new MalformedData('a public key is not of the form `type base64 comment`');
  const blob = Buffer.from(found[2]!, 'base64');
  const type = found[1]!;
  if (blob.toString('base64').replace(/=+$/, '') !== found[2]!.replace(/=+$/, ''))
    throw new MalformedData('the base64 of a public key is not canonical');
  if (readData(blob).text(64) !== type) throw new MalformedData('a public key is of another type than its line says');
  return { type, blob, comment: found[3]?.trim() ?? '' };
}

/** `ssh-ed25519 AAAA… comment`. */
export function publicKeyLine(blob: Buffer, comment = ''): string {
  const line = `${readData(blob).text(64)} ${blob.toString('base64')}`;
  return comment === '' ? line : `${line} ${comment}`;
}

export interface HostName {
  host: string;
  /** 22 is not written. */
  port?: number;
}

/** How `known_hosts` spells a server: `[host]:2222`; port 22 goes without. */
export function hostPattern({ host, port = 22 }: HostName): string {
  // A comma, a blank or a wildcard would make one name many, or another field.
  if (!/^[A-Za-z0-9._:%-]+$/.test(host)) throw new MalformedData('a host name holds what known_hosts would misread');
  const name = host.toLowerCase();
  return port === 22 ? name : `[${name}]:${port}`;
}

/** `[host]:2222 ssh-ed25519 AAAA…`. */
export function knownHostsLine(names: readonly HostName[], blob: Buffer, comment = ''): string {
  return `${names.map(hostPattern).join(',')} ${publicKeyLine(blob, comment)}`;
}

/** `@cert-authority [host]:2222 ssh-ed25519 AAAA…`: believes any of these hosts that this key certified. */
export function certAuthorityLine(names: readonly HostName[], authority: Buffer, comment = ''): string {
  return `@cert-authority ${knownHostsLine(names, authority, comment)}`;
}

/** For people: `ssh-ed25519 SHA256:…`. */
export function keyForPeople(blob: Buffer): string {
  return `${readData(blob).text(64)} ${fingerprintOf(blob)}`;
}
