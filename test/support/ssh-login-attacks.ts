// What is tried at a login by somebody without a right to, class by class, and beside each class what differs from it only by
// being right. The same attacks go against the server's side alone in memory, and against a whole gateway over TCP.
import { generateKeyPairSync } from 'node:crypto';
import type { Signer } from '../../src/protocols/ssh/keys/key.ts';
import { ed25519Signer, signerOfKeyObject } from '../../src/protocols/ssh/keys/signer.ts';
import { type Field, readData, writeData } from '../../src/protocols/ssh/wire/data.ts';
import { MSG } from '../../src/protocols/ssh/wire/message-numbers.ts';
import { type RawCertificate, rawCertificate, softwareSecurityKey } from './ssh-keys.ts';
import {
  authRequest,
  certificateSigner,
  HOSTBOUND,
  type KeyRequest,
  keyOffer,
  keyRequest,
  type LoginEnd,
  type LoginScript,
  outdatedSigner,
  promptAnswer,
  promptRequest,
  serviceRequest,
  withSha1,
} from './ssh-login-messages.ts';

export interface LoginAttack {
  name: string;
  script: LoginScript;
  /** Sent in front, in place of the request for the service. */
  first?: readonly Buffer[];
}

export interface AttackClass {
  /** As a claim's subject: what of it none gets in. */
  name: string;
  attacks: readonly LoginAttack[];
  /** Alike, and right: they get in. */
  neighbours: readonly LoginAttack[];
  /** The gateway is never asked about any of it: it fails at what every key has to fulfil. */
  unasked?: boolean;
  /** What each of them is told with the DISCONNECT. */
  told?: RegExp;
}

/** Who is in the play. */
export interface LoginCast {
  /** The target's user, of the account of every grant. */
  user: string;
  /** Opens its grant. */
  grantKey: Signer;
  /** Whom certificates of `authorities` name, who has that grant. */
  principal: string;
  /** Trusted: an Ed25519 key, then an RSA one. */
  authorities: readonly [Signer, { signer: Signer; key: ReturnType<typeof generateKeyPairSync>['privateKey'] }];
  /** Keys of this installation that sign certificates for others than users of the gateway. */
  ownAuthorities: readonly Signer[];
  /** Right, and not used yet. */
  ticket(): string;
}

const seconds = (): bigint => BigInt(Math.floor(Date.now() / 1000));
const text = (value: string): Buffer => writeData({ string: value });
const one = (name: string, script: LoginScript): LoginAttack => ({ name, script });

