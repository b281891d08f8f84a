// request and connect for jobs: no kubeconfig and no daemon, but a portal, and a token that says which job it is.
// Exit codes are for scripts: 75 while something waits for people, with the page where they decide; 77 where they, or a
// policy, said no. A job that is run again after the approval finds its request, and needs no key of the run before.
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { canonicalJson, sha256Hex } from '../../api/canonical.ts';
import { loadClientKey } from '../../identity/keys.ts';
import { issueTicket } from '../../identity/tickets.ts';
import type { HoldView, RequestView } from '../../portal/api-types.ts';
import { systemFiles, writeFileAtomically } from '../../system/files.ts';
import { systemRandom } from '../../system/random.ts';
import { type ClientTarget, clientEnvironment } from '../clients/postgres.ts';
import { spawnClient } from '../clients/spawn.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT, type ExitCode, pause } from '../io.ts';
import { clockTime, line, yamlText } from '../render.ts';
import { inHome, keyFile, makeKey, type RequestOptions } from '../verbs/request.ts';
import { keepNewest } from './keep-newest.ts';
import { openPassFile } from './passfile.ts';
import { type RequestsClient, requestsClient } from './requests-client.ts';
import { readPem } from './settings.ts';
import { type WorkloadTokenSource, workloadToken } from './workload-token.ts';

export interface PipelineOptions {
  server?: string;
  serverCa?: string;
  tokenFile?: string;
  audience?: string;
}

interface Job {
  server: string;
  namespace: string;
  connection: string;
  tokens: WorkloadTokenSource;
  client: RequestsClient;
}

const POLL_MS = 3_000;
const LEAST_LEFT_MS = 60_000;

function openJob(context: Context, name: string, options: PipelineOptions): Job {
  const server = originOf(options.server ?? '');
  const [namespace, connection] = name.includes('/')
    ? (name.split('/', 2) as [string, string])
    : [context.namespace, name];
  if (namespace === undefined) {
    throw new CliError(
      EXIT.misconfigured,
      'A portal serves every namespace, and none was named',
      `Write -n NAMESPACE, or NAMESPACE/${connection}.`,
    );
  }
  const tokens = workloadToken(options, context.io, () => context.now());
  const caPem = options.serverCa === undefined ? undefined : readPem('--server-ca', options.serverCa);
  return { server, namespace, connection, tokens, client: requestsClient({ server, caPem, tokens, io: context.io }) };
}

function originOf(server: string): string {
  if (URL.canParse(server)) {
    const url = new URL(server);
    if (['https:', 'http:'].includes(url.protocol) && url.username === '' && ['', '/'].includes(url.pathname)) {
      return url.origin;
    }
  }
  throw new CliError(
    EXIT.misconfigured,
    `--server ${line(server)} is no address of a portal`,
    'Write for example https://access.corp.example.',
  );
}

export async function requestAt(
  context: Context,
  name: string,
  options: RequestOptions & PipelineOptions,
): Promise<ExitCode> {
  refuseFlags(options, ['extend', 'breakGlass', 'forUser', 'key', 'provider']);
  const job = openJob(context, name, options);
  const commands =
    options.commandFile === undefined
      ? undefined
      : await (await import('../verbs/command-file.ts')).readStatements(options.commandFile);
  let view = await sameAsBefore(job, commands, options, context.now());
  if (view === undefined) {
    const clientKey = makeKey(context);
    view = await job.client.ask({
      namespace: job.namespace,
      connection: job.connection,
      clientKey,
      ...(options.account === undefined ? {} : { account: options.account }),
      ...(options.policy === undefined ? {} : { policy: options.policy }),
      ...(options.for === undefined ? {} : { duration: options.for }),
      ...(options.notBefore === undefined ? {} : { notBefore: options.notBefore }),
      ...(options.reason === undefined ? {} : { reason: options.reason }),
      ...(options.ticket === undefined ? {} : { ticket: options.ticket }),
      ...(commands === undefined ? {} : { commands }),
    });
    remember(context, job, { name: view.name, clientKey });
  }
  // The operator decides within moments what needs nobody's word.
  for (
    let left = 5;
    left > 0 && view.phase === 'Pending' && view.waitingFor === undefined && view.expiresAt === undefined;
    left -= 1
  ) {
    await pause(1_000, context.io.signal);
    view = await job.client.look(view.namespace, view.name);
  }
  const quiet = context.output !== 'table' && context.output !== 'wide';
  if (options.wait === true && view.phase === 'Pending') {
    if (!quiet) tell(context, view);
    view = await settled(context, job, view);
  }
  if (context.output === 'json') context.io.out(`${JSON.stringify(view, null, 2)}\n`);
  else if (context.output === 'yaml') context.io.out(yamlText(view));
  else if (context.output === 'name') context.io.out(`${view.name}\n`);
  else tell(context, view);
  if (quiet && view.phase === 'Pending') context.io.err(`Decided at ${line(view.link)}\n`);
  return exitOf(view);
}

