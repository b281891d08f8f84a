// The key exchange of one transport, the first and all later ones (RFC 4253, 7 and 8; RFC 5656, 4). Both roles.
//
// Guarantees: what each side sends is hashed and signed exactly as sent; with strict key exchange nothing else comes
// during the first; the host key of later exchanges is that of the first; keys change at NEWKEYS and nowhere else.
import { hash as digest } from 'node:crypto';
import type { Random } from '../../../system/random.ts';
import type { Signer } from '../keys/key.ts';
import { verifySignature } from '../keys/verify.ts';
import { readData, writeData } from '../wire/data.ts';
import { DISCONNECT, MSG } from '../wire/message-numbers.ts';
import { Fault, malformed } from './fault.ts';
import { KEX_METHODS, type KexMethod } from './kex-methods.ts';
import {
  type Agreement,
  encodeKexInit,
  guessedRight,
  type KexInit,
  negotiate,
  type Offer,
  offerTo,
  ownKexInit,
  parseKexInit,
  serverExtInfo,
  wantsExtInfo,
  wantsStrict,
} from './kexinit.ts';
import { type DirectionKeys, deriveKeys, openerOf, sealerOf } from './packet-cipher.ts';
import type { PacketInput } from './packet-input.ts';
import type { PacketOutput } from './packet-output.ts';

export type KeyExchangeRole =
  | { readonly role: 'Server'; readonly hostKeys: readonly Signer[] }
  | {
      readonly role: 'Client';
      readonly hostKeyAlgorithms: readonly string[];
      verifyHostKey(blob: Buffer): string | undefined;
    };

export interface KeyExchangeResult {
  readonly sessionId: Buffer;
  readonly hostKey: Buffer;
  readonly algorithms: Agreement;
}

export interface KeyExchange {
  /** From our KEXINIT until both sides' NEWKEYS. */
  readonly running: boolean;
  /** From our KEXINIT until our NEWKEYS: nothing else may be sent. */
  readonly sendingHeld: boolean;
  /** From the peer's KEXINIT until its NEWKEYS: nothing else may come. */
  readonly peerBusy: boolean;
  /** The first is not done. */
  readonly initial: boolean;
  readonly strict: boolean;
  /** Of the first exchange; undefined before its end. */
  readonly result: KeyExchangeResult | undefined;
  /** Sends KEXINIT. */
  start(): void;
  /** Messages 20 to 49. Answers true where the exchange is over with this one. Throws Fault and MalformedData. */
  take(payload: Buffer): boolean;
}

type Stage = 'Idle' | 'KexInit' | 'Exchange' | 'NewKeys';

