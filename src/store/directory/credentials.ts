// Accounts' credentials from the Secret manifests of the directory, read anew at every use: a rotated password counts at
// once, and none stays in memory here. A Secret that is doubtful (written twice, in a broken document, without a
// password) is refused. Messages name files and keys, never values.
import { parseDocuments } from './documents.ts';
import { readText } from './loader.ts';
import { DEFAULT_NAMESPACE } from './read-document.ts';
import { scanDirectory } from './scan.ts';

export interface SecretCredential {
  username: string;
  password: string;
  /** `host` or `host:port` it may be sent to. Empty: nowhere. */
  hosts: readonly string[];
}

/** A Secret can not be had; the message says why and what to do, and holds no secret. */
export class CredentialUnavailable extends Error {
  override name = 'CredentialUnavailable';
}

export interface DirectoryCredentials {
  read(connection: { namespace: string; name: string }, secretName: string): Promise<SecretCredential>;
}

type Data = Readonly<Record<string, unknown>>;

export function directoryCredentials(directory: string): DirectoryCredentials {
  return {
    read: (connection, secretName) =>
      new Promise((resolve) => {
        resolve(readCredential(directory, connection, secretName));
      }),
  };
}

function readCredential(
  directory: string,
  connection: { namespace: string; name: string },
  secretName: string,
): SecretCredential {
  const full = `${connection.namespace}/${secretName}`;
  const fail = (why: string): never => {
    throw new CredentialUnavailable(`Secret ${full} of Connection ${connection.namespace}/${connection.name} ${why}.`);
  };
  const found: { file: string; secret: Data }[] = [];
  for (const file of scanDirectory(directory).files) {
    const text = readText(file);
    if (typeof text !== 'string' || !text.includes(secretName)) continue;
    for (const document of parseDocuments(text)) {
      if (document.kind === 'Broken') {
        if (/^kind:\s*["']?Secret\b/m.test(document.text) && document.text.includes(secretName)) {
          fail(`may be in a document that is no YAML: ${file.file}:${document.position.line}: ${document.message}`);
        }
        continue;
      }
      const secret = asObject(document.value);
      const metadata = asObject(secret?.['metadata']);
      if (secret?.['kind'] !== 'Secret' || secret['apiVersion'] !== 'v1' || metadata === undefined) continue;
      if (metadata['name'] !== secretName) continue;
      if ((metadata['namespace'] ?? DEFAULT_NAMESPACE) !== connection.namespace) continue;
      found.push({ file: file.file, secret });
    }
  }
  const [first, second] = found;
  if (first === undefined) return fail('is not in the directory; add it, or correct secretRef.name');
  if (second !== undefined) return fail(`is written twice, in ${first.file} and ${second.file}; remove one`);
  const value = (key: string): string => decode(first.secret, key, (why) => fail(`(${first.file}) ${why}`));
  const username = value('username');
  const password = value('password');
  const hosts = value('sallyport-hosts').split(/\s+/).filter(Boolean);
  return { username, password, hosts };
}

/** `stringData` wins over `data`, as an API server would have it. */
function decode(secret: Data, key: string, fail: (why: string) => never): string {
  const plain = asObject(secret['stringData'])?.[key];
  if (plain !== undefined)
    return typeof plain === 'string' ? plain : fail(`has a ${key} that is no text; put it in quotes`);
  const encoded = asObject(secret['data'])?.[key];
  if (encoded === undefined) return fail(`has no key "${key}"; its keys are username, password and sallyport-hosts`);
  if (typeof encoded !== 'string') return fail(`has a ${key} that is no text; put it in quotes`);
  const compact = encoded.replace(/\s+/g, '');
  const bytes = Buffer.from(compact, 'base64');
  if (bytes.toString('base64') !== compact)
    return fail(`has a ${key} in data that is no base64; use stringData for plain text`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return fail(`has a ${key} that is not UTF-8`);
  }
}

function asObject(value: unknown): Data | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Data) : undefined;
}
