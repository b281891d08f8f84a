// `POST /v1/renew {session, token, ticket?}`: a newer token for a live session. The token decides, not the socket it came by.
import type { Gateway } from '../../gateway/gateway.ts';
import type { Renewal } from '../../gateway/renewal.ts';

/** undefined: the request is not of that form. */
export async function renewLocally(
  gateway: Pick<Gateway, 'renew'>,
  { session, token, ticket }: Readonly<Record<string, unknown>>,
): Promise<Renewal | undefined> {
  if (typeof session !== 'string' || typeof token !== 'string') return undefined;
  if (ticket !== undefined && typeof ticket !== 'string') return undefined;
  // All who may use the socket are one person to the operating system: they share what an address may fail.
  return await gateway.renew(session, { token, ...(ticket === undefined ? {} : { ticket }) }, 'local');
}
