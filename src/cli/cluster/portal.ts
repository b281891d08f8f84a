// `sallyport portal`: the approval page, as a process of its own. Composes it for what is behind it: the daemon of this
// machine, or the cluster it runs in. Nothing here decides.
import fs from 'node:fs';
import { authorityOf, makeAuthorityKeys } from '../../controllers/pki/authority.ts';
import { openServerTls } from '../../controllers/pki/server-tls.ts';
import { inClusterAccess } from '../../kube/access.ts';
import { createKubeClient, type KubeClient } from '../../kube/client.ts';
import { createBrowserSessions } from '../../portal/browser-sessions.ts';
import { createLogin } from '../../portal/login.ts';
import type { Portal } from '../../portal/portal.ts';
import { createRequestsApi } from '../../portal/requests-api.ts';
import { type PortalServer, servePortal } from '../../portal/server.ts';
import type { World } from '../../portal/world.ts';
import { systemClock } from '../../system/clock.ts';
import { systemRandom } from '../../system/random.ts';
import { createLog, LOG_LEVELS, type LogLevel } from '../../telemetry/log.ts';
import { CliError, EXIT, type ExitCode, type Io } from '../io.ts';
import { version } from '../version.ts';
import { caOfIssuer, createClusterWorld } from './portal-cluster.ts';
import { createLocalWorld } from './portal-local.ts';

export interface PortalCommandOptions {
  issuer?: string;
  clientId?: string;
  clientSecretFile?: string;
  caFile?: string;
  scope?: string;
  /** Address people open. */
  url?: string;
  host?: string;
  port?: string;
  tlsCert?: string;
  tlsKey?: string;
  /** Makes a certificate of its own, in memory: for behind something that does not verify it. */
  tlsSelfMade?: boolean;
  loginOrigin?: string[];
  logLevel?: string;
  /** Serves the cluster it runs in, not this machine. */
  cluster?: boolean;
}

const DEFAULT_PORT = 8844;
const DEFAULT_SCOPE = 'openid profile email';

export async function portalCommand(
  io: Io,
  options: PortalCommandOptions,
  local: { state: string; prefix: string },
): Promise<ExitCode> {
  const clock = systemClock;
  const random = systemRandom;
  const level = LOG_LEVELS.find((each): each is LogLevel => each === options.logLevel) ?? 'info';
  const log = createLog({ clock, level });
  const port = portOf(options.port);
  const host = options.host ?? '127.0.0.1';
  const given = tlsOf(options);
  const secure = given !== undefined || options.tlsSelfMade === true;
  const origin = originOf(options.url ?? `http${secure ? 's' : ''}://localhost:${port}`);
  if (!secure && !['127.0.0.1', '::1', 'localhost'].includes(host)) {
    throw new CliError(
      EXIT.misconfigured,
      `Logins would travel in the clear to ${host}`,
      'Give --tls-cert and --tls-key or --tls-self-made, or listen on 127.0.0.1.',
    );
  }
  const issuer = required(options.issuer, '--issuer', 'the identity provider, as its tokens spell it');
  const clientId = required(options.clientId, '--client-id', 'the client that is registered there for this page');
  const clientSecret = options.clientSecretFile === undefined ? undefined : read(options.clientSecretFile).trim();
  const undo: (() => Promise<void> | void)[] = [];
  try {
    const back = options.cluster === true ? cluster(io, { log, clock, random }) : undefined;
    const here = back === undefined ? createLocalWorld({ ...local, clock }) : undefined;
    const world: World = back?.world ?? here!;
    undo.push(() => back?.stop() ?? here?.stop());
    const ca = options.caFile === undefined ? await back?.caOf(issuer) : read(options.caFile);
    const login = createLogin(
      { issuer, clientId, clientSecret, ca, redirectUri: `${origin}/callback`, scope: options.scope ?? DEFAULT_SCOPE },
      () => clock.monotonic(),
    );
    undo.push(() => login.stop());
    const sessions = createBrowserSessions(clock, random);
    undo.push(() => sessions.stop());
    const site = { origin, host: new URL(origin).host, loginOrigins: (options.loginOrigin ?? []).map(originOf) };
    const portal: Portal = { world, login, sessions, site, clock, random, log };
    const own = given === undefined && secure ? await selfMade([new URL(origin).hostname], portal) : undefined;
    undo.push(() => own?.stop());
    const server = await servePortal(portal, {
      host,
      port,
      tls: given ?? own?.current(),
      api: createRequestsApi(portal),
    }).catch((error: Error) => {
      throw new CliError(
        EXIT.misconfigured,
        `${host}:${port} can not be opened: ${error.message}`,
        'Choose another --port.',
      );
    });
    undo.push(() => server.close());
    undo.push(followCertificate(server, options, own, clock, log));
    io.out(`Sallyport’s page is at ${origin}/\n`);
    await checked(world, login, issuer, log);
    await untilAborted(io.signal);
    return EXIT.ok;
  } finally {
    for (const step of undo.reverse()) await step();
  }
}

