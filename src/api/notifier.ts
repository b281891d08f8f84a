// Notifier and ClusterNotifier: who hears of requests, decisions, emergencies and sessions, and by which medium. A
// ClusterNotifier of a ticket system is also where policies read the state of a ticket.
import Type, { type Static } from 'typebox';
import type { Resource } from './resource.ts';
import {
  Conditions,
  ConnectionSelector,
  closed,
  described,
  enumOf,
  LocalRef,
  mapOf,
  Name,
  ShortText,
} from './schema.ts';

export const NOTIFIER_TYPES = ['Slack', 'Webhook', 'Jira', 'ServiceNow'] as const;
export type NotifierType = (typeof NOTIFIER_TYPES)[number];

export const NOTIFIER_EVENTS = [
  'GrantRequested',
  'GrantApproved',
  'GrantDenied',
  'GrantEnded',
  'BreakGlass',
  'SignOffDue',
  'HoldOpened',
  'HoldDecided',
  'SessionStarted',
  'SessionEnded',
] as const;
export type NotifierEvent = (typeof NOTIFIER_EVENTS)[number];

const HttpsUrl = (description: string) =>
  Type.String({ pattern: '^https://[^\\s/?#@]+(/[^\\s#]*)?$', maxLength: 1024, description });

const Accounts = Type.Array(
  closed({
    username: Type.String({ minLength: 1, maxLength: 512, description: 'User name, octet by octet as stamped.' }),
    account: Type.String({
      minLength: 1,
      maxLength: 256,
      description: 'Id of the same person’s account in the ticket system: `accountId` of Jira, `sys_id` of ServiceNow.',
    }),
  }),
  {
    maxItems: 1024,
    description: 'Whose account is whose. Who is not listed has none, so is nobody’s assignee.',
  },
);

const SecretIn = (keys: string) =>
  described(
    LocalRef,
    `Secret with ${keys}, and \`sallyport-hosts\`: the hosts it may be sent to. Of a ClusterNotifier it lies in the operator’s namespace, and the chart’s value \`notifiers.secrets\` names it.`,
  );

const common = {
  type: enumOf(NOTIFIER_TYPES, 'Medium; the member of the same name configures it.'),
  slack: Type.Optional(
    closed(
      {
        tokenSecretRef: Type.Optional(SecretIn('`token`, a bot token')),
        webhookSecretRef: Type.Optional(SecretIn('`url`, an incoming webhook')),
        channel: Type.Optional(
          Type.String({
            pattern: '^[A-Z0-9]{2,32}$',
            maxLength: 32,
            description: 'Id of the channel, such as `C0123456789`. Needed with a token.',
          }),
        ),
        apiUrl: Type.Optional(HttpsUrl('Where the Web API is. Default `https://slack.com/api`.')),
      },
      {
        description: 'Messages to one channel. A message’s button is a link; nothing in a channel decides.',
        'x-kubernetes-validations': [
          {
            rule: 'has(self.tokenSecretRef) != has(self.webhookSecretRef)',
            message: 'give exactly one of tokenSecretRef and webhookSecretRef',
          },
          {
            rule: '!has(self.tokenSecretRef) || has(self.channel)',
            message: 'a token needs channel, the id of the channel to post to',
            fieldPath: '.channel',
          },
        ],
      },
    ),
  ),
  webhook: Type.Optional(
    closed(
      {
        url: HttpsUrl('Where events are posted to.'),
        secretRef: Type.Optional(
          described(
            SecretIn('`secret`, `whsec_` and the key in base64'),
            'Secret with `secret` (`whsec_` and the key in base64) and `sallyport-hosts`; messages are signed with HMAC-SHA256 then. Absent: they are signed with Ed25519, and `status.publicKey` is what to verify with.',
          ),
        ),
        template: Type.Optional(
          Type.String({
            maxLength: 8192,
            description:
              'Body as JSON, whose texts may hold `$(event)`, `$(title)`, `$(text)`, `$(link)`, `$(id)`, `$(at)` and `$(facts.NAME)`. Default: everything there is.',
          }),
        ),
      },
      { description: 'Signed posts in the form of the Standard Webhooks specification.' },
    ),
  ),
  jira: Type.Optional(
    closed(
      {
        url: HttpsUrl('Base address: `https://example.atlassian.net`.'),
        secretRef: SecretIn('`token` and, for Jira Cloud, `username`'),
        accounts: Type.Optional(Accounts),
      },
      { description: 'Comments on the grant’s ticket, and tickets that policies go by.' },
    ),
  ),
  serviceNow: Type.Optional(
    closed(
      {
        url: HttpsUrl('Base address: `https://example.service-now.com`.'),
        secretRef: SecretIn('`username` and `password`, or `token`'),
        table: Type.Optional(
          Type.String({
            pattern: '^[a-z][a-z0-9_]{0,79}$',
            maxLength: 80,
            description: 'Table of the tickets. Default `change_request`.',
          }),
        ),
        accounts: Type.Optional(Accounts),
      },
      { description: 'Work notes on the grant’s ticket, and tickets that policies go by.' },
    ),
  ),
  caBundle: Type.Optional(
    Type.String({
      maxLength: 65536,
      description: 'The only certificate authorities trusted for it, PEM. Default: the public ones.',
    }),
  ),
  events: Type.Optional(
    Type.Array(Type.Enum([...NOTIFIER_EVENTS]), {
      minItems: 1,
      maxItems: NOTIFIER_EVENTS.length,
      description: 'What is told. Default: all.',
    }),
  ),
  connections: Type.Optional(described(ConnectionSelector, 'Only what is about these Connections. Default: all.')),
  policies: Type.Optional(
    Type.Array(Name, {
      minItems: 1,
      maxItems: 64,
      description: 'Only what runs under AccessPolicies of these names. Default: all.',
    }),
  ),
  portalUrl: Type.Optional(HttpsUrl('Where the approval page is, for links. Absent: messages say what to type.')),
};

