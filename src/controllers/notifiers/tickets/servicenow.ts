// ServiceNow-shaped tickets by the Table API. Source: docs.servicenow.com, "Table API" (GET and PATCH
// /api/now/table/…, sysparm_query, sysparm_fields, sysparm_exclude_reference_link, rate limits as 429 with Retry-After)
// and its tables sysapproval_approver and sys_journal_field. Who approved: approvers in state approved, and the record's
// own `approval` says approved. Guarantees: a record whose number is not exactly the one asked for is Absent, so is one of
// several; nothing of a request's text reaches a query but a ticket's number, whose characters mean nothing there.
import type { NotifierSpec } from '../../../api/notifier.ts';
import { type HttpsAnswer, itemsOf, jsonOf, membersOf, textIn } from '../https.ts';
import { headerSecret, hostsOf, SecretUnfit } from '../media/medium.ts';
import { textOf } from '../message.ts';
import type { SecretData } from '../secrets.ts';
import { type TicketSystemOptions, ticketHost } from './rest.ts';
import { isTicketKey, type TicketApprover, type TicketSystem } from './system.ts';

const MOST_APPROVERS = 100;

type Found =
  | { kind: 'Found'; record: Readonly<Record<string, unknown>>; id: string }
  | { kind: 'Absent' }
  | { kind: 'Failed'; answer: HttpsAnswer }
  | { kind: 'Senseless' };

export function serviceNowSystem(options: TicketSystemOptions<NonNullable<NotifierSpec['serviceNow']>>): TicketSystem {
  const { spec, secretName } = options;
  const host = ticketHost(options);
  const { base, failure, unknown, senseless } = host;
  const table = spec.table ?? 'change_request';
  type Call = (
    path: string,
    query: Record<string, string>,
    signal: AbortSignal,
    body?: unknown,
  ) => Promise<HttpsAnswer>;

  const open = async (): Promise<Call> => {
    const secret = await options.readSecret();
    const hosts = hostsOf(secret, base, secretName);
    const authorization = authorizationOf(secret, secretName);
    return (path, query, signal, body) =>
      host.call(
        {
          method: body === undefined ? 'GET' : 'PATCH',
          path: `api/now/table/${path}`,
          query,
          body,
          hosts,
          authorization,
        },
        signal,
      );
  };

  const find = async (call: Call, ticket: string, signal: AbortSignal): Promise<Found> => {
    const answer = await call(
      table,
      {
        sysparm_query: `number=${ticket}`,
        sysparm_limit: '2',
        sysparm_fields: 'sys_id,number,state,approval,assigned_to',
        sysparm_display_value: 'all',
        sysparm_exclude_reference_link: 'true',
      },
      signal,
    );
    if (answer.kind === 'Answer' && answer.status === 404) return { kind: 'Absent' };
    if (answer.kind !== 'Answer' || answer.status !== 200) return { kind: 'Failed', answer };
    const result = membersOf(jsonOf(answer))['result'];
    if (!Array.isArray(result)) return { kind: 'Senseless' };
    if (result.length !== 1) return { kind: 'Absent' };
    const record = membersOf(result[0]);
    const id = valueOf(record['sys_id']);
    if (id === undefined || !/^[0-9a-f]{32}$/.test(id)) return { kind: 'Senseless' };
    return valueOf(record['number']) === ticket ? { kind: 'Found', record, id } : { kind: 'Absent' };
  };

  return {
    async read(ticket, approvals, signal) {
      if (!isTicketKey(ticket)) return { kind: 'Absent' };
      const call = await open();
      const found = await find(call, ticket, signal);
      if (found.kind === 'Absent') return found;
      if (found.kind === 'Failed') return unknown(found.answer);
      if (found.kind === 'Senseless') return senseless;
      const state = valueOf(found.record['state']);
      if (state === undefined) return senseless;
      const assignee = valueOf(found.record['assigned_to']);
      let approvedBy: TicketApprover[] = [];
      if (approvals && valueOf(found.record['approval']) === 'approved') {
        const answer = await call(
          'sysapproval_approver',
          {
            sysparm_query: `sysapproval=${found.id}^state=approved`,
            sysparm_limit: String(MOST_APPROVERS + 1),
            sysparm_fields: 'approver,approver.user_name,approver.email,approver.name',
            sysparm_exclude_reference_link: 'true',
          },
          signal,
        );
        if (answer.kind !== 'Answer' || answer.status !== 200) return unknown(answer);
        const result = membersOf(jsonOf(answer))['result'];
        if (!Array.isArray(result) || result.length > MOST_APPROVERS) return senseless;
        for (const each of result.map(membersOf)) {
          const account = valueOf(each['approver']);
          // One that can not be named could be anybody, the requester too.
          if (account === undefined) return senseless;
          const names = ['approver.user_name', 'approver.email', 'approver.name'].flatMap(
            (name) => valueOf(each[name]) ?? [],
          );
          approvedBy = [...approvedBy, { account, names }];
        }
      }
      return {
        kind: 'Read',
        state,
        stateName: textIn(membersOf(found.record['state'])['display_value']) ?? state,
        ...(assignee === undefined ? {} : { assignee }),
        approvedBy,
      };
    },

    async deliver(message, maybeSent, signal) {
      const ticket = message.facts['ticket'] ?? '';
      if (!isTicketKey(ticket)) return { kind: 'Taken', nothing: true };
      const call = await open();
      const found = await find(call, ticket, signal);
      if (found.kind === 'Failed') return failure(found.answer);
      if (found.kind === 'Absent') return { kind: 'Refused', reason: `${base.host} has no ${ticket} in ${table}` };
      if (found.kind === 'Senseless') return { kind: 'Unavailable', reason: senseless.reason, sent: false };
      if (maybeSent) {
        const answer = await call(
          'sys_journal_field',
          {
            sysparm_query: `element_id=${found.id}^element=work_notes^valueLIKE${message.id}`,
            sysparm_limit: '1',
            sysparm_fields: 'sys_id',
          },
          signal,
        );
        if (answer.kind !== 'Answer' || (answer.status !== 200 && answer.status !== 404)) return failure(answer);
        if (itemsOf(membersOf(jsonOf(answer))['result']).length > 0) return { kind: 'Taken' };
      }
      // `[code]` would have the rest taken for HTML.
      const text = `${textOf(message)}\n(${message.id})`.replace(/\[(\/?code)/gi, '($1');
      const answer = await call(`${table}/${found.id}`, { sysparm_fields: 'sys_id' }, signal, { work_notes: text });
      if (answer.kind === 'Answer' && answer.status === 200) return { kind: 'Taken' };
      return failure(answer);
    },
  };
}

function authorizationOf(secret: SecretData, secretName: string): string {
  if (secret['token'] !== undefined) return `Bearer ${headerSecret(secret, 'token', secretName)}`;
  const { username, password } = secret;
  if (!username || !password)
    throw new SecretUnfit(`Secret ${secretName} has neither "token" nor both "username" and "password".`);
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

/** A field as text, plain or as `{value, display_value}`. */
function valueOf(field: unknown): string | undefined {
  return textIn(field) ?? textIn(membersOf(field)['value']);
}
