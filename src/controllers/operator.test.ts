// The controllers over a real directory store, with a clock that is moved by hand and a protocol made for tests.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { specHash } from '../api/canonical.ts';
import type { CommandHold } from '../api/hold.ts';
import { API_GROUP_VERSION } from '../api/schema.ts';
import type { ReleasesShard } from '../policy/bundle.ts';
import { alice, connection, dana, person, phase, policy, type World, world } from './test-operator.ts';

test('INV-10: request, approve, expire; a restart in between changes nothing, and each act is on record', async (context) => {
  const at = await world(context);
  const grant = await at.grant(alice, { duration: '1h' });
  assert.equal(await phase(at, grant), 'Pending');
  assert.deepEqual(at.published(), []);
  await at.vote(dana, grant, 'Approve');
  assert.equal(await phase(at, grant), 'Active');
  assert.deepEqual(
    at.published().map((each) => [each.uid, each.policy, each.account]),
    [[grant.metadata.uid, 'payments/team', 'writer']],
  );
  const before = (await at.see(grant)).status;
  await at.restart();
  assert.deepEqual((await at.see(grant)).status, before);
  assert.equal(at.published().length, 1);
  at.clock.advance(3_600_000);
  await at.settle();
  assert.equal(await phase(at, grant), 'Expired');
  assert.deepEqual(at.published(), []);
  assert.deepEqual(
    at.acts.map((each) => each.act).filter((act) => act.startsWith('grant') || act.startsWith('approval')),
    ['grant.request', 'approval.approve', 'grant.approve', 'grant.active', 'grant.expired'],
  );
});

test('INV-08: a vote for another uid or spec, by a stranger or by oneself, counts for nothing and says why', async (context) => {
  const at = await world(context);
  const grant = await at.grant(alice);
  const votes = [
    await at.vote(dana, grant, 'Approve', { specHash: '0'.repeat(64) }),
    await at.vote(dana, grant, 'Approve', {
      targetRef: { kind: 'AccessGrant', name: grant.metadata.name, uid: 'another' },
    }),
    await at.vote(person('eve', 'dev'), grant, 'Approve'),
    await at.vote(person('ALICE', 'dba'), grant, 'Approve'),
  ];
  assert.equal(await phase(at, grant), 'Pending');
  const reasons = await Promise.all(votes.map(async (each) => (await at.see(each)).status?.conditions?.[0]?.reason));
  assert.deepEqual(reasons, ['Invalid', 'Invalid', 'NotApprover', 'Requester']);
});

test('INV-12: another namespace’s policies and approvers give nothing here', async (context) => {
  const yaml =
    connection('payments') +
    policy('payments', 'team', 'dev', 'dba') +
    `---\n${connection('other')}` +
    policy('other', 'team', 'everybody', 'everybody');
  const at = await world(context, yaml);
  const outsider = person('olga', 'everybody');
  const grant = await at.grant(outsider);
  assert.equal(await phase(at, grant), 'Pending');
  await at.vote(person('otto', 'everybody'), grant, 'Approve');
  assert.equal(await phase(at, grant), 'Pending');
  // An approval that lies in the other namespace is about nothing here.
  const foreign = await at.store.create(
    { kind: 'Person', principal: dana },
    {
      apiVersion: API_GROUP_VERSION,
      kind: 'AccessApproval',
      metadata: { name: 'foreign', namespace: 'other' },
      spec: {
        targetRef: { kind: 'AccessGrant', name: grant.metadata.name, uid: grant.metadata.uid },
        specHash: specHash(grant.spec),
        decision: 'Approve',
      },
    },
  );
  assert.equal(foreign.kind, 'Ok');
  await at.settle();
  assert.equal(await phase(at, grant), 'Pending');
  assert.deepEqual(at.published('payments'), []);
});

test('INV-08: status is not authority: a phase that the operator did not seal is decided again', async (context) => {
  const at = await world(context);
  const grant = await at.grant(alice);
  const seen = await at.see(grant);
  const forged = await at.store.applyStatus(
    { kind: 'Operator' },
    { kind: 'AccessGrant', namespace: 'payments', name: grant.metadata.name },
    seen.metadata.resourceVersion,
    { ...seen.status, phase: 'Active', notBefore: '2026-01-01T00:00:00Z', expiresAt: '2026-01-02T00:00:00Z' },
  );
  assert.equal(forged.kind, 'Ok');
  await at.settle();
  assert.deepEqual(at.published(), []);
  assert.equal(await phase(at, grant), 'Pending');
});

