// What every kind of statement does. Exhaustive: a kind that is not in the table is not understood. Expressions are
// walked everywhere a statement can hold some, so that a function call in a DEFAULT or a policy is seen as one.
import { qualified } from './calls.ts';
import { NotUnderstood } from './findings.ts';
import { aboutObject, define, defines, definesObject, type Handler, inner, maintenance, one } from './handlers.ts';
import { alterFunction, call, createFunction, createSchema, doBlock, publicationObjects, reindex } from './objects.ts';
import { grant, roles } from './privileges.ts';
import { copy, createTableAs, explain, insert, merge, remove, selectStatement, update } from './queries.ts';
import {
  alterObject,
  alterTable,
  createTable,
  drop,
  indexStatement,
  onRelation,
  rule,
  trigger,
  view,
} from './relations.ts';
import { childScope, type Scope } from './scope.ts';
import { DISCARDS, set, transaction } from './session.ts';
import { OBJECT_NAMES, RELATION_OBJECTS } from './tags.ts';
import { as, flag, list, nameParts, number, struct, text, unwrap } from './tree.ts';
import { fromClause, type Walk, walkAll, walkNode } from './walk.ts';

/** Handles one statement node (`{ SelectStmt: … }`). Throws NotUnderstood. */
export function statement(walk: Walk, node: unknown, scope: Scope): string {
  const wrapped = unwrap(node);
  const handler = wrapped && HANDLERS[wrapped.kind];
  if (handler === undefined) throw new NotUnderstood(`${wrapped?.kind ?? 'the statement'} is not known`);
  return handler(walk, wrapped!.fields, scope);
}

export const STATEMENT_KINDS = (): string[] => Object.keys(HANDLERS);

