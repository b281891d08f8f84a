// The JSON API for jobs (api-types.ts says what it promises). Guarantees: a workload token proves who asks, at every call;
// it goes on as the proof of the one grant it makes and is kept nowhere; what is somebody else's is not there; nothing of
// a token or of what went wrong inside is in an answer.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { canonicalJson, sha256Hex, specHash } from '../api/canonical.ts';
import type { Connection } from '../api/connection.ts';
import {
  type AccessApprovalSpec,
  type AccessGrant,
  type AccessGrantSpec,
  GRANT_PHASES,
  type GrantPhase,
} from '../api/grant.ts';
import { API_GROUP_VERSION } from '../api/group.ts';
import type { CommandHold } from '../api/hold.ts';
import { fieldOf, validateSpec } from '../api/validate.ts';
import { type ActObject, provenName, stemOf } from '../identity/acts.ts';
import { lackOf } from '../identity/oidc/describe-fault.ts';
import { type ProvenToken, verifyToken } from '../identity/oidc/verify-token.ts';
import { HttpError } from '../system/http-error.ts';
import {
  API_BODY_BYTES,
  type ApiProblem,
  type HoldView,
  REQUESTS_PATH,
  type RequestList,
  type RequestView,
} from './api-types.ts';
import { isOwn } from './concerns.ts';
import { readBody } from './http.ts';
import { grantPath, holdPath } from './pages/decide.ts';
import type { Portal } from './portal.ts';

const ONE = /^\/v1\/requests\/([a-z0-9][-a-z0-9.]{0,252})\/([a-z0-9][-a-z0-9.]{0,252})(\/withdraw)?$/;
const MOST_HOLDS = 20;
const MOST_LISTED = 20;
const LONGEST_TOKEN = 16 * 1024;
/** Refusals a minute, all together, that are told by their cause; good tokens pass however many bad ones come. */
const MOST_REFUSED = 600;

/** Jobs ask again by themselves: within moments a new key is known. */
class UnknownKeyError extends HttpError {
  constructor() {
    super(503, 'The key of this token is not known; its issuer is asked for new ones.', 'Try again.');
  }
}

export function createRequestsApi(
  portal: Portal,
): (request: IncomingMessage, response: ServerResponse, path: string) => Promise<boolean> {
  let refused = 0;
  let windowMs = portal.clock.monotonic();
  const person = async (request: IncomingMessage): Promise<{ text: string; token: ProvenToken }> => {
    const now = portal.clock.monotonic();
    if (now - windowMs > 60_000) {
      windowMs = now;
      refused = 0;
    }
    const [, text = ''] = /^Bearer +([A-Za-z0-9_.-]+)$/i.exec(request.headers.authorization ?? '') ?? [];
    const verdict =
      text === '' || text.length > LONGEST_TOKEN
        ? undefined
        : await verifyToken(text, {
            providers: await portal.world.providers(),
            uses: ['Workload'],
            nowMs: portal.clock.now(),
          });
    if (verdict?.kind === 'Good') return { text, token: verdict.token };
    refused += 1;
    if (verdict !== undefined && refused <= MOST_REFUSED)
      portal.log('info', 'a job’s token was refused', { fault: verdict.fault, detail: verdict.detail ?? '' });
    // No signature was looked at, and after a rotation every job asks so until the new key is known.
    if (verdict?.unknownKid === true && verdict.provider !== undefined) {
      portal.world.unknownKey(verdict.provider);
      throw new UnknownKeyError();
    }
    if (refused > MOST_REFUSED) throw new HttpError(429, 'Too many tokens that are no good come in.', 'Wait a minute.');
    throw new HttpError(
      401,
      'This is no token of a workload that Sallyport knows.',
      'Ask for one with the audience that the IdentityProvider declares for Workload; the portal’s log has the cause.',
    );
  };

  return async (request, response, path) => {
    if (path !== REQUESTS_PATH && !path.startsWith(`${REQUESTS_PATH}/`)) return false;
    try {
      const { method } = request;
      if (path === REQUESTS_PATH && method === 'POST') {
        const { text, token } = await person(request);
        send(response, 201, await ask(portal, text, token, await readJson(request)));
        return true;
      }
      if (path === REQUESTS_PATH && method === 'GET') {
        const { token } = await person(request);
        const asked = new URL(request.url ?? '', 'http://portal').searchParams;
        send(response, 200, await listOf(portal, token, asked.get('namespace') ?? '', asked.get('connection') ?? ''));
        return true;
      }
      const [, namespace = '', name, withdraws] = ONE.exec(path) ?? [];
      if (name !== undefined && withdraws === undefined && method === 'GET') {
        const { token } = await person(request);
        send(response, 200, await viewOf(portal, await ownGrant(portal, token, namespace, name)));
        return true;
      }
      if (name !== undefined && withdraws !== undefined && method === 'POST') {
        const { text, token } = await person(request);
        request.resume();
        send(response, 200, await withdraw(portal, text, token, await ownGrant(portal, token, namespace, name)));
        return true;
      }
      throw new HttpError(404, 'There is no such call.');
    } catch (error) {
      tell(portal, response, error);
      return true;
    }
  };
}

