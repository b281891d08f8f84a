// AccessPolicy and ClusterAccessPolicy: who may do what on which Connections, what is held, what is masked.
import Type, { type Static } from 'typebox';
import { TicketPolicy } from './notifier.ts';
import type { Resource } from './resource.ts';
import {
  ApprovalStepUp,
  Conditions,
  ConnectionSelector,
  closed,
  Duration,
  described,
  enumOf,
  ItemName,
  Name,
  ShortText,
  StepUp,
  Subject,
  Timestamp,
} from './schema.ts';

const Pattern = Type.String({ minLength: 1, maxLength: 256 });
const Patterns = (description: string) => Type.Array(Pattern, { minItems: 1, maxItems: 256, description });
const Subjects = (description: string) => Type.Array(Subject, { maxItems: 64, description });

/** SQL commands a rule is about. Fields given are and-ed; values in one field are or-ed. */
export const SqlMatcher = closed({
  effects: Type.Optional(
    Type.Array(Type.Enum(['Read', 'Write', 'Define', 'Grant', 'Execute', 'Session']), {
      minItems: 1,
      maxItems: 6,
      description:
        'What the statement does, seen through CTEs, EXPLAIN ANALYZE, COPY, DO and calls: Read rows, Write rows, Define schema, Grant privileges, Execute functions with effects, change Session state.',
    }),
  ),
  statements: Type.Optional(
    Patterns(
      'Statement kinds as PostgreSQL’s command tags spell them: `DROP TABLE`, `DELETE`, `COPY`; `*` matches any run of characters.',
    ),
  ),
  tables: Type.Optional(
    Patterns('Relations as `schema.table`, with `*`; a name without a dot means that table in any schema.'),
  ),
  columns: Type.Optional(Patterns('Columns as `schema.table.column`, with `*`.')),
  functions: Type.Optional(Patterns('Functions as `schema.function`, with `*`.')),
  unbounded: Type.Optional(
    Type.Boolean({
      description: 'true: only UPDATE and DELETE that have no WHERE, or one that is always true, and TRUNCATE.',
    }),
  ),
});
export type SqlMatcher = Static<typeof SqlMatcher>;

/** What an SSH client asks for. A matcher is about one kind of thing; `users` and, beside `paths`, `effects` narrow it. */
export const SshMatcher = closed(
  {
    commands: Type.Optional(
      Patterns(
        'Programs that a command line runs, with their words: `systemctl restart nginx-*`. `*` is a part of one word, a last word `**` any further words. Each program of a line is judged by itself, also inside `sudo`, `env`, `sh -c`, `xargs`, `find -exec`, `$(…)`.',
      ),
    ),
    shell: Type.Optional(
      Type.Boolean({
        description:
          'true: login shells, and interpreters that read what comes on stdin. What is done in them is recorded, not judged.',
      }),
    ),
    subsystems: Type.Optional(
      Patterns('Subsystems by name: `netconf`. `sftp` opens wherever `paths` of an Allow permit something.'),
    ),
    paths: Type.Optional(
      Patterns(
        'Files that sftp, scp, rsync and the shell’s `<` and `>` touch: `/var/log/**`, `/srv/*/conf/*.json`. Hidden files (`.bashrc`, `.ssh`) and directories of programs are written only where an Allow spells them out.',
      ),
    ),
    effects: Type.Optional(
      Type.Array(Type.Enum(['Read', 'Write', 'Grant']), {
        minItems: 1,
        maxItems: 3,
        description: 'Beside `paths`: Read, Write, Grant (owner, set-user-id bits). Absent: all.',
      }),
    ),
    forwarding: Type.Optional(
      Patterns(
        'Where forwards lead: `db.internal:5432`, `10.0.0.0/8:5432`, `[fd00::/8]:*`, `/run/app.sock`; `listen:127.0.0.1:8080` for ports that the target listens on; `agent`, `x11`. A range of addresses never permits a name; metadata addresses and ports of sshd must be spelled out.',
      ),
    ),
    env: Type.Optional(
      Patterns(
        'Variables that may be set, besides LANG, LC_*, TERM and GIT_PROTOCOL: `APP_*`. What changes what a program is (PATH, LD_*, …) is never set.',
      ),
    ),
    users: Type.Optional(
      Patterns(
        'Users of the target, as logged in or as `sudo`, `doas`, `su` change to. Absent: an Allow is about the user logged in as, a Deny or Hold about any.',
      ),
    ),
  },
  {
    'x-kubernetes-validations': [
      {
        rule: '[has(self.commands), has(self.shell), has(self.subsystems), has(self.paths), has(self.forwarding), has(self.env)].filter(x, x).size() <= 1',
        message: 'a rule is about one kind of thing: give one of commands, shell, subsystems, paths, forwarding, env',
      },
      {
        rule: '!has(self.effects) || has(self.paths)',
        message: 'effects are about files; give paths beside them',
        fieldPath: '.effects',
      },
    ],
  },
);
export type SshMatcher = Static<typeof SshMatcher>;

