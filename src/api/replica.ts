// ProxyReplica: what one proxy process says of itself (spec) and what the operator hands it (status). The operator makes
// the object; the proxy writes the spec of its own and nothing else.
import Type, { type Static } from 'typebox';
import type { Resource } from './resource.ts';
import { Conditions, closed, described, Name, ShortText, Timestamp } from './schema.ts';

export const ProxyReplicaSpec = closed({
  csr: Type.Optional(
    Type.String({
      maxLength: 8192,
      description:
        'PEM PKCS#10 request for the key of its listeners. Only the key counts; the operator chooses the names.',
    }),
  ),
  recordKey: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9_-]{43}$',
      maxLength: 43,
      description: 'Raw Ed25519 key that signs its records, base64url.',
    }),
  ),
  keyAgreement: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9_-]{43}$',
      maxLength: 43,
      description: 'Raw X25519 key, base64url, that seeds of listeners’ keys are encrypted to.',
    }),
  ),
  version: Type.Optional(described(ShortText, 'Version of the program.')),
  podUid: Type.Optional(described(ShortText, 'Uid of the pod that wrote this.')),
  observedAt: Type.Optional(described(Timestamp, 'When it was written.')),
  sessions: Type.Optional(Type.Integer({ minimum: 0, description: 'Live sessions, roughly.' })),
  recordsWritable: Type.Optional(Type.Boolean({ description: 'Whether records can be written.' })),
  sealedUses: Type.Optional(
    Type.Array(
      closed({
        grant: described(Name, 'Name of the AccessGrant.'),
        uid: described(ShortText, 'Its uid.'),
        startedAt: Type.Array(Timestamp, { maxItems: 10, description: 'When each use began.' }),
      }),
      { maxItems: 1024, description: 'Sealed grants it opened while the operator could not be heard.' },
    ),
  ),
  unknownKeys: Type.Optional(
    Type.Array(
      closed({
        provider: described(ShortText, 'Name of the IdentityProvider.'),
        at: described(Timestamp, 'When such a token was shown.'),
      }),
      { maxItems: 16, description: 'Issuers whose tokens came with a key that is not known; they may have a new one.' },
    ),
  ),
  connections: Type.Optional(
    Type.Array(
      closed({
        uid: described(ShortText, 'Uid of the Connection.'),
        listening: Type.Boolean({ description: 'Whether its port is open.' }),
        applied: Type.Array(
          closed({
            shard: described(ShortText, 'Name of the shard.'),
            epoch: Type.Integer({ minimum: 0, description: 'As in the bundle.' }),
            sequence: Type.Integer({ minimum: 0, description: 'As in the bundle.' }),
          }),
          { maxItems: 4200, description: 'Shards in force.' },
        ),
        target: Type.Optional(
          closed(
            {
              reachable: Type.Boolean({ description: 'Whether a login there worked.' }),
              message: Type.String({ maxLength: 1024, description: 'Version of the target, or why not.' }),
              hint: Type.Optional(Type.String({ maxLength: 1024, description: 'What to do.' })),
              at: described(Timestamp, 'When it was tried.'),
            },
            { description: 'What the last look at the target said.' },
          ),
        ),
      }),
      { maxItems: 512, description: 'Connections it serves.' },
    ),
  ),
});
export type ProxyReplicaSpec = Static<typeof ProxyReplicaSpec>;

export const ProxyReplicaStatus = closed({
  connections: Type.Optional(
    Type.Array(
      closed({
        uid: described(ShortText, 'Uid of the Connection.'),
        name: described(Name, 'Its name.'),
        port: Type.Integer({ minimum: 1, maximum: 65535, description: 'Port of the pod that serves it.' }),
        bundles: Type.Array(described(Name, 'Name of an EnforcementBundle.'), {
          maxItems: 4200,
          description: 'What to watch for it.',
        }),
        keys: Type.Optional(
          closed(
            {
              sealed: Type.String({
                pattern: '^[A-Za-z0-9_-]+$',
                maxLength: 512,
                description: 'Seed of the keys of its listener, encrypted to `spec.keyAgreement`, base64url.',
              }),
              keyId: described(ShortText, 'Key of the operator that signed it.'),
              signature: Type.String({
                pattern: '^[A-Za-z0-9_-]{86}$',
                maxLength: 86,
                description: 'Over Connection, key and ciphertext, base64url.',
              }),
              certificates: Type.Array(Type.String({ maxLength: 4096 }), {
                maxItems: 8,
                description: 'Host certificates for those keys.',
              }),
              for: described(ShortText, 'Digest of the names and the key that they were made for.'),
              renewAt: described(Timestamp, 'When they are made anew.'),
            },
            { description: 'Of Connections whose protocol has keys of its own (SSH).' },
          ),
        ),
      }),
      { maxItems: 512, description: 'Connections it is to serve.' },
    ),
  ),
  certificate: Type.Optional(Type.String({ maxLength: 32768, description: 'PEM chain for the key in `spec.csr`.' })),
  certificateFor: Type.Optional(described(ShortText, 'Digest of the key and names the certificate is for.')),
  renewAt: Type.Optional(described(Timestamp, 'When the certificates are made anew.')),
  recordCertificate: Type.Optional(
    Type.String({ maxLength: 4096, description: 'JSON: the operator vouches for `spec.recordKey`.' }),
  ),
  conditions: Type.Optional(Conditions),
});
export type ProxyReplicaStatus = Static<typeof ProxyReplicaStatus>;
export type ProxyReplica = Resource<'ProxyReplica', ProxyReplicaSpec, ProxyReplicaStatus>;
