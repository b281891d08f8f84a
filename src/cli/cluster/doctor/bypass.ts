// Who could reach a target without going through Sallyport, or take Sallyport apart: by the rights that RBAC gives in a
// namespace and over the cluster. Pure but for the gathering. None of it is Sallyport's to forbid; it is told so that
// somebody decides about it. Kubernetes' own controllers, nodes and the operator are left out.
import { type Connection, secretsOf } from '../../../api/connection.ts';
import type { Check, Looker } from './check.ts';
import {
  type Act,
  type Binding,
  type Holder,
  holdersOf,
  type Rbac,
  type Role,
  type Subject,
  subjectText,
} from './rbac.ts';
import { mayI } from './rights.ts';

interface Power {
  subject: string;
  acts: readonly Act[];
  /** What it is good for, after "may". */
  what: string;
  fix: string;
}

const EVERYTHING: Act = { verbs: ['*'], group: '*', resources: ['*'] };
const WRITE = ['create', 'update', 'patch'] as const;

/** `secrets`: those of the accounts; without any, reading Secrets leads to no credential of a target. */
function namespacePowers(secrets: readonly string[]): Power[] {
  return [
    ...(secrets.length === 0
      ? []
      : [
          {
            subject: 'credentials',
            acts: [{ verbs: ['get', 'list', 'watch'], group: '', resources: ['secrets'], names: secrets }],
            what: `read the credentials of the targets (Secrets ${secrets.slice(0, 5).join(', ')}${secrets.length > 5 ? ', …' : ''})`,
            fix: 'Take get, list and watch on these Secrets from people; whoever applies Connections needs get on them.',
          },
        ]),
    {
      subject: 'pods that mount Secrets',
      acts: [
        { verbs: ['create'], group: '', resources: ['pods', 'replicationcontrollers'] },
        { verbs: ['update', 'patch'], group: '', resources: ['replicationcontrollers'] },
        { verbs: WRITE, group: 'apps', resources: ['deployments', 'statefulsets', 'daemonsets', 'replicasets'] },
        { verbs: WRITE, group: 'batch', resources: ['jobs', 'cronjobs'] },
      ],
      what: 'run a pod that mounts any Secret of the namespace, or change the target’s own workload',
      fix: 'Keep the accounts’ Secrets, their Connections and the targets in a namespace where people do not deploy.',
    },
    {
      subject: 'into pods',
      acts: [
        {
          verbs: ['create', 'get'],
          group: '',
          resources: ['pods/exec', 'pods/attach', 'pods/portforward', 'pods/proxy'],
        },
        { verbs: ['update', 'patch'], group: '', resources: ['pods/ephemeralcontainers'] },
      ],
      what: 'go into the pods of the namespace or forward a port to a target there (proxies refuse it)',
      fix: 'Take pods/exec, pods/attach, pods/portforward and pods/ephemeralcontainers from people where targets run.',
    },
    {
      subject: 'tokens',
      acts: [{ verbs: ['create'], group: '', resources: ['serviceaccounts/token'] }],
      what: 'make tokens of the namespace’s ServiceAccounts and act as them (those of proxies are refused)',
      fix: 'Take create on serviceaccounts/token from people.',
    },
    {
      subject: 'impersonation',
      acts: [{ verbs: ['impersonate'], group: '', resources: ['users', 'groups', 'serviceaccounts'] }],
      what: 'act as somebody else, and so request and approve in one person',
      fix: 'Take impersonate from people, or narrow it by resourceNames.',
    },
    {
      subject: 'RBAC',
      acts: [{ verbs: ['escalate', 'bind'], group: 'rbac.authorization.k8s.io', resources: ['roles', 'clusterroles'] }],
      what: 'give themselves rights that they do not have (escalate, bind)',
      fix: 'Leave escalate and bind to admins.',
    },
  ];
}

