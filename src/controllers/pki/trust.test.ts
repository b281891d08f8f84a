import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import test from 'node:test';
import { proofKeyOf, publishedProofKey } from '../../identity/proof-encryption.ts';
import type { KubeClient } from '../../kube/client.ts';
import { signingKeyFromPem, type TrustedKey, trustedKeyOf } from '../../policy/bundle-signing.ts';
import { proofTermsOf, publishTrust, type TrustConfigMap } from './trust.ts';

const freshKey = (): { pem: string; trusted: TrustedKey } => {
  const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  return { pem, trusted: trustedKeyOf(signingKeyFromPem(pem)) };
};

/** One ConfigMap, or none. */
function server(stored?: TrustConfigMap): { client: KubeClient; read(): TrustConfigMap | undefined; writes(): number } {
  let writes = 0;
  const missing = { kind: 'Failed', status: 404, reason: 'NotFound', message: 'not found', details: undefined };
  const store = (_path: string, body: TrustConfigMap): Promise<unknown> => {
    writes += 1;
    stored = structuredClone(body);
    stored.metadata.resourceVersion = String(writes);
    return Promise.resolve({ kind: 'Ok', value: stored });
  };
  const get = (): Promise<unknown> => Promise.resolve(stored === undefined ? missing : { kind: 'Ok', value: stored });
  return {
    client: { get, create: store, replace: store } as unknown as KubeClient,
    read: () => stored,
    writes: () => writes,
  };
}

test('INV-07: the keys that still count are published, and nothing else', async () => {
  const [now, before] = [freshKey(), freshKey()];
  const { client, read, writes } = server();
  const publish = (trusted: TrustedKey[]): Promise<string> => publishTrust({ client, namespace: 'system', trusted });
  assert.equal(await publish([now.trusted, before.trusted]), 'Written');
  assert.deepEqual(Object.keys(read()!.data!).sort(), [now.trusted.keyId, before.trusted.keyId].sort());
  for (const raw of Object.values(read()!.data!)) assert.match(raw, /^[A-Za-z0-9_-]{43}$/);
  assert.equal(await publish([now.trusted, before.trusted]), 'Unchanged');
  assert.equal(writes(), 1);
  assert.equal(await publish([now.trusted]), 'Written');
  assert.deepEqual(Object.keys(read()!.data!), [now.trusted.keyId]);
});

test('what proofs are made for and encrypted to is published beside them, and follows the key', async () => {
  const { client, read, writes } = server();
  const [first, second] = [freshKey(), freshKey()];
  const publish = ({ pem, trusted }: ReturnType<typeof freshKey>, also: TrustedKey[] = []): Promise<string> =>
    publishTrust({
      client,
      namespace: 'system',
      trusted: [trusted, ...also],
      proofKey: publishedProofKey(proofKeyOf(signingKeyFromPem(pem))),
    });
  assert.equal(await publish(first), 'Written');
  assert.equal(proofTermsOf(read()!)?.cluster, first.trusted.keyId);
  assert.equal(proofTermsOf(read()!)?.key.kid, first.trusted.keyId);
  read()!.metadata.annotations!['theirs'] = 'kept';
  assert.equal(await publish(first), 'Unchanged');
  assert.equal(await publish(second, [first.trusted]), 'Written');
  assert.equal(proofTermsOf(read()!)?.key.kid, second.trusted.keyId);
  assert.equal(read()!.metadata.annotations!['theirs'], 'kept');
  assert.equal(writes(), 2);
  assert.ok(!JSON.stringify(read()).includes('"d"'));
  assert.equal(proofTermsOf({ ...read()!, metadata: { name: 'x', namespace: 'y' } }), undefined);
});

test('a ConfigMap that is somebody else’s is left alone', async () => {
  const theirs: TrustConfigMap = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'sallyport-trust', namespace: 'system' },
    data: { a: 'b' },
  };
  const { client, writes } = server(theirs);
  await assert.rejects(publishTrust({ client, namespace: 'system', trusted: [freshKey().trusted] }), /not Sallyport’s/);
  assert.equal(writes(), 0);
});
