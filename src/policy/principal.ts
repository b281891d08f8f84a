// Who somebody is, once proven.

export interface Principal {
  /** Kubernetes spelling, provider prefix included. Never empty. */
  username: string;
  /** Immutable id, where the identity has one; absent for certificates, most OIDC, impersonation. */
  uid?: string;
  groups: readonly string[];
  /** Names the same person has elsewhere, as the provider's mapping says. */
  aliases: readonly string[];
}