const rules = [
  {
    rule: "self.type != 'Slack' || has(self.slack)",
    message: 'type Slack needs the member slack',
    fieldPath: '.slack',
  },
  {
    rule: "self.type != 'Webhook' || has(self.webhook)",
    message: 'type Webhook needs the member webhook',
    fieldPath: '.webhook',
  },
  { rule: "self.type != 'Jira' || has(self.jira)", message: 'type Jira needs the member jira', fieldPath: '.jira' },
  {
    rule: "self.type != 'ServiceNow' || has(self.serviceNow)",
    message: 'type ServiceNow needs the member serviceNow',
    fieldPath: '.serviceNow',
  },
];

export const NotifierSpec = closed(common, { 'x-kubernetes-validations': rules });
export type NotifierSpec = Static<typeof NotifierSpec>;

export const ClusterNotifierSpec = closed(
  {
    ...common,
    namespaces: Type.Optional(
      Type.Array(Name, {
        minItems: 1,
        maxItems: 256,
        description: 'Namespaces it tells of, and whose policies may go by its tickets. Absent: all.',
      }),
    ),
  },
  { 'x-kubernetes-validations': rules },
);
export type ClusterNotifierSpec = Static<typeof ClusterNotifierSpec>;

export const NotifierStatus = closed({
  observedGeneration: Type.Optional(Type.Integer({ description: '`metadata.generation` that this status is about.' })),
  conditions: Type.Optional(Conditions),
  publicKey: Type.Optional(
    Type.String({ maxLength: 128, description: 'Ed25519 key that verifies its messages: `whpk_` and base64.' }),
  ),
  delivered: Type.Optional(Type.Integer({ minimum: 0, description: 'Messages that were taken, in all.' })),
  dropped: Type.Optional(Type.Integer({ minimum: 0, description: 'Messages that were given up, in all.' })),
  lastDeliveredAt: Type.Optional(
    Type.String({ format: 'date-time', maxLength: 40, description: 'When the last was taken.' }),
  ),
  outbox: Type.Optional(
    closed(
      {
        since: Type.String({
          format: 'date-time',
          maxLength: 40,
          description: 'What happened before has been dealt with.',
        }),
        done: mapOf(Type.Integer({ minimum: 0 }), {
          maxProperties: 2048,
          description: 'Messages since then that were dealt with: short id to when it happened, ms since 1970.',
        }),
      },
      { description: 'What need not be sent again after a restart. Internal.' },
    ),
  ),
});
export type NotifierStatus = Static<typeof NotifierStatus>;
export type Notifier = Resource<'Notifier', NotifierSpec, NotifierStatus>;
export type ClusterNotifier = Resource<'ClusterNotifier', ClusterNotifierSpec, NotifierStatus>;
export type AnyNotifier = Notifier | ClusterNotifier;

/** Atoms are a letter, digit or mark, `\d`, `\w`, or a class of those; each may carry one quantifier. No groups. */
const TICKET_PATTERN =
  '^\\^((\\[[A-Za-z0-9_.#/-]+\\]|[A-Za-z0-9_#/:-]|\\\\[dw.])(\\{[0-9]{1,2}(,[0-9]{0,2})?\\}|[+?*])?)+\\$$';

/** Of an AccessPolicy: the ticket a request must name, and what it must be like. */
export const TicketPolicy = closed(
  {
    notifier: closed(
      {
        kind: Type.Optional(enumOf(['ClusterNotifier', 'Notifier'], 'Kind of the notifier. Default ClusterNotifier.')),
        name: described(Name, 'Its name. Its type is Jira or ServiceNow.'),
      },
      { description: 'The ticket system.' },
    ),
    pattern: Type.String({
      pattern: TICKET_PATTERN,
      maxLength: 128,
      description:
        'What a ticket’s number looks like: `^CHG[0-9]{7}$`. Characters, classes and quantifiers from `^` to `$`; no groups.',
    }),
    states: Type.Array(ShortText, {
      minItems: 1,
      maxItems: 16,
      description:
        'Ids of the states in which the ticket allows access, octet by octet: of Jira’s status, values of ServiceNow’s `state`. Read when access is asked for and when it starts.',
    }),
    assigneeIsRequester: Type.Optional(
      Type.Boolean({ description: 'Whether the ticket must be assigned to whom the access is for. Default false.' }),
    ),
    autoApprove: Type.Optional(
      Type.Boolean({
        description:
          'Whether a ticket that somebody else has approved is one vote. It counts for steps whose approvers name user `ticket:NAME`, NAME being the notifier’s. Default false.',
      }),
    ),
  },
  { description: 'A ticket without which no access is given, break-glass apart. What can not be read is no.' },
);
export type TicketPolicy = Static<typeof TicketPolicy>;
export const ticketPattern = new RegExp(TICKET_PATTERN);

/** How the ticket system is called where it votes: for steps that name it, and for its own look at the ticket. */
export const ticketVoter = (notifier: string): string => `ticket:${notifier}`;
export const ticketChecker = (notifier: string): string => `ticket-check:${notifier}`;
/** Names that only the operator itself votes under. */
export const isTicketName = (username: string): boolean => /^ticket(-check)?:/i.test(username.normalize('NFKC'));
/** No author can name a step so: theirs are in lower case. */
export const TICKET_STEP = 'Ticket';
