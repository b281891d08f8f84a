// Which grant somebody goes by: the one they name, the one of theirs that lasts longest, or one made on the spot where the
// policy is Standing; and the key that belongs to it.
import type { Connection } from '../../api/connection.ts';
import type { AccessGrant } from '../../api/grant.ts';
import { KeyFileError, loadClientKey } from '../../identity/keys.ts';
import { type Context, findGrant, nextCommand } from '../context.ts';
import { isTheirs, type Person } from '../identity/person.ts';
import { CliError, EXIT } from '../io.ts';
import { clockTime, line } from '../render.ts';
import { createGrant, keyFile, waitForActive } from './request.ts';
import { waitWhile } from './wait.ts';

export interface GrantOptions {
  account?: string;
  policy?: string;
  grant?: string;
  reason?: string;
  for?: string;
  wait?: boolean;
  /** By the token of one's login, even where the grant's key is here. */
  token?: boolean;
}

/** A grant in force, or an error that says what is missing and what to do. */
export async function findActiveGrant(
  context: Context,
  connection: Connection,
  options: GrantOptions,
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

export function usableKey(context: Context, grant: AccessGrant): boolean {
  try {
    loadClientKey(keyFile(context.home, grant.spec.clientKey ?? ''));
    return true;
  } catch {
    return false;
  }
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
