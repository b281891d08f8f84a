// Writes src/protocols/postgres/classify/builtins.generated.ts: the functions, types and relations that PostgreSQL 15
// and 18 bring along. A function is harmless if every overload of it, in every version that has it, is immutable or
// stable and not named below, or if it is volatile and named as harmless below. Run: node scripts/generate-postgres-builtins.ts
import fs from 'node:fs';
import path from 'node:path';
import { startPostgres } from '../test/support/postgres.ts';

/** Volatile, and yet they neither change nor reach nor hold anything of others'. pg_sleep costs only its own session. */
const HARMLESS = new Set(
  `array_sample array_shuffle bernoulli system clock_timestamp timeofday current_query currval lastval
  gen_random_uuid uuidv4 uuidv7 random random_normal setseed pg_sleep pg_sleep_for pg_sleep_until
  amvalidate pg_blocking_pids pg_safe_snapshot_blocking_pids pg_collation_actual_version
  pg_database_collation_actual_version pg_control_checkpoint pg_control_init pg_control_recovery pg_control_system
  pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn pg_database_size pg_get_aios
  pg_get_backend_memory_contexts pg_get_loaded_modules pg_get_multixact_members pg_get_sequence_data
  pg_get_shmem_allocations pg_get_shmem_allocations_numa pg_get_wait_events pg_get_wal_replay_pause_state
  pg_get_wal_resource_managers pg_get_wal_summarizer_state pg_indexes_size pg_is_in_recovery pg_is_wal_replay_paused
  pg_isolation_test_session_is_blocked pg_jit_available pg_last_committed_xact pg_last_wal_receive_lsn
  pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_lock_status pg_notification_queue_usage
  pg_partition_ancestors pg_partition_tree pg_prepared_xact pg_relation_size pg_sequence_last_value
  pg_show_replication_origin_status pg_stat_clear_snapshot pg_stat_force_next_flush pg_stat_get_backend_io
  pg_stat_get_backend_wal pg_stat_get_io pg_stat_get_recovery_prefetch pg_stat_get_xact_blocks_fetched
  pg_stat_get_xact_blocks_hit pg_stat_get_xact_function_calls pg_stat_get_xact_function_self_time
  pg_stat_get_xact_function_total_time pg_stat_get_xact_numscans pg_stat_get_xact_tuples_deleted
  pg_stat_get_xact_tuples_fetched pg_stat_get_xact_tuples_hot_updated pg_stat_get_xact_tuples_inserted
  pg_stat_get_xact_tuples_newpage_updated pg_stat_get_xact_tuples_returned pg_stat_get_xact_tuples_updated
  pg_stat_have_stats pg_table_size pg_tablespace_size pg_total_relation_size pg_xact_commit_timestamp
  pg_xact_commit_timestamp_origin pg_xact_status txid_status pg_timezone_names pg_tablespace_databases
  pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared pg_stat_get_wal pg_stat_get_slru pg_stat_get_replication_slot pg_stat_get_prefetch_recovery pg_cursor
  pg_prepared_statement`.split(/\s+/),
);

/** Immutable or stable by their declaration, and yet they read what their text argument says, or the server's files. */
function reaches(name: string): boolean {
  return (
    /_to_xml/.test(name) || // table_to_xml, schema_to_xml, database_to_xml read relations named in text
    /_validator$|^(RI_FKey_|binary_upgrade_|pg_event_trigger_|pg_ls_|lo_|dsnowball_)/.test(name) ||
    ['pg_config', 'pg_get_replication_slots', 'pg_split_walfile_name'].includes(name) ||
    ['currtid', 'currtid2', 'querytree', 'pg_hba_file_rules', 'pg_ident_file_mappings'].includes(name)
  );
}

interface FunctionRow {
  name: string;
  schema: string;
  calm: boolean;
}

const functions = new Map<string, boolean>();
const rowFunctions = new Set<string>();
const informationFunctions = new Set<string>();
const types = new Set<string>();
const informationTypes = new Set<string>();
const relations = new Set<string>();
const informationRelations = new Set<string>();

