// The reflector against a real API server: restarts, compaction, many objects, one object under a narrow role.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { KubeClient } from '../../src/kube/client.ts';
import type { KubeObject } from '../../src/kube/object.ts';
import { type ReflectorEvent, startReflector } from '../../src/kube/reflector.ts';
import { type ControlPlane, skipWithoutCluster, startControlPlane } from '../support/cluster/control-plane.ts';
import { until } from '../support/cluster/until.ts';

const skip = await skipWithoutCluster();
const PATH = '/api/v1/namespaces/default/configmaps';
interface ConfigMap extends KubeObject {
  data?: Record<string, string>;
}
let plane: ControlPlane;
let admin: KubeClient;

before(async () => {
  if (skip !== false) return;
  plane = await startControlPlane({ users: [{ name: 'proxy' }] });
  admin = plane.clientFor();
});
after(() => plane?.stop());

const put = async (name: string, value: string, labels: Record<string, string> = {}): Promise<void> => {
  const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, labels }, data: { value } };
  const answer = await admin.patch(`${PATH}/${name}`, body, 'apply', { fieldManager: 'test', force: true });
  assert.equal(answer.kind, 'Ok', JSON.stringify(answer));
};
const remove = async (name: string): Promise<void> => {
  assert.equal((await admin.delete(`${PATH}/${name}`)).kind, 'Ok');
};
function known(): { events: string[]; state: Map<string, string>; onEvent(event: ReflectorEvent<ConfigMap>): void } {
  const events: string[] = [];
  const state = new Map<string, string>();
  return {
    events,
    state,
    onEvent({ type, object }) {
      events.push(`${type} ${object.metadata.name}`);
      if (type === 'Deleted') state.delete(object.metadata.name);
      else state.set(object.metadata.name, object.data?.['value'] ?? '');
    },
  };
}

test('INV-10: it is in step again after the API server was killed, with what happened meanwhile', {
  skip,
}, async () => {
  await put('stays', '1', { set: 'restart' });
  await put('goes', '1', { set: 'restart' });
  const heard = known();
  const reflector = startReflector<ConfigMap>({
    client: plane.clientFor(),
    path: PATH,
    labelSelector: 'set=restart',
    onEvent: heard.onEvent,
  });
  await reflector.synced;
  assert.equal(reflector.list()[0]?.kind, 'ConfigMap');
  for (let round = 0; round < 2; round++) {
    await plane.killApiServer();
    await until(() => reflector.status().problem !== undefined);
    await plane.startApiServer();
    await put('stays', `after ${round}`, { set: 'restart' });
    await put(`new-${round}`, 'x', { set: 'restart' });
    await until(() => heard.state.get('stays') === `after ${round}` && heard.state.has(`new-${round}`));
  }
  await remove('goes');
  await until(() => !heard.state.has('goes'));
  // The status says so with the next line that is heard.
  assert.equal(reflector.status().problem, undefined);
  await reflector.stop();
});

test('INV-10: history that was compacted away costs a list, and no deletion is missed', { skip }, async () => {
  await put('left', '1', { set: 'compact' });
  await put('gone', '1', { set: 'compact' });
  const heard = known();
  const reflector = startReflector<ConfigMap>({
    client: plane.clientFor(),
    path: PATH,
    labelSelector: 'set=compact',
    // Long pauses, so that it resumes only after all of it happened.
    backoff: { firstMs: 8000, longestMs: 8000 },
    onEvent: heard.onEvent,
  });
  await reflector.synced;
  await plane.killApiServer();
  await until(() => reflector.status().problem !== undefined);
  await plane.startApiServer();
  await remove('gone');
  await put('left', '2', { set: 'compact' });
  await plane.compact();
  await plane.killApiServer();
  await plane.startApiServer();
  await until(() => !heard.state.has('gone') && heard.state.get('left') === '2', 'being in step', 60_000);
  await reflector.stop();
});

test('a thousand objects come in pages, and every change of them once', { skip }, async () => {
  const names = Array.from({ length: 1000 }, (_, index) => `many-${index}`);
  for (let begin = 0; begin < names.length; begin += 50) {
    await Promise.all(names.slice(begin, begin + 50).map((name) => put(name, '1', { set: 'many' })));
  }
  const heard = known();
  const reflector = startReflector<ConfigMap>({
    client: plane.clientFor(),
    path: PATH,
    labelSelector: 'set=many',
    pageSize: 100,
    onEvent: heard.onEvent,
  });
  await reflector.synced;
  assert.equal(heard.state.size, 1000);
  assert.equal(heard.events.length, 1000);
  for (let begin = 0; begin < 500; begin += 50) {
    await Promise.all(names.slice(begin, begin + 50).map((name) => put(name, '2', { set: 'many' })));
  }
  const answer = await admin.delete(`${PATH}?labelSelector=set%3Dmany`);
  assert.equal(answer.kind, 'Ok');
  await until(() => heard.state.size === 0);
  assert.equal(heard.events.filter((event) => event.startsWith('Modified')).length, 500);
  assert.equal(heard.events.filter((event) => event.startsWith('Deleted')).length, 1000);
  assert.ok(!('managedFields' in (reflector.list()[0]?.metadata ?? {})));
  await reflector.stop();
});

test('one object by name is all that a role by resourceNames allows, and it is enough', { skip }, async () => {
  await plane.apply(
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: { name: 'one', namespace: 'default' },
      rules: [{ apiGroups: [''], resources: ['configmaps'], resourceNames: ['mine'], verbs: ['get', 'list', 'watch'] }],
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: 'one', namespace: 'default' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'one' },
      subjects: [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: 'proxy' }],
    },
  );
  await put('mine', '1');
  await put('others', '1');
  const heard = known();
  const reflector = startReflector<ConfigMap>({
    client: plane.clientFor('proxy'),
    path: PATH,
    name: 'mine',
    onEvent: heard.onEvent,
  });
  const refused = startReflector<ConfigMap>({ client: plane.clientFor('proxy'), path: PATH });
  await reflector.synced;
  await put('mine', '2');
  await until(() => heard.state.get('mine') === '2');
  assert.equal(reflector.list().length, 1);
  await until(() => refused.status().problem?.startsWith('403 Forbidden') === true);
  assert.equal(refused.status().synced, false);
  await reflector.stop();
  await refused.stop();
});
