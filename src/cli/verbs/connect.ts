// connect and dsn: finds the grant, or makes one where the policy is Standing, and starts a client with a fresh ticket by
// the grant's key, or with the token of a login where the grant is that person's and its key is not here.
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { sha256Hex } from '../../api/canonical.ts';
import type { Connection } from '../../api/connection.ts';
import type { AccessGrant } from '../../api/grant.ts';
import { KeyFileError, loadClientKey } from '../../identity/keys.ts';
import { issueTicket, TICKET_LIFETIME_MS } from '../../identity/tickets.ts';
import { openLocalListener } from '../../protocols/postgres/local-listener.ts';
import { systemFiles, writeFileAtomically } from '../../system/files.ts';
import { systemRandom } from '../../system/random.ts';
import { type ClientTarget, clientEnvironment, gatewayUri, listenerUri, targetOf } from '../clients/postgres.ts';
import { spawnClient } from '../clients/spawn.ts';
import { type Context, findConnection, findGrant, nextCommand } from '../context.ts';
import { oauthDsn } from '../identity/oauth-dsn.ts';
import { openPassFile } from '../identity/passfile.ts';
import { isTheirs, type Person, personHere } from '../identity/person.ts';
import { renewSessions } from '../identity/renew.ts';
import { CliError, EXIT, type ExitCode, pause } from '../io.ts';
import { clockTime, line } from '../render.ts';
import { createGrant, inHome, keyFile, waitForActive } from './request.ts';
import { isClusterName, openRoute, type Route, type RouteOptions } from './route.ts';
import { waitWhile } from './wait.ts';

export interface ConnectOptions extends RouteOptions {
  account?: string;
  policy?: string;
  grant?: string;
  reason?: string;
  for?: string;
  wait?: boolean;
  /** By the token of one's login, even where the grant's key is here. */
  token?: boolean;
  /** true: any free port. */
  listen?: boolean | string;
  command?: readonly string[];
}

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

export interface Way {
  connection: Connection;
  grant: AccessGrant;
  /** Its account is what clients name as their user. */
  target: ClientTarget;
  caPem: string;
  proof: WayProof;
  /** Whose login keeps the sessions proven, where the policy wants that. */
  person: Person | undefined;
}
type WayProof = { kind: 'Ticket'; ticket(lifetimeMs?: number): string } | { kind: 'Token'; person: Person };

/** Everything a login needs, or an error that says what is missing. */
async function findWay(context: Context, connectionName: string, options: ConnectOptions): Promise<Way> {
  let connection = await findConnection(context, connectionName);
  const person = await personHere(context);
  if (options.token === true && person === undefined) {
    throw new CliError(
      EXIT.denied,
      'You are not logged in at an identity provider here',
      `Next: ${nextCommand(context, 'login', { identity: false })}`,
    );
  }
  const grant = await findActiveGrant(context, connection, options, person);
  connection = (await endpointOf(context, connection)).connection;
  const caPem = connection.status?.caBundle ?? '';
  const caFile = path.join(context.home, 'ca', `${sha256Hex(caPem).slice(0, 16)}.crt`);
  inHome(context, () => {
    mkdirSync(path.dirname(caFile), { recursive: true, mode: 0o700 });
    writeFileAtomically(systemFiles, caFile, Buffer.from(caPem), 0o644);
  });
  const account = grant.status?.account ?? '';
  const target = targetOf(connection, account, caFile);
  if (target === undefined || caPem === '') throw notListening(connection);
  if (person !== undefined && (options.token === true || (isTheirs(grant, person) && !usableKey(context, grant)))) {
    // By name: another grant that is approved meanwhile must not make the next login ambiguous.
    const user = `${account}+${grant.metadata.name}`;
    return { connection, grant, target: { ...target, account: user }, caPem, proof: { kind: 'Token', person }, person };
  }
  const key = openKey(context, grant);
  const ticket = (lifetimeMs?: number): string =>
    issueTicket({
      privateKey: key.privateKey,
      grantUid: grant.metadata.uid,
      connectionUid: connection.metadata.uid,
      nowMs: context.now(),
      ...(lifetimeMs !== undefined ? { lifetimeMs } : {}),
      random: systemRandom,
    });
  return { connection, grant, target, caPem, proof: { kind: 'Ticket', ticket }, person };
}

