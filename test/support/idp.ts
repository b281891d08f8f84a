// An OpenID provider in this process, on TLS under a CA of its own: code + PKCE, device flow, refresh with rotation,
// JWT access tokens (RFC 9068) with groups and how somebody logged in. People and keys change while it runs.
// Workloads' issuers are in workload-issuer.ts; one that misbehaves is made where it is tested.
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from 'jose';
import Provider, { type Adapter, type AdapterPayload, type Configuration, interactionPolicy } from 'oidc-provider';
import { testCertificates } from './certificates.ts';
import { formOf, type Page, type WebAgent, webAgent } from './web-agent.ts';

export interface TestUser {
  groups?: readonly string[];
  email?: string;
  emailVerified?: boolean;
  /** `preferred_username`; the account's own name unless given. */
  username?: string;
  /** Ways of logging in this person has; the first is what they get unless `acr_values` asks for another of these. */
  acrs?: readonly string[];
  /** Refresh and new logins fail. */
  disabled?: boolean;
  /** Further claims in both tokens. */
  claims?: Record<string, unknown>;
}

export interface TokenSet {
  access_token: string;
  id_token: string;
  refresh_token: string;
  expires_in: number;
}

export interface TokenChange {
  use?: 'Access' | 'ID';
  audience?: string | readonly string[];
  client?: string;
  /** Seconds from now: `iat` and what lies between it and `exp`. */
  issuedIn?: number;
  expiresIn?: number;
  nonce?: string;
  acr?: string;
  amr?: readonly string[];
  /** Seconds before `iat` that the person logged in. */
  loggedInBefore?: number;
  /** Put over all others; undefined removes. */
  claims?: Record<string, unknown>;
  header?: Record<string, unknown>;
}

export interface IdpOptions {
  users?: Record<string, TestUser>;
  /** Of access tokens. Default 300 s. */
  accessTokenSeconds?: number;
  idTokenSeconds?: number;
  deviceCodeSeconds?: number;
  /** Audience of access tokens. Default `sallyport`. */
  audience?: string;
  /** Access tokens by reference, not JWTs. */
  opaque?: boolean;
  algorithm?: 'RS256' | 'ES256' | 'PS256';
  /** Where to listen, and under which name. Default 127.0.0.1 and localhost. */
  listen?: { host?: string; port?: number; name?: string };
  /** Put after the origin; '/' makes an issuer that ends in a slash. */
  path?: string;
  portalRedirects?: readonly string[];
}

export interface Idp {
  issuer: string;
  /** PEM, and a file of it that goes with the provider. */
  ca: string;
  caFile: string;
  port: number;
  audience: string;
  /** `cli`: code + PKCE on 127.0.0.1, `/callback` and `/`, any port. `device`: device flow. `portal`: code, with its secret. */
  clients: { cli: string; device: string; portal: { id: string; secret: string } };
  /** A token in the provider's shape by its present key, without a login. */
  tokenFor(user: string, change?: TokenChange): Promise<string>;
  /** A whole code + PKCE login over HTTP, as the cli's client. */
  login(user: string, options?: { agent?: WebAgent; parameters?: Record<string, string> }): Promise<TokenSet>;
  /** Throws with the error's code where the provider refuses. */
  refresh(refreshToken: string, client?: string): Promise<TokenSet>;
  agent(): WebAgent;
  /** Does at an authorization URL what the person would; resolves to where the browser is sent at last. */
  authorize(url: string | URL, user: string, agent?: WebAgent): Promise<URL>;
  /** Does at a device flow's `verification_uri_complete` (or with its code) what the person would. */
  approveDevice(urlOrCode: string, user: string, agent?: WebAgent): Promise<void>;
  /** Everybody who comes to the login page is this one, without a form; undefined: the form again. */
  signInAs(user: string | undefined): void;
  setUser(name: string, user: Partial<TestUser>): void;
  removeFromGroup(user: string, group: string): void;
  /** A new key signs from now on; the one before stays published unless told otherwise. */
  rotate(options?: { dropOld?: boolean }): Promise<void>;
  /** Public keys, as published. */
  jwks(): { keys: JWK[] };
  setPortalRedirects(redirects: readonly string[]): void;
  /** `grant_type` of every token answer so far, oldest first. */
  readonly grants: readonly string[];
  /** Paths asked for so far. */
  readonly paths: readonly string[];
  stop(): Promise<void>;
}

