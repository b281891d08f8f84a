// Which claims of a pipeline's token may be gone by. Pure. Guarantees: a `ref` that does not say whose code runs is not
// handed on, so no subject can be met by it; a job that runs in another project than the one it names is refused.
// Knows two shapes of token, by their claims: those with `event_name` and those with `pipeline_source`.
import type { JsonObject, JsonValue } from './strict-json.ts';

export interface WorkloadClaims {
  claims: Record<string, string>;
  /** Why `ref` and its like were left out; for people. */
  withheld?: string;
}

/** Bounds of a stamp. */
const MOST_CLAIMS = 32;
const LONGEST_CLAIM = 512;

/** Claims that say which code runs, by naming where it lies. */
const CODE_CLAIMS: ReadonlySet<string> = new Set([
  'ref',
  'ref_type',
  'ref_path',
  'ref_protected',
  'base_ref',
  'head_ref',
  'target_ref',
  'target_ref_protected',
  'sha',
  'workflow',
  'workflow_ref',
  'workflow_sha',
  'job_workflow_ref',
  'job_workflow_sha',
  'ci_config_ref_uri',
  'ci_config_sha',
]);

/**
 * Events whose `ref` is that of the code which runs. The others (`pull_request_target`, `workflow_run`, `issue_comment`
 * and their like) carry the base's `ref` while a stranger's code may run.
 */
const TRUE_EVENTS: ReadonlySet<string> = new Set(['push', 'workflow_dispatch', 'schedule', 'release']);

/**
 * Likewise what starts a pipeline of a branch's own code. Not those of merge requests, whose `ref_path` is that of a
 * branch of the same name, nor of their children (`parent_pipeline`), which do not say whose children they are.
 */
const TRUE_SOURCES: ReadonlySet<string> = new Set(['push', 'web', 'schedule', 'api', 'trigger', 'pipeline']);

export function workloadClaims(payload: JsonObject, names: readonly string[]): WorkloadClaims {
  const withheld = untrueRef(payload);
  const claims: Record<string, string> = {};
  for (const name of names.slice(0, MOST_CLAIMS)) {
    if (name === 'sub' || (withheld !== undefined && CODE_CLAIMS.has(name))) continue;
    const text = claimText(payload[name]);
    // Plain assignment to `__proto__` would set the prototype.
    if (text !== undefined && text.length <= LONGEST_CLAIM && name !== '__proto__') claims[name] = text;
  }
  return { claims, ...(withheld === undefined ? {} : { withheld }) };
}

function untrueRef(payload: JsonObject): string | undefined {
  const event = payload['event_name'];
  if (event !== undefined && !(typeof event === 'string' && TRUE_EVENTS.has(event))) {
    return 'the event that started the job may run code of others under this ref (only push, workflow_dispatch, schedule and release are believed)';
  }
  const source = payload['pipeline_source'];
  const path = payload['ref_path'];
  if (source !== undefined || path !== undefined) {
    if (!(typeof source === 'string' && TRUE_SOURCES.has(source))) {
      return 'what started the pipeline may run code of others under this ref, such as that of a merge request (only push, web, schedule, api, trigger and pipeline are believed)';
    }
    if (!(typeof path === 'string' && /^refs\/(heads|tags)\/./.test(path))) {
      return 'the pipeline does not run for a branch or tag by its full path (ref_path)';
    }
  }
  return undefined;
}

/** Whether the job runs in another project than `project_id` names: that of a merge request from a fork. */
export function isForeignJob(payload: JsonObject): boolean {
  const job = payload['job_project_id'];
  return job !== undefined && claimText(job) !== claimText(payload['project_id']);
}

/** Names of whoever set the job off: they may not approve what it asks for. */
export function actorsOf(payload: JsonObject): string[] {
  return ['actor', 'user_login', 'user_email'].flatMap((name) => {
    const value = payload[name];
    return typeof value === 'string' && value !== '' ? [value] : [];
  });
}

/** A claim as text: booleans and whole numbers by their one spelling; undefined for everything else. */
export function claimText(value: JsonValue | undefined): string | undefined {
  if (typeof value === 'string') return value;
  if (typeof value === 'boolean') return String(value);
  return typeof value === 'number' && Number.isSafeInteger(value) && !Object.is(value, -0) ? String(value) : undefined;
}