export const PRESETS = ['ReadOnly', 'ReadWrite', 'HoldSchemaAndPrivilegeChanges'] as const;

export const Rule = closed(
  {
    name: described(ItemName, 'Named in every decision it makes; unique in the policy.'),
    action: Type.Optional(
      Type.Enum(['Allow', 'Deny', 'Hold'], {
        description: 'Deny beats Hold beats Allow; what no rule matches is denied.',
      }),
    ),
    preset: Type.Optional(
      Type.Enum([...PRESETS], {
        description: 'A ready-made set of rules instead of `action`; `sallyport explain preset NAME` prints it.',
      }),
    ),
    sql: Type.Optional(
      described(
        SqlMatcher,
        'SQL commands the rule is about; absent: every command. Fields are and-ed, values in one field or-ed.',
      ),
    ),
    ssh: Type.Optional(
      described(
        SshMatcher,
        'What an SSH client asks for that the rule is about; absent: everything. Fields are and-ed, values in one field or-ed.',
      ),
    ),
    exempt: Type.Optional(Subjects('Subjects the rule does not apply to. Deny and Hold only.')),
    message: Type.Optional(
      Type.String({ minLength: 1, maxLength: 512, description: 'Told to the person who is denied or held.' }),
    ),
    hold: Type.Optional(
      closed(
        {
          approvers: Subjects('Who may consent. An empty list is nobody.'),
          count: Type.Optional(Type.Integer({ minimum: 1, maximum: 10, description: 'Consents needed. Default 1.' })),
          timeout: Type.Optional(described(Duration, 'How long the command waits; then it is denied. Default 60s.')),
        },
        { description: 'Who must consent before the command runs. Needed by action Hold and by presets that hold.' },
      ),
    ),
  },
  {
    'x-kubernetes-validations': [
      { rule: 'has(self.action) != has(self.preset)', message: 'give exactly one of action and preset' },
      {
        rule: "!has(self.action) || self.action != 'Hold' || has(self.hold)",
        message: 'action Hold needs hold.approvers',
        fieldPath: '.hold',
      },
      {
        rule: "has(self.hold) ? (has(self.action) ? self.action == 'Hold' : has(self.preset) && self.preset == 'HoldSchemaAndPrivilegeChanges') : true",
        message: 'hold belongs to action Hold and to the preset HoldSchemaAndPrivilegeChanges only',
        fieldPath: '.hold',
      },
      {
        rule: '!has(self.preset) || !has(self.sql)',
        message: 'a preset brings its own matchers; leave sql out or write the rules yourself',
        fieldPath: '.sql',
      },
      {
        rule: '!has(self.preset) || !has(self.ssh)',
        message: 'a preset brings its own matchers; leave ssh out or write the rules yourself',
        fieldPath: '.ssh',
      },
      {
        rule: "!has(self.exempt) || !has(self.action) || self.action != 'Allow'",
        message: 'exempt belongs to Deny and Hold rules only',
        fieldPath: '.exempt',
      },
    ],
  },
);
export type Rule = Static<typeof Rule>;

export const DETECTORS = ['Card', 'Email', 'Iban', 'Ssn', 'Phone', 'Jwt', 'PrivateKey', 'ApiKey'] as const;

