// What the verbs about records are given: the folder beside the state, the operator's public key to trust, and a way to
// note the reading itself, which is access too.
import { createPublicKey } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { keyIdOf, type TrustedKey } from '../../policy/bundle-signing.ts';
import { findDenial } from '../../recording/audit.ts';
import { type Context, findConnection } from '../context.ts';
import { CliError, EXIT, type ExitCode } from '../io.ts';
import { OPERATOR_PUBLIC_KEY, RECORDS } from '../local/folders.ts';
import { loadPolicies } from '../policy/load.ts';
import { type PastDenial, why } from '../policy/why.ts';
import { openRecords, type RecordsDeps } from '../records/source.ts';

export function recordsDeps(context: Context): RecordsDeps {
  const roots = operatorKeys(context.state);
  return {
    folder: path.join(context.state, RECORDS),
    now: context.now,
    ...(roots.length > 0 ? { roots } : {}),
    noteRead: async (note) => {
      try {
        await context.client.note(context.actor, note);
      } catch (error) {
        // Nobody is there to write it down; whoever may read the folder may read it.
        if (!(error instanceof CliError && error.exitCode === EXIT.misconfigured)) throw error;
        context.io.err('No Sallyport is running here, so this reading is not recorded.\n');
      }
    },
  };
}

function operatorKeys(state: string): TrustedKey[] {
  const file = path.join(state, OPERATOR_PUBLIC_KEY);
  if (!fs.existsSync(file)) return [];
  const publicKey = createPublicKey(fs.readFileSync(file));
  return [{ keyId: keyIdOf(publicKey), publicKey }];
}

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
      world: async () => loadPolicies((await context.client.info()).directory).world,
      findDenial: async (id) => pastDenial(recordsDeps(context), id),
    },
  );
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
