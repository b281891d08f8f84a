// pending, holds, status, ls, sessions: what there is, as tables.
import type { Connection } from '../../api/connection.ts';
import type { AccessGrant } from '../../api/grant.ts';
import type { CommandHold } from '../../api/hold.ts';
import type { AccessLock } from '../../api/lock.ts';
import type { AccessPolicy } from '../../api/policy.ts';
import type { Resource } from '../../api/resource.ts';
import { insightOf } from '../../policy/insight.ts';
import { unlessForbidden } from '../cluster/failures.ts';
import { connectionState } from '../connection-state.ts';
import { type Context, findTarget, nextCommand } from '../context.ts';
import { EXIT, type ExitCode, paint } from '../io.ts';
import { age, clockTime, line, machineForm, machineObject, table } from '../render.ts';
import { describeGrant, describeHold } from './decide.ts';

const born = (object: Resource): number => Date.parse(object.metadata.creationTimestamp);
const byAge = <R extends Resource>(items: R[]): R[] => items.sort((a, b) => born(a) - born(b));
/** Whose access it is. */
const who = ({ spec }: AccessGrant): string => spec.beneficiary?.name ?? spec.requester?.username ?? 'unknown';

export async function pending(context: Context, options: { signOff?: boolean } = {}): Promise<ExitCode> {
  const { client, namespace, io } = context;
  if (options.signOff === true) return signOffsDue(context);
  const [everyGrant, everyHold] = await Promise.all([
    client.list<AccessGrant>('AccessGrant', namespace),
    client.list<CommandHold>('CommandHold', namespace),
  ]);
  const grants = byAge(
    everyGrant.filter(
      (each) => (each.status?.phase ?? 'Pending') === 'Pending' && each.status?.expiresAt === undefined,
    ),
  );
  const held = byAge(everyHold.filter((each) => (each.status?.phase ?? 'Waiting') === 'Waiting'));
  const unsigned = everyGrant.filter(isDue);
  const shown = machineForm(context.output, [...grants, ...held]);
  if (shown !== undefined) {
    io.out(shown);
    return EXIT.ok;
  }
  if (grants.length + held.length + unsigned.length === 0) {
    io.out('Nothing waits for an approval.\n');
    return EXIT.ok;
  }
  const now = context.now();
  if (grants.length > 0) {
    const policies = (await unlessForbidden(client.list<AccessPolicy>('AccessPolicy', namespace))) ?? [];
    const mind = (grant: AccessGrant): string => {
      const { namespace: home } = grant.metadata;
      const policy = policies.find(
        ({ metadata }) => metadata.namespace === home && metadata.name === grant.status?.policy?.name,
      );
      return insightOf({ grant, policy, grants: everyGrant, nowMs: now })
        .risks.map(({ kind }) => kind)
        .join(', ');
    };
    io.out(
      table(
        ['REQUEST', 'WHO', 'WHAT', 'FOR', 'REASON', 'POLICY', 'MIND', 'NEEDS', 'AGE'],
        grants.map((each) => [
          each.metadata.name,
          who(each),
          `${each.metadata.namespace}/${each.spec.connectionRef.name}${each.status?.account ? ` as ${each.status.account}` : ''}`,
          each.spec.duration ?? '',
          each.spec.reason ?? '',
          each.status?.policy?.name ?? '-',
          mind(each) || '-',
          each.status?.waitingFor ?? '',
          age(now - born(each)),
        ]),
      ),
    );
  }
  if (held.length > 0) {
    if (grants.length > 0) io.out('\n');
    io.out(holdTable(held, now));
  }
  if (unsigned.length > 0) {
    io.out(
      `\nTaken by break-glass and not signed off: ${unsigned.map((each) => each.metadata.name).join(', ')}. See: ${nextCommand(context, 'pending --sign-off')}\n`,
    );
  }
  const first = grants[0] ?? held[0];
  if (first !== undefined)
    io.out(
      `\nNext: ${nextCommand(context, `approve ${first.metadata.name}`, { namespace: first.metadata.namespace })}\n`,
    );
  return EXIT.ok;
}