export const Mask = closed(
  {
    name: described(ItemName, 'Named in records and in `why`; unique in the policy.'),
    columns: Type.Optional(Patterns('Columns to mask as `schema.table.column`, with `*`.')),
    detectors: Type.Optional(
      Type.Array(Type.Enum([...DETECTORS]), {
        minItems: 1,
        maxItems: 8,
        description: 'Contents to mask in any text that no column names; a second net.',
      }),
    ),
    with: Type.Optional(
      Type.Enum(['Redact', 'Last4', 'Email', 'Null'], {
        description:
          'Redact: every character becomes `*`. Last4: all but the last four. Email: `a***@example.com`. Null: the value is NULL. Default Redact. Never longer than the input.',
      }),
    ),
    predicates: Type.Optional(
      Type.Enum(['Deny', 'Equality', 'Any'], {
        description: 'Whether a masked column may be compared or sorted by. Default Deny.',
      }),
    ),
    exempt: Type.Optional(Subjects('Subjects who see the clear value.')),
  },
  {
    'x-kubernetes-validations': [
      { rule: 'has(self.columns) != has(self.detectors)', message: 'give exactly one of columns and detectors' },
    ],
  },
);
export type Mask = Static<typeof Mask>;

const ruleFields = {
  enforcement: Type.Optional(
    Type.Enum(['Enforce', 'Warn'], {
      description:
        'Warn records what would have been denied or held and lets it pass; masks always apply. Default Enforce.',
    }),
  ),
  rules: Type.Optional(
    Type.Array(Rule, {
      maxItems: 128,
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': ['name'],
      description: 'What is allowed, denied and held. Their order means nothing: Deny beats Hold beats Allow.',
    }),
  ),
  masking: Type.Optional(
    Type.Array(Mask, {
      maxItems: 64,
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': ['name'],
      description: 'What nobody but the exempt sees in the clear, in results and in records.',
    }),
  ),
  trustedFunctions: Type.Optional(
    Type.Array(Pattern, {
      maxItems: 256,
      description: 'User functions (`schema.function`) that may run beside masked data because somebody has read them.',
    }),
  ),
  session: Type.Optional(
    closed(
      {
        idleTimeout: Type.Optional(described(Duration, 'A session without a command for so long is ended.')),
        maxDuration: Type.Optional(described(Duration, 'A session is ended after so long; the grant may go on.')),
        reauthenticate: Type.Optional(
          described(
            Duration,
            'A session ends so long after its ticket or newest token was made, or with that token if that is sooner. `connect` hands newer tokens of an IdentityProvider over, and groups are judged anew by them; tickets renew nothing.',
          ),
        ),
        stepUp: Type.Optional(
          described(
            StepUp,
            'How somebody must have logged in to connect. Only tokens of an IdentityProvider say so: tickets by the grant’s key do not do.',
          ),
        ),
        ticketUntilExpiry: Type.Optional(
          Type.Boolean({
            description:
              'Whether `dsn --until-expiry` may print a ticket that works to the grant’s end. Default false.',
          }),
        ),
      },
      { description: 'Limits of each session. Where several policies give one, the strictest holds.' },
    ),
  ),
};

export const ApprovalStep = closed({
  name: described(ItemName, 'Named in the grant’s approvals; unique in the policy.'),
  count: Type.Optional(Type.Integer({ minimum: 1, maximum: 10, description: 'Approvals needed. Default 1.' })),
  approvers: Subjects('Who may approve. An empty list is nobody.'),
});
export type ApprovalStep = Static<typeof ApprovalStep>;

