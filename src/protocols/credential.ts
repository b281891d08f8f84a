// A target's service credential. It exists in the proxy's memory only: never in a record, log, error or API object.
import type { ConnectionSpec } from '../api/connection.ts';

export type Credential =
  | (AtHosts & { kind: 'Password'; username: string; password: string })
  /** A private key: PEM or OpenSSH's own form, without a passphrase. */
  | (AtHosts & { kind: 'Key'; username: string; privateKey: string })
  /**
   * No secret of the target's at all: it trusts an authority, whose key comes from the Connection's own
   * (`ConnectionKeys.seed`). Proves any of these users.
   */
  | { kind: 'Authority'; users: readonly string[] };

interface AtHosts {
  /** `host` or `host:port` it may be sent to; checked before dialling. Empty: nowhere. */
  hosts: readonly string[];
}

/** Where it may be sent: an authority's certificates are worth nothing to whoever is not the target. */
export function hostsOf(credential: Credential, target: { host: string; port: number }): readonly string[] {
  return credential.kind === 'Authority' ? [`${target.host}:${target.port}`] : credential.hosts;
}

/** An account's credential. Rejects as CredentialSource does. */
export async function credentialOf(
  source: CredentialSource,
  connection: { namespace: string; name: string },
  account: ConnectionSpec['accounts'][number],
): Promise<Credential> {
  const { secretRef, certificate } = account;
  if (secretRef !== undefined) return await source.read(connection, secretRef.name);
  if (certificate !== undefined) return { kind: 'Authority', users: certificate.users };
  throw new Error(`account ${account.name} has neither secretRef nor certificate`);
}

/** Reads an account's credential at the moment of use, so that rotation needs no restart. Rejects with a message that holds no secret. */
export interface CredentialSource {
  read(connection: { namespace: string; name: string }, secretName: string): Promise<Credential>;
}
