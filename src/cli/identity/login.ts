// login, logout, whoami. A login is code + PKCE through the browser, or the device flow where there is none; what it
// brings opens connections, and approves nothing by itself: that is done on the page, act by act.
import * as oidc from 'openid-client';
import type { CommonOptions, Context } from '../context.ts';
import { nextCommand } from '../context.ts';
import { CliError, EXIT, type ExitCode } from '../io.ts';
import { age, facts, line } from '../render.ts';
import { browserOf, openPage } from './browser.ts';
import { issuerFailure, openIssuer } from './issuer.ts';
import { LoopbackTimeout, openLoopback } from './loopback.ts';
import {
  type IssuerFlags,
  inPlace,
  type LoginSettings,
  placeOf,
  settingsFromFlags,
  settingsFromPlace,
} from './settings.ts';
import { type LoginFacts, type LoginStore, loginId, loginStore, type Tokens } from './store.ts';
import { tokensOf, underLock, whoOf } from './tokens.ts';

export interface LoginOptions extends IssuerFlags, CommonOptions {
  device?: boolean;
  /** `--no-browser` */
  browser?: boolean;
}

export async function login(offline: Context, name: string | undefined, options: LoginOptions): Promise<ExitCode> {
  const { io } = offline;
  const flags = settingsFromFlags(options);
  if (flags !== undefined && name !== undefined) {
    throw new CliError(EXIT.misconfigured, '--issuer and an IdentityProvider exclude each other', 'Give one of them.');
  }
  const place = await placeOf(offline, options);
  const settings = flags ?? (await inPlace(offline, options, (context) => settingsFromPlace(context, name)));
  const made =
    options.device === true ? await byDevice(offline, settings) : await byBrowser(offline, settings, options);
  const { config, clientId, tokens } = made;
  const entry: LoginFacts = {
    place,
    ...(settings.provider === undefined ? {} : { provider: settings.provider }),
    issuer: settings.issuer,
    clientId,
    scope: settings.scope,
    ...(settings.caPem === undefined ? {} : { caPem: settings.caPem }),
    flow: options.device === true ? 'Device' : 'Browser',
    who: whoOf(tokens, settings.names),
    names: settings.names,
    loggedInAtMs: offline.now(),
  };
  const store = loginStore(offline.home, io);
  const id = loginId(entry);
  const { keptIn } = await underLock(store, id, io.signal, async () => {
    const before = await store.read(id).catch(() => undefined);
    const written = await store.write({ ...entry, tokens });
    if (before !== undefined && before.clientId === clientId)
      await revoke(config, before.tokens).catch(() => undefined);
    return written;
  });
  io.out(`You are logged in at ${line(entry.issuer)} as ${line(entry.who.username)}.\n`);
  io.err(
    `Until ${new Date(tokens.expiresAtMs).toISOString()}${tokens.refresh === undefined ? '' : ', renewed while it is used'}; kept in ${keptIn}.\n${
      entry.flow === 'Device' ? 'A login by device opens connections; it never approves.\n' : ''
    }Next: ${nextCommand(offline, 'connect CONNECTION')}\n`,
  );
  return EXIT.ok;
}

interface MadeLogin {
  config: oidc.Configuration;
  clientId: string;
  tokens: Tokens;
}

