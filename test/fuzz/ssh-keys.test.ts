// Keys, certificates and logins of SSH against noise, and against what is right but for one bit: parsers answer or say that it is
// malformed, nothing has two spellings, and nobody gets in but by the proof that a simple model says opens.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { LoginError, logIn } from '../../src/protocols/ssh/auth/client.ts';
import { authenticateClient, type ClientLogin } from '../../src/protocols/ssh/auth/server.ts';
import { checkUserCertificate, hostCertificateFault } from '../../src/protocols/ssh/keys/certificate.ts';
import { parseCertificate } from '../../src/protocols/ssh/keys/certificate-blob.ts';
import { hostTrustOf } from '../../src/protocols/ssh/keys/host-trust.ts';
import type { Signer } from '../../src/protocols/ssh/keys/key.ts';
import { publicKeyLine, readPublicKeyLine } from '../../src/protocols/ssh/keys/known-hosts.ts';
import { blobOfKeyObject, keyObjectOf, readPublicKey } from '../../src/protocols/ssh/keys/public-key.ts';
import { ed25519Signer, PrivateKeyError, signerOf, signerOfKeyObject } from '../../src/protocols/ssh/keys/signer.ts';
import { fits, SIGNATURE_ALGORITHMS, verifySignature } from '../../src/protocols/ssh/keys/verify.ts';
import { MalformedData, writeData } from '../../src/protocols/ssh/wire/data.ts';
import { authGateway, transportPair, upstreamLogin } from '../support/ssh-auth.ts';
import { rawCertificate, softwareSecurityKey } from '../support/ssh-keys.ts';

const RUNS = Number(process.env.FUZZ_RUNS ?? 300);
/** A login is some dozens of turns of the event loop. */
const LOGINS = Math.max(50, Math.floor(RUNS / 4));

const rsaPair = generateKeyPairSync('rsa', { modulusLength: 2048 });
const SIGNERS: readonly Signer[] = [
  ed25519Signer(Buffer.alloc(32, 1)),
  ...['P-256', 'P-384', 'P-521'].map((namedCurve) =>
    signerOfKeyObject(generateKeyPairSync('ec', { namedCurve }).privateKey),
  ),
  signerOfKeyObject(rsaPair.privateKey),
  softwareSecurityKey('ed25519'),
  softwareSecurityKey('ecdsa'),
];
const [grantKey, otherKey] = [ed25519Signer(Buffer.alloc(32, 2)), ed25519Signer(Buffer.alloc(32, 3))];
const authority = ed25519Signer(Buffer.alloc(32, 4));
const DATA = Buffer.from('a login');

const bytes = (maxLength: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));

/** One to three changes: a bit, a byte cut out, bytes put in, an end cut off. */
const bend = (original: Buffer): fc.Arbitrary<Buffer> =>
  fc
    .array(
      fc.record({
        at: fc.nat(),
        how: fc.constantFrom('bit', 'cut', 'insert', 'end', 'length'),
        value: fc.integer({ min: 0, max: 255 }),
      }),
      { minLength: 1, maxLength: 3 },
    )
    .map((changes) => {
      let bent = Buffer.from(original);
      for (const { at, how, value } of changes) {
        if (bent.length === 0) continue;
        const place = at % bent.length;
        if (how === 'bit') bent[place]! ^= 1 << (value & 7);
        else if (how === 'length') bent[place] = value;
        else if (how === 'end') bent = bent.subarray(0, place);
        else if (how === 'cut') bent = Buffer.concat([bent.subarray(0, place), bent.subarray(place + 1)]);
        else bent = Buffer.concat([bent.subarray(0, place), Buffer.from([value, value]), bent.subarray(place)]);
      }
      return bent;
    });

const orMalformed = <T>(read: () => T): T | undefined => {
  try {
    return read();
  } catch (error) {
    assert.ok(error instanceof MalformedData, String(error));
    return undefined;
  }
};

