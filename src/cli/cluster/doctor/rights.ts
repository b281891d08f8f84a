// What this person may do, by the API server's own answers (SelfSubjectAccessReview), a verb of the command line each.
import { API_GROUP } from '../../../api/group.ts';
import type { Principal } from '../../../policy/principal.ts';
import { bindingSuffix, subjectFlag } from '../failures.ts';
import type { Check, Looker } from './check.ts';

export interface Asked {
  verb: string;
  resource: string;
  subresource?: string;
  name?: string;
  /** Default sallyport.dev. */
  group?: string;
  namespace?: string | undefined;
}

/** undefined: the API server does not say. */
export async function mayI(look: Looker, asked: Asked): Promise<boolean | undefined> {
  const { group = API_GROUP, ...rest } = asked;
  const found = await look.review<{ status?: { allowed?: boolean } }>(
    '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
    {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SelfSubjectAccessReview',
      spec: { resourceAttributes: { group, ...rest } },
    },
  );
  return found.kind === 'Seen' ? found.value.status?.allowed === true : undefined;
}

interface Duty {
  subject: string;
  role: string;
  needs: readonly (readonly [verb: string, resource: string])[];
  /** Whether everybody who uses Sallyport needs it. */
  everybody?: true;
}

const DUTIES: readonly Duty[] = [
  {
    subject: 'request, connect, status',
    role: 'sallyport-requester',
    everybody: true,
    needs: [
      ['get', 'connections'],
      ['list', 'connections'],
      ['list', 'accesspolicies'],
      ['get', 'accessgrants'],
      ['list', 'accessgrants'],
      ['watch', 'accessgrants'],
      ['create', 'accessgrants'],
      ['get', 'accessapprovals'],
      ['create', 'accessapprovals'],
    ],
  },
  {
    subject: 'pending, approve, deny, revoke',
    role: 'sallyport-approver',
    needs: [
      ['list', 'accessgrants'],
      ['list', 'commandholds'],
      ['get', 'commandholds'],
      ['create', 'accessapprovals'],
    ],
  },
  {
    subject: 'sessions, kill, lock, unlock',
    role: 'sallyport-security',
    needs: [
      ['list', 'accesssessions'],
      ['delete', 'accesssessions'],
      ['list', 'accesslocks'],
      ['create', 'accesslocks'],
      ['delete', 'accesslocks'],
    ],
  },
];

export async function checkRights(look: Looker, actor: Principal, namespace: string | undefined): Promise<Check[]> {
  const where = namespace === undefined ? 'in all namespaces' : `in namespace ${namespace}`;
  return Promise.all(
    DUTIES.map(async ({ subject, role, needs, everybody }): Promise<Check> => {
      const answers = await Promise.all(
        needs.map(async ([verb, resource]) => ({
          what: `${verb} ${resource}`,
          may: await mayI(look, { verb, resource, namespace }),
        })),
      );
      const check = { area: 'You', subject } as const;
      if (answers.some(({ may }) => may === undefined)) {
        return { ...check, state: 'Unknown', message: 'The API server does not say what you may do' };
      }
      const missing = answers.filter(({ may }) => may === false).map(({ what }) => what);
      if (missing.length === 0) return { ...check, state: 'Ok', message: `${actor.username} may, ${where}` };
      const line =
        namespace === undefined
          ? `kubectl create clusterrolebinding ${role}-${bindingSuffix(actor.username)} --clusterrole=${role} ${subjectFlag(actor.username)}`
          : `kubectl create rolebinding ${role}-${bindingSuffix(actor.username)} --clusterrole=${role} ${subjectFlag(actor.username)} -n ${namespace}`;
      return everybody === true
        ? {
            ...check,
            state: 'Warn',
            message: `${actor.username} may not ${missing.join(', ')} ${where}`,
            fix: `An admin types: ${line}`,
          }
        : { ...check, state: 'Ok', message: `Not ${actor.username}’s to do ${where} (${role} gives it)` };
    }),
  );
}
