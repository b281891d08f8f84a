// What decide.ts adds to the fold: who may ask for whom, how one must have logged in, emergencies, windows, statements.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import type { AccessApproval, AccessGrant } from '../../api/grant.ts';
import { generateClientKey } from '../../identity/keys.ts';
import type { Principal } from '../../policy/principal.ts';
import { alice, connection, dana, type Login, person, phase, policy, type World, world } from '../test-operator.ts';

const team = policy('payments', 'team', 'dev', 'dba');
const robot = person('system:serviceaccount:ci:flux', 'system:serviceaccounts');
const carol = person('carol');
const named = (...more: string[]): string =>
  connection('payments') +
  team.replace(
    'subjects: [{kind: Group, name: dev}]',
    `subjects: [{kind: Group, name: dev}, {kind: User, name: carol}]\n  delegators: [{subject: {kind: ServiceAccount, name: flux, namespace: ci}, notAfter: '${more[0] ?? '2100-01-01T00:00:00Z'}'}]`,
  );
const verdict = async (at: World, approval: AccessApproval): Promise<[string, string]> => {
  const counted = (await at.see(approval)).status?.conditions?.find(({ type }) => type === 'Counted');
  return [counted?.reason ?? '', counted?.message ?? ''];
};
const message = async (at: World, grant: AccessGrant): Promise<string> => (await at.see(grant)).status?.message ?? '';
const beneficiary = { kind: 'User', name: 'carol', provider: 'corp' };

test('INV-08: a delegator asks for somebody by name; neither of the two approves it, and the access is the other’s', async (context) => {
  const at = await world(context, named());
  const grant = await at.grant(robot, { beneficiary });
  assert.equal(await phase(at, grant), 'Pending');
  for (const who of [
    { ...robot, groups: ['dba'] },
    person('carol', 'dba'),
    person('CAROL', 'dba'),
    { ...person('corp:c', 'dba'), kubernetes: 'carol' },
  ])
    assert.equal((await verdict(at, await at.vote(who, grant, 'Approve')))[0], 'Requester', who.username);
  await at.vote(dana, grant, 'Approve');
  assert.equal(await phase(at, grant), 'Active');
  const [published] = at.published();
  assert.deepEqual(published?.principal, { username: 'carol', groups: [], aliases: [] });
  assert.deepEqual(published?.named, { provider: 'corp' });
  await at.vote(carol, grant, 'Withdraw');
  assert.equal(await phase(at, grant), 'Revoked', 'whom it is for may give it up');
});

test('INV-08: only a delegator, only before its end, only for a person whom the policy names', async (context) => {
  const at = await world(context, named('2026-01-01T00:00:00Z'));
  const over = at.clock.now() >= Date.parse('2026-01-01T00:00:00Z');
  assert.ok(over, 'the clock of the test is past it');
  assert.match(await message(at, await at.grant(robot, { beneficiary })), /that is over/);
  assert.match(await message(at, await at.grant(alice, { beneficiary })), /is no delegator of policy payments\/team/);
  const self = await at.grant(carol, { beneficiary });
  assert.match(await message(at, self), /is no delegator/, 'not even for oneself');
  const masters = await at.grant(robot, { beneficiary: { kind: 'User', name: 'system:admin' } });
  assert.match(await message(at, masters), /no person/);
  const unnamed = await at.grant(robot, { beneficiary: { kind: 'User', name: 'alice' } });
  assert.match((await at.see(unnamed)).status?.waitingFor ?? '', /No policy gives alice/, 'nobody proves her groups');
});

test('INV-08: one key of two beneficiaries is refused although one robot asks', async (context) => {
  const at = await world(context, named().replace('name: carol}', 'name: carol}, {kind: User, name: carl}'));
  const { publicKey: clientKey } = generateClientKey();
  await at.grant(robot, { beneficiary, clientKey });
  const again = await at.grant(robot, { beneficiary, clientKey });
  assert.equal(await phase(at, again), 'Pending', 'her own key may serve her twice');
  const second = await at.grant(robot, { beneficiary: { kind: 'User', name: 'carl' }, clientKey });
  assert.match(await message(at, second), /client key is in somebody else/);
});