test('a blob that is read as a key is the only spelling of that key', () => {
  const blobs = fc.oneof(bytes(300), ...SIGNERS.map(({ blob }) => bend(blob)));
  fc.assert(
    fc.property(blobs, (blob) => {
      const key = orMalformed(() => readPublicKey(blob));
      if (key === undefined) return;
      const again = blobOfKeyObject(keyObjectOf(key));
      if (key.kind === 'SkEd25519' || key.kind === 'SkEcdsa') return;
      assert.deepEqual(again, blob);
    }),
    { numRuns: RUNS * 4 },
  );
});

test('lines of keys: read and written alike, or malformed', () => {
  const lines = fc.oneof(
    fc.string({ maxLength: 200 }),
    ...SIGNERS.map(({ blob }) =>
      bend(Buffer.from(publicKeyLine(blob, 'a comment'))).map((bent) => bent.toString('latin1')),
    ),
  );
  fc.assert(
    fc.property(lines, (line) => {
      const read = orMalformed(() => readPublicKeyLine(line));
      if (read === undefined) return;
      assert.deepEqual(readPublicKeyLine(publicKeyLine(read.blob)).blob, read.blob);
      orMalformed(() => hostTrustOf({ host: 'h', hostKeys: [line] }));
    }),
    { numRuns: RUNS * 2 },
  );
});

test('a certificate that was changed is no certificate any more', () => {
  const certificates = SIGNERS.map(({ blob }) =>
    rawCertificate({
      key: blob,
      authority,
      critical: [['source-address', writeData({ string: '192.0.2.0/24' })]],
      extensions: [
        ['permit-X11-forwarding', ''],
        ['permit-pty', ''],
      ],
    }),
  );
  const now = { nowMs: Date.now(), peerAddress: '192.0.2.7' };
  for (const certificate of certificates) assert.equal(checkUserCertificate(certificate, now).kind, 'Good');
  fc.assert(
    fc.property(fc.oneof(bytes(400), ...certificates.map(bend)), (blob) => {
      const parsed = orMalformed(() => parseCertificate(blob));
      const same = certificates.some((certificate) => certificate.equals(blob));
      assert.equal(checkUserCertificate(blob, now).kind, same ? 'Good' : 'Refused');
      assert.notEqual(
        hostCertificateFault(blob, { authorities: [authority.blob], principal: 'h', nowMs: now.nowMs }),
        undefined,
      );
      if (parsed === undefined) return;
      assert.ok(blob.subarray(0, parsed.signedBytes.length).equals(parsed.signedBytes));
      assert.equal(parsed.signedBytes.length + 4 + parsed.signature.length, blob.length);
    }),
    { numRuns: RUNS * 4 },
  );
});

test('a signature that was changed is none; the verifier never throws', () => {
  const made = SIGNERS.flatMap((signer) =>
    signer.algorithms.map((algorithm) => ({ signer, algorithm, good: signer.sign(DATA, algorithm) })),
  );
  const cases = fc.constantFrom(...made).chain(({ signer, algorithm, good }) =>
    fc.record({
      blob: fc.oneof({ weight: 4, arbitrary: fc.constant(signer.blob) }, bend(signer.blob)),
      algorithm: fc.oneof(
        { weight: 4, arbitrary: fc.constant(algorithm) },
        fc.constantFrom(...SIGNATURE_ALGORITHMS),
        fc.string(),
      ),
      signature: fc.oneof(bend(good), bytes(200)),
    }),
  );
  fc.assert(
    fc.property(cases, ({ blob, algorithm, signature }) => {
      fits(blob, algorithm);
      const isOriginal = made.some(({ good }) => good.equals(signature));
      if (!isOriginal) assert.ok(!verifySignature(blob, algorithm, DATA, signature));
    }),
    { numRuns: RUNS * 2 },
  );
});

