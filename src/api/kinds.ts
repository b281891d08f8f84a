// The kinds of sallyport.dev/v1alpha1, in one table: what the generator makes CRDs and the reference from, and what
// stores and the command line look up. A kind that is not in it does not exist.
import type Type from 'typebox';
import { EnforcementBundleSpec, EnforcementBundleStatus } from './bundle-object.ts';
import { ConnectionSpec, ConnectionStatus } from './connection.ts';
import { AccessApprovalSpec, AccessApprovalStatus, AccessGrantSpec, AccessGrantStatus } from './grant.ts';
import { CommandHoldSpec, CommandHoldStatus } from './hold.ts';
import { IdentityProviderSpec, IdentityProviderStatus } from './identity-provider.ts';
import { AccessLockSpec, AccessLockStatus } from './lock.ts';
import { ClusterNotifierSpec, NotifierSpec, NotifierStatus } from './notifier.ts';
import { AccessPolicySpec, ClusterAccessPolicySpec, PolicyStatus } from './policy.ts';
import { ProxyReplicaSpec, ProxyReplicaStatus } from './replica.ts';
import { AccessSessionSpec, AccessSessionStatus } from './session.ts';
import { RecordingStoreSpec, RecordingStoreStatus } from './store.ts';

/** A column of `get`, as in a CustomResourceDefinition. */
export interface PrinterColumn {
  name: string;
  type: 'string' | 'integer' | 'date';
  jsonPath: string;
  description: string;
  /** Above 0: shown with `-o wide` only. */
  priority?: number;
}

export interface KindDefinition {
  kind: string;
  plural: string;
  singular: string;
  shortNames: readonly string[];
  scope: 'Namespaced' | 'Cluster';
  /** One or two sentences for the reference and the CRD. */
  description: string;
  spec: Type.TObject;
  status: Type.TObject;
  columns: readonly PrinterColumn[];
  categories: readonly string[];
  /** Paths of `--field-selector` (Kubernetes >= 1.32). */
  selectableFields: readonly string[];
  /** Exists in a cluster only: a directory of YAML refuses it. */
  clusterOnly?: true;
  /** Between operator and proxies: in no category and no reference. */
  internal?: true;
}

const CATEGORIES = ['sallyport'];
const AGE: PrinterColumn = {
  name: 'Age',
  type: 'date',
  jsonPath: '.metadata.creationTimestamp',
  description: 'When it was made.',
};
const condition = (type: string, description: string): PrinterColumn => ({
  name: type,
  type: 'string',
  jsonPath: `.status.conditions[?(@.type=="${type}")].status`,
  description,
});
const message = (type: string): PrinterColumn => ({
  name: 'Message',
  type: 'string',
  jsonPath: `.status.conditions[?(@.type=="${type}")].message`,
  description: 'The same in a sentence.',
  priority: 1,
});

/** What a policy of either scope shows. */
const POLICY_COLUMNS: readonly PrinterColumn[] = [
  {
    name: 'Enforcement',
    type: 'string',
    jsonPath: '.spec.enforcement',
    description: 'Enforce (also when empty) or Warn.',
  },
  {
    name: 'Connections',
    type: 'integer',
    jsonPath: '.status.connections',
    description: 'How many Connections it selects.',
  },
  condition('Accepted', 'Whether it is in force. If not, what it selects is denied.'),
  message('Accepted'),
  AGE,
];

const NOTIFIER_COLUMNS: readonly PrinterColumn[] = [
  { name: 'Type', type: 'string', jsonPath: '.spec.type', description: 'Its medium.' },
  condition('Ready', 'Whether messages get through.'),
  { name: 'Delivered', type: 'integer', jsonPath: '.status.delivered', description: 'Messages that were taken.' },
  message('Ready'),
  AGE,
];

