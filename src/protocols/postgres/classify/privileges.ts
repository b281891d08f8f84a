// Privileges and roles.
import { qualified } from './calls.ts';
import { type Handler } from './handlers.ts';
import { OBJECT_NAMES, RELATION_OBJECTS } from './tags.ts';
import { as, type Fields, flag, list, nameParts, stringOf, text } from './tree.ts';

export const grant: Handler = (walk, fields) => {
  const { found } = walk;
  const tag = flag(fields, 'is_grant') ? 'GRANT' : 'REVOKE';
  const type = text(fields, 'objtype') ?? '';
  const objects = list(fields, 'objects');
  const target = text(fields, 'targtype');
  if (target === 'ACL_TARGET_ALL_IN_SCHEMA') {
    for (const schema of objects) {
      if (RELATION_OBJECTS.has(type)) found.relation('Grant', stringOf(schema) ?? '*', '*');
      else found.effect('Grant', stringOf(schema) ?? '*', '*');
    }
  } else if (target === 'ACL_TARGET_DEFAULTS') {
    found.effect('Grant', '*', '*');
  } else {
    for (const object of objects) {
      const [schema, name] = qualified(nameParts(object));
      if (RELATION_OBJECTS.has(type)) found.relation('Grant', schema, name);
      else found.effect('Grant', OBJECT_NAMES[type]?.toLowerCase() ?? '*', ...nameParts(object));
      for (const privilege of list(fields, 'privileges')) {
        for (const column of list(as(privilege, 'AccessPriv'), 'cols')) {
          found.column(schema === undefined ? { name } : { schema, name }, stringOf(column) ?? '*');
        }
      }
    }
  }
  if (found.effects.size === 0) found.effect('Grant', '*');
  return tag;
};

function roleName(value: unknown): string {
  const role = as(value, 'RoleSpec') ?? (value as Fields | undefined);
  return text(role, 'rolename') ?? text(as(value, 'AccessPriv'), 'priv_name') ?? '*';
}

export const roles =
  (tag: (fields: Fields) => string, names: (fields: Fields) => readonly unknown[]): Handler =>
  (walk, fields) => {
    const targets = names(fields);
    for (const target of targets) {
      walk.found.effect('Grant', 'role', typeof target === 'string' ? target : roleName(target));
    }
    if (targets.length === 0) walk.found.effect('Grant', 'role', '*');
    return tag(fields);
  };
