// Where somebody logs in: as the IdentityProvider of the place says, or as flags do.
import { readFileSync } from 'node:fs';
import type { IdentityProvider } from '../../api/identity-provider.ts';
import { type CommonOptions, type Context, openContext } from '../context.ts';
import { CliError, EXIT } from '../io.ts';
import { line } from '../render.ts';

export interface LoginSettings {
  provider?: string;
  issuer: string;
  clientId?: string;
  deviceClientId?: string;
  scope: string;
  caPem?: string;
  names: NameRules;
}

/** How the provider's people are called here (IdentityProvider `claims`, `prefix`, `kubernetes`). */
export interface NameRules {
  uid: string;
  username: string;
  usernamePrefix: string;
  groups?: string;
  groupsPrefix: string;
  kubernetes?: { claim: string; prefix: string };
}

export interface IssuerFlags {
  issuer?: string;
  clientId?: string;
  caFile?: string;
  scope?: string;
}

const DEFAULT_SCOPES = ['openid', 'offline_access'];

/** Calls `use` with the place opened, and closes it again. */
export async function inPlace<T>(
  offline: Context,
  options: CommonOptions,
  use: (context: Context) => Promise<T>,
): Promise<T> {
  const context = await openContext(offline.io, options);
  try {
    return await use(context);
  } finally {
    await context.cluster?.close();
  }
}

/** Which place the person's verbs go to, without asking it anything. Tokens are kept apart by it. */
export async function placeOf(context: Context, options: CommonOptions): Promise<string> {
  if (context.cluster !== undefined) return clusterPlace(context.cluster.place.server);
  if (context.prefix !== 'kubectl access') return `local ${context.state}`;
  const { openKubeTarget } = await import('../cluster/kubeconfig.ts');
  const { access } = await openKubeTarget({ kubeconfig: options.kubeconfig, context: options.context }, context.io);
  return clusterPlace(access.server);
}

const clusterPlace = (server: string): string => `cluster ${server.replace(/\/+$/, '')}`;

/** What flags say; undefined where they name no issuer. */
export function settingsFromFlags(flags: IssuerFlags): LoginSettings | undefined {
  const { issuer, clientId } = flags;
  if (issuer === undefined) {
    for (const [flag, value] of [
      ['--client-id', clientId],
      ['--ca-file', flags.caFile],
    ] as const) {
      if (value !== undefined) {
        throw new CliError(EXIT.misconfigured, `${flag} goes with --issuer`, 'Give both, or neither.');
      }
    }
    return undefined;
  }
  if (clientId === undefined) {
    throw new CliError(
      EXIT.misconfigured,
      '--issuer needs --client-id',
      'The client is one that the provider knows as public, for code + PKCE or the device flow.',
    );
  }
  return {
    issuer,
    clientId,
    deviceClientId: clientId,
    scope: scopeOf(flags.scope?.split(/[\s,]+/) ?? [...DEFAULT_SCOPES, 'profile', 'email']),
    ...(flags.caFile === undefined ? {} : { caPem: readPem('--ca-file', flags.caFile) }),
    names: { uid: 'sub', username: 'preferred_username', usernamePrefix: '', groups: 'groups', groupsPrefix: '' },
  };
}

/** The certificates that a flag names. Throws CliError. */
export function readPem(flag: string, file: string): string {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new CliError(
      EXIT.misconfigured,
      `${flag} ${file} can not be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`,
    );
  }
  if (!text.includes('-----BEGIN CERTIFICATE-----')) {
    throw new CliError(EXIT.misconfigured, `${flag} ${file} holds no certificate`, 'It is a PEM file.');
  }
  return text;
}

export const scopeOf = (more: readonly string[]): string =>
  [...new Set(['openid', ...more.filter((each) => each !== '')])].join(' ');

/** Of the IdentityProvider by that name, or of the only one that people log in with. */
export async function settingsFromPlace(context: Context, name: string | undefined): Promise<LoginSettings> {
  const all = await context.client.list<IdentityProvider>('IdentityProvider').catch((error: unknown) => {
    if (!(error instanceof CliError) || error.exitCode !== EXIT.denied) throw error;
    throw new CliError(
      EXIT.denied,
      `${line(context.actor.username)} may not read where people log in (IdentityProviders)`,
      'An admin types: kubectl create clusterrolebinding sallyport-login --clusterrole=sallyport-login --group=system:authenticated\nOr name the provider: login --issuer URL --client-id ID.',
      { cause: error },
    );
  });
  const usable = all.filter((each) => each.spec.login !== undefined);
  const names = usable.map((each) => each.metadata.name);
  const found = name === undefined ? usable : all.filter((each) => each.metadata.name === name);
  const [only] = found;
  if (only === undefined) {
    throw new CliError(
      EXIT.misconfigured,
      name === undefined ? 'No IdentityProvider says how people log in' : `There is no IdentityProvider ${line(name)}`,
      names.length > 0
        ? `There is ${names.map(line).join(', ')}.`
        : 'An admin sets spec.login of one; or name the provider with --issuer and --client-id.',
    );
  }
  if (found.length > 1) {
    throw new CliError(
      EXIT.misconfigured,
      `${found.length} IdentityProviders let people log in`,
      `Say which: ${names.map(line).join(', ')}.`,
    );
  }
  const { spec, metadata } = only;
  if (spec.login === undefined) {
    throw new CliError(
      EXIT.misconfigured,
      `IdentityProvider ${metadata.name} does not say how people log in`,
      names.length > 0 ? `There is ${names.map(line).join(', ')}.` : 'An admin sets its spec.login.',
    );
  }
  const { clientId, deviceClientId, scopes = DEFAULT_SCOPES, oauthScope } = spec.login;
  return {
    provider: metadata.name,
    issuer: spec.issuer,
    clientId,
    ...(deviceClientId === undefined ? {} : { deviceClientId }),
    scope: scopeOf([...scopes, ...oauthScope.split(' ')]),
    ...(spec.caBundle === undefined ? {} : { caPem: spec.caBundle }),
    names: {
      uid: spec.claims?.uid ?? 'sub',
      username: spec.claims?.username ?? 'sub',
      usernamePrefix: spec.prefix?.username ?? `${metadata.name}:`,
      ...(spec.claims?.groups === undefined ? {} : { groups: spec.claims.groups }),
      groupsPrefix: spec.prefix?.groups ?? `${metadata.name}:`,
      ...(spec.kubernetes === undefined ? {} : { kubernetes: spec.kubernetes }),
    },
  };
}