const DAY_S = 86_400;
/** What access tokens are for, where the client names no resource. Their `aud` is the audience. */
const RESOURCE = 'https://sallyport.invalid/';
const SCOPES = 'openid profile email groups offline_access sallyport';

export const DEFAULT_USERS: Record<string, TestUser> = {
  alice: { groups: ['app-team', 'staff'], email: 'alice@corp.example', emailVerified: true },
  bob: { groups: ['dba', 'staff'], email: 'bob@corp.example', emailVerified: true },
  carol: { groups: ['leads', 'staff'], email: 'carol@corp.example', emailVerified: true, acrs: ['pwd'] },
  mallory: { groups: [], email: 'alice@corp.example', emailVerified: false },
};

/** Lives as long as the provider: keys rotate under the sessions and codes that are in it. */
function memoryAdapters(): (model: string) => Adapter {
  const models = new Map<string, Map<string, { payload: AdapterPayload; untilMs: number }>>();
  const of = (model: string): Map<string, { payload: AdapterPayload; untilMs: number }> => {
    const known = models.get(model) ?? new Map<string, { payload: AdapterPayload; untilMs: number }>();
    models.set(model, known);
    return known;
  };
  return (model) => {
    const items = of(model);
    const search = (wanted: (payload: AdapterPayload) => boolean): Promise<AdapterPayload | undefined> => {
      for (const { payload, untilMs } of items.values())
        if (wanted(payload) && untilMs > Date.now()) return Promise.resolve(payload);
      return Promise.resolve(undefined);
    };
    return {
      upsert(id, payload, expiresIn) {
        items.set(id, { payload, untilMs: Date.now() + (expiresIn ?? DAY_S) * 1000 });
        return Promise.resolve();
      },
      find(id) {
        const item = items.get(id);
        return Promise.resolve(item !== undefined && item.untilMs > Date.now() ? item.payload : undefined);
      },
      findByUserCode: (code) => search((payload) => payload.userCode === code),
      findByUid: (uid) => search((payload) => payload.uid === uid),
      consume(id) {
        const item = items.get(id);
        if (item !== undefined) item.payload.consumed = Math.floor(Date.now() / 1000);
        return Promise.resolve();
      },
      destroy(id) {
        items.delete(id);
        return Promise.resolve();
      },
      revokeByGrantId(grantId) {
        for (const all of models.values())
          for (const [id, { payload }] of all) if (payload.grantId === grantId) all.delete(id);
        return Promise.resolve();
      },
    };
  };
}

