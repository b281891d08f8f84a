// Accounts' credentials from the Secret manifests of the directory, read anew at every use: a rotated password counts at
// once, and none stays in memory here. What is remembered is where each Secret lies, by the identity of its file, so that
// a login reads that one document and no other.
// A Secret that is doubtful (written twice, in a broken document, without a password) is refused. That it is written
// twice counts once `look` was called, which whoever watches the directory does. Messages name files and keys, never
// values.
import fs from 'node:fs';
import { type Lines, type ParsedDocument, parseDocuments } from './documents.ts';
import { readText } from './loader.ts';
import { DEFAULT_NAMESPACE } from './read-document.ts';
import { type ScannedFile, scanDirectory, stampOf } from './scan.ts';

export type SecretCredential = {
  username: string;
  /** `host` or `host:port` it may be sent to. Empty: nowhere. */
  hosts: readonly string[];
} & ({ kind: 'Password'; password: string } | { kind: 'Key'; privateKey: string });

/** A Secret can not be had; the message says why and what to do, and holds no secret. */
export class CredentialUnavailable extends Error {
  override name = 'CredentialUnavailable';
}

export interface DirectoryCredentials {
  /** Every key of a Secret that is no account's, such as a notifier's. Rejects as `read` does. */
  readData(namespace: string, secretName: string): Promise<Readonly<Record<string, string>>>;
  read(connection: { namespace: string; name: string }, secretName: string): Promise<SecretCredential>;
}

export interface WatchedCredentials extends DirectoryCredentials {
  /** The directory may have changed: every file is to be looked at before the next use. */
  look(): void;
}

type Data = Readonly<Record<string, unknown>>;

/** A document in a file. */
interface Place {
  file: ScannedFile;
  lines: Lines;
}
interface FileIndex {
  /** By `namespace/name`. */
  secrets: ReadonlyMap<string, Place[]>;
  /** Documents that are no YAML and may have been meant as Secrets. */
  broken: readonly Place[];
}
type Index = ReadonlyMap<string, { stamp: string; index: FileIndex }>;

export function directoryCredentials(directory: string): WatchedCredentials {
  let index: Index = new Map();
  let current = false;
  const readNow = <T>(full: string, read: (places: readonly Place[], now: Index) => T): T => {
    const places = placesOf(index, full);
    // Of a file that changed, or a Secret that is not where it was, nothing that is remembered counts.
    if (!current || places.length === 0 || !places.every(isUnchanged)) {
      index = indexDirectory(directory, index);
      current = true;
    }
    return read(placesOf(index, full), index);
  };
  return {
    read: (connection, secretName) =>
      new Promise((resolve) =>
        resolve(
          readNow(`${connection.namespace}/${secretName}`, (places, now) =>
            readCredential(connection, secretName, places, now),
          ),
        ),
      ),
    readData: (namespace, secretName) =>
      new Promise((resolve) =>
        resolve(
          readNow(`${namespace}/${secretName}`, (places, now) => {
            const { value, keys } = openSecret(`${namespace}/${secretName}`, '', secretName, places, now);
            return Object.fromEntries(keys.map((key) => [key, value(key)]));
          }),
        ),
      ),
    look() {
      current = false;
    },
  };
}

/** Reads the files that are not in `known` as they are now. */
function indexDirectory(directory: string, known: Index): Index {
  const index = new Map<string, { stamp: string; index: FileIndex }>();
  for (const file of scanDirectory(directory).files) {
    const before = known.get(file.file);
    index.set(file.file, before?.stamp === file.stamp ? before : { stamp: file.stamp, index: indexFile(file) });
  }
  return index;
}

