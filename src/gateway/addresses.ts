// What an IP address means to a dialler: is it a place that a Connection's author may send the gateway to?
// Pure. Works on the address, never on its spelling: mapped, translated and tunnelled forms of an IPv4 address are
// judged as that address.
import { isIPv4, isIPv6 } from 'node:net';

/** Why an address may not be dialled. `Unreadable`: no address that this file understands, or one with a zone. */
export type AddressClass =
  | 'Public'
  | 'Loopback'
  | 'LinkLocal'
  | 'Metadata'
  | 'Unspecified'
  | 'Multicast'
  | 'Reserved'
  | 'Unreadable';

/** 4 or 16 bytes, or undefined for anything that is not a plain address literal. */
export function addressBytes(address: string): number[] | undefined {
  if (isIPv4(address)) return address.split('.').map(Number);
  if (!isIPv6(address) || address.includes('%')) return undefined;
  let text = address;
  const dotted = /^(.*:)([0-9.]+)$/.exec(text);
  if (dotted !== null && dotted[2]!.includes('.')) {
    const [a, b, c, d] = dotted[2]!.split('.').map(Number) as [number, number, number, number];
    text = `${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [head = '', tail] = text.split('::');
  const groups = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const left = groups(head);
  const right = tail === undefined ? [] : groups(tail);
  const middle = tail === undefined ? [] : new Array<number>(8 - left.length - right.length).fill(0);
  return [...left, ...middle, ...right].flatMap((group) => [group >> 8, group & 0xff]);
}

/** Cloud providers' metadata and host services outside the link-local range: they hand out machine credentials. */
const METADATA = new Set([
  '169.254.169.254', // AWS, GCP, Azure, OpenStack and others
  '169.254.170.2', // AWS container credentials
  '169.254.170.23', // AWS pod identity
  '100.100.100.200', // Alibaba
  '192.0.0.192', // Oracle
  '168.63.129.16', // Azure host
]);

function classifyV4(bytes: readonly number[]): AddressClass {
  const [a, b] = bytes as [number, number, number, number];
  if (METADATA.has(bytes.join('.'))) return 'Metadata';
  if (a === 0) return 'Unspecified'; // 0.0.0.0/8: "this host" on this network (RFC 1122)
  if (a === 127) return 'Loopback';
  if (a === 169 && b === 254) return 'LinkLocal';
  if (a >= 224 && a <= 239) return 'Multicast';
  if (a >= 240) return 'Reserved'; // 240.0.0.0/4 and broadcast
  return 'Public';
}

const isPrefix = (bytes: readonly number[], prefix: readonly number[]): boolean =>
  prefix.every((byte, index) => bytes[index] === byte);

function classifyV6(bytes: readonly number[]): AddressClass {
  const zeros = (count: number): boolean => bytes.slice(0, count).every((byte) => byte === 0);
  const tail = (from: number): readonly number[] => bytes.slice(from, from + 4);
  if (zeros(16)) return 'Unspecified';
  if (zeros(15) && bytes[15] === 1) return 'Loopback';
  if (zeros(10) && bytes[10] === 0xff && bytes[11] === 0xff) return classifyV4(tail(12)); // ::ffff:0:0/96 mapped
  if (zeros(8) && bytes[8] === 0xff && bytes[9] === 0xff && bytes[10] === 0 && bytes[11] === 0)
    return classifyV4(tail(12)); // ::ffff:0:0:0/96, RFC 2765
  if (zeros(12)) return classifyV4(tail(12)); // ::/96, deprecated IPv4-compatible
  if (isPrefix(bytes, [0, 0x64, 0xff, 0x9b])) {
    // 64:ff9b::/96 translates to IPv4; 64:ff9b:1::/48 does where its operator says, which nobody here knows.
    return bytes.slice(4, 12).every((byte) => byte === 0) ? classifyV4(tail(12)) : 'Reserved';
  }
  if (isPrefix(bytes, [0x20, 0x02])) return classifyV4(tail(2)); // 6to4
  if (isPrefix(bytes, [0x20, 0x01, 0, 0])) return 'Reserved'; // Teredo
  if (isPrefix(bytes, [0xfd, 0, 0x0e, 0xc2])) return 'Metadata'; // fd00:ec2::/32, AWS
  if (isPrefix(bytes, [0xfd, 0x20, 0, 0xce])) return 'Metadata'; // fd20:ce::/32, GCP
  if (bytes[0] === 0xfe && (bytes[1]! & 0xc0) === 0x80) return 'LinkLocal';
  if (bytes[0] === 0xff) return 'Multicast';
  return 'Public';
}

/** Judges one address literal. */
export function classifyAddress(address: string): AddressClass {
  const bytes = addressBytes(address);
  if (bytes === undefined) return 'Unreadable';
  return bytes.length === 4 ? classifyV4(bytes) : classifyV6(bytes);
}

/** One spelling for one address: IPv4-mapped IPv6 becomes IPv4; an IPv6 address is cut to `bits` (its owner has them all). */
export function clientAddressKey(address: string, bits = 64): string {
  const bytes = addressBytes(address);
  if (bytes === undefined) return address.slice(0, 64);
  if (bytes.length === 4) return bytes.join('.');
  if (isPrefix(bytes, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff])) return bytes.slice(12).join('.');
  return `${bytes
    .slice(0, bits / 8)
    .map((byte) => byte.toString(16).padStart(2, '0'))
    .join('')}/${bits}`;
}
