// connect: starts a client with a fresh ticket by the grant's key, or with the token of a login where the grant is that
// person's and its key is not here.
import { clientEnvironment } from '../clients/postgres.ts';
import { spawnClient } from '../clients/spawn.ts';
import { type Context, findConnection, nextCommand } from '../context.ts';
import { openPassFile } from '../identity/passfile.ts';
import { CliError, EXIT, type ExitCode } from '../io.ts';
import { listen } from './listen.ts';
import { openRoute, type Route } from './route.ts';
import { type ConnectOptions, findWay, keepProven, passwordOf, type Way } from './way.ts';

export async function connect(
  context: Context,
  connectionName: string,
  options: ConnectOptions & { user?: string },
): Promise<ExitCode> {
  const connection = await findConnection(context, connectionName);
  if (connection.spec.type === 'SSH') return (await import('./ssh.ts')).connectSsh(context, connection, options);
  if (options.user !== undefined) {
    throw new CliError(EXIT.misconfigured, '--user is for Connections of type SSH', 'Leave it out; --account chooses.');
  }
  const way = await findWay(context, connectionName, options);
  if (options.listen !== undefined && options.listen !== false) return listen(context, way, options);
  const command = options.command !== undefined && options.command.length > 0 ? options.command : ['psql'];
  await using route = await openRoute(context, way.connection, way.target, options);
  return await runClient(context, way, route, command);
}

/** By a ticket in the environment of the client alone, or by a token in a file of its own. */
async function runClient(context: Context, way: Way, route: Route, command: readonly string[]): Promise<ExitCode> {
  const target = { ...way.target, ...route.to };
  const { env } = context.io;
  const password = await passwordOf(way, context.io.signal);
  const file = way.proof.kind === 'Token' ? openPassFile(context.home, env, target, password) : undefined;
  const secret = file === undefined ? { password } : { passFile: file.path };
  const over = new AbortController();
  const proven = keepProven(
    context,
    () => way,
    route,
    over.signal,
    (token) => file?.replace(token),
  );
  try {
    return await spawnClient(
      command,
      clientEnvironment(env, target, secret),
      `Install it, or use another client: ${nextCommand(context, `dsn ${way.connection.metadata.name}`)}`,
    );
  } finally {
    over.abort();
    await proven;
    file?.remove();
  }
}
