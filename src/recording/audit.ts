// Answers to an auditor's questions, from the facts in the records. Streams over the store; memory grows with sessions
// that are open at one time, not with records. Every answer comes from pieces with a good signature or, marked as not
// sealed, from the live log; pieces that had to be passed over go to `onProblem`.
import type { CommandBody, EndBody, RecordEnvelope, ResultBody, StartBody } from './envelope.ts';
import { CONTROL_STREAM } from './layout.ts';
import { findStart, readRecords, readSession } from './reader.ts';
import type { StoreView } from './store-view.ts';

export interface AuditFilter {
  /** RFC 3339 UTC with milliseconds. */
  since?: string;
  /** Exact user name. */
  user?: string;
  /** `name` or `namespace/name`. */
  connection?: string;
  onProblem?: (problem: { piece: string; message: string }) => void;
}

export interface SessionSummary {
  session: string;
  username: string;
  /** `namespace/name` */
  connection: string;
  account: string;
  grant: string;
  policy: string;
  client: string;
  started: string;
  /** Absent while it lives. */
  ended?: string;
  reason?: string;
  commands: number;
  denied: number;
  held: number;
  rows: number;
  masked: number;
  errors: number;
}

/** Sessions in the order in which they ended, then those that live. */
export function* listSessions(view: StoreView, filter: AuditFilter = {}): Generator<SessionSummary> {
  const open = new Map<string, SessionSummary>();
  for (const { record, start } of withStart(view, filter)) {
    let summary = open.get(record.stream);
    if (summary === undefined) {
      summary = summaryOf(record.stream, start);
      open.set(record.stream, summary);
    }
    count(summary, record);
    if (record.kind !== 'end') continue;
    open.delete(record.stream);
    yield summary;
  }
  yield* open.values();
}

function summaryOf(session: string, start: RecordEnvelope<StartBody>): SessionSummary {
  const { body } = start;
  return {
    session,
    username: body.principal.username,
    connection: `${body.connection.namespace}/${body.connection.name}`,
    account: body.account,
    grant: body.grant.name,
    policy: body.grant.policy,
    client: body.client.address,
    started: start.ts,
    commands: 0,
    denied: 0,
    held: 0,
    rows: 0,
    masked: 0,
    errors: 0,
  };
}

function count(summary: SessionSummary, record: RecordEnvelope): void {
  if (record.kind === 'command') {
    const { decision, hold } = record.body as CommandBody;
    summary.commands += 1;
    if (decision === 'Deny') summary.denied += 1;
    if (decision === 'Hold' || hold !== undefined) summary.held += 1;
  } else if (record.kind === 'result') {
    const { rows, masked, error } = record.body as ResultBody;
    summary.rows += rows ?? 0;
    summary.masked += masked ?? 0;
    if (error !== undefined) summary.errors += 1;
  } else if (record.kind === 'end') {
    summary.ended = record.ts;
    summary.reason = (record.body as EndBody).reason;
  }
}

export interface ColumnRead {
  at: string;
  session: string;
  username: string;
  connection: string;
  account: string;
  command: number;
  verb: string;
  text: string;
  /** The columns of this command that match. A part that the gateway did not know is `*`. */
  columns: readonly string[];
  /**
   * Returned: the server said that values of the answer come from the column. Used: the command names it.
   * Possible: the command touches its table, and which columns is not known.
   */
  how: 'Returned' | 'Used' | 'Possible';
  /** Masked: values of this answer were masked. Clear: none was. Refused: the command did not run. Unknown: no result is recorded. */
  outcome: 'Masked' | 'Clear' | 'Refused' | 'Failed' | 'Unknown';
  rows: number;
  maskedValues: number;
}

/** Connection, schema, table and column; each may be `*`. */
export interface ColumnPattern {
  connection: string;
  parts: readonly [string, string, string];
}

/** `orders-db/public.cards.number`, `payments/orders-db/public.cards.*`; undefined if it is neither. */
export function parseColumnPattern(text: string): ColumnPattern | undefined {
  const slash = text.lastIndexOf('/');
  if (slash < 1) return undefined;
  const parts = splitPath(text.slice(slash + 1));
  if (parts.length !== 3 || parts.some((part) => part === '')) return undefined;
  return { connection: text.slice(0, slash), parts: [parts[0]!, parts[1]!, parts[2]!] };
}

