// What consent is given to: SHA-256 over a statement's text, parameters, database and account. Pure; the same value is
// computed by whoever requests a grant with statements approved beforehand.
import { canonicalJson, sha256Hex } from '../../api/canonical.ts';

export interface HashedCommand {
  /** As sent, byte for byte. */
  text: string;
  /** Values as sent: text as it is, binary as `\x` and hex; null is NULL. */
  parameters: readonly (string | null)[];
  database: string;
  /** The Connection's name for the account. */
  account: string;
}

/** 64 hex digits. */
export function commandHash(command: HashedCommand): string {
  const { text, parameters, database, account } = command;
  return sha256Hex(canonicalJson({ text, parameters: [...parameters], database, account }));
}
