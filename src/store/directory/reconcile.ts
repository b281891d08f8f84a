// What the directory declares now against what the store holds of it: the changes to make, and what is broken. Pure.
// An object whose document is broken stays as it last was, but in `broken` by what it selected then and what it selects
// now, so that it can neither vanish by a slip of the keyboard nor be loosened by half a change.
import { canonicalJson } from '../../api/canonical.ts';
import type { Kind } from '../../api/kinds.ts';
import type { ObjectMeta, Resource } from '../../api/resource.ts';
import { API_GROUP_VERSION } from '../../api/schema.ts';
import { wholeSeconds } from './admission.ts';
import type { FileProblem } from './file-problem.ts';
import { type LoadedDirectory, objectKey, reachOfSpec } from './loader.ts';
import type { BrokenResource, DeclaredObject } from './read-document.ts';
import type { Change, StoredObject } from './state.ts';

export interface Reconciled {
  changes: Change[];
  broken: BrokenResource[];
  problems: FileProblem[];
}

export function reconcile(
  loaded: LoadedDirectory,
  stored: ReadonlyMap<string, StoredObject>,
  fresh: { nowMs: number; uid: () => string },
): Reconciled {
  const result: Reconciled = { changes: [], broken: [...loaded.broken], problems: [...loaded.problems] };
  for (const [key, declared] of loaded.objects) {
    const current = stored.get(key);
    if (current !== undefined && current.file === undefined) {
      nameTaken(result, declared);
      continue;
    }
    const next = merged(declared, current?.object, fresh);
    if (next !== undefined || current?.file !== declared.file) {
      result.changes.push({ op: 'Put', object: next ?? current!.object, file: declared.file });
    }
  }
  for (const [key, { object, file }] of stored) {
    if (file === undefined || loaded.objects.has(key)) continue;
    const twin = loaded.broken.find((broken) => isSame(broken, object));
    const unclear = loaded.unclear.find((place) => place === '' || file === place || file.startsWith(`${place}/`));
    if (twin === undefined && unclear === undefined) {
      result.changes.push({ op: 'Delete', key });
      continue;
    }
    const { namespace, name } = object.metadata;
    const kind = object.kind as Kind;
    const problem = twin?.problem ?? `${file} can not be read, and this was declared there when it last could`;
    result.broken.push({ kind, namespace, name, problem, ...reachOfSpec(kind, object.spec) });
  }
  result.broken = unique(result.broken);
  return result;
}

/** Whether a broken document is, or may be, the one that declared the object. */
function isSame(broken: BrokenResource, object: Resource): boolean {
  const { namespace, name } = object.metadata;
  return (
    broken.kind === object.kind &&
    broken.name === name &&
    (broken.namespace === undefined || broken.namespace === namespace)
  );
}

/** The object as it is to be stored; undefined if it is as stored. */
function merged(
  declared: DeclaredObject,
  current: Resource | undefined,
  fresh: { nowMs: number; uid: () => string },
): Resource | undefined {
  const sameSpec = current !== undefined && canonicalJson(current.spec) === canonicalJson(declared.spec);
  if (current !== undefined && sameSpec && ownMetadata(current.metadata) === ownMetadata(declared.metadata))
    return undefined;
  const metadata: ObjectMeta = {
    ...declared.metadata,
    uid: current?.metadata.uid ?? fresh.uid(),
    resourceVersion: '0',
    generation: current === undefined ? 1 : current.metadata.generation + (sameSpec ? 0 : 1),
    creationTimestamp: current?.metadata.creationTimestamp ?? wholeSeconds(fresh.nowMs),
  };
  return {
    apiVersion: API_GROUP_VERSION,
    kind: declared.kind,
    metadata,
    spec: declared.spec,
    ...(current?.status === undefined ? {} : { status: current.status }),
  };
}

function ownMetadata({ labels, annotations }: Pick<ObjectMeta, 'labels' | 'annotations'>): string {
  return canonicalJson({ labels, annotations });
}

/** A file may not take over what was created through the store, nor may that hide what the file says. */
function nameTaken(result: Reconciled, declared: DeclaredObject): void {
  const { namespace, name } = declared.metadata;
  const message = `a ${declared.kind} of this name exists already, made through the command line`;
  const hint = 'give this one another name';
  const position = declared.locate('/metadata/name');
  const object = `${declared.kind} ${objectKey('', namespace, name).slice(1)}`;
  const field = 'metadata.name';
  result.problems.push({ severity: 'Error', file: declared.file, ...position, field, message, hint, object });
  result.broken.push({
    kind: declared.kind,
    namespace,
    name,
    problem: `${declared.file}:${position.line}: ${field}: ${message}; ${hint}`,
    ...reachOfSpec(declared.kind, declared.spec),
  });
}

function unique(broken: readonly BrokenResource[]): BrokenResource[] {
  const seen = new Map<string, BrokenResource>();
  for (const item of broken) {
    const { problem: _problem, ...what } = item;
    const key = canonicalJson(what);
    if (!seen.has(key)) seen.set(key, item);
  }
  return [...seen.values()];
}
