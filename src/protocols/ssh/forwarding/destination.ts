// Where a forward leads, in one spelling, and the patterns of rules about it. A target resolves names itself: a pattern of
// addresses never permits a name, and always may deny one.
//
// Patterns: `HOST:PORT`, where HOST is a name with `*`, an address, a CIDR range (IPv6 in brackets: `[fd00::/8]:443`), and
// PORT a number, a range `8000-8099` or `*`; the same after `listen:` is about ports that the target listens on (`-R`);
// `/run/app/*.sock` is a socket (in both directions, `listen:/run/…` for -R); `agent` and `x11` are those features.
import { isIPv4 } from 'node:net';
import { compileGlob } from '../../../policy/glob.ts';
import type { ForwardDestination, ForwardFacts } from '../facts.ts';
import { compilePath, latin1, type PathPattern, pathProblem } from '../match/path.ts';

export interface TargetServer {
  /** As the gateway dials it. */
  host: string;
  port: number;
}

/** undefined: no host at all (control characters, an impossible port), to be refused. */
export function parseDestination(host: string, port: number): ForwardDestination | undefined {
  if (!Number.isInteger(port) || port < 0 || port > 65_535 || host.length > 255) return undefined;
  let text = host.toLowerCase();
  if (text.startsWith('[') && text.endsWith(']')) text = text.slice(1, -1);
  text = text.replace(/\.$/, '');
  // Dialling nothing in particular is dialling oneself; listening on it is listening everywhere.
  if (text === '' || text === '*') return { kind: 'Address', address: '0.0.0.0', port };
  const address = canonicalAddress(text);
  if (address !== undefined) return { kind: 'Address', address, port };
  return /^[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?$/.test(text) ? { kind: 'Name', host: text, port } : undefined;
}

export function socketDestination(path: string): ForwardDestination {
  return { kind: 'Socket', path };
}

/** `db.internal:5432`, `[fd00::1]:443`, `/run/app.sock`. */
export function destinationText(destination: ForwardDestination): string {
  if (destination.kind === 'Socket') return destination.path;
  if (destination.kind === 'Name') return `${destination.host}:${destination.port}`;
  const { address, port } = destination;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** One spelling of an address, whatever inet_aton(3) and inet_pton(3) take; IPv6 that means IPv4 becomes IPv4. */
export function canonicalAddress(text: string): string | undefined {
  if (!text.includes(':')) return inetAton(text);
  const bare = text.replace(/%.*$/, '');
  if (!/^[0-9a-f:.]+$/.test(bare)) return undefined;
  try {
    const canonical = new URL(`http://[${bare}]/`).hostname.slice(1, -1);
    const mapped = /^(?:::ffff:|64:ff9b::)([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical);
    if (mapped === null) return canonical === '::' ? '0.0.0.0' : canonical;
    const [high, low] = [Number.parseInt(mapped[1]!, 16), Number.parseInt(mapped[2]!, 16)];
    return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
  } catch {
    return undefined;
  }
}

/** inet_aton(3): one to four numbers, decimal, octal or hexadecimal; the last fills what is left. */
function inetAton(text: string): string | undefined {
  const parts = text.split('.');
  if (parts.length > 4) return undefined;
  const numbers = parts.map((part) =>
    /^0x[0-9a-f]*$/.test(part)
      ? Number.parseInt(part.slice(2) || '0', 16)
      : /^0[0-7]*$/.test(part)
        ? Number.parseInt(part, 8)
        : /^[1-9][0-9]*$/.test(part)
          ? Number(part)
          : Number.NaN,
  );
  const last = numbers.pop()!;
  if (numbers.some((each) => !(each <= 255)) || !(last < 256 ** (4 - numbers.length))) return undefined;
  const value = numbers.reduce((sum, each, at) => sum + each * 256 ** (3 - at), last);
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
}

const METADATA_NAMES =
  /(?:^|\.)(?:metadata|instance-data|metadata\.goog|metadata\.google\.internal|instance-data\.ec2\.internal)$|169[.-]254|^metadata\.|a9fe/;
const METADATA_RANGES = ['169.254.0.0/16', '100.100.100.200/32', '168.63.129.16/32', '192.0.0.192/32', 'fe80::/10'];
const METADATA = [...METADATA_RANGES, 'fd00:ec2::254/128', 'fd20:ce::254/128'].map((range) => parseRange(range)!);

/** What a wide pattern does not permit: metadata of clouds, and sessions that nobody would record. */
export function guardOf(
  direction: ForwardFacts['direction'],
  destination: ForwardDestination,
  server: TargetServer,
): ForwardFacts['guarded'] {
  if (direction === 'Remote' || destination.kind === 'Socket') return undefined;
  // Its host has more names and addresses than we know, so the port decides.
  if (destination.port === 22 || destination.port === server.port) return 'SshServer';
  const metadata =
    destination.kind === 'Name'
      ? METADATA_NAMES.test(destination.host)
      : METADATA.some((range) => inRange(range, destination.address));
  return metadata ? 'Metadata' : undefined;
}

/** What `localhost` stands for where one listens (RFC 4254, 7.1): OpenSSH asks so unless it is told otherwise. */
const LISTEN_LOCALHOST = '127.0.0.1';

/** The address that a listener's host stands for, or its name; undefined: none. */
export function listenerAddress(host: string): string | undefined {
  const destination = parseDestination(host, 0);
  if (destination?.kind === 'Name') return destination.host === 'localhost' ? LISTEN_LOCALHOST : destination.host;
  if (destination?.kind !== 'Address') return undefined;
  return destination.address === '::1' ? LISTEN_LOCALHOST : destination.address;
}

/** For listeners `localhost` is an address in patterns and in destinations. */
function asListened(direction: ForwardFacts['direction'], destination: ForwardDestination): ForwardDestination {
  return direction === 'Remote' && destination.kind === 'Name' && destination.host === 'localhost'
    ? { kind: 'Address', address: LISTEN_LOCALHOST, port: destination.port }
    : destination;
}

interface Range {
  bits: bigint;
  length: number;
  width: 32 | 128;
}

function parseRange(text: string): Range | undefined {
  const cut = text.indexOf('/');
  const address = canonicalAddress(cut < 0 ? text : text.slice(0, cut));
  if (address === undefined) return undefined;
  const width = isIPv4(address) ? 32 : 128;
  const length = cut < 0 ? width : Number(text.slice(cut + 1));
  if (!/^\d{1,3}$/.test(cut < 0 ? '0' : text.slice(cut + 1)) || length > width) return undefined;
  return { bits: bitsOf(address), length, width };
}

function inRange({ bits, length, width }: Range, address: string): boolean {
  if (isIPv4(address) !== (width === 32)) return false;
  const shift = BigInt(width - length);
  return bitsOf(address) >> shift === bits >> shift;
}

function bitsOf(address: string): bigint {
  if (isIPv4(address)) return address.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n);
  const [head = '', tail] = address.split('::');
  const groups = (text: string): string[] => (text === '' ? [] : text.split(':'));
  const front = groups(head);
  const back = tail === undefined ? [] : groups(tail);
  const middle = new Array<string>(8 - front.length - back.length).fill('0');
  return [...front, ...middle, ...back].reduce((sum, group) => sum * 65_536n + BigInt(`0x${group}`), 0n);
}

export type ForwardPattern =
  | { kind: 'Feature'; feature: 'agent' | 'x11' }
  | { kind: 'Socket'; direction: ForwardFacts['direction']; path: PathPattern; exact: boolean }
  | {
      kind: 'Tcp';
      direction: ForwardFacts['direction'];
      host: { kind: 'Range'; range: Range } | { kind: 'Name'; pattern: string; fits: (host: string) => boolean };
      ports: readonly [least: number, most: number];
      /** Host and port are spelled out. */
      exact: boolean;
    };

export function parseForwardPattern(
  text: string,
): { kind: 'Pattern'; pattern: ForwardPattern } | { kind: 'Bad'; problem: string } {
  const bad = (problem: string) => ({ kind: 'Bad' as const, problem: `"${text}" ${problem}` });
  if (text === 'agent' || text === 'x11') return { kind: 'Pattern', pattern: { kind: 'Feature', feature: text } };
  const direction = text.startsWith('listen:') ? 'Remote' : 'Local';
  const rest = direction === 'Remote' ? text.slice('listen:'.length) : text;
  if (rest.startsWith('/')) {
    const problem = pathProblem(rest);
    if (problem !== undefined) return { kind: 'Bad', problem };
    const pattern = {
      kind: 'Socket' as const,
      direction,
      path: compilePath(rest),
      exact: !rest.includes('*'),
    } as const;
    return { kind: 'Pattern', pattern };
  }
  const cut = rest.lastIndexOf(':');
  const ports = cut < 0 ? undefined : parsePorts(rest.slice(cut + 1));
  if (ports === undefined) return bad('names no port; write host:5432, host:8000-8099 or host:*');
  let host = rest.slice(0, cut).toLowerCase();
  if (host.startsWith('[') && host.endsWith(']')) host = host.slice(1, -1);
  else if (host.includes(':')) return bad('has an IPv6 address without brackets; write [fd00::1]:443');
  const onePort = ports[0] === ports[1];
  const range = parseRange(direction === 'Remote' && host === 'localhost' ? LISTEN_LOCALHOST : host);
  if (range !== undefined) {
    const exact = onePort && range.length === range.width;
    return { kind: 'Pattern', pattern: { kind: 'Tcp', direction, host: { kind: 'Range', range }, ports, exact } };
  }
  host = host.replace(/\.$/, '');
  if (host.includes('/')) return bad('is no range of addresses; write 10.0.0.0/8:5432');
  if (!/^[a-z0-9_*]([a-z0-9._*-]*[a-z0-9_*])?$/.test(host)) return bad('has no host; write db.internal:5432');
  if (/^[0-9.]*\*[0-9.*]*$/.test(host) && host !== '*')
    return bad('can never match: addresses are matched by ranges; write 10.0.0.0/8:5432');
  const fits = compileGlob(host);
  const exact = onePort && !host.includes('*');
  const name = { kind: 'Name' as const, pattern: host, fits };
  return { kind: 'Pattern', pattern: { kind: 'Tcp', direction, host: name, ports, exact } };
}

function parsePorts(text: string): readonly [number, number] | undefined {
  if (text === '*') return [0, 65_535];
  const found = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  if (found === null) return undefined;
  const least = Number(found[1]);
  const most = Number(found[2] ?? found[1]);
  return least <= most && most <= 65_535 ? [least, most] : undefined;
}

/** Exactly: every reading of the destination is described. */
export function permitsForward(
  pattern: ForwardPattern,
  direction: ForwardFacts['direction'],
  asked: ForwardDestination,
): boolean {
  if (pattern.kind === 'Feature' || pattern.direction !== direction) return false;
  const destination = asListened(direction, asked);
  if (destination.kind === 'Socket') return pattern.kind === 'Socket' && pattern.path.matches(latin1(destination.path));
  if (pattern.kind === 'Socket' || !hasPort(pattern, destination.port)) return false;
  const { host } = pattern;
  if (host.kind === 'Range') return destination.kind === 'Address' && inRange(host.range, destination.address);
  if (host.pattern === '*') return true;
  return destination.kind === 'Name' && host.fits(destination.host);
}

/** Generously: some reading is described. A name may mean any address, and an address any name. */
export function restrictsForward(
  pattern: ForwardPattern,
  direction: ForwardFacts['direction'],
  asked: ForwardDestination | undefined,
): boolean {
  if (pattern.kind === 'Feature' || pattern.direction !== direction) return false;
  if (asked === undefined) return true;
  const destination = asListened(direction, asked);
  if (destination.kind === 'Socket')
    return pattern.kind === 'Socket' && (pattern.path.matches(latin1(destination.path)) || !isPlain(destination.path));
  if (pattern.kind === 'Socket' || !hasPort(pattern, destination.port)) return false;
  const { host } = pattern;
  if (host.kind === 'Range') return destination.kind === 'Name' || inRange(host.range, destination.address);
  if (destination.kind === 'Address') return true;
  // A search domain may complete the name.
  return (
    host.fits(destination.host) ||
    host.pattern.startsWith(`${destination.host}.`) ||
    (host.pattern.startsWith('*') && !destination.host.includes('.'))
  );
}

function hasPort({ ports }: Extract<ForwardPattern, { kind: 'Tcp' }>, port: number): boolean {
  return port >= ports[0] && port <= ports[1];
}

const isPlain = (path: string): boolean => path.startsWith('/') && !/\/(?:\.{0,2})(?:\/|$)/.test(path);
