// The Diffie-Hellman part of a key exchange: RFC 8731 (curve25519), RFC 5656 (ecdh-sha2), and the hybrid of
// draft-ietf-sshm-mlkem-hybrid-kex. All in node:crypto.
//
// Guarantees: public values of any other length or off the curve are refused, and so is a shared secret of zeros.
import {
  createECDH,
  createPublicKey,
  decapsulate,
  diffieHellman,
  hash as digest,
  encapsulate,
  generateKeyPairSync,
  type KeyObject,
} from 'node:crypto';
import { writeData } from '../wire/data.ts';
import { DISCONNECT } from '../wire/message-numbers.ts';
import { Fault } from './fault.ts';
import type { KexAlgorithm } from './kexinit.ts';

export type HashName = 'sha256' | 'sha384' | 'sha512';

export interface KexMethod {
  readonly hash: HashName;
  /** The client's half: its public value, and what follows from the server's. */
  begin(): { init: Buffer; finish(reply: Buffer): Buffer };
  /** The server's: both. `secret` is K as it goes into hashes: an mpint or a string, with its length. */
  answer(init: Buffer): { reply: Buffer; secret: Buffer };
}

const X25519_SPKI = Buffer.from('302a300506032b656e032100', 'hex');
const MLKEM_PUBLIC = 1184;
const MLKEM_CIPHERTEXT = 1088;
const X25519_BYTES = 32;

const refused = (): Fault =>
  new Fault('Malformed', 'The key exchange value is not valid.', DISCONNECT.KEY_EXCHANGE_FAILED);

/** node:crypto says what is wrong with a value by throwing. */
function checked<Value>(make: () => Value): Value {
  try {
    return make();
  } catch {
    throw refused();
  }
}

interface X25519 {
  readonly publicKey: Buffer;
  shared(peer: Buffer): Buffer;
}

function x25519(): X25519 {
  const own = generateKeyPairSync('x25519');
  return {
    publicKey: own.publicKey.export({ type: 'spki', format: 'der' }).subarray(X25519_SPKI.length),
    shared(peer) {
      if (peer.length !== X25519_BYTES) throw refused();
      return checked(() => {
        const publicKey = createPublicKey({ key: Buffer.concat([X25519_SPKI, peer]), format: 'der', type: 'spki' });
        const secret = diffieHellman({ privateKey: own.privateKey, publicKey });
        if (secret.every((byte) => byte === 0)) throw refused(); // RFC 8731, 3
        return secret;
      });
    },
  };
}

const asMpint = (secret: Buffer): Buffer => writeData({ mpint: secret });

const curve25519: KexMethod = {
  hash: 'sha256',
  begin() {
    const own = x25519();
    return { init: own.publicKey, finish: (reply) => asMpint(own.shared(reply)) };
  },
  answer(init) {
    const own = x25519();
    return { reply: own.publicKey, secret: asMpint(own.shared(init)) };
  },
};

function ecdh(curve: 'prime256v1' | 'secp384r1' | 'secp521r1', hash: HashName, pointBytes: number): KexMethod {
  const half = (): X25519 => {
    const own = createECDH(curve);
    return {
      publicKey: own.generateKeys(),
      shared(peer) {
        if (peer.length !== pointBytes || peer[0] !== 4) throw refused(); // RFC 5656, 4: uncompressed is all there is
        return checked(() => own.computeSecret(peer));
      },
    };
  };
  return {
    hash,
    begin() {
      const own = half();
      return { init: own.publicKey, finish: (reply) => asMpint(own.shared(reply)) };
    },
    answer(init) {
      const own = half();
      return { reply: own.publicKey, secret: asMpint(own.shared(init)) };
    },
  };
}

// The SubjectPublicKeyInfo of an ML-KEM-768 key up to its bytes (RFC 9935).
const MLKEM_SPKI = Buffer.from('308204b2300b0609608648016503040402038204a100', 'hex');

const mlkemPublic = (raw: Buffer): KeyObject =>
  createPublicKey({ key: Buffer.concat([MLKEM_SPKI, raw]), format: 'der', type: 'spki' });

/** K = SHA-256(K_PQ || K_CL), encoded as a string (the draft, 2.4). */
const hybrid = (quantum: Buffer, classical: Buffer): Buffer =>
  writeData({ string: digest('sha256', Buffer.concat([quantum, classical]), 'buffer') });

const mlkem768x25519: KexMethod = {
  hash: 'sha256',
  begin() {
    const classical = x25519();
    const quantum = generateKeyPairSync('ml-kem-768');
    const raw = quantum.publicKey.export({ type: 'spki', format: 'der' }).subarray(MLKEM_SPKI.length);
    return {
      init: Buffer.concat([raw, classical.publicKey]),
      finish(reply) {
        if (reply.length !== MLKEM_CIPHERTEXT + X25519_BYTES) throw refused();
        const secret = checked(() => decapsulate(quantum.privateKey, reply.subarray(0, MLKEM_CIPHERTEXT)));
        return hybrid(secret, classical.shared(reply.subarray(MLKEM_CIPHERTEXT)));
      },
    };
  },
  answer(init) {
    if (init.length !== MLKEM_PUBLIC + X25519_BYTES) throw refused();
    const classical = x25519();
    const quantum = checked(() => encapsulate(mlkemPublic(init.subarray(0, MLKEM_PUBLIC))));
    return {
      reply: Buffer.concat([quantum.ciphertext, classical.publicKey]),
      secret: hybrid(quantum.sharedKey, classical.shared(init.subarray(MLKEM_PUBLIC))),
    };
  },
};

export const KEX_METHODS: Readonly<Record<KexAlgorithm, KexMethod>> = {
  'mlkem768x25519-sha256': mlkem768x25519,
  'curve25519-sha256': curve25519,
  'curve25519-sha256@libssh.org': curve25519,
  'ecdh-sha2-nistp256': ecdh('prime256v1', 'sha256', 65),
  'ecdh-sha2-nistp384': ecdh('secp384r1', 'sha384', 97),
  'ecdh-sha2-nistp521': ecdh('secp521r1', 'sha512', 133),
};
