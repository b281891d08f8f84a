// The approval page over a real store, operator and OpenID provider in this process, so that tests can put there what no
// author could (names full of markup, held commands, sessions) and look at what came of it.
import { generateKeyPairSync } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { API_GROUP_VERSION } from '../../src/api/group.ts';
import type { CommandHold, CommandHoldSpec } from '../../src/api/hold.ts';
import type { Resource } from '../../src/api/resource.ts';
import { provenBy } from '../../src/cli/local/prove.ts';
import { createSpentProofs } from '../../src/cli/local/spent-proofs.ts';
import { type Operator, startOperator } from '../../src/controllers/operator.ts';
import { createSealer } from '../../src/controllers/seal.ts';
import { protocol } from '../../src/controllers/test-operator.ts';
import type { TrustedJwk, TrustedProvider } from '../../src/policy/bundle.ts';
import { signingKeyFromPem } from '../../src/policy/bundle-signing.ts';
import type { Principal } from '../../src/policy/principal.ts';
import { createBrowserSessions } from '../../src/portal/browser-sessions.ts';
import { createLogin } from '../../src/portal/login.ts';
import type { Portal } from '../../src/portal/portal.ts';
import { createRequestsApi } from '../../src/portal/requests-api.ts';
import { servePortal } from '../../src/portal/server.ts';
import type { CreateResult, LiveSession, World } from '../../src/portal/world.ts';
import { type DirectoryStore, openDirectoryStore } from '../../src/store/directory/store.ts';
import type { NewObject } from '../../src/store/resource-store.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemFiles } from '../../src/system/files.ts';
import { systemRandom } from '../../src/system/random.ts';
import { testCertificates } from './certificates.ts';
import { type Idp, type IdpOptions, startIdp } from './idp.ts';
import { type Page, type WebAgent, webAgent } from './web-agent.ts';

export const CONNECTION = (namespace: string, name = 'orders-db'): string => `---
apiVersion: sallyport.dev/v1alpha1
kind: Connection
metadata: {name: ${name}, namespace: ${namespace}}
spec:
  type: PostgreSQL
  postgresql: {host: localhost}
  accounts: [{name: reader, secretRef: {name: reader}}, {name: writer, secretRef: {name: writer}}]
`;
export const POLICY = (namespace: string, more = ''): string => `---
apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: team, namespace: ${namespace}}
spec:
  connectionSelector: {}
  subjects: [{kind: Group, name: 'corp:app-team'}]
  accounts: [reader, writer]
  maxDuration: 2h
  approval: {timeout: 10m, steps: [{name: dba, approvers: [{kind: Group, name: 'corp:dba'}]}]${more}}
  rules: [{name: all, action: Allow}]
`;

export interface PortalBed {
  idp: Idp;
  /** `https://localhost:PORT`. */
  origin: string;
  /** Both CAs, PEM. */
  ca: string;
  store: DirectoryStore;
  operator: Operator;
  portal: Portal;
  cluster: string;
  liveSessions: LiveSession[];
  /** Providers that were told to have a new key. */
  unknownKeys: string[];
  /** What was sent to be made. */
  sent: NewObject[];
  /** How long the store takes to make an object; for races. */
  log: string[];
  providers(): readonly TrustedProvider[];
  create<R extends Resource>(who: Principal | 'proxy', object: NewObject): Promise<R>;
  hold(spec: Partial<CommandHoldSpec>, namespace?: string): Promise<CommandHold>;
  settle(): Promise<void>;
  /** A browser without a screen, logged in. */
  browser(user: string): Promise<Browser>;
  stop(): Promise<void>;
}

export interface Browser {
  agent: WebAgent;
  get(path: string): Promise<Page>;
  /** Sends the page's form of this action, as if its button was pressed; follows to where it leads. */
  press(page: Page, action: string, fields: Record<string, string>): Promise<Page>;
}

