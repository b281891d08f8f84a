// The targets' credentials, from Secrets that are mounted as files: /credentials/<secret>/{username, password or
// ssh-privatekey, sallyport-hosts}. Read at each use, so that a rotated one counts at the next login; nothing is kept in memory here.
// Guarantees: all are of one version of the Secret where a kubelet or CSI driver swaps `..data`; messages name
// the Secret and the key, never a value (INV-05).
import { open, readlink, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Credential, CredentialSource } from '../protocols/credential.ts';

/** A credential can not be had; the message says why and what to do, and holds no secret. */
export class CredentialUnavailable extends Error {
  override name = 'CredentialUnavailable';
}

export interface MountedCredentials extends CredentialSource {
  /** Changes whenever what is mounted does; `-` where nothing is. */
  version(secretName: string): Promise<string>;
}

export const CREDENTIALS_FOLDER = '/credentials';
const KEYS = ['username', 'password', 'ssh-privatekey', 'sallyport-hosts'] as const;
type Key = (typeof KEYS)[number];
/** More is no password. */
const LONGEST = 64 * 1024;
/** RFC 1123 subdomain, so never a path. */
const SECRET_NAME = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/;
/** A kubelet swaps a folder in milliseconds; three misses in a row are no coincidence. */
const TRIES = 3;

export function mountedCredentials(root: string = CREDENTIALS_FOLDER): MountedCredentials {
  return {
    async read(connection, secretName) {
      const where = `Secret ${connection.namespace}/${secretName} of Connection ${connection.namespace}/${connection.name}`;
      const fail = (why: string): never => {
        throw new CredentialUnavailable(`${where} ${why}.`);
      };
      if (secretName.length > 253 || !SECRET_NAME.test(secretName)) return fail('has a name that no Secret can have');
      const folder = path.join(root, secretName);
      for (let attempt = 1; ; attempt += 1) {
        const version = await versionOf(folder);
        const values = await readAll(version === '-' ? folder : path.join(folder, version), fail);
        // Swapped in between: what was read may be half old and half new.
        if ((await versionOf(folder)) === version) return credentialOf(values, fail);
        if (attempt === TRIES) return fail('keeps changing while it is read; try again');
      }
    },
    async version(secretName) {
      if (!SECRET_NAME.test(secretName)) return '-';
      const folder = path.join(root, secretName);
      const swapped = await versionOf(folder);
      if (swapped !== '-') return swapped;
      const stamps = await Promise.all(KEYS.map((key) => stamp(path.join(folder, key))));
      return stamps.join(' ');
    },
  };
}

/** Where `..data` points to; `-` where there is none (plain files). */
async function versionOf(folder: string): Promise<string> {
  try {
    const target = await readlink(path.join(folder, '..data'));
    // A kubelet's own are plain names; anything else is followed by the file system, not by us.
    return target.includes('/') ? '..data' : target;
  } catch {
    return '-';
  }
}

async function stamp(file: string): Promise<string> {
  try {
    const { ino, mtimeMs, size } = await stat(file);
    return `${ino}:${mtimeMs}:${size}`;
  } catch {
    return '-';
  }
}

type Fail = (why: string) => never;

async function readAll(folder: string, fail: Fail): Promise<Map<Key, Buffer>> {
  const values = new Map<Key, Buffer>();
  for (const key of KEYS) {
    let file: Awaited<ReturnType<typeof open>> | undefined;
    try {
      file = await open(path.join(folder, key), 'r');
      const bytes = Buffer.alloc(LONGEST + 1);
      const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
      if (bytesRead > LONGEST) fail(`has a ${key} of more than ${LONGEST} bytes`);
      values.set(key, bytes.subarray(0, bytesRead));
    } catch (error) {
      if (error instanceof CredentialUnavailable) throw error;
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT' && code !== 'ENOTDIR') fail(`has a ${key} that can not be read (${code ?? 'no reason'})`);
    } finally {
      await file?.close();
    }
  }
  return values;
}

function credentialOf(values: ReadonlyMap<Key, Buffer>, fail: Fail): Credential {
  if (values.size === 0)
    return fail('is not mounted: create it, or correct secretRef.name; a kubelet takes about a minute to bring it');
  const text = (key: Key): string => {
    const bytes = values.get(key);
    if (bytes === undefined)
      return fail(`has no key "${key}"; its keys are username, password (or ssh-privatekey) and sallyport-hosts`);
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return fail(`has a ${key} that is not UTF-8`);
    }
  };
  const line = (key: Key): string => {
    const value = text(key);
    if (value === '') return fail(`has an empty ${key}`);
    if (/[\r\n]$/.test(value))
      return fail(`has a ${key} that ends with a line break; make it with printf instead of echo, or --from-literal`);
    return value;
  };
  const username = line('username');
  if (values.has('ssh-privatekey') && values.has('password'))
    return fail('has both password and ssh-privatekey, and which is meant can not be told; remove one');
  if (!values.has('ssh-privatekey'))
    return { kind: 'Password', username, password: line('password'), hosts: hostsIn(text('sallyport-hosts')) };
  const privateKey = text('ssh-privatekey');
  if (privateKey.trim() === '') return fail('has an empty ssh-privatekey');
  return { kind: 'Key', username, privateKey, hosts: hostsIn(text('sallyport-hosts')) };
}

const hostsIn = (text: string): string[] => text.split(/\s+/).filter(Boolean);