export const KINDS = {
  Connection: {
    kind: 'Connection',
    plural: 'connections',
    singular: 'connection',
    shortNames: ['conn'],
    scope: 'Namespaced',
    description: 'A target: how the gateway reaches it and which of its accounts may be used.',
    spec: ConnectionSpec,
    status: ConnectionStatus,
    columns: [
      { name: 'Type', type: 'string', jsonPath: '.spec.type', description: 'Protocol of the target.' },
      { name: 'Host', type: 'string', jsonPath: '.status.endpoint.host', description: 'Where clients connect.' },
      { name: 'Port', type: 'integer', jsonPath: '.status.endpoint.port', description: 'Where clients connect.' },
      condition('Ready', 'Whether it can be used.'),
      message('Ready'),
      AGE,
    ],
    categories: CATEGORIES,
    selectableFields: ['.spec.type'],
  },
  AccessPolicy: {
    kind: 'AccessPolicy',
    plural: 'accesspolicies',
    singular: 'accesspolicy',
    shortNames: ['ap'],
    scope: 'Namespaced',
    description:
      'Who may use which Connections of its namespace, with whose approval, and what is allowed, denied, held and masked there.',
    spec: AccessPolicySpec,
    status: PolicyStatus,
    columns: [
      { name: 'Access', type: 'string', jsonPath: '.spec.access', description: 'Grant (also when empty) or Standing.' },
      ...POLICY_COLUMNS,
    ],
    categories: CATEGORIES,
    selectableFields: [],
  },
  ClusterAccessPolicy: {
    kind: 'ClusterAccessPolicy',
    plural: 'clusteraccesspolicies',
    singular: 'clusteraccesspolicy',
    shortNames: ['cap'],
    scope: 'Cluster',
    description: 'A guardrail over every namespace: denies, holds, masks and limits. It only tightens.',
    spec: ClusterAccessPolicySpec,
    status: PolicyStatus,
    columns: [...POLICY_COLUMNS],
    categories: CATEGORIES,
    selectableFields: [],
  },
  AccessGrant: {
    kind: 'AccessGrant',
    plural: 'accessgrants',
    singular: 'accessgrant',
    shortNames: ['grant'],
    scope: 'Namespaced',
    description: 'A request for access in time, and once approved the access itself. It can not be changed.',
    spec: AccessGrantSpec,
    status: AccessGrantStatus,
    columns: [
      {
        name: 'Connection',
        type: 'string',
        jsonPath: '.spec.connectionRef.name',
        description: 'What access is asked for.',
      },
      { name: 'Account', type: 'string', jsonPath: '.status.account', description: 'Account that is used.' },
      { name: 'Requester', type: 'string', jsonPath: '.spec.requester.username', description: 'Who asked.' },
      { name: 'Phase', type: 'string', jsonPath: '.status.phase', description: 'Where it stands.' },
      { name: 'Expires', type: 'string', jsonPath: '.status.expiresAt', description: 'When it ends.' },
      { name: 'Reason', type: 'string', jsonPath: '.spec.reason', description: 'Why it was asked for.', priority: 1 },
      {
        name: 'Message',
        type: 'string',
        jsonPath: '.status.message',
        description: 'The state in a sentence.',
        priority: 1,
      },
      AGE,
    ],
    categories: CATEGORIES,
    selectableFields: ['.spec.connectionRef.name', '.spec.requester.username', '.status.phase'],
  },
  AccessApproval: {
    kind: 'AccessApproval',
    plural: 'accessapprovals',
    singular: 'accessapproval',
    shortNames: ['approval'],
    scope: 'Namespaced',
    description: 'One person’s vote on a grant or a held command. It can not be changed.',
    spec: AccessApprovalSpec,
    status: AccessApprovalStatus,
    columns: [
      { name: 'Kind', type: 'string', jsonPath: '.spec.targetRef.kind', description: 'Kind of what is decided.' },
      { name: 'Target', type: 'string', jsonPath: '.spec.targetRef.name', description: 'Name of what is decided.' },
      { name: 'Decision', type: 'string', jsonPath: '.spec.decision', description: 'The vote.' },
      { name: 'Approver', type: 'string', jsonPath: '.spec.approver.username', description: 'Whose vote.' },
      AGE,
    ],
    categories: CATEGORIES,
    selectableFields: ['.spec.targetRef.kind', '.spec.targetRef.name', '.spec.targetRef.uid'],
  },
  CommandHold: {
    kind: 'CommandHold',
    plural: 'commandholds',
    singular: 'commandhold',
    shortNames: ['hold'],
    scope: 'Namespaced',
    description: 'One command that waits in a live session for somebody’s consent.',
    spec: CommandHoldSpec,
    status: CommandHoldStatus,
    columns: [
      { name: 'Connection', type: 'string', jsonPath: '.spec.connectionRef.name', description: 'Where it would run.' },
      { name: 'Requester', type: 'string', jsonPath: '.spec.requester.username', description: 'Whose command it is.' },
      { name: 'Phase', type: 'string', jsonPath: '.status.phase', description: 'Where it stands.' },
      { name: 'Until', type: 'string', jsonPath: '.spec.until', description: 'When it is denied for lack of consent.' },
      { name: 'Summary', type: 'string', jsonPath: '.spec.summary', description: 'What it does.', priority: 1 },
      AGE,
    ],
    categories: CATEGORIES,
    selectableFields: ['.spec.connectionRef.name', '.spec.requester.username', '.status.phase'],
  },
  AccessLock: {
    kind: 'AccessLock',
    plural: 'accesslocks',
    singular: 'accesslock',
    shortNames: ['lock'],
    scope: 'Namespaced',
    description: 'Ends sessions and refuses new ones until it is lifted.',
    spec: AccessLockSpec,
    status: AccessLockStatus,
    columns: [
      { name: 'User', type: 'string', jsonPath: '.spec.target.user', description: 'User it shuts out.' },
      { name: 'Group', type: 'string', jsonPath: '.spec.target.group', description: 'Group it shuts out.' },
      { name: 'Connection', type: 'string', jsonPath: '.spec.target.connection', description: 'Connection it closes.' },
      { name: 'Until', type: 'string', jsonPath: '.spec.until', description: 'When it ends by itself.' },
      { name: 'Reason', type: 'string', jsonPath: '.spec.reason', description: 'What those it shuts out are told.' },
      AGE,
    ],
    categories: CATEGORIES,
    selectableFields: [],
  },
  AccessSession: {
    kind: 'AccessSession',
    plural: 'accesssessions',
    singular: 'accesssession',
    shortNames: ['asession'],
    scope: 'Namespaced',
    description: 'A live session, in a cluster. Written by its proxy; deleting it ends the session.',
    spec: AccessSessionSpec,
    status: AccessSessionStatus,
    columns: [
      { name: 'Connection', type: 'string', jsonPath: '.spec.connectionRef.name', description: 'Where it is.' },
      { name: 'User', type: 'string', jsonPath: '.spec.username', description: 'Whose it is.' },
      {
        name: 'Grant',
        type: 'string',
        jsonPath: '.spec.grantRef.name',
        description: 'Under which grant.',
        priority: 1,
      },
      { name: 'Phase', type: 'string', jsonPath: '.status.phase', description: 'Whether it goes on.' },
      AGE,
    ],
    categories: CATEGORIES,
    selectableFields: ['.spec.connectionRef.name', '.spec.username', '.status.phase'],
    clusterOnly: true,
  },
  RecordingStore: {
    kind: 'RecordingStore',
    plural: 'recordingstores',
    singular: 'recordingstore',
    shortNames: ['rstore'],
    scope: 'Cluster',
    description: 'Where proxies keep their records, in a cluster. The one named `default` serves whoever names none.',
    spec: RecordingStoreSpec,
    status: RecordingStoreStatus,
    columns: [{ name: 'Type', type: 'string', jsonPath: '.spec.type', description: 'Kind of store.' }, AGE],
    categories: CATEGORIES,
    selectableFields: [],
    clusterOnly: true,
  },
  Notifier: {
    kind: 'Notifier',
    plural: 'notifiers',
    singular: 'notifier',
    shortNames: [],
    scope: 'Namespaced',
    description:
      'Who hears of what happens in its namespace. In a cluster its medium is a webhook without a Secret: the operator reads no Secret of a namespace, and signs with a key whose public half is in its status.',
    spec: NotifierSpec,
    status: NotifierStatus,
    columns: NOTIFIER_COLUMNS,
    categories: CATEGORIES,
    selectableFields: [],
  },
  ClusterNotifier: {
    kind: 'ClusterNotifier',
    plural: 'clusternotifiers',
    singular: 'clusternotifier',
    shortNames: ['cnotifier'],
    scope: 'Cluster',
    description:
      'Who hears of what happens in all namespaces or some. A ticket system among them is where policies read tickets.',
    spec: ClusterNotifierSpec,
    status: NotifierStatus,
    columns: NOTIFIER_COLUMNS,
    categories: CATEGORIES,
    selectableFields: [],
  },
  IdentityProvider: {
    kind: 'IdentityProvider',
    plural: 'identityproviders',
    singular: 'identityprovider',
    shortNames: ['idp'],
    scope: 'Cluster',
    description:
      'An OpenID Connect issuer whose tokens are believed: whom they are made for, how its people and workloads are called here, and how clients log in.',
    spec: IdentityProviderSpec,
    status: IdentityProviderStatus,
    columns: [
      { name: 'Issuer', type: 'string', jsonPath: '.spec.issuer', description: 'Whose tokens.' },
      { name: 'Keys', type: 'integer', jsonPath: '.status.keys', description: 'Keys they are verified with.' },
      condition('Ready', 'Whether its tokens are believed.'),
      message('Ready'),
      AGE,
    ],
    categories: CATEGORIES,
    selectableFields: [],
  },
  EnforcementBundle: {
    kind: 'EnforcementBundle',
    plural: 'enforcementbundles',
    singular: 'enforcementbundle',
    shortNames: [],
    scope: 'Namespaced',
    description: 'One signed shard of what a proxy enforces. Internal.',
    spec: EnforcementBundleSpec,
    status: EnforcementBundleStatus,
    columns: [AGE],
    categories: [],
    selectableFields: [],
    clusterOnly: true,
    internal: true,
  },
  ProxyReplica: {
    kind: 'ProxyReplica',
    plural: 'proxyreplicas',
    singular: 'proxyreplica',
    shortNames: [],
    scope: 'Namespaced',
    description: 'What one proxy says of itself and is handed by the operator. Internal.',
    spec: ProxyReplicaSpec,
    status: ProxyReplicaStatus,
    columns: [
      { name: 'Version', type: 'string', jsonPath: '.spec.version', description: 'Version of the program.' },
      { name: 'Sessions', type: 'integer', jsonPath: '.spec.sessions', description: 'Live sessions.' },
      condition('Certified', 'Whether its listeners have a certificate.'),
      AGE,
    ],
    categories: [],
    selectableFields: [],
    clusterOnly: true,
    internal: true,
  },
} as const satisfies Record<string, KindDefinition>;

export type Kind = keyof typeof KINDS;
export const KIND_NAMES = Object.keys(KINDS) as Kind[];

export function isKind(text: string): text is Kind {
  return Object.hasOwn(KINDS, text);
}

/** Finds a kind as people type it: kind, plural, singular or short name, in any case. */
export function findKind(text: string): KindDefinition | undefined {
  const word = text.toLowerCase();
  return KIND_NAMES.map((kind): KindDefinition => KINDS[kind]).find((definition) =>
    [definition.kind.toLowerCase(), definition.plural, definition.singular, ...definition.shortNames].includes(word),
  );
}
