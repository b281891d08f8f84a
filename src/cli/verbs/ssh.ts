// connect, dsn and ssh-config for Connections of type SSH: the person's own OpenSSH client, with the grant's key as its
// identity and the Connection's published keys as its known hosts. What it is told lies in files of this person alone,
// a folder a Connection; OpenSSH does the rest.
import { mkdirSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type Connection, hostAliasOf } from '../../api/connection.ts';
import type { AccessGrant } from '../../api/grant.ts';
import { issueTicket } from '../../identity/tickets.ts';
import { systemFiles, writeFileAtomically } from '../../system/files.ts';
import { systemRandom } from '../../system/random.ts';
import { spawnClient } from '../clients/spawn.ts';
import { hostBlock, type SshFiles, sshArguments } from '../clients/ssh.ts';
import { openSshPrivateKey } from '../clients/ssh-key.ts';
import { type Context, findConnection, nextCommand, quoted } from '../context.ts';
import { personHere } from '../identity/person.ts';
import { renewSessions } from '../identity/renew.ts';
import { CliError, EXIT, type ExitCode } from '../io.ts';
import { clockTime } from '../render.ts';
import { findActiveGrant, openKey } from './active-grant.ts';
import { forgetOldKeys, inHome, SSH_KEY } from './request.ts';
import { openRoute, type Route, type RouteOptions } from './route.ts';
import { type ConnectOptions, endpointOf } from './way.ts';

export interface SshOptions extends ConnectOptions {
  /** The target's user. */
  user?: string;
  /** In place of the command line. */
  ticket?: boolean;
}

interface SshWay {
  connection: Connection;
  grant: AccessGrant;
  endpoint: { host: string; port: number };
  user: string;
  alias: string;
  files: SshFiles;
}

export async function connectSsh(context: Context, first: Connection, options: SshOptions): Promise<ExitCode> {
  if (options.listen !== undefined && options.listen !== false) {
    throw new CliError(
      EXIT.misconfigured,
      'OpenSSH clients need no listener',
      `Print what lets any of them in: ${nextCommand(context, 'ssh-config')}`,
    );
  }
  const way = await findWay(context, first, options);
  await using route = await openRoute(context, way.connection, way.endpoint, options);
  const { address, host, port } = route.to;
  const command = sshArguments({ ...way, host: address ?? host, port }, way.files, undefined);
  const over = new AbortController();
  const proven = keepProven(context, way, route, over.signal);
  try {
    // Arguments after the host are OpenSSH's own: options as long as they begin with a dash, then the command.
    return await spawnClient(
      [...command, ...(options.command ?? [])],
      context.io.env,
      `Install OpenSSH’s client, or use another: ${nextCommand(context, `dsn ${way.connection.metadata.name}`)}`,
    );
  } finally {
    over.abort();
    await proven;
  }
}

/** The command line that `connect` would run. Holds no secret: it names the file with the key. */
export async function sshCommand(context: Context, first: Connection, options: SshOptions): Promise<ExitCode> {
  const way = await findWay(context, first, options);
  if (options.ticket === true) {
    context.io.out(`${ticketOf(context, way)}\n`);
    context.io.err(`Good for one login as ${way.user.split('+', 1)[0]}, within five minutes. It is a password.\n`);
    return EXIT.ok;
  }
  const proxyCommand = context.cluster === undefined ? undefined : proxyCommandOf(context, way.connection, options);
  const words = sshArguments({ ...way, ...way.endpoint }, way.files, proxyCommand);
  context.io.out(`${words.map(quoted).join(' ')}\n`);
  context.io.err(
    `The grant ends at ${clockTime(way.grant.status?.expiresAt, context.now())}. For scp, rsync, git and editors: ${nextCommand(context, 'ssh-config')}\n`,
  );
  return EXIT.ok;
}

async function findWay(context: Context, first: Connection, options: SshOptions): Promise<SshWay> {
  if (options.token === true) {
    throw new CliError(
      EXIT.misconfigured,
      'SSH takes no tokens',
      'Log in with the key of your grant, or with a certificate of an authority that your identity provider’s resource lists.',
    );
  }
  const grant = await findActiveGrant(context, first, options, undefined);
  const { connection, endpoint } = await endpointOf(context, first);
  const files = writeFiles(context, connection, grant);
  const target = options.user ?? usersOf(connection, grant)[0] ?? grant.status?.account ?? '';
  // By name: it may be on its way to the proxy yet, and another that is approved meanwhile is not meant.
  const user = `${target}+${grant.metadata.name}`;
  return { connection, grant, endpoint, user, alias: aliasOf(connection), files };
}

const aliasOf = ({ metadata }: Connection): string => hostAliasOf(metadata.name, metadata.namespace);

/** Only the proxy knows the user of a Secret. Accounts are mostly called like it; if not, the gateway says how. */
function usersOf({ spec }: Connection, grant: AccessGrant | undefined): readonly string[] {
  const account = spec.accounts.find(({ name }) => name === (grant?.status?.account ?? spec.accounts[0]?.name));
  return account?.certificate?.users ?? (account === undefined ? [] : [account.name]);
}

const folderOf = (context: Context, { metadata }: Connection): string => path.join(context.home, 'ssh', metadata.uid);

