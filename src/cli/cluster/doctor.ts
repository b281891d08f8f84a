// doctor: looks at everything that must be right for access to work and to be the only way in, and says what to do.
// It changes nothing. What it may not see it calls Unknown. Exit code 1 where a check failed.
import type { Connection } from '../../api/connection.ts';
import { type Context, findConnection } from '../context.ts';
import { CliError, EXIT, type ExitCode, paint } from '../io.ts';
import { block, table, yamlText } from '../render.ts';
import { checkBypasses } from './doctor/bypass.ts';
import { type Check, type CheckState, createLooker, type Looker } from './doctor/check.ts';
import { checkConnections } from './doctor/connections.ts';
import { checkInstall } from './doctor/install.ts';
import { checkRights, mayI } from './doctor/rights.ts';
import { unlessForbidden } from './failures.ts';

export interface DoctorOptions {
  strict?: boolean;
}

export async function doctor(context: Context, name: string | undefined, options: DoctorOptions): Promise<ExitCode> {
  const { cluster, io, actor, output } = context;
  if (cluster === undefined)
    throw new CliError(EXIT.misconfigured, 'doctor looks at a cluster', 'Run kubectl access doctor.');
  const look = createLooker(cluster.kube, cluster.place, io.signal);
  const install = await checkInstall(look, context.now);
  const checks = [...install.checks];
  const served = install.checks[0]?.state === 'Ok';
  const { namespace } = context;
  checks.push(...(await checkRights(look, actor, namespace)));
  if (served) {
    const chosen = name === undefined ? undefined : [await findConnection(context, name)];
    const connections = chosen ?? (await unlessForbidden(context.client.list<Connection>('Connection', namespace)));
    if (connections === undefined) {
      checks.push({
        area: 'Connection',
        subject: 'all',
        state: 'Unknown',
        message: `You may not list Connections${namespace === undefined ? ' in all namespaces' : ` in namespace ${namespace}`}`,
      });
    }
    const byNamespace = Map.groupBy(connections ?? [], ({ metadata }) => metadata.namespace ?? 'default');
    const spaces = byNamespace.size > 0 ? [...byNamespace] : namespace === undefined ? [] : [[namespace, []] as const];
    for (const [space, own] of spaces) {
      const of = spaces.length > 1 ? prefixed(space) : (all: Check[]) => all;
      checks.push(...(await checkConnections(look, space, own)));
      if (chosen !== undefined) checks.push(await tunnelCheck(look, own[0]!));
      checks.push(...of(await checkBypasses(look, { namespace: space, release: install.release, connections: own })));
    }
  }
  const failed = checks.some(({ state }) => state === 'Fail' || (options.strict === true && state === 'Warn'));
  if (output === 'json') io.out(`${JSON.stringify({ ok: !failed, checks }, null, 2)}\n`);
  else if (output === 'yaml') io.out(yamlText({ ok: !failed, checks }));
  else io.out(report(context, checks));
  return failed ? EXIT.failed : EXIT.ok;
}

const prefixed =
  (namespace: string) =>
  (checks: Check[]): Check[] =>
    checks.map((check) => ({ ...check, subject: `${namespace}: ${check.subject}` }));

async function tunnelCheck(look: Looker, { metadata }: Connection): Promise<Check> {
  const { serviceName } = await import('../../controllers/workloads/names.ts');
  const { name, namespace = 'default' } = metadata;
  const may = await mayI(look, {
    verb: 'create',
    group: '',
    resource: 'services',
    subresource: 'proxy',
    name: `https:${serviceName(name)}:tunnel`,
    namespace,
  });
  const check = { area: 'You', subject: `tunnel to ${namespace}/${name}` } as const;
  return may === true
    ? { ...check, state: 'Ok', message: 'You may go there through the API server' }
    : {
        ...check,
        state: 'Warn',
        message: 'You may not go there through the API server: connect works from pods of the cluster only',
        fix: 'A policy that names you brings the right with it (chart value tunnel.roles).',
      };
}

const COLOURS = { Ok: 'green', Warn: 'yellow', Fail: 'red', Unknown: 'dim' } as const;
const ORDER: readonly CheckState[] = ['Fail', 'Warn', 'Unknown', 'Ok'];

/** The table, and below it what to do, the worst first. */
function report({ io }: Pick<Context, 'io'>, checks: readonly Check[]): string {
  const [header = '', ...rows] = table(
    ['STATE', 'AREA', 'CHECK', 'WHAT IS SEEN'],
    checks.map(({ state, area, subject, message }) => [state, area, subject, message]),
  ).split('\n');
  const painted = rows.map((row, index) => {
    const state = checks[index]?.state;
    return state === undefined ? row : paint(io, COLOURS[state], row.slice(0, state.length)) + row.slice(state.length);
  });
  const todo = ORDER.slice(0, 3).flatMap((state) =>
    checks
      .filter((each) => each.state === state && each.fix !== undefined)
      .map(({ subject, fix }) => `${paint(io, COLOURS[state], state)} ${subject}:\n${block(fix ?? '')}\n`),
  );
  const count = (state: CheckState): number => checks.filter((each) => each.state === state).length;
  return `${[header, ...painted].join('\n')}${todo.length > 0 ? `\n${todo.join('')}` : ''}\n${count('Fail')} failed, ${count('Warn')} to look at, ${count('Unknown')} not known, ${count('Ok')} fine.\n`;
}
