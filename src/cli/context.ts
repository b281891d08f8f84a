// What every verb works with: who asks, against which Sallyport, in which form to answer.
import os from 'node:os';
import path from 'node:path';
import type { Connection } from '../api/connection.ts';
import type { AccessGrant } from '../api/grant.ts';
import type { CommandHold } from '../api/hold.ts';
import type { Resource } from '../api/resource.ts';
import type { Principal } from '../policy/principal.ts';
import type { KindName } from '../store/resource-store.ts';
import { type Client, createClient } from './client.ts';
import type { ClusterHandle } from './cluster/context.ts';
import { CliError, EXIT, type Io } from './io.ts';
import type { OutputForm } from './render.ts';

export interface CommonOptions {
  as?: string;
  groups?: string;
  state?: string;
  namespace?: string;
  allNamespaces?: boolean;
  output?: string;
  /** In a cluster, as kubectl has them. */
  asGroup?: string[];
  asUid?: string;
  kubeconfig?: string;
  context?: string;
}

/**
 * `anyForm`: the verb has forms of output of its own and checks them itself. `offline`: it asks no Sallyport;
 * `offlineWith`: not where this option is given.
 */
export interface VerbNeeds {
  anyForm?: boolean;
  offline?: boolean;
  offlineWith?: string;
}

export interface Context {
  io: Io;
  /** What the person typed to get here: `sallyport` or `kubectl access`. */
  prefix: string;
  state: string;
  /** Keys and certificates of this person. */
  home: string;
  actor: Principal;
  namespace: string | undefined;
  output: OutputForm;
  client: Client;
  /** Set where the verbs go to a cluster. */
  cluster?: ClusterHandle;
  now(): number;
}

const FORMS: readonly string[] = ['table', 'wide', 'json', 'yaml', 'name'];

export function commandPrefix(env: Io['env']): string {
  return env['SALLYPORT_INVOKED_AS'] === 'kubectl-access' ? KUBECTL : 'sallyport';
}

/** `--state`, SALLYPORT_STATE, or the one place where `sallyport local` keeps it unless told otherwise. */
export function stateFolder(option: string | undefined, env: Io['env']): string {
  const chosen = option ?? env['SALLYPORT_STATE'];
  if (chosen) return path.resolve(chosen);
  return path.join(env['XDG_STATE_HOME'] || path.join(os.homedir(), '.local/state'), 'sallyport');
}

export function homeFolder(env: Io['env']): string {
  if (env['SALLYPORT_HOME']) return path.resolve(env['SALLYPORT_HOME']);
  return path.join(env['XDG_DATA_HOME'] || path.join(os.homedir(), '.local/share'), 'sallyport');
}

/** As `sallyport`: one machine's state folder. As `kubectl access`: the cluster of the kubeconfig. */
export async function openContext(io: Io, options: CommonOptions, needs: VerbNeeds = {}): Promise<Context> {
  const local = openLocalContext(io, options, needs);
  if (needs.offline === true || local.prefix !== KUBECTL) return local;
  return (await import('./cluster/context.ts')).openClusterContext(local, options);
}

const KUBECTL = 'kubectl access';

function openLocalContext(io: Io, options: CommonOptions, needs: VerbNeeds): Context {
  const { env } = io;
  const prefix = commandPrefix(env);
  const output = options.output ?? 'table';
  if (needs.anyForm !== true && !FORMS.includes(output)) {
    throw new CliError(EXIT.misconfigured, `-o ${output} is no form of output`, `Write one of ${FORMS.join(', ')}.`);
  }
  const username = options.as ?? env['SALLYPORT_AS'] ?? os.userInfo().username;
  const groups = (options.groups ?? env['SALLYPORT_GROUPS'] ?? '')
    .split(',')
    .map((group) => group.trim())
    .filter((group) => group !== '');
  const state = stateFolder(options.state, env);
  const namespace = options.allNamespaces ? undefined : (options.namespace ?? env['SALLYPORT_NAMESPACE']);
  return {
    io,
    prefix,
    state,
    home: homeFolder(env),
    actor: { username, groups, aliases: [] },
    namespace: namespace || undefined,
    output: output as OutputForm,
    client: createClient(state, prefix),
    now: () => Date.now(),
  };
}