const CLUSTER_POWERS: readonly Power[] = [
  {
    subject: 'admission',
    acts: [
      {
        verbs: ['update', 'patch', 'delete', 'deletecollection'],
        group: 'admissionregistration.k8s.io',
        resources: [
          'mutatingwebhookconfigurations',
          'validatingadmissionpolicies',
          'validatingadmissionpolicybindings',
        ],
      },
      {
        verbs: ['update', 'patch', 'delete', 'deletecollection'],
        group: 'apiextensions.k8s.io',
        resources: ['customresourcedefinitions'],
      },
    ],
    what: 'switch off the admission policies and the webhook, or change the kinds',
    fix: 'Leave admissionregistration.k8s.io and customresourcedefinitions to admins and to whoever installs Sallyport.',
  },
  {
    subject: 'nodes',
    acts: [{ verbs: ['get', 'create'], group: '', resources: ['nodes/proxy'] }],
    what: 'run commands in every pod through the kubelet (nodes/proxy)',
    fix: 'Take nodes/proxy from people; use nodes/metrics for monitoring.',
  },
];

const operatorKeys: Power = {
  subject: 'operator’s keys',
  acts: [
    { verbs: ['get', 'list', 'watch'], group: '', resources: ['secrets'], names: ['sallyport-keys'] },
    { verbs: ['create'], group: '', resources: ['pods', 'pods/exec'] },
    { verbs: WRITE, group: 'apps', resources: ['deployments', 'statefulsets', 'daemonsets', 'replicasets'] },
    { verbs: WRITE, group: 'batch', resources: ['jobs', 'cronjobs'] },
  ],
  what: 'read the keys that sign grants and policy, or run a pod that mounts them',
  fix: 'Nobody but admins belongs into the operator’s namespace.',
};

export interface BypassInput {
  rbac: Rbac;
  namespace: string;
  release: string;
  connections: readonly Connection[];
}

/** Pure. */
export function bypasses({ rbac, namespace, release, connections }: BypassInput): Check[] {
  const admins = withoutKubernetes(holdersOf(rbac, [EVERYTHING], undefined), release);
  const isAdmin = ({ subject }: Holder): boolean =>
    admins.some((admin) => subjectText(admin.subject) === subjectText(subject));
  const secrets = [...new Set(connections.flatMap(({ spec }) => secretsOf(spec)))];
  const judge = (power: Power, within: string | undefined): Check => {
    const holders = withoutKubernetes(holdersOf(rbac, power.acts, within), release).filter((each) => !isAdmin(each));
    const check = { area: 'Bypass', subject: power.subject } as const;
    return holders.length === 0
      ? { ...check, state: 'Ok', message: `Nobody but admins may ${power.what}` }
      : { ...check, state: 'Warn', message: `${listed(holders)} may ${power.what}`, fix: power.fix };
  };
  return [
    {
      area: 'Bypass',
      subject: 'admins',
      state: admins.every(({ subject }) => subject.kind === 'Group' && subject.name === 'system:masters')
        ? 'Ok'
        : 'Warn',
      message: `${admins.length === 0 ? 'Nobody' : listed(admins)} may do everything in this cluster, and so go around Sallyport`,
      fix: 'Keep cluster-admin for emergencies, few and watched by the API server’s audit log.',
    },
    ...namespacePowers(secrets).map((power) => judge(power, namespace)),
    ...CLUSTER_POWERS.map((power) => judge(power, undefined)),
    judge(operatorKeys, release),
  ];
}

/** Kubernetes' own controllers hold much by design and are nobody's to log in as. */
function withoutKubernetes(holders: readonly Holder[], release: string): Holder[] {
  return holders.filter(({ subject }) => !isKubernetes(subject) && !isOperator(subject, release));
}

const isKubernetes = ({ kind, name, namespace }: Subject): boolean =>
  kind === 'ServiceAccount'
    ? namespace === 'kube-system'
    : kind === 'User'
      ? /^system:(kube-controller-manager|kube-scheduler|kube-proxy|apiserver|node:.*)$/.test(name)
      : name === 'system:nodes' || name === 'system:serviceaccounts:kube-system';

const isOperator = ({ kind, name, namespace }: Subject, release: string): boolean =>
  kind === 'ServiceAccount' && namespace === release && name === 'sallyport';

