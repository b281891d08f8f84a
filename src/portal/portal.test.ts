import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyText } from '../../test/support/any-text.ts';
import type { AccessGrant } from '../api/grant.ts';
import type { CommandHold } from '../api/hold.ts';
import type { AccessPolicy } from '../api/policy.ts';
import type { Principal } from '../policy/principal.ts';
import { manualClock } from '../system/manual-clock.ts';
import { systemRandom } from '../system/random.ts';
import { addFlow, createBrowserSessions, type Flow, IDLE_MS, LONGEST_MS, takeFlow } from './browser-sessions.ts';
import { grantConcern, historyOf, holdConcern, isOwn, ownsGrant } from './concerns.ts';
import { escape, html } from './html.ts';
import { localPath } from './http.ts';
import { offersFor } from './offers.ts';
import { specOf } from './requests-api.ts';
import { stepUpOf } from './step-up.ts';
import { grantConsequence, span } from './words.ts';

const NOW = Date.parse('2026-03-01T09:00:00Z');
const person = (username: string, groups: string[] = [], more: Partial<Principal> = {}): Principal => ({
  username,
  groups,
  aliases: [],
  ...more,
});
const meta = (name: string, namespace = 'payments') => ({
  name,
  namespace,
  uid: `uid-${namespace}-${name}`,
  resourceVersion: '1',
  generation: 1,
  creationTimestamp: '2026-03-01T08:59:00Z',
});
const policy = (spec: Partial<AccessPolicy['spec']> = {}, namespace = 'payments'): AccessPolicy => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind: 'AccessPolicy',
  metadata: meta('team', namespace),
  spec: {
    connectionSelector: {},
    subjects: [{ kind: 'Group', name: 'dev' }],
    accounts: ['reader'],
    approval: {
      steps: [
        { name: 'lead', approvers: [{ kind: 'Group', name: 'leads' }] },
        { name: 'dba', count: 2, approvers: [{ kind: 'Group', name: 'dba' }] },
      ],
    },
    ...spec,
  },
});
const grant = (
  status: Partial<AccessGrant['status'] & object> = {},
  spec: Partial<AccessGrant['spec']> = {},
): AccessGrant => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind: 'AccessGrant',
  metadata: meta('orders-db-1'),
  spec: {
    connectionRef: { name: 'orders-db' },
    duration: '1h',
    requester: { via: 'Portal', username: 'corp:alice', uid: 'iss alice', aliases: ['alice@corp.example'] },
    ...spec,
  },
  status: {
    phase: 'Pending',
    policy: { kind: 'AccessPolicy', name: 'team', namespace: 'payments', uid: 'uid-payments-team' },
    deadline: '2026-03-01T10:00:00Z',
    ...status,
  },
});
const actions = (who: Principal, of: AccessGrant, by = policy()) => grantConcern(who, of, [by], NOW)?.actions;

test('INV-12: a request concerns its own and who answers for it under its very policy, and nobody else', () => {
  assert.deepEqual(actions(person('x', ['leads']), grant()), ['Approve', 'Deny']);
  assert.deepEqual(actions(person('x', ['dba']), grant()), ['Deny']);
  assert.deepEqual(actions(person('corp:alice', [], { uid: 'iss alice' }), grant()), ['Withdraw']);
  assert.equal(actions(person('x', ['dev', 'Leads', 'leads ']), grant()), undefined);
  assert.equal(actions(person('leads'), grant()), undefined);
  assert.equal(actions(person('x', ['leads']), grant(), policy({}, 'other')), undefined);
  assert.equal(
    actions(person('x', ['leads']), grant(), { ...policy(), metadata: { ...meta('team'), uid: 'made anew' } }),
    undefined,
  );
  assert.equal(
    actions(person('x', ['leads']), grant({ deadline: '2026-03-01T08:59:59Z' }))?.includes('Approve'),
    false,
  );
});

test('INV-08: whoever may be the requester under any name is offered no decision', () => {
  for (const self of [
    person('corp:alice', ['leads'], { uid: 'iss alice' }),
    person('other', ['leads'], { aliases: ['ALICE@corp.example'] }),
    person('CORP:ALICE', ['leads'], { uid: 'another' }),
  ]) {
    assert.ok(!actions(self, grant())?.includes('Approve'), self.username);
  }
});

