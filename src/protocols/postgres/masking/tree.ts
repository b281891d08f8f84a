// Reading libpg-query's trees by shape. A node comes wrapped (`{"ColumnRef": {...}}`) where the grammar allows any node
// and bare where it allows one kind only (`InsertStmt.relation`), so nodes are told by the fields only they have. What a
// collector here misses, masking would miss: it visits every object of the tree and skips none.

export type TreeNode = { readonly [key: string]: unknown };

export function isNode(value: unknown): value is TreeNode {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The node's kind and body, for a wrapped node. A RawStmt is unwrapped first. */
export function unwrap(value: unknown): { kind: string; body: TreeNode } | undefined {
  if (!isNode(value)) return undefined;
  if (isNode(value.stmt)) return unwrap(value.stmt);
  return unwrapShallow(value);
}

/** The body of a wrapped node of that kind. */
export function bodyOf(value: unknown, kind: string): TreeNode | undefined {
  const node = unwrap(value);
  return node?.kind === kind ? node.body : undefined;
}

export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

export function stringOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

/** The strings of a list of String nodes; anything else in it is dropped. */
export function namesOf(value: unknown): string[] {
  return listOf(value).flatMap((item) => {
    const name = bodyOf(item, 'String')?.sval;
    return typeof name === 'string' ? [name] : [];
  });
}

/** Calls back for every object of the tree, parents first, with the kind where it came wrapped. */
export function visit(value: unknown, callback: (node: TreeNode, kind: string | undefined) => void): void {
  const pending: { value: unknown; kind: string | undefined }[] = [{ value, kind: undefined }];
  // A stack of our own: the depth is the client's to choose.
  for (;;) {
    const next = pending.pop();
    if (next === undefined) return;
    if (Array.isArray(next.value)) {
      for (let i = next.value.length - 1; i >= 0; i--) pending.push({ value: next.value[i], kind: undefined });
      continue;
    }
    if (!isNode(next.value)) continue;
    const wrapped = unwrapShallow(next.value);
    if (wrapped !== undefined) {
      pending.push({ value: wrapped.body, kind: wrapped.kind });
      continue;
    }
    callback(next.value, next.kind);
    const values = Object.values(next.value);
    for (let i = values.length - 1; i >= 0; i--) pending.push({ value: values[i], kind: undefined });
  }
}

function unwrapShallow(value: TreeNode): { kind: string; body: TreeNode } | undefined {
  const keys = Object.keys(value);
  const kind = keys[0];
  if (keys.length !== 1 || kind === undefined) return undefined;
  const first = kind.charCodeAt(0);
  if (first < 65 || first > 90) return undefined;
  const body = value[kind];
  return isNode(body) ? { kind, body } : undefined;
}

export interface RangeVarUse {
  node: TreeNode;
  schema: string | undefined;
  name: string;
  /** What columns are qualified with: the alias, else the relation's own name. */
  label: string;
  hasColumnAliases: boolean;
}

export interface ColumnRefUse {
  node: TreeNode;
  /** Names without a trailing star. */
  fields: readonly string[];
  star: boolean;
}

export interface NameUse {
  schema: string | undefined;
  name: string;
}

export function rangeVar(node: TreeNode): RangeVarUse | undefined {
  const name = stringOf(node.relname);
  if (name === undefined) return undefined;
  const alias = isNode(node.alias) ? node.alias : undefined;
  return {
    node,
    schema: stringOf(node.schemaname),
    name,
    label: stringOf(alias?.aliasname) ?? name,
    hasColumnAliases: listOf(alias?.colnames).length > 0,
  };
}

export function columnRef(node: TreeNode): ColumnRefUse | undefined {
  if (!Array.isArray(node.fields)) return undefined;
  const fields = namesOf(node.fields);
  const star = node.fields.some((field) => unwrap(field)?.kind === 'A_Star' || (isNode(field) && 'A_Star' in field));
  return { node, fields, star };
}

/** The last two parts of a dotted name. */
export function qualified(parts: readonly string[]): NameUse {
  return { schema: parts.length > 1 ? parts[parts.length - 2] : undefined, name: parts[parts.length - 1] ?? '' };
}

export interface Mentions {
  relations: RangeVarUse[];
  columns: ColumnRefUse[];
  functions: NameUse[];
  types: NameUse[];
  operators: NameUse[];
  /** Names selected from a value: `(expression).name`. */
  attributes: string[];
  /** Names of common table expressions, wherever they are in scope. */
  ctes: Set<string>;
  /** Kinds of all nodes that came wrapped, the top one included. */
  kinds: Set<string>;
}

/** Everything named anywhere in a tree, subqueries and nested statements included. */
export function mentionsOf(tree: unknown): Mentions {
  const found: Mentions = {
    relations: [],
    columns: [],
    functions: [],
    types: [],
    operators: [],
    attributes: [],
    ctes: new Set(),
    kinds: new Set(),
  };
  visit(tree, (node, kind) => {
    if (kind !== undefined) found.kinds.add(kind);
    const relation = rangeVar(node);
    if (relation !== undefined) found.relations.push(relation);
    const column = columnRef(node);
    if (column !== undefined) found.columns.push(column);
    if (Array.isArray(node.funcname)) found.functions.push(qualified(namesOf(node.funcname)));
    if (Array.isArray(node.names)) found.types.push(qualified(namesOf(node.names)));
    if (stringOf(node.ctename) !== undefined) found.ctes.add(String(node.ctename));
    if (Array.isArray(node.useOp)) found.operators.push(qualified(namesOf(node.useOp)));
    if (Array.isArray(node.operName)) found.operators.push(qualified(namesOf(node.operName)));
    // A_Expr: `name` is its operator. LIKE, IN, BETWEEN and the like carry theirs too.
    if (Array.isArray(node.name) && (node.lexpr !== undefined || node.rexpr !== undefined)) {
      found.operators.push(qualified(namesOf(node.name)));
    }
    // BETWEEN, NULLIF and simple CASE find their operators by name in search_path without writing them.
    if (kind === 'A_Expr' && typeof node.kind === 'string') {
      if (node.kind.includes('BETWEEN')) found.operators.push(...operatorsNamed(['<=', '>=', '<', '>']));
    }
    if (kind === 'SubLink' && node.operName === undefined && node.testexpr !== undefined)
      found.operators.push(...operatorsNamed(['=']));
    if (kind === 'JoinExpr' && (node.isNatural === true || Array.isArray(node.usingClause)))
      found.operators.push(...operatorsNamed(['=']));
    if (kind === 'A_Indirection') found.attributes.push(...namesOf(node.indirection));
    if (kind === 'CaseExpr' && node.arg !== undefined) found.operators.push(...operatorsNamed(['=']));
    if (Array.isArray(node.method) && node.kind === undefined) found.functions.push(qualified(namesOf(node.method))); // TABLESAMPLE
  });
  return found;
}

function operatorsNamed(names: readonly string[]): NameUse[] {
  return names.map((name) => ({ schema: undefined, name }));
}
