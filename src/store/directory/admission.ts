// Judges what somebody wants to create, change or delete, and stamps who it was. Pure but for the nonce, which is handed
// in. Default deny: each kind names who may make it.
import { canonicalJson, specHash } from '../../api/canonical.ts';
import { KINDS } from '../../api/kinds.ts';
import type { AccessLockSpec } from '../../api/lock.ts';
import { isTicketName } from '../../api/notifier.ts';
import type { Resource } from '../../api/resource.ts';
import type { Stamp } from '../../api/schema.ts';
import { fieldOf, type Problem, validate } from '../../api/validate.ts';
import type { Actor, KindName, NewObject, StoreResult } from '../resource-store.ts';

/** Largest object that is stored, bytes of JSON. */
export const LARGEST_OBJECT = 256 * 1024;

/** Where each kind carries who made it. Only people make these; the field is the store's to write. */
export const STAMP_FIELD: Partial<Record<KindName, 'requester' | 'approver' | 'author'>> = {
  AccessGrant: 'requester',
  AccessApproval: 'approver',
  AccessLock: 'author',
};

type Refusal = Exclude<StoreResult<never>, { kind: 'Ok' }>;

export interface AdmissionContext {
  uid: string;
  nonce: string;
  nowMs: number;
  /** The operator's signature over a stamp that lacks only it. */
  seal: (stamp: Stamp) => string;
}

/** The object as it is to be stored (its resourceVersion still to come), or why not. `name` is complete. */
export function admit(
  actor: Actor,
  object: NewObject,
  name: string,
  context: AdmissionContext,
): { kind: 'Ok'; value: Resource } | Refusal {
  const refusal = mayCreate(actor, object.kind, isTicketVote(actor, object));
  if (refusal !== undefined) return { kind: 'Forbidden', message: refusal };
  let size: number;
  try {
    size = canonicalJson(object).length;
  } catch {
    return { kind: 'Invalid', problems: ['the object is no JSON'] };
  }
  if (size > LARGEST_OBJECT) {
    return { kind: 'Invalid', problems: [`the object has ${size} bytes; at most ${LARGEST_OBJECT} are stored`] };
  }
  const spec = structuredClone(object.spec);
  const field = STAMP_FIELD[object.kind];
  if (isObject(spec)) {
    for (const stampField of ['requester', 'approver', 'author']) {
      // CommandHold.spec.requester is a fact of its session, told by the proxy.
      if (spec[stampField] === undefined || object.kind === 'CommandHold') continue;
      if (stampField === 'approver' && isTicketVote(actor, object)) continue;
      const problem = `spec.${stampField}: is written at admission, never by the author; leave it out`;
      return { kind: 'Invalid', problems: [problem] };
    }
    if (field !== undefined && actor.kind === 'Person') spec[field] = stampOf(actor, spec, context);
  }
  const { labels, annotations, ownerReferences } = object.metadata;
  const namespaced = KINDS[object.kind].scope === 'Namespaced';
  const metadata = {
    name,
    ...(namespaced ? { namespace: object.metadata.namespace ?? 'default' } : {}),
    ...(!namespaced && object.metadata.namespace !== undefined ? { namespace: object.metadata.namespace } : {}),
    uid: context.uid,
    resourceVersion: '0',
    generation: 1,
    creationTimestamp: wholeSeconds(context.nowMs),
    ...(labels === undefined ? {} : { labels: structuredClone(labels) }),
    ...(annotations === undefined ? {} : { annotations: structuredClone(annotations) }),
    ...(ownerReferences === undefined ? {} : { ownerReferences: structuredClone(ownerReferences) }),
  };
  const made: Resource = { apiVersion: object.apiVersion, kind: object.kind, metadata, spec };
  const problems = validate(object.kind, made);
  if (problems.length > 0) return { kind: 'Invalid', problems: problems.map(sentence) };
  return { kind: 'Ok', value: made };
}

/** The operator's own vote for a ticket that it has read: it comes stamped and sealed. */
function isTicketVote(actor: Actor, { kind, spec }: NewObject): boolean {
  if (actor.kind !== 'Operator' || kind !== 'AccessApproval' || !isObject(spec)) return false;
  const { approver } = spec;
  return isObject(approver) && approver['via'] === 'Ticket' && isTicketName(String(approver['username']));
}

function mayCreate(actor: Actor, kind: KindName, ticketVote: boolean): string | undefined {
  switch (kind) {
    case 'Connection':
    case 'AccessPolicy':
    case 'ClusterAccessPolicy':
    case 'IdentityProvider':
    case 'Notifier':
    case 'ClusterNotifier':
      return `A ${kind} is made by writing YAML into the directory.`;
    case 'AccessGrant':
      return actor.kind === 'Person' ? undefined : `Only people make an ${kind}.`;
    case 'AccessApproval':
      return actor.kind === 'Person' || ticketVote ? undefined : `Only people make an ${kind}.`;
    case 'AccessLock':
      return actor.kind === 'Proxy' ? 'A proxy may not lock.' : undefined;
    case 'CommandHold':
      return actor.kind === 'Person' ? 'Only proxies hold commands.' : undefined;
    default:
      return `${String(kind)} is not a kind that is stored.`;
  }
}

/** Why the actor may not delete the object; undefined if it may. */
export function mayDelete(actor: Actor, object: Resource, file: string | undefined): string | undefined {
  const kind = object.kind as KindName;
  if (file !== undefined) return `${kind} ${object.metadata.name} is declared in ${file}; remove it there.`;
  if (actor.kind === 'Operator') return undefined;
  if (actor.kind === 'Proxy' || kind !== 'AccessLock') {
    return `A ${kind} is not deleted; a grant is given up with "withdraw" and taken away with "revoke".`;
  }
  const { target } = object.spec as AccessLockSpec;
  const { username, groups, aliases } = actor.principal;
  const own =
    (target.user !== undefined && [username, ...aliases].includes(target.user)) ||
    (target.group !== undefined && groups.includes(target.group));
  return own ? 'Nobody lifts a lock that shuts them out themselves; ask somebody else.' : undefined;
}

/** Why the actor may not write status; undefined if it may. */
export function mayWriteStatus(actor: Actor, kind: KindName): string | undefined {
  if (actor.kind === 'Operator' || (actor.kind === 'Proxy' && kind === 'CommandHold')) return undefined;
  return `The status of a ${kind} is written by the operator only.`;
}

function stampOf(actor: Actor & { kind: 'Person' }, spec: object, context: AdmissionContext): Stamp {
  const { username, uid, groups, aliases, kubernetes, workload } = actor.principal;
  const stamp: Stamp = {
    via: actor.via ?? 'Local',
    username,
    ...(uid === undefined || uid === '' ? {} : { uid }),
    groups: [...groups],
    ...(aliases.length > 0 ? { aliases: [...aliases] } : {}),
    ...(kubernetes === undefined ? {} : { kubernetes }),
    ...(workload === undefined ? {} : { workload: { provider: workload.provider, claims: { ...workload.claims } } }),
    ...(actor.auth === undefined ? {} : { auth: structuredClone(actor.auth) }),
    specHash: specHash(spec),
    nonce: context.nonce,
    at: new Date(context.nowMs).toISOString(),
  };
  return { ...stamp, seal: context.seal(stamp) };
}

/** RFC 3339 without parts of a second, as `metadata.creationTimestamp` has it. */
export function wholeSeconds(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

export function sentence(problem: Problem): string {
  const field = fieldOf(problem.path);
  return `${field === '' ? '' : `${field}: `}${problem.message}; ${problem.hint}`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
