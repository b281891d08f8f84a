// What must hold of every set of policies and every command, whatever the rules say.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Action } from './command.ts';
import { combine, decide, decideAll } from './decide.ts';
import type { Decision } from './decision.ts';
import { explain } from './explain.ts';
import { compileGlob, globCovers, globMatches } from './glob.ts';
import type { SessionPolicy } from './session-policy.ts';
import { commandOf, keyRules } from './test-protocol.ts';
import { alice, bob, type KeyRule, policy, sessionOf } from './test-resources.ts';

const RUNS = { numRuns: 150 };
const actions: readonly Action[] = ['Read', 'Write', 'Define', 'Grant'];
const key = fc.constantFrom('a', 'b', 'team/a', 'team/b', '*/a');
const pattern = fc.constantFrom('a', 'b', '*', 'team/*', '*/a');

const matcher = fc.option(
  fc.record(
    {
      actions: fc.uniqueArray(fc.constantFrom(...actions), { minLength: 1, maxLength: 3 }),
      keys: fc.uniqueArray(pattern, { minLength: 1, maxLength: 2 }),
    },
    { requiredKeys: [] },
  ),
  { nil: undefined },
);
const dba = [{ kind: 'Group' as const, name: 'dba' }];

function ruleOf(action: 'Allow' | 'Deny' | 'Hold') {
  return fc.record({ keys: matcher, exempt: fc.boolean() }).map(
    ({ keys, exempt }): Omit<KeyRule, 'name'> => ({
      action,
      ...(keys === undefined ? {} : { keys }),
      ...(exempt && action !== 'Allow' ? { exempt: dba } : {}),
      ...(action === 'Hold' ? { hold: { approvers: dba } } : {}),
    }),
  );
}
const anyRule = fc.constantFrom('Allow' as const, 'Allow' as const, 'Deny' as const, 'Hold' as const).chain(ruleOf);
const ruleList = (most: number) =>
  fc
    .array(anyRule, { maxLength: most })
    .map((rules) => rules.map((rule, at): KeyRule => ({ ...rule, name: `r${at}` })));
const command = fc
  .array(fc.record({ action: fc.constantFrom(...actions), object: key.map((name) => name.split('/')) }), {
    minLength: 1,
    maxLength: 3,
  })
  .map((effects) => commandOf('DO', effects));

const world = fc.record({
  team: ruleList(5),
  other: ruleList(3),
  otherWarns: fc.boolean(),
});
type World = typeof world extends fc.Arbitrary<infer T> ? T : never;

const ANYONE = [
  { kind: 'Group' as const, name: 'orders-dev' },
  { kind: 'Group' as const, name: 'dba' },
];
function sessionIn({ team, other, otherWarns }: World, principal = alice): SessionPolicy {
  return sessionOf(
    {
      policies: [
        policy('team', { subjects: ANYONE, rules: team }),
        policy('other', { rules: other, enforcement: otherWarns ? 'Warn' : 'Enforce' }),
      ],
    },
    { principal },
  );
}

const RANK: Readonly<Record<Decision['kind'], number>> = { Deny: 0, Hold: 1, Allow: 2 };
const rank = (decision: Decision) => RANK[decision.kind];

test('adding a Deny or a Hold, in any policy, never widens', () => {
  fc.assert(
    fc.property(
      world,
      fc.constantFrom('Deny' as const, 'Hold' as const).chain(ruleOf),
      fc.boolean(),
      command,
      (base, rule, here, cmd) => {
        const added: KeyRule = { ...rule, name: 'added' };
        const more = here ? { ...base, team: [...base.team, added] } : { ...base, other: [...base.other, added] };
        assert.ok(rank(decide(sessionIn(more), cmd)) <= rank(decide(sessionIn(base), cmd)));
      },
    ),
    RUNS,
  );
});

test('removing an Allow never widens', () => {
  fc.assert(
    fc.property(world, fc.nat(), command, (base, pick, cmd) => {
      const allows = base.team.filter(({ action }) => action === 'Allow');
      const gone = allows[pick % Math.max(1, allows.length)];
      const less = { ...base, team: base.team.filter((rule) => rule !== gone) };
      assert.ok(rank(decide(sessionIn(less), cmd)) <= rank(decide(sessionIn(base), cmd)));
    }),
    RUNS,
  );
});

test('an Allow of a policy that the session does not run under changes nothing', () => {
  fc.assert(
    fc.property(world, ruleOf('Allow'), command, (base, rule, cmd) => {
      const more = { ...base, other: [...base.other, { ...rule, name: 'added' }] };
      assert.deepEqual(decide(sessionIn(more), cmd), decide(sessionIn(base), cmd));
    }),
    RUNS,
  );
});

test('the order of rules and policies changes nothing, not even who is named', () => {
  const shuffled = world.chain((base) =>
    fc
      .tuple(
        fc.shuffledSubarray(base.team, { minLength: base.team.length }),
        fc.shuffledSubarray(base.other, { minLength: base.other.length }),
        fc.boolean(),
      )
      .map(([team, other, flip]) => ({ base, team, other, flip })),
  );
  fc.assert(
    fc.property(shuffled, command, ({ base, team, other, flip }, cmd) => {
      const policies = [
        policy('team', { subjects: ANYONE, rules: team }),
        policy('other', { rules: other, enforcement: base.otherWarns ? 'Warn' : 'Enforce' }),
      ];
      const again = sessionOf({ policies: flip ? policies.reverse() : policies });
      assert.deepEqual(decide(again, cmd), decide(sessionIn(base), cmd));
    }),
    RUNS,
  );
});

