// Logins on this machine: one file each, 0600 in a folder 0700, replaced whole, the tokens in it encrypted with a key from
// the system's keychain where there is one. A login belongs to one place (a cluster, a state folder, a portal): tokens
// that one cluster believes are never shown to another, which could use them at the first.
// Guarantees: nobody else can read a file that is used; a file for another place or provider is not taken for this one's
// (its name is a hash of both, and goes into the encryption); errors say nothing of what is in a file.
import { createCipheriv, createDecipheriv } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { sha256Hex } from '../../api/canonical.ts';
import { systemFiles, writeFileAtomically } from '../../system/files.ts';
import { systemRandom } from '../../system/random.ts';
import { CliError, EXIT, type Io } from '../io.ts';
import { type Keychain, systemKeychain } from './keychain.ts';
import type { NameRules } from './settings.ts';

/** Everything about a login that is no secret. */
export interface LoginFacts {
  /** `cluster https://…`, `local /…/state`, `portal https://…`. */
  place: string;
  /** IdentityProvider, where the settings came from one. */
  provider?: string;
  issuer: string;
  clientId: string;
  scope: string;
  caPem?: string;
  flow: 'Browser' | 'Device';
  /** As the tokens say, for people; nothing is decided by it here. */
  who: {
    uid: string;
    username: string;
    groups: string[] /** Name in the cluster, where the provider maps it. */;
    kubernetes?: string;
  };
  names: NameRules;
  loggedInAtMs: number;
}

export interface Tokens {
  access: string;
  refresh?: string;
  id?: string;
  /** Of the access token. */
  expiresAtMs: number;
  /** When it was handed out. */
  obtainedAtMs: number;
}

export interface Login extends LoginFacts {
  id: string;
  tokens: Tokens;
}

export interface LoginStore {
  folder: string;
  /** Facts of every login, without its tokens; files that can not be read are left out. */
  list(): (LoginFacts & { id: string; protectedBy: string })[];
  read(id: string): Promise<Login | undefined>;
  /** Resolves to who keeps the tokens, for people. */
  write(login: Omit<Login, 'id'>): Promise<{ id: string; keptIn: string }>;
  remove(id: string): Promise<void>;
}

interface StoredLogin extends LoginFacts {
  v: 1;
  tokens: { by: 'File'; plain: Tokens } | { by: 'Keychain'; iv: string; sealed: string };
}

export const loginId = (facts: Pick<LoginFacts, 'place' | 'issuer'>): string =>
  sha256Hex(JSON.stringify([facts.place, facts.issuer])).slice(0, 24);

const FILE_NAME = /^([0-9a-f]{24})\.json$/;
const LARGEST_FILE = 512 * 1024;

