// seal and unseal: access that is approved now for an outage to come. `seal` asks for it and, once it is approved, keeps
// all that a login needs in one file: where, whom to trust, which grant. `unseal` asks nobody: it reads that file and
// makes a ticket with the key beside it. The gateway opens such a grant only while it can not hear the operator.
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parseDuration } from '../../api/duration.ts';
import type { AccessGrant } from '../../api/grant.ts';
import { KeyFileError, loadClientKey } from '../../identity/keys.ts';
import { issueTicket } from '../../identity/tickets.ts';
import { systemFiles, writeFileAtomically } from '../../system/files.ts';
import { systemRandom } from '../../system/random.ts';
import { type ClientTarget, gatewayUri, targetOf } from '../clients/postgres.ts';
import { type Context, findConnection, nextCommand } from '../context.ts';
import { CliError, EXIT, type ExitCode } from '../io.ts';
import { clockTime, line } from '../render.ts';
import { createGrant, inHome, keyFile, phaseExit, type RequestOptions, tellGrant, waitForActive } from './request.ts';
import { waitWhile } from './wait.ts';

export interface SealOptions extends RequestOptions {
  validFor?: string;
  uses?: string;
}

/** What `unseal` needs to know with nobody to ask. */
export interface SealedFile {
  version: 1;
  grant: { name: string; uid: string; namespace: string };
  connection: { name: string; uid: string };
  target: Omit<ClientTarget, 'caFile'>;
  ca: string;
  /** Public key; the private one is in the folder of keys. */
  key: string;
  expiresAt: string;
  /** Of one use. */
  duration: string;
  uses: number;
}

const DEFAULT_USE = '30m';

export async function seal(context: Context, name: string, options: SealOptions): Promise<ExitCode> {
  const validFor = options.validFor ?? '720h';
  if (parseDuration(validFor) === undefined)
    throw new CliError(EXIT.misconfigured, `--valid-for ${validFor} is no duration`, 'Write for example 720h.');
  const uses = options.uses === undefined ? 1 : Number(options.uses);
  if (!Number.isInteger(uses) || uses < 1 || uses > 10)
    throw new CliError(EXIT.misconfigured, `--uses ${options.uses} is no number from 1 to 10`, 'Write for example 2.');
  if ((options.reason ?? '').trim() === '')
    throw new CliError(
      EXIT.misconfigured,
      'A sealed grant needs a reason',
      'Say who is on call: --reason "on call in March".',
    );
  const connection = await findConnection(context, name);
  const grant = await createGrant(context, connection, {
    ...options,
    for: options.for ?? DEFAULT_USE,
    sealed: { validFor, uses },
  });
  const settled = await waitWhile(context, grant, (each) => each.status === undefined, 5_000);
  const waits = options.wait === true && (settled.status?.phase ?? 'Pending') === 'Pending';
  const done = waits ? await waitForActive(context, settled) : settled;
  if (done.status?.phase === 'Active') return save(context, done);
  if (done.status?.phase === 'Pending') {
    context.io.out(
      `Grant ${done.metadata.name} waits for ${line(done.status.waitingFor ?? 'an approval')}.\nOnce it is approved: ${nextCommand(context, `seal --save ${done.metadata.name}`, { namespace: done.metadata.namespace })}\n`,
    );
  } else tellGrant(context, done);
  return phaseExit(done);
}

/** Keeps what opens an approved sealed grant; the file holds no secret, the key beside it does. */
export async function save(context: Context, grant: AccessGrant): Promise<ExitCode> {
  const { spec, status, metadata } = grant;
  if (spec.sealed === undefined || status?.phase !== 'Active' || spec.clientKey === undefined) {
    throw new CliError(
      EXIT.denied,
      `Grant ${metadata.name} is no sealed grant that is approved: ${line(status?.waitingFor ?? status?.message ?? status?.phase ?? 'not looked at')}`,
      `See: ${nextCommand(context, `status ${metadata.name}`, { namespace: metadata.namespace })}`,
    );
  }
  const connection = await findConnection(context, spec.connectionRef.name);
  const target = targetOf(connection, status.account ?? '', '');
  const ca = connection.status?.caBundle;
  if (target === undefined || ca === undefined)
    throw new CliError(
      EXIT.unavailable,
      `Connection ${spec.connectionRef.name} is not listening`,
      'Try again once it is Ready.',
    );
  const { caFile: _caFile, ...rest } = target;
  const file: SealedFile = {
    version: 1,
    grant: { name: metadata.name, uid: metadata.uid, namespace: metadata.namespace ?? 'default' },
    connection: { name: connection.metadata.name, uid: connection.metadata.uid },
    target: rest,
    ca,
    key: spec.clientKey,
    expiresAt: status.expiresAt!,
    duration: spec.duration ?? DEFAULT_USE,
    uses: spec.sealed.uses ?? 1,
  };
  const place = path.join(context.home, 'sealed', `${metadata.name}.json`);
  inHome(context, () => {
    mkdirSync(path.dirname(place), { recursive: true, mode: 0o700 });
    writeFileAtomically(systemFiles, place, Buffer.from(`${JSON.stringify(file, null, 2)}\n`), 0o600);
  });
  context.io.out(
    `Sealed in ${place}: ${file.connection.name} as ${file.target.account}, ${file.uses} times ${file.duration}, until ${clockTime(file.expiresAt, context.now())}.\n` +
      `It opens only while the operator can not be heard. Then: psql "$(${nextCommand(context, `unseal ${metadata.name}`)})"\n`,
  );
  return EXIT.ok;
}

/** Prints a DSN from the file alone. */
export async function unseal(context: Context, name: string): Promise<ExitCode> {
  const place = name.includes('/') ? name : path.join(context.home, 'sealed', `${name}.json`);
  let file: SealedFile;
  try {
    file = JSON.parse(readFileSync(place, 'utf8')) as SealedFile;
  } catch (error) {
    throw new CliError(
      EXIT.misconfigured,
      `${place} can not be read: ${String(error)}`,
      'Name a grant that was sealed here, or its file.',
    );
  }
  if (file.version !== 1)
    throw new CliError(EXIT.misconfigured, `${place} is of another version`, 'Use the program that wrote it.');
  if (Date.parse(file.expiresAt) <= context.now())
    throw new CliError(
      EXIT.denied,
      `The sealed grant ${file.grant.name} expired at ${file.expiresAt}`,
      `Seal another while there is time: ${nextCommand(context, `seal ${file.connection.name}`)}`,
    );
  const caFile = path.join(context.home, 'sealed', `${file.grant.name}.crt`);
  inHome(context, () => writeFileAtomically(systemFiles, caFile, Buffer.from(file.ca), 0o644));
  try {
    const { privateKey } = loadClientKey(keyFile(context.home, file.key));
    const ticket = issueTicket({
      privateKey,
      grantUid: file.grant.uid,
      connectionUid: file.connection.uid,
      nowMs: context.now(),
      random: systemRandom,
    });
    context.io.out(`${gatewayUri({ ...file.target, caFile }, ticket)}\n`);
  } catch (error) {
    if (!(error instanceof KeyFileError)) throw error;
    throw new CliError(EXIT.misconfigured, `Its key is not usable: ${error.message}`, 'Unseal where it was sealed.');
  }
  context.io.err(
    `Good for logins in the next 5 minutes; each use lasts ${file.duration} from its first login. It is a password.\n`,
  );
  return EXIT.ok;
}
