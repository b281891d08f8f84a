// connect --listen: a loopback listener for IDEs and pools, as long as the grant or what extends it lasts.
import type { AccessGrant } from '../../api/grant.ts';
import { openLocalListener } from '../../protocols/postgres/local-listener.ts';
import { systemRandom } from '../../system/random.ts';
import { listenerUri } from '../clients/postgres.ts';
import { type Context, nextCommand } from '../context.ts';
import { isTheirs } from '../identity/person.ts';
import { CliError, EXIT, type ExitCode, pause } from '../io.ts';
import { clockTime, line } from '../render.ts';
import { usableKey } from './active-grant.ts';
import { openRoute } from './route.ts';
import { waitWhile } from './wait.ts';
import { type ConnectOptions, findWay, keepProven, passwordOf, type Way, type WayProof } from './way.ts';

export async function listen(context: Context, first: Way, options: ConnectOptions): Promise<ExitCode> {
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