test('what can be done follows the steps, the phase and the emergency', () => {
  const counted = [{ step: 'lead', approver: 'l', approval: { name: 'v', uid: 'v' }, at: '2026-03-01T08:59:30Z' }];
  assert.deepEqual(actions(person('x', ['dba']), grant({ approvals: counted })), ['Approve', 'Deny']);
  assert.deepEqual(actions(person('x', ['leads']), grant({ approvals: counted })), ['Deny']);
  assert.deepEqual(actions(person('x', ['dba']), grant({ phase: 'Active' })), ['Revoke']);
  assert.deepEqual(actions(person('x', ['dba']), grant({ phase: 'Denied' })), []);
  const glass = policy({ breakGlass: { subjects: [], reviewers: [{ kind: 'Group', name: 'audit' }] } });
  const due = {
    type: 'SignedOff',
    status: 'False',
    reason: 'ReviewDue',
    message: '',
    lastTransitionTime: '2026-03-01T08:59:30Z',
  } as const;
  const emergency = grant({ phase: 'Expired', conditions: [due] }, { breakGlass: true });
  assert.deepEqual(actions(person('x', ['audit']), emergency, glass), ['SignOff']);
  const concern = grantConcern(person('x', ['dba']), grant({ approvals: counted }), [policy()], NOW)!;
  assert.match(grantConsequence('Approve', concern), /1 more of step dba still must approve/);
});

test('to be somebody takes the uid, or the name where nobody has one, or the cluster’s own name', () => {
  const owner = { via: 'Kubernetes', username: 'alice' } as const;
  assert.ok(isOwn(person('alice'), owner));
  assert.ok(!isOwn(person('alice', [], { uid: 'u' }), owner));
  assert.ok(!isOwn(person('alice'), { ...owner, uid: 'u' }));
  assert.ok(!isOwn(person('alice2', [], { uid: 'u', aliases: ['alice'] }), owner));
  assert.ok(isOwn(person('corp:a', [], { uid: 'u', kubernetes: 'alice' }), owner));
  assert.ok(!isOwn(person('corp:a', [], { uid: 'u', kubernetes: 'alice' }), { ...owner, via: 'Portal' }));
  assert.ok(!isOwn(person(''), { via: 'Local', username: '' }));
  assert.ok(!isOwn(person('x'), undefined));
});

test('INV-12: a grant for another is theirs by exact name, of the provider that the delegator named', () => {
  const carol = person('corp:carol', [], { uid: 'u-c' });
  const of = (beneficiary: object): AccessGrant => {
    const one = grant();
    return { ...one, spec: { ...one.spec, beneficiary } } as AccessGrant;
  };
  const named = { kind: 'User', name: 'corp:carol' };
  assert.ok(ownsGrant(carol, of(named)));
  assert.ok(ownsGrant({ ...carol, provider: 'corp' }, of({ ...named, provider: 'corp' })));
  assert.ok(!ownsGrant({ ...carol, provider: 'partner' }, of({ ...named, provider: 'corp' })));
  assert.ok(!ownsGrant(carol, of({ ...named, provider: 'corp' })));
  assert.ok(!ownsGrant({ ...carol, provider: 'corp' }, of({ ...named, name: 'corp:Carol', provider: 'corp' })));
});

test('a held command concerns who sent it and who may consent, in its namespace', () => {
  const hold = {
    metadata: meta('h-1'),
    spec: {
      requester: { username: 'corp:alice', uid: 'iss alice' },
      requirements: [{ rule: 'r', count: 1, approvers: [{ kind: 'Group', name: 'dba' }] }],
      until: '2026-03-01T09:01:00Z',
    },
  } as unknown as CommandHold;
  assert.deepEqual(holdConcern(person('x', ['dba']), hold, NOW)?.actions, ['Approve', 'Deny']);
  assert.deepEqual(holdConcern(person('x', ['dba']), hold, NOW + 60_000)?.actions, []);
  assert.deepEqual(holdConcern(person('corp:alice', ['dba'], { uid: 'iss alice' }), hold, NOW)?.actions, ['Withdraw']);
  assert.equal(holdConcern(person('x', ['dev']), hold, NOW), undefined);
});

test('history counts what the same person had on the same Connection in ninety days', () => {
  const now = grant();
  const old = {
    ...grant({ phase: 'Expired', expiresAt: '2026-02-20T10:00:00Z' }),
    metadata: { ...meta('g-0'), creationTimestamp: '2026-02-20T09:00:00Z' },
  };
  const older = { ...old, metadata: { ...old.metadata, uid: 'x', creationTimestamp: '2025-01-01T00:00:00Z' } };
  const elsewhere = { ...old, metadata: { ...old.metadata, uid: 'y', namespace: 'other' } };
  assert.equal(historyOf(now, [now, old, older, elsewhere], NOW).grants, 1);
});

test('offers are of policies that name the person, by exact group, in the Connection’s namespace', () => {
  const connection = { metadata: meta('orders-db'), spec: { type: 'PostgreSQL' } } as never;
  assert.equal(offersFor(person('x', ['dev']), [connection], [policy()]).length, 1);
  assert.deepEqual(offersFor(person('x', ['dev']), [connection], [policy()])[0]?.policies[0]?.steps, [
    '1 of group leads',
    '2 of group dba',
  ]);
  assert.equal(offersFor(person('x', ['DEV']), [connection], [policy()]).length, 0);
  assert.equal(offersFor(person('x', ['dev']), [connection], [policy({}, 'other')]).length, 0);
});

