// Where the gateway may open connections to. A Connection's author names the target; this keeps that name from
// reaching the machine's own services, the cloud's metadata or whatever else the process happens to see.
//
// Guarantees: the address dialled is an address that was checked (no second resolution, so no DNS rebinding); a name
// with any forbidden address is refused whole; a credential is only taken to hosts its Secret lists (INV-05, INV-12).
// Does not guarantee: who answers there. That is TLS' business.
import { lookup as dnsLookup } from 'node:dns/promises';
import { isIP, type Socket, connect as tcpConnect } from 'node:net';
import { DialError } from '../protocols/protocol.ts';
import { addressBytes, classifyAddress } from './addresses.ts';

export interface DialGuardOptions {
  /** Local mode: databases on the same machine are the point. */
  allowLoopback?: boolean;
  /** Further places to refuse, as addresses or CIDR blocks: the API server, foreign Services. */
  deny?: readonly string[];
  /** Why a name may not be dialled, by rules of the place where this runs: a clause such as `is in namespace other`. */
  refuseName?: (host: string) => string | undefined;
  /** The same for each address of it, or for an address given as such. Must not reject. */
  refuseAddress?: (address: string) => Promise<string | undefined>;
  /** All addresses of a name. Default: the system's resolver. */
  resolve?: (host: string) => Promise<readonly string[]>;
  /** Opens a TCP connection to an address literal. Default: `node:net`. */
  connect?: (address: string, port: number) => Socket;
  /** From resolving to connected, milliseconds. Default 10 s. */
  deadlineMs?: number;
}

export interface DialGuard {
  /**
   * Connects to `target`, if `hosts` (a Secret's `sallyport-hosts`) lists it and all its addresses may be dialled.
   * Rejects with DialError; `Forbidden` and `Refused` mean that nothing was sent.
   */
  dial(target: { host: string; port: number }, hosts: readonly string[], signal: AbortSignal): Promise<Socket>;
}

interface Block {
  bytes: readonly number[];
  bits: number;
}

function parseBlock(text: string): Block {
  const [address = '', length] = text.split('/');
  const bytes = addressBytes(address);
  const bits = length === undefined ? (bytes?.length ?? 0) * 8 : Number(length);
  if (bytes === undefined || !Number.isInteger(bits) || bits < 0 || bits > bytes.length * 8) {
    throw new TypeError(`"${text}" is no address and no CIDR block such as 10.96.0.0/12`);
  }
  return { bytes, bits };
}

function within(bytes: readonly number[], block: Block): boolean {
  if (bytes.length !== block.bytes.length) return false;
  for (let bit = 0; bit < block.bits; bit += 8) {
    const mask = block.bits - bit >= 8 ? 0xff : (0xff << (8 - (block.bits - bit))) & 0xff;
    if (((bytes[bit / 8]! ^ block.bytes[bit / 8]!) & mask) !== 0) return false;
  }
  return true;
}

/** The IPv4 address that a mapped IPv6 address stands for, so that a denied block holds for both forms. */
function unmapped(bytes: readonly number[]): readonly number[] {
  const mapped =
    bytes.length === 16 && bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  return mapped ? bytes.slice(12) : bytes;
}

const sameHost = (a: string, b: string): boolean =>
  a.replace(/\.$/, '').toLowerCase() === b.replace(/\.$/, '').toLowerCase();

/** Whether a Secret's list names this target: `host`, `host:port` or `[v6]:port`; names by equality, never by pattern. */
export function hostListed(hosts: readonly string[], target: { host: string; port: number }): boolean {
  return hosts.some((entry) => {
    if (sameHost(entry, target.host)) return true;
    const withPort = /^(.*):([0-9]{1,5})$/.exec(entry);
    if (withPort === null || Number(withPort[2]) !== target.port) return false;
    const host = withPort[1]!.replace(/^\[(.*)\]$/, '$1');
    // `::1:5432` without brackets would read as an address: only brackets or a plain host may carry a port.
    return (host === withPort[1] && !host.includes(':') ? true : host !== withPort[1]) && sameHost(host, target.host);
  });
}