export function loginStore(
  home: string,
  io: Pick<Io, 'env' | 'err'>,
  keychain: Keychain | undefined = systemKeychain(io.env, process.platform, sha256Hex(path.resolve(home)).slice(0, 16)),
): LoginStore {
  const folder = path.join(home, 'logins');
  const fileOf = (id: string): string => path.join(folder, `${id}.json`);

  const open = (id: string): StoredLogin | undefined => {
    const text = readPrivate(fileOf(id));
    if (text === undefined) return undefined;
    let found: Partial<StoredLogin>;
    try {
      found = JSON.parse(text) as Partial<StoredLogin>;
    } catch {
      found = {};
    }
    if (found.v !== 1 || found.tokens === undefined || loginId(found as StoredLogin) !== id) {
      throw new CliError(
        EXIT.misconfigured,
        `${fileOf(id)} is no login of this version`,
        'Remove it and log in again.',
      );
    }
    return found as StoredLogin;
  };

  const keyFor = async (): Promise<Buffer | undefined> => {
    if (keychain === undefined) return undefined;
    try {
      const known = await keychain.load();
      if (known !== undefined) return known;
      const made = Buffer.from(systemRandom.bytes(32));
      await keychain.save(made);
      return made;
    } catch {
      return undefined;
    }
  };

  return {
    folder,
    list() {
      let names: string[];
      try {
        names = fs.readdirSync(folder);
      } catch {
        return [];
      }
      return names.flatMap((name) => {
        const id = FILE_NAME.exec(name)?.[1];
        if (id === undefined) return [];
        try {
          const found = open(id);
          if (found === undefined) return [];
          const { tokens, v: _version, ...facts } = found;
          return [{ ...facts, id, protectedBy: tokens.by === 'Keychain' ? 'the system’s keychain' : fileOf(id) }];
        } catch {
          return [];
        }
      });
    },
    async read(id) {
      const found = open(id);
      if (found === undefined) return undefined;
      const { tokens, v: _version, ...facts } = found;
      if (tokens.by === 'File') return { ...facts, id, tokens: tokens.plain };
      const key = await keychain?.load().catch(() => undefined);
      const plain = key === undefined ? undefined : unseal(id, key, tokens);
      if (plain === undefined) {
        throw new CliError(
          EXIT.denied,
          `The tokens of your login at ${facts.issuer} are locked: the keychain does not give their key`,
          'Unlock it, or log in again.',
        );
      }
      return { ...facts, id, tokens: plain };
    },
    async write(login) {
      const id = loginId(login);
      const { tokens, ...facts } = login;
      const key = await keyFor();
      const stored: StoredLogin = {
        v: 1,
        ...facts,
        tokens: key === undefined ? { by: 'File', plain: tokens } : { by: 'Keychain', ...seal(id, key, tokens) },
      };
      try {
        fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
        fs.chmodSync(folder, 0o700);
        writeFileAtomically(systemFiles, path.resolve(fileOf(id)), Buffer.from(JSON.stringify(stored)), 0o600);
      } catch (error) {
        throw new CliError(
          EXIT.misconfigured,
          `${folder} can not be written (${(error as NodeJS.ErrnoException).code ?? 'unknown'}), and logins are kept there`,
          'Set SALLYPORT_HOME to a folder that only you can read.',
        );
      }
      return { id, keptIn: key === undefined ? `${fileOf(id)} (0600)` : (keychain?.name ?? '') };
    },
    async remove(id) {
      fs.rmSync(fileOf(id), { force: true });
      if (!fs.existsSync(folder) || fs.readdirSync(folder).every((name) => !FILE_NAME.test(name))) {
        await keychain?.remove().catch(() => undefined);
      }
    },
  };
}

/** undefined: there is none. Throws where others could have read or written it. */
function readPrivate(file: string): string | undefined {
  let fd: number;
  try {
    fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new CliError(EXIT.misconfigured, `${file} can not be opened`, 'Remove it and log in again.');
  }
  try {
    const { mode, size, uid } = fs.fstatSync(fd);
    const foreign = process.getuid !== undefined && uid !== process.getuid();
    if (process.platform !== 'win32' && ((mode & 0o077) !== 0 || foreign)) {
      throw new CliError(
        EXIT.misconfigured,
        `${file} can be read by others: what is in it counts as stolen`,
        'Remove it, log in again, and have the old login ended at the identity provider.',
      );
    }
    if (size > LARGEST_FILE) throw new CliError(EXIT.misconfigured, `${file} is no login`, 'Remove it.');
    return fs.readFileSync(fd, 'utf8');
  } finally {
    fs.closeSync(fd);
  }
}

const TAG_BYTES = 16;

function seal(id: string, key: Buffer, tokens: Tokens): { iv: string; sealed: string } {
  const iv = Buffer.from(systemRandom.bytes(12));
  const cipher = createCipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(id));
  const sealed = Buffer.concat([cipher.update(JSON.stringify(tokens), 'utf8'), cipher.final(), cipher.getAuthTag()]);
  return { iv: iv.toString('base64'), sealed: sealed.toString('base64') };
}

function unseal(id: string, key: Buffer, stored: { iv: string; sealed: string }): Tokens | undefined {
  try {
    const bytes = Buffer.from(stored.sealed, 'base64');
    const decipher = createDecipheriv('aes-256-gcm', key, Buffer.from(stored.iv, 'base64'), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(Buffer.from(id));
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
    const plain = Buffer.concat([decipher.update(bytes.subarray(0, -TAG_BYTES)), decipher.final()]);
    return JSON.parse(plain.toString('utf8')) as Tokens;
  } catch {
    return undefined;
  }
}
