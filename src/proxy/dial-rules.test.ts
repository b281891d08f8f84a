import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { createDialGuard } from '../gateway/dial-guard.ts';
import { manualClock } from '../system/manual-clock.ts';
import { clusterDomain, dialRules } from './dial-rules.ts';

const failure = (code: string): Error => Object.assign(new Error(code), { code });

function rules(names: Readonly<Record<string, readonly string[] | string>>, namespace = 'payments') {
  const clock = manualClock();
  const asked: string[] = [];
  const made = dialRules({
    namespace,
    apiServer: '10.96.0.1',
    domain: 'cluster.local',
    clock,
    async reverse(address) {
      asked.push(address);
      const found = names[address] ?? 'ENOTFOUND';
      if (typeof found === 'string') throw failure(found);
      return await Promise.resolve(found);
    },
  });
  return { ...made, clock, asked };
}

test('INV-12: a Service of another namespace is refused by name, however it is spelled', () => {
  const { refuseName } = rules({});
  for (const host of [
    'db.billing.svc',
    'db.billing.svc.cluster.local',
    'DB.Billing.SVC.Cluster.Local.',
    'a.db.billing.svc.cluster.local',
    '10-0-0-1.billing.pod.cluster.local',
    'kubernetes.default.svc',
  ])
    assert.match(refuseName(host) ?? '', /is in namespace (billing|default)/, host);
  for (const host of ['svc', 'svc.cluster.local']) assert.match(refuseName(host) ?? '', /names no Service/, host);
  for (const host of ['db', 'db.payments.svc', 'db.payments.svc.cluster.local.', 'db.corp.example', 'svc.corp.example'])
    assert.equal(refuseName(host), undefined, host);
});

test('INV-12: in the namespace default the API itself is refused', () => {
  const { refuseName } = rules({}, 'default');
  assert.match(refuseName('kubernetes.default.svc.cluster.local') ?? '', /the cluster’s API/);
  assert.equal(refuseName('db.default.svc'), undefined);
});

test('INV-12: an address is what the cluster’s DNS calls it', async () => {
  const { refuseAddress } = rules({
    '10.96.0.7': ['db.billing.svc.cluster.local'],
    '10.96.0.8': ['db.payments.svc.cluster.local'],
    '10.244.0.9': ['db.payments.svc.cluster.local', '10-244-0-9.x.billing.svc.cluster.local.'],
    '192.0.2.1': ['db.corp.example'],
  });
  assert.match((await refuseAddress('10.96.0.1')) ?? '', /the cluster’s API/);
  assert.match((await refuseAddress('10.96.0.7')) ?? '', /is in namespace billing/);
  assert.equal(await refuseAddress('10.96.0.8'), undefined);
  assert.match((await refuseAddress('10.244.0.9')) ?? '', /is in namespace billing/);
  assert.equal(await refuseAddress('192.0.2.1'), undefined);
  assert.equal(await refuseAddress('192.0.2.2'), undefined);
});

test('INV-04: where nobody answers for an address, it is refused unless the cluster’s DNS is there', async () => {
  for (const code of ['ETIMEOUT', 'ESERVFAIL', 'ECONNREFUSED', 'EREFUSED']) {
    const dead = rules({ '10.96.0.7': code, '10.96.0.1': code });
    assert.match((await dead.refuseAddress('10.96.0.7')) ?? '', /can not be judged/, code);
    const live = rules({ '192.0.2.1': code, '10.96.0.1': ['kubernetes.default.svc.cluster.local'] });
    assert.equal(await live.refuseAddress('192.0.2.1'), undefined, code);
  }
});

test('an answer is kept for half a minute, and no more than so many', async () => {
  const { refuseAddress, asked, clock } = rules({});
  await refuseAddress('192.0.2.1');
  await refuseAddress('192.0.2.1');
  assert.equal(asked.length, 1);
  clock.advance(31_000);
  await refuseAddress('192.0.2.1');
  assert.equal(asked.length, 2);
});

test('INV-12: the guard asks by the address itself, not by a spelling of it', async () => {
  const { refuseName, refuseAddress } = rules({ '10.96.0.7': ['db.billing.svc.cluster.local'] });
  const guard = createDialGuard({
    refuseName,
    refuseAddress,
    resolve: () => Promise.resolve(['192.0.2.1', '10.96.0.7']),
    connect: () => assert.fail('nothing may be dialled'),
  });
  const signal = AbortSignal.timeout(5_000);
  for (const host of ['10.96.0.7', '::ffff:10.96.0.7', '::ffff:a60:7', 'looks-fine.example', 'db.billing.svc'])
    await assert.rejects(guard.dial({ host, port: 5432 }, [host], signal), /may not be dialled: .*billing/, host);
});

test('the cluster’s domain is read from where a pod finds it', (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-resolv-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  const file = path.join(folder, 'resolv.conf');
  fs.writeFileSync(
    file,
    'nameserver 10.96.0.10\nsearch payments.svc.k8s.corp svc.k8s.corp k8s.corp\noptions ndots:5\n',
  );
  assert.equal(clusterDomain('payments', file), 'k8s.corp');
  assert.equal(clusterDomain('billing', file), undefined);
  assert.equal(clusterDomain('payments', path.join(folder, 'none')), undefined);
});