export const AccessPolicySpec = closed({
  connectionSelector: ConnectionSelector,
  subjects: Type.Array(Subject, { minItems: 1, maxItems: 128, description: 'Who gets this policy’s allows.' }),
  accounts: Type.Array(ShortText, {
    minItems: 1,
    maxItems: 16,
    description: 'Accounts of the Connection that may be used; the first is the default.',
  }),
  access: Type.Optional(
    Type.Enum(['Grant', 'Standing'], {
      description:
        'Grant: each use needs an AccessGrant with its approvals. Standing: `connect` makes one that needs none. Default Grant.',
    }),
  ),
  maxDuration: Type.Optional(described(Duration, 'Longest grant that may be asked for; at most 30 days. Default 8h.')),
  approval: Type.Optional(
    closed(
      {
        timeout: Type.Optional(
          described(Duration, 'A request without all its approvals after so long expires. Default 1h.'),
        ),
        steps: Type.Array(ApprovalStep, {
          minItems: 1,
          maxItems: 8,
          'x-kubernetes-list-type': 'map',
          'x-kubernetes-list-map-keys': ['name'],
          description: 'Taken one after the other; a person counts once over all of them.',
        }),
        stepUp: Type.Optional(
          described(
            ApprovalStepUp,
            'How requesters and approvers must have logged in. Only the approval page and pipelines say so: what was done by kubectl does not count then.',
          ),
        ),
      },
      { description: 'Who must approve a grant. Absent: it is active at once.' },
    ),
  ),
  ticket: Type.Optional(TicketPolicy),
  breakGlass: Type.Optional(
    closed(
      {
        subjects: Subjects('Who may skip the approval steps.'),
        maxDuration: Type.Optional(
          described(Duration, 'Longest such grant. Default: 1h, or `maxDuration` if that is less.'),
        ),
        reviewers: Subjects('Who signs off afterwards.'),
      },
      { description: 'Emergency access: a request with `breakGlass` by one of these subjects needs no approval.' },
    ),
  ),
  review: Type.Optional(
    closed(
      {
        everyDays: Type.Integer({ minimum: 1, maximum: 3650, description: 'Days between two reviews.' }),
        reviewers: Subjects('Who recertifies.'),
        onStale: Type.Optional(
          enumOf(
            ['RequireApproval', 'Deny'],
            'What an overdue review does: every grant needs an approval, or none is given. Default RequireApproval.',
          ),
        ),
      },
      {
        description:
          'In a cluster: how often somebody confirms that this access is still needed. Local mode holds no reviews: it accepts no `onStale: Deny`, and warns of the rest.',
      },
    ),
  ),
  delegators: Type.Optional(
    Type.Array(
      closed({
        subject: described(Subject, 'The robot.'),
        notAfter: described(Timestamp, 'From then on it may no longer.'),
      }),
      {
        maxItems: 16,
        description:
          'Robots that may ask on behalf of others (`beneficiary`), until `notAfter`. Neither robot nor beneficiary approves.',
      },
    ),
  ),
  ...ruleFields,
});
export type AccessPolicySpec = Static<typeof AccessPolicySpec>;

export const ClusterAccessPolicySpec = closed(
  {
    namespaces: Type.Optional(
      Type.Array(Name, { minItems: 1, maxItems: 256, description: 'Namespaces it covers; absent: all.' }),
    ),
    connectionSelector: Type.Optional(ConnectionSelector),
    ...ruleFields,
  },
  {
    'x-kubernetes-validations': [
      {
        rule: "!has(self.rules) || self.rules.all(r, has(r.action) && r.action != 'Allow' || has(r.preset) && r.preset == 'HoldSchemaAndPrivilegeChanges')",
        message: 'a ClusterAccessPolicy only tightens: its rules Deny or Hold',
        fieldPath: '.rules',
      },
    ],
  },
);
export type ClusterAccessPolicySpec = Static<typeof ClusterAccessPolicySpec>;

export const PolicyStatus = closed({
  observedGeneration: Type.Optional(Type.Integer({ description: '`metadata.generation` that this status is about.' })),
  connections: Type.Optional(Type.Integer({ description: 'How many Connections it selects.' })),
  conditions: Type.Optional(Conditions),
});
export type PolicyStatus = Static<typeof PolicyStatus>;

export type AccessPolicy = Resource<'AccessPolicy', AccessPolicySpec, PolicyStatus>;
export type ClusterAccessPolicy = Resource<'ClusterAccessPolicy', ClusterAccessPolicySpec, PolicyStatus>;