async function byBrowser(context: Context, settings: LoginSettings, options: LoginOptions): Promise<MadeLogin> {
  const { io } = context;
  const { clientId, issuer } = settings;
  if (clientId === undefined) {
    throw new CliError(
      EXIT.misconfigured,
      `IdentityProvider ${settings.provider ?? ''} names no client for the browser (spec.login.clientId)`,
      `Try ${nextCommand(context, 'login --device')}.`,
    );
  }
  const browser = browserOf(io.env, process.platform);
  if (options.browser !== false && browser.kind === 'None' && (browser.remote || !io.errTty)) {
    throw new CliError(
      EXIT.misconfigured,
      'There is no browser here to log in with',
      `With one elsewhere: ${nextCommand(context, 'login --device')}${
        settings.deviceClientId === undefined ? ' (once the IdentityProvider names a deviceClientId)' : ''
      }.\nTo open the page on this machine yourself: ${nextCommand(context, 'login --no-browser')}.`,
    );
  }
  const config = await openIssuer(settings, clientId);
  const verifier = oidc.randomPKCECodeVerifier();
  const state = oidc.randomState();
  const nonce = oidc.randomNonce();
  const loopback = await openLoopback(state, io.signal);
  try {
    const url = oidc.buildAuthorizationUrl(config, {
      redirect_uri: loopback.redirectUri,
      scope: settings.scope,
      state,
      nonce,
      code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
    });
    if (url.protocol !== 'https:') {
      throw new CliError(EXIT.misconfigured, `${line(issuer)} sends people to a page without TLS`);
    }
    const opened =
      options.browser !== false && browser.kind === 'Program' && (await openPage(browser, url.href, io.env));
    io.err(
      opened
        ? `Your browser asks you to log in at ${line(issuer)}. If it shows nothing, open: ${url.href}\n`
        : `Open this page in a browser on this machine:\n${url.href}\n`,
    );
    const answer = await loopback.answer.catch((error: unknown) => {
      if (error instanceof LoopbackTimeout) {
        throw new CliError(EXIT.denied, 'Nobody finished the login within five minutes', 'Start it again.');
      }
      throw new CliError(130, 'Given up.');
    });
    try {
      // Checks state, nonce, `iss` (RFC 9207) and the ID token's signature.
      const tokens = await oidc.authorizationCodeGrant(config, answer.url, {
        pkceCodeVerifier: verifier,
        expectedState: state,
        expectedNonce: nonce,
        idTokenExpected: true,
      });
      const usable = tokensOf(tokens, context.now());
      await answer.tell('Done');
      return { config, clientId, tokens: usable };
    } catch (error) {
      await answer.tell('Failed');
      throw issuerFailure(error, issuer);
    }
  } finally {
    loopback.close();
  }
}

async function byDevice(context: Context, settings: LoginSettings): Promise<MadeLogin> {
  const { io } = context;
  const { deviceClientId: clientId, issuer } = settings;
  if (clientId === undefined) {
    throw new CliError(
      EXIT.misconfigured,
      `IdentityProvider ${settings.provider ?? ''} names no client for devices (spec.login.deviceClientId)`,
      `Where there is a browser: ${nextCommand(context, 'login')}.`,
    );
  }
  const config = await openIssuer(settings, clientId);
  if (config.serverMetadata().device_authorization_endpoint === undefined) {
    throw new CliError(
      EXIT.misconfigured,
      `${line(issuer)} has no device flow`,
      `Where there is a browser: ${nextCommand(context, 'login')}.`,
    );
  }
  try {
    const started = await oidc.initiateDeviceAuthorization(config, { scope: settings.scope });
    io.err(
      `Open ${line(started.verification_uri)} in any browser and enter the code ${line(started.user_code)}\n${
        started.verification_uri_complete === undefined ? '' : `or open ${line(started.verification_uri_complete)}\n`
      }Enter it only if you started this login yourself. It is good for ${age(started.expires_in * 1000)}.\n`,
    );
    const tokens = await oidc.pollDeviceAuthorizationGrant(config, started, undefined, { signal: io.signal });
    return { config, clientId, tokens: tokensOf(tokens, context.now()) };
  } catch (error) {
    if (io.signal.aborted) throw new CliError(130, 'Given up.', undefined, { cause: error });
    throw issuerFailure(error, issuer);
  }
}

export interface LogoutOptions extends CommonOptions {
  all?: boolean;
}

export async function logout(offline: Context, name: string | undefined, options: LogoutOptions): Promise<ExitCode> {
  const { io } = offline;
  const store = loginStore(offline.home, io);
  const place = options.all === true ? undefined : await placeOf(offline, options);
  const chosen = store
    .list()
    .filter((each) => (place === undefined || each.place === place) && (name === undefined || isNamed(each, name)));
  if (chosen.length === 0) {
    if (name !== undefined) throw new CliError(EXIT.failed, `You are not logged in at ${line(name)} here`);
    io.out('You are not logged in here.\n');
    return EXIT.ok;
  }
  let failed = false;
  for (const each of chosen) {
    const problem = await end(store, each, io.signal);
    failed ||= problem !== undefined;
    io.out(`Logged out at ${line(each.issuer)} (${line(each.who.username)}).\n`);
    if (problem !== undefined) {
      io.err(
        `The tokens are gone from here, but the provider was not told: ${problem}\nWho has a copy may use them until they end.\n`,
      );
    }
  }
  return failed ? EXIT.failed : EXIT.ok;
}

