// Who somebody is, once proven.

export interface Principal {
  /** Kubernetes spelling, provider prefix included. Never empty. */
  username: string;
  /** Immutable id, where the identity has one; absent for certificates, most OIDC, impersonation. */
  uid?: string;
  groups: readonly string[];
  /** Names the same person has elsewhere, as the provider's mapping says. */
  aliases: readonly string[];
  /**
   * The name by which the cluster's API server knows the same person. Only where the IdentityProvider repeats the API
   * server's own mapping; unlike an alias it may allow: a grant that was asked for under this name may be used.
   */
  kubernetes?: string;
  /** Proven claims of a workload's token, as text. Only Claim subjects look at them. */
  workload?: { provider: string; claims: Readonly<Record<string, string>> };
}
