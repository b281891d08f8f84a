// What can still be told of a document that is no YAML: by its lines alone, which kinds of objects it may hold.
// Errs on the side of more: what is not certain is absent, and absent means "any" to whoever denies by it.
import { isKind, KINDS, type Kind } from '../../api/kinds.ts';
import { nearestKind } from '../../api/validate.ts';

export interface Recognised {
  kind?: string;
  namespace?: string;
  name?: string;
}

const NAME = /^[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?$/;

/** The objects that the text seems to hold: one for each `kind:` at the start of a line; none where there is none. */
export function recognise(text: string): Recognised[] {
  const found: Recognised[] = [];
  let current: Recognised = {};
  let seen = new Set<string>();
  let inMetadata = false;
  let nested: string | undefined;
  const flush = (): void => {
    if (current.kind !== undefined) found.push(current);
    current = {};
    seen = new Set();
  };
  for (const line of text.split('\n')) {
    const top = /^["']?([A-Za-z]+)["']?\s*:(.*)$/.exec(line);
    if (top !== null) {
      const [, key, rest] = top;
      if (seen.has(key!) && ['apiVersion', 'kind', 'metadata'].includes(key!)) flush();
      seen.add(key!);
      inMetadata = key === 'metadata';
      nested = undefined;
      if (key === 'kind') current.kind = scalar(rest!) ?? '';
      continue;
    }
    const inner = /^(\s+)["']?(name|namespace)["']?\s*:(.*)$/.exec(line);
    const indent = /^\s+(?=\S)/.exec(line)?.[0];
    if (!inMetadata || indent === undefined) continue;
    nested ??= indent;
    if (inner === null || inner[1]!.length > nested.length) continue;
    const value = scalar(inner[3]!);
    if (value === undefined || !NAME.test(value)) continue;
    if (inner[2] === 'name') current.name ??= value;
    else current.namespace ??= value;
  }
  flush();
  return found.map(settled);
}

/** A misspelt kind is taken for the one it is closest to; a cluster kind has no namespace. */
function settled(object: Recognised): Recognised {
  const kind =
    object.kind === undefined
      ? undefined
      : isKind(object.kind)
        ? object.kind
        : (nearestKind(object.kind) ?? object.kind);
  const result: Recognised = { ...object };
  if (kind !== undefined) result.kind = kind;
  if (kind !== undefined && isKind(kind) && KINDS[kind as Kind].scope === 'Cluster') delete result.namespace;
  return result;
}

function scalar(text: string): string | undefined {
  const value = /^\s*(?:"([^"\\]*)"|'([^']*)'|([^\s#"']+))\s*(?:#.*)?$/.exec(text);
  return value === null ? undefined : (value[1] ?? value[2] ?? value[3]);
}

/** Whether a text without a readable kind could be meant for Sallyport. */
export function mentionsSallyport(text: string): boolean {
  return /sallyport\.dev|AccessPolicy|AccessLock|connectionSelector/i.test(text);
}