export function loginAttacks(cast: LoginCast): AttackClass[] {
  const { user, grantKey, principal } = cast;
  const [authority, rsaAuthority] = cast.authorities;
  const stranger = ed25519Signer(Buffer.alloc(32, 0x51));
  const userKey = ed25519Signer(Buffer.alloc(32, 0x52));
  const foreign = ed25519Signer(Buffer.alloc(32, 0x53));
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const rsaKey = signerOfKeyObject(rsa);
  const touched = softwareSecurityKey('ed25519');

  const request = (end: LoginEnd, options: Partial<KeyRequest> = {}): Buffer =>
    keyRequest(end, { user, signer: grantKey, ...options });
  const offer = (end: LoginEnd, options: Partial<KeyRequest> = {}): Buffer =>
    keyOffer(end, { user, signer: grantKey, ...options });
  const certificate = (options: Partial<RawCertificate> = {}, key: Signer = userKey): Signer =>
    certificateSigner(key, { authority, principals: [principal], ...options });
  /** Offered, then signed for. */
  const shown = (name: string, options: Partial<RawCertificate>, key?: Signer): LoginAttack => {
    const signer = certificate(options, key);
    return one(name, (end) => [offer(end, { signer }), request(end, { signer })]);
  };
  const plain = (method: string, ...fields: Field[]): Buffer => authRequest(user, method, ...fields);
  const byKey = one('the key of a grant', (end) => [request(end)]);
  const byOffer = one('the key of a grant, offered first', (end) => [offer(end), request(end)]);
  const byCertificate = shown('a certificate that is right', {});
  const byTicket: LoginAttack = { name: 'a ticket', script: () => [promptRequest(user), promptAnswer(cast.ticket())] };
  const bound = (end: LoginEnd): Partial<KeyRequest> => ({ method: HOSTBOUND, hostKey: end.hostKey });

  /** The request's bytes as they would be signed, by other options. */
  const wouldSign = (end: LoginEnd, options: Partial<KeyRequest>): Buffer => {
    const body = request(end, { ...options, hasSignature: 0 });
    const method = options.method ?? 'publickey';
    body[body.indexOf(method) + method.length] = 1;
    return body;
  };
  const rename = (name: string) => (signature: Buffer) => {
    const reader = readData(signature);
    reader.string();
    return writeData({ string: name }, { raw: reader.rest() });
  };
  const tailed = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.from([0])]);

  const critical = (...options: (readonly [string, Buffer | string])[]): Partial<RawCertificate> => ({
    critical: options,
  });

  return [
    {
      name: 'an offered key that is not signed for',
      attacks: [
        one('an offer', (end) => [offer(end)]),
        one('offers of both forms, and none behind them', (end) => [
          offer(end),
          offer(end, bound(end)),
          offer(end),
          plain('none'),
        ]),
        one('a signature that is not there', (end) => [offer(end), offer(end, { hasSignature: 0 }), plain('none')]),
        one('a boolean that is two', (end) => [offer(end), request(end, { hasSignature: 2 })]),
        one('a boolean that is 255', (end) => [request(end, { hasSignature: 255 })]),
        one('an offer with something behind it', (end) => [offer(end, { trailing: Buffer.from([0]) })]),
        one('an offer of a certificate', (end) => [offer(end, { signer: certificate() }), plain('none')]),
        one('an empty signature', (end) => [offer(end), request(end, { signature: () => Buffer.alloc(0) })]),
      ],
      neighbours: [byOffer, one('a request bound to the host key', (end) => [request(end, bound(end))])],
      unasked: true,
    },
    {
      name: 'A offered and B signed',
      attacks: [
        one('A shown, B signs', (end) => [offer(end), request(end, { blob: grantKey.blob, signer: stranger })]),
        one('A offered, B shown and signs', (end) => [offer(end), request(end, { signer: stranger })]),
        one('a certificate, by another key', (end) => [
          request(end, { signer: { ...certificate(), sign: (data) => stranger.sign(data, 'ssh-ed25519') } }),
        ]),
        one('a certificate, by its authority', (end) => [
          request(end, { signer: { ...certificate(), sign: (data) => authority.sign(data, 'ssh-ed25519') } }),
        ]),
        one('a certificate, by the key of a grant', (end) => [
          request(end, { signer: { ...certificate(), sign: (data) => grantKey.sign(data, 'ssh-ed25519') } }),
        ]),
        one('a certificate under the plain name', (end) => [
          request(end, { signer: certificate(), algorithm: 'ssh-ed25519', signs: 'ssh-ed25519' }),
        ]),
        one('the plain key under the certificate’s name', (end) => [
          request(end, { signer: userKey, algorithm: 'ssh-ed25519-cert-v01@openssh.com' }),
        ]),
        one('a stranger’s certificate for the grant’s key', (end) => [
          request(end, { signer: certificate({ authority: foreign }, grantKey) }),
        ]),
      ],
      neighbours: [byOffer, byCertificate],
    },
    {
      name: 'a signature over something else',
      attacks: [
        one('no session', (end) => [request(end, { sessionId: Buffer.alloc(0) })]),
        one('another session', (end) => [request(end, { sessionId: Buffer.alloc(end.sessionId.length, 7) })]),
        one('a certificate over another session', (end) => [
          request(end, { signer: certificate(), sessionId: Buffer.alloc(32) }),
        ]),
        one('another user', (end) => [request(end, { signed: () => wouldSign(end, { user: `${user}z` }) })]),
        one('another service', (end) => [
          request(end, { signed: () => wouldSign(end, { service: 'ssh-connectiom' }) }),
        ]),
        one('another method', (end) => [request(end, { signed: () => wouldSign(end, bound(end)) })]),
        one('the plain method for the bound one', (end) => [
          request(end, { ...bound(end), signed: () => wouldSign(end, {}) }),
        ]),
        one('another host key', (end) => [request(end, { method: HOSTBOUND, hostKey: stranger.blob })]),
        one('no host key', (end) => [request(end, { method: HOSTBOUND, hostKey: Buffer.alloc(0) })]),
        one('the host key and a byte', (end) => [request(end, { method: HOSTBOUND, hostKey: tailed(end.hostKey) })]),
        one('part of the request', (end) => [request(end, { signed: (body) => body.subarray(1) })]),
        one('nothing', (end) => [request(end, { signed: () => Buffer.alloc(0) })]),
        one('the request, with a tail', (end) => [request(end, { signature: tailed })]),
        one('the request, cut short', (end) => [request(end, { signature: (bytes) => bytes.subarray(0, -1) })]),
        one('the request, and something behind the message', (end) => [request(end, { trailing: Buffer.from([0]) })]),
        one('the message cut short', (end) => [request(end).subarray(0, -1)]),
      ],
      neighbours: [
        byKey,
        one('bound to the host key', (end) => [
          request(end, { ...bound(end), signed: () => wouldSign(end, bound(end)) }),
        ]),
      ],
      unasked: true,
    },
    {
      name: 'old or misnamed algorithms (SHA-1, DSA, short RSA, names that do not fit)',
      attacks: [
        ...['rsa-sha2-256', 'ssh-ed25519-cert-v01@openssh.com', 'sk-ssh-ed25519@openssh.com', 'SSH-ED25519', ''].map(
          (algorithm) => one(`named ${algorithm}`, (end) => [request(end, { algorithm })]),
        ),
        ...['rsa-sha2-256', 'ssh-rsa', ''].map((name) =>
          one(`a signature named ${name}`, (end) => [request(end, { signature: rename(name) })]),
        ),
        one('the key with a tail', (end) => [request(end, { blob: tailed(grantKey.blob) })]),
        one('no key', (end) => [request(end, { blob: Buffer.alloc(0) })]),
        ...(['RsaSha1', 'Rsa1024', 'Dsa'] as const).flatMap((kind) => {
          const signer = outdatedSigner(kind);
          return [
            one(`a key of kind ${kind}`, (end) => [request(end, { signer })]),
            shown(`a certificate for a key of kind ${kind}`, {}, signer),
          ];
        }),
        shown('a certificate whose RSA key signs with SHA-1', {}, withSha1(rsa, rsaKey.blob)),
        shown('a certificate signed with SHA-1', { authority: withSha1(rsaAuthority.key, rsaAuthority.signer.blob) }),
        one('RSA for the key of a grant', (end) => [request(end, { signer: rsaKey })]),
        one('a security key for the key of a grant', (end) => [request(end, { signer: touched })]),
        one('a security key that nobody touched', (end) => {
          const untouched = softwareSecurityKey('ed25519');
          untouched.flags = 0;
          return [request(end, { signer: certificate({}, untouched) })];
        }),
      ],
      neighbours: [
        byKey,
        shown('a certificate for an RSA key, with SHA-2', {}, rsaKey),
        shown('a certificate of an RSA authority, with SHA-2', { authority: rsaAuthority.signer }),
        shown('a certificate for a security key that was touched', {}, touched),
      ],
      unasked: true,
    },
    {
      name: 'principals: commas, wildcards, none, NUL, lookalikes',
      attacks: [
        shown('none', { principals: [] }),
        shown('empty', { principals: [''] }),
        shown('empty, and the right one', { principals: ['', principal] }),
        shown('one string with a comma', { principals: [`${principal},root`] }),
        shown('a comma behind', { principals: [`${principal},`] }),
        shown('a wildcard', { principals: ['*'] }),
        shown('patterns', { principals: [`${principal.slice(0, 1)}*`, '!x', `${principal.slice(0, -1)}?`] }),
        shown('a NUL behind', { principals: [`${principal}\0`] }),
        shown('a NUL and a tail', { principals: [`${principal}\0.evil.example`] }),
        shown('a line feed behind', { principals: [`${principal}\n`] }),
        shown('no text', { principals: [Buffer.from([0x61, 0xff])] }),
        shown('another case', { principals: [principal.toUpperCase()] }),
        shown('blanks around', { principals: [` ${principal}`, `${principal} `] }),
        shown('a letter of another script', { principals: [principal.replace('a', '\u0430')] }),
        shown('wide letters', { principals: [principal.replace('a', '\uff41')] }),
        shown('a letter that is not seen', { principals: [`${principal}\u200b`] }),
        shown('somebody else', { principals: ['bob'] }),
        shown('the target’s user', { principals: [user] }),
        shown('the right name in the key id alone', { principals: ['bob'], keyId: principal }),
      ],
      neighbours: [byCertificate, shown('the right one among others', { principals: ['bob', principal] })],
    },
    {
      name: 'certificates before and after their time',
      attacks: [
        shown('expired now', { validBefore: seconds() }),
        shown('expired long ago', { validAfter: 0n, validBefore: 1n }),
        shown('never valid: before 0', { validAfter: 0n, validBefore: 0n }),
        shown('not yet', { validAfter: seconds() + 120n, validBefore: seconds() + 600n }),
        shown('never yet: after 2^64 - 1', { validAfter: 2n ** 64n - 1n, validBefore: 2n ** 64n - 1n }),
        shown('negative if it were signed', { validAfter: 2n ** 63n, validBefore: 2n ** 64n - 1n }),
        shown('ends before it begins', { validAfter: seconds() + 10n, validBefore: seconds() - 10n }),
        shown('milliseconds for seconds', { validAfter: seconds() * 1000n, validBefore: seconds() * 1000n + 600n }),
      ],
      neighbours: [byCertificate, shown('for ever', { validAfter: 0n, validBefore: 2n ** 64n - 1n })],
      unasked: true,
    },
    {
      name: 'wrong authorities: strangers, borrowed names, nested, our own',
      attacks: [
        shown('a stranger', { authority: foreign }),
        shown('a stranger that names ours', { authority: foreign, authorityBlob: authority.blob }),
        shown('ours that names a stranger', { authorityBlob: foreign.blob }),
        shown('ours that names the other of ours', { authorityBlob: rsaAuthority.signer.blob }),
        shown('ours with a tail', { authorityBlob: tailed(authority.blob) }),
        shown('a certificate as authority', {
          authorityBlob: rawCertificate({ key: authority.blob, authority: foreign }),
        }),
        shown('a certificate of ours as authority', {
          authority: foreign,
          authorityBlob: rawCertificate({ key: foreign.blob, authority }),
        }),
        shown('itself', { authority: userKey }),
        shown('the key of a grant', { authority: grantKey }),
        ...cast.ownAuthorities.map((own, at) => shown(`a key of ours that is none: ${at}`, { authority: own })),
        shown('without a signature', { signature: () => Buffer.alloc(0) }),
        shown('a signature over another certificate', {
          signature: (signed) => authority.sign(Buffer.concat([signed, signed]), 'ssh-ed25519'),
        }),
        shown('a signature with a tail', { signature: (signed) => tailed(authority.sign(signed, 'ssh-ed25519')) }),
        shown('a signature of zeros', {
          signature: () => writeData({ string: 'ssh-ed25519' }, { string: Buffer.alloc(64) }),
        }),
      ],
      neighbours: [byCertificate, shown('of the other authority', { authority: rsaAuthority.signer })],
    },
    {
      name: 'critical options: unknown, force-command, source-address, twice, out of order',
      attacks: [
        shown('force-command', critical(['force-command', text('/bin/sh')])),
        shown('unknown', critical(['be-nice@corp.example', ''])),
        shown('a permit', critical(['permit-pty', ''])),
        shown('without a name', critical(['', ''])),
        shown('another address', critical(['source-address', text('198.51.100.0/24')])),
        shown('no readable address', critical(['source-address', text('everywhere')])),
        shown('no address', critical(['source-address', text('')])),
        shown('a pattern for an address', critical(['source-address', text('*')])),
        shown('an address that is no string', critical(['source-address', '0.0.0.0/0'])),
        shown(
          'an address twice',
          critical(['source-address', text('198.51.100.0/24')], ['source-address', text('0.0.0.0/0')]),
        ),
        shown('out of order', critical(['verify-required', ''], ['source-address', text('0.0.0.0/0')])),
        shown('verify-required and a plain key', critical(['verify-required', ''])),
        shown('verify-required with a value', critical(['verify-required', text('no')]), touched),
        shown('verify-required and a mere touch', critical(['verify-required', '']), touched),
      ],
      neighbours: [
        byCertificate,
        shown('everywhere', critical(['source-address', text('0.0.0.0/0,::/0')])),
        shown('an extension that nobody knows', {
          extensions: [
            ['be-nice@corp.example', text('x')],
            ['permit-pty', ''],
          ],
        }),
      ],
      unasked: true,
    },
    {
      name: 'certificates that are not quite one',
      attacks: [
        shown('for a host', { role: 2 }),
        shown('for nobody', { role: 0 }),
        shown('for something else', { role: 3 }),
        shown('something behind it', { trailing: Buffer.from([0]) }),
        shown('another type than its key', { type: 'ssh-rsa-cert-v01@openssh.com' }),
        shown('a type that is not known', { type: 'ssh-ed25519-cert-v02@openssh.com' }),
        shown('the old version', { type: 'ssh-ed25519-cert-v00@openssh.com' }),
        shown('a plain type', { type: 'ssh-ed25519' }),
        shown('a control in its id', { keyId: 'ana\x1b[2J' }),
        shown('a permit with a value', { extensions: [['permit-pty', 'no']] }),
        shown('a permit twice', {
          extensions: [
            ['permit-pty', ''],
            ['permit-pty', ''],
          ],
        }),
        shown('permits out of order', {
          extensions: [
            ['permit-pty', ''],
            ['permit-X11-forwarding', ''],
          ],
        }),
      ],
      neighbours: [
        byCertificate,
        shown('without any permit', { extensions: [] }),
        shown('something in the reserved field, which is to be ignored', { reserved: 'x' }),
      ],
      unasked: true,
    },
    {
      name: 'none, empty passwords, other methods, answers to nothing',
      attacks: [
        one('none', () => [plain('none'), plain('none')]),
        one('an empty password', () => [plain('password', { boolean: false }, { string: '' })]),
        one('a ticket as password', () => [plain('password', { boolean: false }, { string: cast.ticket() })]),
        one('a change of the password', () => [
          plain('password', { boolean: true }, { string: cast.ticket() }, { string: '' }),
        ]),
        one('hostbased', () => [
          plain('hostbased', { string: 'ssh-ed25519' }, { string: grantKey.blob }, { string: 'h' }, { string: user }),
        ]),
        ...['gssapi-with-mic', 'gssapi-keyex', 'keyboard-interactive@corp.example', '', 'PUBLICKEY', 'publickey\0'].map(
          (method) => one(`the method ${JSON.stringify(method)}`, () => [plain(method, { string: '' })]),
        ),
        one('an empty answer', () => [promptRequest(user), promptAnswer('')]),
        one('no answer', () => [promptRequest(user), promptAnswer()]),
        one('two answers', () => [promptRequest(user), promptAnswer(cast.ticket(), cast.ticket())]),
        one('a thousand answers', () => [
          promptRequest(user),
          promptAnswer(...Array.from({ length: 1000 }, () => cast.ticket().slice(0, 16))),
        ]),
        one('a count without answers', () => [
          promptRequest(user),
          writeData({ byte: MSG.USERAUTH_INFO_RESPONSE }, { uint32: 0xffffffff }),
        ]),
        one('an answer with a tail', () => [promptRequest(user), tailed(promptAnswer(cast.ticket()))]),
        one('a long answer', () => [promptRequest(user), promptAnswer('x'.repeat(20_000))]),
        one('an answer to nothing', () => [promptAnswer(cast.ticket())]),
        one('an answer to what was given up', () => [promptRequest(user), plain('none'), promptAnswer(cast.ticket())]),
        one('an answer across a new service', () => [
          promptRequest(user),
          serviceRequest(),
          promptAnswer(cast.ticket()),
        ]),
      ],
      neighbours: [byTicket, one('none, and then the key', (end) => [plain('none'), request(end)])],
      unasked: true,
    },
    {
      name: 'tickets and answers that are nearly right',
      attacks: [
        one('a NUL behind', () => [promptRequest(user), promptAnswer(`${cast.ticket()}\0`)]),
        one('a blank in front', () => [promptRequest(user), promptAnswer(` ${cast.ticket()}`)]),
        one('a letter short', () => [promptRequest(user), promptAnswer(cast.ticket().slice(0, -1))]),
        one('a letter more', () => [promptRequest(user), promptAnswer(`${cast.ticket()}A`)]),
        one('a wrong word, then nothing asked', () => [
          promptRequest(user),
          promptAnswer('wrong'),
          promptAnswer(cast.ticket()),
        ]),
      ],
      neighbours: [byTicket],
    },
    {
      name: 'partial success: halves of proofs do not add up',
      attacks: [
        one('the key offered, a wrong answer', (end) => [offer(end), promptRequest(user), promptAnswer('wrong')]),
        one('a stranger’s proof, an empty answer', (end) => [
          request(end, { signer: stranger }),
          promptRequest(user),
          promptAnswer(''),
        ]),
        one('a certificate offered, a stranger’s proof', (end) => [
          offer(end, { signer: certificate() }),
          request(end, { signer: stranger }),
          plain('none'),
        ]),
        one('half a certificate, half a key', (end) => [
          request(end, { signer: certificate({ authority: foreign }) }),
          request(end, { blob: grantKey.blob, signer: stranger }),
        ]),
      ],
      neighbours: [
        one('a stranger’s proof, then the right one', (end) => [request(end, { signer: stranger }), request(end)]),
      ],
    },
    {
      name: 'user names: changed, NUL, line feeds, +, @, dashes, lookalikes, 64 KiB',
      attacks: [
        ...[
          `${user}\0`,
          `${user}\0x`,
          `${user} `,
          ` ${user}`,
          `${user}\n`,
          `${user}\nroot`,
          `${user}\r`,
          `-${user}`,
          `-l${user}`,
          `${user}@web1`,
          `${user}/x`,
          `${user}:x`,
          `${user}%web1`,
          `${user}+`,
          `${user}+no-such-grant`,
          `${user}++`,
          `+${user}`,
          '+',
          '',
          '*',
          '.',
          '../root',
          user.toUpperCase(),
          user.replace('o', '\u043e'),
          `${user}\u200b`,
          `${user}\u202e`,
          '$(id)',
          `u${'ser'.repeat(200)}`,
          'u'.repeat(64 * 1024),
        ].map((name) => one(`as ${JSON.stringify(name.slice(0, 30))}`, (end) => [request(end, { user: name })])),
        one('as no text', (end) => [
          writeData(
            { byte: MSG.USERAUTH_REQUEST },
            { string: Buffer.from([0x72, 0xff]) },
            { raw: wouldSign(end, {}).subarray(5 + user.length) },
          ),
        ]),
        ...(
          [
            [user, `${user}+grant`],
            ['nobody', user],
            [user, `${user}\0`],
            ['', user],
          ] as const
        ).map(([first, second]) =>
          one(`${JSON.stringify(first)}, then ${JSON.stringify(second)}`, (end) => [
            offer(end, { user: first }),
            request(end, { user: second }),
          ]),
        ),
      ],
      neighbours: [byKey],
    },
    {
      name: 'messages out of order: no service asked for, other services, channels first',
      attacks: [
        ...(
          [
            ['no service', []],
            ['the service behind the login', [serviceRequest('ssh-connection')]],
            ['a service without a name', [serviceRequest('')]],
            ['a service with a NUL', [serviceRequest('ssh-userauth\0')]],
            ['a request with a tail', [tailed(serviceRequest())]],
          ] as const
        ).map(([name, first]): LoginAttack => ({ name, first, script: (end) => [request(end)] })),
        ...['ssh-userauth', '', 'ssh-connection ', 'shell@corp.example'].map((service) =>
          one(`for ${JSON.stringify(service)}`, (end) => [request(end, { service })]),
        ),
        one('another service later', (end) => [plain('none'), request(end, { service: 'ssh-connection2' })]),
        ...[
          writeData({ byte: MSG.CHANNEL_OPEN }, { string: 'session' }, { uint32: 0 }, { uint32: 1 }, { uint32: 1 }),
          writeData({ byte: MSG.GLOBAL_REQUEST }, { string: 'tcpip-forward' }, { boolean: true }),
          writeData({ byte: MSG.CHANNEL_REQUEST }, { uint32: 0 }, { string: 'exec' }, { boolean: true }),
          writeData({ byte: MSG.CHANNEL_DATA }, { uint32: 0 }, { string: 'id' }),
          Buffer.from([MSG.USERAUTH_SUCCESS]),
          Buffer.from([MSG.USERAUTH_FAILURE]),
          Buffer.from([MSG.USERAUTH_PK_OK]),
          Buffer.from([MSG.SERVICE_ACCEPT]),
        ].flatMap((message) => [
          one(`message ${message[0]}`, () => [message]),
          one(`message ${message[0]} in front of the right request`, (end) => [message, request(end)]),
          one(`message ${message[0]} behind an offer`, (end) => [offer(end), message, request(end)]),
        ]),
      ],
      neighbours: [
        {
          name: 'the service asked for before each attempt',
          first: [],
          script: (end) => [serviceRequest(), plain('none'), serviceRequest(), request(end)],
        },
      ],
      unasked: true,
      told: /./,
    },
    {
      name: 'a right proof behind too many wrong ones (six proofs, twenty offers)',
      attacks: [
        one('six wrong keys', (end) => [
          ...Array.from({ length: 6 }, () => request(end, { signer: stranger })),
          request(end),
        ]),
        one('six wrong signatures', (end) => [
          ...Array.from({ length: 6 }, () => request(end, { blob: grantKey.blob, signer: stranger })),
          request(end),
        ]),
        one('six wrong answers', (end) => [
          ...Array.from({ length: 6 }, () => [promptRequest(user), promptAnswer('wrong')]).flat(),
          request(end),
        ]),
        one('six empty answers', (end) => [
          ...Array.from({ length: 6 }, () => [promptRequest(user), promptAnswer('')]).flat(),
          request(end),
        ]),
        one('21 offers', (end) => [
          ...Array.from({ length: 21 }, (_, at) => (at % 2 === 0 ? offer(end, { signer: stranger }) : plain('none'))),
          request(end),
        ]),
        one('21 prompts', (end) => [...Array.from({ length: 21 }, () => promptRequest(user)), request(end)]),
      ],
      neighbours: [
        one('five wrong keys', (end) => [
          ...Array.from({ length: 5 }, () => request(end, { signer: stranger })),
          request(end),
        ]),
        one('20 offers', (end) => [
          ...Array.from({ length: 20 }, (_, at) => (at % 2 === 0 ? offer(end, { signer: stranger }) : plain('none'))),
          request(end),
        ]),
      ],
      told: /too many/,
    },
  ];
}

/** An RSA authority, whose private half can be made to sign in ways that nobody should take. */
export function rsaAuthority(): LoginCast['authorities'][1] {
  const { privateKey: key } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { key, signer: signerOfKeyObject(key) };
}