/** Flags that a portal has no use for. */
function refuseFlags(options: object, names: readonly string[]): void {
  const given = names.find((each) => (options as Record<string, unknown>)[each] !== undefined);
  if (given === undefined) return;
  const flag = given.replace(/[A-Z]/g, (char) => `-${char.toLowerCase()}`);
  throw new CliError(EXIT.misconfigured, `--${flag} and --server exclude each other`, 'Leave one of them out.');
}

/** What an earlier run of the job asked for in the same words, while it is open or in force. */
async function sameAsBefore(
  job: Job,
  commands: readonly string[] | undefined,
  options: RequestOptions,
  nowMs: number,
): Promise<RequestView | undefined> {
  const wanted = commands === undefined ? undefined : commandsHash(commands);
  const all = await job.client.mine(job.namespace, job.connection);
  return all.find(
    (each) =>
      each.commandsHash === wanted &&
      // One that is about to end would end under the job.
      (each.expiresAt === undefined || Date.parse(each.expiresAt) - nowMs > LEAST_LEFT_MS) &&
      (options.account === undefined || each.account === undefined || each.account === options.account) &&
      (options.policy === undefined || each.policy === undefined || each.policy === options.policy) &&
      !isForNobody(each),
  );
}

export const commandsHash = (commands: readonly string[]): string => sha256Hex(canonicalJson([...commands]));

async function settled(context: Context, job: Job, first: RequestView): Promise<RequestView> {
  let view = first;
  while (view.phase === 'Pending' && !isForNobody(view)) {
    await pause(POLL_MS, context.io.signal);
    view = await job.client.look(view.namespace, view.name);
  }
  return view;
}

function tell({ io, now }: Context, view: RequestView): void {
  const name = line(view.name);
  switch (view.phase) {
    case 'Active':
      io.out(
        `Grant ${name} is Active until ${clockTime(view.expiresAt, now())}: ${line(view.connection.name)} as ${line(view.account ?? '')}.\n`,
      );
      return;
    case 'Pending':
      io.out(
        view.expiresAt !== undefined
          ? `Grant ${name} is approved and starts at ${clockTime(view.notBefore, now())}.\n`
          : `Grant ${name} is Pending: it needs ${line(view.waitingFor ?? 'an approval')}${view.deadline === undefined ? '' : ` until ${clockTime(view.deadline, now())}`}.\nDecided at ${line(view.link)}\n`,
      );
      return;
    default:
      io.out(`Grant ${name} is ${view.phase}: ${line(view.message ?? 'no reason is known')}.\n${line(view.link)}\n`);
  }
}

/** No policy lets the job: nobody can approve it. */
const isForNobody = (view: RequestView): boolean =>
  view.phase === 'Pending' && view.policy === undefined && view.waitingFor !== undefined;

function exitOf(view: RequestView): ExitCode {
  if (view.phase === 'Active') return EXIT.ok;
  if (isForNobody(view)) return EXIT.denied;
  return view.phase === 'Pending' ? EXIT.pending : EXIT.denied;
}

interface Note {
  name: string;
  clientKey: string;
}

const noteFile = (context: Context, { server, namespace, connection }: Job): string =>
  path.join(
    path.resolve(context.home),
    'requests',
    `${sha256Hex(JSON.stringify([server, namespace, connection])).slice(0, 24)}.json`,
  );

function remember(context: Context, job: Job, note: Note): void {
  const file = noteFile(context, job);
  inHome(context, () => {
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    writeFileAtomically(systemFiles, file, Buffer.from(JSON.stringify(note)), 0o600);
  });
}

function noted(context: Context, job: Job): Note | undefined {
  try {
    const { name, clientKey } = JSON.parse(readFileSync(noteFile(context, job), 'utf8')) as Partial<Note>;
    return typeof name === 'string' && typeof clientKey === 'string' ? { name, clientKey } : undefined;
  } catch {
    return undefined;
  }
}

export interface PipelineConnectOptions extends PipelineOptions {
  grant?: string;
  account?: string;
  wait?: boolean;
  command?: readonly string[];
}

export async function connectAt(context: Context, name: string, options: PipelineConnectOptions): Promise<ExitCode> {
  refuseFlags(options, ['listen', 'tunnel', 'direct', 'token', 'policy', 'reason', 'for']);
  const job = openJob(context, name, options);
  const note = noted(context, job);
  let view = await chosen(job, note, options);
  if (view === undefined) {
    throw new CliError(
      EXIT.denied,
      `This job has no grant for ${line(job.namespace)}/${line(job.connection)}`,
      `Ask for one first: ${context.prefix} request ${line(name)} --server ${job.server} --reason TEXT --wait`,
    );
  }
  if (options.wait === true && view.phase === 'Pending') view = await settled(context, job, view);
  if (view.phase !== 'Active') {
    tell({ ...context, io: { ...context.io, out: (text) => context.io.err(text) } }, view);
    return exitOf(view);
  }
  return run(context, job, view, note, options.command?.length ? options.command : ['psql']);
}