test('policy changes: an approved grant is withheld while nothing names its owner, and says so', async (context) => {
  const at = await world(context);
  const grant = await at.grant(alice);
  await at.vote(dana, grant, 'Approve');
  assert.equal(at.published().length, 1);
  const file = path.join(at.directory, 'all.yaml');
  fs.writeFileSync(file, connection('payments') + policy('payments', 'team', 'other-team', 'dba'));
  at.store.reload();
  await at.settle();
  assert.deepEqual(at.published(), []);
  assert.equal(await phase(at, grant), 'Active');
  const active = (await at.see(grant)).status?.conditions?.find((each) => each.type === 'Active');
  assert.deepEqual([active?.status, active?.reason], ['False', 'PolicyChanged']);
  fs.writeFileSync(file, connection('payments') + policy('payments', 'team', 'dev', 'nobody'));
  at.store.reload();
  await at.settle();
  assert.equal(at.published().length, 1, 'what was approved stays approved');
});

test('a request that no policy allows yet waits, and is decided when one does', async (context) => {
  const at = await world(context, connection('payments'));
  const grant = await at.grant(alice);
  const vote = await at.vote(dana, grant, 'Approve');
  assert.match((await at.see(grant)).status?.waitingFor ?? '', /No policy gives alice/);
  fs.writeFileSync(path.join(at.directory, 'more.yaml'), policy('payments', 'team', 'dev', 'dba'));
  at.store.reload();
  await at.settle();
  assert.equal(await phase(at, grant), 'Active');
  assert.equal((await at.see(vote)).status?.conditions?.[0]?.status, 'True');
});

test('one client key in two persons’ grants is refused', async (context) => {
  const at = await world(context);
  const clientKey = 'A'.repeat(42) + 'E';
  const first = await at.grant(alice, { clientKey });
  at.clock.advance(1);
  const second = await at.grant(person('bob', 'dev'), { clientKey });
  assert.equal(await phase(at, second), 'Denied');
  assert.equal(await phase(at, first), 'Pending', 'whoever had it first can not be shut out with it');
});

test('an extension keeps requester, policy and account, one per parent, within the longest duration', async (context) => {
  const at = await world(context);
  const parent = await at.grant(alice, { duration: '1h' });
  const ref = { name: parent.metadata.name, uid: parent.metadata.uid };
  const early = await at.grant(alice, { extends: ref });
  assert.equal(await phase(at, early), 'Denied', 'nothing to extend yet');
  await at.vote(dana, parent, 'Approve');
  const stranger = await at.grant(person('bob', 'dev'), { extends: ref });
  assert.match((await at.see(stranger)).status?.message ?? '', /somebody else/);
  const long = await at.grant(alice, { extends: ref, duration: '90m' });
  assert.match((await at.see(long)).status?.message ?? '', /longer than the 2h/);
  const good = await at.grant(alice, { extends: ref, duration: '30m' });
  assert.equal(await phase(at, good), 'Pending');
  const second = await at.grant(alice, { extends: ref, duration: '10m' });
  assert.match((await at.see(second)).status?.message ?? '', /extends .* already/);
  await at.vote(dana, good, 'Approve');
  assert.equal((await at.see(good)).status?.notBefore, (await at.see(parent)).status?.expiresAt);
  assert.equal(at.published().find((each) => each.uid === good.metadata.uid)?.extends, parent.metadata.uid);
  await at.vote(dana, parent, 'Revoke');
  assert.equal(await phase(at, parent), 'Revoked');
  assert.equal(await phase(at, good), 'Denied', 'what cuts the parent cuts it');
  assert.deepEqual(at.published(), []);
});

async function hold(at: World, change: Record<string, unknown> = {}): Promise<CommandHold> {
  const grant = await at.grant(alice);
  const result = await at.store.create<CommandHold>(
    { kind: 'Proxy', replica: 'test' },
    {
      apiVersion: API_GROUP_VERSION,
      kind: 'CommandHold',
      metadata: { name: 'h-3b7', namespace: 'payments' },
      spec: {
        connectionRef: { name: 'orders-db' },
        grantRef: { name: grant.metadata.name, uid: grant.metadata.uid },
        sessionId: 's-1',
        requester: { username: 'alice', groups: ['dba'] },
        command: 'delete from orders',
        hiddenLiterals: 0,
        commandHash: 'a'.repeat(64),
        rules: [{ policy: 'payments/team', rule: 'unbounded' }],
        reason: 'unbounded',
        requirements: [
          { rule: 'unbounded', count: 1, approvers: [{ kind: 'Group', name: 'dba' }] },
          {
            rule: 'careful',
            count: 2,
            approvers: [
              { kind: 'Group', name: 'leads' },
              { kind: 'Group', name: 'dba' },
            ],
          },
        ],
        requestedAt: new Date(at.clock.now()).toISOString(),
        until: new Date(at.clock.now() + 60_000).toISOString(),
        ...change,
      },
    },
  );
  assert.equal(result.kind, 'Ok', JSON.stringify(result));
  await at.settle();
  return (result as { value: CommandHold }).value;
}
const releases = (at: World): ReleasesShard['releases'] =>
  [...at.shards.values()]
    .filter((each) => each.shard === 'releases')
    .flatMap((each) => (JSON.parse(each.payload) as ReleasesShard).releases);

