import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { type RawCertificate, rawCertificate, softwareSecurityKey } from '../../../../test/support/ssh-keys.ts';
import { systemRandom } from '../../../system/random.ts';
import { writeData } from '../wire/data.ts';
import {
  checkUserCertificate,
  hostCertificateFault,
  mintHostCertificate,
  mintUserCertificate,
  type UserCertificateRequest,
} from './certificate.ts';
import { parseCertificate } from './certificate-blob.ts';
import { hostTrustOf } from './host-trust.ts';
import { publicKeyLine } from './known-hosts.ts';
import { ed25519Signer, signerOfKeyObject } from './signer.ts';

const authority = ed25519Signer(Buffer.alloc(32, 1));
const user = ed25519Signer(Buffer.alloc(32, 2));
const NOW = Date.parse('2026-03-01T12:00:00.500Z');
const SECONDS = BigInt(Math.floor(NOW / 1000));
const here = { nowMs: NOW, peerAddress: '192.0.2.7' };

const made = (options: Partial<RawCertificate> = {}): Buffer =>
  rawCertificate({ key: user.blob, authority, validAfter: SECONDS - 60n, validBefore: SECONDS + 60n, ...options });
const reasonFor = (options: Partial<RawCertificate>, circumstances = here): string => {
  const check = checkUserCertificate(made(options), circumstances);
  return check.kind === 'Refused' ? check.reason : 'good';
};

test('a good certificate says who, by whom, until when and what for', () => {
  const check = checkUserCertificate(made({ serial: 2n ** 64n - 1n, extensions: [['permit-pty', '']] }), here);
  assert.equal(check.kind, 'Good');
  if (check.kind !== 'Good') return;
  assert.deepEqual(check.certificate, {
    authority: authority.blob.toString('base64'),
    keyId: 'ana',
    serial: 2n ** 64n - 1n,
    principals: ['ana@corp.example'],
    validAfterMs: Number(SECONDS - 60n) * 1000,
    validBeforeMs: Number(SECONDS + 60n) * 1000,
  });
  assert.deepEqual(check.rights, { pty: true, portForwarding: false, agentForwarding: false, x11Forwarding: false });
  assert.deepEqual(check.key.blob, user.blob);
});

test('time: from the first second on, up to the last and not in it; unsigned 64 bit', () => {
  assert.equal(reasonFor({ validAfter: SECONDS }), 'good');
  assert.equal(reasonFor({ validAfter: SECONDS + 1n }), 'it is not valid yet');
  assert.equal(reasonFor({ validBefore: SECONDS + 1n }), 'good');
  assert.equal(reasonFor({ validBefore: SECONDS }), 'it has expired');
  assert.equal(reasonFor({ validAfter: 2n ** 63n }), 'it is not valid yet');
  assert.equal(reasonFor({ validAfter: 2n ** 64n - 1n, validBefore: 0n }), 'it is not valid yet');
  const forEver = checkUserCertificate(made({ validAfter: 0n, validBefore: 2n ** 64n - 1n }), here);
  assert.equal(forEver.kind === 'Good' && forEver.certificate.validBeforeMs, Number.POSITIVE_INFINITY);
});

test('principals are there, and are whole strings', () => {
  assert.equal(reasonFor({ principals: [] }), 'it names no principal');
  assert.equal(reasonFor({ principals: [''] }), 'a certificate has an empty principal');
  assert.match(reasonFor({ principals: ['ana\0root'] }), /control characters/);
  assert.match(reasonFor({ principals: [Buffer.from([0xff])] }), /UTF-8/);
  assert.match(reasonFor({ principals: Array.from({ length: 257 }, (_, at) => `p${at}`) }), /too many/);
  for (const principal of ['ana,root', '*', 'ana ', '!ana']) {
    const check = checkUserCertificate(made({ principals: [principal] }), here);
    assert.deepEqual(check.kind === 'Good' && check.certificate.principals, [principal]);
  }
});