function send(response: ServerResponse, status: number, body: object): void {
  const text = Buffer.from(JSON.stringify(body));
  response.writeHead(status, {
    'content-type': 'application/json',
    'cache-control': 'no-store',
    'content-length': text.length,
    ...(status === 401 ? { 'www-authenticate': 'Bearer' } : {}),
    ...(status === 429 || status === 503 ? { 'retry-after': '5' } : {}),
  });
  response.end(text);
}

function tell(portal: Portal, response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  if (error instanceof HttpError) {
    const { message, hint, status } = error;
    if (status === 413) response.setHeader('connection', 'close');
    const problem: ApiProblem['error'] = { message, ...(hint === undefined ? {} : { hint }) };
    if (error instanceof UnknownKeyError) problem.code = 'UnknownKey';
    return send(response, status, { error: problem });
  }
  const id = portal.random.bytes(4).toString('hex');
  portal.log('error', 'a job’s request failed', { id, error: error instanceof Error ? error.message : String(error) });
  send(response, 503, { error: { message: `Sallyport can not answer this now (${id} in the portal’s log).` } });
}

async function readJson(request: IncomingMessage): Promise<Record<string, unknown>> {
  if (!/^application\/json(;|$)/i.test(request.headers['content-type'] ?? ''))
    throw new HttpError(400, 'The body is no JSON.');
  try {
    const value = JSON.parse((await readBody(request, API_BODY_BYTES)).toString('utf8')) as unknown;
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch (error) {
    if (error instanceof HttpError) throw error;
  }
  throw new HttpError(400, 'The body holds no JSON object.');
}

const FIELDS: readonly string[] = [
  'namespace',
  'connection',
  'account',
  'policy',
  'duration',
  'notBefore',
  'reason',
  'ticket',
  'clientKey',
  'commands',
];

/** The spec that is asked for; the schema says what of it is wrong. */
export function specOf(body: Record<string, unknown>): { namespace: string; spec: AccessGrantSpec } {
  const strange = Object.keys(body).find((each) => !FIELDS.includes(each));
  if (strange !== undefined) throw new HttpError(400, `There is no field ${strange.slice(0, 64)}.`);
  const { namespace, connection, policy, commands } = body;
  if (typeof namespace !== 'string' || typeof connection !== 'string') {
    throw new HttpError(400, 'The request names no namespace and connection.');
  }
  const spec: Record<string, unknown> = { connectionRef: { name: connection } };
  for (const field of ['account', 'duration', 'notBefore', 'reason', 'ticket', 'clientKey'])
    if (body[field] !== undefined) spec[field] = body[field];
  if (policy !== undefined) spec['policyRef'] = { name: policy };
  if (commands !== undefined) spec['commands'] = commands;
  const problem = validateSpec('AccessGrant', spec)[0];
  if (problem !== undefined) throw new HttpError(400, `${fieldOf(problem.path)}: ${problem.message}; ${problem.hint}`);
  return { namespace, spec: spec as unknown as AccessGrantSpec };
}

async function ask(
  portal: Portal,
  text: string,
  token: ProvenToken,
  body: Record<string, unknown>,
): Promise<RequestView> {
  const { namespace, spec } = specOf(body);
  const object = { kind: 'AccessGrant', spec } as Pick<ActObject, 'kind' | 'spec'>;
  const name = provenName(stemOf('Pipeline', object), token.fingerprint);
  const made = await portal.world.create({
    apiVersion: API_GROUP_VERSION,
    kind: 'AccessGrant',
    metadata: { name, namespace },
    spec: { ...spec, requester: { via: 'Pipeline', proof: text } },
  });
  switch (made.kind) {
    case 'Exists':
      throw new HttpError(409, 'This token has made its grant.', 'A token makes one; let the job fetch another.');
    case 'Refused':
      throw new HttpError(403, made.message, withLack(token, made.hint));
    case 'Unavailable':
      portal.log('warn', 'a job’s request could not be stored', { error: made.message });
      throw new HttpError(503, 'Sallyport can not store the request now.');
    case 'Made':
      return judged(portal, text, token, made.object as AccessGrant);
  }
}

/**
 * What no policy gives the job nobody can approve, and a job waits for no policy to be written: it is given up and refused,
 * as a daemon refuses it before it is made. Without the operator's word within moments it is shown as it is.
 */
async function judged(portal: Portal, text: string, token: ProvenToken, grant: AccessGrant): Promise<RequestView> {
  const seen = await settled(portal, grant, ({ status }) => status !== undefined);
  const { status } = seen;
  if (status?.phase !== 'Pending' || status.policy !== undefined || status.waitingFor === undefined) {
    return viewOf(portal, seen);
  }
  await withdraw(portal, text, token, seen);
  throw new HttpError(
    403,
    status.waitingFor,
    withLack(token, 'Nothing waits for anybody; once a policy is for this job, run it again.'),
  );
}

/** A policy by `ref` is met by no job whose ref does not count; the job's log is where that is looked for. */
const withLack = (token: ProvenToken, hint: string | undefined): string | undefined =>
  [lackOf(token), hint].filter((each) => each !== undefined).join(' ') || undefined;

const SETTLE_MS = 3_000;
const LOOK_MS = 75;

/** Answers once the operator has looked at it, or soon after. */
async function withdraw(portal: Portal, text: string, token: ProvenToken, grant: AccessGrant): Promise<RequestView> {
  const { name, namespace = '', uid } = grant.metadata;
  const spec: AccessApprovalSpec = {
    targetRef: { kind: 'AccessGrant', name, uid },
    specHash: specHash(grant.spec),
    decision: 'Withdraw',
  };
  const made = await portal.world.create({
    apiVersion: API_GROUP_VERSION,
    kind: 'AccessApproval',
    metadata: { name: provenName(stemOf('Pipeline', { kind: 'AccessApproval', spec }), token.fingerprint), namespace },
    spec: { ...spec, approver: { via: 'Pipeline', proof: text } },
  });
  if (made.kind === 'Refused') throw new HttpError(403, made.message, made.hint);
  if (made.kind === 'Unavailable') {
    portal.log('warn', 'a job’s withdrawal could not be stored', { error: made.message });
    throw new HttpError(503, 'Sallyport can not store it now.');
  }
  const over = ({ status }: AccessGrant): boolean =>
    status !== undefined && status.phase !== 'Pending' && status.phase !== 'Active';
  return viewOf(portal, await settled(portal, grant, over));
}

/** The grant once it is as wanted, or as it is after a while. */
async function settled(
  portal: Portal,
  grant: AccessGrant,
  isSettled: (grant: AccessGrant) => boolean,
): Promise<AccessGrant> {
  const { name, namespace = '' } = grant.metadata;
  const until = portal.clock.monotonic() + SETTLE_MS;
  for (;;) {
    const seen = (await portal.world.get<AccessGrant>('AccessGrant', namespace, name)) ?? grant;
    if (isSettled(seen) || portal.clock.monotonic() >= until) return seen;
    await new Promise<void>((resolve) => portal.clock.after(LOOK_MS, resolve));
  }
}

async function ownGrant(portal: Portal, token: ProvenToken, namespace: string, name: string): Promise<AccessGrant> {
  const grant = await portal.world.get<AccessGrant>('AccessGrant', namespace, name);
  if (grant === undefined || !isOfJob(token, grant))
    throw new HttpError(404, 'There is no such request, or it is not yours.');
  return grant;
}

/**
 * Whether a job with the same standing asked: by uid, for names of workloads are written by whoever names repositories, and
 * with the same claims. A job of another branch is of the same repository, and no request of main's is its own.
 */
function isOfJob(token: ProvenToken, { spec: { requester } }: Pick<AccessGrant, 'spec'>): boolean {
  if (requester?.uid === undefined || !isOwn(token.principal, requester)) return false;
  const claims = (of: { workload?: { claims: Readonly<Record<string, string>> } | undefined }): string =>
    canonicalJson(of.workload?.claims ?? {});
  return claims(requester) === claims(token.principal);
}

/** Those of the workload that are open or in force, newest first: a job that is run again finds what was approved. */
async function listOf(portal: Portal, token: ProvenToken, namespace: string, connection: string): Promise<RequestList> {
  const all = await portal.world.list<AccessGrant>('AccessGrant');
  const own = all
    .filter(
      ({ metadata, spec, status }) =>
        metadata.namespace === namespace &&
        spec.connectionRef.name === connection &&
        isOfJob(token, { spec }) &&
        ['Pending', 'Active'].includes(status?.phase ?? 'Pending'),
    )
    .sort((a, b) => (a.metadata.creationTimestamp > b.metadata.creationTimestamp ? -1 : 1))
    .slice(0, MOST_LISTED);
  return { items: await Promise.all(own.map((each) => viewOf(portal, each))) };
}

async function viewOf(portal: Portal, grant: AccessGrant): Promise<RequestView> {
  const { metadata, spec, status } = grant;
  const namespace = metadata.namespace ?? '';
  const [connection, holds] = await Promise.all([
    portal.world.get<Connection>('Connection', namespace, spec.connectionRef.name),
    portal.world.list<CommandHold>('CommandHold'),
  ]);
  const { origin } = portal.site;
  const known = connection?.status;
  const phase = GRANT_PHASES.find((each): each is GrantPhase => each === status?.phase) ?? 'Pending';
  const database = connection?.spec.postgresql?.databases?.[0];
  return {
    namespace,
    name: metadata.name,
    uid: metadata.uid,
    phase,
    ...defined({
      message: status?.message,
      waitingFor: status?.waitingFor,
      deadline: status?.deadline,
      notBefore: status?.notBefore,
      expiresAt: status?.expiresAt,
      account: status?.account,
      policy: status?.policy?.name,
      commandsHash: spec.commands === undefined ? undefined : sha256Hex(canonicalJson(spec.commands)),
    }),
    link: `${origin}${grantPath(grant)}`,
    connection: {
      uid: connection?.metadata.uid ?? '',
      name: spec.connectionRef.name,
      namespace,
      type: connection?.spec.type ?? '',
      ...(known?.endpoint === undefined ? {} : { endpoint: { host: known.endpoint.host, port: known.endpoint.port } }),
      ...defined({ caBundle: known?.caBundle, database }),
    },
    holds: holds
      .filter(({ metadata: of, spec: { grantRef } }) => of.namespace === namespace && grantRef.uid === metadata.uid)
      .sort((a, b) => (a.spec.requestedAt > b.spec.requestedAt ? -1 : 1))
      .slice(0, MOST_HOLDS)
      .map(
        (hold): HoldView => ({
          name: hold.metadata.name,
          phase: hold.status?.phase ?? 'Waiting',
          at: hold.spec.requestedAt,
          link: `${origin}${holdPath(hold)}`,
        }),
      ),
  };
}

function defined<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
