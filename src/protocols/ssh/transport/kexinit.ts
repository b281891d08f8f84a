// KEXINIT: what each side offers, and what follows from both offers (RFC 4253, 7.1). Pure.
//
// Guarantees: nothing with SHA-1, CBC, group exchange, a plain MAC or compression is ever offered or agreed on; without
// strict key exchange on both sides only AES-GCM, whose nonces no injected packet can shift.

import { SIGNATURE_ALGORITHMS } from '../keys/verify.ts';
import { readData, writeData } from '../wire/data.ts';
import { DISCONNECT, MSG } from '../wire/message-numbers.ts';
import { Fault, malformed } from './fault.ts';
import type { NegotiatedAlgorithms } from './transport.ts';

/** Best first. */
export const KEX_ALGORITHMS = [
  'mlkem768x25519-sha256',
  'curve25519-sha256',
  'curve25519-sha256@libssh.org',
  'ecdh-sha2-nistp256',
  'ecdh-sha2-nistp384',
  'ecdh-sha2-nistp521',
] as const;
/** Best first. No chacha20-poly1305: OpenSSH would prefer it, and Node has it at half the speed of AES. */
export const CIPHERS = [
  'aes128-gcm@openssh.com',
  'aes256-gcm@openssh.com',
  'aes128-ctr',
  'aes192-ctr',
  'aes256-ctr',
] as const;
export const MACS = ['hmac-sha2-256-etm@openssh.com', 'hmac-sha2-512-etm@openssh.com'] as const;

export type KexAlgorithm = (typeof KEX_ALGORITHMS)[number];
export type Cipher = (typeof CIPHERS)[number];
export type Mac = (typeof MACS)[number];
type Role = 'Server' | 'Client';

const STRICT = { Client: 'kex-strict-c-v00@openssh.com', Server: 'kex-strict-s-v00@openssh.com' } as const;
const EXT_INFO = 'ext-info-c';

export interface KexInit {
  readonly kex: readonly string[];
  readonly hostKey: readonly string[];
  readonly cipher: { readonly clientToServer: readonly string[]; readonly serverToClient: readonly string[] };
  readonly mac: { readonly clientToServer: readonly string[]; readonly serverToClient: readonly string[] };
  readonly compression: { readonly clientToServer: readonly string[]; readonly serverToClient: readonly string[] };
  /** `first_kex_packet_follows`: the peer has sent the next message already, for the algorithms it lists first. */
  readonly guessFollows: boolean;
}

/** What is offered, best first. Tests offer less. */
export interface Offer {
  readonly kex: readonly KexAlgorithm[];
  readonly ciphers: readonly Cipher[];
  readonly macs: readonly Mac[];
}
export const FULL_OFFER: Offer = { kex: KEX_ALGORITHMS, ciphers: CIPHERS, macs: MACS };

/**
 * What a server still offers to a client that offered this. OpenSSH before 10 prefers AES-CTR with a MAC, which costs half as
 * much again as AES-GCM: who can do GCM is left no choice.
 */
export function offerTo(client: KexInit | undefined, offer: Offer): Offer {
  const aead = offer.ciphers.filter(
    (name) =>
      isAead(name) && client?.cipher.clientToServer.includes(name) && client.cipher.serverToClient.includes(name),
  );
  return aead.length === 0 ? offer : { ...offer, ciphers: aead };
}

/** What one side offers; `initial` adds the marks that count in the first key exchange alone. */
export function ownKexInit(role: Role, offer: Offer, hostKeyAlgorithms: readonly string[], initial: boolean): KexInit {
  const marks = initial ? [...(role === 'Client' ? [EXT_INFO] : []), STRICT[role]] : [];
  return {
    kex: [...offer.kex, ...marks],
    hostKey: hostKeyAlgorithms,
    cipher: { clientToServer: offer.ciphers, serverToClient: offer.ciphers },
    mac: { clientToServer: offer.macs, serverToClient: offer.macs },
    compression: { clientToServer: ['none'], serverToClient: ['none'] },
    guessFollows: false,
  };
}

/** `cookie`: 16 random bytes. */
export function encodeKexInit(init: KexInit, cookie: Buffer): Buffer {
  return writeData(
    { byte: MSG.KEXINIT },
    { raw: cookie },
    { names: init.kex },
    { names: init.hostKey },
    { names: init.cipher.clientToServer },
    { names: init.cipher.serverToClient },
    { names: init.mac.clientToServer },
    { names: init.mac.serverToClient },
    { names: init.compression.clientToServer },
    { names: init.compression.serverToClient },
    { names: [] },
    { names: [] },
    { boolean: init.guessFollows },
    { uint32: 0 },
  );
}