test('role, authority and its signature', () => {
  assert.equal(reasonFor({ role: 2 }), 'it is not for a user');
  assert.match(reasonFor({ role: 0 }), /neither/);
  assert.match(reasonFor({ role: 3 }), /neither/);
  const other = ed25519Signer(Buffer.alloc(32, 3));
  assert.match(reasonFor({ authorityBlob: other.blob }), /not its authority’s/);
  assert.match(reasonFor({ authorityBlob: made() }), /unknown type/, 'an authority that is a certificate itself');
  assert.match(reasonFor({ trailing: Buffer.from([0]) }), /too many/);
  const good = made();
  for (let at = 0; at < good.length; at += 1) {
    const bent = Buffer.from(good);
    bent[at]! ^= 1;
    assert.equal(checkUserCertificate(bent, here).kind, 'Refused', `byte ${at}`);
    assert.equal(checkUserCertificate(good.subarray(0, at), here).kind, 'Refused', `cut at ${at}`);
  }
});

test('an authority signs by SHA-2 or better', () => {
  const rsa = signerOfKeyObject(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey);
  for (const name of ['rsa-sha2-256', 'rsa-sha2-512'])
    assert.equal(reasonFor({ authority: rsa, signature: (signed) => rsa.sign(signed, name) }), 'good');
  const renamed = (signed: Buffer): Buffer => {
    const good = rsa.sign(signed, 'rsa-sha2-256');
    return writeData({ string: 'ssh-rsa' }, { raw: good.subarray(4 + 'rsa-sha2-256'.length) });
  };
  assert.match(reasonFor({ authority: rsa, signature: renamed }), /not its authority’s/);
});

test('critical options: what is not understood is refused, and so is what is there twice', () => {
  const text = (value: string): Buffer => writeData({ string: value });
  assert.match(reasonFor({ critical: [['force-command', text('/bin/true')]] }), /force-command/);
  assert.match(reasonFor({ critical: [['zzz@corp.example', '']] }), /not known here/);
  const address = ['source-address', text('192.0.2.0/24')] as const;
  assert.equal(reasonFor({ critical: [address] }), 'good');
  assert.match(reasonFor({ critical: [address, address] }), /repeated/);
  assert.match(reasonFor({ critical: [address, ['source-address', text('10.0.0.0/8')]] }), /repeated/);
  assert.match(reasonFor({ critical: [['verify-required', ''], address] }), /order/);
  assert.match(reasonFor({ critical: [['', '']] }), /proper name/);
  assert.match(reasonFor({ critical: [['verify-required', '']] }), /can not do that/);
});

test('source-address: addresses and ranges, mapped and not; hidden peers are refused', () => {
  const check = (list: string, peerAddress: string): string =>
    reasonFor({ critical: [['source-address', writeData({ string: list })]] }, { nowMs: NOW, peerAddress });
  assert.equal(check('192.0.2.7', '192.0.2.7'), 'good');
  assert.equal(check('10.0.0.0/8,192.0.2.0/24', '192.0.2.7'), 'good');
  assert.equal(check('192.0.2.7', '::ffff:192.0.2.7'), 'good');
  assert.equal(check('2001:db8::/32', '2001:db8::7'), 'good');
  assert.equal(check('0.0.0.0/0,::/0', '192.0.2.7'), 'good');
  for (const [list, peer] of [
    ['192.0.2.8', '192.0.2.7'],
    ['192.0.2.0/30', '192.0.2.7'],
    ['::/0', '192.0.2.7'],
    ['0.0.0.0/0', '2001:db8::7'],
    ['192.0.2.7', '192.0.2.7 via 10.0.0.1'],
    ['0.0.0.0/0,::/0', ''],
    ['192.0.2.7', 'somewhere'],
    ['', '192.0.2.7'],
    ['192.0.2.7,', '192.0.2.7'],
    ['192.0.2.*', '192.0.2.7'],
    ['!10.0.0.1,192.0.2.7', '192.0.2.7'],
    ['192.0.2.7/33', '192.0.2.7'],
    ['192.0.2.7/032', '192.0.2.7'],
    ['192.0.2.7 ', '192.0.2.7'],
    ['192.0.2.7/-1', '192.0.2.7'],
  ] as const)
    assert.match(check(list, peer), /address/, `${list} for ${peer}`);
  const raw = (data: Buffer): string => reasonFor({ critical: [['source-address', data]] });
  assert.match(raw(Buffer.from('192.0.2.7')), /can not be read/);
  assert.match(raw(writeData({ string: '192.0.2.7' }, { byte: 0 })), /can not be read/);
});

