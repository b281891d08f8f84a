// What consent to an SSH command is given to. Pure; the same value is computed by whoever requests a grant with commands
// approved beforehand.
import { canonicalJson, sha256Hex } from '../../api/canonical.ts';
import type { ConnectionSpec } from '../../api/connection.ts';
import { SSH } from './facts.ts';

/**
 * What consent is given to: SHA-256 over kind, text, account, and the user where the account may be several of the
 * target's. 64 hex digits.
 */
export function sshCommandHash(of: { kind: string; text: string; account: string; user: string | undefined }): string {
  const { kind, text, account, user } = of;
  return sha256Hex(canonicalJson({ protocol: SSH, kind, text, account, ...(user === undefined ? {} : { user }) }));
}

/** The user that belongs into a hash: accounts with a Secret have but one. */
export function hashedUser(spec: ConnectionSpec, account: string, user?: string): string | undefined {
  const users = spec.accounts.find(({ name }) => name === account)?.certificate?.users;
  return users === undefined ? undefined : (user ?? users[0]);
}
