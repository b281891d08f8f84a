// Keys as SSH spells them. `blob` is always the wire form (RFC 4253, 6.6; RFC 5656; RFC 8709; PROTOCOL.u2f).

/** Signature algorithms that are known here. SHA-1 and DSA are not. */
export type SignatureAlgorithm =
  | 'ssh-ed25519'
  | 'ecdsa-sha2-nistp256'
  | 'ecdsa-sha2-nistp384'
  | 'ecdsa-sha2-nistp521'
  | 'rsa-sha2-256'
  | 'rsa-sha2-512'
  | 'sk-ssh-ed25519@openssh.com'
  | 'sk-ecdsa-sha2-nistp256@openssh.com';

/** Makes signatures by one private key, which never leaves it. */
export interface Signer {
  /** Public key, or a certificate for it: what the peer is shown. */
  readonly blob: Buffer;
  /** Names a peer may be offered, best first: `rsa-sha2-512`, or `ssh-ed25519-cert-v01@openssh.com` for a certificate. */
  readonly algorithms: readonly string[];
  /** A signature blob (algorithm name, signature) over `data`. */
  sign(data: Buffer, algorithm: string): Buffer;
}
