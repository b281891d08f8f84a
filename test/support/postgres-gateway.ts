// A real PostgreSQL with a small schema, and gateways in front of it, for tests of the protocol.
import type { ConnectionSpec } from '../../src/api/connection.ts';
import type { SessionPolicy } from '../../src/policy/session-policy.ts';
import { createPostgresProtocol } from '../../src/protocols/postgres/protocol.ts';
import type { Limits } from '../../src/protocols/protocol.ts';
import { type PostgresServer, startPostgres } from './postgres.ts';
import { startTestGateway, type TestGateway, transparentPolicy } from './session-context.ts';

export const SCHEMA = `
create role writer login password 'writer-secret';
create table orders (id int primary key, state text not null default 'new');
insert into orders select i from generate_series(1, 100) i;
create table deferred (id int primary key, parent int references orders deferrable initially deferred);
create table scratch (id int, note text);
grant all on all tables in schema public to writer;
grant create on schema public to writer;
`;

/** A server whose account needs no password, so that raw clients may talk to it directly as well. */
export function startTarget(major: 15 | 18, trust = true): Promise<PostgresServer> {
  return startPostgres({ major, setup: SCHEMA, ...(trust ? { auth: 'trust' as const } : {}) });
}

export function gatewayFor(
  server: PostgresServer,
  options: {
    policy?: SessionPolicy;
    limits?: Partial<Limits>;
    tls?: boolean;
    target?: Partial<NonNullable<ConnectionSpec['postgresql']>>;
  } = {},
): Promise<TestGateway> {
  return startTestGateway({
    protocol: createPostgresProtocol(),
    spec: {
      type: 'PostgreSQL',
      postgresql: {
        host: '127.0.0.1',
        port: server.port,
        tls: { ca: server.ca },
        insecureAuthentication: ['Trust'],
        insecureClients: options.tls !== true,
        ...options.target,
      },
      accounts: [{ name: 'writer', secretRef: { name: 'orders-db-writer' } }],
    },
    credential: { kind: 'Password', username: 'writer', password: 'writer-secret', hosts: ['127.0.0.1'] },
    policy: options.policy ?? transparentPolicy(),
    insecure: options.tls !== true,
    ...(options.limits === undefined ? {} : { limits: options.limits }),
  });
}
