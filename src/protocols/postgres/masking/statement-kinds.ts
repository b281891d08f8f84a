// Statements by what they may do to masking itself, by libpg-query's node kind. A kind in none of these lists is refused
// while masks are in force.

/** They bring new code or new ways to data into the database, or change how existing code is found. Never beside masks. */
export const BRINGS_CODE: ReadonlySet<string> = new Set([
  'AlterEventTrigStmt',
  'AlterExtensionContentsStmt',
  'AlterExtensionStmt',
  'AlterFdwStmt',
  'AlterForeignServerStmt',
  'AlterFunctionStmt',
  'AlterObjectDependsStmt',
  'AlterOpFamilyStmt',
  'AlterOperatorStmt',
  'AlterPolicyStmt',
  'AlterPublicationStmt',
  'AlterSubscriptionStmt',
  'AlterSystemStmt',
  'AlterTypeStmt',
  'AlterUserMappingStmt',
  'CreateAmStmt',
  'CreateCastStmt',
  'CreateConversionStmt',
  'CreateEventTrigStmt',
  'CreateExtensionStmt',
  'CreateFdwStmt',
  'CreateForeignServerStmt',
  'CreateForeignTableStmt',
  'CreateFunctionStmt',
  'CreateOpClassStmt',
  'CreateOpFamilyStmt',
  'CreatePLangStmt',
  'CreatePolicyStmt',
  'CreatePublicationStmt',
  'CreateRangeStmt',
  'CreateSubscriptionStmt',
  'CreateTransformStmt',
  'CreateTrigStmt',
  'CreateUserMappingStmt',
  'DefineStmt',
  'DoStmt',
  'ImportForeignSchemaStmt',
  'LoadStmt',
  'RuleStmt',
]);

/** Harmless whatever relation they name. */
export const HARMLESS: ReadonlySet<string> = new Set([
  'AlterDatabaseRefreshCollStmt',
  'AlterDatabaseStmt',
  'AlterDefaultPrivilegesStmt',
  'AlterEnumStmt',
  'AlterRoleStmt',
  'AlterSeqStmt',
  'CheckPointStmt',
  'ClosePortalStmt',
  'CommentStmt',
  'CompositeTypeStmt',
  'CreateDomainStmt',
  'CreateEnumStmt',
  'CreateRoleStmt',
  'CreateSeqStmt',
  'CreateTableSpaceStmt',
  'CreatedbStmt',
  'DeallocateStmt',
  'DiscardStmt',
  'DropOwnedStmt',
  'DropRoleStmt',
  'DropStmt',
  'DropTableSpaceStmt',
  'DropdbStmt',
  'GrantRoleStmt',
  'GrantStmt',
  'ListenStmt',
  'LockStmt',
  'NotifyStmt',
  'ReassignOwnedStmt',
  'SecLabelStmt',
  'UnlistenStmt',
  'VariableShowStmt',
]);

/** Harmless where they name no relation that leads to masked data. */
export const HARMLESS_ELSEWHERE: ReadonlySet<string> = new Set([
  'ClusterStmt', // puts rows in the order of a masked column
  'AlterCollationStmt',
  'AlterDatabaseSetStmt',
  'AlterDomainStmt',
  'AlterObjectSchemaStmt',
  'AlterOwnerStmt',
  'AlterRoleSetStmt',
  'AlterStatsStmt',
  'AlterTSConfigurationStmt',
  'AlterTSDictionaryStmt',
  'AlterTableMoveAllStmt',
  'AlterTableSpaceOptionsStmt',
  'AlterTableStmt',
  'CallStmt',
  'CreateSchemaStmt',
  'CreateStatsStmt',
  'CreateStmt',
  'IndexStmt',
  'RenameStmt',
  'ReplicaIdentityStmt',
]);

export const QUERIES: ReadonlySet<string> = new Set([
  'SelectStmt',
  'InsertStmt',
  'UpdateStmt',
  'DeleteStmt',
  'MergeStmt',
]);

/** Objects whose renaming or moving would make code answer to another name before the catalog is read again. */
export const NAMED_CODE: ReadonlySet<string> = new Set([
  'OBJECT_AGGREGATE',
  'OBJECT_CAST',
  'OBJECT_DOMAIN',
  'OBJECT_EXTENSION',
  'OBJECT_FUNCTION',
  'OBJECT_OPCLASS',
  'OBJECT_OPERATOR',
  'OBJECT_OPFAMILY',
  'OBJECT_PROCEDURE',
  'OBJECT_ROUTINE',
  'OBJECT_RULE',
  'OBJECT_TRIGGER',
  'OBJECT_TYPE',
]);

/** Changes of a masked table that neither read nor move its values. */
export const SAFE_ALTERATIONS: ReadonlySet<string> = new Set([
  'AT_AddColumn',
  'AT_DropColumn',
  'AT_DropConstraint',
  'AT_DropNotNull',
  'AT_SetNotNull',
  'AT_SetStatistics',
  'AT_ValidateConstraint',
]);

/** Settings that change how statements are read or whose rights they run with. */
export const READING_SETTINGS: ReadonlySet<string> = new Set([
  'standard_conforming_strings',
  'backslash_quote',
  'client_encoding',
  'role',
  'session_authorization',
  'session_replication_role',
  'debug_print_parse',
  'debug_print_rewritten',
  'debug_print_plan',
]);