/** Emergencies whose review is due, the oldest first. */
async function signOffsDue(context: Context): Promise<ExitCode> {
  const { client, namespace, io } = context;
  const due = byAge((await client.list<AccessGrant>('AccessGrant', namespace)).filter(isDue));
  const shown = machineForm(context.output, due);
  if (shown !== undefined || due.length === 0) {
    io.out(shown ?? 'No emergency waits for its sign-off.\n');
    return EXIT.ok;
  }
  const now = context.now();
  io.out(
    table(
      ['GRANT', 'WHO', 'WHAT', 'PHASE', 'REASON', 'DUE FROM', 'AGE'],
      due.map((each) => [
        each.metadata.name,
        who(each),
        `${each.metadata.namespace}/${each.spec.connectionRef.name}${each.status?.account ? ` as ${each.status.account}` : ''}`,
        each.status?.phase ?? '',
        each.spec.reason ?? '',
        each.status?.conditions?.find(({ type }) => type === 'SignedOff')?.message ?? '',
        age(now - born(each)),
      ]),
    ),
  );
  const [first] = due;
  io.out(
    `\nNext: ${nextCommand(context, `sign-off ${first!.metadata.name} --reason "what you found"`, { namespace: first!.metadata.namespace })}\n`,
  );
  return EXIT.ok;
}

const isDue = ({ status }: AccessGrant): boolean =>
  status?.conditions?.some((condition) => condition.type === 'SignedOff' && condition.status === 'False') ?? false;

const holdTable = (items: readonly CommandHold[], now: number): string =>
  table(
    ['HOLD', 'WHO', 'WHERE', 'PHASE', 'STATEMENT', 'LEFT'],
    items.map((each) => [
      each.metadata.name,
      each.spec.requester.username,
      `${each.metadata.namespace}/${each.spec.connectionRef.name}`,
      each.status?.phase ?? 'Waiting',
      each.spec.command.length > 60 ? `${each.spec.command.slice(0, 60)}…` : each.spec.command,
      (each.status?.phase ?? 'Waiting') === 'Waiting' ? age(Date.parse(each.spec.until) - now) : '-',
    ]),
  );

export async function holds(context: Context): Promise<ExitCode> {
  const items = byAge(await context.client.list<CommandHold>('CommandHold', context.namespace));
  const shown = machineForm(context.output, items);
  context.io.out(shown ?? (items.length === 0 ? 'No statement was held.\n' : holdTable(items, context.now())));
  return EXIT.ok;
}

export async function status(context: Context, name: string | undefined, all: boolean): Promise<ExitCode> {
  const { client, io, actor, namespace } = context;
  if (name !== undefined) {
    const target = await findTarget(context, name);
    const now = context.now();
    io.out(
      machineObject(context.output, target) ??
        (target.kind === 'CommandHold' ? describeHold(target, now) : describeGrant(target, now) + tellSignOff(target)),
    );
    return EXIT.ok;
  }
  const grants = byAge(
    (await client.list<AccessGrant>('AccessGrant', namespace)).filter((each) => all || who(each) === actor.username),
  );
  const shown = machineForm(context.output, grants);
  if (shown !== undefined) {
    io.out(shown);
    return EXIT.ok;
  }
  if (grants.length === 0) {
    io.out(
      `${all ? 'There are no grants' : `${actor.username} has no grants`}.\nNext: ${nextCommand(context, 'ls')}\n`,
    );
    return EXIT.ok;
  }
  const now = context.now();
  const wide = context.output === 'wide';
  io.out(
    table(
      [
        'GRANT',
        ...(all ? ['WHO'] : []),
        'WHAT',
        'ACCOUNT',
        'PHASE',
        'UNTIL',
        ...(wide ? ['POLICY', 'MESSAGE'] : ['WAITS FOR']),
        'AGE',
      ],
      grants.map((each) => [
        each.metadata.name,
        ...(all ? [who(each)] : []),
        `${each.metadata.namespace}/${each.spec.connectionRef.name}`,
        each.status?.account ?? '',
        each.status?.phase ?? 'New',
        clockTime(each.status?.expiresAt, now),
        ...(wide
          ? [each.status?.policy?.name ?? '', each.status?.message ?? '']
          : [
              each.status?.waitingFor ??
                (each.status?.phase === 'Pending'
                  ? `its start at ${clockTime(each.status.notBefore, now)}`
                  : (each.status?.message ?? '')),
            ]),
        age(now - born(each)),
      ]),
    ),
  );
  return EXIT.ok;
}