function notListening({ metadata, status }: Connection): CliError {
  const why = status?.conditions?.find((each) => each.type === 'Programmed')?.message;
  return new CliError(EXIT.misconfigured, `Connection ${metadata.name} is not listening`, why);
}

/** Where it listens. A daemon that has just started may still be opening its listeners. */
export async function endpointOf(
  context: Context,
  given: Connection,
): Promise<{ connection: Connection; endpoint: { host: string; port: number } }> {
  let connection = given;
  for (let waited = 0; connection.status?.endpoint === undefined && waited < 50; waited += 1) {
    await pause(100, context.io.signal);
    connection = await findConnection(context, `${given.metadata.namespace}/${given.metadata.name}`);
  }
  const endpoint = connection.status?.endpoint;
  if (endpoint === undefined) throw notListening(connection);
  return { connection, endpoint };
}

/** What the next login shows. */
async function passwordOf(way: Way, signal: AbortSignal): Promise<string> {
  return way.proof.kind === 'Ticket' ? way.proof.ticket() : (await way.proof.person.fresh({ signal })).token;
}

export function openKey(context: Context, grant: AccessGrant): ReturnType<typeof loadClientKey> {
  if (grant.spec.clientKey === undefined) {
    throw new CliError(
      EXIT.misconfigured,
      `Grant ${grant.metadata.name} names no key (spec.clientKey), so nobody can log in with it`,
      context.cluster === undefined
        ? `Request access with: ${nextCommand(context, `request ${grant.spec.connectionRef.name}`)}`
        : `Print YAML with a key of yours: ${nextCommand(context, `key ${grant.spec.connectionRef.name}`, { namespace: grant.metadata.namespace })}`,
    );
  }
  try {
    return loadClientKey(keyFile(context.home, grant.spec.clientKey ?? ''));
  } catch (error) {
    if (!(error instanceof KeyFileError)) throw error;
    throw new CliError(
      EXIT.misconfigured,
      `The key of grant ${grant.metadata.name} is not usable: ${error.message}`,
      `It was requested elsewhere, or SALLYPORT_HOME differs. Request access from here: ${nextCommand(context, `request ${grant.spec.connectionRef.name}`)}`,
    );
  }
}

