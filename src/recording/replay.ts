// Tells a session to people: who, and then each event in its order with the time it happened. Bodies are read with
// suspicion, since unknown kinds and missing members must not keep anybody from reading the rest. Pure.
import type { CommandBody, EndBody, HoldBody, RecordEnvelope, ResultBody, StartBody } from './envelope.ts';
import { alignedTable, byteCount, harmlessBlock, harmlessLine } from './text.ts';

type Loose<T> = { readonly [K in keyof T]?: T[K] | null };
const INDENT = '    ';

/** Text of one event, newline at its end. The day is written where it differs from the event before. */
export function replayEvent(record: RecordEnvelope, before: RecordEnvelope | undefined): string {
  const day = record.ts.slice(0, 10);
  const header = before === undefined || before.ts.slice(0, 10) !== day ? `--- ${harmlessLine(day)} ---\n` : '';
  const time = harmlessLine(record.ts.slice(11));
  const channel = record.channel === undefined ? '' : ` [${record.channel}]`;
  return `${header}${time}${channel}  ${describe(record)}`;
}

function describe(record: RecordEnvelope): string {
  const body = typeof record.body === 'object' && record.body !== null ? record.body : {};
  try {
    switch (record.kind) {
      case 'start':
        return started(body);
      case 'command':
        return command(body);
      case 'result':
        return result(body);
      case 'hold':
        return hold(body);
      case 'end':
        return ended(body);
      default:
        return other(record.kind, body);
    }
  } catch {
    // Members of other types than the envelope says.
    return other(record.kind, body);
  }
}

const text = (value: unknown): string =>
  harmlessLine(typeof value === 'string' ? value : value === undefined ? '' : JSON.stringify(value));

function started(body: Loose<StartBody>): string {
  const { connection, grant, principal, client } = body;
  const groups = principal?.groups ?? [];
  return (
    `${text(principal?.username)} began a ${text(body.protocol)} session on ${text(connection?.namespace)}/${text(connection?.name)} as ${text(body.account)}\n` +
    `${INDENT}grant ${text(grant?.name)} under policy ${text(grant?.policy)}, from ${text(client?.address)}` +
    `${client?.application ? ` (${text(client.application)})` : ''}${groups.length > 0 ? `, groups ${groups.map(text).join(', ')}` : ''}\n`
  );
}

function rules(by: CommandBody['by'] | null): string {
  return (by ?? []).map(({ policy, rule }) => `${text(policy)} "${text(rule)}"`).join(', ');
}

function command(body: Loose<CommandBody>): string {
  const by = rules(body.by);
  const approvers = (body.approvedBy ?? []).map(text).join(', ');
  const verdict = {
    Allow: `allowed${by === '' ? '' : ` by ${by}`}`,
    Deny: `refused${by === '' ? '' : ` by ${by}`}${body.denial ? ` (denial ${text(body.denial)})` : ''}${body.code ? ` ${text(body.code)}` : ''}`,
    Hold: `held${by === '' ? '' : ` by ${by}`}`,
  }[body.decision ?? 'Allow'];
  const held = body.hold ? `, hold ${text(body.hold)}` : '';
  const approved = approvers === '' ? '' : `, approved by ${approvers}`;
  const warnings =
    (body.warnings ?? []).length > 0 ? `${INDENT}would have been stopped by ${rules(body.warnings)}\n` : '';
  const parameters = (body.parameters ?? []).map((value, index) => [
    `$${index + 1}`,
    value === null ? 'NULL' : quoted(value),
  ]);
  return (
    `#${text(body.id)} ${text(body.verb)}: ${verdict}${held}${approved}\n` +
    harmlessBlock(String(body.text ?? ''), INDENT) +
    (parameters.length > 0 ? alignedTable(parameters, { indent: INDENT, widest: 200 }) : '') +
    (body.message ? `${INDENT}${text(body.message)}\n` : '') +
    warnings
  );
}

const quoted = (value: string): string => `'${value.replaceAll("'", "''")}'`;

function result(body: Loose<ResultBody>): string {
  const said = [
    body.tag ? text(body.tag) : '',
    typeof body.rows === 'number' ? `${body.rows} ${body.rows === 1 ? 'row' : 'rows'}` : '',
    typeof body.bytes === 'number' ? byteCount(body.bytes) : '',
    body.masked ? `${text(body.masked)} values masked` : '',
    typeof body.durationMs === 'number' ? `${body.durationMs} ms` : '',
  ].filter((part) => part !== '');
  const failed = body.error ? `${INDENT}error ${text(body.error.code)}: ${text(body.error.message)}\n` : '';
  const rows = body.sample ?? [];
  const head = body.columns ? [body.columns.map(String)] : [];
  const shown = rows.map((row) => row.map((cell) => cell ?? 'NULL'));
  const table = rows.length === 0 ? '' : alignedTable([...head, ...shown], { indent: INDENT });
  const left =
    typeof body.rows === 'number' && rows.length > 0 && body.rows > rows.length
      ? `${INDENT}… ${body.rows - rows.length} rows more\n`
      : '';
  return `#${text(body.id)} ${body.error ? 'failed' : 'answered'}${said.length > 0 ? `: ${said.join(', ')}` : ''}\n${failed}${table}${left}`;
}

function hold(body: Loose<HoldBody>): string {
  const by = (body.by ?? []).map(text).join(', ');
  return `hold ${text(body.hold)} ${text(body.event)}${by === '' ? '' : ` by ${by}`}${body.reason ? `: ${text(body.reason)}` : ''}\n`;
}

function ended(body: Loose<EndBody> & { by?: unknown }): string {
  const who = body.by === 'recovery' ? ' (written by recovery)' : '';
  return `ended: ${text(body.reason)}${who}${body.message ? `\n${INDENT}${text(body.message)}` : ''}\n`;
}

function other(kind: string, body: object): string {
  return `${harmlessLine(kind)}: ${harmlessLine(JSON.stringify(body))}\n`;
}
