// Keys for tests of SSH: a security key in software, and certificates of any content at all.
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import type { Signer } from '../../src/protocols/ssh/keys/key.ts';
import { blobOfKeyObject } from '../../src/protocols/ssh/keys/public-key.ts';
import { readData, writeData } from '../../src/protocols/ssh/wire/data.ts';

export interface SoftwareSecurityKey extends Signer {
  /** Flags of the signatures from now on: 1 somebody is there, 4 it is known who. */
  flags: number;
  counter: number;
}

/** OpenSSH's PROTOCOL.u2f, without a chip. */
export function softwareSecurityKey(type: 'ed25519' | 'ecdsa', from?: KeyObject): SoftwareSecurityKey {
  const privateKey =
    from ??
    (type === 'ed25519'
      ? generateKeyPairSync('ed25519').privateKey
      : generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
  const plain = readData(
    blobOfKeyObject(createPublicKey(createPrivateKey(privateKey.export({ type: 'pkcs8', format: 'pem' })))),
  );
  const plainType = plain.text();
  const name = `sk-${plainType}@openssh.com`;
  const key: SoftwareSecurityKey = {
    flags: 1,
    counter: 5,
    blob: writeData({ string: name }, { raw: plain.rest() }, { string: 'ssh:' }),
    algorithms: [name],
    sign(data) {
      const hash = (bytes: Buffer | string): Buffer => createHash('sha256').update(bytes).digest();
      const tail = [{ byte: key.flags }, { uint32: key.counter }];
      const signed = writeData({ raw: hash('ssh:') }, ...tail, { raw: hash(data) });
      let signature: Buffer;
      if (type === 'ed25519') signature = sign(null, signed, privateKey);
      else {
        const fixed = sign('sha256', signed, { key: privateKey, dsaEncoding: 'ieee-p1363' });
        signature = writeData({ mpint: fixed.subarray(0, 32) }, { mpint: fixed.subarray(32) });
      }
      return writeData({ string: name }, { string: signature }, ...tail);
    },
  };
  return key;
}

export interface RawCertificate {
  /** Type of the key without the certificate's suffix comes from the key's blob. */
  key: Buffer;
  authority: Signer;
  type?: string;
  serial?: bigint;
  role?: number;
  keyId?: string;
  principals?: readonly (string | Buffer)[];
  /** Seconds. */
  validAfter?: bigint;
  validBefore?: bigint;
  critical?: readonly (readonly [string, Buffer | string])[];
  extensions?: readonly (readonly [string, Buffer | string])[];
  reserved?: string;
  /** Shown in place of the authority that signs. */
  authorityBlob?: Buffer;
  /** Behind the signature. */
  trailing?: Buffer;
  signature?: (signed: Buffer) => Buffer;
}

/** Nothing is checked, and nothing has to make sense. */
export function rawCertificate(options: RawCertificate): Buffer {
  const reader = readData(options.key);
  const plainType = reader.text();
  const now = BigInt(Math.floor(Date.now() / 1000));
  const tuples = (list: readonly (readonly [string, Buffer | string])[]): Buffer =>
    writeData(...list.flatMap(([name, data]) => [{ string: name }, { string: data }]));
  const content = writeData(
    { string: options.type ?? `${plainType.replace('@openssh.com', '')}-cert-v01@openssh.com` },
    { string: Buffer.alloc(32, 9) },
    { raw: reader.rest() },
    { uint64: options.serial ?? 1n },
    { uint32: options.role ?? 1 },
    { string: options.keyId ?? 'ana' },
    { string: writeData(...(options.principals ?? ['ana@corp.example']).map((string) => ({ string }))) },
    { uint64: options.validAfter ?? now - 60n },
    { uint64: options.validBefore ?? now + 600n },
    { string: tuples(options.critical ?? []) },
    { string: tuples(options.extensions ?? [['permit-pty', '']]) },
    { string: options.reserved ?? '' },
    { string: options.authorityBlob ?? options.authority.blob },
  );
  const signature = options.signature?.(content) ?? options.authority.sign(content, options.authority.algorithms[0]!);
  return writeData({ raw: content }, { string: signature }, { raw: options.trailing ?? Buffer.alloc(0) });
}

/** The Ed25519 key in a private key file of OpenSSH's, as node:crypto has it. Knows the place of the seed and nothing else. */
export function opensshPrivateKeyObject(text: string): KeyObject {
  const body = Buffer.from(text.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64');
  const reader = readData(body.subarray('openssh-key-v1\0'.length));
  for (let field = 0; field < 3; field += 1) reader.string();
  reader.uint32();
  reader.string();
  const secret = readData(reader.string());
  secret.bytes(8);
  secret.text();
  secret.string();
  const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), secret.string().subarray(0, 32)]);
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
}