export function parseKexInit(payload: Buffer): KexInit {
  const reader = readData(payload, 17);
  const init = {
    kex: reader.nameList(),
    hostKey: reader.nameList(),
    cipher: { clientToServer: reader.nameList(), serverToClient: reader.nameList() },
    mac: { clientToServer: reader.nameList(), serverToClient: reader.nameList() },
    compression: { clientToServer: reader.nameList(), serverToClient: reader.nameList() },
  };
  reader.nameList(); // languages
  reader.nameList();
  const guessFollows = reader.boolean();
  reader.uint32();
  reader.end();
  return { ...init, guessFollows };
}

export const wantsStrict = (init: KexInit, peer: Role): boolean => init.kex.includes(STRICT[peer]);
export const wantsExtInfo = (init: KexInit): boolean => init.kex.includes(EXT_INFO);

/** RFC 4253, 7: a guess is right where both lists begin alike. */
export const guessedRight = (own: KexInit, peer: KexInit): boolean =>
  own.kex[0] === peer.kex[0] && own.hostKey[0] === peer.hostKey[0];

export type Agreement = NegotiatedAlgorithms & {
  kex: KexAlgorithm;
  cipher: { clientToServer: Cipher; serverToClient: Cipher };
  mac: { clientToServer: Mac | ''; serverToClient: Mac | '' };
};

/** `strict` is that of the first key exchange. Throws where there is nothing in common. */
export function negotiate(client: KexInit, server: KexInit, strict: boolean): Agreement {
  const cipher = {
    clientToServer: pick('cipher', CIPHERS, client.cipher.clientToServer, server.cipher.clientToServer),
    serverToClient: pick('cipher', CIPHERS, client.cipher.serverToClient, server.cipher.serverToClient),
  };
  if (!strict && !(isAead(cipher.clientToServer) && isAead(cipher.serverToClient)))
    throw new Fault(
      'NoCommonAlgorithm',
      'Without strict key exchange (kex-strict, CVE-2023-48795) only AES-GCM is safe: update the SSH software, or choose aes128-gcm@openssh.com alone.',
      DISCONNECT.KEY_EXCHANGE_FAILED,
    );
  const mac = (of: Cipher, offered: readonly string[], taken: readonly string[]): Mac | '' =>
    isAead(of) ? '' : pick('MAC', MACS, offered, taken);
  for (const direction of ['clientToServer', 'serverToClient'] as const)
    pick('compression', ['none'], client.compression[direction], server.compression[direction]);
  return {
    kex: pick('key exchange', KEX_ALGORITHMS, client.kex, server.kex),
    hostKey: pick('host key algorithm', undefined, client.hostKey, server.hostKey),
    cipher,
    mac: {
      clientToServer: mac(cipher.clientToServer, client.mac.clientToServer, server.mac.clientToServer),
      serverToClient: mac(cipher.serverToClient, client.mac.serverToClient, server.mac.serverToClient),
    },
    strict,
  };
}

export const isAead = (cipher: Cipher): boolean => cipher.endsWith('-gcm@openssh.com');

/** The client's first that the server has. `known` keeps marks such as `ext-info-c` from being agreed on. */
function pick<Name extends string>(
  what: string,
  known: readonly Name[] | undefined,
  client: readonly string[],
  server: readonly string[],
): Name {
  const common = client.find((name) => server.includes(name) && (known === undefined || isOf(known, name)));
  if (common === undefined)
    throw new Fault(
      'NoCommonAlgorithm',
      `No common ${what}. Client: ${listed(client)}. Server: ${listed(server)}.`,
      DISCONNECT.KEY_EXCHANGE_FAILED,
    );
  return common as Name;
}

const isOf = (known: readonly string[], name: string): boolean => known.includes(name);
const listed = (names: readonly string[]): string => {
  const text = names.join(',') || 'none';
  return text.length <= 300 ? text : `${text.slice(0, 300)}...`;
};

/** Extensions of an EXT_INFO message (RFC 8308, 2.3), by name. */
export function parseExtInfo(payload: Buffer): Map<string, Buffer> {
  const reader = readData(payload, 1);
  const count = reader.uint32();
  if (count > 64) throw malformed('EXT_INFO has too many extensions.');
  const extensions = new Map<string, Buffer>();
  for (let i = 0; i < count; i += 1) {
    const name = reader.text(256);
    extensions.set(name, Buffer.from(reader.string()));
  }
  reader.end();
  return extensions;
}

/** What a server tells a client that asks. */
export function serverExtInfo(): Buffer {
  return writeData(
    { byte: MSG.EXT_INFO },
    { uint32: 2 },
    { string: 'server-sig-algs' },
    { string: SIGNATURE_ALGORITHMS.join(',') },
    // PROTOCOL, 1.9 (OpenSSH): users may bind their signature to this host key.
    { string: 'publickey-hostbound@openssh.com' },
    { string: '0' },
  );
}
