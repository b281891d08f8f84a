// EnforcementBundle: one signed shard of what a proxy enforces, as an object. Opaque to everybody but the proxy, which
// believes the signature and nothing else about it.
import Type, { type Static } from 'typebox';
import type { Resource } from './resource.ts';
import { Conditions, closed, described, ShortText } from './schema.ts';

/** `policy.ShardEnvelope`, field by field. */
export const EnforcementBundleSpec = closed(
  {
    connectionUid: described(ShortText, 'The Connection it is for; `*`: every one (the heartbeat).'),
    shard: described(ShortText, 'Which part: policy, overlay, releases, grants-N, heartbeat.'),
    epoch: Type.Integer({ minimum: 0, description: 'Raised whenever another controller takes over.' }),
    sequence: Type.Integer({ minimum: 0, description: 'Rises within an epoch.' }),
    format: Type.Integer({ minimum: 1, description: 'Version of the payload’s form.' }),
    payloadHash: Type.String({ pattern: '^[0-9a-f]{64}$', maxLength: 64, description: 'SHA-256 of the payload, hex.' }),
    payload: Type.String({ maxLength: 393216, description: 'JSON text.' }),
    signatures: Type.Array(
      closed({
        keyId: described(ShortText, 'Which key signed.'),
        signature: Type.String({ maxLength: 128, description: 'Ed25519, base64.' }),
      }),
      { minItems: 1, maxItems: 4, description: 'Signatures over all of the above but the payload.' },
    ),
  },
  {
    'x-kubernetes-validations': [
      {
        rule: 'self.epoch > oldSelf.epoch || (self.epoch == oldSelf.epoch && self.sequence >= oldSelf.sequence)',
        message: 'a bundle never goes back',
      },
    ],
  },
);
export type EnforcementBundleSpec = Static<typeof EnforcementBundleSpec>;
export const EnforcementBundleStatus = closed({ conditions: Type.Optional(Conditions) });
export type EnforcementBundle = Resource<
  'EnforcementBundle',
  EnforcementBundleSpec,
  Static<typeof EnforcementBundleStatus>
>;