test('INV-08: who asks by one identity provider does not approve by another that maps to the same user', async (context) => {
  const at = await world(context);
  const byToken: Principal = { ...person('corp:a11ce', 'dev'), uid: 'https://idp 17', kubernetes: 'oidc:alice' };
  const grant = await at.grant(byToken);
  const [reason] = await verdict(at, await at.vote(person('oidc:alice', 'dba'), grant, 'Approve'));
  assert.equal(reason, 'Requester');
});

const strong = `stepUp: {maxAge: 5m, acr: [gold], amr: [hwk, otp]}, steps: [`;
const withStepUp = (change = strong): string => connection('payments') + team.replace('steps: [', change);
const login = (at: World, ageMs: number, acr = 'gold', amr = ['pwd', 'otp']): Login => ({
  via: 'Portal',
  auth: { at: new Date(at.clock.now() - ageMs).toISOString(), acr, amr },
});

test('step-up: a request or an approval without a recent, strong login does not count and says what to do', async (context) => {
  const at = await world(context, withStepUp());
  assert.match(await message(at, await at.grant(alice)), /nobody says how this person logged in.*approval page/);
  assert.match(await message(at, await at.grant(alice, {}, 'payments', login(at, 400_000))), /6m40s old|old/);
  const grant = await at.grant(alice, {}, 'payments', login(at, 60_000));
  assert.equal(await phase(at, grant), 'Pending');
  const tries: [Login, RegExp][] = [
    [{}, /nobody says how/],
    [login(at, 301_000), /was 5m\d+s old|old/],
    [login(at, 1000, 'silver'), /class silver/],
    [login(at, 1000, 'gold', ['pwd']), /used pwd/],
    [{ via: 'Portal', auth: { acr: 'gold', amr: ['otp'] } }, /does not say when/],
    [login(at, -3_600_000), /from the future/],
  ];
  for (const [how, why] of tries) {
    const [reason, told] = await verdict(at, await at.vote(dana, grant, 'Approve', {}, how));
    assert.equal(reason, 'StepUp');
    assert.match(told, why);
  }
  assert.equal(await phase(at, grant), 'Pending');
  await at.vote(dana, grant, 'Approve', {}, login(at, 1000));
  assert.equal(await phase(at, grant), 'Active');
  await at.vote(dana, grant, 'Revoke');
  assert.equal(await phase(at, grant), 'Revoked', 'what takes away needs no step-up');
});

test('step-up on approvals alone lets requests be made by kubectl', async (context) => {
  const at = await world(context, withStepUp('stepUp: {acr: [gold], on: [Approve]}, steps: ['));
  const grant = await at.grant(alice);
  assert.equal(await phase(at, grant), 'Pending');
  assert.equal((await verdict(at, await at.vote(dana, grant, 'Approve')))[0], 'StepUp');
});

test('what is scheduled and then taken back takes its extension with it', async (context) => {
  const at = await world(context);
  const parent = await at.grant(alice, {
    duration: '10m',
    notBefore: new Date(at.clock.now() + 300_000).toISOString(),
  });
  await at.vote(dana, parent, 'Approve');
  const child = await at.grant(alice, {
    duration: '10m',
    extends: { name: parent.metadata.name, uid: parent.metadata.uid },
  });
  await at.vote(dana, child, 'Approve');
  assert.equal((await at.see(child)).status?.notBefore, (await at.see(parent)).status?.expiresAt);
  await at.vote(alice, parent, 'Withdraw');
  assert.equal(await phase(at, parent), 'Denied');
  assert.equal(await phase(at, child), 'Denied', 'what cuts the parent cuts it');
  assert.deepEqual(at.published(), []);
});

