// What PostgreSQL itself brings along that would carry values past a mask: functions that run SQL given as text or read
// storage, and the columns of system relations that hold samples of data, other people's statements or secrets.
// A new server major must be read through before it is allowed beside masks.

const RUNS_SQL_OR_READS_STORAGE: ReadonlySet<string> = new Set([
  // SQL given as text (manual, 9.15.3 "Mapping Tables to XML"; 9.13 "Text Search Functions")
  'query_to_xml',
  'query_to_xmlschema',
  'query_to_xml_and_xmlschema',
  'table_to_xml',
  'table_to_xmlschema',
  'table_to_xml_and_xmlschema',
  'schema_to_xml',
  'schema_to_xmlschema',
  'schema_to_xml_and_xmlschema',
  'database_to_xml',
  'database_to_xmlschema',
  'database_to_xml_and_xmlschema',
  'cursor_to_xml',
  'cursor_to_xmlschema',
  'ts_stat',
  'ts_rewrite',
  // large objects and files
  'lo_export',
  'lo_get',
  'lo_import',
  'lo_open',
  'loread',
  'pg_read_file',
  'pg_read_file_old',
  'pg_read_binary_file',
  'pg_file_read',
  'pg_file_write',
  // other people's statements
  'pg_stat_get_activity',
  'pg_stat_get_backend_activity',
  'pg_stat_statements',
  'pg_prepared_statement',
  'pg_cursor',
  // statistics values and the values' own representation
  'pg_mcv_list_items',
  'pg_stats_ext_mcvlist_items',
  // trigger functions that copy one column's words into another
  'tsvector_update_trigger',
  'tsvector_update_trigger_column',
]);

const PREFIXES = [
  'pg_logical_',
  'dblink',
  'pg_create_logical',
  'pg_copy_logical',
  'binary_upgrade_',
  'pg_replication_',
];

/** Whether a built-in function can hand out what a masked column holds without naming it. */
export function reachesStorage(name: string): boolean {
  return RUNS_SQL_OR_READS_STORAGE.has(name) || PREFIXES.some((prefix) => name.startsWith(prefix));
}

/** Columns of system relations that hold data; hidden as NULL wherever any mask is in force. */
export const SYSTEM_COLUMNS: Readonly<Record<string, readonly string[]>> = {
  pg_statistic: ['stavalues1', 'stavalues2', 'stavalues3', 'stavalues4', 'stavalues5'],
  pg_stats: ['most_common_vals', 'histogram_bounds', 'most_common_elems', 'range_bounds_histogram'],
  pg_statistic_ext_data: ['stxdmcv', 'stxdexpr'],
  pg_stats_ext: ['most_common_vals'],
  pg_stats_ext_exprs: ['most_common_vals', 'histogram_bounds', 'most_common_elems'],
  pg_stat_activity: ['query'],
  pg_prepared_statements: ['statement'],
  pg_cursors: ['statement'],
  pg_largeobject: ['data'],
  pg_authid: ['rolpassword'],
  pg_shadow: ['passwd'],
  pg_user_mapping: ['umoptions'],
  pg_user_mappings: ['umoptions'],
  user_mapping_options: ['option_value'],
  _pg_user_mappings: ['umoptions'],
  pg_subscription: ['subconninfo'],
  pg_attribute: ['attmissingval'],
};

/** Extensions whose functions compute from their arguments alone: no SQL, no storage, no files. */
export const PURE_EXTENSIONS: ReadonlySet<string> = new Set([
  'btree_gin',
  'btree_gist',
  'citext',
  'cube',
  'fuzzystrmatch',
  'hstore',
  'intarray',
  'isn',
  'ltree',
  'pg_trgm',
  'pgcrypto',
  'seg',
  'unaccent',
  'uuid-ossp',
  'vector',
]);
