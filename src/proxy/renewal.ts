// `POST /renew/<session>`: a newer token for a live session, through the API server like the tunnel itself. Says only what
// the gateway says; bounded in size, and in time by the server's request timeout. Never logs or repeats what it was sent.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Renewal, RenewalProof } from '../gateway/renewal.ts';
import { RENEW_BYTES, RENEW_PATH, REPLICA_HEADER } from './tunnel-protocol.ts';

export interface RenewalPort {
  /** It is shutting down. */
  refusing: boolean;
  replica: string;
  renew(session: string, proof: RenewalProof): Promise<Renewal>;
}

const STATUS: Readonly<Record<Extract<Renewal, { kind: 'Refused' }>['code'], number>> = {
  NoSession: 404,
  InvalidProof: 403,
  NotNewer: 409,
  LimitReached: 429,
};

/** Never rejects. */
export async function answerRenewal(
  request: IncomingMessage,
  response: ServerResponse,
  port: RenewalPort,
): Promise<void> {
  const send = (status: number, body: unknown): void => {
    if (response.destroyed || response.headersSent) return;
    response.writeHead(status, {
      'content-type': 'application/json',
      'cache-control': 'no-store',
      connection: 'close',
      [REPLICA_HEADER]: port.replica,
    });
    response.end(JSON.stringify(body));
  };
  const refused = (status: number, message: string): void => send(status, { message });
  try {
    if (port.refusing) return refused(503, 'This proxy is shutting down; try again.');
    if (request.method !== 'POST') return refused(405, 'A renewal is a POST.');
    // A page in a browser that can reach the API server must not act behind its user's back.
    if (request.headers.origin !== undefined) return refused(403, 'Renewals are not for browsers.');
    const wanted = request.headers[REPLICA_HEADER];
    if (wanted !== undefined && wanted !== port.replica) return refused(421, 'This is another replica.');
    const session = (request.url ?? '').split('?', 1)[0]!.slice(RENEW_PATH.length);
    if (!/^s-[a-z0-9]{1,32}$/.test(session)) return refused(400, 'The path names no session.');
    const body = await bodyOf(request);
    if (body === undefined) return refused(413, `A renewal has at most ${RENEW_BYTES} bytes.`);
    const proof = proofIn(body);
    if (proof === undefined) return refused(400, 'A renewal is {"token": "…", "ticket"?: "…"}.');
    const answer = await port.renew(session, proof);
    send(answer.kind === 'Refused' ? STATUS[answer.code] : 200, answer);
  } catch {
    refused(500, 'The renewal failed; try again.');
  }
}

/** undefined: it is too long; what comes yet is thrown away. Rejects when the peer leaves. */
function bodyOf(request: IncomingMessage): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    let parts: Buffer[] = [];
    let size = 0;
    request.on('data', (part: Buffer) => {
      size += part.length;
      if (size <= RENEW_BYTES) return void parts.push(part);
      parts = [];
      resolve(undefined);
    });
    request.once('end', () => resolve(Buffer.concat(parts)));
    request.once('close', () => reject(new Error('the peer left')));
  });
}

export function proofIn(body: Buffer): RenewalProof | undefined {
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { token, ticket } = value as { token?: unknown; ticket?: unknown };
  if (typeof token !== 'string' || (ticket !== undefined && typeof ticket !== 'string')) return undefined;
  return { token, ...(ticket === undefined ? {} : { ticket }) };
}
