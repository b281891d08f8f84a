// One file's text to the objects it declares. What is wrong in a document is told with its place, and what can still be
// read of it (kind, name, what it selects) is kept, so that whoever compiles policy denies what it might have tightened.
// Values of Secrets are neither kept nor told.

import Type from 'typebox';
import { isKind, KINDS, type Kind, type KindDefinition } from '../../api/kinds.ts';
import type { ObjectMeta } from '../../api/resource.ts';
import {
  API_GROUP,
  API_GROUP_VERSION,
  ConnectionSelector,
  Name,
  type ConnectionSelector as Selector,
} from '../../api/schema.ts';
import {
  fieldOf,
  nearestKind,
  type Problem,
  shown,
  validate,
  validateMetadata,
  validateValue,
} from '../../api/validate.ts';
import { type ParsedDocument, type Position, parseDocuments } from './documents.ts';
import type { FileProblem } from './file-problem.ts';
import { mentionsSallyport, recognise } from './recognise.ts';

export const DEFAULT_NAMESPACE = 'default';

/** An object as its author wrote it. */
export interface DeclaredObject {
  kind: Kind;
  metadata: Pick<ObjectMeta, 'name' | 'namespace' | 'labels' | 'annotations'>;
  spec: unknown;
  file: string;
  locate: (pointer: string, key?: boolean) => Position;
}

/**
 * A document that is not in force. Absent fields could not be read and mean "any": no namespace, every namespace; no
 * selector, every Connection; no kind, a policy. `namespaces` is a ClusterAccessPolicy's.
 */
export interface BrokenResource {
  kind?: string | undefined;
  namespace?: string | undefined;
  name?: string | undefined;
  /** With file and line, what is wrong, and what to write instead. */
  problem: string;
  selector?: Selector | undefined;
  namespaces?: readonly string[] | undefined;
}

export interface DeclaredSecret {
  namespace: string;
  name: string;
  file: string;
  position: Position;
}

export interface FileContent {
  objects: DeclaredObject[];
  broken: BrokenResource[];
  secrets: DeclaredSecret[];
  problems: FileProblem[];
  /** Whether it can not be told which objects the file declares. */
  unclear: boolean;
}

/** Kinds made through the command line or by Sallyport itself, never by YAML. */
const MADE_BY_REQUEST: readonly Kind[] = [
  'AccessGrant',
  'AccessApproval',
  'CommandHold',
  'AccessSession',
  'EnforcementBundle',
  'ProxyReplica',
];
/** Kinds of the group that are files for other commands. */
const NOT_RESOURCES = ['PolicyTest'];

export function readFileContent(file: string, text: string): FileContent {
  const content: FileContent = { objects: [], broken: [], secrets: [], problems: [], unclear: false };
  for (const document of parseDocuments(text)) {
    if (document.kind === 'Broken') readBrokenText(content, file, document);
    else readDocument(content, file, document);
  }
  return content;
}

/** A file whose text could not even be had: it might hold anything. */
export function unreadableContent(file: string, message: string, hint: string): FileContent {
  const content: FileContent = { objects: [], broken: [], secrets: [], problems: [], unclear: true };
  const problem = tell(content, file, { line: 1, column: 1 }, { field: '', message, hint });
  content.broken.push({ problem });
  return content;
}

type Told = Pick<FileProblem, 'field' | 'message' | 'hint'> & { object?: string; severity?: FileProblem['severity'] };

function tell(content: FileContent, file: string, position: Position, told: Told): string {
  const { object, severity = 'Error', ...rest } = told;
  content.problems.push({ severity, file, ...position, ...rest, ...(object === undefined ? {} : { object }) });
  const field = told.field === '' ? '' : `${told.field}: `;
  return `${file}:${position.line}: ${field}${told.message}; ${told.hint}`;
}

function readBrokenText(content: FileContent, file: string, document: ParsedDocument & { kind: 'Broken' }): void {
  const { objects, doubtful } = recognise(document.text);
  const known = objects.find((object) => object.name !== undefined);
  const problem = tell(content, file, document.position, {
    field: '',
    message: document.message,
    hint: document.hint,
    ...(known === undefined
      ? {}
      : { object: `${known.kind} ${known.namespace === undefined ? '' : `${known.namespace}/`}${known.name}` }),
  });
  const ours = mentionsSallyport(document.text);
  const foreign = objects.length > 0 && !ours && objects.every(({ kind }) => kind !== '' && !isKind(kind));
  // Another program's document that happens to be broken, or a Secret: those tighten nothing.
  if (foreign) return;
  if (doubtful) {
    // Could hold anything: nothing it may tighten is let through.
    content.unclear = true;
    content.broken.push({ problem });
  }
  for (const object of objects) {
    if (object.kind === 'Secret') continue;
    if (object.name === undefined) content.unclear = true;
    content.broken.push({ ...object, problem });
  }
}

