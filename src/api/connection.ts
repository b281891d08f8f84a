// Connection: a target, how to reach it, which accounts may be used on it. The type union grows by one member a protocol.
import Type, { type Static } from 'typebox';
import type { Resource } from './resource.ts';
import {
  Conditions,
  closed,
  Duration,
  described,
  enumOf,
  ItemName,
  LocalRef,
  mapOf,
  Name,
  Port,
  PublicKeyLine,
  ShortText,
  TARGET_USER_PATTERN,
} from './schema.ts';

export const PostgresTarget = closed(
  {
    host: Type.String({ minLength: 1, maxLength: 253, description: 'Name or address of the server.' }),
    port: Type.Optional(described(Port, 'TCP port of the server. Default 5432.')),
    databases: Type.Optional(
      Type.Array(ShortText, {
        minItems: 1,
        maxItems: 64,
        description:
          'Databases that may be opened; the first is the default. Absent: any that the account may open, `postgres` by default.',
      }),
    ),
    tls: Type.Optional(
      closed(
        {
          mode: Type.Optional(
            enumOf(
              ['VerifyFull', 'VerifyCA', 'InsecureSkipVerify', 'InsecureDisable'],
              'VerifyFull: the server’s certificate must chain to `ca` and carry its name. VerifyCA: the name is not checked. InsecureSkipVerify: any certificate. InsecureDisable: no TLS. Default VerifyFull.',
            ),
          ),
          ca: Type.Optional(
            Type.String({
              minLength: 1,
              maxLength: 65536,
              description: 'PEM certificates to trust instead of the system’s.',
            }),
          ),
          caFile: Type.Optional(
            Type.String({
              minLength: 1,
              maxLength: 1024,
              description: 'Local mode only: a PEM file, its path relative to the YAML file. Read in place of `ca`.',
            }),
          ),
          serverName: Type.Optional(
            Type.String({ minLength: 1, maxLength: 253, description: 'Name to verify instead of `host`.' }),
          ),
        },
        {
          description: 'How the gateway’s own leg to the server is protected. Default: TLS, fully verified.',
          'x-kubernetes-validations': [
            {
              rule: '!(has(self.ca) && has(self.caFile))',
              message: 'give ca or caFile, not both',
              fieldPath: '.caFile',
            },
          ],
        },
      ),
    ),
    insecureAuthentication: Type.Optional(
      Type.Array(Type.Enum(['MD5', 'Cleartext', 'Trust']), {
        maxItems: 3,
        description: 'Weak methods the server may ask the gateway for. Default none: SCRAM-SHA-256 only.',
      }),
    ),
    insecureClients: Type.Optional(
      Type.Boolean({
        description: 'Accept clients without TLS: their tickets and data travel in the clear. Default false.',
      }),
    ),
  },
  { description: 'A PostgreSQL server. Required by `type: PostgreSQL`.' },
);

const TargetUser = Type.String({ minLength: 1, maxLength: 64, pattern: TARGET_USER_PATTERN });

export const SshTarget = closed(
  {
    host: Type.String({ minLength: 1, maxLength: 253, description: 'Name or address of the server.' }),
    port: Type.Optional(described(Port, 'TCP port of the server. Default 22.')),
    hostKeys: Type.Optional(
      Type.Array(PublicKeyLine, {
        minItems: 1,
        maxItems: 16,
        description:
          'Public keys of the server, as `ssh-keyscan` prints them without the name. The server must show one of these.',
      }),
    ),
    hostAuthorities: Type.Optional(
      Type.Array(PublicKeyLine, {
        minItems: 1,
        maxItems: 16,
        description: 'Public keys of authorities whose host certificates are believed, if they name `hostPrincipal`.',
      }),
    ),
    hostPrincipal: Type.Optional(
      Type.String({ minLength: 1, maxLength: 253, description: 'Name a host certificate must carry. Default `host`.' }),
    ),
    loginShell: Type.Optional(
      enumOf(
        ['Posix', 'Other'],
        'What reads command lines at the target. Posix: sh, dash, bash, zsh, ksh. Other (fish, csh, an appliance): rules compare whole lines only. Default Posix.',
      ),
    ),
  },
  {
    description: 'An SSH server. Required by `type: SSH`.',
    'x-kubernetes-validations': [
      {
        rule: 'has(self.hostKeys) || has(self.hostAuthorities)',
        message: 'give hostKeys or hostAuthorities: a server that can not be told from another is not dialled',
        fieldPath: '.hostKeys',
      },
    ],
  },
);

