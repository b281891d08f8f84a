// Tells a session to people: who, and then each event in its order with the time it happened. Bodies are read with
// suspicion, since unknown kinds and missing members must not keep anybody from reading the rest. Pure.
import type {
  CommandBody,
  EndBody,
  HoldBody,
  OutputBody,
  RecordEnvelope,
  ResizeBody,
  ResultBody,
  StartBody,
} from './envelope.ts';
import { commandFacts, resultFacts } from './ssh-facts.ts';
import { alignedTable, byteCount, harmlessBlock, harmlessLine } from './text.ts';

type Loose<T> = { readonly [K in keyof T]?: T[K] | null };
const INDENT = '    ';

export interface Teller {
  /** Empty where more of the same stream may follow. */
  tell(record: RecordEnvelope): string;
  end(): string;
}

/** Text that is shown of one stream at once. */
const MOST_TEXT = 16 * 1024;

/** Tells records in their order; output of a stream that came in many pieces is told at once, and of terminals its length. */
export function createTeller(): Teller {
  let before: RecordEnvelope | undefined;
  let pending: { first: RecordEnvelope; key: string; text: string; bytes: number; binary: boolean } | undefined;

  const flush = (): string => {
    if (pending === undefined) return '';
    const { first, text: said, bytes, binary } = pending;
    pending = undefined;
    const body: Loose<OutputBody> = typeof first.body === 'object' && first.body !== null ? first.body : {};
    const isTerminal = body.stream === 'terminal' && body.own !== true;
    const shown = isTerminal || said === '' ? '' : harmlessBlock(said.slice(0, MOST_TEXT).replace(/\n$/, ''), INDENT);
    const left =
      said.length > MOST_TEXT && !isTerminal ? `${INDENT}… ${byteCount(said.length - MOST_TEXT)} more\n` : '';
    const how = binary ? ', not text' : isTerminal ? ', see it with --play' : '';
    const line = `#${text(body.id)} ${body.own === true ? 'Sallyport said' : `${text(body.stream)}: ${byteCount(bytes)}${how}`}\n`;
    const told = `${headed(first, before)}${line}${shown}${left}`;
    before = first;
    return told;
  };

  return {
    tell(record) {
      if (record.kind === 'output' && typeof record.body === 'object' && record.body !== null) {
        const body: Loose<OutputBody> = record.body;
        const key = JSON.stringify([record.channel, body.id, body.stream, body.own === true]);
        const told = pending !== undefined && pending.key !== key ? flush() : '';
        pending ??= { first: record, key, text: '', bytes: 0, binary: false };
        if (typeof body.bytes === 'number') pending.bytes += body.bytes;
        if (typeof body.text === 'string' && pending.text.length <= MOST_TEXT) pending.text += body.text;
        if (typeof body.base64 === 'string') pending.binary = true;
        return told;
      }
      const told = flush() + replayEvent(record, before);
      before = record;
      return told;
    },
    end: flush,
  };
}

/** Text of one event, newline at its end. The day is written where it differs from the event before. */
export function replayEvent(record: RecordEnvelope, before: RecordEnvelope | undefined): string {
  return headed(record, before) + describe(record);
}

function headed(record: RecordEnvelope, before: RecordEnvelope | undefined): string {
  const day = record.ts.slice(0, 10);
  const header = before === undefined || before.ts.slice(0, 10) !== day ? `--- ${harmlessLine(day)} ---\n` : '';
  const time = harmlessLine(record.ts.slice(11));
  const channel = record.channel === undefined ? '' : ` [${record.channel}]`;
  return `${header}${time}${channel}  `;
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
      case 'resize':
        return resized(body);
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
  const { connection, grant, principal, client, login } = body;
  const groups = principal?.groups ?? [];
  return (
    `${text(principal?.username)} began a ${text(body.protocol)} session on ${text(connection?.namespace)}/${text(connection?.name)} as ${text(body.account)}\n` +
    `${INDENT}grant ${text(grant?.name)} under policy ${text(grant?.policy)}, from ${text(client?.address)}` +
    `${client?.application ? ` (${text(client.application)})` : ''}${groups.length > 0 ? `, groups ${groups.map(text).join(', ')}` : ''}\n` +
    `${INDENT}let in by ${letInBy(login)}\n`
  );
}

/** What opened it, as far as the records name it. */
function letInBy(login: StartBody['login'] | null): string {
  if (login === undefined || login === null) return 'a ticket of the grant';
  const { provider, use, issuedAt, jti, keyId, serial, authority } = login;
  if (use === 'Key') return 'the grant’s key';
  if (use === 'Certificate')
    return `certificate ${text(keyId)} (serial ${text(serial)}) of authority ${text(authority)}, provider ${text(provider)}`;
  return `a token of provider ${text(provider)} (${text(use)}) issued at ${text(issuedAt)}${jti ? `, id ${text(jti)}` : ''}`;
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
    (body.text ? harmlessBlock(String(body.text), INDENT) : '') +
    (parameters.length > 0 ? alignedTable(parameters, { indent: INDENT, widest: 200 }) : '') +
    commandFacts(body.facts)
      .map((fact) => `${INDENT}${text(fact)}\n`)
      .join('') +
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
  return `#${text(body.id)} ${body.error ? 'failed' : 'answered'}${said.length > 0 ? `: ${said.join(', ')}` : ''}\n${failed}${resultFacts(
    body.facts,
  )
    .map((fact) => `${INDENT}${text(fact)}\n`)
    .join('')}${table}${left}`;
}

function resized(body: Loose<ResizeBody>): string {
  return `#${text(body.id)} terminal of ${text(body.columns)} columns and ${text(body.rows)} rows\n`;
}

function hold(body: Loose<HoldBody>): string {
  const by = (body.by ?? []).map(text).join(', ');
  return `hold ${text(body.hold)} ${text(body.event)}${by === '' ? '' : ` by ${by}`}${body.reason ? `: ${text(body.reason)}` : ''}\n`;
}

function ended(body: Loose<EndBody> & { by?: unknown }): string {
  const who = body.by === 'recovery' ? ' (written by recovery)' : '';
  return `ended: ${text(body.reason)}${who}${body.message ? `\n${INDENT}${text(body.message)}` : ''}\n${
    Array.isArray(body.survivors) && body.survivors.length > 0
      ? `${INDENT}still running at the target: ${body.survivors.map(text).join(', ')}\n`
      : ''
  }`;
}

function other(kind: string, body: object): string {
  return `${harmlessLine(kind)}: ${harmlessLine(JSON.stringify(body))}\n`;
}