async function chosen(
  job: Job,
  note: Note | undefined,
  options: PipelineConnectOptions,
): Promise<RequestView | undefined> {
  if (options.grant !== undefined) return job.client.look(job.namespace, options.grant);
  if (note !== undefined) return job.client.look(job.namespace, note.name);
  const all = (await job.client.mine(job.namespace, job.connection)).filter(
    (each) => options.account === undefined || each.account === options.account,
  );
  return all.find((each) => each.phase === 'Active') ?? all[0];
}

async function run(
  context: Context,
  job: Job,
  view: RequestView,
  note: Note | undefined,
  command: readonly string[],
): Promise<ExitCode> {
  const { io, home } = context;
  const target = targetOf(context, view);
  const key = note?.name === view.name ? note.clientKey : undefined;
  const over = new AbortController();
  const before = new Set(view.holds.map((each) => each.name));
  const missing = 'Install it in the job’s image.';
  const watching = watchHolds(context, job, view, before, over.signal);
  let code: ExitCode;
  if (key !== undefined) {
    const password = issueTicket({
      privateKey: loadClientKey(keyFile(home, key)).privateKey,
      grantUid: view.uid,
      connectionUid: view.connection.uid,
      nowMs: context.now(),
      random: systemRandom,
    });
    code = await spawnClient(command, withoutToken(clientEnvironment(io.env, target, { password })), missing);
  } else {
    const named = { ...target, account: `${target.account}+${view.name}` };
    const { tokens } = job;
    const first = await tokens.token();
    const file = openPassFile(home, io.env, target, first);
    const keeping = keepNewest({ file, tokens, first, io, signal: over.signal });
    try {
      const env = withoutToken(clientEnvironment(io.env, named, { passFile: file.path }));
      code = await spawnClient(command, env, missing);
    } finally {
      over.abort();
      await keeping;
      file.remove();
    }
  }
  over.abort();
  await watching;
  const now = await job.client.look(view.namespace, view.name).catch(() => undefined);
  const held = (now?.holds ?? []).filter((each) => !before.has(each.name));
  return afterHolds(context, held, code);
}

/** What of the holds of a run its job ends with. Exported for tests. */
export function afterHolds({ io }: Pick<Context, 'io'>, held: readonly HoldView[], code: ExitCode): ExitCode {
  const denied = held.find((each) => each.phase === 'Denied');
  if (denied !== undefined) {
    io.err(`A statement was held and denied (${line(denied.name)}): ${line(denied.link)}\n`);
    return EXIT.denied;
  }
  const open = held.find((each) => each.phase === 'TimedOut' || each.phase === 'Waiting');
  if (open === undefined) return code;
  io.err(
    `A statement was held, and nobody has approved it (${line(open.name)}): ${line(open.link)}\nRun the job again when somebody can.\n`,
  );
  return EXIT.pending;
}

/** Tells of each held statement at once, so that the job's log has the link while it waits. */
async function watchHolds(
  context: Context,
  job: Job,
  view: RequestView,
  before: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<void> {
  const told = new Set(before);
  try {
    for (;;) {
      await pause(POLL_MS, signal);
      const now = await job.client.look(view.namespace, view.name).catch(() => undefined);
      for (const each of now?.holds ?? []) {
        if (told.has(each.name) || each.phase !== 'Waiting') continue;
        told.add(each.name);
        context.io.err(`Held as ${line(each.name)}. Decided at ${line(each.link)}\n`);
      }
    }
  } catch {
    // The client has ended.
  }
}

function targetOf(context: Context, view: RequestView): ClientTarget {
  const { endpoint, caBundle, database, name } = view.connection;
  if (endpoint === undefined || caBundle === undefined) {
    throw new CliError(
      EXIT.unavailable,
      `Connection ${line(name)} is not listening yet`,
      'Try again; if it stays, its owner reads the Connection’s conditions.',
    );
  }
  const caFile = path.join(path.resolve(context.home), 'ca', `${sha256Hex(caBundle).slice(0, 16)}.crt`);
  inHome(context, () => {
    mkdirSync(path.dirname(caFile), { recursive: true, mode: 0o700 });
    writeFileAtomically(systemFiles, caFile, Buffer.from(caBundle), 0o644);
  });
  return { ...endpoint, database: database ?? 'postgres', account: view.account ?? '', caFile };
}

/** What says who the job is stays with this process. */
function withoutToken(env: Record<string, string | undefined>): Record<string, string | undefined> {
  const { SALLYPORT_ID_TOKEN: _token, ...rest } = env;
  return rest;
}
