// One direction's protection under one set of keys: AES-GCM as OpenSSH has it (PROTOCOL, 1.6; RFC 5647), AES-CTR with
// encrypt-then-MAC (RFC 4344; PROTOCOL, 1.5), and none for before the first keys.
//
// Guarantees: in all of them a packet's length is in clear and under the MAC; nothing of a packet is decrypted (CTR)
// or handed out (GCM) before its MAC was found good; GCM's nonce is its own counter, never the sequence number.
import {
  type CipherGCMTypes,
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  hash as digest,
  type KeyObject,
  timingSafeEqual,
} from 'node:crypto';
import type { HashName } from './kex-methods.ts';
import type { Cipher, Mac } from './kexinit.ts';
import { release } from './memory.ts';

/** Packets of a peer. */
export interface Opener {
  readonly tagBytes: number;
  /** Length (without its own four bytes for encrypted packets) is a multiple of this. */
  readonly blockBytes: number;
  readonly lengthCounts: boolean;
  /**
   * `packet`: length, body, tag. The body (padding length, payload, padding) in memory of its own; undefined where the
   * tag is not its.
   */
  open(packet: Buffer, bodyEnd: number, sequence: number): Buffer | undefined;
}

/** Packets to a peer. */
export interface Sealer {
  readonly blockBytes: number;
  readonly lengthCounts: boolean;
  /** Bytes that a sealed packet has more. */
  readonly tagBytes: number;
  /** `packet`: length and body. Writes what goes over the wire into `into` from `at` on, and answers how many bytes. */
  seal(packet: Buffer, sequence: number, into: Buffer, at: number): number;
}

export const NO_OPENER: Opener = {
  tagBytes: 0,
  blockBytes: 8,
  lengthCounts: true,
  open: (packet, bodyEnd) => Buffer.from(packet.subarray(4, bodyEnd)),
};

export const NO_SEALER: Sealer = {
  blockBytes: 8,
  lengthCounts: true,
  tagBytes: 0,
  seal: (packet, _sequence, into, at) => packet.copy(into, at),
};

export interface DirectionKeys {
  readonly cipher: Cipher;
  readonly mac: Mac | '';
  readonly iv: Buffer;
  readonly key: Buffer;
  readonly macKey: Buffer;
}

const TAG_BYTES = 16;
const BLOCK_BYTES = 16;
const GCM_OPTIONS = { authTagLength: TAG_BYTES };

const SIZES: Readonly<Record<Cipher, { name: string; key: number; iv: number }>> = {
  'aes128-gcm@openssh.com': { name: 'aes-128-gcm', key: 16, iv: 12 },
  'aes256-gcm@openssh.com': { name: 'aes-256-gcm', key: 32, iv: 12 },
  'aes128-ctr': { name: 'aes-128-ctr', key: 16, iv: 16 },
  'aes192-ctr': { name: 'aes-192-ctr', key: 24, iv: 16 },
  'aes256-ctr': { name: 'aes-256-ctr', key: 32, iv: 16 },
};
const MAC_SIZES: Readonly<Record<Mac, { hash: 'sha256' | 'sha512'; bytes: number }>> = {
  'hmac-sha2-256-etm@openssh.com': { hash: 'sha256', bytes: 32 },
  'hmac-sha2-512-etm@openssh.com': { hash: 'sha512', bytes: 64 },
};

/** RFC 4253, 7.2. `secret` is K as it is hashed, with its length. */
export function deriveKeys(
  hash: HashName,
  secret: Buffer,
  exchangeHash: Buffer,
  sessionId: Buffer,
  direction: 'ClientToServer' | 'ServerToClient',
  algorithms: { cipher: Cipher; mac: Mac | '' },
): DirectionKeys {
  const derive = (letters: string, bytes: number): Buffer => {
    const letter = Buffer.from(letters[direction === 'ClientToServer' ? 0 : 1]!, 'latin1');
    let out = digest(hash, Buffer.concat([secret, exchangeHash, letter, sessionId]), 'buffer');
    while (out.length < bytes)
      out = Buffer.concat([out, digest(hash, Buffer.concat([secret, exchangeHash, out]), 'buffer')]);
    return out.subarray(0, bytes);
  };
  const size = SIZES[algorithms.cipher];
  return {
    ...algorithms,
    iv: derive('AB', size.iv),
    key: derive('CD', size.key),
    macKey: derive('EF', algorithms.mac === '' ? 0 : MAC_SIZES[algorithms.mac].bytes),
  };
}