export async function startIdp(options: IdpOptions = {}): Promise<Idp> {
  const { algorithm = 'RS256', audience = 'sallyport' } = options;
  const name = options.listen?.name ?? 'localhost';
  const { ca, server: material } = await testCertificates([...new Set([name, 'localhost', '127.0.0.1'])]);
  const folder = mkdtempSync(path.join(tmpdir(), 'idp-'));
  const caFile = path.join(folder, 'ca.pem');
  writeFileSync(caFile, ca);

  const users = new Map(Object.entries(options.users ?? DEFAULT_USERS));
  const grants: string[] = [];
  const paths: string[] = [];
  let signedInAs: string | undefined;
  let portalRedirects = options.portalRedirects ?? ['https://127.0.0.1/callback', 'https://localhost/callback'];
  const secret = randomUUID();

  const newKey = async (): Promise<JWK> => {
    const { privateKey } = await generateKeyPair(algorithm, { extractable: true });
    const jwk = await exportJWK(privateKey);
    return { ...jwk, alg: algorithm, use: 'sig', kid: (await calculateJwkThumbprint(jwk)).slice(0, 16) };
  };
  let keys = [await newKey()];

  const personal = (user: string): Record<string, unknown> => {
    const { groups = [], email, emailVerified = false, username = user, claims = {} } = users.get(user) ?? {};
    return {
      preferred_username: username,
      groups: [...groups],
      ...(email === undefined ? {} : { email, email_verified: emailVerified }),
      ...claims,
    };
  };
  const acrsOf = (user: string): readonly string[] => users.get(user)?.acrs ?? ['pwd', 'mfa'];
  const amrOf = (acr: string): string[] => (acr === 'mfa' ? ['pwd', 'otp'] : [acr]);

  const adapter = memoryAdapters();
  const cookieKeys = [randomUUID()];
  const policy = (): interactionPolicy.DefaultPolicy => {
    const base = interactionPolicy.base();
    base.remove('consent');
    // A session without the `acr` that is asked for must log in again (RFC 9470).
    base.get('login')?.checks.add(
      new interactionPolicy.Check('acr_values', 'a stronger login is required', 'login_required', ({ oidc }) => {
        const wanted = (oidc.params?.['acr_values'] as string | undefined)?.split(' ') ?? [];
        const has = oidc.session?.acr;
        return wanted.length > 0 && oidc.result?.login === undefined && (has === undefined || !wanted.includes(has));
      }),
    );
    return base;
  };
  const native = { application_type: 'native', token_endpoint_auth_method: 'none', require_auth_time: true } as const;
  const configure = (): Configuration => ({
    adapter,
    jwks: { keys } as NonNullable<Configuration['jwks']>,
    cookies: { keys: cookieKeys },
    scopes: SCOPES.split(' '),
    claims: {
      openid: ['sub', 'acr', 'amr', 'auth_time', 'groups', 'preferred_username', ...claimNames()],
      profile: ['preferred_username'],
      email: ['email', 'email_verified'],
      groups: ['groups'],
    },
    acrValues: ['pwd', 'mfa'],
    conformIdTokenClaims: false,
    clientDefaults: { id_token_signed_response_alg: algorithm },
    enabledJWA: { idTokenSigningAlgValues: [algorithm] },
    clients: [
      {
        ...native,
        client_id: 'cli',
        redirect_uris: ['http://127.0.0.1/callback', 'http://127.0.0.1/'],
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
      },
      {
        ...native,
        client_id: 'cli-device',
        redirect_uris: [],
        grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
        response_types: [],
      },
      {
        client_id: 'portal',
        client_secret: secret,
        redirect_uris: [...portalRedirects],
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
        require_auth_time: true,
      },
    ],
    clientBasedCORS: () => true,
    pkce: { required: () => true },
    findAccount(_ctx, id) {
      const user = users.get(id);
      if (user === undefined || user.disabled === true) return undefined;
      return { accountId: id, claims: () => ({ sub: id, ...personal(id) }) };
    },
    extraTokenClaims(ctx, token) {
      if (!('accountId' in token) || token.accountId === undefined) return undefined;
      const { AuthorizationCode, DeviceCode, RefreshToken } = ctx.oidc.entities;
      const source = RefreshToken ?? AuthorizationCode ?? DeviceCode;
      return {
        ...personal(token.accountId),
        ...(source?.acr === undefined ? {} : { acr: source.acr }),
        ...(source?.amr === undefined ? {} : { amr: source.amr }),
        ...(source?.authTime === undefined ? {} : { auth_time: source.authTime }),
      };
    },
    // Everybody consents to everything.
    async loadExistingGrant(ctx) {
      const { provider, client, session, params } = ctx.oidc;
      const known = client && session?.grantIdFor(client.clientId);
      const grant =
        (known === undefined ? undefined : await provider.Grant.find(known)) ??
        new provider.Grant({ clientId: client?.clientId ?? '', accountId: session?.accountId ?? '' });
      grant.addOIDCScope(String(params?.['scope'] ?? SCOPES));
      grant.addOIDCClaims(['acr', 'amr', 'auth_time', 'groups']);
      grant.addResourceScope(RESOURCE, SCOPES);
      await grant.save();
      return grant;
    },
    issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    expiresWithSession: () => false,
    rotateRefreshToken: true,
    interactions: { policy: policy(), url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    ttl: {
      AccessToken: options.accessTokenSeconds ?? 300,
      IdToken: options.idTokenSeconds ?? 300,
      AuthorizationCode: 60,
      DeviceCode: options.deviceCodeSeconds ?? 300,
      RefreshToken: DAY_S,
      Interaction: 3600,
      Session: DAY_S,
      Grant: DAY_S,
    },
    features: {
      devInteractions: { enabled: false },
      revocation: { enabled: true },
      introspection: { enabled: true },
      userinfo: { enabled: true },
      deviceFlow: {
        enabled: true,
        userCodeConfirmSource(ctx, form, client, _device, code) {
          ctx.body = `<!DOCTYPE html><title>Test IdP</title><p>Let ${client.clientId} in? Code ${code}</p>${form}<button type="submit" form="op.deviceConfirmForm">Yes</button>`;
        },
        successSource(ctx) {
          ctx.body = '<!DOCTYPE html><title>Test IdP</title><p>Sign-in Success</p>';
        },
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => (options.opaque === true ? [] : RESOURCE),
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: SCOPES,
          audience,
          accessTokenTTL: options.accessTokenSeconds ?? 300,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: algorithm } },
        }),
      },
    },
    renderError(ctx, out) {
      ctx.type = 'html';
      ctx.body = `<!DOCTYPE html><title>Error</title><pre>${out.error}: ${out.error_description ?? ''}</pre>`;
    },
  });
  const claimNames = (): string[] => [...users.values()].flatMap((user) => Object.keys(user.claims ?? {}));

  const server = https.createServer({ key: material.key, cert: material.cert });
  await new Promise<void>((resolve) =>
    server.listen(options.listen?.port ?? 0, options.listen?.host ?? '127.0.0.1', resolve),
  );
  const { port } = server.address() as AddressInfo;
  const issuer = `https://${name}:${port}${options.path ?? ''}`;
  const make = (): Provider => {
    const made = new Provider(issuer, configure());
    made.on('grant.success', (ctx) => grants.push(String(ctx.oidc.params?.['grant_type'])));
    made.on('server_error', (_ctx, error) => process.stderr.write(`test IdP: ${error.stack ?? error.message}\n`));
    return made;
  };
  let provider = make();
  let handle = provider.callback();

  const finish = async (
    request: Parameters<typeof handle>[0],
    response: Parameters<typeof handle>[1],
    user: string,
  ): Promise<void> => {
    const { params } = await provider.interactionDetails(request, response);
    const wanted = String(params['acr_values'] ?? '').split(' ');
    const known = acrsOf(user);
    const acr = wanted.find((each) => known.includes(each)) ?? known[0] ?? 'pwd';
    const login = { accountId: user, acr, amr: amrOf(acr), remember: true };
    await provider.interactionFinished(request, response, { login }, { mergeWithLastSubmission: false });
  };
  const interaction = async (
    request: Parameters<typeof handle>[0],
    response: Parameters<typeof handle>[1],
  ): Promise<void> => {
    if (request.method === 'GET') {
      if (signedInAs !== undefined) return finish(request, response, signedInAs);
      response.setHeader('content-type', 'text/html; charset=utf-8');
      response.end(
        '<!DOCTYPE html><html lang="en"><title>Test IdP</title><form method="post" action="">' +
          '<label>Name <input name="login" autofocus required></label> <button type="submit">Log in</button></form></html>',
      );
      return undefined;
    }
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const user = new URLSearchParams(body).get('login') ?? '';
    if (!users.has(user) || users.get(user)?.disabled === true) {
      response.statusCode = 403;
      response.end('<!DOCTYPE html><title>Error</title><p>Nobody of that name may log in.</p>');
      return undefined;
    }
    return finish(request, response, user);
  };
  server.on('request', (request, response) => {
    const { pathname } = new URL(request.url ?? '/', issuer);
    paths.push(pathname);
    const failed = (error: unknown): void => {
      response.statusCode = 500;
      response.end(String(error));
    };
    const prefix = (options.path ?? '').replace(/\/$/, '');
    if (pathname.startsWith('/interaction/')) interaction(request, response).catch(failed);
    else {
      if (prefix !== '' && request.url?.startsWith(`${prefix}/`)) request.url = request.url.slice(prefix.length);
      handle(request, response).catch(failed);
    }
  });

  const token = async (fields: Record<string, string>): Promise<TokenSet> => {
    const page = await webAgent(ca).post(`${issuer.replace(/\/$/, '')}/token`, fields);
    const answer = JSON.parse(page.body) as TokenSet & { error?: string; error_description?: string };
    if (answer.error !== undefined) throw new Error(`${answer.error}: ${answer.error_description ?? ''}`);
    return answer;
  };
  const throughLogin = async (agent: WebAgent, start: Page, user: string): Promise<Page> => {
    let page = start;
    // Login form, device code, confirmation: whatever is asked next.
    for (let step = 0; step < 6 && page.location === undefined; step++) {
      const form = formOf(page);
      if (form === undefined) return page;
      page = await agent.submit(page, 'login' in form.fields ? { login: user } : {});
    }
    return page;
  };
  const authorize: Idp['authorize'] = async (url, user, agent = webAgent(ca)) => {
    const page = await throughLogin(agent, await agent.get(url), user);
    if (page.location === undefined)
      throw new Error(`the login ended at ${page.url.href} (${page.status}): ${page.body.slice(0, 500)}`);
    return page.location;
  };
  const sign = async (payload: Record<string, unknown>, header: Record<string, unknown>): Promise<string> => {
    const [key] = keys;
    if (key === undefined) throw new Error('no key');
    return new SignJWT(payload)
      .setProtectedHeader({ alg: algorithm, ...(key.kid === undefined ? {} : { kid: key.kid }), ...header })
      .sign(await importJWK(key, algorithm));
  };

  return {
    issuer,
    ca,
    caFile,
    port,
    audience,
    clients: { cli: 'cli', device: 'cli-device', portal: { id: 'portal', secret } },
    async tokenFor(user, change = {}) {
      const { use = 'Access', client = 'cli' } = change;
      const iat = Math.floor(Date.now() / 1000) + (change.issuedIn ?? 0);
      const acr = change.acr ?? acrsOf(user)[0] ?? 'pwd';
      const all: Record<string, unknown> = {
        iss: issuer,
        sub: user,
        aud: change.audience ?? (use === 'Access' ? audience : client),
        ...(use === 'Access' ? { client_id: client, scope: SCOPES } : {}),
        ...(change.nonce === undefined ? {} : { nonce: change.nonce }),
        iat,
        exp: iat + (change.expiresIn ?? options.accessTokenSeconds ?? 300),
        jti: randomUUID(),
        ...personal(user),
        acr,
        amr: change.amr ?? amrOf(acr),
        auth_time: iat - (change.loggedInBefore ?? 0),
        ...change.claims,
      };
      const payload = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
      return sign(payload, { typ: use === 'Access' ? 'at+jwt' : 'JWT', ...change.header });
    },
    async login(user, { agent, parameters = {} } = {}) {
      const verifier = randomUUID() + randomUUID();
      const digest = await crypto.subtle.digest('SHA-256', Buffer.from(verifier));
      const redirect = 'http://127.0.0.1:1/callback';
      const url = new URL(`${issuer.replace(/\/$/, '')}/auth`);
      url.search = new URLSearchParams({
        client_id: 'cli',
        response_type: 'code',
        redirect_uri: redirect,
        scope: SCOPES,
        state: randomUUID(),
        nonce: randomUUID(),
        code_challenge: Buffer.from(digest).toString('base64url'),
        code_challenge_method: 'S256',
        ...parameters,
      }).toString();
      const back = await authorize(url, user, agent);
      const code = back.searchParams.get('code');
      if (code === null)
        throw new Error(`${back.searchParams.get('error')}: ${back.searchParams.get('error_description')}`);
      return token({
        grant_type: 'authorization_code',
        client_id: 'cli',
        code,
        redirect_uri: redirect,
        code_verifier: verifier,
      });
    },
    refresh: (refreshToken, client = 'cli') =>
      token({ grant_type: 'refresh_token', client_id: client, refresh_token: refreshToken }),
    agent: () => webAgent(ca),
    authorize,
    async approveDevice(urlOrCode, user, agent = webAgent(ca)) {
      const url = urlOrCode.startsWith('https:')
        ? urlOrCode
        : `${issuer.replace(/\/$/, '')}/device?user_code=${encodeURIComponent(urlOrCode)}`;
      const page = await throughLogin(agent, await agent.get(url), user);
      if (!page.body.includes('Sign-in Success'))
        throw new Error(`the device was not approved at ${page.url.href} (${page.status}): ${page.body.slice(-500)}`);
    },
    signInAs(user) {
      signedInAs = user;
    },
    setUser(user, change) {
      users.set(user, { ...users.get(user), ...change });
    },
    removeFromGroup(user, group) {
      const known = users.get(user);
      users.set(user, { ...known, groups: (known?.groups ?? []).filter((each) => each !== group) });
    },
    async rotate({ dropOld = false } = {}) {
      const [last] = keys;
      keys = [await newKey(), ...(dropOld || last === undefined ? [] : [last])];
      provider = make();
      handle = provider.callback();
    },
    jwks: () => ({
      keys: keys.map((key) =>
        Object.fromEntries(
          Object.entries(key).filter(([member]) => !['d', 'p', 'q', 'dp', 'dq', 'qi'].includes(member)),
        ),
      ) as JWK[],
    }),
    setPortalRedirects(redirects) {
      portalRedirects = redirects;
      provider = make();
      handle = provider.callback();
    },
    grants,
    paths,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