test('a policy that changes while a request waits undoes no vote that counted', async (context) => {
  const two = team.replace('{name: only,', '{name: only, count: 2,');
  const at = await world(context, connection('payments') + two);
  const grant = await at.grant(alice);
  await at.vote(dana, grant, 'Approve');
  assert.equal((await at.see(grant)).status?.approvals?.length, 1);
  fs.writeFileSync(
    path.join(at.directory, 'all.yaml'),
    connection('payments') + two.replace('name: dba}', 'name: leads}'),
  );
  at.store.reload();
  at.operator.resync();
  await at.settle();
  assert.equal((await verdict(at, await at.vote(person('dora', 'dba'), grant, 'Approve')))[0], 'NotApprover');
  await at.vote(person('lea', 'leads'), grant, 'Approve');
  assert.equal(await phase(at, grant), 'Active');
});

const glass = `breakGlass: {subjects: [{kind: Group, name: oncall}], maxDuration: 30m, reviewers: [{kind: Group, name: sec}]}\n  rules:`;
const emergency = connection('payments') + team.replace('rules:', glass);
const oncall = person('otto', 'dev', 'oncall');
const condition = async (at: World, grant: AccessGrant): Promise<string | undefined> =>
  (await at.see(grant)).status?.conditions?.find(({ type }) => type === 'SignedOff')?.status;

test('break-glass: named people, with a reason, for its own short time; recorded before it is given', async (context) => {
  const at = await world(context, emergency);
  const grant = await at.grant(oncall, { breakGlass: true });
  const { status } = await at.see(grant);
  assert.equal(status?.phase, 'Active');
  assert.equal(Date.parse(status!.expiresAt!) - Date.parse(status!.notBefore!), 1_800_000);
  assert.ok(at.acts.some(({ act }) => act === 'grant.break-glass'));
  assert.match(await message(at, await at.grant(oncall, { breakGlass: true, reason: '  ' })), /needs a reason/);
  const none = await at.store.create(
    { kind: 'Person', principal: oncall },
    {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'AccessGrant',
      metadata: { name: 'g-', namespace: 'payments' },
      spec: { connectionRef: { name: 'orders-db' }, breakGlass: true },
    },
  );
  assert.equal(none.kind, 'Invalid');
  assert.equal(await phase(at, await at.grant(alice, { breakGlass: true })), 'Pending', 'alice is not named');
  assert.match(
    (await at.see(await at.grant(oncall, { breakGlass: true, duration: '31m' }))).status?.waitingFor ?? '',
    /at most 30m/,
  );
  at.diskFull = true;
  const blind = await at.grant(oncall, { breakGlass: true });
  assert.equal((await at.see(blind)).status, undefined, 'without a record there is no access');
});

test('INV-08: an emergency is signed off by an unrelated reviewer, once, also after it ended; a condition signs nothing', async (context) => {
  const at = await world(context, emergency);
  const grant = await at.grant(oncall, { breakGlass: true });
  assert.equal(await condition(at, grant), 'False');
  assert.equal((await verdict(at, await at.vote(person('Otto', 'sec'), grant, 'SignOff')))[0], 'Requester');
  assert.equal((await verdict(at, await at.vote(dana, grant, 'SignOff')))[0], 'NotApprover');
  // Somebody who can write a status forges the condition: it is put back.
  const seen = await at.see(grant);
  const forged = seen.status!.conditions!.map((each) =>
    each.type === 'SignedOff' ? { ...each, status: 'True' as const } : each,
  );
  await at.store.applyStatus(
    { kind: 'Operator' },
    { kind: 'AccessGrant', namespace: 'payments', name: grant.metadata.name },
    seen.metadata.resourceVersion,
    {
      ...seen.status,
      conditions: forged,
      signOff: { by: 'x', approval: { name: 'x', uid: 'x' }, at: seen.status!.expiresAt! },
    },
  );
  await at.settle();
  assert.equal(await condition(at, grant), 'False');
  at.clock.advance(1_900_000);
  await at.settle();
  assert.equal(await phase(at, grant), 'Expired');
  assert.equal(await condition(at, grant), 'False', 'still due');
  const first = await at.vote(person('sam', 'sec'), grant, 'SignOff', { reason: 'was needed' });
  assert.equal((await verdict(at, first))[0], 'Counted');
  assert.deepEqual(
    [(await at.see(grant)).status?.signOff?.by, (await at.see(grant)).status?.signOff?.reason],
    ['sam', 'was needed'],
  );
  await at.restart();
  assert.equal(await condition(at, grant), 'True');
  assert.equal(await phase(at, grant), 'Expired');
  assert.equal((await verdict(at, await at.vote(person('sue', 'sec'), grant, 'SignOff')))[0], 'NotNeeded');
});

