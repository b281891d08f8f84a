import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { BundleGrant } from '../policy/bundle.ts';
import { foldIdentifier } from '../policy/persons.ts';
import type { Principal } from '../policy/principal.ts';
import { grantOf, owns, personIn, personToLock, readLoginName } from './grant-of.ts';

const who = (change: Partial<Principal> = {}): Principal => ({
  username: 'corp:ana',
  uid: 'https://id u-ana',
  groups: [],
  aliases: [],
  ...change,
});
const grant = (change: Partial<BundleGrant> = {}): BundleGrant => ({
  name: 'orders-db-aaaaa',
  uid: 'g1',
  specHash: 'h',
  principal: who(),
  via: 'Portal',
  account: 'reader',
  policy: 'payments/team',
  commandHashes: [],
  notBeforeMs: 0,
  expiresAtMs: 1,
  ticketUntilExpiry: false,
  ...change,
});

test('a user name is an account, or an account and a grant', () => {
  assert.deepEqual(readLoginName('reader'), { account: 'reader' });
  assert.deepEqual(readLoginName('reader+orders-db-aaaaa'), { account: 'reader', grant: 'orders-db-aaaaa' });
  assert.deepEqual(readLoginName('reader+a+b'), { account: 'reader', grant: 'a+b' });
  assert.deepEqual(readLoginName(''), { account: '' });
});

test('INV-01: a grant is its holder’s by uid; by name only where neither has one', () => {
  const cases: [Principal, Principal, BundleGrant['via'], boolean][] = [
    [who(), who({ username: 'corp:renamed' }), 'Portal', true],
    [who(), who({ uid: 'https://id u-new' }), 'Portal', false],
    [who(), who({ uid: 'https://id U-ANA' }), 'Portal', false],
    [{ username: 'ana', groups: [], aliases: [] }, { username: 'ana', groups: [], aliases: [] }, 'Kubernetes', true],
    [{ username: 'ana', groups: [], aliases: [] }, who({ username: 'ana' }), 'Kubernetes', false],
    [who({ username: 'ana' }), { username: 'ana', groups: [], aliases: [] }, 'Kubernetes', false],
    [{ username: '', groups: [], aliases: [] }, { username: '', groups: [], aliases: [] }, 'Kubernetes', false],
    [{ username: 'ana', uid: '', groups: [], aliases: [] }, who({ uid: '', username: 'eve' }), 'Kubernetes', false],
    // The cluster's name, where the provider says that it may, through that door alone.
    [{ username: 'ana', groups: [], aliases: [] }, who({ kubernetes: 'ana' }), 'Kubernetes', true],
    [{ username: 'ana', groups: [], aliases: [] }, who({ kubernetes: 'ana' }), 'Local', true],
    [{ username: 'ana', groups: [], aliases: [] }, who({ kubernetes: 'ana' }), 'Portal', false],
    [{ username: 'ana', groups: [], aliases: [] }, who({ kubernetes: 'ana' }), 'Pipeline', false],
    [{ username: 'ana', groups: [], aliases: [] }, who({ kubernetes: 'Ana' }), 'Kubernetes', false],
    [{ username: 'ana', groups: [], aliases: [] }, who({ aliases: ['ana'] }), 'Kubernetes', false],
    [{ username: 'x', groups: [], aliases: ['corp:ana'] }, who({ uid: 'https://id other' }), 'Kubernetes', false],
    // Workloads by uid alone.
    [
      { username: 'ana', groups: [], aliases: [] },
      who({ kubernetes: 'ana', workload: { provider: 'ci', claims: {} } }),
      'Kubernetes',
      false,
    ],
    [who(), who({ workload: { provider: 'ci', claims: {} } }), 'Pipeline', true],
  ];
  for (const [holder, person, via, expected] of cases) {
    assert.equal(owns({ principal: holder, via }, person), expected, JSON.stringify([holder, person, via]));
  }
});