function writeFiles(context: Context, connection: Connection, grant: AccessGrant, shared = false): SshFiles {
  const lines = connection.status?.ssh?.knownHosts ?? [];
  const { name } = connection.metadata;
  if (lines.length === 0) {
    throw new CliError(
      EXIT.unavailable,
      `The keys of Connection ${name} are not published yet`,
      connection.status?.conditions?.find(({ type }) => type === 'Programmed')?.message,
    );
  }
  const key = openKey(context, grant);
  const folder = folderOf(context, connection);
  const files = {
    knownHosts: path.join(folder, 'known_hosts'),
    identity: path.join(folder, shared ? 'identity' : `${SSH_KEY}${grant.metadata.uid}`),
  };
  inHome(context, () => {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    writeFileAtomically(systemFiles, files.knownHosts, Buffer.from(`${lines.join('\n')}\n`), 0o600);
    const text = openSshPrivateKey(key, grant.metadata.name, systemRandom);
    writeFileAtomically(systemFiles, files.identity, Buffer.from(text), 0o600);
    forgetOldKeys(folder, context.now());
  });
  return files;
}

function ticketOf(context: Context, { connection, grant }: SshWay): string {
  return issueTicket({
    privateKey: openKey(context, grant).privateKey,
    grantUid: grant.metadata.uid,
    connectionUid: connection.metadata.uid,
    nowMs: context.now(),
    random: systemRandom,
  });
}

async function keepProven(context: Context, way: SshWay, route: Route, signal: AbortSignal): Promise<void> {
  const person = await personHere(context);
  if (person === undefined) return;
  const { connection, grant } = way;
  await renewSessions(context, {
    person,
    namespace: connection.metadata.namespace ?? 'default',
    connection: connection.metadata.name,
    grant: () => grant,
    ticket: () => ticketOf(context, way),
    sessions: route.sessions,
    signal,
  });
}

// For everything else that speaks SSH.

export interface SshConfigOptions extends RouteOptions {
  write?: boolean;
}

export async function sshConfig(context: Context, options: SshConfigOptions): Promise<ExitCode> {
  const { io, client, home } = context;
  const connections = (await client.list<Connection>('Connection', context.namespace))
    .filter(({ spec }) => spec.type === 'SSH')
    .sort((a, b) => (aliasOf(a) < aliasOf(b) ? -1 : 1));
  const times = new Map<string, number>();
  for (const { metadata } of connections) times.set(metadata.name, (times.get(metadata.name) ?? 0) + 1);
  const text = connections
    .map((connection) => {
      const { name, namespace } = connection.metadata;
      const folder = folderOf(context, connection);
      return hostBlock({
        names: times.get(name) === 1 ? [name] : [],
        alias: aliasOf(connection),
        user: usersOf(connection, undefined)[0],
        files: { knownHosts: path.join(folder, 'known_hosts'), identity: path.join(folder, 'identity') },
        proxyCommand: proxyCommandOf(context, connection, options),
        prepare: `${proxyCommandOf(context, connection, {})} --prepare`,
        comment: `Connection ${namespace}/${name}`,
      });
    })
    .join('\n');
  if (connections.length === 0) io.err('There is no Connection of type SSH here.\n');
  if (options.write !== true) {
    io.out(text);
    return EXIT.ok;
  }
  const file = path.join(home, 'ssh', 'config');
  inHome(context, () => {
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    writeFileAtomically(systemFiles, file, Buffer.from(text), 0o600);
  });
  io.out(`${file}\n`);
  io.err(`Put this at the top of ~/.ssh/config, once:\n  Include ${quoted(file)}\n`);
  return EXIT.ok;
}

function proxyCommandOf(context: Context, { metadata }: Connection, options: RouteOptions): string {
  const way = options.tunnel === true ? ' --tunnel' : options.direct === true ? ' --direct' : '';
  return nextCommand(context, `proxy-command ${metadata.namespace}/${metadata.name}${way}`);
}

export interface ProxyCommandOptions extends RouteOptions {
  prepare?: boolean;
}

/** With `prepare` writes key and known hosts for a login that follows; without, carries it over stdin and stdout. */
export async function proxyCommand(context: Context, name: string, options: ProxyCommandOptions): Promise<ExitCode> {
  const first = await findConnection(context, name);
  if (first.spec.type !== 'SSH') {
    throw new CliError(
      EXIT.misconfigured,
      `Connection ${name} is of type ${first.spec.type}`,
      `Use ${nextCommand(context, `connect ${name}`)}`,
    );
  }
  if (options.prepare === true) {
    const grant = await findActiveGrant(context, first, {}, undefined);
    writeFiles(context, (await endpointOf(context, first)).connection, grant, true);
    return EXIT.ok;
  }
  const { connection, endpoint } = await endpointOf(context, first);
  await using route = await openRoute(context, connection, endpoint, options);
  const { address, host, port } = route.to;
  const socket = net.connect({ host: address ?? host, port, allowHalfOpen: true, signal: context.io.signal });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', (error) =>
      reject(new CliError(EXIT.unavailable, `${host}:${port} can not be reached: ${error.message}`)),
    );
  });
  socket.setNoDelay(true);
  const sent = pipeline(process.stdin, socket).catch(() => undefined);
  // The client has hung up, or the gateway has: both are its business to tell.
  await pipeline(socket, process.stdout, { end: false }).catch(() => undefined);
  process.stdin.destroy();
  await sent;
  return EXIT.ok;
}
