// What can still be told of a document that is no YAML: by its lines alone, which kinds of objects it may hold.
// Guarantees: kind and namespace are given only where the lines leave no other reading of them; whatever is odd about
// what stands at the start of a line (indirection, another spelling, a field that looks like one of these) makes the
// text `doubtful`, and what is absent means "any" to whoever denies by it. Does not guess what the rest was to say.
import { isScalar, parseDocument } from 'yaml';
import { isKind, KINDS, type Kind } from '../../api/kinds.ts';
import { nearest } from '../../api/nearest.ts';
import { nearestKind } from '../../api/validate.ts';

export interface Recognised {
  kind: string;
  namespace?: string;
  name?: string;
}

export interface Recognition {
  /** One for each `kind:` at the start of a line. */
  objects: Recognised[];
  /** Whether the text may hold something else too, such as a policy over every namespace. */
  doubtful: boolean;
}

const NAME = /^[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?$/;
const IDENTITY_FIELDS = ['kind', 'metadata', 'name', 'namespace'];
const RESOURCE_FIELDS = ['apiVersion', 'kind', 'metadata', 'spec', 'status'];

interface Draft {
  fields: Set<string>;
  kind?: string;
  metadata: string[];
}

export function recognise(text: string): Recognition {
  const recognition: Recognition = { objects: [], doubtful: false };
  // A lone carriage return ends a line for YAML 1.1 and for people's eyes, but not here.
  if (/\r(?!\n)/.test(text) || mentionsClusterPolicy(text)) recognition.doubtful = true;
  let draft: Draft = { fields: new Set(), metadata: [] };
  let field: string | undefined;
  const flush = (): void => {
    if (draft.kind !== undefined) recognition.objects.push(settled(draft.kind, identityIn(draft.metadata)));
    else if (draft.fields.size > 0) recognition.doubtful = true;
    draft = { fields: new Set(), metadata: [] };
    field = undefined;
  };
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*(#.*)?$/.test(line) || /^---\s*(#.*)?$/.test(line)) continue;
    if (/^\.\.\.\s*(#.*)?$/.test(line)) {
      flush();
      continue;
    }
    const top = fieldOfLine(line);
    if (top === undefined) {
      if (field === 'metadata') draft.metadata.push(line);
      // What stands below these belongs to their values; what stands at the start of a line must be a field, an entry of
      // the list above, or a bracket that closes.
      if (field === undefined || ['apiVersion', 'kind'].includes(field) || !/^(?:\s|-\s|[\]}],?\s*$)/.test(line))
        recognition.doubtful = true;
      continue;
    }
    if (draft.fields.has(top.name) && ['apiVersion', 'kind', 'metadata'].includes(top.name)) flush();
    field = top.name;
    draft.fields.add(field);
    if (field === 'kind') draft.kind = scalarIn(top.rest) ?? '';
    if (field === 'metadata') draft.metadata.push(line);
    if (looksLikeIdentity(field)) recognition.doubtful = true;
  }
  flush();
  // A kind that can not be read may be any.
  if (recognition.objects.length === 0 || recognition.objects.some(({ kind }) => kind === ''))
    recognition.doubtful = true;
  return recognition;
}

/** `field: …` or `"field": …` at the start of a line. */
function fieldOfLine(line: string): { name: string; rest: string } | undefined {
  const found = /^(?:([A-Za-z][\w-]*)|"([\w-]+)"|'([\w-]+)')\s*:(?=\s|$)(.*)$/.exec(line);
  if (found === null) return undefined;
  return { name: (found[1] ?? found[2] ?? found[3])!, rest: found[4]! };
}

/** `Kind`, `kin`, `meta-data`, or a `namespace` that slipped out of its metadata. */
function looksLikeIdentity(field: string): boolean {
  if (RESOURCE_FIELDS.includes(field)) return false;
  return nearest(field, [...RESOURCE_FIELDS, ...IDENTITY_FIELDS]) !== undefined;
}

