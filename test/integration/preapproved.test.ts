// A request with its statements, through bin/sallyport, real psql and a real PostgreSQL: approvers read them, those run
// without waiting where a rule would hold them, and nothing else does.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { Local } from '../support/local.ts';
import { ORDERS_WITH_STATES, type Orders, startOrders } from '../support/orders.ts';

const PASSWORD = 'writer-secret-8d1f';
const alice = { as: 'alice@corp.example', groups: ['orders-team'] };
const dana = { as: 'dana@corp.example', groups: ['dba'] };
const POLICY = `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: orders-team, namespace: payments}
spec:
  connectionSelector: {names: [orders-db]}
  subjects: [{kind: Group, name: orders-team}]
  accounts: [writer]
  approval: {timeout: 10m, steps: [{name: dba, approvers: [{kind: Group, name: dba}]}]}
  breakGlass: {subjects: [{kind: User, name: alice@corp.example}], maxDuration: 20m, reviewers: [{kind: Group, name: dba}]}
  rules:
  - {name: all, action: Allow}
  - {name: no-truncate, action: Deny, sql: {statements: [TRUNCATE TABLE]}, message: Never.}
  - name: schema
    action: Hold
    sql: {effects: [Define]}
    hold: {approvers: [{kind: Group, name: dba}], timeout: 2s}
  - name: unbounded-write
    action: Hold
    sql: {unbounded: true}
    hold: {approvers: [{kind: Group, name: dba}], timeout: 2s}
`;
const MIGRATION = `-- Release 41: a note for every order; it's long; very
  alter table orders add column note text default 'a;b';

update orders set note = 'x' /* all; of them */
  ; -- done
create index orders_note on orders (note)`;

let orders: Orders;
let local: Local;
let file: string;

before(async () => {
  orders = await startOrders({
    account: 'writer',
    role: 'orders_writer',
    password: PASSWORD,
    table: ORDERS_WITH_STATES,
    setup: 'alter table orders owner to orders_writer; grant create on schema public to orders_writer;',
    files: { 'policy.yaml': POLICY },
  });
  ({ local } = orders);
  file = path.join(local.directory, '..', 'migration.sql');
});
after(async () => {
  await orders?.stop();
});

const psql = (...more: string[]): string[] => ['--', 'psql', '-X', '-At', '-v', 'ON_ERROR_STOP=1', ...more];

test('INV-08: statements that approvers have read run without waiting, exactly those, and denials stay', async () => {
  writeFileSync(file, MIGRATION);
  const asked = await local.cli(
    ['request', 'orders-db', '--for', '30m', '--reason', 'release 41', '--command-file', file],
    alice,
  );
  const name = /Grant (\S+) is/.exec(asked.stdout)?.[1];
  assert.ok(name, asked.stdout + asked.stderr);
  const approved = await local.cli(['approve', name, '--yes'], dana);
  assert.match(approved.stderr, /3 to be approved with it/);
  assert.match(approved.stderr, /add column note text default 'a;b'/);
  assert.match(approved.stderr, /has had no access here/);
  assert.equal(approved.code, 0, approved.stderr);

  const run = await local.cli(['connect', 'orders-db', ...psql('-f', file)], alice);
  assert.equal(run.code, 0, run.stderr);
  assert.doesNotMatch(run.stderr, /Held as/);
  const check = await local.cli(
    ['connect', 'orders-db', ...psql('-c', "select count(*) from orders where note = 'x'")],
    alice,
  );
  assert.equal(check.stdout.trim(), '20');

  // One character more is another statement: it waits, and nobody consents.
  const other = await local.cli(['connect', 'orders-db', ...psql('-c', "update orders set note = 'y'")], alice);
  assert.notEqual(other.code, 0);
  assert.match(other.stderr, /Held as/);
  const denied = await local.cli(['connect', 'orders-db', ...psql('-c', 'truncate orders')], alice);
  assert.match(denied.stderr, /no-truncate/);
});

test('a file that holds a secret, or psql’s own commands, is not asked for', async () => {
  writeFileSync(file, "create role x password 'hunter2'");
  const secret = await local.cli(['request', 'orders-db', '--command-file', file], alice);
  assert.notEqual(secret.code, 0);
  assert.match(secret.stderr, /password, key or card/);
  assert.doesNotMatch(secret.stderr, /hunter2/);
  writeFileSync(file, '\\i other.sql\nselect 1');
  const meta = await local.cli(['request', 'orders-db', '--command-file', file], alice);
  assert.match(meta.stderr, /can not be approved statement by statement/);
});

test('an emergency needs a reason, shows in pending --sign-off, and leaves it when it is signed off', async () => {
  const none = await local.cli(['request', 'orders-db', '--break-glass'], alice);
  assert.match(none.stderr, /Break-glass needs a reason/);
  const taken = await local.cli(
    ['request', 'orders-db', '--break-glass', '--reason', 'INC-9: orders are stuck'],
    alice,
  );
  const name = /Grant (\S+) is Active/.exec(taken.stdout)?.[1];
  assert.ok(name, taken.stdout + taken.stderr);
  const due = await local.cli(['pending', '--sign-off'], dana);
  assert.match(due.stdout, new RegExp(`${name}.*INC-9`));
  assert.match(due.stdout, /sign-off/);
  const own = await local.cli(['sign-off', name, '--yes'], { ...alice, groups: ['dba'] });
  assert.match(own.stderr, /Nobody approves their own/);
  const signed = await local.cli(['sign-off', name, '--yes', '--reason', 'was right'], dana);
  assert.equal(signed.code, 0, signed.stderr);
  const after = await local.cli(['pending', '--sign-off'], dana);
  assert.match(after.stdout, /No emergency/);
});
