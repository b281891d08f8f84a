// How long one decision takes for a classified command under 50 rules: once with the tests' small matcher, which costs a
// few string comparisons and so shows the engine, once with PostgreSQL's. Run: node test/bench/decide.ts
import type { Rule } from '../../src/api/policy.ts';
import type { Command } from '../../src/policy/command.ts';
import { compilePolicies } from '../../src/policy/compile.ts';
import { decide } from '../../src/policy/decide.ts';
import { prepareSessionPolicy } from '../../src/policy/prepare-session.ts';
import type { SessionPolicy } from '../../src/policy/session-policy.ts';
import { commandOf } from '../../src/policy/test-protocol.ts';
import { alice, connection, type KeyRule, policy, sessionOf } from '../../src/policy/test-resources.ts';
import { classify, loadClassifier } from '../../src/protocols/postgres/classify/classify.ts';
import { postgresRules } from '../../src/protocols/postgres/rules.ts';

const hold = { approvers: [{ kind: 'Group' as const, name: 'dba' }] };

function measure(name: string, session: SessionPolicy, command: Command): void {
  time(`${name}, first time`, session, () => ({ ...command }));
  time(`${name}, seen before`, session, () => command);
}

function time(name: string, session: SessionPolicy, next: () => Command): void {
  const decision = decide(session, next());
  if (decision.kind !== 'Allow')
    throw new Error(`${name}: the measured command must pass every rule: ${JSON.stringify(decision)}`);
  const rounds: number[] = [];
  for (let round = 0; round < 9; round++) {
    const count = 50_000;
    const start = process.hrtime.bigint();
    for (let index = 0; index < count; index++) decide(session, next());
    rounds.push(Number(process.hrtime.bigint() - start) / count / 1000);
  }
  rounds.sort((a, b) => a - b);
  console.log(`${name}: median ${rounds[4]!.toFixed(2)} µs, best ${rounds[0]!.toFixed(2)} µs a command`);
}

const keyRules = Array.from({ length: 50 }, (_, index): KeyRule => {
  const keys = { keys: [`schema${index}/*`, `audit/table_${index}`] };
  if (index < 25) return { name: `deny-${index}`, action: 'Deny', keys };
  if (index < 35) return { name: `hold-${index}`, action: 'Hold', keys, hold };
  return { name: `allow-${index}`, action: 'Allow', keys: { actions: ['Read', 'Write'], keys: [`app${index}/*`] } };
});
measure(
  'engine, 50 rules, 2 effects',
  sessionOf({ policies: [policy('team', { rules: keyRules })] }),
  commandOf('UPDATE', [
    { action: 'Write', object: ['app49', 'orders'] },
    { action: 'Read', object: ['app48', 'customers'] },
  ]),
);

await loadClassifier();
const sqlRules = Array.from({ length: 50 }, (_, index): Rule => {
  const tables = [`schema${index}.*`, `audit.table_${index}`];
  if (index < 25) return { name: `deny-${index}`, action: 'Deny', sql: { tables } };
  if (index < 35) return { name: `hold-${index}`, action: 'Hold', sql: { statements: ['DELETE'], tables }, hold };
  return { name: `allow-${index}`, action: 'Allow', sql: { effects: ['Read', 'Write'], tables: [`app${index}.*`] } };
});
const shard = compilePolicies({
  connection: connection(),
  policies: [{ ...policy('team'), spec: { ...policy('team').spec, rules: sqlRules } }],
  clusterPolicies: [],
  broken: [],
  protocol: postgresRules,
});
const session = prepareSessionPolicy(
  shard,
  { policy: 'payments/team', principal: alice, generation: 1 },
  postgresRules,
);
const classified = classify(
  'update app49.orders o set state = c.state from app48.customers c where c.id = o.customer_id',
);
const statement = classified.kind === 'Statements' ? classified.statements[0] : undefined;
if (statement === undefined) throw new Error('the measured statement must be understood');
measure(`postgresql, 50 rules, ${statement.command.effects.length} effects`, session, statement.command);
