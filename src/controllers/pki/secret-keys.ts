// The operator's keys in a cluster: one Secret in its own namespace, made by the first replica that comes up. Every
// replica reads the same; whoever loses the race to create it takes what is there. Guarantees: keys are never replaced
// here, a Secret that can not be read is an error and no reason to make new ones (that would void every seal).
import { generateKeyPairSync } from 'node:crypto';
import type { KubeClient } from '../../kube/client.ts';
import { type SigningKey, signingKeyFromPem, type TrustedKey, trustedKeyOf } from '../../policy/bundle-signing.ts';
import type { Clock } from '../../system/clock.ts';
import type { Random } from '../../system/random.ts';
import { type AuthorityKeys, makeAuthorityKeys } from './authority.ts';

export const KEYS_SECRET = 'sallyport-keys';

export interface OperatorKeys {
  key: SigningKey;
  /** Keys of an earlier time whose seals still count, while they are rotated out. */
  alsoTrusted: TrustedKey[];
  authority: AuthorityKeys;
}

interface Secret {
  apiVersion: 'v1';
  kind: 'Secret';
  metadata: { name: string; namespace: string; labels?: Record<string, string> };
  type: string;
  data: Record<string, string>;
}

const encode = (text: string): string => Buffer.from(text).toString('base64');
const decode = (text: string): string => Buffer.from(text, 'base64').toString('utf8');

/** Throws where the Secret can neither be read nor made, or holds something else. */
export async function loadSecretKeys(options: {
  client: KubeClient;
  namespace: string;
  clock: Clock;
  random: Random;
}): Promise<OperatorKeys> {
  const { client, namespace } = options;
  const path = `/api/v1/namespaces/${namespace}/secrets`;
  const found = await client.get<Secret>(`${path}/${KEYS_SECRET}`);
  if (found.kind === 'Ok') return keysOf(found.value);
  if (found.status !== 404) throw new Error(`Secret ${namespace}/${KEYS_SECRET} can not be read: ${found.message}`);
  const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const authority = await makeAuthorityKeys('Sallyport CA', options);
  const made = await client.create<Secret>(path, {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: KEYS_SECRET, namespace, labels: { 'app.kubernetes.io/managed-by': 'sallyport' } },
    type: 'sallyport.dev/keys',
    data: { 'operator.pem': encode(pem), 'ca-key.pem': encode(authority.key), 'ca.pem': encode(authority.cert) },
  });
  if (made.kind === 'Ok') return keysOf(made.value);
  if (made.status !== 409) throw new Error(`Secret ${namespace}/${KEYS_SECRET} can not be made: ${made.message}`);
  const theirs = await client.get<Secret>(`${path}/${KEYS_SECRET}`);
  if (theirs.kind !== 'Ok') throw new Error(`Secret ${namespace}/${KEYS_SECRET} can not be read: ${theirs.message}`);
  return keysOf(theirs.value);
}

function keysOf(secret: Secret): OperatorKeys {
  const member = (name: string): string => {
    const value = secret.data?.[name];
    if (value === undefined)
      throw new Error(`Secret ${secret.metadata.namespace}/${KEYS_SECRET} has no ${name}. Restore it from its backup.`);
    return decode(value);
  };
  const previous = Object.keys(secret.data ?? {}).filter((name) => /^previous-.*\.pem$/.test(name));
  const key = signingKeyFromPem(member('operator.pem'));
  if (key.privateKey.asymmetricKeyType !== 'ed25519')
    throw new Error(`operator.pem in Secret ${KEYS_SECRET} is no Ed25519 key`);
  return {
    key,
    alsoTrusted: previous.map((name) => trustedKeyOf(signingKeyFromPem(member(name)))),
    authority: { key: member('ca-key.pem'), cert: member('ca.pem') },
  };
}