/** The last dots separate: names that hold dots themselves are the schema's in facts that are not quoted. */
function splitPath(path: string): string[] {
  const parts = path.split('.');
  return parts.length <= 3 ? parts : [parts.slice(0, -2).join('.'), ...parts.slice(-2)];
}

interface Asked {
  record: RecordEnvelope<CommandBody>;
  start: RecordEnvelope<StartBody>;
  columns: readonly string[];
  possible: boolean;
  relation: boolean;
}
/** Commands of one session whose results are awaited; a pipeline deeper than this is answered as Unknown. */
const MOST_AWAITED = 4096;

/** Who read a column, in the order of the records. */
export function* columnReads(view: StoreView, pattern: ColumnPattern, filter: AuditFilter = {}): Generator<ColumnRead> {
  const awaited = new Map<string, Map<number, Asked>>();
  const narrowed = pattern.connection === '*' ? filter : { ...filter, connection: pattern.connection };
  for (const { record, start } of withStart(view, narrowed)) {
    const asked = awaited.get(record.stream);
    if (record.kind === 'command') {
      const body = record.body as CommandBody;
      const touches = touched(body, pattern);
      const one: Asked = { record: record as RecordEnvelope<CommandBody>, start, ...touches };
      if (body.decision === 'Deny') {
        if (touches.columns.length > 0 || touches.possible) yield answer(one, undefined);
        continue;
      }
      const map = asked ?? new Map<number, Asked>();
      awaited.set(record.stream, map);
      if (map.size >= MOST_AWAITED) {
        const [oldest] = map;
        map.delete(oldest![0]);
        if (relevant(oldest![1])) yield answer(oldest![1], undefined);
      }
      map.set(body.id, one);
    } else if (record.kind === 'result') {
      const body = record.body as ResultBody;
      const one = asked?.get(body.id);
      if (one === undefined) continue;
      asked?.delete(body.id);
      const read = answer(one, body, matching(strings(body.facts, 'origins'), pattern));
      if (read.how === 'Returned' || relevant(one)) yield read;
    } else if (record.kind === 'end' && asked !== undefined) {
      awaited.delete(record.stream);
      for (const one of asked.values()) if (relevant(one)) yield answer(one, undefined);
    }
  }
  for (const asked of awaited.values())
    for (const one of asked.values()) if (relevant(one)) yield answer(one, undefined);
}

const relevant = (asked: Asked): boolean => asked.columns.length > 0 || asked.possible;

function touched(
  body: CommandBody,
  pattern: ColumnPattern,
): { columns: string[]; possible: boolean; relation: boolean } {
  const columns = matching(strings(body.facts, 'columns'), pattern);
  const [schema, table] = pattern.parts;
  const relation = strings(body.facts, 'relations').some((name) => {
    const dot = name.lastIndexOf('.');
    return alike(name.slice(0, dot), schema) && alike(name.slice(dot + 1), table);
  });
  const exact = columns.filter((column) => !splitPath(column).includes('*'));
  const unknown = columns.length > exact.length && relation;
  return {
    columns: exact.length > 0 ? exact : unknown ? columns : [],
    possible: unknown && exact.length === 0,
    relation,
  };
}

function answer(asked: Asked, result: ResultBody | undefined, origins: readonly string[] = []): ColumnRead {
  const { record, start } = asked;
  const { body } = record;
  const masked = result?.masked ?? 0;
  const ran =
    result === undefined ? 'Unknown' : result.error !== undefined ? 'Failed' : masked > 0 ? 'Masked' : 'Clear';
  return {
    at: record.ts,
    session: record.stream,
    username: start.body.principal.username,
    connection: `${start.body.connection.namespace}/${start.body.connection.name}`,
    account: start.body.account,
    command: body.id,
    verb: body.verb,
    text: body.text,
    columns: origins.length > 0 ? origins : asked.columns,
    how: origins.length > 0 ? 'Returned' : asked.possible ? 'Possible' : 'Used',
    outcome: body.decision === 'Deny' ? 'Refused' : ran,
    rows: result?.rows ?? 0,
    maskedValues: masked,
  };
}