export function keyExchange(
  side: KeyExchangeRole,
  versions: { readonly client: () => string; readonly server: () => string },
  input: PacketInput,
  output: PacketOutput,
  random: Random,
  offer: Offer,
): KeyExchange {
  const { role } = side;
  const ownHostKeyAlgorithms =
    side.role === 'Server' ? [...new Set(side.hostKeys.flatMap((key) => key.algorithms))] : side.hostKeyAlgorithms;
  let stage: Stage = 'Idle';
  let own: { init: KexInit; payload: Buffer } | undefined;
  let peer: { init: KexInit; payload: Buffer } | undefined;
  let agreement: Agreement | undefined;
  let method: KexMethod | undefined;
  let half: ReturnType<KexMethod['begin']> | undefined;
  let skipGuess = false;
  let strict = false;
  let tellExtensions = false;
  let sendingHeld = false;
  let pending: { secret: Buffer; exchangeHash: Buffer } | undefined;
  let result: KeyExchangeResult | undefined;
  let established = false;

  /** The peer's last offer: a server makes its own by it. */
  let peerOffer: KexInit | undefined;

  const start = (): void => {
    const made = role === 'Server' ? offerTo(peerOffer, offer) : offer;
    const init = ownKexInit(role, made, ownHostKeyAlgorithms, result === undefined);
    const payload = encodeKexInit(init, random.bytes(16));
    own = { init, payload };
    stage = 'KexInit';
    sendingHeld = true;
    output.send(payload);
  };

  const takeKexInit = (payload: Buffer): void => {
    // OpenSSH's KEXINIT is some 1.5 KiB. What is kept for the hash is a copy that is no view of anything larger.
    const init = parseKexInit(payload);
    peerOffer = init;
    if (stage === 'Idle') start();
    if (stage !== 'KexInit' || own === undefined) throw malformed('KEXINIT during a key exchange.');
    peer = { init, payload };
    if (result === undefined) {
      strict = wantsStrict(init, role === 'Server' ? 'Client' : 'Server');
      if (strict && input.sequence !== 0) throw malformed('With strict key exchange KEXINIT is the first message.');
      tellExtensions = role === 'Server' && wantsExtInfo(init);
    }
    agreement = role === 'Server' ? negotiate(init, own.init, strict) : negotiate(own.init, init, strict);
    method = KEX_METHODS[agreement.kex];
    skipGuess = init.guessFollows && !guessedRight(own.init, init);
    stage = 'Exchange';
    if (role === 'Client') {
      half = method.begin();
      output.send(writeData({ byte: MSG.KEX_ECDH_INIT }, { string: half.init }));
    }
  };

  const exchangeHashOf = (hostKey: Buffer, init: Buffer, reply: Buffer, secret: Buffer): Buffer => {
    const [client, server] = role === 'Client' ? [own, peer] : [peer, own];
    return digest(
      method!.hash,
      writeData(
        { string: versions.client() },
        { string: versions.server() },
        { string: client!.payload },
        { string: server!.payload },
        { string: hostKey },
        { string: init },
        { string: reply },
        { raw: secret },
      ),
      'buffer',
    );
  };

  /** Sends NEWKEYS and what a server may say right after it. */
  const changeOutput = (secret: Buffer, exchangeHash: Buffer, hostKey: Buffer): void => {
    const first = result === undefined;
    result ??= { sessionId: exchangeHash, hostKey, algorithms: agreement! };
    pending = { secret, exchangeHash };
    output.send(Buffer.from([MSG.NEWKEYS]));
    output.use(sealerOf(keysFor('Output')), strict);
    sendingHeld = false;
    stage = 'NewKeys';
    if (first && tellExtensions) output.send(serverExtInfo());
  };

  const keysFor = (way: 'Input' | 'Output'): DirectionKeys => {
    const toServer = (role === 'Client') === (way === 'Output');
    const direction = toServer ? 'clientToServer' : 'serverToClient';
    return deriveKeys(
      method!.hash,
      pending!.secret,
      pending!.exchangeHash,
      result!.sessionId,
      toServer ? 'ClientToServer' : 'ServerToClient',
      { cipher: agreement!.cipher[direction], mac: agreement!.mac[direction] },
    );
  };

  const takeInit = (payload: Buffer): void => {
    if (side.role !== 'Server' || stage !== 'Exchange') throw malformed('A key exchange message out of turn.');
    const reader = readData(payload, 1);
    const init = reader.string();
    reader.end();
    const algorithm = agreement!.hostKey;
    const signer = side.hostKeys.find((key) => key.algorithms.includes(algorithm))!;
    const { reply, secret } = method!.answer(init);
    const exchangeHash = exchangeHashOf(signer.blob, init, reply, secret);
    output.send(
      writeData(
        { byte: MSG.KEX_ECDH_REPLY },
        { string: signer.blob },
        { string: reply },
        { string: signer.sign(exchangeHash, algorithm) },
      ),
    );
    changeOutput(secret, exchangeHash, signer.blob);
  };

  const takeReply = (payload: Buffer): void => {
    if (side.role !== 'Client' || stage !== 'Exchange' || half === undefined)
      throw malformed('A key exchange message out of turn.');
    const reader = readData(payload, 1);
    const hostKey = reader.string();
    const reply = reader.string();
    const signature = reader.string();
    reader.end();
    const secret = half.finish(reply);
    const exchangeHash = exchangeHashOf(hostKey, half.init, reply, secret);
    const refuse = (code: 'Signature' | 'HostKey', text: string): Fault =>
      new Fault(code, text, DISCONNECT.HOST_KEY_NOT_VERIFIABLE);
    if (!verifySignature(hostKey, agreement!.hostKey, exchangeHash, signature))
      throw refuse('Signature', 'The host key has not made the signature of the key exchange.');
    if (result !== undefined && !result.hostKey.equals(hostKey))
      throw refuse('HostKey', 'The host key changed during the connection.');
    const wrong = side.verifyHostKey(hostKey);
    if (wrong !== undefined) throw refuse('HostKey', wrong);
    changeOutput(secret, exchangeHash, Buffer.from(hostKey));
  };

  const takeNewKeys = (payload: Buffer): void => {
    if (stage !== 'NewKeys' || payload.length !== 1) throw malformed('NEWKEYS out of turn.');
    input.use(openerOf(keysFor('Input')), strict);
    stage = 'Idle';
    established = true;
    own = undefined;
    peer = undefined;
    half = undefined;
    pending = undefined;
  };

  return {
    get running() {
      return stage !== 'Idle';
    },
    get sendingHeld() {
      return sendingHeld;
    },
    get peerBusy() {
      return peer !== undefined;
    },
    get initial() {
      return !established;
    },
    get strict() {
      return strict;
    },
    get result() {
      return result;
    },
    start,
    take(payload) {
      const number = payload[0]!;
      if (number === MSG.KEXINIT) takeKexInit(payload);
      else if (number === MSG.NEWKEYS) {
        takeNewKeys(payload);
        return true;
      } else if (stage === 'Exchange' && skipGuess) skipGuess = false;
      else if (number === MSG.KEX_ECDH_INIT) takeInit(payload);
      else if (number === MSG.KEX_ECDH_REPLY) takeReply(payload);
      else throw malformed(`Message ${number} is not of this key exchange.`);
      return false;
    },
  };
}
