// How long one decision takes for a prepared command under 50 rules, with a matcher as costly as a few string
// comparisons. Run: node test/bench/decide.ts
import { decide } from '../../src/policy/decide.ts';
import { commandOf } from '../../src/policy/test-protocol.ts';
import { type KeyRule, policy, sessionOf } from '../../src/policy/test-resources.ts';

const dba = [{ kind: 'Group' as const, name: 'dba' }];
const rules: KeyRule[] = Array.from({ length: 50 }, (_, index): KeyRule => {
  const keys = { keys: [`schema${index}/*`, `audit/table_${index}`] };
  if (index < 25) return { name: `deny-${index}`, action: 'Deny', keys };
  if (index < 35) return { name: `hold-${index}`, action: 'Hold', keys, hold: { approvers: dba } };
  return { name: `allow-${index}`, action: 'Allow', keys: { actions: ['Read', 'Write'], keys: [`app${index}/*`] } };
});
const session = sessionOf({ policies: [policy('team', { rules })] });
const command = commandOf('UPDATE', [
  { action: 'Write', object: ['app49', 'orders'] },
  { action: 'Read', object: ['app48', 'customers'] },
]);

if (decide(session, command).kind !== 'Allow') throw new Error('the measured command must pass every rule');
const rounds: number[] = [];
for (let round = 0; round < 9; round++) {
  const count = 100_000;
  const start = process.hrtime.bigint();
  for (let index = 0; index < count; index++) decide(session, command);
  rounds.push(Number(process.hrtime.bigint() - start) / count / 1000);
}
rounds.sort((a, b) => a - b);
console.log(
  `decide, 50 rules, 2 effects: median ${rounds[4]!.toFixed(2)} µs, best ${rounds[0]!.toFixed(2)} µs a command`,
);