/** The command that does something next, with what this person has to repeat to stay themselves. */
export function nextCommand(
  context: Context,
  rest: string,
  options: { identity?: boolean /** Of what it is about, in a cluster. */; namespace?: string | undefined } = {},
): string {
  const { env } = context.io;
  const parts = [context.prefix, rest];
  if (context.cluster !== undefined) {
    const { defaultNamespace, repeat, identity } = context.cluster;
    const namespace = options.namespace ?? context.namespace;
    if (namespace !== undefined && namespace !== defaultNamespace) parts.push(`-n ${namespace}`);
    return [...parts, ...repeat, ...(options.identity === false ? [] : identity)].join(' ');
  }
  if (context.namespace !== undefined && env['SALLYPORT_NAMESPACE'] !== context.namespace)
    parts.push(`-n ${context.namespace}`);
  if (context.state !== stateFolder(undefined, env)) parts.push(`--state ${quoted(context.state)}`);
  if (options.identity !== false && context.actor.username !== (env['SALLYPORT_AS'] ?? os.userInfo().username)) {
    parts.push(`--as ${quoted(context.actor.username)}`);
    if (context.actor.groups.length > 0) parts.push(`--groups ${quoted(context.actor.groups.join(','))}`);
  }
  return parts.join(' ');
}

export const quoted = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;

/** The one object of that name: in the namespace that was given, else in any if there is just one. */
async function findOne<R extends Resource>(
  context: Context,
  kind: KindName,
  what: string,
  name: string,
): Promise<R | undefined> {
  const [namespace, bare] = name.includes('/') ? (name.split('/', 2) as [string, string]) : [context.namespace, name];
  if (namespace !== undefined) return context.client.get<R>(kind, namespace, bare);
  const found = (await context.client.list<R>(kind)).filter((each) => each.metadata.name === bare);
  if (found.length > 1) {
    throw new CliError(
      EXIT.misconfigured,
      `${found.length} ${what}s are called ${bare}`,
      `Say which with -n: ${found.map((each) => each.metadata.namespace).join(', ')}.`,
    );
  }
  return found[0];
}

export async function findConnection(context: Context, name: string): Promise<Connection> {
  const found = await findOne<Connection>(context, 'Connection', 'Connection', name);
  if (found !== undefined) return found;
  const names = (await othersToName(context)).map((each) => `${each.metadata.namespace}/${each.metadata.name}`);
  throw new CliError(
    EXIT.misconfigured,
    `There is no Connection ${name}${context.namespace ? ` in namespace ${context.namespace}` : ''}`,
    names.length > 0
      ? `There is ${names.slice(0, 10).join(', ')}.`
      : context.cluster === undefined
        ? 'The directory defines none; see the problems that `sallyport local` prints.'
        : `See where there are some: ${nextCommand({ ...context, namespace: undefined }, 'ls -A')}, or name the namespace with -n.`,
  );
}

/** In a cluster most people may look at their own namespace only, so nothing else is looked at. */
async function othersToName(context: Context): Promise<Connection[]> {
  if (context.cluster === undefined) return context.client.list<Connection>('Connection');
  try {
    return await context.client.list<Connection>('Connection', context.namespace);
  } catch (error) {
    if (error instanceof CliError && error.exitCode === EXIT.denied) return [];
    throw error;
  }
}

export async function findGrant(context: Context, name: string): Promise<AccessGrant> {
  const found = await findOne<AccessGrant>(context, 'AccessGrant', 'grant', name);
  if (found !== undefined) return found;
  throw new CliError(EXIT.failed, `There is no grant ${name}`, `See yours with \`${nextCommand(context, 'status')}\`.`);
}

export async function findTarget(context: Context, name: string): Promise<AccessGrant | CommandHold> {
  // Whoever may see only one of the two kinds still finds what is of it.
  const [hold, grant] = await Promise.allSettled([
    findOne<CommandHold>(context, 'CommandHold', 'hold', name),
    findOne<AccessGrant>(context, 'AccessGrant', 'grant', name),
  ]);
  if (hold.status === 'fulfilled' && hold.value !== undefined) return hold.value;
  if (grant.status === 'fulfilled' && grant.value !== undefined) return grant.value;
  for (const each of [grant, hold]) if (each.status === 'rejected') throw each.reason as Error;
  throw new CliError(
    EXIT.failed,
    `There is no request or hold ${name}`,
    `See what waits with \`${nextCommand(context, 'pending')}\`.`,
  );
}
