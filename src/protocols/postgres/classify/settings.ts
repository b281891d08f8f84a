// Settings a session may change without a rule that says so, because none of them alters what a statement means, whose
// rights it has, what the server logs of it or loads. Everything else (role, session_authorization, row security of
// applications kept in custom settings, session_replication_role, preloaded libraries) needs an Allow of Session effects.

const HARMLESS = new Set(
  `application_name bytea_output client_min_messages constraint_exclusion cursor_tuple_fraction datestyle
  default_transaction_deferrable default_transaction_isolation default_transaction_read_only escape_string_warning
  extra_float_digits from_collapse_limit geqo geqo_threshold idle_in_transaction_session_timeout idle_session_timeout
  intervalstyle jit join_collapse_limit lc_messages lc_monetary lc_numeric lc_time lock_timeout
  max_parallel_workers_per_gather optimize_bounded_sort plan_cache_mode quote_all_identifiers restrict_nonsystem_relation_kind
  row_security
  statement_timeout synchronize_seqscans timezone transaction_deferrable transaction_isolation
  transaction_read_only transaction_timeout xmlbinary xmloption
  enable_async_append enable_bitmapscan enable_distinct_reordering enable_gathermerge enable_group_by_reordering
  enable_hashagg enable_hashjoin enable_incremental_sort enable_indexonlyscan enable_indexscan enable_material
  enable_memoize enable_mergejoin enable_nestloop enable_parallel_append enable_parallel_hash enable_partition_pruning
  enable_partitionwise_aggregate enable_partitionwise_join enable_presorted_aggregate enable_self_join_elimination
  enable_seqscan enable_sort enable_tidscan`.split(/\s+/),
);

const UTF8 = new Set(['utf8', 'unicode']);
const ON = new Set(['on', 'true', 'yes', '1']);

/**
 * Whether setting `name` (lower case) to `value` needs no rule of its own. `value` undefined: to its default, or to
 * something that is not a constant; `isReset` tells which.
 */
export function harmlessSetting(name: string, value: string | undefined, isReset: boolean): boolean {
  if (HARMLESS.has(name)) return true;
  switch (name) {
    case 'search_path':
      // pg_catalog must stay first, as it is where it is not named: the built-in names depend on it.
      return isReset || (value !== undefined && catalogFirst(value));
    case 'client_encoding':
    case 'names':
      return isReset || (value !== undefined && UTF8.has(value.toLowerCase().replace(/[^a-z0-9]/g, '')));
    case 'standard_conforming_strings':
      return isReset || (value !== undefined && ON.has(value.toLowerCase()));
    case '*reset-all':
      return true;
    default:
      return false;
  }
}

function catalogFirst(path: string): boolean {
  const schemas = path.split(',').map((part) => part.trim().replace(/^"|"$/g, '').toLowerCase());
  return schemas.indexOf('pg_catalog') <= 0;
}
