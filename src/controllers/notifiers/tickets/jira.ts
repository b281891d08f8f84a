// Jira-shaped tickets. Sources: developer.atlassian.com/cloud/jira/platform/rest/v3 (issues, issue comments, changelogs;
// Basic with e-mail and API token, comments in ADF, people by accountId) and docs.atlassian.com/software/jira/docs/api/REST
// (Data Center: /rest/api/2, Bearer, comments in wiki markup, people by key). A Secret with `username` means the former.
// Who approved a ticket: whoever moved it into the state it is in. Guarantees: an answer about another key than the one
// asked for (a moved issue) is Absent; lists that do not end within 20 pages are Unknown.
import type { NotifierSpec } from '../../../api/notifier.ts';
import { type HttpsAnswer, itemsOf, jsonOf, type Members, membersOf, textIn } from '../https.ts';
import { headerSecret, hostsOf } from '../media/medium.ts';
import { textOf } from '../message.ts';
import { type TicketSystemOptions, ticketHost } from './rest.ts';
import { isTicketKey, type TicketApprover, type TicketSystem } from './system.ts';

const MOST_PAGES = 20;

export function jiraSystem(options: TicketSystemOptions<NonNullable<NotifierSpec['jira']>>): TicketSystem {
  const { secretName } = options;
  const { base, call, failure, unknown, senseless } = ticketHost(options);

  interface Session {
    cloud: boolean;
    call(path: string, signal: AbortSignal, body?: unknown): Promise<HttpsAnswer>;
  }
  const open = async (): Promise<Session> => {
    const secret = await options.readSecret();
    const token = headerSecret(secret, 'token', secretName);
    const { username } = secret;
    const hosts = hostsOf(secret, base, secretName);
    const authorization =
      username === undefined
        ? `Bearer ${token}`
        : `Basic ${Buffer.from(`${username.trim()}:${token}`).toString('base64')}`;
    return {
      cloud: username !== undefined,
      call: (path, signal, body) =>
        call(
          {
            method: body === undefined ? 'GET' : 'POST',
            path: `rest/api/${username === undefined ? 2 : 3}/${path}`,
            body,
            hosts,
            authorization,
          },
          signal,
        ),
    };
  };
  const issue = (key: string): string => `issue/${encodeURIComponent(key)}`;

  /** Every item of a paged list, oldest page first; undefined: it could not be read to its end. */
  const pages = async (
    session: Session,
    path: string,
    member: string,
    signal: AbortSignal,
  ): Promise<readonly Members[] | HttpsAnswer | undefined> => {
    const found: Members[] = [];
    for (let page = 0; page < MOST_PAGES; page += 1) {
      const separator = path.includes('?') ? '&' : '?';
      const answer = await session.call(`${path}${separator}startAt=${found.length}&maxResults=100`, signal);
      if (answer.kind !== 'Answer' || answer.status !== 200) return answer;
      const body = membersOf(jsonOf(answer));
      if (!Array.isArray(body[member]) || typeof body['total'] !== 'number') return undefined;
      const items = itemsOf(body[member]).map(membersOf);
      found.push(...items);
      if (items.length === 0 || found.length >= body['total']) return found;
    }
    return undefined;
  };

  return {
    async read(ticket, approvals, signal) {
      if (!isTicketKey(ticket)) return { kind: 'Absent' };
      const session = await open();
      const histories = approvals && !session.cloud ? '&expand=changelog' : '';
      const answer = await session.call(`${issue(ticket)}?fields=status,assignee${histories}`, signal);
      if (answer.kind === 'Answer' && answer.status === 404) return { kind: 'Absent' };
      if (answer.kind !== 'Answer' || answer.status !== 200) return unknown(answer);
      const body = membersOf(jsonOf(answer));
      const fields = membersOf(body['fields']);
      const status = membersOf(fields['status']);
      const state = textIn(status['id']);
      if (textIn(body['key']) === undefined || state === undefined) return senseless;
      if (body['key'] !== ticket) return { kind: 'Absent' };
      const assignee = personOf(fields['assignee'])?.account;
      let approvedBy: readonly TicketApprover[] = [];
      if (approvals) {
        const changes = session.cloud
          ? await pages(session, `${issue(ticket)}/changelog`, 'values', signal)
          : wholeChangelog(body);
        if (changes === undefined) return senseless;
        if (!isList(changes)) return unknown(changes);
        approvedBy = moversInto(state, changes);
      }
      return {
        kind: 'Read',
        state,
        stateName: textIn(status['name']) ?? state,
        ...(assignee === undefined ? {} : { assignee }),
        approvedBy,
      };
    },

    async deliver(message, maybeSent, signal) {
      const ticket = message.facts['ticket'] ?? '';
      if (!isTicketKey(ticket)) return { kind: 'Taken', nothing: true };
      const session = await open();
      const path = `${issue(ticket)}/comment`;
      if (maybeSent) {
        const there = await pages(session, path, 'comments', signal);
        if (there !== undefined && !isList(there) && !(there.kind === 'Answer' && there.status === 404))
          return failure(there);
        if (isList(there) && there.some((comment) => JSON.stringify(comment).includes(message.id)))
          return { kind: 'Taken' };
      }
      const text = `${textOf(message)}\n(${message.id})`;
      const answer = await session.call(path, signal, { body: session.cloud ? documentOf(text) : wikiEscaped(text) });
      if (answer.kind === 'Answer' && (answer.status === 201 || answer.status === 200)) return { kind: 'Taken' };
      return failure(answer);
    },
  };
}

const isList = (value: readonly Members[] | HttpsAnswer | undefined): value is readonly Members[] =>
  Array.isArray(value);

/** Data Center's whole changelog, where it is whole. */
function wholeChangelog(issue: Members): readonly Members[] | undefined {
  const changelog = membersOf(issue['changelog']);
  const histories = itemsOf(changelog['histories']).map(membersOf);
  return changelog['total'] === histories.length ? histories : undefined;
}

function personOf(value: unknown): TicketApprover | undefined {
  const person = membersOf(value);
  const account = textIn(person['accountId']) ?? textIn(person['key']);
  if (account === undefined) return undefined;
  const names = [person['name'], person['emailAddress'], person['displayName']].flatMap((each) => textIn(each) ?? []);
  return { account, names };
}

/** Who made the last change of status, if that was into `state`. */
function moversInto(state: string, changes: readonly Members[]): readonly TicketApprover[] {
  const moves = changes
    .flatMap((change) =>
      itemsOf(change['items'])
        .map(membersOf)
        .filter((item) => item['field'] === 'status')
        .map((item) => ({ atMs: Date.parse(String(change['created'] ?? '')), to: item['to'], by: change['author'] })),
    )
    .filter(({ atMs }) => !Number.isNaN(atMs))
    .sort((a, b) => a.atMs - b.atMs);
  const last = moves.at(-1);
  const by = last?.to === state ? personOf(last.by) : undefined;
  return by === undefined ? [] : [by];
}

/** Atlassian Document Format: text nodes are never parsed. */
function documentOf(text: string): unknown {
  return {
    type: 'doc',
    version: 1,
    content: text.split('\n').map((line) => ({
      type: 'paragraph',
      content: line === '' ? [] : [{ type: 'text', text: line }],
    })),
  };
}

/** Wiki markup has a backslash for every mark that means something. */
function wikiEscaped(text: string): string {
  return text.replace(/[\\{}[\]!|*_^~+?#@<>&%-]/g, (mark) =>
    /[<>&@%]/.test(mark) ? `&#${mark.charCodeAt(0)};` : `\\${mark}`,
  );
}