export function openerOf(keys: DirectionKeys): Opener {
  const { name } = SIZES[keys.cipher];
  const key = createSecretKey(keys.key);
  if (keys.mac === '') {
    const nonce = Buffer.from(keys.iv);
    return {
      tagBytes: TAG_BYTES,
      blockBytes: BLOCK_BYTES,
      lengthCounts: false,
      open(packet, bodyEnd) {
        const decipher = createDecipheriv(name as CipherGCMTypes, key, nonce, GCM_OPTIONS);
        decipher.setAAD(packet.subarray(0, 4));
        decipher.setAuthTag(packet.subarray(bodyEnd));
        const body = decipher.update(packet.subarray(4, bodyEnd));
        try {
          decipher.final();
        } catch {
          return undefined;
        }
        advance(nonce);
        return body;
      },
    };
  }
  const mac = MAC_SIZES[keys.mac];
  const macKey = createSecretKey(keys.macKey);
  const decipher = createDecipheriv(name, key, keys.iv);
  return {
    tagBytes: mac.bytes,
    blockBytes: BLOCK_BYTES,
    lengthCounts: false,
    open(packet, bodyEnd, sequence) {
      const good = hmac(mac.hash, macKey, sequence, packet.subarray(0, bodyEnd));
      if (!timingSafeEqual(good, packet.subarray(bodyEnd))) return undefined;
      return decipher.update(packet.subarray(4, bodyEnd));
    },
  };
}

export function sealerOf(keys: DirectionKeys): Sealer {
  const { name } = SIZES[keys.cipher];
  const key = createSecretKey(keys.key);
  if (keys.mac === '') {
    const nonce = Buffer.from(keys.iv);
    return {
      blockBytes: BLOCK_BYTES,
      lengthCounts: false,
      tagBytes: TAG_BYTES,
      seal(packet, _sequence, into, at) {
        const cipher = createCipheriv(name as CipherGCMTypes, key, nonce, GCM_OPTIONS);
        const length = packet.subarray(0, 4);
        cipher.setAAD(length);
        const body = cipher.update(packet.subarray(4));
        cipher.final();
        length.copy(into, at);
        body.copy(into, at + 4);
        release(body);
        cipher.getAuthTag().copy(into, at + packet.length);
        advance(nonce);
        return packet.length + TAG_BYTES;
      },
    };
  }
  const mac = MAC_SIZES[keys.mac];
  const macKey = createSecretKey(keys.macKey);
  const cipher = createCipheriv(name, key, keys.iv);
  return {
    blockBytes: BLOCK_BYTES,
    lengthCounts: false,
    tagBytes: mac.bytes,
    seal(packet, sequence, into, at) {
      const body = cipher.update(packet.subarray(4));
      packet.copy(into, at, 0, 4);
      body.copy(into, at + 4);
      release(body);
      const end = at + packet.length;
      hmac(mac.hash, macKey, sequence, into.subarray(at, end)).copy(into, end);
      return packet.length + mac.bytes;
    },
  };
}

/** The last 8 of the 12 bytes are a counter (RFC 5647, 7.1). */
function advance(nonce: Buffer): void {
  const low = (nonce.readUInt32BE(8) + 1) >>> 0;
  nonce.writeUInt32BE(low, 8);
  if (low === 0) nonce.writeUInt32BE((nonce.readUInt32BE(4) + 1) >>> 0, 4);
}

const sequenceBytes = Buffer.alloc(4);

function hmac(hash: string, key: KeyObject, sequence: number, ...parts: readonly Buffer[]): Buffer {
  const mac = createHmac(hash, key);
  sequenceBytes.writeUInt32BE(sequence);
  mac.update(sequenceBytes);
  for (const part of parts) mac.update(part);
  return mac.digest();
}