function readDocument(content: FileContent, file: string, document: ParsedDocument & { kind: 'Value' }): void {
  const { value, locate } = document;
  const at = (pointer: string, key = false): Position => locate(pointer, key);
  if (!isObject(value)) {
    const ours = mentionsSallyport(document.text);
    const problem = tell(content, file, at(''), {
      field: '',
      message: 'the document is no object',
      hint: 'begin it with apiVersion:, and write objects as documents of their own, with --- between them',
      severity: ours ? 'Error' : 'Warning',
    });
    if (ours) {
      content.unclear = true;
      content.broken.push({ problem });
    }
    return;
  }
  const { apiVersion, kind } = value;
  if (kind === 'Secret' && (apiVersion === 'v1' || apiVersion === undefined)) {
    readSecret(content, file, value, at);
    return;
  }
  const group = typeof apiVersion === 'string' ? apiVersion.split('/')[0]! : undefined;
  const oursByGroup = group === API_GROUP;
  const oursByKind = typeof kind === 'string' && isKind(kind);
  if (!oursByGroup && !oursByKind) {
    readForeign(content, file, document, value, at);
    return;
  }
  if (oursByGroup && typeof kind === 'string' && NOT_RESOURCES.includes(kind)) return;
  if (!oursByKind) {
    readUnknownKind(content, file, value, at);
    return;
  }
  readResource(content, file, kind, value, at);
}

const clusterOnly = (kind: Kind): boolean => (KINDS[kind] as KindDefinition).clusterOnly === true;

type Locate = (pointer: string, key?: boolean) => Position;

function readForeign(
  content: FileContent,
  file: string,
  document: ParsedDocument & { kind: 'Value' },
  value: Record<string, unknown>,
  at: Locate,
): void {
  const named = typeof value['apiVersion'] === 'string' && typeof value['kind'] === 'string';
  // A List of ours, or a policy whose first lines are missing, must not pass as somebody else's document.
  const ours = named
    ? value['kind'] === 'List' && mentionsSallyport(document.text)
    : mentionsSallyport(document.text) || value['spec'] !== undefined;
  if (named && !ours) return;
  const problem = tell(content, file, at(''), {
    field: '',
    message: named ? 'a List is not read' : `missing field "${value['kind'] === undefined ? 'kind' : 'apiVersion'}"`,
    hint: named
      ? 'write its items as documents of their own, with --- between them'
      : ours
        ? `begin the document with apiVersion: ${API_GROUP_VERSION} and kind:`
        : 'if this is no resource, move the file elsewhere',
    severity: ours ? 'Error' : 'Warning',
  });
  if (!ours) return;
  content.unclear = true;
  content.broken.push({ ...identityOf(undefined, value), kind: undefined, problem });
}

function readUnknownKind(content: FileContent, file: string, value: Record<string, unknown>, at: Locate): void {
  const { kind } = value;
  const close = typeof kind === 'string' ? nearestKind(kind) : undefined;
  const problem = tell(content, file, at('/kind'), {
    field: 'kind',
    message: kind === undefined ? 'missing field "kind"' : `unknown kind ${shown(kind)}`,
    hint:
      close === undefined
        ? `write one of Connection, AccessPolicy, ClusterAccessPolicy, AccessLock`
        : `did you mean ${close}?`,
  });
  const identity = identityOf(close, value);
  if (identity.name === undefined) content.unclear = true;
  content.broken.push({
    ...identity,
    kind: close ?? (typeof kind === 'string' ? kind : undefined),
    problem,
    ...reachOf(close, value),
  });
}

function readResource(
  content: FileContent,
  file: string,
  kind: Kind,
  value: Record<string, unknown>,
  at: Locate,
): void {
  const identity = identityOf(kind, value);
  const object = `${kind} ${identity.namespace === undefined ? '' : `${identity.namespace}/`}${identity.name ?? '(no name)'}`;
  if (MADE_BY_REQUEST.includes(kind)) {
    tell(content, file, at('/kind'), {
      field: 'kind',
      message: `${/^[AEIOU]/.test(kind) ? 'an' : 'a'} ${kind} is not made by YAML`,
      hint: kind === 'AccessGrant' ? 'ask with: sallyport request CONNECTION' : 'Sallyport makes it; leave it out',
      object,
    });
    return;
  }
  const problems: Problem[] = validate(kind, value);
  if (clusterOnly(kind) && problems.length === 0) {
    // It tightens nothing, and the directory may be what a cluster is fed from.
    tell(content, file, at('/kind'), {
      field: 'kind',
      message: `a ${kind} is for a cluster, and local mode takes no notice of it`,
      hint: 'leave it out where there is no cluster',
      object,
      severity: 'Warning',
    });
    return;
  }
  if (isObject(value['spec'])) problems.push(...stampProblems(value['spec']));
  if (problems.length > 0) {
    const told = problems.map((problem) =>
      tell(content, file, at(problem.path, problem.unknownField === true), {
        field: fieldOf(problem.path),
        message: problem.message,
        hint: problem.hint,
        object,
      }),
    );
    if (identity.name === undefined) content.unclear = true;
    content.broken.push({ kind, ...identity, problem: told[0]!, ...reachOf(kind, value) });
    return;
  }
  const metadata = value['metadata'] as ObjectMeta;
  content.objects.push({
    kind,
    metadata: {
      name: metadata.name,
      ...(identity.namespace === undefined ? {} : { namespace: identity.namespace }),
      ...(metadata.labels === undefined ? {} : { labels: metadata.labels }),
      ...(metadata.annotations === undefined ? {} : { annotations: metadata.annotations }),
    },
    spec: value['spec'],
    file,
    locate: at,
  });
}

