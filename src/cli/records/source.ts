// What the verbs about records share: the folder they read, whose keys they trust, and how times are given.
import { createPublicKey } from 'node:crypto';
import fs from 'node:fs';
import { parseDuration } from '../../api/duration.ts';
import { keyIdOf, type TrustedKey } from '../../policy/bundle-signing.ts';
import { publicKeyFromRaw } from '../../recording/signer.ts';
import { NotARecordFolder, type StoreView, viewRecords } from '../../recording/store-view.ts';
import { CliError, EXIT } from '../io.ts';
import { jsonText, yamlText } from '../render.ts';

export interface RecordsDeps {
  /** The record folder: `records` in the state folder. */
  folder: string;
  /** Milliseconds since 1970. */
  now(): number;
  /** Controller keys to trust; absent: those that the folder names itself. */
  roots?: readonly TrustedKey[];
  headsPath?: string;
  /** Reading records is access too: told before anything is shown. Rejects to forbid. */
  noteRead?(act: {
    act: string;
    object: { kind: string; name: string };
    details?: Readonly<Record<string, unknown>>;
  }): Promise<void>;
}

/** Throws CliError with what to do if there are no records there. */
export function openRecords(deps: RecordsDeps): StoreView {
  try {
    return viewRecords(deps.folder, {
      ...(deps.roots === undefined ? {} : { roots: deps.roots }),
      ...(deps.headsPath === undefined ? {} : { headsPath: deps.headsPath }),
    });
  } catch (error) {
    if (error instanceof NotARecordFolder) {
      throw new CliError(
        EXIT.misconfigured,
        error.message,
        'Name the state folder with --state, or the record folder itself.',
        { cause: error },
      );
    }
    throw error;
  }
}

/** `24h` back from now, or a date or time; as records spell times. */
export function sinceTime(text: string | undefined, nowMs: number): string | undefined {
  if (text === undefined) return undefined;
  const back = parseDuration(text) ?? (/^[0-9]{1,5}d$/.test(text) ? Number(text.slice(0, -1)) * 86_400_000 : undefined);
  const at = back === undefined ? Date.parse(text) : nowMs - back;
  if (Number.isNaN(at)) {
    throw new CliError(
      EXIT.misconfigured,
      `--since ${text} is neither a length of time nor a date`,
      'Write 24h, 30d, 2026-01-31 or 2026-01-31T12:00:00Z.',
    );
  }
  return new Date(at).toISOString();
}

/** A root key given by hand: 43 characters of base64url, or a PEM file. */
export function rootKey(text: string): TrustedKey {
  let key = publicKeyFromRaw(text);
  if (key === undefined) {
    try {
      key = createPublicKey(fs.readFileSync(text));
    } catch (error) {
      throw new CliError(
        EXIT.misconfigured,
        `--root ${text} is no Ed25519 public key and no PEM file of one`,
        undefined,
        { cause: error },
      );
    }
  }
  if (key.asymmetricKeyType !== 'ed25519') throw new CliError(EXIT.misconfigured, `--root ${text} is no Ed25519 key`);
  return { keyId: keyIdOf(key), publicKey: key };
}

export type Form = 'table' | 'wide' | 'json' | 'yaml' | 'name';

/** One JSON document a line, or YAML documents; undefined where people read. */
export function machine(form: Form | undefined, value: unknown): string | undefined {
  if (form === 'json') return `${jsonText(value)}\n`;
  if (form === 'yaml') return `---\n${yamlText(value)}`;
  return undefined;
}

/** One List document, as other verbs print theirs, written item by item: it may be long. Unfinished JSON says that it was cut. */
export function jsonList(out: (text: string) => void): { add(item: unknown): void; end(): void } {
  let before = '{"apiVersion":"v1","kind":"List","items":[\n';
  return {
    add(item) {
      out(`${before}${jsonText(item)}`);
      before = ',\n';
    },
    end: () => out(before.startsWith('{') ? `${before}]}\n` : '\n]}\n'),
  };
}

/** Tells once that something could not be relied on. */
export function problemTeller(err: (text: string) => void): {
  tell(problem: { piece: string; message: string }): void;
  readonly count: number;
} {
  let count = 0;
  return {
    tell({ piece, message }) {
      count += 1;
      if (count <= 10) err(`${piece}: ${message}\n`);
      if (count === 10) err('… more is not told; run verify.\n');
    },
    get count() {
      return count;
    },
  };
}