test('permits are given by name and empty; others mean nothing', () => {
  const rightsOf = (extensions: [string, string][]): unknown => {
    const check = checkUserCertificate(made({ extensions }), here);
    return check.kind === 'Good' ? Object.entries(check.rights).flatMap(([name, has]) => (has ? [name] : [])) : check;
  };
  assert.deepEqual(rightsOf([]), []);
  assert.deepEqual(
    rightsOf([
      ['custom@corp.example', 'x'],
      ['permit-X11-forwarding', ''],
      ['permit-agent-forwarding', ''],
      ['permit-port-forwarding', ''],
      ['permit-pty', ''],
      ['permit-user-rc', ''],
    ]),
    ['pty', 'portForwarding', 'agentForwarding', 'x11Forwarding'],
  );
  assert.deepEqual(rightsOf([['permit-ptyx', '']]), []);
  assert.deepEqual(rightsOf([['permit-pty', 'no']]), { kind: 'Refused', reason: 'one of its permits has a value' });
});

test('a certificate for a security key may want the user verified', () => {
  for (const type of ['ed25519', 'ecdsa'] as const) {
    const key = softwareSecurityKey(type).blob;
    const check = checkUserCertificate(made({ key, critical: [['verify-required', '']] }), here);
    assert.ok(check.kind === 'Good' && check.userVerified);
    assert.match(reasonFor({ key, critical: [['verify-required', 'x']] }), /has a value/);
    const plain = checkUserCertificate(made({ key }), here);
    assert.ok(plain.kind === 'Good' && !plain.userVerified);
  }
});

const request: UserCertificateRequest = {
  authority,
  key: user.blob,
  principal: 'deploy',
  session: 's-1f',
  grant: 'bastion-7fk2p',
  person: 'ana@corp.example',
  permits: { pty: true, x11Forwarding: false },
  nowMs: NOW,
  grantExpiresAtMs: NOW + 3_600_000,
  random: systemRandom,
};

test('a certificate of ours: one user, minutes, no more than is permitted', () => {
  const parsed = parseCertificate(mintUserCertificate(request));
  assert.deepEqual(parsed.principals, ['deploy']);
  assert.equal(parsed.validAfter, SECONDS - 300n);
  assert.equal(parsed.validBefore, SECONDS + 120n);
  assert.equal(parsed.keyId, 'sallyport session=s-1f grant=bastion-7fk2p user=ana@corp.example');
  assert.deepEqual(
    parsed.extensions.map(({ name }) => name),
    ['permit-pty'],
  );
  assert.deepEqual(parsed.criticalOptions, []);
  assert.equal(checkUserCertificate(parsed.blob, here).kind, 'Good');
  const all = { pty: true, portForwarding: true, agentForwarding: true, x11Forwarding: true };
  assert.deepEqual(
    parseCertificate(mintUserCertificate({ ...request, permits: all })).extensions.map(({ name }) => name),
    ['permit-X11-forwarding', 'permit-agent-forwarding', 'permit-port-forwarding', 'permit-pty'],
  );
});

test('INV-03: a certificate of ours never outlives its grant', () => {
  const parsed = parseCertificate(mintUserCertificate({ ...request, grantExpiresAtMs: NOW + 30_000 }));
  assert.equal(parsed.validBefore, SECONDS + 30n);
  assert.throws(() => mintUserCertificate({ ...request, grantExpiresAtMs: NOW - 1 }), /has ended/);
  assert.throws(() => mintUserCertificate({ ...request, grantExpiresAtMs: NOW + 400 }), /has ended/);
});