function strings(facts: Readonly<Record<string, unknown>> | undefined, name: string): readonly string[] {
  const own = facts?.['postgresql'];
  const list = typeof own === 'object' && own !== null ? (own as Record<string, unknown>)[name] : undefined;
  return Array.isArray(list) ? list.filter((one) => typeof one === 'string') : [];
}

function matching(columns: readonly string[], { parts }: ColumnPattern): string[] {
  return columns.filter((column) => {
    if (column === '*') return true;
    const own = splitPath(column);
    return own.length === 3 && own.every((part, index) => alike(part, parts[index]!));
  });
}

/** A part that is not known may be any. */
const alike = (fact: string, wanted: string): boolean => fact === '*' || wanted === '*' || fact === wanted;

export interface UnsignedCommand {
  at: string;
  session: string;
  username: string;
  connection: string;
  command: number;
  verb: string;
  text: string;
  actions: readonly string[];
}

/** Commands that ran with one of these actions and that nobody approved. Default: changes of schema and privileges. */
export function* commandsWithoutSignOff(
  view: StoreView,
  filter: AuditFilter = {},
  actions: readonly string[] = ['Define', 'Grant'],
): Generator<UnsignedCommand> {
  for (const { record, start } of withStart(view, filter)) {
    if (record.kind !== 'command') continue;
    const body = record.body as CommandBody;
    if (body.decision !== 'Allow' || (body.approvedBy ?? []).length > 0) continue;
    const found = body.effects.map(({ action }) => action).filter((action) => actions.includes(action));
    if (found.length === 0) continue;
    yield {
      at: record.ts,
      session: record.stream,
      username: start.body.principal.username,
      connection: `${start.body.connection.namespace}/${start.body.connection.name}`,
      command: body.id,
      verb: body.verb,
      text: body.text,
      actions: [...new Set(found)],
    };
  }
}

export interface FoundDenial {
  record: RecordEnvelope<CommandBody>;
  start: RecordEnvelope<StartBody> | undefined;
}

/** The command that was refused under this id (`d-51c0`); the latest if ids came up twice. */
export function findDenial(view: StoreView, denial: string): FoundDenial | undefined {
  let found: RecordEnvelope | undefined;
  for (const item of readRecords(view, { containing: `"denial":${JSON.stringify(denial)}` })) {
    if (item.kind !== 'Record') continue;
    const { denial: own } = item.record.body as { denial?: unknown };
    if (own === denial && (found === undefined || item.record.ts >= found.ts)) found = item.record;
  }
  if (found === undefined) return undefined;
  return { record: found as RecordEnvelope<CommandBody>, start: startOf(view, found) };
}

function startOf(view: StoreView, record: RecordEnvelope): RecordEnvelope<StartBody> | undefined {
  const sealed = findStart(view, record.stream, record.ts.slice(0, 10));
  if (sealed !== undefined) return sealed as RecordEnvelope<StartBody>;
  for (const item of readSession(view, record.stream)) {
    if (item.kind === 'Record' && item.record.kind === 'start') return item.record as RecordEnvelope<StartBody>;
  }
  return undefined;
}

/** Records of sessions that pass the filter, each with its session's start. */
export function* withStart(
  view: StoreView,
  filter: AuditFilter,
): Generator<{ record: RecordEnvelope; start: RecordEnvelope<StartBody> }> {
  const starts = new Map<string, RecordEnvelope<StartBody> | undefined>();
  for (const item of readRecords(view, filter.since === undefined ? {} : { since: filter.since })) {
    if (item.kind === 'Problem') {
      filter.onProblem?.(item);
      continue;
    }
    const { record } = item;
    if (record.stream === CONTROL_STREAM) continue;
    let start = starts.get(record.stream);
    if (start === undefined && !starts.has(record.stream)) {
      start = record.kind === 'start' ? (record as RecordEnvelope<StartBody>) : startOf(view, record);
      starts.set(record.stream, start);
    }
    if (start !== undefined && passes(start.body, filter)) yield { record, start };
    if (record.kind === 'end') starts.delete(record.stream);
  }
}

function passes(start: StartBody, filter: AuditFilter): boolean {
  const { namespace, name } = start.connection;
  if (filter.user !== undefined && start.principal.username !== filter.user) return false;
  return filter.connection === undefined || filter.connection === name || filter.connection === `${namespace}/${name}`;
}
