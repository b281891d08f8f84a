// kill, lock, unlock: what ends sessions at once.

import type { Connection } from '../../api/connection.ts';
import { parseDuration } from '../../api/duration.ts';
import { API_GROUP_VERSION } from '../../api/group.ts';
import type { AccessLock, AccessLockSpec } from '../../api/lock.ts';
import { type Context, findConnection, nextCommand } from '../context.ts';
import { CliError, EXIT, type ExitCode } from '../io.ts';

export async function kill(context: Context, ids: readonly string[]): Promise<ExitCode> {
  const missing: string[] = [];
  for (const id of ids) {
    if (await context.client.kill(context.actor, id)) {
      context.io.out(`Session ${id} was cut.\n`);
    } else {
      missing.push(id);
    }
  }
  if (missing.length === 0) return EXIT.ok;
  const see = `See them with: ${nextCommand(context, 'sessions')}`;
  throw new CliError(
    EXIT.failed,
    `There is no session ${missing.join(', ')}`,
    context.cluster === undefined ? see : `${see}\n${youngSession(context)}`,
  );
}

/** The API knows sessions once they have lasted 5 s; their grant ends them at any age. */
const youngSession = (context: Context): string =>
  `A session is listed once it is 5 s old. One that is younger ends with its grant: ${nextCommand(context, 'revoke GRANT --yes')}`;

export interface LockOptions {
  user?: string;
  group?: string;
  connection?: string;
  everything?: boolean;
  reason?: string;
  for?: string;
}

export async function lock(context: Context, options: LockOptions): Promise<ExitCode> {
  const chosen = [options.user, options.group, options.connection, options.everything].filter(
    (each) => each !== undefined,
  );
  if (chosen.length !== 1) {
    throw new CliError(
      EXIT.misconfigured,
      'A lock has one target',
      'Give exactly one of --user, --group, --connection, --everything.',
    );
  }
  if (options.reason === undefined)
    throw new CliError(EXIT.misconfigured, 'A lock needs a reason', 'Add --reason TEXT; those it reaches are told.');
  const forMs = options.for === undefined ? undefined : parseDuration(options.for);
  if (options.for !== undefined && forMs === undefined) {
    throw new CliError(
      EXIT.misconfigured,
      `--for ${options.for} is no duration`,
      'Write for example 30m, 1h or 1h30m.',
    );
  }
  let connectionName: string | undefined;
  let namespaces: string[];
  if (options.connection !== undefined) {
    const connection = await findConnection(context, options.connection);
    connectionName = connection.metadata.name;
    namespaces = [connection.metadata.namespace ?? 'default'];
  } else if (context.namespace !== undefined) {
    namespaces = [context.namespace];
  } else {
    const all = await context.client.list<Connection>('Connection');
    namespaces = [...new Set(all.map((each) => each.metadata.namespace ?? 'default'))];
  }
  const spec: AccessLockSpec = {
    target: {
      ...(options.user !== undefined ? { user: options.user } : {}),
      ...(options.group !== undefined ? { group: options.group } : {}),
      ...(connectionName !== undefined ? { connection: connectionName } : {}),
      ...(options.everything ? { everything: true } : {}),
    },
    reason: options.reason,
    ...(forMs !== undefined ? { until: new Date(context.now() + forMs).toISOString() } : {}),
  };
  for (const namespace of namespaces) {
    const result = await context.client.create(context.actor, {
      apiVersion: API_GROUP_VERSION,
      kind: 'AccessLock',
      metadata: { name: 'lock-', namespace },
      spec,
    });
    if (result.kind !== 'Ok') {
      const why =
        result.kind === 'Invalid' ? result.problems.join('; ') : 'message' in result ? result.message : result.kind;
      throw new CliError(EXIT.failed, `Namespace ${namespace} could not be locked: ${why}`);
    }
    const { name } = result.value.metadata;
    context.io.out(
      `Locked by ${namespace}/${name}: sessions it reaches are cut, new ones refused.\nLift it with: ${nextCommand({ ...context, namespace }, `unlock ${name}`)}\n`,
    );
  }
  return EXIT.ok;
}

export async function unlock(context: Context, name: string): Promise<ExitCode> {
  const found = (await context.client.list<AccessLock>('AccessLock', context.namespace)).filter(
    (each) => each.metadata.name === name,
  );
  const [only] = found;
  if (only === undefined || found.length > 1) {
    throw new CliError(
      EXIT.failed,
      found.length > 1 ? `Several locks are called ${name}` : `There is no lock ${name}`,
      `See them with \`${nextCommand(context, 'ls')}\`.`,
    );
  }
  const deleted = await context.client.remove(context.actor, 'AccessLock', only.metadata.namespace ?? 'default', name);
  if (!deleted)
    throw new CliError(
      EXIT.failed,
      `Lock ${name} can not be lifted from here`,
      'If it is a file in the directory, remove it there.',
    );
  context.io.out(`Lock ${name} is lifted.\n`);
  return EXIT.ok;
}