test('INV-08: a held command needs every requirement met by others, and its release is signed into the bundle', async (context) => {
  const at = await world(context);
  const held = await hold(at);
  await at.vote(person('Alice', 'dba'), held, 'Approve');
  await at.vote(dana, held, 'Approve');
  await at.vote(dana, held, 'Approve');
  assert.equal((await at.see(held)).status?.phase, 'Waiting');
  assert.deepEqual(releases(at), []);
  await at.vote(person('lena', 'leads'), held, 'Approve');
  assert.equal((await at.see(held)).status?.phase, 'Approved');
  assert.deepEqual(
    releases(at).map((each) => [each.decision, each.by, each.commandHash[0]]),
    [['Approved', ['dana', 'lena'], 'a']],
  );
});

test('a denial by any approver ends a hold, and after its time nothing counts', async (context) => {
  const at = await world(context);
  const held = await hold(at);
  await at.vote(person('lena', 'leads'), held, 'Deny', { reason: 'add a WHERE' });
  assert.equal((await at.see(held)).status?.phase, 'Denied');
  assert.equal(releases(at)[0]?.reason, 'add a WHERE');
  await at.vote(dana, held, 'Approve');
  assert.equal((await at.see(held)).status?.phase, 'Denied');
});

test('a hold that nobody decides times out', async (context) => {
  const at = await world(context);
  const held = await hold(at);
  at.clock.advance(60_000);
  await at.settle();
  assert.equal((await at.see(held)).status?.phase, 'TimedOut');
  const late = await at.vote(dana, held, 'Approve');
  assert.equal((await at.see(late)).status?.conditions?.[0]?.reason, 'TooLate');
});

test('INV-10: unchanged shards are not signed again, a heartbeat comes every 30 seconds', async (context) => {
  const at = await world(context);
  const sequences = (): Map<string, number> =>
    new Map([...at.shards].map(([name, each]) => [name.split(' ')[1]!, each.sequence]));
  const first = sequences();
  at.operator.resync();
  await at.settle();
  assert.deepEqual(sequences(), first);
  await at.grant(alice);
  at.clock.advance(30_000);
  await at.settle();
  const later = sequences();
  assert.equal(later.get('policy'), first.get('policy'));
  assert.ok(later.get('heartbeat')! > first.get('heartbeat')!);
});

test('INV-08: what is republished is signed anew, all of it, and nothing else is', async (context) => {
  const at = await world(
    context,
    `${connection('payments')}---\n${connection('shop')}${policy('payments', 'team', 'dev', 'dba')}`,
  );
  const sequences = (uid: string): [string, number][] =>
    [...at.shards]
      .filter(([name, { shard }]) => name.startsWith(`${uid} `) && shard !== 'heartbeat')
      .map(([name, { sequence }]) => [name.split(' ')[1]!, sequence]);
  const [one, other] = (await at.store.list('Connection')).items.map(({ metadata }) => metadata.uid) as [
    string,
    string,
  ];
  const before = new Map(sequences(one));
  const others = sequences(other);
  assert.ok(before.size >= 4);
  at.operator.republish(one);
  at.operator.republish('nobody');
  await at.settle();
  for (const [shard, sequence] of sequences(one)) assert.ok(sequence > before.get(shard)!, shard);
  assert.deepEqual(sequences(other), others);
});

test('INV-04: while records can not be written nothing is granted, but a revocation takes effect', async (context) => {
  const at = await world(context);
  const first = await at.grant(alice);
  await at.vote(dana, first, 'Approve');
  const second = await at.grant(alice);
  at.diskFull = true;
  await at.vote(dana, second, 'Approve');
  assert.equal(await phase(at, second), 'Pending');
  await at.vote(person('dora', 'dba'), first, 'Approve');
  await at.vote(dana, first, 'Revoke');
  assert.equal(await phase(at, first), 'Revoked');
  assert.deepEqual(at.published(), []);
  at.diskFull = false;
  at.clock.advance(60_000);
  await at.settle();
  assert.equal(await phase(at, second), 'Active');
});

test('INV-10: a Connection that comes while issuers’ keys are read has its place before its bundle is published', async (context) => {
  const heard: string[] = [];
  const late = connection('payments').replace('name: orders-db', 'name: late-db');
  const at = await world(context, undefined, undefined, ({ directory, reload }) => ({
    also: {
      kinds: [],
      onChange({ kind, type, object }) {
        if (kind === 'Connection') heard.push(`${type} ${object.metadata.name}`);
      },
    },
    storedIdentity: {
      read: async () => {
        fs.writeFileSync(path.join(directory, 'late.yaml'), late);
        reload();
        for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
        return undefined;
      },
    },
  }));
  await at.settle();
  assert.ok(heard.includes('Added late-db'), heard.join(', '));
});