export async function findActiveGrant(
  context: Context,
  connection: Connection,
  options: ConnectOptions,
  person: Person | undefined,
): Promise<AccessGrant> {
  const { client, actor } = context;
  const byToken = (each: AccessGrant): boolean => person !== undefined && isTheirs(each, person);
  const { name, namespace } = connection.metadata;
  let pending: AccessGrant | undefined;
  /** One of theirs whose key is on another machine. */
  let elsewhere: AccessGrant | undefined;
  if (options.grant !== undefined) {
    const named = await findGrant(context, options.grant);
    if (named.status?.phase === 'Active') return named;
    pending = named;
    if (named.status !== undefined && named.status.phase !== 'Pending') {
      throw new CliError(
        EXIT.denied,
        `Grant ${named.metadata.name} is ${named.status.phase}: ${line(named.status.message ?? '')}`,
        `Ask again: ${nextCommand(context, `request ${name}`)}`,
      );
    }
  } else {
    const all = await client.list<AccessGrant>('AccessGrant', namespace);
    const isMine = (each: AccessGrant): boolean =>
      ((each.spec.beneficiary?.name ?? each.spec.requester?.username) === actor.username || byToken(each)) &&
      each.spec.connectionRef.name === name &&
      each.spec.sealed === undefined && // opened by unseal, while the operator can not be heard
      (options.account === undefined || (each.status?.account ?? each.spec.account) === options.account) &&
      (options.policy === undefined || (each.status?.policy?.name ?? each.spec.policyRef?.name) === options.policy);
    const mine = all.filter(
      (each) => isMine(each) && (byToken(each) || (options.token !== true && usableKey(context, each))),
    );
    const active = mine
      .filter((each) => each.status?.phase === 'Active')
      .sort((a, b) => Date.parse(b.status?.expiresAt ?? '') - Date.parse(a.status?.expiresAt ?? ''));
    if (active[0] !== undefined) return active[0];
    pending = mine.find((each) => (each.status?.phase ?? 'Pending') === 'Pending');
    elsewhere = all.find((each) => each.status?.phase === 'Active' && isMine(each));
  }
  if (pending === undefined && options.token === true) {
    throw new CliError(
      EXIT.denied,
      `${line(person?.who.username ?? '')} has no grant for ${namespace}/${name}`,
      'Ask for one on the approval page, or leave --token out to use a grant of the name you have here.',
    );
  }
  if (pending === undefined) {
    const answer = await client.eligibility({
      actor,
      namespace: namespace ?? 'default',
      connection: name,
      ...(options.account !== undefined ? { account: options.account } : {}),
      ...(options.policy !== undefined ? { policy: options.policy } : {}),
    });
    if (answer.kind === 'NotFound' || answer.kind === 'NotEligible') {
      throw new CliError(EXIT.denied, answer.message, answer.kind === 'NotEligible' ? answer.hint : undefined);
    }
    if (answer.kind === 'Eligible' && answer.access === 'Standing') {
      const made = await createGrant(context, connection, {
        ...options,
        policy: answer.policy,
        account: answer.account,
      });
      pending = await waitWhile(context, made, (each) => each.status === undefined, 10_000);
      if (pending.status?.phase === 'Active') return pending;
    } else {
      // That its key is not here says more than that there is no grant.
      if (elsewhere !== undefined) openKey(context, elsewhere);
      throw new CliError(
        EXIT.denied,
        `${actor.username} has no grant for ${namespace}/${name}`,
        `Ask for one: ${nextCommand(context, `request ${name} --for 1h --reason TEXT --wait`)}`,
      );
    }
  }
  if (options.wait && (pending.status?.phase ?? 'Pending') === 'Pending')
    pending = await waitForActive(context, pending);
  switch (pending.status?.phase) {
    case 'Active':
      return pending;
    case undefined:
    case 'Pending':
      throw new CliError(
        EXIT.pending,
        pending.status?.expiresAt !== undefined
          ? `Grant ${pending.metadata.name} starts at ${clockTime(pending.status.notBefore, context.now())}`
          : `Grant ${pending.metadata.name} is Pending: it needs ${line(pending.status?.waitingFor ?? 'the operator')}`,
        `Wait for it with: ${nextCommand(context, `connect ${name} --wait`)}`,
      );
    default:
      throw new CliError(
        EXIT.denied,
        `Grant ${pending.metadata.name} is ${pending.status?.phase}: ${line(pending.status?.message ?? '')}`,
        `Ask again: ${nextCommand(context, `request ${name}`)}`,
      );
  }
}

