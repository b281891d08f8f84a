// The pipelines of examples/ci, run step by step against a real portal, daemon and PostgreSQL.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Idp, startIdp } from '../support/idp.ts';
import type { Local } from '../support/local.ts';
import { type Orders, startOrders } from '../support/orders.ts';
import { exampleAccess, type Pipelines, startPipelines } from '../support/pipelines.ts';
import type { PostgresServer } from '../support/postgres.ts';
import { startIssuer, type WorkloadIssuer } from '../support/workload-issuer.ts';

const PASSWORD = 'migrator-secret-71c0';
const dana = { as: 'dana@corp.example', groups: ['dba'] };
let people: Idp;
let github: WorkloadIssuer;
let gitlab: WorkloadIssuer;
let orders: Orders;
let server: PostgresServer;
let local: Local;
let ci: Pipelines;

before(async () => {
  [people, github, gitlab] = await Promise.all([startIdp(), startIssuer(), startIssuer()]);
  orders = await startOrders({
    account: 'migrator',
    role: 'migrator',
    password: PASSWORD,
    setup: 'alter table orders owner to migrator;',
    files: { 'access.yaml': exampleAccess(github, gitlab) },
  });
  ({ server, local } = orders);
  ci = await startPipelines(local, people, { github, gitlab });
});
after(async () => {
  await ci?.stop();
  await orders?.stop();
  await Promise.all([people, github, gitlab].map((each) => each?.stop()));
});

const shown = (ran: { code: number; output: string }): string => `${ran.code}\n${ran.output}\n${ci.said()}`;
const nameIn = (output: string): string => /Grant (\S+) is/.exec(output)![1]!;
async function approve(name: string): Promise<string> {
  const done = await local.cli(['approve', name, '--yes'], dana);
  assert.equal(done.code, 0, done.output);
  return done.output;
}
const query = async (sql: string): Promise<string> =>
  JSON.stringify((await server.query(sql, [], { database: 'orders' })).rows);

test('INV-12: the same job from another branch, a pull request or another repository gets nothing', async () => {
  for (const claims of [
    { ref: 'refs/heads/feature' },
    { event_name: 'pull_request_target' },
    { repository_id: '1' },
    { ref_type: 'tag' },
  ]) {
    const ran = await ci.github({ claims, only: [0] });
    assert.equal(ran.code, 77, shown(ran));
    assert.ok(!ran.output.includes('eyJ'));
  }
  const wrong = await ci.gitlab({ claims: { ref_path: 'refs/heads/feature' } });
  assert.equal(wrong.code, 77, shown(wrong));
  assert.equal(await query("select 1 from information_schema.columns where column_name = 'note'"), '[]');
});

test('the GitHub-shaped job waits for its approval and runs exactly the statements that were approved', async () => {
  let approved: Promise<string> | undefined;
  const folder = ci.checkout();
  const ran = await ci.github({
    folder,
    onOutput(output) {
      if (/Decided at http/.test(output)) approved ??= approve(nameIn(output));
    },
  });
  assert.equal(ran.code, 0, shown(ran));
  const seen = await approved;
  assert.match(seen!, /alter table orders add column note text/);
  assert.match(ran.output, /Decided at http:\/\/localhost:\d+\/grants\/payments\//);
  assert.equal(await query('select count(*)::int n from orders where note is not null'), '[{"n":10}]');
  assert.ok(!ran.output.includes('eyJ'));

  // Another statement that the rule holds waits for somebody, and ends the job with 75 and the link.
  const held = await ci.github({
    folder,
    script: [
      'sallyport connect payments/orders-db --server "$SALLYPORT_SERVER" -- psql -X -v ON_ERROR_STOP=1 -c "alter table orders add column other text"',
    ],
  });
  assert.equal(held.code, 75, shown(held));
  assert.match(held.output, /Held as h-\S+\. Decided at http:\/\/localhost/);
  assert.match(held.output, /nobody has approved it/);

  // One that somebody refuses ends it with 77.
  let denied: Promise<unknown> | undefined;
  const refused = await ci.github({
    folder,
    script: [
      'sallyport connect payments/orders-db --server "$SALLYPORT_SERVER" -- psql -X -v ON_ERROR_STOP=1 -c "drop table orders"',
    ],
    onOutput(output) {
      const hold = /Held as (h-[^ .]+)/.exec(output)?.[1];
      if (hold !== undefined) denied ??= local.cli(['deny', hold, '--yes', '--reason', 'no'], dana);
    },
  });
  await denied;
  assert.equal(refused.code, 77, shown(refused));
});

test('the GitLab-shaped job that did not wait ends with 75, and its next run finds what was approved', async () => {
  const first = await ci.gitlab({
    script: [
      'sallyport request payments/orders-db --server "$SALLYPORT_SERVER" --for 30m --reason release --command-file migration.sql',
    ],
  });
  assert.equal(first.code, 75, shown(first));
  await approve(nameIn(first.output));
  // A new runner: no key of the run before, another token.
  const second = await ci.gitlab({
    script: [
      'sallyport request payments/orders-db --server "$SALLYPORT_SERVER" --for 30m --reason release --command-file migration.sql --wait',
      `sallyport connect payments/orders-db --server "$SALLYPORT_SERVER" -- psql -XAt -c "select count(*) from orders"`,
    ],
  });
  assert.equal(second.code, 0, shown(second));
  assert.equal(nameIn(second.output), nameIn(first.output));
  assert.match(second.output, /^20$/m);
  // The same grant from another branch: the token names it, and the policy refuses.
  const branch = await ci.gitlab({
    claims: { ref_path: 'refs/heads/feature' },
    script: [
      `sallyport connect payments/orders-db --server "$SALLYPORT_SERVER" --grant ${nameIn(first.output)} -- psql -XAt -c "select 1"`,
    ],
  });
  assert.notEqual(branch.code, 0, shown(branch));
  assert.doesNotMatch(branch.output, /^1$/m);
});

test('a job without a token, a token of another audience, and a server that is none say what to do', async () => {
  const none = await ci.github({
    script: ['unset ACTIONS_ID_TOKEN_REQUEST_URL; sallyport request payments/orders-db --server "$SALLYPORT_SERVER"'],
  });
  assert.equal(none.code, 78, shown(none));
  assert.match(none.output, /id-token: write/);
  const audience = await ci.github({
    script: ['sallyport request payments/orders-db --audience other --server "$SALLYPORT_SERVER"'],
  });
  assert.equal(audience.code, 77, shown(audience));
  const plain = await ci.github({
    script: ['sallyport request payments/orders-db --server http://portal.invalid'],
  });
  assert.equal(plain.code, 1, shown(plain));
  assert.match(plain.output, /https alone/);
});