export const ConnectionSpec = closed(
  {
    type: enumOf(['PostgreSQL', 'SSH'], 'The protocol; the member of the same name configures it.'),
    postgresql: Type.Optional(PostgresTarget),
    ssh: Type.Optional(SshTarget),
    accounts: Type.Array(
      closed(
        {
          name: described(ItemName, 'What policies and grants call it: reader, writer, owner.'),
          secretRef: Type.Optional(
            closed(
              { name: described(Name, 'Name of the Secret, in the Connection’s namespace.') },
              {
                description:
                  'Secret with keys `username`, `password` (for SSH also `ssh-privatekey`) and `sallyport-hosts` (targets it may be sent to).',
              },
            ),
          ),
          certificate: Type.Optional(
            closed(
              {
                users: Type.Array(TargetUser, {
                  minItems: 1,
                  maxItems: 32,
                  description: 'Users of the target it may log in as; the first is the default.',
                }),
              },
              {
                description:
                  'SSH only: instead of a Secret, certificates that live for minutes. The target trusts the authority in `status.ssh.userAuthority`.',
              },
            ),
          ),
        },
        {
          'x-kubernetes-validations': [
            {
              rule: 'has(self.secretRef) != has(self.certificate)',
              message: 'give exactly one of secretRef and certificate',
            },
          ],
        },
      ),
      {
        minItems: 1,
        maxItems: 16,
        'x-kubernetes-list-type': 'map',
        'x-kubernetes-list-map-keys': ['name'],
        description: 'Service accounts of the target that the gateway may use; users never see them.',
      },
    ),
    proxy: Type.Optional(
      closed(
        {
          replicas: Type.Optional(
            Type.Integer({
              minimum: 1,
              maximum: 32,
              description: 'Proxy pods. Default 1. Local mode has one process.',
            }),
          ),
          drainTimeout: Type.Optional(
            described(Duration, 'How long a stopping proxy lets sessions end by themselves. Default 30s.'),
          ),
          group: Type.Optional(
            described(ItemName, 'Connections of one group and namespace share their proxies. Default: one of its own.'),
          ),
          resources: Type.Optional(
            closed(
              {
                requests: Type.Optional(
                  mapOf(ShortText, { maxProperties: 8, description: 'Resources asked for, as in a Pod.' }),
                ),
                limits: Type.Optional(
                  mapOf(ShortText, { maxProperties: 8, description: 'Upper bounds, as in a Pod.' }),
                ),
              },
              { description: 'Compute resources of each proxy pod.' },
            ),
          ),
        },
        { description: 'The pods that serve the Connection in a cluster.' },
      ),
    ),
    exposure: Type.Optional(
      closed(
        {
          type: Type.Optional(
            enumOf(['ClusterIP', 'NodePort', 'LoadBalancer'], 'Kind of Service in a cluster. Default ClusterIP.'),
          ),
          port: Type.Optional(
            described(Port, 'Port clients connect to. Default: the protocol’s own; local mode chooses a free one.'),
          ),
          annotations: Type.Optional(
            mapOf(Type.String({ maxLength: 1024 }), {
              maxProperties: 32,
              description: 'Annotations of the Service in a cluster, as cloud load balancers want them.',
            }),
          ),
          sourceRanges: Type.Optional(
            Type.Array(Type.String({ minLength: 1, maxLength: 64 }), {
              maxItems: 64,
              description: 'CIDR blocks that a LoadBalancer takes clients from. Default: any.',
            }),
          ),
        },
        {
          description: 'Where clients reach the Connection.',
          'x-kubernetes-validations': [
            {
              rule: "!has(self.sourceRanges) || (has(self.type) && self.type == 'LoadBalancer')",
              message: 'sourceRanges limit a LoadBalancer only: give type LoadBalancer',
              fieldPath: '.sourceRanges',
            },
          ],
        },
      ),
    ),
    networkPolicy: Type.Optional(
      closed(
        {
          targetPodSelector: Type.Optional(
            mapOf(Type.String({ maxLength: 63 }), {
              maxProperties: 16,
              description:
                'Labels of the target’s pods in the Connection’s namespace. Given: a NetworkPolicy lets only the proxy reach them on the target’s port.',
            }),
          ),
        },
        { description: 'In a cluster: how the way around the proxy is closed.' },
      ),
    ),
    recording: Type.Optional(
      closed(
        {
          storeRef: Type.Optional(
            described(
              LocalRef,
              'In a cluster: the RecordingStore that keeps the records. Default: the default one. Local mode: the state folder.',
            ),
          ),
          durability: Type.Optional(
            enumOf(
              ['Write', 'Disk'],
              'Write: a record is written before its command is forwarded. Disk: and synced to disk. Default Write.',
            ),
          ),
          rows: Type.Optional(
            Type.Integer({
              minimum: 0,
              maximum: 10000,
              description: 'Masked result rows kept per command. Default 50.',
            }),
          ),
        },
        { description: 'What is recorded, and how safely before the command runs.' },
      ),
    ),
    limits: Type.Optional(
      closed(
        {
          sessions: Type.Optional(
            Type.Integer({ minimum: 1, maximum: 100000, description: 'Live sessions at once per proxy. Default 500.' }),
          ),
          sessionsPerUser: Type.Optional(
            Type.Integer({
              minimum: 1,
              maximum: 10000,
              description: 'Live sessions at once per person and proxy. Default 100.',
            }),
          ),
          idleTimeout: Type.Optional(
            described(Duration, 'A session without a command for so long is ended. Default: never.'),
          ),
          statementBytes: Type.Optional(
            Type.Integer({
              minimum: 1024,
              maximum: 67108864,
              description: 'Largest statement that is judged, bytes; longer ones are refused. Default 256 KiB.',
            }),
          ),
          rowBytes: Type.Optional(
            Type.Integer({
              minimum: 1024,
              maximum: 1073741824,
              description: 'Largest row that is masked, bytes. Default 16 MiB.',
            }),
          ),
        },
        { description: 'Bounds that keep one user or statement from taking everything.' },
      ),
    ),
  },
  {
    'x-kubernetes-validations': [
      {
        rule: "self.type != 'PostgreSQL' || has(self.postgresql)",
        message: 'type PostgreSQL needs the member postgresql',
        fieldPath: '.postgresql',
      },
      {
        rule: "self.type != 'SSH' || has(self.ssh)",
        message: 'type SSH needs the member ssh',
        fieldPath: '.ssh',
      },
      {
        rule: "self.type == 'SSH' || self.accounts.all(account, has(account.secretRef))",
        message: 'certificate belongs to accounts of type SSH only',
        fieldPath: '.accounts',
      },
    ],
  },
);
export type ConnectionSpec = Static<typeof ConnectionSpec>;