test('INV-05: private keys that were changed make signers or plain errors, which quote nothing', () => {
  const pem = rsaPair.privateKey.export({ type: 'pkcs1', format: 'pem' }).toString();
  const ed = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const texts = fc.oneof(
    fc.string({ maxLength: 300 }),
    bytes(300).map(
      (body) => `-----BEGIN OPENSSH PRIVATE KEY-----\n${body.toString('base64')}\n-----END OPENSSH PRIVATE KEY-----\n`,
    ),
    ...[pem, ed].map((text) => bend(Buffer.from(text)).map((bent) => bent.toString('latin1'))),
  );
  fc.assert(
    fc.property(texts, (text) => {
      try {
        const signer = signerOf(text);
        assert.ok(signer.algorithms.length > 0);
      } catch (error) {
        assert.ok(error instanceof PrivateKeyError, String(error));
        assert.equal(error.cause, undefined);
        for (const line of text.split('\n').slice(1))
          if (line.length > 12) assert.ok(!error.message.includes(line.slice(0, 12)));
      }
    }),
    { numRuns: RUNS },
  );
});

// ---- logins against a model --------------------------------------------------------------------------------------

const request = (sessionId: Buffer, signer: Signer, hasSignature: boolean, shown = signer.blob): Buffer => {
  const body = writeData(
    { byte: 50 },
    { string: 'deploy' },
    { string: 'ssh-connection' },
    { string: 'publickey' },
    { boolean: hasSignature },
    { string: 'ssh-ed25519' },
    { string: shown },
  );
  if (!hasSignature) return body;
  const signed = writeData({ string: sessionId }, { raw: body });
  return writeData({ raw: body }, { string: signer.sign(signed, 'ssh-ed25519') });
};
const plain = (method: string): Buffer =>
  writeData({ byte: 50 }, { string: 'deploy' }, { string: 'ssh-connection' }, { string: method });
const interactive = writeData({ raw: plain('keyboard-interactive') }, { string: '' }, { string: '' });
const response = (answer: string): Buffer => writeData({ byte: 61 }, { uint32: 1 }, { string: answer });

/** What a step sends, and what it counts as. */
const STEPS = {
  none: { sends: () => [plain('none')], offers: 1, proofs: 0 },
  unknown: { sends: () => [plain('hostbased')], offers: 1, proofs: 0 },
  offer: { sends: (id: Buffer) => [request(id, grantKey, false)], offers: 1, proofs: 0 },
  service: { sends: () => [writeData({ byte: 5 }, { string: 'ssh-userauth' })], offers: 0, proofs: 0 },
  wrongKey: { sends: (id: Buffer) => [request(id, otherKey, true)], offers: 0, proofs: 1 },
  forged: { sends: (id: Buffer) => [request(id, otherKey, true, grantKey.blob)], offers: 0, proofs: 1 },
  replayed: { sends: () => [request(Buffer.alloc(32, 7), grantKey, true)], offers: 0, proofs: 1 },
  wrongTicket: { sends: () => [interactive, response('wrong')], offers: 1, proofs: 1 },
  emptyTicket: { sends: () => [interactive, response('')], offers: 1, proofs: 1 },
  key: { sends: (id: Buffer) => [request(id, grantKey, true)], offers: 0, proofs: 0 },
  ticket: { sends: () => [interactive, response('the-ticket')], offers: 1, proofs: 0 },
} as const;
type Step = keyof typeof STEPS;

function expected(steps: readonly Step[]): 'Granted' | 'Gone' {
  let offers = 0;
  let proofs = 0;
  for (const step of steps) {
    offers += STEPS[step].offers;
    if (offers > 20) return 'Gone';
    if (step === 'key' || step === 'ticket') return 'Granted';
    proofs += STEPS[step].proofs;
    if (proofs >= 6) return 'Gone';
  }
  return 'Gone';
}

