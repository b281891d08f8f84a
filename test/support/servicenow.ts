// ServiceNow's Table API, as far as tickets need it: encoded queries (with their separators, so that what is not escaped
// is seen), sysparm_display_value, journals, approvals, 401, 429 with Retry-After.
import { hash } from 'node:crypto';
import type { TestCertificates } from './certificates.ts';
import { type HttpsDouble, startHttpsDouble } from './https-double.ts';

export interface Change {
  number: string;
  state: string;
  stateName: string;
  approval: string;
  assignedTo?: string;
  approvers: { account: string; state: string; userName: string; email: string; name: string }[];
  workNotes: string[];
}
export interface ServiceNowDouble extends HttpsDouble {
  username: string;
  password: string;
  changes: Map<string, Change>;
}

const idOf = (change: Change): string => hash('md5', change.number);

export async function startServiceNow(certificates: TestCertificates): Promise<ServiceNowDouble> {
  const username = 'sallyport.bot';
  const password = 'SECRETSNOW';
  const changes = new Map<string, Change>();
  const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  const all = (): Change[] => [...changes.values()];
  const double = await startHttpsDouble(certificates, (call) => {
    if (call.headers['authorization'] !== authorization)
      return { status: 401, body: { error: { message: 'User Not Authenticated', detail: '' }, status: 'failure' } };
    const [, table = '', id] = /^\/api\/now\/table\/([a-z_]+)(?:\/([0-9a-f]+))?$/.exec(call.path) ?? [];
    const terms = (call.query.get('sysparm_query') ?? '').split('^').filter(Boolean);
    const limit = Number(call.query.get('sysparm_limit') ?? 10_000);
    const term = (name: string): string | undefined =>
      terms.find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1);
    if (call.method === 'GET' && table === 'change_request') {
      const or = terms.some((each) => each.startsWith('OR'));
      const found = all().filter((change) => or || change.number === term('number'));
      return {
        status: 200,
        body: {
          result: found.slice(0, limit).map((change) => ({
            sys_id: { value: idOf(change), display_value: idOf(change) },
            number: { value: change.number, display_value: change.number },
            state: { value: change.state, display_value: change.stateName },
            approval: { value: change.approval, display_value: change.approval },
            assigned_to: { value: change.assignedTo ?? '', display_value: change.assignedTo ?? '' },
          })),
        },
      };
    }
    if (call.method === 'GET' && table === 'sysapproval_approver') {
      const change = all().find((each) => idOf(each) === term('sysapproval'));
      const found = (change?.approvers ?? []).filter(({ state }) => state === term('state'));
      return {
        status: 200,
        body: {
          result: found.slice(0, limit).map((by) => ({
            approver: by.account,
            'approver.user_name': by.userName,
            'approver.email': by.email,
            'approver.name': by.name,
          })),
        },
      };
    }
    if (call.method === 'GET' && table === 'sys_journal_field') {
      const change = all().find((each) => idOf(each) === term('element_id'));
      const like = terms.find((each) => each.startsWith('valueLIKE'))?.slice(9) ?? '';
      const found = (change?.workNotes ?? []).filter((note) => note.includes(like));
      return { status: 200, body: { result: found.slice(0, limit).map((_note, at) => ({ sys_id: String(at) })) } };
    }
    if (call.method === 'PATCH' && table === 'change_request') {
      const change = all().find((each) => idOf(each) === id);
      if (change === undefined) return { status: 404, body: { error: { message: 'No Record found' } } };
      change.workNotes.push((JSON.parse(call.body) as { work_notes: string }).work_notes);
      return { status: 200, body: { result: { sys_id: id } } };
    }
    return { status: 400, body: { error: { message: 'Invalid table' } } };
  });
  return { ...double, username, password, changes };
}
