import assert from 'node:assert/strict';
import test from 'node:test';
import type { Resource } from '../api/resource.ts';
import { saysSomethingElse } from './changes.ts';

const connection = (metadata: object, status?: object): Resource =>
  ({
    kind: 'Connection',
    metadata: { name: 'a', namespace: 'n', uid: 'u', generation: 1, labels: { team: 'x' }, ...metadata },
    status,
  }) as unknown as Resource;
const changed = (object: Resource): boolean =>
  saysSomethingElse({ kind: 'Connection', type: 'Modified', object, previous: connection({}) });

test('a status alone concerns nobody else; spec, labels, another uid, coming and going do', () => {
  assert.equal(changed(connection({ resourceVersion: '2' }, { conditions: [] })), false);
  assert.equal(changed(connection({ generation: 2 })), true);
  assert.equal(changed(connection({ labels: { team: 'y' } })), true);
  assert.equal(changed(connection({ uid: 'v' })), true);
  const object = connection({});
  for (const type of ['Added', 'Deleted'] as const)
    assert.equal(saysSomethingElse({ kind: 'Connection', type, object, previous: object }), true);
  assert.equal(saysSomethingElse({ kind: 'Connection', type: 'Modified', object, previous: undefined }), true);
});
