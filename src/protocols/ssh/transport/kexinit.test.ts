import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  encodeKexInit,
  FULL_OFFER,
  guessedRight,
  type KexInit,
  negotiate,
  offerTo,
  ownKexInit,
  parseExtInfo,
  parseKexInit,
  serverExtInfo,
  wantsExtInfo,
  wantsStrict,
} from './kexinit.ts';

const server = ownKexInit('Server', FULL_OFFER, ['ssh-ed25519', 'ecdsa-sha2-nistp256'], true);
const client = (more: Partial<KexInit> = {}): KexInit => ({
  ...ownKexInit('Client', FULL_OFFER, ['ecdsa-sha2-nistp256', 'ssh-ed25519'], true),
  ...more,
});
const both = <Value>(value: Value) => ({ clientToServer: value, serverToClient: value });

test('KEXINIT survives encoding', () => {
  const init = client({ guessFollows: true });
  assert.deepEqual(parseKexInit(encodeKexInit(init, Buffer.alloc(16))), init);
  assert.throws(() => parseKexInit(Buffer.concat([encodeKexInit(init, Buffer.alloc(16)), Buffer.from([0])])));
  assert.throws(() => parseKexInit(Buffer.from([20, 1, 2])));
});

test("the client's first that the server has is taken, list by list", () => {
  const agreed = negotiate(
    client({
      kex: ['sntrup761x25519-sha512', 'ecdh-sha2-nistp384', 'curve25519-sha256'],
      cipher: { clientToServer: ['aes256-ctr', 'aes128-gcm@openssh.com'], serverToClient: ['aes256-gcm@openssh.com'] },
      mac: { clientToServer: ['hmac-sha1', 'hmac-sha2-512-etm@openssh.com'], serverToClient: ['hmac-md5'] },
    }),
    server,
    true,
  );
  assert.deepEqual(agreed, {
    kex: 'ecdh-sha2-nistp384',
    hostKey: 'ecdsa-sha2-nistp256',
    cipher: { clientToServer: 'aes256-ctr', serverToClient: 'aes256-gcm@openssh.com' },
    mac: { clientToServer: 'hmac-sha2-512-etm@openssh.com', serverToClient: '' },
    strict: true,
  });
});

test('what is weak is in no list of ours, and is not agreed on where both sides name it', () => {
  for (const name of Object.values(FULL_OFFER).flat())
    assert.doesNotMatch(name, /sha1|group|cbc|chacha|md5|-96|arcfour|hmac-sha2-\d+$/);
  const weak = { ...server, kex: ['ext-info-c', 'diffie-hellman-group14-sha1'] };
  assert.throws(() => negotiate({ ...client(), kex: weak.kex }, weak, true), /No common key exchange/);
});

test('INV-11: without strict key exchange nothing but AES-GCM is agreed on', () => {
  const ctr = client({ cipher: both(['aes128-ctr']) });
  assert.equal(negotiate(ctr, server, true).cipher.clientToServer, 'aes128-ctr');
  assert.throws(() => negotiate(ctr, server, false), /only AES-GCM is safe/);
  assert.equal(negotiate(client(), server, false).cipher.clientToServer, 'aes128-gcm@openssh.com');
  const half = client({ cipher: { clientToServer: ['aes128-gcm@openssh.com'], serverToClient: ['aes128-ctr'] } });
  assert.throws(() => negotiate(half, server, false), /only AES-GCM is safe/);
});

test('who can do AES-GCM is offered nothing else, whatever they would rather have', () => {
  const rather = client({ cipher: both(['aes128-ctr', 'aes256-gcm@openssh.com', 'chacha20-poly1305@openssh.com']) });
  assert.deepEqual(offerTo(rather, FULL_OFFER).ciphers, ['aes256-gcm@openssh.com']);
  const oneWay = client({ cipher: { clientToServer: ['aes128-gcm@openssh.com'], serverToClient: ['aes128-ctr'] } });
  for (const each of [undefined, oneWay, client({ cipher: both(['aes128-ctr']) })])
    assert.deepEqual(offerTo(each, FULL_OFFER), FULL_OFFER);
});

test('nothing in common says what, and what each side has', () => {
  const cases: [Partial<KexInit>, RegExp][] = [
    [{ kex: ['x'] }, /No common key exchange\. Client: x\. Server: mlkem768/],
    [{ hostKey: ['ssh-rsa'] }, /No common host key algorithm\. Client: ssh-rsa\. Server: ssh-ed25519/],
    [{ cipher: both(['3des-cbc']) }, /No common cipher/],
    [{ cipher: both(['aes128-ctr']), mac: both(['hmac-sha1']) }, /No common MAC/],
    [{ compression: both(['zlib']) }, /No common compression/],
    [{ kex: [] }, /Client: none/],
    [{ kex: ['y'.repeat(5_000)] }, /\.\.\. Server/],
  ];
  for (const [more, text] of cases) assert.throws(() => negotiate(client(more), server, true), text);
});

test('marks are read from the first offer, and a guess is right by both first names', () => {
  assert.ok(wantsStrict(client(), 'Client') && !wantsStrict(client(), 'Server') && wantsExtInfo(client()));
  const later = ownKexInit('Client', FULL_OFFER, ['ssh-ed25519'], false);
  assert.ok(!wantsStrict(later, 'Client') && !wantsExtInfo(later));
  assert.ok(guessedRight(later, server));
  assert.ok(!guessedRight(client(), server)); // another host key first
});

test('EXT_INFO names the signatures and is bounded', () => {
  const extensions = parseExtInfo(serverExtInfo());
  assert.match(extensions.get('server-sig-algs')!.toString(), /^ssh-ed25519,.*rsa-sha2-256$/);
  assert.equal(extensions.get('publickey-hostbound@openssh.com')!.toString(), '0');
  assert.throws(() => parseExtInfo(Buffer.from([7, 0, 0, 1, 0])), /too many/);
  assert.throws(() => parseExtInfo(Buffer.from([7, 0, 0, 0, 1])));
});
