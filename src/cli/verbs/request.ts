// request: asks for access. Makes the key that will prove who it is, creates the AccessGrant, says what happens next.
import { readdirSync, statSync, unlinkSync } from 'node:fs';
import path from 'node:path';
import type { Connection } from '../../api/connection.ts';
import { parseDuration } from '../../api/duration.ts';
import type { AccessGrant, AccessGrantSpec } from '../../api/grant.ts';
import { API_GROUP_VERSION } from '../../api/group.ts';
import { generateClientKey, saveClientKey } from '../../identity/keys.ts';
import { type Context, findConnection, findGrant, nextCommand } from '../context.ts';
import { CliError, EXIT, type ExitCode, paint } from '../io.ts';
import { clockTime, line, machineObject } from '../render.ts';
import { waitWhile } from './wait.ts';

export interface RequestOptions {
  for?: string;
  reason?: string;
  account?: string;
  policy?: string;
  notBefore?: string;
  extend?: string;
  ticket?: string;
  breakGlass?: boolean;
  /** Whom it is for, and the IdentityProvider whose token logs in as them. */
  forUser?: string;
  provider?: string;
  /** Public key of whom it is for. */
  key?: string;
  commandFile?: string;
  /** For an outage to come (seal.ts). */
  sealed?: NonNullable<AccessGrantSpec['sealed']>;
  wait?: boolean;
}

/** Private keys are named by their public half, so a grant finds its own. */
export const keyFile = (home: string, publicKey: string): string => path.join(home, 'keys', `${publicKey}.pem`);

export async function request(context: Context, connectionName: string, options: RequestOptions): Promise<ExitCode> {
  const connection = await findConnection(context, connectionName);
  const grant = await createGrant(context, connection, options);
  const settled = await waitWhile(context, grant, (each) => each.status === undefined, 5_000);
  const waits = options.wait === true && (settled.status?.phase ?? 'Pending') === 'Pending';
  if (machineObject(context.output, settled) === undefined) tellGrant(context, settled);
  const done = waits ? await waitForActive(context, settled) : settled;
  // A script that waits wants to know how it ended, and nothing else.
  const shown = machineObject(context.output, done);
  if (shown !== undefined) context.io.out(shown);
  else if (waits) tellGrant(context, done);
  return phaseExit(done);
}

export async function createGrant(
  context: Context,
  connection: Connection,
  options: RequestOptions,
): Promise<AccessGrant> {
  const { client, actor } = context;
  if (options.for !== undefined && parseDuration(options.for) === undefined) {
    throw new CliError(
      EXIT.misconfigured,
      `--for ${options.for} is no duration`,
      'Write for example 30m, 1h or 1h30m.',
    );
  }
  const notBefore = options.notBefore === undefined ? undefined : instant(options.notBefore);
  const parent = options.extend === undefined ? undefined : await findGrant(context, options.extend);
  const account = options.account ?? parent?.status?.account;
  const policy = options.policy ?? parent?.status?.policy?.name;
  if (options.breakGlass && (options.reason ?? '').trim() === '') {
    throw new CliError(
      EXIT.misconfigured,
      'Break-glass needs a reason',
      'Say what the emergency is: --break-glass --reason "INC-1234: orders are stuck".',
    );
  }
  const commands =
    options.commandFile === undefined
      ? undefined
      : await (await import('./command-file.ts')).readStatements(options.commandFile);
  // The key is on disk before the grant that names it exists: a grant without its key would be of no use.
  // Who asks for another has no key of theirs: they log in by a token, or with the key that they gave.
  const key = options.forUser === undefined ? makeKey(context) : options.key;
  const spec: AccessGrantSpec = {
    connectionRef: { name: connection.metadata.name },
    ...(account !== undefined ? { account } : {}),
    ...(policy !== undefined ? { policyRef: { name: policy } } : {}),
    ...(options.for !== undefined ? { duration: options.for } : {}),
    ...(notBefore !== undefined ? { notBefore } : {}),
    ...(options.reason !== undefined ? { reason: options.reason } : {}),
    ...(options.ticket !== undefined ? { ticket: options.ticket } : {}),
    ...(parent !== undefined ? { extends: { name: parent.metadata.name, uid: parent.metadata.uid } } : {}),
    ...(options.breakGlass ? { breakGlass: true } : {}),
    ...(commands !== undefined ? { commands } : {}),
    ...(options.sealed !== undefined ? { sealed: options.sealed } : {}),
    ...(options.forUser !== undefined
      ? {
          beneficiary: {
            kind: 'User',
            name: options.forUser,
            ...(options.provider !== undefined ? { provider: options.provider } : {}),
          },
        }
      : {}),
    ...(key !== undefined ? { clientKey: key } : {}),
  };
  const result = await client.create(actor, {
    apiVersion: API_GROUP_VERSION,
    kind: 'AccessGrant',
    metadata: { name: `${connection.metadata.name}-`, namespace: connection.metadata.namespace ?? 'default' },
    spec,
  });
  switch (result.kind) {
    case 'Ok':
      return result.value as AccessGrant;
    case 'NotEligible':
      throw new CliError(EXIT.denied, result.message, result.hint || undefined);
    case 'Invalid':
      throw new CliError(EXIT.misconfigured, `The request is not valid: ${result.problems.join('; ')}`);
    case 'Forbidden':
    case 'Conflict':
      throw new CliError(EXIT.denied, result.message);
    case 'NotFound':
    case 'AlreadyExists':
      throw new CliError(EXIT.failed, 'The request could not be stored', 'Try again.');
  }
}