/** Names of the Secrets its accounts use, each once. */
export function secretsOf(spec: ConnectionSpec): string[] {
  return [...new Set(spec.accounts.flatMap(({ secretRef }) => (secretRef === undefined ? [] : [secretRef.name])))];
}

/** By what clients look up a gateway's own keys, wherever it is reached: the same over ports and tunnels. */
export const hostAliasOf = (name: string, namespace = 'default'): string => `${name}.${namespace}.sallyport`;

export const ConnectionStatus = closed({
  observedGeneration: Type.Optional(Type.Integer({ description: '`metadata.generation` that this status is about.' })),
  endpoint: Type.Optional(
    closed(
      {
        host: Type.String({ minLength: 1, maxLength: 253, description: 'Name or address.' }),
        port: described(Port, 'TCP port.'),
      },
      { description: 'Where clients connect.' },
    ),
  ),
  caBundle: Type.Optional(
    Type.String({ maxLength: 65536, description: 'PEM certificates that clients verify the gateway with.' }),
  ),
  ssh: Type.Optional(
    closed(
      {
        userAuthority: Type.Optional(
          Type.String({
            maxLength: 1024,
            description: 'Line for the target’s TrustedUserCAKeys: whom certificate accounts are signed by.',
          }),
        ),
        knownHosts: Type.Optional(
          Type.Array(Type.String({ maxLength: 2048 }), {
            maxItems: 16,
            description: 'Lines for clients’ known_hosts: the gateway’s own keys and their authority.',
          }),
        ),
      },
      { description: 'Of type SSH: what both ends need to know of keys.' },
    ),
  ),
  conditions: Type.Optional(Conditions),
});
export type ConnectionStatus = Static<typeof ConnectionStatus>;

export type Connection = Resource<'Connection', ConnectionSpec, ConnectionStatus>;
