// dsn: a DSN whose password is a ticket, for clients that somebody starts themselves.
import { TICKET_LIFETIME_MS } from '../../identity/tickets.ts';
import { gatewayUri } from '../clients/postgres.ts';
import { type Context, findConnection, nextCommand } from '../context.ts';
import { oauthDsn } from '../identity/oauth-dsn.ts';
import { CliError, EXIT, type ExitCode } from '../io.ts';
import { clockTime } from '../render.ts';
import { isClusterName } from './route.ts';
import { type ConnectOptions, findWay, type Way } from './way.ts';

export interface DsnOptions extends ConnectOptions {
  user?: string;
  /** SSH: a ticket to type. */
  ticket?: boolean;
  untilExpiry?: boolean;
  oauth?: boolean;
}

export async function dsn(context: Context, connectionName: string, options: DsnOptions): Promise<ExitCode> {
  const { io, client, actor } = context;
  const connection = await findConnection(context, connectionName);
  if (connection.spec.type === 'SSH') return (await import('./ssh.ts')).sshCommand(context, connection, options);
  if (options.user !== undefined || options.ticket === true)
    throw new CliError(EXIT.misconfigured, '--user and --ticket are for Connections of type SSH', 'Leave them out.');
  if (options.oauth === true) return oauthDsn(context, connection, options);
  const way = await findWay(context, connectionName, options);
  const { proof } = way;
  if (proof.kind === 'Token') {
    throw new CliError(
      EXIT.misconfigured,
      'A token of a login is not printed: it is good for more than this grant',
      `Use ${nextCommand(context, `connect ${way.connection.metadata.name} --listen`)}, or with psql 18: ${nextCommand(context, `dsn ${way.connection.metadata.name} --oauth`)}`,
    );
  }
  let lifetimeMs = TICKET_LIFETIME_MS;
  const endMs = Date.parse(way.grant.status?.expiresAt ?? '');
  if (options.untilExpiry) {
    const answer = await client.eligibility({
      actor,
      namespace: way.connection.metadata.namespace ?? 'default',
      connection: way.connection.metadata.name,
      ...(way.grant.status?.account ? { account: way.grant.status.account } : {}),
      ...(way.grant.status?.policy ? { policy: way.grant.status.policy.name } : {}),
    });
    if (answer.kind !== 'Eligible' || !answer.ticketUntilExpiry) {
      throw new CliError(
        EXIT.denied,
        `Policy ${way.grant.status?.policy?.name ?? ''} allows no ticket that lasts to the grant’s end`,
        `Use \`${nextCommand(context, `connect ${way.connection.metadata.name} --listen`)}\`, which makes one per login, or ask for session.ticketUntilExpiry.`,
      );
    }
    lifetimeMs = endMs - context.now();
  }
  lifetimeMs = Math.min(lifetimeMs, endMs - context.now());
  io.out(`${gatewayUri(way.target, proof.ticket(lifetimeMs))}\n`);
  io.err(
    `${whereFrom(context, way)}Good for logins until ${clockTime(new Date(context.now() + lifetimeMs).toISOString(), context.now())}. It is a password: keep it out of files and chats.\n`,
  );
  return EXIT.ok;
}

/** A name of the cluster's own DNS is of no use outside of it. */
function whereFrom(context: Context, way: Way): string {
  if (context.cluster === undefined || !isClusterName(way.target.host)) return '';
  return `${way.target.host} is a name for pods of the cluster. From elsewhere: ${nextCommand(context, `connect ${way.connection.metadata.name} --listen`, { namespace: way.connection.metadata.namespace })}\n`;
}
