// Server-side apply that writes nothing when there is nothing to change. Guarantees: a write is skipped only where the
// object was last applied with exactly this content (its hash is on the object) and still has all of it; so drift made
// by others is put right, and a field that is no longer wanted is given up. Steady state sends nothing.
import { canonicalJson, sha256Hex } from '../api/canonical.ts';
import type { KubeAnswer } from './answer.ts';
import type { CallOptions, KubeClient } from './client.ts';
import type { KubeObject } from './object.ts';

export const FIELD_MANAGER = 'sallyport';
export const APPLIED_ANNOTATION = 'sallyport.dev/applied';

export type Applied<T> =
  | { kind: 'Unchanged'; value: T }
  | { kind: 'Written'; value: T }
  | Extract<KubeAnswer<T>, { kind: 'Failed' }>;

export interface ApplyOptions<T> extends CallOptions {
  /** The object as last seen; `undefined` where it is known not to exist. Left out: it is read first. */
  current?: T | undefined;
  fieldManager?: string;
  /** Takes fields over from others. Default true: the operator owns what it makes. */
  force?: boolean;
}

/** `desired` holds all that this manager wants of the object and nothing else. Throws KubeConnectionError. */
export async function applyObject<T extends KubeObject>(
  client: KubeClient,
  path: string,
  desired: KubeObject,
  options: ApplyOptions<T> = {},
): Promise<Applied<T>> {
  let { current } = options;
  const call: CallOptions = {
    signal: options.signal,
    ...(options.deadlineMs === undefined ? {} : { deadlineMs: options.deadlineMs }),
  };
  if (!('current' in options)) {
    const found = await client.get<T>(path, call);
    if (found.kind === 'Ok') current = found.value;
    else if (found.status !== 404) return found;
  }
  const marked = withAppliedHash(desired);
  if (current !== undefined && !needsApply(marked, current)) return { kind: 'Unchanged', value: current };
  const answer = await client.patch<T>(path, marked, 'apply', {
    ...call,
    fieldManager: options.fieldManager ?? FIELD_MANAGER,
    force: options.force ?? true,
  });
  return answer.kind === 'Ok' ? { kind: 'Written', value: answer.value } : answer;
}

/** The object with the hash of its content in an annotation. */
export function withAppliedHash<T extends KubeObject>(desired: T): T {
  const annotations = {
    ...desired.metadata.annotations,
    [APPLIED_ANNOTATION]: sha256Hex(canonicalJson(desired)).slice(0, 32),
  };
  return { ...desired, metadata: { ...desired.metadata, annotations } };
}

/** Whether applying `marked` (see `withAppliedHash`) could change `current`. */
export function needsApply(marked: KubeObject, current: KubeObject): boolean {
  return !contains(current, marked);
}

// How Kubernetes tells entries of such lists apart; others may have entries of their own in them.
const ENTRY_KEYS: Readonly<Record<string, string>> = { ownerReferences: 'uid', finalizers: '' };

/**
 * Whether all of `wanted` is in `current`: servers add defaults, other managers fields of their own. Lists have the same
 * length and order, but for those where others add entries.
 */
export function contains(current: unknown, wanted: unknown, member = ''): boolean {
  // The server leaves out what is empty.
  if (current === undefined || current === null) return isEmpty(wanted);
  if (Array.isArray(wanted)) {
    if (!Array.isArray(current)) return false;
    const entries = current as unknown[];
    const key = Object.hasOwn(ENTRY_KEYS, member) ? ENTRY_KEYS[member] : undefined;
    if (key === undefined) {
      return entries.length === wanted.length && wanted.every((entry, index) => contains(entries[index], entry));
    }
    return wanted.every((entry) => entries.some((other) => contains(other, entry)));
  }
  if (typeof wanted === 'object' && wanted !== null) {
    if (typeof current !== 'object' || Array.isArray(current)) return false;
    return Object.entries(wanted).every(([name, value]) =>
      contains(Object.hasOwn(current, name) ? (current as Record<string, unknown>)[name] : undefined, value, name),
    );
  }
  return current === wanted || wanted === undefined || wanted === null;
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === '' || value === false || value === 0) return true;
  if (Array.isArray(value)) return value.length === 0;
  return typeof value === 'object' && Object.values(value).every(isEmpty);
}
