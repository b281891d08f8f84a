// Jira's REST API, as far as tickets need it: Cloud's version 3 (Basic, ADF, accountId, paged changelog and comments) and
// Data Center's version 2 (Bearer, wiki markup, key, expand=changelog).
import type { TestCertificates } from './certificates.ts';
import { type HttpsDouble, type Reply, startHttpsDouble } from './https-double.ts';

export interface JiraIssue {
  key: string;
  status: { id: string; name: string };
  assignee?: string;
  history: { created: string; author: string; to: string; field?: string }[];
  comments: string[];
}
export interface JiraDouble extends HttpsDouble {
  username: string;
  token: string;
  issues: Map<string, JiraIssue>;
  people: Map<string, { emailAddress: string; displayName: string }>;
}

const PAGE = 2;

export async function startJira(certificates: TestCertificates): Promise<JiraDouble> {
  const username = 'bot@corp.example';
  const token = 'ATATT3xSECRETJIRA';
  const issues = new Map<string, JiraIssue>();
  const people: JiraDouble['people'] = new Map();
  const person = (account: string | undefined, cloud: boolean): unknown =>
    account === undefined
      ? null
      : cloud
        ? { accountId: account, ...people.get(account) }
        : { key: account, name: account, ...people.get(account) };
  const missing: Reply = {
    status: 404,
    body: { errorMessages: ['Issue does not exist or you do not have permission to see it.'], errors: {} },
  };
  const double = await startHttpsDouble(certificates, (call) => {
    const [, version, key = '', rest = ''] = /^\/rest\/api\/([23])\/issue\/([^/]+)(?:\/(.*))?$/.exec(call.path) ?? [];
    const cloud = version === '3';
    const expected = cloud ? `Basic ${Buffer.from(`${username}:${token}`).toString('base64')}` : `Bearer ${token}`;
    if (call.headers['authorization'] !== expected)
      return { status: 401, body: { message: 'Client must be authenticated' } };
    if (version === undefined) return { status: 404, body: 'no such page' };
    const issue = issues.get(decodeURIComponent(key));
    if (issue === undefined) return missing;
    const start = Number(call.query.get('startAt') ?? 0);
    const histories = issue.history.map((each, id) => ({
      id: String(id),
      created: each.created,
      author: person(each.author, cloud),
      items: [{ field: each.field ?? 'status', to: each.to }],
    }));
    switch (`${call.method} ${rest}`) {
      case 'GET ':
        return {
          status: 200,
          body: {
            id: '10000',
            key: issue.key,
            fields: { status: issue.status, assignee: person(issue.assignee, cloud) },
            ...(call.query.get('expand') === 'changelog' ? { changelog: { total: histories.length, histories } } : {}),
          },
        };
      case 'GET changelog':
        return {
          status: 200,
          body: {
            startAt: start,
            maxResults: PAGE,
            total: histories.length,
            isLast: start + PAGE >= histories.length,
            values: histories.slice(start, start + PAGE),
          },
        };
      case 'GET comment':
        return {
          status: 200,
          body: {
            startAt: start,
            maxResults: PAGE,
            total: issue.comments.length,
            comments: issue.comments.slice(start, start + PAGE).map((body, id) => ({ id: String(start + id), body })),
          },
        };
      case 'POST comment': {
        const { body } = JSON.parse(call.body) as { body: unknown };
        if (cloud !== (typeof body === 'object')) return { status: 400, body: { errors: { comment: 'not valid' } } };
        issue.comments.push(typeof body === 'string' ? body : textOf(body));
        return { status: 201, body: { id: String(issue.comments.length) } };
      }
      default:
        return { status: 405, body: '' };
    }
  });
  return { ...double, username, token, issues, people };
}

/** Text of an Atlassian document, a line a paragraph. */
function textOf(node: unknown): string {
  const { type, text, content = [] } = node as { type: string; text?: string; content?: unknown[] };
  if (type === 'text') return text ?? '';
  return content.map(textOf).join(type === 'doc' ? '\n' : '');
}