const HANDLERS: Readonly<Record<string, Handler>> = {
  SelectStmt: selectStatement,
  InsertStmt: insert,
  UpdateStmt: update,
  DeleteStmt: remove,
  MergeStmt: merge,
  CreateTableAsStmt: createTableAs,
  ExplainStmt: explain,
  CopyStmt: copy,

  TransactionStmt: transaction,
  VariableSetStmt: set,
  VariableShowStmt: (walk) => {
    walk.found.effect('Read');
    return 'SHOW';
  },
  DiscardStmt: (walk, fields) => {
    const target = text(fields, 'target') ?? 'DISCARD_ALL';
    const tag = DISCARDS[target];
    if (tag === undefined) throw new NotUnderstood('the DISCARD is not known');
    if (target === 'DISCARD_ALL') walk.found.session = { kind: 'DiscardAll' };
    walk.found.effect('Session');
    return tag;
  },
  PrepareStmt: (walk, fields, scope) => {
    inner(walk, fields.query, scope);
    for (const type of list(fields, 'argtypes')) walkNode(walk, type, scope);
    walk.found.session = { kind: 'Prepare', name: text(fields, 'name') ?? '' };
    return 'PREPARE';
  },
  ExecuteStmt: (walk, fields, scope) => {
    walk.found.session = { kind: 'Execute', name: text(fields, 'name') ?? '' };
    walk.found.effect('Session');
    walkAll(walk, list(fields, 'params'), scope);
    return 'EXECUTE';
  },
  DeallocateStmt: (walk, fields) => {
    const name = text(fields, 'name');
    walk.found.session = { kind: 'Deallocate', name };
    walk.found.effect('Session');
    return name === undefined ? 'DEALLOCATE ALL' : 'DEALLOCATE';
  },
  DeclareCursorStmt: (walk, fields, scope) => {
    inner(walk, fields.query, scope);
    walk.found.session = { kind: 'Declare', cursor: text(fields, 'portalname') ?? '' };
    return 'DECLARE CURSOR';
  },
  FetchStmt: (walk, fields) => {
    walk.found.session = { kind: 'Fetch', cursor: text(fields, 'portalname') ?? '' };
    walk.found.effect('Session');
    return flag(fields, 'ismove') ? 'MOVE' : 'FETCH';
  },
  ClosePortalStmt: (walk, fields) => {
    const cursor = text(fields, 'portalname');
    walk.found.session = { kind: 'CloseCursor', cursor };
    walk.found.effect('Session');
    return cursor === undefined ? 'CLOSE CURSOR ALL' : 'CLOSE CURSOR';
  },
  ListenStmt: (walk, fields) => {
    walk.found.session = { kind: 'Listen' };
    walk.found.effect('Session', 'listen', text(fields, 'conditionname') ?? '*');
    return 'LISTEN';
  },
  UnlistenStmt: (walk) => {
    walk.found.session = { kind: 'Unlisten' };
    walk.found.effect('Session');
    return 'UNLISTEN';
  },
  NotifyStmt: (walk) => {
    walk.found.session = { kind: 'Notify' };
    walk.found.executes('pg_catalog', 'pg_notify');
    return 'NOTIFY';
  },
  ConstraintsSetStmt: (walk) => {
    walk.found.effect('Session');
    return 'SET CONSTRAINTS';
  },
  LockStmt: (walk, fields) => {
    // ACCESS SHARE (mode 1) is what a read takes.
    const access = number(fields, 'mode') === 1 ? 'Read' : 'Write';
    for (const target of list(fields, 'relations')) {
      const [schema, name] = qualified(nameParts(target));
      walk.found.relation(access, schema, name);
    }
    return 'LOCK TABLE';
  },

  TruncateStmt: (walk, fields) => {
    for (const target of list(fields, 'relations')) {
      const [schema, name] = qualified(nameParts(target));
      walk.found.relation('Write', schema, name);
    }
    if (text(fields, 'behavior') === 'DROP_CASCADE') walk.found.relation('Write', undefined, '*');
    walk.found.unbounded = true;
    return 'TRUNCATE TABLE';
  },
  VacuumStmt: maintenance(
    (fields) => (flag(fields, 'is_vacuumcmd') ? 'VACUUM' : 'ANALYZE'),
    (fields) => list(fields, 'rels').flatMap((target) => as(target, 'VacuumRelation')?.relation ?? []),
  ),
  ClusterStmt: maintenance(
    () => 'CLUSTER',
    (fields) => (fields.relation === undefined ? [] : [fields.relation]),
  ),
  ReindexStmt: reindex,
  RefreshMatViewStmt: maintenance(
    () => 'REFRESH MATERIALIZED VIEW',
    (fields) => [fields.relation],
  ),
  CheckPointStmt: (walk) => {
    walk.found.effect('Execute', 'checkpoint');
    return 'CHECKPOINT';
  },
  LoadStmt: (walk, fields) => {
    walk.found.effect('Execute', 'library', text(fields, 'filename') ?? '*');
    return 'LOAD';
  },
  DoStmt: doBlock,
  CallStmt: call,

  GrantStmt: grant,
  GrantRoleStmt: roles(
    (fields) => (flag(fields, 'is_grant') ? 'GRANT ROLE' : 'REVOKE ROLE'),
    (fields) => list(fields, 'granted_roles'),
  ),
  AlterDefaultPrivilegesStmt: (walk) => {
    walk.found.relation('Grant', undefined, '*');
    return 'ALTER DEFAULT PRIVILEGES';
  },
  CreateRoleStmt: roles(
    () => 'CREATE ROLE',
    (fields) => [text(fields, 'role') ?? '*'],
  ),
  AlterRoleStmt: roles(
    () => 'ALTER ROLE',
    (fields) => [fields.role],
  ),
  AlterRoleSetStmt: roles(
    () => 'ALTER ROLE',
    (fields) => (fields.role === undefined ? [] : [fields.role]),
  ),
  DropRoleStmt: roles(
    () => 'DROP ROLE',
    (fields) => list(fields, 'roles'),
  ),
  DropOwnedStmt: (walk) => {
    walk.found.relation('Define', undefined, '*');
    walk.found.relation('Grant', undefined, '*');
    return 'DROP OWNED';
  },
  ReassignOwnedStmt: (walk) => {
    walk.found.relation('Define', undefined, '*');
    walk.found.relation('Grant', undefined, '*');
    return 'REASSIGN OWNED';
  },
  CreateUserMappingStmt: define('CREATE USER MAPPING', 'user mapping', one('servername'), 'Grant'),
  AlterUserMappingStmt: define('ALTER USER MAPPING', 'user mapping', one('servername'), 'Grant'),
  DropUserMappingStmt: define('DROP USER MAPPING', 'user mapping', one('servername'), 'Grant'),
  CreatePolicyStmt: onRelation('CREATE POLICY', 'table', 'Grant'),
  AlterPolicyStmt: onRelation('ALTER POLICY', 'table', 'Grant'),
  SecLabelStmt: aboutObject('SECURITY LABEL', 'Grant'),
  CommentStmt: aboutObject('COMMENT', 'Define'),

  CreateStmt: createTable('CREATE TABLE'),
  CreateForeignTableStmt: (walk, fields, scope) => {
    createTable('CREATE TABLE')(walk, struct(fields, 'base') ?? {}, scope);
    walk.found.effect('Execute', 'server', text(fields, 'servername') ?? '*');
    return 'CREATE FOREIGN TABLE';
  },
  AlterTableStmt: alterTable,
  AlterTableMoveAllStmt: (walk, fields) => {
    walk.found.relation('Define', undefined, '*');
    return `ALTER ${OBJECT_NAMES[text(fields, 'objtype') ?? ''] ?? 'TABLE'}`;
  },
  IndexStmt: indexStatement,
  ViewStmt: view,
  CreateTrigStmt: trigger,
  RuleStmt: rule,
  CreateSchemaStmt: createSchema,
  CreateSeqStmt: onRelation('CREATE SEQUENCE', 'sequence'),
  AlterSeqStmt: onRelation('ALTER SEQUENCE', 'sequence'),
  CreateStatsStmt: (walk, fields, scope) => {
    for (const target of list(fields, 'relations')) defines(walk, target);
    const inside = childScope(scope);
    fromClause(walk, list(fields, 'relations'), inside);
    for (const expression of list(fields, 'exprs')) walkNode(walk, as(expression, 'StatsElem')?.expr, inside);
    return 'CREATE STATISTICS';
  },
  AlterStatsStmt: define('ALTER STATISTICS', 'statistics', one('defnames')),
  CompositeTypeStmt: (walk, fields, scope) => {
    definesObject(walk, 'type', fields.typevar);
    walkAll(walk, list(fields, 'coldeflist'), scope);
    return 'CREATE TYPE';
  },
  CreateEnumStmt: define('CREATE TYPE', 'type', one('typeName')),
  CreateRangeStmt: define('CREATE TYPE', 'type', one('typeName')),
  AlterEnumStmt: define('ALTER TYPE', 'type', one('typeName')),
  AlterTypeStmt: define('ALTER TYPE', 'type', one('typeName')),
  CreateDomainStmt: define('CREATE DOMAIN', 'domain', one('domainname')),
  AlterDomainStmt: define('ALTER DOMAIN', 'domain', one('typeName')),
  DefineStmt: (walk, fields) => {
    const name = OBJECT_NAMES[text(fields, 'kind') ?? ''];
    if (name === undefined) throw new NotUnderstood('what is created is not known');
    definesObject(walk, name.toLowerCase(), fields.defnames);
    return `CREATE ${name}`;
  },
  CreateFunctionStmt: createFunction,
  AlterFunctionStmt: alterFunction,
  CreateCastStmt: (walk, fields) => {
    definesObject(walk, 'cast', fields.targettype);
    return 'CREATE CAST';
  },
  CreateTransformStmt: define('CREATE TRANSFORM', 'transform', one('lang')),
  CreateConversionStmt: define('CREATE CONVERSION', 'conversion', one('conversion_name')),
  CreateOpClassStmt: (walk, fields) => {
    definesObject(walk, 'operator class', fields.opclassname);
    return 'CREATE OPERATOR CLASS';
  },
  CreateOpFamilyStmt: define('CREATE OPERATOR FAMILY', 'operator family', one('opfamilyname')),
  AlterOpFamilyStmt: (walk, fields) => {
    definesObject(walk, 'operator family', fields.opfamilyname);
    return 'ALTER OPERATOR FAMILY';
  },
  AlterOperatorStmt: (walk, fields) => {
    definesObject(walk, 'operator', struct(fields, 'opername'));
    return 'ALTER OPERATOR';
  },
  AlterCollationStmt: define('ALTER COLLATION', 'collation', one('collname')),
  AlterTSDictionaryStmt: define('ALTER TEXT SEARCH DICTIONARY', 'text search dictionary', one('dictname')),
  AlterTSConfigurationStmt: define('ALTER TEXT SEARCH CONFIGURATION', 'text search configuration', one('cfgname')),
  CreateAmStmt: define('CREATE ACCESS METHOD', 'access method', one('amname'), 'Execute'),
  CreatePLangStmt: define('CREATE LANGUAGE', 'language', one('plname'), 'Execute'),
  CreateEventTrigStmt: define('CREATE EVENT TRIGGER', 'event trigger', one('trigname'), 'Grant'),
  AlterEventTrigStmt: define('ALTER EVENT TRIGGER', 'event trigger', one('trigname'), 'Grant'),
  CreateExtensionStmt: define('CREATE EXTENSION', 'extension', one('extname'), 'Execute'),
  AlterExtensionStmt: define('ALTER EXTENSION', 'extension', one('extname'), 'Execute'),
  AlterExtensionContentsStmt: (walk, fields) => {
    definesObject(walk, 'extension', fields.extname);
    if (RELATION_OBJECTS.has(text(fields, 'objtype') ?? '')) defines(walk, fields.object);
    return 'ALTER EXTENSION';
  },
  CreateFdwStmt: define('CREATE FOREIGN DATA WRAPPER', 'foreign data wrapper', one('fdwname'), 'Execute'),
  AlterFdwStmt: define('ALTER FOREIGN DATA WRAPPER', 'foreign data wrapper', one('fdwname'), 'Execute'),
  CreateForeignServerStmt: define('CREATE SERVER', 'server', one('servername'), 'Execute'),
  AlterForeignServerStmt: define('ALTER SERVER', 'server', one('servername'), 'Execute'),
  ImportForeignSchemaStmt: (walk, fields) => {
    walk.found.relation('Define', text(fields, 'local_schema'), '*');
    walk.found.effect('Execute', 'server', text(fields, 'server_name') ?? '*');
    return 'IMPORT FOREIGN SCHEMA';
  },
  CreatePublicationStmt: (walk, fields, scope) => {
    definesObject(walk, 'publication', fields.pubname);
    publicationObjects(walk, fields, scope);
    return 'CREATE PUBLICATION';
  },
  AlterPublicationStmt: (walk, fields, scope) => {
    definesObject(walk, 'publication', fields.pubname);
    publicationObjects(walk, fields, scope);
    return 'ALTER PUBLICATION';
  },
  CreateSubscriptionStmt: define('CREATE SUBSCRIPTION', 'subscription', one('subname'), 'Execute'),
  AlterSubscriptionStmt: define('ALTER SUBSCRIPTION', 'subscription', one('subname'), 'Execute'),
  DropSubscriptionStmt: define('DROP SUBSCRIPTION', 'subscription', one('subname'), 'Execute'),
  CreateTableSpaceStmt: define('CREATE TABLESPACE', 'tablespace', one('tablespacename'), 'Execute'),
  DropTableSpaceStmt: define('DROP TABLESPACE', 'tablespace', one('tablespacename')),
  AlterTableSpaceOptionsStmt: define('ALTER TABLESPACE', 'tablespace', one('tablespacename')),
  CreatedbStmt: define('CREATE DATABASE', 'database', one('dbname')),
  DropdbStmt: define('DROP DATABASE', 'database', one('dbname')),
  AlterDatabaseStmt: define('ALTER DATABASE', 'database', one('dbname')),
  AlterDatabaseRefreshCollStmt: define('ALTER DATABASE', 'database', one('dbname')),
  AlterDatabaseSetStmt: (walk, fields) => {
    definesObject(walk, 'database', fields.dbname);
    walk.found.effect('Grant', 'database', text(fields, 'dbname') ?? '*');
    return 'ALTER DATABASE';
  },
  AlterSystemStmt: (walk, fields) => {
    const name = text(struct(fields, 'setstmt'), 'name') ?? '*';
    walk.found.effect('Define', 'system', name);
    walk.found.effect('Grant', 'system', name);
    return 'ALTER SYSTEM';
  },
  DropStmt: drop,
  RenameStmt: alterObject('renameType'),
  AlterObjectSchemaStmt: alterObject('objectType'),
  AlterOwnerStmt: alterObject('objectType', 'Grant'),
  AlterObjectDependsStmt: alterObject('objectType'),
};
