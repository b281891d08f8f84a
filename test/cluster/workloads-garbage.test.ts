// What has had its time is taken away from a real API server, sessions without a proxy are called lost, and what still
// counts stays. Time is a clock that is moved by hand.
import assert from 'node:assert/strict';
import test from 'node:test';
import type { AccessSession } from '../../src/api/session.ts';
import { startGarbage } from '../../src/controllers/garbage/controller.ts';
import { openCache } from '../../src/controllers/runtime.ts';
import { openKubeStore } from '../../src/store/kube/store.ts';
import { manualClock } from '../../src/system/manual-clock.ts';
import { skipWithoutCluster, startControlPlane } from '../support/cluster/control-plane.ts';

const skip = await skipWithoutCluster();
const API = '/apis/sallyport.dev/v1alpha1/namespaces/default';
const stamp = { via: 'Kubernetes', username: 'ana' };
const quiet = (): void => undefined;

test('INV-10: garbage goes level by level, whoever was there before', { skip }, async (t) => {
  const plane = await startControlPlane({ crds: true });
  t.after(() => plane.stop());
  const admin = plane.clientFor();
  const create = async (plural: string, kind: string, name: string, spec: object, status?: object): Promise<string> => {
    const made = await admin.create<{ metadata: { uid: string } }>(`${API}/${plural}`, {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind,
      metadata: { name },
      spec,
    });
    assert.equal(made.kind, 'Ok', made.kind === 'Failed' ? made.message : '');
    if (status !== undefined) {
      const told = await admin.patch(`${API}/${plural}/${name}/status`, { status }, 'merge');
      assert.equal(told.kind, 'Ok', told.kind === 'Failed' ? told.message : '');
    }
    return made.kind === 'Ok' ? made.value.metadata.uid : '';
  };
  const now = Date.now();
  const ago = (ms: number): string => new Date(now - ms).toISOString();
  const HOUR = 3_600_000;
  const DAY = 24 * HOUR;

  const grantSpec = { connectionRef: { name: 'c' }, requester: stamp };
  const oldGrant = await create('accessgrants', 'AccessGrant', 'old', grantSpec, {
    phase: 'Expired',
    finishedAt: ago(8 * DAY),
  });
  await create('accessgrants', 'AccessGrant', 'recent', grantSpec, { phase: 'Denied', finishedAt: ago(DAY) });
  const active = await create('accessgrants', 'AccessGrant', 'active', grantSpec, { phase: 'Active' });
  const approval = (uid: string, name: string): object => ({
    targetRef: { kind: 'AccessGrant', name, uid },
    specHash: '0'.repeat(64),
    decision: 'Approve',
    approver: stamp,
  });
  await create('accessapprovals', 'AccessApproval', 'of-old', approval(oldGrant, 'old'));
  await create('accessapprovals', 'AccessApproval', 'of-active', approval(active, 'active'));
  await create('proxyreplicas', 'ProxyReplica', 'sallyport-c-0', {});
  const session = (replica: string): object => ({
    connectionRef: { name: 'c' },
    grantRef: { name: 'active', uid: active },
    username: 'ana',
    account: 'reader',
    client: '192.0.2.1',
    replica,
    startedAt: ago(0),
  });
  await create('accesssessions', 'AccessSession', 'live', session('sallyport-c-0'), { phase: 'Live' });
  await create('accesssessions', 'AccessSession', 'orphan', session('sallyport-gone-0'), { phase: 'Live' });
  await create('accesssessions', 'AccessSession', 'ended', session('sallyport-c-0'), {
    phase: 'Ended',
    endedAt: ago(2 * HOUR),
  });

  const clock = manualClock(now);
  const store = openKubeStore({ client: plane.clientFor() });
  const cache = await openCache(
    store,
    ['AccessGrant', 'AccessApproval', 'CommandHold', 'AccessSession', 'ProxyReplica'],
    quiet,
    quiet,
    clock,
    { AccessGrant: { parent: () => [] } },
  );
  t.after(() => cache.stop());
  const garbage = startGarbage({ store, cache, clock, log: quiet });
  t.after(() => garbage.stop());
  const names = async (plural: string): Promise<string[]> => {
    const answer = await admin.list<{ metadata: { name: string } }>(`${API}/${plural}`);
    return answer.kind === 'Ok' ? answer.value.items.map(({ metadata }) => metadata.name).sort() : [];
  };
  const become = async (plural: string, wanted: readonly string[]): Promise<void> => {
    const end = performance.now() + 15_000;
    for (;;) {
      const found = await names(plural);
      if (found.join() === wanted.join()) return;
      if (performance.now() > end) assert.deepEqual(found, wanted);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  await become('accessgrants', ['active', 'recent']);
  await become('accesssessions', ['live', 'orphan']);

  // Two minutes on: old enough to be sure that its proxy is gone.
  clock.advance(120_000);
  const end = performance.now() + 15_000;
  for (;;) {
    const orphan = await admin.get<AccessSession>(`${API}/accesssessions/orphan`);
    if (orphan.kind === 'Ok' && orphan.value.status?.phase === 'Lost') {
      assert.equal(orphan.value.status.reason, 'its proxy sallyport-gone-0 is gone');
      break;
    }
    assert.ok(performance.now() < end, 'it is not called lost');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  clock.advance(2 * HOUR);
  await become('accesssessions', ['live']);
  await become('accessapprovals', ['of-active']);
  await become('accessgrants', ['active', 'recent']);
  clock.advance(8 * DAY);
  await become('accessgrants', ['active']);
  assert.deepEqual(await names('accesssessions'), ['live']);
});