test('Deny beats Hold beats Allow, and every effect needs an Allow', () => {
  fc.assert(
    fc.property(world, command, (base, cmd) => {
      const session = sessionIn(base);
      const hits = (rules: SessionPolicy['denies']) =>
        rules.some(({ source, prepared }) => source.enforce && (prepared?.restricts(cmd) ?? true));
      const covered = cmd.effects.every((_, index) =>
        session.allows.some(({ prepared }) => prepared?.permits(cmd, index) ?? true),
      );
      const expected = hits(session.denies) || !covered ? 'Deny' : hits(session.holds) ? 'Hold' : 'Allow';
      assert.equal(decide(session, cmd).kind, expected);
    }),
    RUNS,
  );
});

test('an exemption spares its subject and nobody else', () => {
  fc.assert(
    fc.property(world, ruleOf('Deny'), command, (base, rule, cmd) => {
      const added: KeyRule = { ...rule, name: 'added', exempt: dba };
      const more = { ...base, team: [...base.team, added] };
      assert.deepEqual(decide(sessionIn(more, bob), cmd), decide(sessionIn(base, bob), cmd));
      const { exempt: _, ...bare } = added;
      assert.deepEqual(decide(sessionIn(more), cmd), decide(sessionIn({ ...base, team: [...base.team, bare] }), cmd));
    }),
    RUNS,
  );
});

test('Warn never stops: with every restriction under Warn only the allows count', () => {
  fc.assert(
    fc.property(world, command, (base, cmd) => {
      const allows = base.team.filter(({ action }) => action === 'Allow');
      const warned = sessionIn({ team: allows, other: base.other, otherWarns: true });
      assert.equal(
        decide(warned, cmd).kind,
        decide(sessionIn({ team: allows, other: [], otherWarns: true }), cmd).kind,
      );
    }),
    RUNS,
  );
});

test('INV-04: a broken policy denies everything', () => {
  const broken = fc.constantFrom(
    { kind: 'AccessPolicy', namespace: 'payments', name: 'x', problem: 'p' },
    { kind: 'ClusterAccessPolicy', name: 'x', problem: 'p' },
    { problem: 'p' },
  );
  fc.assert(
    fc.property(world, broken, command, (base, item, cmd) => {
      const policies = [policy('team', { subjects: ANYONE, rules: base.team }), policy('other', { rules: base.other })];
      const session = sessionOf({ policies, broken: [item] });
      assert.equal(decide(session, cmd).kind, 'Deny');
      assert.equal(decideAll(session, []).kind, 'Deny');
      assert.equal(session.transparent, undefined);
    }),
    RUNS,
  );
});

test('a text is decided as its strictest command, and its holds once a rule', () => {
  fc.assert(
    fc.property(world, fc.array(command, { minLength: 1, maxLength: 4 }), (base, commands) => {
      const session = sessionIn(base);
      const each = commands.map((cmd) => decide(session, cmd));
      const whole = decideAll(session, commands);
      assert.equal(rank(whole), Math.min(...each.map(rank)));
      assert.deepEqual(whole, combine(each));
      if (whole.kind === 'Hold') {
        const names = whole.requirements.map(({ by }) => `${by.policy}/${by.rule}`);
        assert.equal(new Set(names).size, names.length);
        const needed = new Set(
          each.flatMap((one) =>
            one.kind === 'Hold' ? one.requirements.map(({ by }) => `${by.policy}/${by.rule}`) : [],
          ),
        );
        assert.deepEqual(new Set(names), needed);
      }
    }),
    RUNS,
  );
});

test('INV-02: transparent means that any command at all is allowed', () => {
  fc.assert(
    fc.property(world, command, (base, cmd) => {
      const session = sessionIn(base);
      if (session.transparent !== undefined)
        assert.deepEqual(decide(session, cmd), { kind: 'Allow', by: [session.transparent], warnings: [] });
    }),
    RUNS,
  );
});

test('an explanation agrees with the decision', () => {
  fc.assert(
    fc.property(world, command, (base, cmd) => {
      const session = sessionIn(base);
      const explained = explain(session, cmd, keyRules);
      assert.deepEqual(explained.decision, decide(session, cmd));
      assert.equal(explained.rules.length, session.denies.length + session.holds.length + session.allows.length);
      const stopped = explained.rules.some((r) => r.matched && r.enforcement === 'Enforce' && r.action === 'Deny');
      if (stopped) assert.equal(explained.decision.kind, 'Deny');
      const permitted = new Set(explained.rules.flatMap((r) => r.permits ?? []));
      if (explained.decision.kind === 'Allow') assert.equal(permitted.size, cmd.effects.length);
    }),
    RUNS,
  );
});

test('globs match as the obvious definition does, and covering is sound', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '.', '*'), maxLength: 8 });
  const slow = (p: string, t: string): boolean => {
    if (p === '') return t === '';
    if (p[0] === '*') return slow(p.slice(1), t) || (t !== '' && slow(p, t.slice(1)));
    return t !== '' && p[0] === t[0] && slow(p.slice(1), t.slice(1));
  };
  fc.assert(
    fc.property(text, text, text, (p, q, t) => {
      assert.equal(globMatches(p, t), slow(p, t));
      assert.equal(compileGlob(p)(t), slow(p, t));
      if (globCovers(p, q) && globMatches(q, t)) assert.ok(globMatches(p, t));
    }),
    { numRuns: 2000 },
  );
});

test('INV-11: a hostile pattern costs no more than its length times the text', () => {
  assert.equal(globMatches(`${'*a'.repeat(2000)}b`, 'a'.repeat(20_000)), false);
});