const isNamed = (login: LoginFacts, name: string): boolean => login.provider === name || login.issuer === name;

/** Forgets a login whatever happens; resolves to why the provider could not be told. */
async function end(
  store: LoginStore,
  login: LoginFacts & { id: string },
  signal: AbortSignal,
): Promise<string | undefined> {
  return underLock(store, login.id, signal, async () => {
    const whole = await store.read(login.id).catch(() => undefined);
    await store.remove(login.id);
    if (whole === undefined) return 'the tokens could not be read';
    try {
      await revoke(await openIssuer(login, login.clientId), whole.tokens);
      return undefined;
    } catch (error) {
      return issuerFailure(error, login.issuer).message;
    }
  });
}

/** RFC 7009. The refresh token first: with it, providers end what came of it. */
async function revoke(config: oidc.Configuration, tokens: Tokens): Promise<void> {
  if (config.serverMetadata().revocation_endpoint === undefined) {
    throw new CliError(EXIT.failed, 'it has no revocation endpoint (RFC 7009)');
  }
  if (tokens.refresh !== undefined) {
    await oidc.tokenRevocation(config, tokens.refresh, { token_type_hint: 'refresh_token' });
  }
  // Many providers can not revoke what is verified without them, and say so; it ends by itself within minutes.
  await oidc.tokenRevocation(config, tokens.access, { token_type_hint: 'access_token' }).catch(() => undefined);
}

export async function whoami(offline: Context, options: CommonOptions): Promise<ExitCode> {
  const { io, output } = offline;
  const store = loginStore(offline.home, io);
  let place: string | undefined;
  let actor: Context['actor'] | undefined;
  let problem: CliError | undefined;
  try {
    place = await placeOf(offline, options);
    actor =
      offline.prefix === 'kubectl access' ? await inPlace(offline, options, async (each) => each.actor) : offline.actor;
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    problem = error;
  }
  const logins = store.list().filter((each) => place === undefined || each.place === place);
  const shown = await Promise.all(
    logins.map(async ({ id, protectedBy, caPem: _ca, names: _names, ...each }) => {
      const tokens = (await store.read(id).catch(() => undefined))?.tokens;
      return {
        ...each,
        keptIn: protectedBy,
        ...(tokens === undefined ? {} : { expiresAt: new Date(tokens.expiresAtMs).toISOString() }),
        renewable: tokens?.refresh !== undefined,
      };
    }),
  );
  if (output === 'json' || output === 'yaml') {
    const told = {
      ...(place === undefined ? {} : { place }),
      ...(actor === undefined ? {} : { actor }),
      logins: shown,
    };
    const { yamlText } = await import('../render.ts');
    io.out(output === 'json' ? `${JSON.stringify(told, null, 2)}\n` : yamlText(told));
  } else {
    if (actor !== undefined) {
      io.out(
        facts([
          ['Here', line(place ?? '')],
          ['You', line(actor.username)],
          ['Groups', actor.groups.map(line).join(', ') || undefined],
        ]),
      );
    }
    for (const each of shown) {
      io.out(
        `\n${facts([
          ['Logged in', line(each.issuer) + (each.provider === undefined ? '' : ` (${line(each.provider)})`)],
          ['As', line(each.who.username)],
          ['Groups', each.who.groups.map(line).join(', ') || undefined],
          ['By', each.flow === 'Device' ? 'device: it never approves' : 'browser'],
          ['Until', tokenEnd(each, offline.now())],
          ['Kept in', each.keptIn],
        ])}`,
      );
    }
    if (shown.length === 0) io.err(`No login at an identity provider. Next: ${nextCommand(offline, 'login')}\n`);
  }
  if (problem !== undefined && shown.length === 0) throw problem;
  if (problem !== undefined) io.err(`${problem.message}\n`);
  return EXIT.ok;
}

function tokenEnd(login: { expiresAt?: string; renewable: boolean }, nowMs: number): string {
  if (login.expiresAt === undefined) return 'unknown: the keychain does not give the key';
  if (login.renewable) return `${login.expiresAt}, renewed when it is used`;
  return Date.parse(login.expiresAt) <= nowMs ? `${login.expiresAt}: over, log in again` : login.expiresAt;
}
