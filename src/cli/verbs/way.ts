// The way to a database: where it listens, the grant, and what a login by it shows.
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { sha256Hex } from '../../api/canonical.ts';
import type { Connection } from '../../api/connection.ts';
import type { AccessGrant } from '../../api/grant.ts';
import { issueTicket } from '../../identity/tickets.ts';
import { systemFiles, writeFileAtomically } from '../../system/files.ts';
import { systemRandom } from '../../system/random.ts';
import { type ClientTarget, targetOf } from '../clients/postgres.ts';
import { type Context, findConnection, nextCommand } from '../context.ts';
import { isTheirs, type Person, personHere } from '../identity/person.ts';
import { renewSessions } from '../identity/renew.ts';
import { CliError, EXIT, pause } from '../io.ts';
import { findActiveGrant, type GrantOptions, openKey, usableKey } from './active-grant.ts';
import { inHome } from './request.ts';
import type { Route, RouteOptions } from './route.ts';

export interface ConnectOptions extends RouteOptions, GrantOptions {
  /** true: any free port. */
  listen?: boolean | string;
  command?: readonly string[];
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

export type WayProof = { kind: 'Ticket'; ticket(lifetimeMs?: number): string } | { kind: 'Token'; person: Person };

/** Everything a login needs, or an error that says what is missing. */
export async function findWay(context: Context, connectionName: string, options: ConnectOptions): Promise<Way> {
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
export async function passwordOf(way: Way, signal: AbortSignal): Promise<string> {
  return way.proof.kind === 'Ticket' ? way.proof.ticket() : (await way.proof.person.fresh({ signal })).token;
}

/** Newer tokens for the sessions of this way. Never rejects. */
export async function keepProven(
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