function usableKey(context: Context, grant: AccessGrant): boolean {
  try {
    loadClientKey(keyFile(context.home, grant.spec.clientKey ?? ''));
    return true;
  } catch {
    return false;
  }
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

/** Newer tokens for the sessions of this way. Never rejects. */
async function keepProven(
  context: Context,
  current: () => Way,
  route: Route,
  signal: AbortSignal,
  onToken?: (token: string) => void,
): Promise<void> {
  const { person, connection } = current();
  if (person === undefined) return;
  await renewSessions(context, {
    person,
    namespace: connection.metadata.namespace ?? 'default',
    connection: connection.metadata.name,
    grant: () => current().grant,
    // Of the grant that is in force by then.
    ticket() {
      const { proof } = current();
      return proof.kind === 'Ticket' ? proof.ticket() : undefined;
    },
    sessions: route.sessions,
    ...(onToken === undefined ? {} : { onToken }),
    signal,
  });
}

async function listen(context: Context, first: Way, options: ConnectOptions): Promise<ExitCode> {
  const port = options.listen === true ? true : String(options.listen);
  const { io } = context;
  let way = first;
  const number = port === true ? 0 : Number(port);
  if (!Number.isInteger(number) || number < 0 || number > 65_535) {
    throw new CliError(
      EXIT.misconfigured,
      `--listen ${port} is no port`,
      'Write a number from 1 to 65535, or none for any.',
    );
  }
  await using route = await openRoute(context, way.connection, way.target, options);
  const secret = systemRandom.bytes(18).toString('base64url');
  const ended = new AbortController();
  const listener = await openLocalListener({
    port: number,
    secret,
    gateway: { ...route.to, caPem: way.caPem },
    // Of the grant that is in force by then.
    get account() {
      return way.target.account;
    },
    ticket: () => passwordOf(way, io.signal),
    onProblem: (text) => io.err(`${line(text)}\n`),
    signal: AbortSignal.any([io.signal, ended.signal]),
  }).catch((error: NodeJS.ErrnoException) => {
    throw new CliError(
      EXIT.misconfigured,
      `Port ${number} can not be opened: ${error.message}`,
      'Choose another, or leave it out for any.',
    );
  });
  io.out(`${listenerUri(way.target, listener.port, secret)}\n`);
  io.err(
    `Listening until ${clockTime(way.grant.status?.expiresAt, context.now())}, when the grant ends. Ctrl-C stops it.\n`,
  );
  const watch = async (): Promise<void> => {
    for (;;) {
      await pause(context.cluster === undefined ? 1_000 : 5_000, AbortSignal.any([io.signal, ended.signal]));
      const { namespace, name, uid } = way.grant.metadata;
      // A daemon that restarts is no reason to stop listening: sockets say themselves that it is away.
      const seen = await context.client.get<AccessGrant>('AccessGrant', namespace, name).catch(() => way.grant);
      if (seen?.metadata.uid === uid && seen.status?.phase === 'Active') continue;
      const next = await successor(context, way.grant, way.proof);
      if (next !== undefined) {
        way = await findWay(context, way.connection.metadata.name, {
          grant: next.metadata.name,
          ...(options.token === true ? { token: true } : {}),
        });
        io.err(`Grant ${next.metadata.name} carries on until ${clockTime(next.status?.expiresAt, context.now())}.\n`);
        continue;
      }
      io.err(
        `Grant ${name} is ${seen?.status?.phase ?? 'gone'}. Ask again: ${nextCommand(context, `request ${way.connection.metadata.name}`)}\n`,
      );
      return ended.abort();
    }
  };
  const proven = keepProven(context, () => way, route, AbortSignal.any([io.signal, ended.signal]));
  await Promise.race([watch().catch(() => undefined), listener.closed]);
  ended.abort();
  await Promise.all([listener.closed, proven]);
  return io.signal.aborted ? EXIT.ok : EXIT.denied;
}

/** The grant that extends this one, if it is in force by now. */
async function successor(context: Context, grant: AccessGrant, proof: WayProof): Promise<AccessGrant | undefined> {
  const usable = (each: AccessGrant): boolean =>
    proof.kind === 'Token' ? isTheirs(each, proof.person) : usableKey(context, each);
  const extensions = (await context.client.list<AccessGrant>('AccessGrant', grant.metadata.namespace)).filter(
    (each) => each.spec.extends?.uid === grant.metadata.uid && usable(each),
  );
  // Parent and extension change their phase in the same moment, one after the other.
  const next = extensions.find((each) => each.status?.phase === 'Active' || each.status?.expiresAt !== undefined);
  if (next === undefined) return undefined;
  const settled = await waitWhile(context, next, (each) => each.status?.phase === 'Pending', 3_000);
  return settled.status?.phase === 'Active' ? settled : undefined;
}

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