function tellSignOff(grant: AccessGrant): string {
  const condition = grant.status?.conditions?.find((each) => each.type === 'SignedOff');
  return condition === undefined ? '' : `${line(condition.message)}\n`;
}

export async function ls(context: Context): Promise<ExitCode> {
  const { client, io, actor, namespace } = context;
  const connections = (await client.list<Connection>('Connection', namespace)).sort((a, b) =>
    `${a.metadata.namespace}/${a.metadata.name}` < `${b.metadata.namespace}/${b.metadata.name}` ? -1 : 1,
  );
  const shown = machineForm(context.output, connections);
  if (shown !== undefined) {
    io.out(shown);
    return EXIT.ok;
  }
  // The table is drawn without what somebody may not see.
  const [locks = [], grants = []] = await Promise.all([
    unlessForbidden(client.list<AccessLock>('AccessLock', namespace)),
    unlessForbidden(client.list<AccessGrant>('AccessGrant', namespace)),
  ]);
  const now = context.now();
  const rows: string[][] = [];
  const problems: string[] = [];
  for (const each of connections) {
    const home = each.metadata.namespace ?? '';
    const answer = await client.eligibility({ actor, namespace: home, connection: each.metadata.name });
    const mine = grants.find(
      (grant) =>
        who(grant) === actor.username &&
        grant.metadata.namespace === home &&
        grant.spec.connectionRef.name === each.metadata.name &&
        (grant.status?.phase === 'Active' || grant.status?.phase === 'Pending'),
    );
    const { word, problem } = connectionState(each);
    if (problem !== '') problems.push(`${home}/${each.metadata.name}: ${word}: ${line(problem)}\n`);
    const endpoint = each.status?.endpoint;
    rows.push([
      home,
      each.metadata.name,
      each.spec.type,
      endpoint ? `${endpoint.host}:${endpoint.port}` : '-',
      word,
      answer.kind === 'Eligible'
        ? `${answer.access} (${answer.policy})`
        : answer.kind === 'NotEligible' && answer.message.includes('policies would give')
          ? 'several: name --policy'
          : answer.kind === 'Unknown'
            ? 'unknown'
            : 'none',
      mine === undefined
        ? '-'
        : `${mine.metadata.name} ${mine.status?.phase}${mine.status?.phase === 'Active' ? ` until ${clockTime(mine.status.expiresAt, now)}` : ''}`,
    ]);
  }
  io.out(
    rows.length === 0
      ? `There is no Connection${context.cluster !== undefined && namespace !== undefined ? ` in namespace ${namespace}` : ''}.\n`
      : table(['NAMESPACE', 'NAME', 'TYPE', 'ENDPOINT', 'STATE', 'YOUR ACCESS', 'YOUR GRANT'], rows),
  );
  if (problems.length > 0) io.out(`\n${problems.join('')}`);
  for (const lock of locks.filter((each) => each.spec.until === undefined || Date.parse(each.spec.until) > now)) {
    io.out(
      paint(io, 'red', `Locked: ${lock.metadata.namespace}/${lock.metadata.name}: ${line(lock.spec.reason)}`) + '\n',
    );
  }
  return EXIT.ok;
}

export async function sessions(context: Context): Promise<ExitCode> {
  const { client, io, namespace } = context;
  const items = (await client.sessions()).filter(
    (each) => namespace === undefined || each.connection.namespace === namespace,
  );
  if (context.output === 'name') {
    io.out(items.map((each) => `session/${each.id}\n`).join(''));
    return EXIT.ok;
  }
  const now = context.now();
  io.out(
    machineForm(context.output, items) ??
      (items.length === 0
        ? 'No session is open.\n'
        : table(
            ['SESSION', 'WHO', 'WHERE', 'ACCOUNT', 'GRANT', 'FROM', 'STATE', 'AGE'],
            items.map((each) => [
              each.id,
              each.principal?.username ?? '-',
              `${each.connection.namespace}/${each.connection.name}`,
              each.account ?? '-',
              each.grant?.name ?? '-',
              each.client.port === 0 ? each.client.address : `${each.client.address}:${each.client.port}`,
              each.holds.length > 0 ? `held: ${each.holds.join(', ')}` : each.state,
              age(now - each.startedAtMs),
            ]),
          )),
  );
  return EXIT.ok;
}