test('INV-01: a grant for somebody whom a delegator named is theirs by exactly that name, of that provider', () => {
  const holder: Principal = { username: 'carol@corp.example', groups: [], aliases: [] };
  const own = (named: BundleGrant['named'], person: Parameters<typeof owns>[1]): boolean =>
    owns({ principal: holder, via: 'Kubernetes', ...(named === undefined ? {} : { named }) }, person);
  const carol = { ...who({ username: 'carol@corp.example', uid: 'https://id u-carol' }), provider: 'corp' };
  const mapped = { ...who({ username: 'corp:carol', kubernetes: 'carol@corp.example' }), provider: 'corp' };
  assert.ok(own({ provider: 'corp' }, carol));
  assert.ok(own({}, carol));
  assert.ok(own({ provider: 'corp' }, mapped));
  assert.ok(!own({ provider: 'partner' }, carol), 'another provider has a person of that name');
  assert.ok(!own({ provider: 'partner' }, mapped));
  assert.ok(!own({ provider: 'corp' }, { ...carol, provider: undefined }));
  assert.ok(!own({ provider: 'corp' }, { ...carol, username: 'Carol@corp.example' }));
  assert.ok(!own({ provider: 'corp' }, { ...carol, username: 'corp:carol', aliases: ['carol@corp.example'] }));
  assert.ok(!own({}, { ...carol, workload: { provider: 'corp', claims: {} } }));
  assert.ok(!own(undefined, carol), 'who asked for themselves has a uid where the token has one');
});

const name = fc.constantFrom('', 'ana', 'Ana', 'ana\u200b', 'corp:ana', 'eve');
const uid = fc.constantFrom(undefined, '', 'https://id u-ana', 'https://id u-eve');
const principal = fc
  .record({ username: name, uid, kubernetes: fc.option(name, { nil: undefined }), aliases: fc.array(name) })
  .map(
    ({ username, uid: id, kubernetes, aliases }): Principal => ({
      username,
      ...(id === undefined ? {} : { uid: id }),
      ...(kubernetes === undefined ? {} : { kubernetes }),
      aliases,
      groups: [],
    }),
  );
const anyGrant = fc
  .record({
    principal,
    via: fc.constantFrom('Kubernetes' as const, 'Portal' as const, 'Pipeline' as const, 'Local' as const),
    account: fc.constantFrom('reader', 'writer'),
    name: fc.constantFrom('a', 'b', 'c'),
    now: fc.boolean(),
  })
  .map(({ now, ...change }) => ({ ...grant(change), uid: now ? 'now' : 'later' }));

test('INV-01: whatever grants there are, the one chosen is the person’s own, of the account and name they gave', () => {
  fc.assert(
    fc.property(
      fc.array(anyGrant, { maxLength: 6 }),
      principal,
      fc.constantFrom('reader', 'writer', 'reader+a', 'reader+z', 'ana'),
      (grants, person, user) => {
        const login = readLoginName(user);
        const inForce = (each: BundleGrant): boolean => each.uid === 'now';
        const fits = (each: BundleGrant): boolean =>
          owns(each, person) &&
          each.account === login.account &&
          (login.grant === undefined || each.name === login.grant);
        const choice = grantOf(grants, person, login, inForce);
        const current = grants.filter((each) => fits(each) && inForce(each));
        switch (choice.kind) {
          case 'One':
            assert.ok(fits(choice.grant));
            assert.ok(current.length === 1 ? choice.grant === current[0] : !inForce(choice.grant));
            break;
          case 'Several':
            assert.deepEqual(new Set(choice.grants), new Set(current));
            break;
          case 'None':
            assert.equal(grants.filter(fits).length, 0);
            assert.ok(choice.others.every((each) => owns(each, person) && inForce(each)));
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('INV-03: a lock reaches every name and group of holder and person', () => {
  fc.assert(
    fc.property(principal, principal, fc.array(name), (holder, person, groups) => {
      const reached = personToLock(grant({ principal: holder }), { ...person, groups: ['g'] }, groups);
      const names = new Set(
        [reached.username, reached.uid, ...reached.aliases].map((each) => foldIdentifier(each ?? '')),
      );
      for (const each of [person.username, person.uid, person.kubernetes, holder.username, ...person.aliases]) {
        assert.ok(names.has(foldIdentifier(each ?? '')) || foldIdentifier(each ?? '') === '');
      }
      for (const each of ['g', ...groups]) assert.ok(reached.groups.includes(each));
    }),
    { numRuns: 200 },
  );
});

test('the policy sees the holder’s name, and of the token the groups and claims', () => {
  const holder = { username: 'ana', groups: ['old'], aliases: ['a@corp.example'] };
  const token = who({ groups: ['new'], kubernetes: 'ana', aliases: ['ana@corp.example'] });
  assert.deepEqual(personIn(grant({ principal: holder, via: 'Kubernetes' }), token), {
    username: 'ana',
    uid: 'https://id u-ana',
    groups: ['new'],
    aliases: ['a@corp.example', 'corp:ana', 'ana@corp.example'],
    kubernetes: 'ana',
  });
});
