// How a PostgreSQL client is told where to go: libpq's environment and connection URI (PostgreSQL manual, 34.1 and 34.15).
import type { Connection } from '../../api/connection.ts';

export interface ClientTarget {
  /** Whose certificate is verified. */
  host: string;
  /** Where to dial instead of `host`: the near end of a tunnel. */
  address?: string;
  port: number;
  database: string;
  account: string;
  /** Path of the PEM file to verify the gateway with. */
  caFile: string;
}

export function targetOf(connection: Connection, account: string, caFile: string): ClientTarget | undefined {
  const endpoint = connection.status?.endpoint;
  if (endpoint === undefined) return undefined;
  return {
    host: endpoint.host,
    port: endpoint.port,
    database: connection.spec.postgresql?.databases?.[0] ?? 'postgres',
    account,
    caFile,
  };
}

/** What would lead a client elsewhere, or make it show something else than the ticket. */
const CLEARED = [
  'PGHOSTADDR',
  'PGSERVICE',
  'PGPASSFILE',
  'PGSSLCERT',
  'PGSSLKEY',
  'PGREQUIREAUTH',
  'PGCHANNELBINDING',
  'PGSSLNEGOTIATION',
];

export function clientEnvironment(
  base: Readonly<Record<string, string | undefined>>,
  target: ClientTarget,
  secret: { password: string } | { passFile: string },
): Record<string, string | undefined> {
  const environment: Record<string, string | undefined> = { ...base };
  for (const name of CLEARED) delete environment[name];
  if ('passFile' in secret) delete environment['PGPASSWORD'];
  return {
    ...environment,
    PGHOST: target.host,
    ...(target.address === undefined ? {} : { PGHOSTADDR: target.address }),
    PGPORT: String(target.port),
    PGSSLMODE: 'verify-full',
    PGSSLROOTCERT: target.caFile,
    PGGSSENCMODE: 'disable',
    PGDATABASE: target.database,
    PGUSER: target.account,
    ...('passFile' in secret ? { PGPASSFILE: secret.passFile } : { PGPASSWORD: secret.password }),
  };
}

export function gatewayUri(target: ClientTarget, password: string): string {
  const query = new URLSearchParams({ sslmode: 'verify-full', sslrootcert: target.caFile });
  return `postgresql://${encodeURIComponent(target.account)}:${encodeURIComponent(password)}@${target.host}:${target.port}/${encodeURIComponent(target.database)}?${query.toString()}`;
}

/** For libpq 18 with its device flow (PostgreSQL manual, 34.20): holds no secret; the client gets a token by itself. */
export function oauthUri(target: ClientTarget, provider: { issuer: string; clientId: string }): string {
  const query = new URLSearchParams({
    sslmode: 'verify-full',
    sslrootcert: target.caFile,
    require_auth: 'oauth',
    oauth_issuer: provider.issuer,
    oauth_client_id: provider.clientId,
  });
  return `postgresql://${encodeURIComponent(`${target.account}+oauth`)}@${target.host}:${target.port}/${encodeURIComponent(target.database)}?${query.toString()}`;
}

/** Of the loopback listener, which offers no TLS: bytes to it never leave the machine. */
export function listenerUri(target: ClientTarget, port: number, secret: string): string {
  return `postgresql://${encodeURIComponent(target.account)}:${secret}@127.0.0.1:${port}/${encodeURIComponent(target.database)}?sslmode=disable`;
}
