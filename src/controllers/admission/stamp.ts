// Judges what somebody wants to create in the cluster and stamps who it was: requests, votes and locks. Pure but for
// nonce, time and seal, which are handed in; a dry run gets the same answer as the real thing and leaves nothing behind.
// Guarantees: the stamp names whom the API server authenticated (or whom it lets somebody impersonate) or, where a proof
// came with the object, whom that proved, and nobody else; it is sealed over exactly the spec that is stored, and never
// replaces one that an author wrote: that is refused.
// Does not look at other objects: whether the request is eligible and the vote counts is decided by the controllers.
import { canonicalJson, specHash } from '../../api/canonical.ts';
import type { AccessGrantSpec } from '../../api/grant.ts';
import { API_GROUP } from '../../api/group.ts';
import type { Stamp } from '../../api/schema.ts';
import { shown, validateSpec } from '../../api/validate.ts';
import { readClientKey } from '../../identity/ed25519.ts';
import { LARGEST_OBJECT, STAMP_FIELD, sentence } from '../../store/directory/admission.ts';
import { checkProof, isProof, type ProofSources, type ProofVerdict } from './proof.ts';

/** What of an AdmissionReview v1 request is looked at. */
export interface StampRequest {
  kind: { group: string; kind: string };
  operation: string;
  namespace?: string | undefined;
  subResource?: string | undefined;
  userInfo: { username?: string | undefined; uid?: string | undefined; groups?: readonly string[] | undefined };
  object?: unknown;
}

export interface StampContext {
  /** Makes the seal good for one object only; new for every request. */
  nonce: string;
  nowMs: number;
  /** The operator's signature over a stamp that lacks only it. */
  seal: (stamp: Stamp) => string;
}

/** RFC 6902. */
export interface JsonPatchOperation {
  op: 'add';
  path: string;
  value: unknown;
}

export type StampAnswer =
  | { kind: 'Stamped'; patch: readonly JsonPatchOperation[] }
  /** `cause`: for the log alone. */
  | { kind: 'Refused'; status: 403 | 409 | 422 | 503; message: string; cause?: string };

const NOTHING = 'Nothing was made.';
/** How late a planned start may already be when its request arrives. */
const LATE_START_MS = 60_000;
/** Bounds of `Stamp`; a stamp that does not hold them could not be stored. */
const MOST_GROUPS = 512;
const LONGEST_NAME = 512;
const LONGEST_UID = 256;

/** Votes that the operator casts itself, for a ticket that it has read: they come stamped and sealed by it. */
export interface OwnVotes {
  /** Username of the operator's ServiceAccount. */
  operator: string;
  isSealed(stamp: Stamp, spec: object): boolean;
}

/** As `stamp`, of what carries a proof too, and of the operator's own votes, which are left as they are. */
export async function stampOrProve(
  request: StampRequest,
  context: StampContext & { own?: OwnVotes },
  /** undefined: no proof is taken. */
  sources: ProofSources | undefined,
): Promise<StampAnswer> {
  const kind = request.kind.kind;
  const spec = isObject(request.object) ? request.object['spec'] : undefined;
  if ((kind !== 'AccessGrant' && kind !== 'AccessApproval') || !isObject(spec) || !isObject(request.object)) {
    return stamp(request, context);
  }
  const { [STAMP_FIELD[kind]!]: given, ...own } = spec;
  if (kind === 'AccessApproval' && isOwnVote(given, spec, request, context.own)) {
    const rest = stamp({ ...request, object: { ...request.object, spec: own } }, context);
    return rest.kind === 'Refused' ? rest : { kind: 'Stamped', patch: [] };
  }
  if (sources === undefined || !isProof(given)) return stamp(request, context);
  // First all that does not hang on the proof: what is hashed is what the schema lets through.
  const object = { ...request.object, spec: own };
  const rest = stamp({ ...request, object }, context);
  if (rest.kind === 'Refused') return rest;
  const metadata = request.object['metadata'];
  const verdict = await checkProof(
    {
      kind,
      sender: request.userInfo.username ?? '',
      namespace: request.namespace ?? '',
      metadata: isObject(metadata) ? metadata : {},
      spec: own,
      given,
    },
    sources,
  );
  return verdict.kind === 'Proven'
    ? stamp({ ...request, object }, context, verdict)
    : { ...refused(verdict.status, verdict.message), ...(verdict.cause === undefined ? {} : { cause: verdict.cause }) };
}

/** The seal is the operator's over exactly this spec: nobody else could have made it, and this door never does. */
function isOwnVote(given: unknown, spec: object, request: StampRequest, own: OwnVotes | undefined): boolean {
  if (own === undefined || request.userInfo.username !== own.operator || !isObject(given)) return false;
  return given['via'] === 'Ticket' && own.isSealed(given as Stamp, spec);
}