function listed(holders: readonly Holder[]): string {
  const texts = holders.map(({ subject, by }) => `${subjectText(subject)} (${by})`);
  const shown = texts.slice(0, 6);
  return shown.join(', ') + (texts.length > shown.length ? ` and ${texts.length - shown.length} more` : '');
}

const RBAC_ROOT = '/apis/rbac.authorization.k8s.io/v1';

export async function checkBypasses(
  look: Looker,
  place: { namespace: string; release: string; connections: readonly Connection[] },
): Promise<Check[]> {
  const { namespace, release, connections } = place;
  const spaces = [...new Set([namespace, release])];
  const [clusterRoles, clusterRoleBindings, ...scoped] = await Promise.all([
    look.list<Role>(`${RBAC_ROOT}/clusterroles`),
    look.list<Binding>(`${RBAC_ROOT}/clusterrolebindings`),
    ...spaces.map(async (space) => ({
      roles: await look.list<Role>(`${RBAC_ROOT}/namespaces/${space}/roles`),
      bindings: await look.list<Binding>(`${RBAC_ROOT}/namespaces/${space}/rolebindings`),
    })),
  ]);
  const readable =
    clusterRoles.kind === 'Seen' &&
    clusterRoleBindings.kind === 'Seen' &&
    scoped.every(({ roles, bindings }) => roles.kind === 'Seen' && bindings.kind === 'Seen');
  if (!readable) return [hidden(namespace), ...(await mine(look, namespace, connections))];
  const rbac: Rbac = {
    clusterRoles: clusterRoles.value,
    clusterRoleBindings: clusterRoleBindings.value,
    roles: scoped.flatMap(({ roles }) => (roles.kind === 'Seen' ? roles.value : [])),
    roleBindings: scoped.flatMap(({ bindings }) => (bindings.kind === 'Seen' ? bindings.value : [])),
  };
  return [
    ...bypasses({ rbac, namespace, release, connections }),
    {
      area: 'Bypass',
      subject: 'not seen',
      state: 'Unknown',
      message:
        'What is not RBAC: other authorizers, network paths to the target, accounts of the target that Sallyport does not hold, people on nodes or at etcd',
      fix: 'docs/topology.md tells how to close the ways around the proxy.',
    },
  ];
}

const hidden = (namespace: string): Check => ({
  area: 'Bypass',
  subject: 'who could',
  state: 'Unknown',
  message: `You may not read the Roles and bindings of namespace ${namespace}, the operator’s and the cluster, so it can not be told who could go around Sallyport`,
  fix: 'Somebody who may read RBAC runs: kubectl access doctor',
});

/** What oneself could do: that everybody may ask. */
async function mine(look: Looker, namespace: string, connections: readonly Connection[]): Promise<Check[]> {
  const secrets = [...new Set(connections.flatMap(({ spec }) => secretsOf(spec)))];
  const powers = [
    ...namespacePowers(secrets).map((power) => ({ power, within: namespace as string | undefined })),
    ...CLUSTER_POWERS.map((power) => ({ power, within: undefined })),
  ];
  const held = await Promise.all(
    powers.map(async ({ power, within }) => {
      const asked = power.acts.flatMap((act) =>
        act.verbs.flatMap((verb) =>
          act.resources.flatMap((full) => {
            const [resource = '', subresource] = full.split('/');
            return (act.names ?? [undefined]).map((name) => ({
              verb,
              group: act.group,
              resource,
              namespace: within,
              ...(subresource === undefined ? {} : { subresource }),
              ...(name === undefined ? {} : { name }),
            }));
          }),
        ),
      );
      const answers = await Promise.all(asked.map((each) => mayI(look, each)));
      return { power, may: answers.includes(true) };
    }),
  );
  return held
    .filter(({ may }) => may)
    .map(({ power }) => ({
      area: 'Bypass',
      subject: power.subject,
      state: 'Warn',
      message: `You may ${power.what}`,
      fix: power.fix,
    }));
}
