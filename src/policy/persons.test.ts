import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyText } from '../../test/support/any-text.ts';
import type { Subject } from '../api/schema.ts';
import { excluded, foldIdentifier, groupPersons, namesPerson, samePerson } from './persons.ts';
import type { Principal } from './principal.ts';
import { matchesSubject, subjectText } from './subjects.ts';

const named = (username: string, uid?: string, aliases: string[] = []) => ({
  username,
  ...(uid === undefined ? {} : { uid }),
  aliases,
});

test('INV-08: any shared uid, name, alias or e-mail makes one person', () => {
  assert.equal(samePerson(named('ada', 'u1'), named('ada.l', 'u1')), true);
  assert.equal(samePerson(named('ada', 'u1'), named('ada', 'u2')), true);
  assert.equal(samePerson(named('ada', 'u1', ['al']), named('x', 'u2', ['al'])), true);
  assert.equal(samePerson(named('ada', 'u1', ['x']), named('x', 'u2')), true);
  assert.equal(samePerson(named('oidc:ada@corp.example'), named('saml:ada@corp.example')), true);
  assert.equal(samePerson(named('ada', 'u1', ['al']), named('bob', 'u2', ['bo'])), false);
});

test('INV-08: spelling does not make another person', () => {
  const same: [string, string][] = [
    ['Ada@Corp.example', 'ada@corp.EXAMPLE'],
    ['\uff41da', 'ada'], // full-width letter
    ['STRASSE', 'straße'],
    ['ada\u200b', 'ada'], // zero width
    ['\u212bngstrom', 'ångstrom'],
    [' ada ', 'ada'],
  ];
  for (const [a, b] of same) assert.equal(samePerson(named(a), named(b)), true, `${a} / ${b}`);
});

test('INV-08: what is empty equals nothing', () => {
  assert.equal(samePerson(named('', ''), named('', '')), false);
  assert.equal(samePerson(named('a', '', ['', '\u200b']), named('b', '', ['', ' '])), false);
  assert.equal(namesPerson('', named('')), false);
});

test('INV-08: exclusion is transitive over everybody concerned', () => {
  const requester = named('ada', 'u1');
  const bridge = named('al', 'u1', ['lovelace']);
  const candidate = named('lovelace', 'u9');
  assert.equal(excluded(candidate, [requester]), false);
  assert.equal(excluded(candidate, [requester], [bridge]), true);
  assert.deepEqual(new Set(groupPersons([requester, bridge, candidate, named('bob')])).size, 2);
});

test('INV-08: groups are an equivalence that holds all shared identifiers', () => {
  const identity = fc.record({
    username: fc.constantFrom('a', 'A', 'b', 'c', 'd', 'x@y', 'p:x@y', ''),
    uid: fc.constantFrom(undefined, '', '1', '2', '3'),
    aliases: fc.array(fc.constantFrom('a', 'b', 'e', 'X@Y', ''), { maxLength: 2 }),
  });
  fc.assert(
    fc.property(fc.array(identity, { maxLength: 7 }), (people) => {
      const groups = groupPersons(people);
      // The slow, obvious closure: merge until nothing changes.
      const label = people.map((_, index) => index);
      for (let changed = true; changed; ) {
        changed = false;
        for (let i = 0; i < people.length; i++)
          for (let j = 0; j < people.length; j++)
            if (samePerson(people[i]!, people[j]!) && label[i]! > label[j]!) {
              label[i] = label[j]!;
              changed = true;
            }
      }
      for (let i = 0; i < people.length; i++)
        for (let j = 0; j < people.length; j++) assert.equal(groups[i] === groups[j], label[i] === label[j]);
    }),
  );
});

test('folding is idempotent', () => {
  fc.assert(
    fc.property(anyText(), (text) => {
      const once = foldIdentifier(text);
      assert.equal(foldIdentifier(once), once);
    }),
  );
});

test('to allow, names are compared by exact octets', () => {
  const ada = { username: 'oidc:Ada', uid: 'u', groups: ['/tenant/admin'], aliases: ['ada'] };
  assert.equal(matchesSubject({ kind: 'User', name: 'oidc:Ada' }, ada, 'ns'), true);
  for (const name of ['oidc:ada', 'Ada', 'ada', 'u', 'oidc:Ada ', ''])
    assert.equal(matchesSubject({ kind: 'User', name }, ada, 'ns'), false, name);
  assert.equal(matchesSubject({ kind: 'Group', name: '/tenant/admin' }, ada, 'ns'), true);
  for (const name of ['admin', '/tenant', '/Tenant/admin', ''])
    assert.equal(matchesSubject({ kind: 'Group', name }, ada, 'ns'), false, name);
  assert.equal(matchesSubject({ kind: 'User' }, { ...ada, username: 'undefined' }, 'ns'), false);
});

test('INV-12: a ServiceAccount is one of its own namespace unless another is named', () => {
  const bot = { username: 'system:serviceaccount:ci:bot', groups: [], aliases: [] };
  assert.equal(matchesSubject({ kind: 'ServiceAccount', name: 'bot' }, bot, 'ci'), true);
  assert.equal(matchesSubject({ kind: 'ServiceAccount', name: 'bot' }, bot, 'other'), false);
  assert.equal(matchesSubject({ kind: 'ServiceAccount', name: 'bot', namespace: 'ci' }, bot, 'other'), true);
  assert.equal(matchesSubject({ kind: 'ServiceAccount', name: 'bot' }, bot, undefined), false);
  assert.equal(matchesSubject({ kind: 'ServiceAccount', name: 'bot', namespace: '' }, bot, 'ci'), false);
  const odd = { ...bot, username: 'system:serviceaccount:a:b:c' };
  assert.equal(matchesSubject({ kind: 'ServiceAccount', name: 'c', namespace: 'a:b' }, odd, 'a'), false);
  assert.equal(matchesSubject({ kind: 'ServiceAccount', name: 'b:c' }, odd, 'a'), false);
});

test('a Claim names the workloads whose token proved every claim, as text', () => {
  const job = (claims: Record<string, string>, provider = 'ci'): Principal => ({
    username: 'ci:job',
    groups: ['74'],
    aliases: [],
    workload: { provider, claims },
  });
  const proven = { repository_id: '74', ref: 'refs/heads/main', ref_protected: 'true', sub: 'repo:corp/app' };
  const claim = (claims: Record<string, string>, provider = 'ci'): Subject => ({ kind: 'Claim', provider, claims });
  const matches = (subject: Subject, principal = job(proven)): boolean => matchesSubject(subject, principal, 'ns');

  assert.ok(matches(claim({ repository_id: '74' })));
  assert.ok(matches(claim({ repository_id: '74', ref_protected: 'true' })));
  for (const claims of [
    { repository_id: '7' },
    { repository_id: '74', ref: 'refs/heads/*' },
    { repository_id: '74', ref: 'refs/heads/Main' },
    { repository_id: '74', environment: '' },
    { repository_id: '74', sub: 'repo:corp/app' },
    { sub: 'repo:corp/app' },
    { constructor: '' },
    {},
  ]) {
    assert.ok(!matches(claim(claims)), JSON.stringify(claims));
  }
  assert.ok(!matches(claim({ repository_id: '74' }, 'other')));
  assert.ok(!matches(claim({ repository_id: '74' }, '')));
  assert.ok(!matches(claim({ repository_id: '74' }), { username: 'ci:job', groups: [], aliases: [] }));
  assert.ok(!matches({ kind: 'Claim', name: 'ci:job', provider: 'ci' }));
  assert.equal(subjectText(claim({ repository_id: '74' })), 'workload of ci with repository_id 74');
});
