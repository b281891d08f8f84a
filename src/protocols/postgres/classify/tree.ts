// Accessors for libpg-query's JSON trees. A tree node is `{ Kind: fields }`; fields that hold one known struct are not
// wrapped, zero values are left out. Nothing here judges; unknown shapes read as absent and the callers fail closed.

/** The fields of a node or of an unwrapped struct. */
export type Fields = Readonly<Record<string, unknown>>;

export interface Wrapped {
  kind: string;
  fields: Fields;
}

export function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `{ SelectStmt: {...} }` as its kind and fields; undefined if the value is no wrapped node. Kinds start upper case, fields lower case. */
export function unwrap(value: unknown): Wrapped | undefined {
  if (!isObject(value)) return undefined;
  let kind: string | undefined;
  for (const key in value) {
    if (kind !== undefined) return undefined;
    kind = key;
  }
  if (kind === undefined) return undefined;
  const first = kind.charCodeAt(0);
  if (first < 65 || first > 90) return undefined;
  const fields = value[kind];
  return isObject(fields) ? { kind, fields } : undefined;
}

/** The fields of the node if it is of that kind. */
export function as(value: unknown, kind: string): Fields | undefined {
  if (!isObject(value)) return undefined;
  const fields = value[kind];
  return isObject(fields) ? fields : undefined;
}

export function list(fields: Fields | undefined, name: string): readonly unknown[] {
  const value = fields?.[name];
  return Array.isArray(value) ? value : [];
}

export function struct(fields: Fields | undefined, name: string): Fields | undefined {
  const value = fields?.[name];
  return isObject(value) ? value : undefined;
}

export function text(fields: Fields | undefined, name: string): string | undefined {
  const value = fields?.[name];
  return typeof value === 'string' ? value : undefined;
}

export function flag(fields: Fields | undefined, name: string): boolean {
  return fields?.[name] === true;
}

export function number(fields: Fields | undefined, name: string): number {
  const value = fields?.[name];
  return typeof value === 'number' ? value : 0;
}

/** A String node's value; an empty string is left out of the tree. */
export function stringOf(value: unknown): string | undefined {
  const fields = as(value, 'String');
  return fields === undefined ? undefined : (text(fields, 'sval') ?? '');
}

/** The identifiers of a name in any of the forms the grammar gives it; undefined entries (`A_Star`) read as `*`. */
export function nameParts(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (Array.isArray(value)) return value.flatMap((part) => nameParts(part));
  const node = unwrap(value);
  if (node === undefined) {
    if (!isObject(value)) return [];
    if ('relname' in value) return rangeVarParts(value);
    if ('names' in value) return nameParts(value.names);
    if ('objname' in value) return nameParts(value.objname);
    return [];
  }
  switch (node.kind) {
    case 'String':
      return [text(node.fields, 'sval') ?? ''];
    case 'List':
      return nameParts(node.fields.items);
    case 'TypeName':
      return nameParts(node.fields.names);
    case 'ObjectWithArgs':
      return nameParts(node.fields.objname);
    case 'RangeVar':
      return rangeVarParts(node.fields);
    case 'A_Star':
      return ['*'];
    default:
      return [];
  }
}

function rangeVarParts(fields: Fields): string[] {
  const schema = text(fields, 'schemaname');
  const name = text(fields, 'relname') ?? '';
  return schema === undefined ? [name] : [schema, name];
}

/** Casts to these leave a constant as it is, unless they give a length. */
const AS_IT_IS = new Set(['text', 'varchar', 'regclass']);

/** A constant as text: what SET and set_config are given. undefined if it is not a constant, or a cast may change it. */
export function constantText(value: unknown): string | undefined {
  const cast = as(value, 'TypeCast');
  if (cast) {
    const type = struct(cast, 'typeName');
    const [name, ...more] = nameParts(type).reverse();
    const builtin = more.length === 0 || (more.length === 1 && more[0] === 'pg_catalog');
    if (!builtin || !AS_IT_IS.has(name ?? '') || list(type, 'typmods').length > 0) return undefined;
    return constantText(cast.arg);
  }
  const constant = as(value, 'A_Const');
  if (!constant) return undefined;
  if (flag(constant, 'isnull')) return undefined;
  const string = struct(constant, 'sval');
  if (string) return text(string, 'sval') ?? '';
  const integer = struct(constant, 'ival');
  if (integer) return String(number(integer, 'ival'));
  const float = struct(constant, 'fval');
  if (float) return text(float, 'fval') ?? '0';
  const boolean = struct(constant, 'boolval');
  if (boolean) return flag(boolean, 'boolval') ? 'true' : 'false';
  return undefined;
}
