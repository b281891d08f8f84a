// Functions, operators and sequences that an expression calls.
import { functionKind } from './functions.ts';
import { as, constantText, nameParts } from './tree.ts';
import { type Walk } from './walk.ts';

export function qualified(parts: readonly string[]): [schema: string | undefined, name: string] {
  return [parts.length > 1 ? parts[parts.length - 2] : undefined, parts[parts.length - 1] ?? ''];
}

/** OPERATOR(schema.op): of pg_catalog it is what the plain operator means; of another schema it is a call. */
export function operatorName(walk: Walk, name: readonly unknown[]): void {
  if (name.length < 2) return;
  const [schema, operator] = qualified(nameParts(name));
  if (schema !== 'pg_catalog') walk.found.executes(schema, operator);
}

export function called(walk: Walk, schema: string | undefined, name: string, args: readonly unknown[]): void {
  const { found } = walk;
  switch (functionKind(schema, name)) {
    case 'Harmless':
      found.mention(schema, name);
      return;
    case 'Setting': {
      found.mention(schema, name);
      const pinned = nameParts(as(args[0], 'ColumnRef')?.fields).join('.') === 'name' ? walk.settingName : undefined;
      const setting = args.length === 3 ? (pinned ?? constantText(args[0])) : undefined;
      found.setting((setting ?? '*').toLowerCase(), setting === undefined ? undefined : constantText(args[1]));
      return;
    }
    case 'Sequence': {
      found.mention(schema, name);
      const parts = sequenceName(args[0]);
      if (parts === undefined) found.relation('Write', undefined, '*');
      else found.relation('Write', parts.length > 1 ? parts[0] : undefined, parts[parts.length - 1] ?? '*');
      return;
    }
    case 'ReadsByText':
      found.executes(schema, name);
      found.opaque('Read');
      return;
    case 'Guarded':
    case 'Unknown':
      found.executes(schema, name);
      return;
  }
}

/** The name inside `nextval('"Odd".orders_id_seq'::regclass)`; undefined unless it is a plain constant. */
function sequenceName(argument: unknown): string[] | undefined {
  const value = constantText(argument);
  if (value === undefined) return undefined;
  const parts: string[] = [];
  let at = 0;
  while (at <= value.length) {
    if (value[at] === '"') {
      const end = value.indexOf('"', at + 1);
      if (end < 0) return undefined;
      parts.push(value.slice(at + 1, end));
      at = end + 1;
    } else {
      const dot = value.indexOf('.', at);
      const end = dot < 0 ? value.length : dot;
      parts.push(value.slice(at, end).trim().toLowerCase());
      at = end;
    }
    if (at < value.length && value[at] !== '.') return undefined;
    at++;
  }
  return parts.length > 2 || parts.some((part) => part === '' || part.includes('"')) ? undefined : parts;
}