/** Anywhere but in a comment: what speaks of such a policy may be meant as one. */
function mentionsClusterPolicy(text: string): boolean {
  return text.split(/\r?\n/).some((line) => !/^\s*#/.test(line) && /cluster[\s_-]*access[\s_-]*policy/i.test(line));
}

/** Name and namespace from the lines of `metadata:`, each only where it is written once, plainly, and as its own field. */
function identityIn(lines: readonly string[]): { name?: string; namespace?: string } {
  const [first, ...below] = lines;
  if (first === undefined) return {};
  const rest = first.slice(first.indexOf(':') + 1).replace(/^\s*(?:#.*)?$/, '');
  // `metadata: { … }` with its end on the same line is read as what it is.
  if (rest !== '') return below.length === 0 ? identityInFlow(rest) : {};
  const indent = /^\s*/.exec(below[0] ?? '')![0];
  const found: { name?: string; namespace?: string } = {};
  const twice = new Set<string>();
  let last: 'name' | 'namespace' | undefined;
  for (const line of below) {
    const own = /^\s*/.exec(line)![0];
    if (own.length > indent.length) {
      // What is indented further continues the value above.
      if (last !== undefined) delete found[last];
      continue;
    }
    const entry = own === indent && indent !== '' ? fieldOfLine(line.slice(own.length)) : undefined;
    if (entry === undefined) return {};
    last = undefined;
    for (const member of ['name', 'namespace'] as const) {
      if (entry.name !== member) {
        if (entry.name.toLowerCase() === member) return {};
        continue;
      }
      const value = scalarIn(entry.rest);
      if (twice.has(member) || value === undefined || !NAME.test(value)) delete found[member];
      else {
        found[member] = value;
        last = member;
      }
      twice.add(member);
    }
  }
  return found;
}

function identityInFlow(text: string): { name?: string; namespace?: string } {
  // Anchors, aliases and tags lead elsewhere; a nested value of that name is not the object's.
  if (!/^\s*\{[^&*!]*\}\s*(?:#.*)?$/.test(text) || text.length > 4096) return {};
  const document = parseDocument(text, { prettyErrors: false, uniqueKeys: true, logLevel: 'silent' });
  if (document.errors.length > 0 || document.warnings.length > 0) return {};
  const value: unknown = document.toJS({ maxAliasCount: 0 });
  if (typeof value !== 'object' || value === null) return {};
  const found: { name?: string; namespace?: string } = {};
  for (const [key, entry] of Object.entries(value)) {
    if (key !== 'name' && key !== 'namespace') continue;
    if (typeof entry === 'string' && NAME.test(entry)) found[key] = entry;
  }
  return found;
}

/** A misspelt kind is taken for the one it is closest to; a cluster kind has no namespace. */
function settled(written: string, identity: { name?: string; namespace?: string }): Recognised {
  const kind = isKind(written) ? written : (nearestKind(written) ?? written);
  const { name, namespace } = identity;
  const namespaced = !isKind(kind) || KINDS[kind as Kind].scope === 'Namespaced';
  return {
    kind,
    ...(namespace === undefined || !namespaced ? {} : { namespace }),
    ...(name === undefined ? {} : { name }),
  };
}

/** The one word after the colon, where YAML takes it for a text. */
function scalarIn(text: string): string | undefined {
  const value = /^\s+(?:"[^"\\]*"|'[^']*'|[^\s#"'&*!|>{}[\]%@`,?]+)\s*(?:#.*)?$/.exec(text);
  if (value === null) return undefined;
  const document = parseDocument(text.trim(), { prettyErrors: false, logLevel: 'silent' });
  const { contents, errors } = document;
  return errors.length === 0 && isScalar(contents) && typeof contents.value === 'string' ? contents.value : undefined;
}

/** Whether a text without a readable kind could be meant for Sallyport. */
export function mentionsSallyport(text: string): boolean {
  return /sallyport\.dev|AccessPolicy|AccessLock|connectionSelector/i.test(text);
}