const settle = async (turns: number): Promise<void> => {
  for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

async function play(payloads: (sessionId: Buffer) => readonly Buffer[]): Promise<ClientLogin> {
  const { server, client } = transportPair();
  const gateway = authGateway({
    grants: (proof) =>
      (proof.kind === 'Key' && proof.publicKey === grantKey.blob.subarray(-32).toString('base64url')) ||
      (proof.kind === 'Password' && proof.secret === 'the-ticket')
        ? 'Granted'
        : undefined,
    recognises: () => true,
  });
  const served = authenticateClient(server, gateway.context);
  for (const payload of payloads(server.sessionId)) client.send(payload);
  await settle(60);
  client.destroy();
  const login = await served;
  assert.equal(server.isAuthenticated, login.kind === 'Granted');
  return login;
}

test('INV-01: who gets in is what a model says, whatever comes in which order', async () => {
  const wrong = fc.constantFrom<Step>(
    'none',
    'unknown',
    'offer',
    'service',
    'wrongKey',
    'forged',
    'replayed',
    'wrongTicket',
    'emptyTicket',
  );
  const steps = fc.oneof(
    fc.array(wrong, { maxLength: 24 }),
    fc
      .tuple(
        fc.array(wrong, { maxLength: 9 }),
        fc.constantFrom<Step>('key', 'ticket'),
        fc.array(wrong, { maxLength: 3 }),
      )
      .map(([before, good, behind]) => [...before, good, ...behind]),
  );
  const seen = { Granted: 0, Gone: 0 };
  await fc.assert(
    fc.asyncProperty(steps, async (list) => {
      const login = await play((id) => [...STEPS.service.sends(), ...list.flatMap((step) => STEPS[step].sends(id))]);
      assert.equal(login.kind, expected(list), list.join(' '));
      seen[login.kind] += 1;
    }),
    { numRuns: LOGINS },
  );
  assert.ok(seen.Granted > 0 && seen.Gone > 0);
});

test('INV-11: noise of any numbers lets nobody in, and the login ends with its sender', async () => {
  const message = fc.oneof(
    fc
      .tuple(fc.constantFrom(5, 50, 61), bytes(200))
      .map(([number, rest]) => Buffer.concat([Buffer.from([number]), rest])),
    fc.uint8Array({ minLength: 1, maxLength: 50 }).map((array) => Buffer.from(array)),
    bend(request(Buffer.alloc(32), otherKey, true)).filter((bent) => bent.length > 0),
    fc.constantFrom(plain('none'), interactive, response('x'), ...STEPS.service.sends()),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(message, { maxLength: 12 }), fc.boolean(), async (messages, opened) => {
      const login = await play(() => [...(opened ? STEPS.service.sends() : []), ...messages]);
      assert.equal(login.kind, 'Gone');
    }),
    { numRuns: LOGINS },
  );
});

test('INV-05: whatever a target answers, a password goes out once at most, and only SUCCESS is a login', async () => {
  const failure = (...methods: string[]): Buffer => writeData({ byte: 51 }, { names: methods }, { boolean: false });
  const prompt = (echo: boolean): Buffer =>
    writeData(
      { byte: 60 },
      { string: '' },
      { string: '' },
      { string: '' },
      { uint32: 1 },
      { string: 'P' },
      { boolean: echo },
    );
  const answers = fc.constantFrom(
    failure('password'),
    failure('keyboard-interactive'),
    failure('password', 'keyboard-interactive'),
    failure(),
    prompt(false),
    prompt(true),
    writeData({ byte: 60 }, { string: '' }, { string: '' }, { string: '' }, { uint32: 0 }),
    writeData({ byte: 53 }, { string: 'hello' }, { string: '' }),
    writeData({ byte: 6 }, { string: 'ssh-userauth' }),
  );
  const credential = { kind: 'Password', username: 'deploy', password: 'correct horse', hosts: [] } as const;
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.oneof(
          { weight: 6, arbitrary: answers },
          bytes(40).filter((noise) => noise.length > 0 && noise[0] !== 52),
        ),
        { maxLength: 10 },
      ),
      async (list) => {
        const { server, client } = transportPair();
        let sent = 0;
        let secrets = 0;
        server.onMessage = (payload) => {
          if (payload.includes('correct horse')) secrets += 1;
          const next = sent === 0 ? writeData({ byte: 6 }, { string: 'ssh-userauth' }) : list[sent - 1];
          sent += 1;
          if (next !== undefined) server.send(next);
          else server.disconnect(2, 'enough');
        };
        const login = upstreamLogin(credential, { deadlineMs: 50 });
        const outcome = await logIn(client, login).catch((error: unknown) => error);
        assert.ok(outcome instanceof LoginError, 'nobody said SUCCESS');
        assert.ok(!`${outcome.message}${outcome.hint}${outcome.stack}`.includes('correct horse'));
        assert.ok(secrets <= 1);
      },
    ),
    { numRuns: LOGINS },
  );
});
