// Names in scope of a query: WITH queries and FROM items, innermost first.

export interface Item {
  /** Alias, or the relation's own name. Empty: cannot be referred to by name. */
  name: string;
  /** Relations whose columns it shows; none for subqueries, functions and CTEs. */
  relations: readonly { schema?: string; name: string }[];
  /** Its columns were given other names: a mention of one may mean any. */
  renamed: boolean;
  /** The target of a write, whose columns were not read so far. */
  target: boolean;
  read: boolean;
}

export interface Scope {
  readonly parent: Scope | undefined;
  readonly ctes: Set<string>;
  readonly items: Item[];
}

export function childScope(parent: Scope | undefined): Scope {
  return { parent, ctes: new Set(), items: [] };
}

export function visibleCte(scope: Scope, name: string): boolean {
  for (let at: Scope | undefined = scope; at !== undefined; at = at.parent) if (at.ctes.has(name)) return true;
  return false;
}
