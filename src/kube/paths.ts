// Paths of the Kubernetes API. Every part is encoded: a name with a slash or dots never reaches another resource.

export interface ResourceKind {
  /** '' for the core group. */
  group: string;
  version: string;
  plural: string;
}

export interface PathParts {
  namespace?: string | undefined;
  name?: string | undefined;
  subresource?: string | undefined;
}

/** `/apis/GROUP/VERSION/namespaces/NS/PLURAL/NAME/SUB`, or `/api/VERSION/…` for the core group. */
export function resourcePath(kind: ResourceKind, parts: PathParts = {}): string {
  const root = kind.group === '' ? `/api/${kind.version}` : `/apis/${segment(kind.group)}/${kind.version}`;
  const namespace = parts.namespace === undefined ? '' : `/namespaces/${segment(parts.namespace)}`;
  const name = parts.name === undefined ? '' : `/${segment(parts.name)}`;
  const subresource = parts.subresource === undefined ? '' : `/${segment(parts.subresource)}`;
  return `${root}${namespace}/${segment(kind.plural)}${name}${subresource}`;
}

/** Throws TypeError where a part would mean another path: nothing, `.` and `..` survive encoding. */
function segment(part: string): string {
  if (part === '' || part === '.' || part === '..') throw new TypeError(`"${part}" is no name`);
  return encodeURIComponent(part);
}

export const LEASES: ResourceKind = { group: 'coordination.k8s.io', version: 'v1', plural: 'leases' };
export const EVENTS: ResourceKind = { group: 'events.k8s.io', version: 'v1', plural: 'events' };