for (const major of [15, 18] as const) {
  const server = await startPostgres({ major });
  try {
    const procedures = await server.query(
      `select p.proname as name, n.nspname as schema, bool_and(p.provolatile <> 'v') as calm
       from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
       where n.nspname in ('pg_catalog', 'information_schema') group by 1, 2`,
    );
    for (const row of procedures.rows as FunctionRow[]) {
      if (row.schema === 'information_schema') {
        if (!row.calm) throw new Error(`information_schema.${row.name} is volatile`);
        informationFunctions.add(row.name);
        continue;
      }
      const harmless = HARMLESS.has(row.name) || (row.calm && !reaches(row.name));
      functions.set(row.name, (functions.get(row.name) ?? true) && harmless);
    }
    const rows = await server.query(
      `select distinct p.proname as name from pg_catalog.pg_proc p
       where p.pronamespace = 'pg_catalog'::regnamespace and p.pronargs > 0 and p.pronargs - p.pronargdefaults <= 1
         and p.proargtypes[0] in ('record'::regtype, '"any"'::regtype, 'anyelement'::regtype, 'anynonarray'::regtype,
           'anycompatible'::regtype, 'anycompatiblenonarray'::regtype)`,
    );
    for (const row of rows.rows as { name: string }[]) rowFunctions.add(row.name);
    const names = await server.query(
      `select n.nspname as schema, t.typname as name, 'type' as kind from pg_catalog.pg_type t
         join pg_catalog.pg_namespace n on n.oid = t.typnamespace where n.nspname in ('pg_catalog', 'information_schema')
       union all select n.nspname, c.relname, 'relation' from pg_catalog.pg_class c
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where n.nspname in ('pg_catalog', 'information_schema') and c.relkind in ('r', 'v', 'i', 'S')`,
    );
    for (const row of names.rows as { schema: string; name: string; kind: string }[]) {
      const information = row.schema === 'information_schema';
      if (row.kind === 'type') (information ? informationTypes : types).add(row.name);
      else (information ? informationRelations : relations).add(row.name);
    }
  } finally {
    await server.stop();
  }
}

function constant(name: string, comment: string, names: Iterable<string>): string {
  const lines: string[] = [];
  let line = '';
  for (const each of [...names].sort()) {
    if (line.length + each.length > 110) {
      lines.push(line);
      line = '';
    }
    line += line === '' ? each : ` ${each}`;
  }
  if (line !== '') lines.push(line);
  return `/** ${comment} */\nexport const ${name}: ReadonlySet<string> = new Set(\n  \`${lines.join('\n')}\`.split(/\\s/),\n);\n`;
}

const harmless = [...functions].filter(([, calm]) => calm).map(([name]) => name);
const guarded = [...functions].filter(([, calm]) => !calm).map(([name]) => name);
const target = path.resolve(import.meta.dirname, '../src/protocols/postgres/classify/builtins.generated.ts');
fs.writeFileSync(
  target,
  [
    '// Generated by scripts/generate-postgres-builtins.ts from PostgreSQL 15 and 18. Do not edit.\n',
    constant('HARMLESS_FUNCTIONS', 'Functions of pg_catalog that only compute or read what anybody may.', harmless),
    constant(
      'GUARDED_FUNCTIONS',
      'Functions of pg_catalog with effects, or with reach beyond their arguments.',
      guarded,
    ),
    constant('ROW_FUNCTIONS', 'Functions of pg_catalog that take one row: `row.function` calls them.', rowFunctions),
    constant('BUILTIN_TYPES', 'Types of pg_catalog.', types),
    constant('SYSTEM_RELATIONS', 'Relations of pg_catalog.', relations),
    constant('INFORMATION_FUNCTIONS', 'Functions of information_schema.', informationFunctions),
    constant('INFORMATION_TYPES', 'Types of information_schema.', informationTypes),
    constant('INFORMATION_RELATIONS', 'Relations of information_schema.', informationRelations),
  ].join('\n'),
);
console.log(`${harmless.length} harmless and ${guarded.length} guarded functions, ${types.size} types`);