/** Makes a key pair, keeps the private half and returns the public one. */
export function makeKey(context: Context): string {
  const key = generateClientKey();
  inHome(context, () => {
    saveClientKey(keyFile(context.home, key.publicKey), key);
    forgetOldKeys(path.join(context.home, 'keys'), context.now());
  });
  return key.publicKey;
}

/** Does what writes to the folder of keys; where that can not be written, says so. */
export function inHome(context: Context, act: () => void): void {
  try {
    act();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (!['EACCES', 'EPERM', 'EROFS', 'ENOENT', 'ENOTDIR', 'ENOSPC'].includes(code)) throw error;
    throw new CliError(
      EXIT.misconfigured,
      `${context.home} can not be written (${code}), and the keys of your grants are kept there`,
      'Set SALLYPORT_HOME to a folder that only you can read; in a pod an emptyDir.',
    );
  }
}

/** How names of keys in OpenSSH's form begin. */
export const SSH_KEY = 'grant-';
/** No grant lasts longer than 30 days; older keys open nothing any more. */
const KEY_LIFE_MS = 62 * 86_400_000;

/** Files of keys, of either form, that no grant can have any more. */
export function forgetOldKeys(folder: string, nowMs: number): void {
  for (const name of readdirSync(folder)) {
    const file = path.join(folder, name);
    try {
      const isKey = name.endsWith('.pem') || name.startsWith(SSH_KEY);
      if (isKey && nowMs - statSync(file).mtimeMs > KEY_LIFE_MS) unlinkSync(file);
    } catch {
      // Somebody else was tidying up.
    }
  }
}

/** RFC 3339, or `15:04` for the next time it is that late, local time. */
function instant(text: string): string {
  const clock = /^([01]?[0-9]|2[0-3]):([0-5][0-9])$/.exec(text);
  if (clock !== null) {
    const at = new Date();
    at.setHours(Number(clock[1]), Number(clock[2]), 0, 0);
    if (at.getTime() <= Date.now()) at.setDate(at.getDate() + 1);
    return at.toISOString();
  }
  const at = Date.parse(text);
  if (Number.isNaN(at)) {
    throw new CliError(
      EXIT.misconfigured,
      `--not-before ${text} is no time`,
      'Write for example 22:00 or 2026-01-31T22:00:00Z.',
    );
  }
  return new Date(at).toISOString();
}

/** Waits for approval and start, telling how it goes on a terminal. */
export async function waitForActive(context: Context, grant: AccessGrant): Promise<AccessGrant> {
  const { io } = context;
  let told = '';
  const look = (each: AccessGrant): boolean => {
    const status = each.status;
    const text =
      status?.expiresAt !== undefined
        ? `starts at ${status.notBefore}`
        : `waits for ${status?.waitingFor ?? 'the operator'}`;
    if (status?.phase === 'Pending' && text !== told) {
      told = text;
      io.err(`${each.metadata.name} ${line(text)} …\n`);
    }
    return status === undefined || status.phase === 'Pending';
  };
  try {
    return await waitWhile(context, grant, look);
  } catch (error) {
    if (!io.signal.aborted) throw error;
    throw new CliError(
      130,
      `Given up waiting; the request ${grant.metadata.name} is still open`,
      `Take it back with: ${nextCommand(context, `withdraw ${grant.metadata.name}`, { namespace: grant.metadata.namespace })}`,
      { cause: error },
    );
  }
}

export function phaseExit(grant: AccessGrant): ExitCode {
  switch (grant.status?.phase) {
    case 'Active':
      return EXIT.ok;
    case undefined:
    case 'Pending':
      return EXIT.pending;
    default:
      return EXIT.denied;
  }
}

/** What became of a request and the exact next command. */
export function tellGrant(context: Context, grant: AccessGrant): void {
  const { io } = context;
  const { status, metadata, spec } = grant;
  const { namespace } = metadata;
  const nowMs = context.now();
  const connection = spec.connectionRef.name;
  // Asked for by name: another account of the Connection may have a grant as well.
  const connect = `connect ${connection}${spec.account === undefined ? '' : ` --account ${spec.account}`}`;
  switch (status?.phase) {
    case 'Active':
      io.out(
        `Grant ${metadata.name} is ${paint(io, 'green', 'Active')} until ${clockTime(status.expiresAt, nowMs)}: ${connection} as ${status.account}.\n` +
          `Next: ${nextCommand(context, connect, { namespace })}\n`,
      );
      return;
    case 'Pending':
      if (status.expiresAt !== undefined) {
        io.out(
          `Grant ${metadata.name} is approved and starts at ${clockTime(status.notBefore, nowMs)}.\n` +
            `Then: ${nextCommand(context, connect, { namespace })}\n`,
        );
        return;
      }
      io.out(
        `Grant ${metadata.name} is ${paint(io, 'yellow', 'Pending')}: it needs ${line(status.waitingFor ?? 'an approval')} until ${clockTime(status.deadline, nowMs)}.\n` +
          `An approver runs: ${nextCommand(context, `approve ${metadata.name}`, { identity: false, namespace })}\n` +
          `Then: ${nextCommand(context, `${connect} --wait`, { namespace })}\n`,
      );
      return;
    case undefined:
      io.out(
        `Grant ${metadata.name} was created; the operator has not looked at it yet.\nNext: ${nextCommand(context, `status ${metadata.name}`, { namespace })}\n`,
      );
      return;
    default:
      io.out(
        `Grant ${metadata.name} is ${paint(io, 'red', status?.phase ?? 'unknown')}: ${line(status?.message ?? 'no reason is known')}.\n`,
      );
  }
}
