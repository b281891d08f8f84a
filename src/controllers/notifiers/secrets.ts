// The Secrets of notifiers, as they are handed in by whoever composes the process: from manifests of the directory in
// local mode, from the operator's own namespace in a cluster. Read anew for every use, never kept, never told.

export type SecretData = Readonly<Record<string, string>>;

/** Rejects with a sentence that holds no secret. */
export type ReadSecret = (namespace: string, name: string) => Promise<SecretData>;

/** Whether a Secret's list names this host, by equality: `host` or `host:port`. */
export function hostMissing(secret: SecretData, url: URL, secretName: string): string | undefined {
  const port = url.port === '' ? '443' : url.port;
  const hosts = (secret['sallyport-hosts'] ?? '').split(/\s+/).filter(Boolean);
  const listed = hosts.some((entry) =>
    [url.hostname, `${url.hostname}:${port}`].includes(entry.toLowerCase().replace(/\.$/, '')),
  );
  return listed
    ? undefined
    : `Secret ${secretName} does not list ${url.hostname} in its key sallyport-hosts, so it is not sent there; add it.`;
}
