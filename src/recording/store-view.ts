// A record folder as readers see it, whether a process writes to it or not. The live files are opened before anything
// else is looked at: a file that is sealed and deleted meanwhile stays readable, so no record falls between the two.
import fs from 'node:fs';
import type { TrustedKey } from '../policy/bundle-signing.ts';
import { type Keyring, keyringOf, parseKeysFile } from './keyring.ts';
import {
  HEADS_FILE,
  isDateFolder,
  KEYS_FILE,
  LIVE_FOLDER,
  liveFileName,
  liveFileNumber,
  SEALED_FOLDER,
} from './layout.ts';
import type { KeysFile } from './signer.ts';

export class NotARecordFolder extends Error {
  constructor(folder: string, reason: string) {
    super(`${folder} is no record folder: ${reason}`);
    this.name = 'NotARecordFolder';
  }
}

export interface ViewOptions {
  /** Controller keys to trust. Absent: those that `keys.json` names, which only shows that the folder agrees with itself. */
  roots?: readonly TrustedKey[];
  /** Where the heads are, if not in the folder. */
  headsPath?: string;
}

export interface StoreView extends Disposable {
  readonly folder: string;
  readonly headsPath: string;
  readonly keysFile: KeysFile & { rootKeys: TrustedKey[] };
  readonly keysBytes: Buffer;
  readonly roots: readonly TrustedKey[];
  readonly pinned: boolean;
  readonly keys: Keyring;
  /** Open live files, oldest first. */
  readonly live: readonly { number: number; name: string; fd: number }[];
}

/** Throws NotARecordFolder, or Node's error. Dispose of it: it holds files open. */
export function viewRecords(folder: string, options: ViewOptions = {}): StoreView {
  const root = folder.replace(/\/+$/, '') || '/';
  const live = openLive(root);
  try {
    let keysBytes: Buffer;
    try {
      keysBytes = fs.readFileSync(`${root}/${KEYS_FILE}`);
    } catch {
      throw new NotARecordFolder(root, `it holds no ${KEYS_FILE}`);
    }
    const keysFile = parseKeysFile(keysBytes);
    if (keysFile === undefined) throw new NotARecordFolder(root, `its ${KEYS_FILE} is damaged`);
    const roots = options.roots ?? keysFile.rootKeys;
    return {
      folder: root,
      headsPath: options.headsPath ?? `${root}/${HEADS_FILE}`,
      keysFile,
      keysBytes,
      roots,
      pinned: options.roots !== undefined,
      keys: keyringOf(keysFile.certificates, roots),
      live,
      [Symbol.dispose]: () => closeAll(live),
    };
  } catch (error) {
    closeAll(live);
    throw error;
  }
}

function closeAll(live: readonly { fd: number }[]): void {
  for (const { fd } of live) fs.closeSync(fd);
}

function openLive(folder: string): { number: number; name: string; fd: number }[] {
  const open: { number: number; name: string; fd: number }[] = [];
  const numbers = listNames(`${folder}/${LIVE_FOLDER}`)
    .map(liveFileNumber)
    .filter((number) => number !== undefined)
    .sort((a, b) => a - b);
  for (const number of numbers) {
    const name = liveFileName(number);
    try {
      open.push({ number, name, fd: fs.openSync(`${folder}/${name}`, 'r') });
    } catch (error) {
      // Sealed and deleted since it was listed: its records are in the segments by now.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return open;
}

/** Sorted; empty if there is no such folder. */
export function listNames(path: string): string[] {
  try {
    return fs.readdirSync(path).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** Date folders of sealed segments, oldest first. */
export function sealedDates(folder: string): string[] {
  return listNames(`${folder}/${SEALED_FOLDER}`).filter(isDateFolder);
}
