// why: what the explanation is given: the policies that the running Sallyport reads, and the records of denials.
import type { Connection } from '../../api/connection.ts';
import { findDenial } from '../../recording/audit.ts';
import type { ClusterClient } from '../cluster/client.ts';
import { type Context, findConnection, nextCommand } from '../context.ts';
import { CliError, EXIT, type ExitCode } from '../io.ts';
import { type PastDenial, why } from '../policy/why.ts';
import { openRecords, type RecordsDeps } from '../records/source.ts';
import { recordsDeps } from './records.ts';

export interface WhyOptions {
  connection?: string;
  account?: string;
  policy?: string;
}

export async function explainWhy(context: Context, subject: string, options: WhyOptions): Promise<ExitCode> {
  const connection =
    options.connection === undefined || options.connection.includes('/') || context.namespace === undefined
      ? options.connection
      : `${context.namespace}/${options.connection}`;
  return why(
    {
      subject,
      as: context.actor,
      connection:
        connection === undefined || connection.includes('/') ? connection : await anyNamespace(context, connection),
      account: options.account,
      policy: options.policy,
      output: context.output,
    },
    context.io,
    {
      // A denial on record needs no policies: they are loaded for statements only.
      world: async () =>
        context.cluster === undefined
          ? (await import('../policy/load.ts')).loadPolicies((await context.client.info()).directory).world
          : clusterWorld(context, context.cluster.client, connection),
      findDenial: async (id) => {
        if (context.cluster === undefined) return pastDenial(recordsDeps(context), id);
        throw new CliError(
          EXIT.misconfigured,
          `What was refused as ${id} is in the records on the proxies’ volumes, and kubectl access does not mount those`,
          `Ask about the statement itself: ${nextCommand(context, 'why --connection NAME "STATEMENT"')}`,
        );
      },
    },
  );
}

/** Of the Connection's namespace; guardrails that may not be read are missing, and that is said. */
async function clusterWorld(context: Context, client: ClusterClient, named: string | undefined) {
  const namespace = named?.includes('/') ? named.split('/', 1)[0]! : (context.namespace ?? 'default');
  const [connections, policies] = await Promise.all([
    client.list<Connection>('Connection', namespace),
    client.policies(namespace),
  ]);
  if (policies.guardrailsHidden) {
    context.io.err(
      'You may not read ClusterAccessPolicies: guardrails of the whole cluster are not in this answer, and they only tighten it.\n',
    );
  }
  return { connections, policies: policies.policies, clusterPolicies: policies.clusterPolicies, broken: [] };
}

async function anyNamespace(context: Context, name: string): Promise<string> {
  const { metadata } = await findConnection(context, name);
  return `${metadata.namespace}/${metadata.name}`;
}

async function pastDenial(deps: RecordsDeps, id: string): Promise<PastDenial | undefined> {
  await deps.noteRead?.({ act: 'FindDenial', object: { kind: 'Denial', name: id } });
  using view = openRecords(deps);
  const found = findDenial(view, id);
  if (found === undefined) return undefined;
  const start = found.start?.body;
  return {
    denial: id,
    at: found.record.ts,
    session: found.record.stream,
    user: start?.principal.username ?? 'unknown',
    connection: start === undefined ? 'unknown' : `${start.connection.namespace}/${start.connection.name}`,
    command: found.record.body,
  };
}