/** Throws TypeError if a block in `deny` is not readable. */
export function createDialGuard(options: DialGuardOptions = {}): DialGuard {
  const denied = (options.deny ?? []).map(parseBlock);
  const resolve =
    options.resolve ?? (async (host) => (await dnsLookup(host, { all: true })).map(({ address }) => address));
  const connect = options.connect ?? ((address, port) => tcpConnect({ host: address, port, noDelay: true }));
  const deadlineMs = options.deadlineMs ?? 10_000;

  function problemOf(address: string): string | undefined {
    const kind = classifyAddress(address);
    if (kind === 'Loopback' && options.allowLoopback === true) {
      // still subject to the denied blocks below
    } else if (kind !== 'Public') return `is ${DESCRIPTIONS[kind]}`;
    const bytes = unmapped(addressBytes(address)!);
    if (denied.some((block) => within(bytes, block) || within(addressBytes(address)!, block)))
      return 'is in a block that is not to be dialled';
    return undefined;
  }

  async function checkedAddresses(host: string, signal: AbortSignal): Promise<readonly string[]> {
    const named = options.refuseName?.(host);
    if (named !== undefined) throw new DialError('Forbidden', `${host} may not be dialled: it ${named}`);
    let addresses: readonly string[];
    try {
      addresses = isIP(host) !== 0 || host.includes('%') ? [host] : await abortable(resolve(host), signal);
    } catch (error) {
      if (signal.aborted) throw timedOut(host);
      throw new DialError('Unreachable', `${host} could not be resolved (${codeOf(error)})`, { cause: error });
    }
    if (addresses.length === 0) throw new DialError('Unreachable', `${host} has no address`);
    for (const address of addresses) {
      const problem = problemOf(address) ?? (await placed(host, address, signal));
      if (problem !== undefined) {
        throw new DialError('Forbidden', `${host} may not be dialled: its address ${address} ${problem}`);
      }
    }
    return addresses;
  }

  async function placed(host: string, address: string, signal: AbortSignal): Promise<string | undefined> {
    if (options.refuseAddress === undefined) return undefined;
    // Two spellings of one address are one address.
    const bytes = unmapped(addressBytes(address)!);
    try {
      return await abortable(options.refuseAddress(bytes.length === 4 ? bytes.join('.') : address), signal);
    } catch {
      throw timedOut(host);
    }
  }

  return {
    async dial(target, hosts, outer) {
      if (!hostListed(hosts, target)) {
        throw new DialError(
          'Forbidden',
          `the Secret of the account does not list ${target.host}:${target.port} in its key sallyport-hosts`,
        );
      }
      const signal = AbortSignal.any([outer, AbortSignal.timeout(deadlineMs)]);
      const addresses = await checkedAddresses(target.host, signal);
      let last: unknown;
      for (const address of addresses) {
        try {
          return await connected(connect(address, target.port), signal);
        } catch (error) {
          if (signal.aborted) throw timedOut(target.host);
          last = error;
        }
      }
      const code = codeOf(last);
      throw new DialError(
        code === 'ECONNREFUSED' ? 'Refused' : code === 'ETIMEDOUT' ? 'TimedOut' : 'Unreachable',
        `${target.host}:${target.port} could not be reached (${code})`,
        { cause: last },
      );
    },
  };
}

const DESCRIPTIONS: Readonly<Record<Exclude<ReturnType<typeof classifyAddress>, 'Public'>, string>> = {
  Loopback: 'a loopback address',
  LinkLocal: 'a link-local address',
  Metadata: 'a cloud metadata address',
  Unspecified: 'the unspecified address',
  Multicast: 'a multicast address',
  Reserved: 'a reserved address',
  Unreadable: 'not an address that can be judged',
};

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'no answer';

const timedOut = (host: string): DialError => new DialError('TimedOut', `${host} did not answer in time`);

function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason as Error);
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

function connected(socket: Socket, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void): void => {
      signal.removeEventListener('abort', abort);
      socket.off('connect', connect);
      socket.off('error', fail);
      act();
    };
    const connect = (): void => settle(() => resolve(socket));
    const fail = (error: Error): void =>
      settle(() => {
        socket.destroy();
        reject(error);
      });
    const abort = (): void => fail(signal.reason as Error);
    socket.once('connect', connect);
    socket.once('error', fail);
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
}