export async function startPortalBed(
  options: {
    yaml?: string;
    idp?: IdpOptions;
    acts?: (provider: TrustedProvider) => TrustedProvider;
    http?: boolean;
  } = {},
): Promise<PortalBed> {
  const undo: (() => Promise<void> | void)[] = [];
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-portal-'));
  undo.push(() => fs.rmSync(folder, { recursive: true, force: true }));
  const directory = path.join(folder, 'access');
  fs.mkdirSync(directory);
  fs.writeFileSync(path.join(directory, 'all.yaml'), options.yaml ?? CONNECTION('payments') + POLICY('payments'));
  const idp = await startIdp(options.idp);
  undo.push(() => idp.stop());
  const key = signingKeyFromPem(
    generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  );
  const sealer = createSealer(key);
  const store = openDirectoryStore({
    directory,
    stateFolder: path.join(folder, 'state'),
    clock: systemClock,
    random: systemRandom,
    files: systemFiles,
    seal: (stamp) => sealer.sealStamp(stamp),
  });
  undo.push(() => store.close());
  const operator = await startOperator({
    store,
    definitions: [protocol],
    sealer,
    records: { write: () => Promise.resolve() },
    clock: systemClock,
    random: systemRandom,
    log: () => undefined,
    key,
    epoch: 1,
    publisher: { publish: () => undefined, withdraw: () => undefined },
    broken: () => store.broken(),
    endpoint: () => ({ host: 'localhost', port: 5432 }),
    caBundle: 'CA',
    probe: () => Promise.resolve({ kind: 'Reachable', version: 'test' }),
    prefix: 'sallyport',
  } as Parameters<typeof startOperator>[0]);
  undo.push(() => operator.stop());

  const provider: TrustedProvider = {
    name: 'corp',
    issuer: idp.issuer,
    algorithms: ['RS256'],
    keys: [],
    keysGoodUntilMs: Date.now() + 86_400_000,
    skewMs: 30_000,
    audiences: [
      { audience: 'portal', use: 'ID', clients: ['portal'], types: [], marks: {} },
      { audience: 'ci', use: 'Workload', clients: [], types: [], marks: {} },
    ],
    claims: { uid: 'sub', username: 'sub', groups: 'groups', email: 'email', workload: ['repository'] },
    prefix: { username: 'corp:', groups: 'corp:' },
    void: [],
  };
  const adapt = options.acts ?? ((each: TrustedProvider) => each);
  const providers = (): readonly TrustedProvider[] => [
    adapt({ ...provider, keys: idp.jwks().keys as unknown as TrustedJwk[] }),
  ];
  const liveSessions: LiveSession[] = [];
  const sent: NewObject[] = [];
  const listeners = new Set<() => void>();
  const changed = (): void => {
    for (const listener of Array.from(listeners)) listener();
  };
  for (const kind of ['AccessGrant', 'CommandHold', 'AccessApproval'] as const) {
    const { resourceVersion } = await store.list(kind);
    undo.push(store.watch(kind, resourceVersion, changed, changed));
  }
  const settle = async (): Promise<void> => {
    for (let quiet = 0; quiet < 4; quiet += 1) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (!operator.idle) quiet = 0;
    }
  };
  const spent = createSpentProofs(() => Date.now());
  const unknownKeys: string[] = [];
  const onUnknownKey = (name: string): void => void unknownKeys.push(name);
  const world: World = {
    prefix: 'sallyport',
    cluster: () => Promise.resolve(key.keyId),
    providers: () => Promise.resolve(providers()),
    unknownKey: onUnknownKey,
    list: async (kind) => (await store.list(kind)).items as never,
    get: (kind, namespace, name) => store.get({ kind, namespace, name }) as never,
    sessions: () => Promise.resolve(liveSessions),
    async create(object): Promise<CreateResult> {
      sent.push(object);
      const proven = await provenBy(object, {
        cluster: key.keyId,
        providers,
        store,
        spent,
        onUnknownKey,
        now: () => Date.now(),
      });
      if (proven.kind === 'Used') return { kind: 'Exists' };
      if (proven.kind === 'Refused') return { kind: 'Refused', message: proven.message };
      const result = await store.create(proven.actor, proven.object);
      if (result.kind === 'Ok') return { kind: 'Made', object: result.value };
      if (proven.proof !== undefined) spent.giveBack(proven.proof);
      if (result.kind === 'AlreadyExists') return { kind: 'Exists' };
      return { kind: 'Refused', message: JSON.stringify(result) };
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    trouble: () => undefined,
  };
  const { ca, server: material } = await testCertificates(['localhost', '127.0.0.1'], 'Portal CA');
  const log: string[] = [];
  const sessions = createBrowserSessions(systemClock, systemRandom);
  undo.push(() => sessions.stop());
  const portal: Portal = {
    world,
    login: undefined as never,
    sessions,
    site: { origin: '', host: '', loginOrigins: [] },
    clock: systemClock,
    random: systemRandom,
    log: (level, message, fields) => void log.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`),
  };
  const api = createRequestsApi(portal);
  const server = await servePortal(portal, {
    host: '127.0.0.1',
    port: 0,
    tls: options.http === true ? undefined : { cert: material.cert, key: material.key },
    api,
  });
  undo.push(() => server.close());
  const origin = `http${options.http === true ? '' : 's'}://localhost:${server.port}`;
  portal.site = { origin, host: `localhost:${server.port}`, loginOrigins: [] };
  portal.login = createLogin(
    {
      issuer: idp.issuer,
      clientId: idp.clients.portal.id,
      clientSecret: idp.clients.portal.secret,
      ca: idp.ca,
      redirectUri: `${origin}/callback`,
      scope: 'openid profile email groups',
    },
    () => systemClock.monotonic(),
  );
  undo.push(() => portal.login.stop());
  idp.setPortalRedirects([`${origin}/callback`]);

  const create: PortalBed['create'] = async <R extends Resource>(who: Principal | 'proxy', object: NewObject) => {
    const actor =
      who === 'proxy' ? ({ kind: 'Proxy', replica: 'test' } as const) : ({ kind: 'Person', principal: who } as const);
    const result = await store.create(actor, object);
    if (result.kind !== 'Ok') throw new Error(`not made: ${JSON.stringify(result)}`);
    await settle();
    return result.value as R;
  };
  return {
    idp,
    origin,
    ca: `${idp.ca}\n${ca}`,
    store,
    operator,
    portal,
    cluster: key.keyId,
    liveSessions,
    unknownKeys,
    sent,
    log,
    providers,
    create,
    hold: (spec, namespace = 'payments') =>
      create<CommandHold>('proxy', {
        apiVersion: API_GROUP_VERSION,
        kind: 'CommandHold',
        metadata: { name: `h-${systemRandom.bytes(4).toString('hex')}`, namespace },
        spec: {
          connectionRef: { name: 'orders-db' },
          grantRef: { name: 'orders-db-1', uid: 'g-1' },
          sessionId: 's-1',
          requester: { username: 'corp:alice', uid: `${idp.issuer} alice`, groups: ['corp:app-team'] },
          command: "update orders set state = 'refunded'",
          hiddenLiterals: 0,
          commandHash: 'c'.repeat(64),
          rules: [{ policy: `${namespace}/team`, rule: 'unbounded-write' }],
          reason: 'It changes every row.',
          requirements: [{ rule: 'unbounded-write', count: 1, approvers: [{ kind: 'Group', name: 'corp:dba' }] }],
          requestedAt: new Date().toISOString(),
          until: new Date(Date.now() + 120_000).toISOString(),
          ...spec,
        },
      }),
    settle,
    async browser(user) {
      const agent = webAgent(`${idp.ca}\n${ca}`, [origin, new URL(idp.issuer).origin]);
      const start = await agent.get(`${origin}/login?return=/`);
      const page = start.body.includes('name="login"') ? await agent.submit(start, { login: user }) : start;
      if (page.status !== 200) throw new Error(`no login: ${page.status} ${page.body}`);
      return browserOf(agent, origin);
    },
    async stop() {
      for (const step of undo.reverse()) await step();
    },
  };
}

export function browserOf(agent: WebAgent, origin: string): Browser {
  return {
    agent,
    get: (where) => agent.get(origin + where),
    press(page, action, fields) {
      const form = new RegExp(`<form\\b[^>]*action="${action}"[^>]*>([\\s\\S]*?)</form>`).exec(page.body);
      if (form === null) throw new Error(`no form ${action} at ${page.url.href}: ${page.body}`);
      const hidden: Record<string, string> = {};
      for (const [, name = '', value = ''] of form[1]!.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)"/g))
        hidden[name] = value;
      return agent.post(origin + action, { ...hidden, ...fields });
    },
  };
}
