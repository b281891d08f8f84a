// A DSN with which psql 18 logs in by itself: it shows a code, the person enters it in a browser, and libpq sends the token.
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { sha256Hex } from '../../api/canonical.ts';
import type { Connection } from '../../api/connection.ts';
import type { AccessGrant } from '../../api/grant.ts';
import { systemFiles, writeFileAtomically } from '../../system/files.ts';
import { oauthUri, targetOf } from '../clients/postgres.ts';
import { type Context, findGrant, nextCommand } from '../context.ts';
import { CliError, EXIT, type ExitCode } from '../io.ts';
import { inHome } from '../verbs/request.ts';
import { settingsFromPlace } from './settings.ts';

/** Wants neither a login nor a grant: who logs in with it must have one by then. */
export async function oauthDsn(
  context: Context,
  connection: Connection,
  options: { account?: string; grant?: string; provider?: string },
): Promise<ExitCode> {
  const { io, home } = context;
  const settings = await settingsFromPlace(context, options.provider);
  if (settings.deviceClientId === undefined) {
    throw new CliError(
      EXIT.misconfigured,
      `IdentityProvider ${settings.provider ?? ''} names no client for devices (spec.login.deviceClientId)`,
      `Without one: ${nextCommand(context, `connect ${connection.metadata.name} --token`)}`,
    );
  }
  const grant: AccessGrant | undefined =
    options.grant === undefined ? undefined : await findGrant(context, options.grant);
  const account = options.account ?? grant?.status?.account ?? connection.spec.accounts[0]?.name ?? '';
  const caPem = connection.status?.caBundle ?? '';
  const caFile = path.join(home, 'ca', `${sha256Hex(caPem).slice(0, 16)}.crt`);
  const target = targetOf(connection, grant === undefined ? account : `${account}+${grant.metadata.name}`, caFile);
  if (target === undefined || caPem === '') {
    throw new CliError(
      EXIT.misconfigured,
      `Connection ${connection.metadata.name} is not listening`,
      connection.status?.conditions?.find((each) => each.type === 'Programmed')?.message,
    );
  }
  inHome(context, () => {
    mkdirSync(path.dirname(caFile), { recursive: true, mode: 0o700 });
    writeFileAtomically(systemFiles, caFile, Buffer.from(caPem), 0o644);
  });
  io.out(`${oauthUri(target, { issuer: settings.issuer, clientId: settings.deviceClientId })}\n`);
  io.err(
    `For psql 18 with libpq-oauth. It holds no secret. The account is ${account}; with several grants for it add --grant NAME.\n${
      settings.caPem === undefined
        ? ''
        : 'libpq verifies the issuer with the CAs of this system: the IdentityProvider’s caBundle must be among them.\n'
    }`,
  );
  return EXIT.ok;
}
