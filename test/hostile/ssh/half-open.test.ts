// Sockets that come and say nothing, or stop half-way: they take their sender's places, and nobody else's.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { DEFAULT_PROCESS_LIMITS } from '../../../src/gateway/limits.ts';
import { idleSockets } from '../../support/idle-sockets.ts';
import { keyRequest, serviceRequest } from '../../support/ssh-login-messages.ts';
import { type LoginScene, startLoginScene } from '../../support/ssh-login-scene.ts';
import type { RawClient } from '../../support/ssh-raw-client.ts';

const HONEST = '127.0.0.2';
/** A wide guard: the claim is that a login does not wait for those who are idle. */
const AT_ONCE_MS = 5_000;

let scene: LoginScene;
before(async () => {
  scene = await startLoginScene();
});
after(() => scene?.stop());

async function honest(): Promise<number> {
  const started = performance.now();
  const { said, told } = await scene.attempt(
    {
      name: 'honest',
      script: (end) => [keyRequest(end, { user: scene.cast.user, signer: scene.cast.grantKey })],
    },
    HONEST,
  );
  assert.equal(said, 'in', told);
  return performance.now() - started;
}

const halfOpen = (): number => scene.harness.gateway.sessions().filter(({ state }) => state === 'Handshake').length;

test('INV-11: a thousand silent sockets from one address keep nobody else out', async () => {
  const idle = await idleSockets(scene.port, { from: ['127.0.0.1'], count: 1000 });
  assert.equal(halfOpen(), DEFAULT_PROCESS_LIMITS.halfOpenPerAddress);
  assert.ok((await honest()) < AT_ONCE_MS);
  idle.leave();
});

test('INV-11: nor do a thousand from many addresses that fill every place', async () => {
  const from = Array.from({ length: 20 }, (_, at) => `127.0.1.${at + 1}`);
  const idle = await idleSockets(scene.port, { from, count: 1000, words: 'SSH-2.0-Idle\r\n' });
  assert.equal(halfOpen(), DEFAULT_PROCESS_LIMITS.halfOpen);
  assert.ok((await honest()) < AT_ONCE_MS);
  assert.ok(halfOpen() <= DEFAULT_PROCESS_LIMITS.halfOpen);
  idle.leave();
});

test('INV-11: nor do those that have got as far as the login', async () => {
  const addresses = Array.from({ length: 4 }, (_, at) => `127.0.2.${at + 1}`);
  const count = DEFAULT_PROCESS_LIMITS.halfOpen;
  const raws: RawClient[] = [];
  for (let at = 0; at < count; at += 1) {
    const raw = await scene.connect(addresses[at % addresses.length]!);
    raw.transport.send(serviceRequest());
    raws.push(raw);
  }
  assert.ok((await honest()) < AT_ONCE_MS);
  for (const { transport } of raws) transport.destroy();
});