function indexFile(file: ScannedFile): FileIndex {
  const secrets = new Map<string, Place[]>();
  const broken: Place[] = [];
  const text = readText(file);
  if (typeof text !== 'string' || !text.includes('Secret')) return { secrets, broken };
  for (const document of parseDocuments(text)) {
    const place = { file, lines: document.lines };
    const name = secretIn(document)?.name;
    if (name !== undefined) secrets.set(name, [...(secrets.get(name) ?? []), place]);
    if (document.kind === 'Broken' && /^kind:\s*["']?Secret\b/m.test(document.text)) broken.push(place);
  }
  return { secrets, broken };
}

function placesOf(index: Index, name: string): Place[] {
  return [...index.values()].flatMap((file) => file.index.secrets.get(name) ?? []);
}

function isUnchanged({ file }: Place): boolean {
  try {
    return stampOf(fs.statSync(file.absolute, { bigint: true })) === file.stamp;
  } catch {
    return false;
  }
}

function secretIn(document: ParsedDocument | undefined): { name: string; secret: Data } | undefined {
  if (document?.kind !== 'Value') return undefined;
  const secret = asObject(document.value);
  const metadata = asObject(secret?.['metadata']);
  if (secret?.['kind'] !== 'Secret' || secret['apiVersion'] !== 'v1' || metadata === undefined) return undefined;
  const { name, namespace = DEFAULT_NAMESPACE } = metadata;
  return typeof name === 'string' && typeof namespace === 'string'
    ? { name: `${namespace}/${name}`, secret }
    : undefined;
}

function textAt({ file, lines }: Place): string {
  const text = readText(file);
  return typeof text === 'string'
    ? text
        .split('\n')
        .slice(lines.before, lines.before + lines.count)
        .join('\n')
    : '';
}

function readCredential(
  connection: { namespace: string; name: string },
  secretName: string,
  places: readonly Place[],
  index: Index,
): SecretCredential {
  const full = `${connection.namespace}/${secretName}`;
  const owner = ` of Connection ${connection.namespace}/${connection.name}`;
  const { value, keys, fail } = openSecret(full, owner, secretName, places, index);
  const username = value('username');
  const isKey = keys.includes('ssh-privatekey');
  if (isKey && keys.includes('password'))
    fail('has both password and ssh-privatekey, and which is meant can not be told; remove one');
  const secret = value(isKey ? 'ssh-privatekey' : 'password');
  if (isKey && secret.trim() === '') fail('has an empty ssh-privatekey');
  const hosts = value('sallyport-hosts').split(/\s+/).filter(Boolean);
  return isKey
    ? { kind: 'Key', username, privateKey: secret, hosts }
    : { kind: 'Password', username, password: secret, hosts };
}

/** `owner`: whose it is, for messages. */
function openSecret(
  full: string,
  owner: string,
  secretName: string,
  places: readonly Place[],
  index: Index,
): { keys: readonly string[]; value(key: string): string; fail(why: string): never } {
  const fail = (why: string): never => {
    throw new CredentialUnavailable(`Secret ${full}${owner} ${why}.`);
  };
  for (const broken of [...index.values()].flatMap((file) => file.index.broken)) {
    const text = textAt(broken);
    const [document] = text.includes(secretName) ? parseDocuments(text) : [];
    if (document?.kind !== 'Broken') continue;
    const line = broken.lines.before + document.position.line;
    fail(`may be in a document that is no YAML: ${broken.file.file}:${line}: ${document.message}`);
  }
  const [first, second] = places;
  if (first === undefined) return fail('is not in the directory; add it, or correct secretRef.name');
  if (second !== undefined) return fail(`is written twice, in ${first.file.file} and ${second.file.file}; remove one`);
  const found = secretIn(parseDocuments(textAt(first))[0]);
  if (found?.name !== full) return fail(`(${first.file.file}) is being changed just now; try again`);
  const inFile = (why: string): never => fail(`(${first.file.file}) ${why}`);
  return {
    fail: inFile,
    keys: Object.keys({ ...asObject(found.secret['data']), ...asObject(found.secret['stringData']) }),
    value: (key) => decode(found.secret, key, inFile),
  };
}

/** `stringData` wins over `data`, as an API server would have it. */
function decode(secret: Data, key: string, fail: (why: string) => never): string {
  const plain = asObject(secret['stringData'])?.[key];
  if (plain !== undefined)
    return typeof plain === 'string' ? plain : fail(`has a ${key} that is no text; put it in quotes`);
  const encoded = asObject(secret['data'])?.[key];
  if (encoded === undefined)
    return fail(`has no key "${key}"; its keys are username, password (or ssh-privatekey) and sallyport-hosts`);
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
