import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compilePolicies } from './compile.ts';
import { decideNotUnderstood } from './decide.ts';
import { prepareSessionPolicy } from './prepare-session.ts';
import { keyRules } from './test-protocol.ts';
import { connection, policy } from './test-resources.ts';

test('what is not in order is called what it is', () => {
  const cases: [object, string][] = [
    [{ kind: 'AccessPolicy', namespace: 'payments', name: 'guard' }, 'policy payments/guard'],
    [{ kind: 'ClusterAccessPolicy', name: 'guard' }, 'policy guard'],
    [{ kind: 'AccessPolicy', namespace: 'payments' }, 'a policy whose name can not be read'],
    [{ kind: 'Connection', namespace: 'payments', name: 'orders-db' }, 'Connection payments/orders-db'],
    [{ kind: 'AccessLock', namespace: 'payments' }, 'an AccessLock whose name can not be read'],
    [{}, 'a file that may hold policies'],
  ];
  for (const [broken, title] of cases) {
    const shard = compilePolicies({
      connection: connection(),
      policies: [policy('team')],
      clusterPolicies: [],
      broken: [{ ...broken, problem: 'a.yaml:3: this is no YAML' }],
      protocol: keyRules,
    });
    const principal = { username: 'alice', groups: ['orders-dev'], aliases: [] };
    const request = { policy: 'payments/team', principal, account: 'reader', generation: 1 };
    const decision = decideNotUnderstood(prepareSessionPolicy(shard, request, keyRules), '');
    assert.ok(decision.kind === 'Deny', JSON.stringify(decision));
    assert.equal(
      decision.message,
      `Sallyport refused the command: ${title} is not in order, so everything here is denied`,
    );
    assert.match(decision.hint ?? '', /: a\.yaml:3: this is no YAML\. Ask its authors/);
  }
});