test('a name can not add a line or a field to the target’s log', () => {
  const person = 'ana grant=other\nAccepted\u001b[2J\u202eroot';
  const { keyId } = parseCertificate(mintUserCertificate({ ...request, person }));
  assert.equal(keyId, 'sallyport session=s-1f grant=bastion-7fk2p user=ana_grant=other_Accepted_[2J_root');
  const long = parseCertificate(mintUserCertificate({ ...request, person: 'a'.repeat(5_000) }));
  assert.ok(long.keyId.length < 400);
});

test('host certificates: listed authority, this very name, now, and nothing unknown', () => {
  const host = ed25519Signer(Buffer.alloc(32, 5));
  const other = ed25519Signer(Buffer.alloc(32, 6));
  const expected = { authorities: [authority.blob], principal: 'target.corp.example', nowMs: NOW };
  const minted = mintHostCertificate({
    authority,
    key: host.blob,
    keyId: 'target',
    principals: ['10.0.0.7', 'target.corp.example'],
    validAfterMs: NOW - 1000,
    validBeforeMs: NOW + 1000,
    random: systemRandom,
  });
  assert.equal(hostCertificateFault(minted, expected), undefined);
  for (const [blob, changed, pattern] of [
    [minted, { ...expected, authorities: [other.blob] }, /not listed/],
    [minted, { ...expected, authorities: [] }, /not listed/],
    [minted, { ...expected, principal: 'target' }, /does not name/],
    [minted, { ...expected, principal: 'TARGET.corp.example' }, /does not name/],
    [minted, { ...expected, nowMs: NOW + 2000 }, /expired/],
    [minted, { ...expected, nowMs: NOW - 5000 }, /not valid yet/],
    [made({ key: host.blob, role: 2, principals: [] }), expected, /does not name/],
    [made({ key: host.blob, role: 2, principals: ['*'] }), expected, /does not name/],
    [made({ key: host.blob, role: 1, principals: [expected.principal] }), expected, /not for a host/],
    [made({ role: 2, principals: [expected.principal], critical: [['x', '']] }), expected, /critical/],
    [host.blob, expected, /malformed/],
    [Buffer.alloc(0), expected, /malformed/],
  ] as const)
    assert.match(hostCertificateFault(blob, changed) ?? 'good', pattern);
});

test('trust in a target: only what could be verified is offered; a certificate is never taken for a pinned key', () => {
  const host = ed25519Signer(Buffer.alloc(32, 5));
  const pinned = hostTrustOf({ host: 't', hostKeys: [publicKeyLine(host.blob)] });
  assert.deepEqual(pinned.algorithms, ['ssh-ed25519']);
  assert.equal(pinned.fault(host.blob, NOW), undefined);
  assert.match(pinned.fault(user.blob, NOW) ?? '', /not listed: ssh-ed25519 SHA256:/);
  assert.match(pinned.fault(Buffer.from('x'), NOW) ?? '', /no key/);
  const certificate = made({ key: host.blob, role: 2, principals: ['t'] });
  assert.match(pinned.fault(certificate, NOW) ?? '', /authority that is not listed/);
  const rsa = signerOfKeyObject(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey);
  assert.deepEqual(hostTrustOf({ host: 't', hostKeys: [publicKeyLine(rsa.blob)] }).algorithms, [
    'rsa-sha2-512',
    'rsa-sha2-256',
  ]);
  const believed = hostTrustOf({ host: 't', hostAuthorities: [publicKeyLine(authority.blob)] });
  assert.ok(believed.algorithms.every((name) => name.endsWith('-cert-v01@openssh.com')));
  assert.equal(believed.fault(certificate, NOW), undefined);
  assert.match(believed.fault(host.blob, NOW) ?? '', /not listed/);
  assert.throws(() => hostTrustOf({ host: 't' }), /neither/);
  assert.throws(() => hostTrustOf({ host: 't', hostKeys: ['ssh-ed25519 AAAA'] }));
});
