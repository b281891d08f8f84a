// The chart's ValidatingAdmissionPolicies about Sallyport's own objects, against people who try to get around them. The
// webhook is not there: what these policies refuse, they refuse by themselves.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createKubeClient, type KubeClient } from '../../src/kube/client.ts';
import { RELEASE_NAMESPACE } from '../support/chart.ts';
import { skipWithoutCluster } from '../support/cluster/control-plane.ts';
import {
  allowed,
  asForm,
  bundle,
  grant,
  hold,
  inShop,
  lock,
  object,
  policiesBed,
  refused,
  session,
  stampOf,
  vote,
} from './policies-bed.ts';

const skip = await skipWithoutCluster();

describe('admission policies', { skip }, () => {
  const bed = policiesBed();

  test('INV-08: without the webhook nothing unstamped gets in, by any door', async () => {
    const { admin, alice, operator } = bed;
    const made = object('AccessGrant', 'g1', grant);
    for (const client of [alice, admin, operator]) {
      refused(await client.create(inShop('accessgrants'), made), /without a stamp of who made it|is forbidden: User/);
    }
    refused(
      await alice.create(inShop('accessgrants'), { ...made, metadata: { generateName: 'g-' } }),
      /webhook of Sallyport did not see it, so nothing was made/,
    );
    refused(await alice.create(inShop('accessgrants'), made, { dryRun: true }), /without a stamp/);
    refused(await admin.patch(inShop('accessgrants', 'g1'), made, 'apply', { fieldManager: 'x' }), /without a stamp/);
    refused(await alice.create(inShop('accessapprovals'), object('AccessApproval', 'a1', vote)), /A vote without/);
    refused(await alice.create(inShop('accesslocks'), object('AccessLock', 'l1', lock('bob'))), /A lock without/);
  });

  test('INV-08: a stamp names who sent it and nobody else', async () => {
    const { admin, alice, as } = bed;
    const own = stampOf('alice', 'payments');
    const lies: [object, RegExp][] = [
      [stampOf('bob', 'payments'), /names somebody else/],
      [{ ...own, username: 'Alice' }, /names somebody else/],
      [{ ...own, uid: 'uid-bob' }, /names somebody else/],
      [{ ...own, uid: undefined }, /names somebody else/],
      [{ ...own, groups: ['payments', 'dba', 'system:authenticated'] }, /names somebody else/],
      [{ ...own, groups: undefined }, /names somebody else/],
      [{ ...own, aliases: ['root'] }, /names somebody else/],
      [{ ...own, proof: 'token' }, /is a token, which is never stored/],
      [{ ...own, via: 'Portal' }, /via must be Kubernetes/],
      [{ ...own, via: 'Local' }, /via must be Kubernetes/],
      [{ ...own, seal: undefined }, /has no seal/],
      [{ ...own, nonce: undefined }, /has no seal/],
    ];
    for (const [requester, message] of lies) {
      refused(
        await alice.create(inShop('accessgrants'), object('AccessGrant', 'g2', { ...grant, requester })),
        message,
      );
    }
    refused(
      await alice.create(
        inShop('accessapprovals'),
        object('AccessApproval', 'a2', { ...vote, approver: stampOf('bob', 'payments') }),
      ),
      /spec\.approver names somebody else/,
    );
    refused(
      await admin.create(inShop('accesslocks'), object('AccessLock', 'l2', { ...lock('bob'), author: own })),
      /spec\.author names somebody else/,
    );
    // Impersonation: the request is the impersonated person's, so a stamp of the person behind is a lie.
    const bobByAdmin = as('admin', 'bob', ['payments', 'system:authenticated']);
    refused(
      await bobByAdmin.create(
        inShop('accessgrants'),
        object('AccessGrant', 'g2', { ...grant, requester: stampOf('admin', 'system:masters') }),
      ),
      /names somebody else/,
    );
    // The user's own, well formed: it gets in, and its bad seal is for the controller to see.
    allowed(await alice.create(inShop('accessgrants'), object('AccessGrant', 'g-own', { ...grant, requester: own })));
  });

  test('INV-08: a request can not be changed, nor take its status along', async () => {
    const { admin, alice } = bed;
    const requester = stampOf('alice', 'payments');
    const made = allowed(
      await alice.create<{ status?: object }>(
        inShop('accessgrants'),
        object('AccessGrant', 'g3', { ...grant, requester }, { status: { phase: 'Active' } }),
      ),
    );
    assert.equal(made.status, undefined);
    const changed = await admin.patch(
      inShop('accessgrants', 'g3'),
      { spec: { requester: { username: 'bob' } } },
      'merge',
    );
    assert.equal(changed.kind === 'Failed' ? changed.status : 0, 422);
    const ssa = allowed(
      await admin.patch<{ status?: object }>(
        inShop('accessgrants', 'g3'),
        object('AccessGrant', 'g3', { ...grant, requester }, { status: { phase: 'Active' } }),
        'apply',
        { fieldManager: 'x', force: true },
      ),
    );
    assert.equal(ssa.status, undefined);
  });

  test('INV-03: nobody makes a request that can not be deleted, or makes it so later', async () => {
    const { plane, admin, alice } = bed;
    const requester = stampOf('alice', 'payments');
    const held = object('AccessGrant', 'g4', { ...grant, requester });
    const finalizers = ['example.com/never'];
    refused(
      await alice.create(inShop('accessgrants'), { ...held, metadata: { name: 'g4', finalizers } }),
      /Finalizers are refused here/,
    );
    allowed(await alice.create(inShop('accessgrants'), held));
    refused(await admin.patch(inShop('accessgrants', 'g4'), { metadata: { finalizers } }, 'merge'), /Finalizers are/);
    allowed(await admin.patch(inShop('accessgrants', 'g4'), { metadata: { labels: { a: 'b' } } }, 'merge'));
    allowed(await admin.delete(inShop('accessgrants', 'g4'), { propagationPolicy: 'Foreground' }));
    // The garbage collector takes its own mark off; here nobody else does.
    const collector = plane.clientFor('system:serviceaccount:kube-system:generic-garbage-collector');
    allowed(await collector.patch(inShop('accessgrants', 'g4'), { metadata: { finalizers: null } }, 'merge'));
    const gone = await admin.get(inShop('accessgrants', 'g4'));
    assert.ok(gone.kind === 'Failed' && gone.status === 404);
  });

  test('INV-03: a lock is not changed, and nobody lifts the one that shuts them out', async () => {
    const { plane, admin, alice } = bed;
    const author = stampOf('alice', 'payments');
    const make = async (name: string, target: object): Promise<void> => {
      allowed(await alice.create(inShop('accesslocks'), object('AccessLock', name, { target, reason: 'r', author })));
    };
    await make('of-bob', { user: 'bob' });
    await make('of-alice', { user: 'ALICE' });
    await make('of-payments', { group: 'payments' });
    refused(
      await admin.patch(inShop('accesslocks', 'of-bob'), { spec: { target: { user: 'carol' } } }, 'merge'),
      /A lock can not be changed/,
    );
    refused(await alice.delete(inShop('accesslocks', 'of-alice')), /Nobody lifts a lock/);
    refused(await alice.delete(inShop('accesslocks', 'of-payments')), /Nobody lifts a lock/);
    const bob = plane.clientFor('bob');
    refused(await bob.delete(inShop('accesslocks', 'of-bob')), /Nobody lifts a lock/);
    allowed(await bob.delete(inShop('accesslocks', 'of-alice')));
    allowed(await alice.delete(inShop('accesslocks', 'of-bob')));
    allowed(await admin.delete(inShop('accesslocks', 'of-payments')));
  });

  test('only the operator, in its own pod, writes status and bundles', async () => {
    const { admin, operator, proxy, as } = bed;
    const active = asForm({}, { status: { phase: 'Active' } });
    const path = `${inShop('accessgrants', 'g-own')}/status`;
    const impostors: [string, KubeClient][] = [
      ['cluster admin', admin],
      ['proxy', proxy],
      [
        'impersonated operator',
        as('admin', `system:serviceaccount:${RELEASE_NAMESPACE}:sallyport`, ['system:masters']),
      ],
      ['operator of another namespace', as('admin', 'system:serviceaccount:shop:sallyport', ['system:masters'])],
    ];
    for (const [who, client] of impostors) {
      const answer = await client.patch(path, active, 'merge');
      assert.equal(answer.kind, 'Failed', who);
      refused(answer, /Only Sallyport's operator writes this/);
      refused(await client.create(inShop('enforcementbundles'), bundle('b1', 1)), /Only Sallyport's operator/);
    }
    allowed(await operator.patch(path, active, 'merge'));
    allowed(await operator.create(inShop('enforcementbundles'), bundle('b1', 1)));
    allowed(await operator.patch(inShop('enforcementbundles', 'b1'), { spec: { sequence: 2 } }, 'merge'));
    refused(
      await admin.patch(inShop('enforcementbundles', 'b1'), { metadata: { labels: { a: 'b' } } }, 'merge'),
      /Only Sallyport's operator/,
    );
    for (const [who, client] of [['cluster-admin', admin], ...impostors] as const) {
      const answer = await client.delete(inShop('enforcementbundles', 'b1'));
      assert.equal(answer.kind, 'Failed', who);
      refused(answer, /Only Sallyport's operator deletes this/);
    }
    const kubernetes = ['generic-garbage-collector', 'namespace-controller'].map((name) =>
      as('admin', `system:serviceaccount:kube-system:${name}`, ['system:masters']),
    );
    for (const client of kubernetes) allowed(await client.delete(inShop('enforcementbundles', 'b1'), { dryRun: true }));
    // What a Connection leaves behind on request: its owner is taken out, and nothing else is changed.
    const [garbage, namespaces] = kubernetes;
    const unowned = { metadata: { ownerReferences: null } };
    const owned = { metadata: { ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'p', uid: 'u' }] } };
    allowed(await operator.patch(inShop('enforcementbundles', 'b1'), owned, 'merge'));
    refused(await namespaces!.patch(inShop('enforcementbundles', 'b1'), unowned, 'merge'), /Only Sallyport's operator/);
    const more = { ...unowned, spec: { sequence: 3 } };
    refused(await garbage!.patch(inShop('enforcementbundles', 'b1'), more, 'merge'), /Only Sallyport's operator/);
    allowed(await garbage!.patch(inShop('enforcementbundles', 'b1'), unowned, 'merge'));
    allowed(await operator.delete(inShop('enforcementbundles', 'b1')));
  });

  test('INV-12: holds and sessions are told by a proxy of the namespace, from its own pod', async () => {
    const { plane, admin, alice, dev, operator, proxy, foreign, as, opened } = bed;
    const made = object('CommandHold', 'h1', hold);
    refused(await admin.create(inShop('commandholds'), made), /are told by the proxies that have them/);
    refused(await dev.create(inShop('commandholds'), made), /are told by the proxies/);
    // Editors may impersonate ServiceAccounts of their namespace; a pod they can not be.
    const worn = as('dev', 'system:serviceaccount:shop:sallyport-orders');
    refused(await worn.create(inShop('commandholds'), made), /are told by the proxies/);
    const forged = createKubeClient({
      ...plane.access('dev'),
      headers: async () => ({
        ...(await plane.access('dev').headers()),
        'impersonate-user': 'system:serviceaccount:shop:sallyport-orders',
        'impersonate-extra-authentication.kubernetes.io%2fpod-name': 'sallyport-orders-0',
      }),
    });
    opened.push(forged);
    refused(await forged.create(inShop('commandholds'), made), /cannot impersonate resource "userextras/);
    const other = await foreign.create(inShop('commandholds'), made);
    assert.equal(other.kind, 'Failed');
    const told = (kind: string, name: string, spec: object, replica?: string): object =>
      object(kind, name, spec, {
        metadata: { name, ...(replica === undefined ? {} : { labels: { 'sallyport.dev/replica': replica } }) },
      });
    for (const replica of [undefined, 'sallyport-vault-0', 'sallyport-orders-1'])
      refused(
        await proxy.create(inShop('commandholds'), told('CommandHold', 'h1', hold, replica)),
        /must name the proxy/,
      );
    allowed(await proxy.create(inShop('commandholds'), told('CommandHold', 'h1', hold, 'sallyport-orders-0')));
    allowed(await operator.create(inShop('commandholds'), told('CommandHold', 'h2', hold, 'sallyport-orders-x-0')));
    refused(
      await proxy.patch(`${inShop('commandholds', 'h2')}/status`, { status: { phase: 'Withdrawn' } }, 'merge'),
      /only proxies of that workload go on/,
    );
    refused(
      await proxy.patch(
        inShop('commandholds', 'h1'),
        { metadata: { labels: { 'sallyport.dev/replica': 'x' } } },
        'merge',
      ),
      /only proxies of that workload go on/,
    );

    const status = `${inShop('commandholds', 'h1')}/status`;
    const phase = (value: string): object => ({ status: { phase: value } });
    refused(await proxy.patch(status, phase('Approved'), 'merge'), /A proxy does not decide/);
    refused(await admin.patch(status, phase('Approved'), 'merge'), /are told by the proxies/);
    allowed(await proxy.patch(status, phase('Waiting'), 'merge'));
    allowed(await operator.patch(status, phase('Approved'), 'merge'));
    allowed(await proxy.patch(status, { status: { usedAt: '2026-03-01T09:00:30Z' } }, 'merge'));
    allowed(await proxy.patch(status, phase('Withdrawn'), 'merge'));

    refused(
      await dev.create(inShop('accesssessions'), object('AccessSession', 's1', session)),
      /are told by the proxies/,
    );
    const elsewhere = { ...session, replica: 'sallyport-vault-0' };
    for (const [spec, replica] of [
      [elsewhere, 'sallyport-orders-0'],
      [elsewhere, 'sallyport-vault-0'],
      [session, 'sallyport-vault-0'],
    ] as const) {
      const lie = await proxy.create(inShop('accesssessions'), told('AccessSession', 's1', spec, replica));
      refused(lie, /must name the proxy/);
    }
    allowed(await proxy.create(inShop('accesssessions'), told('AccessSession', 's1', session, 'sallyport-orders-0')));
    allowed(await alice.delete(inShop('accesssessions', 's1')));
  });

  test('a ProxyReplica is the word of the one pod of its name', async () => {
    const { admin, dev, operator, proxy, as } = bed;
    const path = inShop('proxyreplicas', 'sallyport-orders-0');
    refused(
      await proxy.create(inShop('proxyreplicas'), object('ProxyReplica', 'sallyport-orders-0', {})),
      /made by the operator/,
    );
    const name = (value: string): object => object('ProxyReplica', value, {});
    allowed(await operator.create(inShop('proxyreplicas'), name('sallyport-orders-0')));
    allowed(await operator.create(inShop('proxyreplicas'), name('sallyport-orders-1')));
    const spec = { spec: { version: '1', podUid: proxy.podUid } };
    for (const client of [admin, dev, as('dev', 'system:serviceaccount:shop:sallyport-orders')]) {
      refused(await client.patch(path, spec, 'merge'), /written by the pod of its name/);
    }
    refused(
      await proxy.patch(inShop('proxyreplicas', 'sallyport-orders-1'), spec, 'merge'),
      /written by the pod of its name/,
    );
    refused(await proxy.patch(path, { spec: { podUid: 'another' } }, 'merge'), /not the uid of the pod/);
    for (const metadata of [
      { labels: { a: 'b' } },
      { finalizers: ['a.example.com/x'] },
      { ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'x', uid: 'x' }] },
    ]) {
      refused(
        await proxy.patch(path, { metadata }, 'merge'),
        /not its labels, owners or finalizers|Finalizers are refused here/,
      );
    }
    allowed(await proxy.patch(path, spec, 'merge'));
    refused(
      await proxy.patch(`${path}/status`, { status: { certificate: 'mine' } }, 'merge'),
      /Only Sallyport's operator/,
    );
    allowed(await operator.patch(`${path}/status`, { status: { certificate: 'yours' } }, 'merge'));
  });
});
