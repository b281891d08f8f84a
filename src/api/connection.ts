// Connection: a target, how to reach it, which accounts may be used on it. The type union grows by one member a protocol.
import Type, { type Static } from 'typebox';
import type { Resource } from './resource.ts';
import { Conditions, closed, Duration, LocalRef, Name, Port, ShortText } from './schema.ts';

export const PostgresTarget = closed({
  host: Type.String({ minLength: 1, maxLength: 253, description: 'Name or address of the server.' }),
  port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65535, description: 'Default 5432.' })),
  databases: Type.Optional(
    Type.Array(ShortText, {
      minItems: 1,
      maxItems: 64,
      description:
        'Databases that may be opened; the first is the default. Absent: any that the account may open, `postgres` by default.',
    }),
  ),
  tls: Type.Optional(
    closed({
      mode: Type.Optional(
        Type.Enum(['VerifyFull', 'VerifyCA', 'InsecureSkipVerify', 'InsecureDisable'], {
          description: 'Default VerifyFull.',
        }),
      ),
      ca: Type.Optional(
        Type.String({ maxLength: 65536, description: 'PEM certificates to trust instead of the system’s.' }),
      ),
      caFile: Type.Optional(
        Type.String({ maxLength: 1024, description: 'Local mode only: a PEM file beside the YAML.' }),
      ),
      serverName: Type.Optional(Type.String({ maxLength: 253, description: 'Name to verify instead of `host`.' })),
    }),
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
});

export const ConnectionSpec = closed(
  {
    type: Type.Enum(['PostgreSQL'], { description: 'The protocol; the member of the same name configures it.' }),
    postgresql: Type.Optional(PostgresTarget),
    accounts: Type.Array(
      closed({
        name: Type.String({
          minLength: 1,
          maxLength: 63,
          pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$',
          description: 'What policies and grants call it: reader, writer, owner.',
        }),
        secretRef: closed(
          { name: Name },
          { description: 'Secret with keys `username`, `password` and `sallyport-hosts` (targets it may be sent to).' },
        ),
      }),
      {
        minItems: 1,
        maxItems: 16,
        'x-kubernetes-list-type': 'map',
        'x-kubernetes-list-map-keys': ['name'],
        description: 'Service accounts of the target that the gateway may use; users never see them.',
      },
    ),
    proxy: Type.Optional(
      closed({
        replicas: Type.Optional(Type.Integer({ minimum: 1, maximum: 32 })),
        drainTimeout: Type.Optional(Duration),
        group: Type.Optional(Name),
        resources: Type.Optional(
          closed({
            requests: Type.Optional(Type.Record(Type.String(), ShortText, { maxProperties: 8 })),
            limits: Type.Optional(Type.Record(Type.String(), ShortText, { maxProperties: 8 })),
          }),
        ),
      }),
    ),
    exposure: Type.Optional(
      closed({
        type: Type.Optional(Type.Enum(['ClusterIP', 'NodePort', 'LoadBalancer'])),
        port: Type.Optional(Port),
      }),
    ),
    recording: Type.Optional(
      closed({
        storeRef: Type.Optional(LocalRef),
        durability: Type.Optional(
          Type.Enum(['Write', 'Disk'], {
            description: 'Write: a record is written before its command is forwarded. Disk: and synced. Default Write.',
          }),
        ),
        rows: Type.Optional(
          Type.Integer({ minimum: 0, maximum: 10000, description: 'Masked result rows kept per command. Default 50.' }),
        ),
      }),
    ),
    limits: Type.Optional(
      closed({
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
        idleTimeout: Type.Optional(Duration),
        statementBytes: Type.Optional(
          Type.Integer({
            minimum: 1024,
            maximum: 67108864,
            description: 'Largest statement that is judged. Default 1 MiB.',
          }),
        ),
        rowBytes: Type.Optional(
          Type.Integer({
            minimum: 1024,
            maximum: 1073741824,
            description: 'Largest row that is masked. Default 16 MiB.',
          }),
        ),
      }),
    ),
  },
  {
    'x-kubernetes-validations': [
      {
        rule: "self.type != 'PostgreSQL' || has(self.postgresql)",
        message: 'type PostgreSQL needs the member postgresql',
        fieldPath: '.postgresql',
      },
    ],
  },
);
export type ConnectionSpec = Static<typeof ConnectionSpec>;

export const ConnectionStatus = closed({
  observedGeneration: Type.Optional(Type.Integer()),
  endpoint: Type.Optional(closed({ host: Type.String({ maxLength: 253 }), port: Port })),
  caBundle: Type.Optional(Type.String({ maxLength: 65536 })),
  conditions: Type.Optional(Conditions),
});
export type ConnectionStatus = Static<typeof ConnectionStatus>;

export type Connection = Resource<'Connection', ConnectionSpec, ConnectionStatus>;