test('step-up asks the provider for what the policy wants of this act', () => {
  const strict = policy({
    approval: { steps: [], stepUp: { maxAge: '5m', acr: ['gold', 'mfa'], on: ['Approve'] } },
  } as never);
  assert.deepEqual(stepUpOf(strict, 'Approve'), { max_age: '300', acr_values: 'gold mfa' });
  assert.deepEqual(stepUpOf(strict, 'Request'), {});
  assert.deepEqual(stepUpOf(strict, 'Deny'), {});
  assert.deepEqual(stepUpOf(policy(), 'Approve'), {});
});

test('no text becomes markup, and nothing in it hides', () => {
  fc.assert(
    fc.property(anyText(), (text) => {
      const made = html`<p title="${text}">${text}</p>`.text;
      const inside = made.slice('<p title="'.length, -'</p>'.length);
      assert.equal(inside.split('">').length, 2);
      assert.ok(!/[<`]/.test(inside.replace('">', '')));
      assert.ok(!/[\u0000-\u0008\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/.test(made));
    }),
    { numRuns: 60 },
  );
  assert.equal(escape('a\u202eb'), 'a⟨U+202E⟩b');
  assert.equal(html`${[html`<i>x</i>`, false, undefined, 3]}`.text, '<i>x</i>3');
});

test('a path to return to is one of this site, whatever it is made of', () => {
  const origin = 'https://access.corp.example';
  for (const bad of [
    '//evil.example',
    '/\\evil',
    '/..//evil.example',
    '/./\\/evil',
    'https://evil.example/',
    '/a b',
    '/\t/evil',
    '',
    'x',
    `/${'a'.repeat(600)}`,
  ])
    assert.equal(localPath(bad, origin), '/', bad);
  assert.equal(localPath('/grants/payments/x?y=1', origin), '/grants/payments/x?y=1');
  fc.assert(
    fc.property(fc.string(), (text) => {
      assert.equal(new URL(localPath(`/${text}`, origin), origin).origin, origin);
    }),
    { numRuns: 300 },
  );
});

const flow = (startedMs: number): Flow => ({ kind: 'Login', verifier: 'v', nonce: 'n', startedMs, returnTo: '/' });

test('a session ends unused after 30 minutes, used after 8 hours, and its id is new at login', () => {
  const clock = manualClock(NOW);
  const sessions = createBrowserSessions(clock, systemRandom);
  const { id: early } = sessions.welcome();
  const { id, session } = sessions.begin(early, person('x'));
  assert.notEqual(id, early);
  assert.equal(sessions.visitor(early), undefined);
  clock.advance(IDLE_MS - 1);
  assert.equal(sessions.find(id, false), session);
  clock.advance(2);
  assert.equal(sessions.find(id, true), undefined, 'a look by the script does not keep it alive');
  const second = sessions.begin(undefined, person('x'));
  for (let at = 0; at < LONGEST_MS - IDLE_MS; at += IDLE_MS / 2) {
    clock.advance(IDLE_MS / 2);
    assert.ok(sessions.find(second.id, true));
  }
  clock.advance(IDLE_MS);
  assert.ok(sessions.find(second.id, true), 'eight hours to the millisecond');
  clock.advance(1);
  assert.equal(sessions.find(second.id, true), undefined);
  assert.equal(sessions.find('guess', true), undefined);
  sessions.stop();
});

test('INV-11: logins under way are few a browser, short-lived, and taken once', () => {
  const visitor = { flows: new Map<string, Flow>(), startedMs: NOW };
  for (let count = 0; count < 50; count += 1) addFlow(visitor, `s${count}`, flow(NOW));
  assert.ok(visitor.flows.size <= 8);
  assert.ok(takeFlow(visitor, 's49', NOW));
  assert.equal(takeFlow(visitor, 's49', NOW), undefined);
  assert.equal(takeFlow(visitor, 's48', NOW + 11 * 60_000), undefined);
  assert.equal(takeFlow(undefined, 's48', NOW), undefined);
});

test('a job’s request is read by its fields and no others', () => {
  const { spec } = specOf({
    namespace: 'payments',
    connection: 'orders-db',
    duration: '5m',
    policy: 'deploys',
    clientKey: 'A'.repeat(43),
  });
  assert.deepEqual(spec, {
    connectionRef: { name: 'orders-db' },
    duration: '5m',
    policyRef: { name: 'deploys' },
    clientKey: 'A'.repeat(43),
  });
  for (const bad of [
    {},
    { namespace: 'a', connection: 'b', requester: {} },
    { namespace: 'a', connection: 'b', breakGlass: true },
    { namespace: 'a', connection: 'b', duration: 'long' },
    { namespace: 'a', connection: 'b', commands: [{ text: 1 }] },
  ])
    assert.throws(() => specOf(bad), { status: 400 });
  assert.equal(span(90_000), '1m30s');
});