/** The world of the cluster this pod is in. */
function cluster(
  io: Io,
  sources: Pick<Portal, 'clock' | 'random' | 'log'>,
): { world: World; caOf(issuer: string): Promise<string | undefined>; stop(): Promise<void> } {
  const access = inClusterAccess({ env: io.env });
  if (access === undefined) {
    throw new CliError(EXIT.misconfigured, '--cluster works in a pod only', 'The Helm chart runs it: portal.enabled.');
  }
  const namespace = io.env['SALLYPORT_NAMESPACE'] ?? access.namespace;
  const client: KubeClient = createKubeClient(access, { userAgent: `sallyport-portal/${version()}` });
  const world = createClusterWorld({ client, namespace, ...sources });
  return {
    world,
    caOf: (issuer) => caOfIssuer(client, issuer),
    async stop() {
      await world.stop();
      await client.close();
    },
  };
}

/** A certificate by an authority of this process alone, renewed in time. */
async function selfMade(names: readonly string[], { clock, random, log }: Portal) {
  const keys = await makeAuthorityKeys('Sallyport portal', { clock, random });
  return openServerTls({ authority: await authorityOf(keys, { clock, random }), names, clock, log });
}

const CERTIFICATE_MS = 60_000;

/** Certificates are replaced while it runs: files by whoever renews them, its own by itself. */
function followCertificate(
  server: PortalServer,
  options: PortalCommandOptions,
  own: { current(): { cert: string; key: string } } | undefined,
  clock: Portal['clock'],
  log: Portal['log'],
): () => void {
  let last = '';
  let cancel: () => void = () => undefined;
  const look = (): void => {
    try {
      const tls = tlsOf(options) ?? own?.current();
      if (tls !== undefined && last !== '' && last !== tls.cert) server.setTls(tls);
      last = tls?.cert ?? '';
    } catch (error) {
      log('warn', 'the new certificate can not be used; the old one stays', { error: (error as Error).message });
    }
    cancel = clock.after(CERTIFICATE_MS, look);
  };
  look();
  return () => cancel();
}

/** What would keep everybody out is said at the start; it may mend itself. */
async function checked(world: World, login: Portal['login'], issuer: string, log: Portal['log']): Promise<void> {
  await login.origin().catch((error: unknown) => {
    log('warn', 'the identity provider can not be asked', { issuer, error: (error as Error).message });
  });
  const providers = await world.providers().catch(() => undefined);
  if (providers !== undefined && !providers.some((each) => each.issuer === issuer)) {
    log('warn', 'no IdentityProvider of that issuer is in force, so nobody can log in yet', { issuer });
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const alive = setInterval(() => undefined, 3_600_000);
    signal.addEventListener(
      'abort',
      () => {
        clearInterval(alive);
        resolve();
      },
      { once: true },
    );
  });
}

function required(value: string | undefined, option: string, what: string): string {
  if (value !== undefined && value !== '') return value;
  throw new CliError(EXIT.misconfigured, `${option} is missing`, `It names ${what}.`);
}

function read(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch (error) {
    throw new CliError(EXIT.misconfigured, `${file} can not be read (${(error as NodeJS.ErrnoException).code})`);
  }
}

function tlsOf({ tlsCert, tlsKey }: PortalCommandOptions): { cert: string; key: string } | undefined {
  if (tlsCert === undefined && tlsKey === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined) {
    throw new CliError(EXIT.misconfigured, 'A certificate needs its key', 'Give both --tls-cert and --tls-key.');
  }
  return { cert: read(tlsCert), key: read(tlsKey) };
}

function originOf(text: string): string {
  try {
    const url = new URL(text);
    const local = url.protocol === 'http:' && ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname);
    if ((url.protocol === 'https:' || local) && url.username === '' && url.pathname === '/' && url.search === '')
      return url.origin;
  } catch {
    // said below
  }
  throw new CliError(
    EXIT.misconfigured,
    `${text} is no origin of a page`,
    'Write https://NAME or https://NAME:PORT; http only for localhost.',
  );
}

function portOf(text: string | undefined): number {
  const port = text === undefined ? DEFAULT_PORT : Number(text);
  if (Number.isInteger(port) && port > 0 && port <= 65_535) return port;
  throw new CliError(EXIT.misconfigured, `--port ${text} is no port`, 'Write a number from 1 to 65535.');
}