test('statements are approved with the grant only where approvers can read them', async (context) => {
  const at = await world(context);
  const blind = await at.grant(alice, { commandHashes: ['a'.repeat(64)] });
  assert.match(await message(at, blind), /nobody consents to what they can not read/);
  const other = await at.grant(alice, { commandHashes: ['a'.repeat(64)], commands: ['select 1'] });
  assert.match(await message(at, other), /is not the hash of commands\[0\]/);
  const good = await at.grant(alice, { commands: ['update t set a = 1', 'drop table old'] });
  await at.vote(dana, good, 'Approve');
  const [published] = at.published();
  assert.equal(published?.commandHashes.length, 2);
  assert.ok(published!.commandHashes.every((hash) => /^[0-9a-f]{64}$/.test(hash)));
});

test('a sealed grant is for whom the policy trusts in an emergency, needs somebody’s consent, and is published apart', async (context) => {
  const at = await world(context, emergency);
  const { publicKey: clientKey } = generateClientKey();
  const spec = { clientKey, duration: '20m', sealed: { validFor: '720h', uses: 2 } };
  assert.match((await at.see(await at.grant(alice, spec))).status?.waitingFor ?? '', /break-glass is for group oncall/);
  const tooLong = await at.grant(oncall, { ...spec, sealed: { validFor: '721h' } });
  assert.match(await message(at, tooLong), /30 days at most/);
  const grant = await at.grant(oncall, { ...spec, clientKey: generateClientKey().publicKey });
  assert.equal(await phase(at, grant), 'Pending');
  await at.vote(dana, grant, 'Approve');
  const { status } = await at.see(grant);
  assert.equal(Date.parse(status!.expiresAt!) - Date.parse(status!.notBefore!), 720 * 3_600_000);
  assert.equal(await condition(at, grant), undefined, 'nobody opened it');
  const shard = [...at.shards.values()].find(
    (each) => each.shard.startsWith('grants-') && each.payload.includes('sealed'),
  );
  const payload = JSON.parse(shard!.payload) as { grants: unknown[]; sealed: { sealed: unknown; uid: string }[] };
  assert.deepEqual(payload.grants, []);
  assert.deepEqual(
    payload.sealed.map(({ sealed, uid }) => [uid, sealed]),
    [[grant.metadata.uid, { durationMs: 1_200_000, uses: 2 }]],
  );
});

test('where no step asks anybody, a reviewer of emergencies consents to a sealed grant', async (context) => {
  const standing = connection('payments') + team.replace(/ {2}approval:.*\n/, '').replace('rules:', glass);
  const at = await world(context, standing);
  const spec = { clientKey: generateClientKey().publicKey, sealed: { validFor: '24h' } };
  const grant = await at.grant(oncall, spec);
  assert.equal(await phase(at, grant), 'Pending');
  await at.vote(person('otto', 'oncall', 'sec'), grant, 'Approve');
  assert.equal(await phase(at, grant), 'Pending');
  await at.vote(person('sam', 'sec'), grant, 'Approve');
  assert.equal(await phase(at, grant), 'Active');
});

test('a vote that a replica with a clock ahead has stamped counts at once: to give and to take', async (context) => {
  const at = await world(context);
  /** The stamp is made as the call begins; whoever decides comes later, by a clock that is behind. */
  const ahead = async (grant: AccessGrant, decision: 'Approve' | 'Revoke'): Promise<void> => {
    const now = at.clock.now();
    at.clock.setWall(now + 1_500);
    const voting = at.vote(dana, grant, decision);
    at.clock.setWall(now);
    await voting;
  };
  const grant = await at.grant(alice);
  await ahead(grant, 'Approve');
  assert.equal(await phase(at, grant), 'Active');
  await ahead(grant, 'Revoke');
  assert.equal(await phase(at, grant), 'Revoked');
});