/** `proven`: who it was, where that follows from a proof and not from who sent it. */
export function stamp(
  request: StampRequest,
  context: StampContext,
  proven?: Extract<ProofVerdict, { kind: 'Proven' }>,
): StampAnswer {
  const { kind, userInfo } = request;
  const field = Object.hasOwn(STAMP_FIELD, kind.kind) ? STAMP_FIELD[kind.kind as keyof typeof STAMP_FIELD] : undefined;
  if (kind.group !== API_GROUP || field === undefined || request.operation !== 'CREATE' || request.subResource) {
    // More than the webhook is configured for: an answer either way would be a guess.
    return refused(403, `Sallyport stamps what people create, not ${request.operation} of ${shown(kind.kind)}.`);
  }
  const known = kind.kind as 'AccessGrant' | 'AccessApproval' | 'AccessLock';
  const object = request.object;
  if (!isObject(object) || !isObject(object['spec'])) return refused(422, `A ${known} needs a spec.`);
  const spec = object['spec'];
  for (const written of ['requester', 'approver', 'author']) {
    if (spec[written] !== undefined) {
      return refused(422, `spec.${written}: is written at admission, never by the author; leave it out.`);
    }
  }
  if (canonicalJson(object).length > LARGEST_OBJECT) {
    return refused(422, `The object is larger than the ${LARGEST_OBJECT} bytes that are stored.`);
  }
  const problems = [...validateSpec(known, spec).map(sentence), ...problemsOf(known, spec, context.nowMs)];
  if (problems.length > 0) return refused(422, `${problems.join('. ')}.`);

  const who = proven?.identity ?? identityOf(userInfo);
  if (typeof who === 'string') return refused(403, who);
  const unsealed: Stamp = {
    via: proven?.via ?? 'Kubernetes',
    ...who,
    specHash: specHash(spec),
    nonce: context.nonce,
    at: new Date(context.nowMs).toISOString(),
  };
  const value: Stamp = { ...unsealed, seal: context.seal(unsealed) };
  return { kind: 'Stamped', patch: [{ op: 'add', path: `/spec/${field}`, value }] };
}

const refused = (status: 403 | 409 | 422 | 503, message: string): Extract<StampAnswer, { kind: 'Refused' }> => ({
  kind: 'Refused',
  status,
  message: `${message} ${NOTHING}`,
});

/** What the schema can not say. */
function problemsOf(kind: 'AccessGrant' | 'AccessApproval' | 'AccessLock', spec: object, nowMs: number): string[] {
  if (kind === 'AccessLock') {
    const { until } = spec as { until?: string };
    return until !== undefined && Date.parse(until) <= nowMs
      ? ['spec.until: lies in the past; leave it out for a lock that holds until it is deleted']
      : [];
  }
  if (kind !== 'AccessGrant') return [];
  const { clientKey, notBefore } = spec as AccessGrantSpec;
  const problems: string[] = [];
  if (clientKey !== undefined && readClientKey(clientKey).kind === 'Unusable') {
    problems.push(
      'spec.clientKey: is no Ed25519 public key that proves anything; let the command-line tool make one, or leave it out',
    );
  }
  if (notBefore !== undefined && Date.parse(notBefore) < nowMs - LATE_START_MS) {
    problems.push('spec.notBefore: lies in the past; leave it out to begin once it is approved');
  }
  return problems;
}

/** Exactly as the API server names them: the admission policies compare octet by octet. */
function identityOf(userInfo: StampRequest['userInfo']): Pick<Stamp, 'username' | 'uid' | 'groups'> | string {
  const { username, uid, groups } = userInfo;
  if (typeof username !== 'string' || username === '' || username === 'system:anonymous') {
    return 'You are nobody to the API server: log in to the cluster.';
  }
  if (username.length > LONGEST_NAME) return `Your user name is longer than the ${LONGEST_NAME} characters of a stamp.`;
  if (uid !== undefined && uid.length > LONGEST_UID) return `Your uid is longer than ${LONGEST_UID} characters.`;
  if ((groups?.length ?? 0) > MOST_GROUPS || groups?.some((group) => group.length > LONGEST_NAME)) {
    return `You have more groups, or longer ones, than a stamp holds (${MOST_GROUPS} of ${LONGEST_NAME} characters). Have your identity provider send fewer.`;
  }
  return {
    username,
    ...(uid === undefined || uid === '' ? {} : { uid }),
    ...(groups === undefined || groups.length === 0 ? {} : { groups: [...groups] }),
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
