// A target's service credential. It exists in the proxy's memory only: never in a record, log, error or API object.

export interface Credential {
  username: string;
  password: string;
  /** `host` or `host:port` it may be sent to; checked before dialling. Empty: nowhere. */
  hosts: readonly string[];
}

/** Reads an account's credential at the moment of use, so that rotation needs no restart. Rejects with a message that holds no secret. */
export interface CredentialSource {
  read(connection: { namespace: string; name: string }, secretName: string): Promise<Credential>;
}
