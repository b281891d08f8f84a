// RecordingStore: where proxies keep their records. The union grows by a member a kind of store.
import Type, { type Static } from 'typebox';
import type { Resource } from './resource.ts';
import { Conditions, closed, described, enumOf, Name } from './schema.ts';

export const RecordingStoreSpec = closed(
  {
    type: enumOf(['Volume'], 'Kind of store; the member of the same name configures it.'),
    volume: Type.Optional(
      closed(
        {
          storageClassName: Type.Optional(
            described(Name, 'StorageClass of the claims. Default: the cluster’s default.'),
          ),
          size: Type.Optional(
            Type.String({
              pattern: '^[1-9][0-9]{0,5}(Mi|Gi|Ti)$',
              maxLength: 8,
              description: 'Size of each claim. Default 10Gi.',
            }),
          ),
          accessMode: Type.Optional(
            enumOf(
              ['ReadWriteOnce', 'ReadWriteOncePod', 'ReadWriteMany'],
              'Access mode of each claim. Default ReadWriteOnce.',
            ),
          ),
        },
        { description: 'One PersistentVolumeClaim a proxy replica; it outlives the proxy and its Connection.' },
      ),
    ),
  },
  {
    'x-kubernetes-validations': [
      {
        rule: "self.type != 'Volume' || has(self.volume)",
        message: 'type Volume needs the member volume',
        fieldPath: '.volume',
      },
    ],
  },
);
export type RecordingStoreSpec = Static<typeof RecordingStoreSpec>;
export const RecordingStoreStatus = closed({ conditions: Type.Optional(Conditions) });
export type RecordingStore = Resource<'RecordingStore', RecordingStoreSpec, Static<typeof RecordingStoreStatus>>;