function stampProblems(spec: Record<string, unknown>): Problem[] {
  return ['author', 'requester', 'approver']
    .filter((field) => spec[field] !== undefined)
    .map((field) => ({
      path: `/spec/${field}`,
      message: 'is written at admission, never by the author',
      hint: 'remove it',
      unknownField: true,
    }));
}

function readSecret(content: FileContent, file: string, value: Record<string, unknown>, at: Locate): void {
  const metadata = isObject(value['metadata']) ? value['metadata'] : {};
  const { name, namespace = DEFAULT_NAMESPACE } = metadata;
  const problem = (pointer: string, message: string, hint: string): void => {
    tell(content, file, at(pointer), {
      field: fieldOf(pointer),
      message,
      hint,
      ...(typeof name === 'string' ? { object: `Secret ${String(namespace)}/${name}` } : {}),
    });
  };
  if (value['apiVersion'] !== 'v1') problem('', 'missing field "apiVersion"', 'write apiVersion: v1');
  if (typeof name !== 'string' || typeof namespace !== 'string' || validateValue(Name, name).length > 0) {
    problem('/metadata/name', 'the Secret has no name, or one that is not written right', 'write metadata: with name:');
    return;
  }
  for (const member of ['data', 'stringData']) {
    const map = value[member];
    if (map === undefined) continue;
    if (!isObject(map)) {
      problem(
        `/${member}`,
        'must be an object with fields',
        'write username:, password: and sallyport-hosts: below it',
      );
      return;
    }
    for (const [key, entry] of Object.entries(map)) {
      if (typeof entry === 'string') continue;
      problem(`/${member}/${key}`, 'must be a text', 'put the value in quotes');
      return;
    }
  }
  content.secrets.push({ namespace, name, file, position: at('/metadata/name') });
}

/** Namespace and name where they can be read for certain. */
function identityOf(kind: Kind | undefined, value: Record<string, unknown>): { namespace?: string; name?: string } {
  const metadata = value['metadata'];
  if (!isObject(metadata)) return {};
  const broken = (field: string): boolean =>
    validateMetadata('Connection', metadata).some((problem) => problem.path === `/metadata/${field}`);
  const identity: { namespace?: string; name?: string } = {};
  if (typeof metadata['name'] === 'string' && !broken('name')) identity.name = metadata['name'];
  if (kind !== undefined && KINDS[kind].scope === 'Cluster') return identity;
  if (metadata['namespace'] === undefined) {
    // A misspelt `namespace` is not the default one, and an unknown kind may have none.
    const misspelt = validateMetadata('Connection', metadata).some((problem) => problem.unknownField === true);
    if (!misspelt && kind !== undefined) identity.namespace = DEFAULT_NAMESPACE;
  } else if (typeof metadata['namespace'] === 'string' && !broken('namespace')) {
    identity.namespace = metadata['namespace'];
  }
  return identity;
}

/** What a broken policy selects, where that much of it is right. */
function reachOf(
  kind: Kind | undefined,
  value: Record<string, unknown>,
): Pick<BrokenResource, 'selector' | 'namespaces'> {
  const spec = value['spec'];
  if (!isObject(spec) || (kind !== 'AccessPolicy' && kind !== 'ClusterAccessPolicy')) return {};
  const selector = spec['connectionSelector'];
  const namespaces = spec['namespaces'];
  return {
    ...(selector !== undefined && validateValue(ConnectionSelector, selector).length === 0
      ? { selector: selector as Selector }
      : {}),
    ...(kind === 'ClusterAccessPolicy' && namespaces !== undefined && validateValue(NAMESPACES, namespaces).length === 0
      ? { namespaces: namespaces as string[] }
      : {}),
  };
}
const NAMESPACES = Type.Array(Name, { minItems: 1 });

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
