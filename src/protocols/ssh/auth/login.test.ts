// Both halves of a login against each other, and each against a peer that does odd things, over transports in memory.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { authGateway, type FakeTransport, transportPair } from '../../../../test/support/ssh-auth.ts';
import { systemClock } from '../../../system/clock.ts';
import { systemRandom } from '../../../system/random.ts';
import type { Credential } from '../../credential.ts';
import { readPublicKey } from '../keys/public-key.ts';
import { ed25519Signer } from '../keys/signer.ts';
import { type LoggedIn, LoginError, logIn, type UpstreamLogin } from './client.ts';
import { authenticateClient } from './server.ts';

const signer = ed25519Signer(Buffer.alloc(32, 7));
const raw = (blob: Buffer): string => {
  const key = readPublicKey(blob);
  assert.equal(key.kind, 'Ed25519');
  return key.kind === 'Ed25519' ? key.raw.toString('base64url') : '';
};

export function upstreamLogin(credential: Credential, more: Partial<UpstreamLogin> = {}): UpstreamLogin {
  return {
    user: 'deploy',
    credential,
    keys: undefined,
    session: { id: 's-1', grant: 'g', person: 'ana@corp.example', grantExpiresAtMs: Date.now() + 60_000 },
    permits: {},
    clock: systemClock,
    random: systemRandom,
    deadlineMs: 5_000,
    signal: new AbortController().signal,
    ...more,
  };
}

const authority = { seed: randomBytes(32), certificates: () => [] };

test('a certificate that was minted opens what believes its authority, with the rights it was given', async () => {
  const { server, client } = transportPair();
  const gateway = authGateway({
    grants: (proof) =>
      proof.kind === 'Certificate' && proof.certificate.principals[0] === 'deploy' ? 'Granted' : undefined,
  });
  const [granted] = await Promise.all([
    authenticateClient(server, gateway.context),
    logIn(client, upstreamLogin({ kind: 'Authority', users: ['deploy'] }, { keys: authority, permits: { pty: true } })),
  ]);
  assert.equal(granted.kind, 'Granted');
  if (granted.kind !== 'Granted') return;
  assert.deepEqual(granted.rights, { pty: true, portForwarding: false, agentForwarding: false, x11Forwarding: false });
  assert.equal(granted.user, 'deploy');
  assert.ok(server.isAuthenticated && client.isAuthenticated);
  assert.match(granted.by, /^publickey SHA256:\S+ certificate "sallyport session=s-1 grant=g user=ana@corp.example"$/);
  assert.equal(gateway.proofs.length, 1);
  void raw(signer.blob);
});
