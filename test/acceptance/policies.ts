// Policies as their authors meet them: tests that fail when a rule is spoilt, and files that say what is wrong with them.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { actsOn, type HeldGrant, until } from '../support/in-process.ts';
import { connectionYaml, type Local, SALLYPORT, startLocal } from '../support/local.ts';
import { type PostgresServer, startPostgres } from '../support/postgres.ts';
import type { CriteriaGroup } from './criterion.ts';

const EXAMPLES = path.resolve(import.meta.dirname, '../../examples');
const ACCOUNT = { username: 'app', password: 'app-password' };

let server: PostgresServer;
let local: Local;
let orders: pg.Client;
/** Of the same namespace, and not selected by the broken file. */
let stock: pg.Client;
/** Of another namespace. */
let elsewhere: pg.Client;

const sallyport = (...args: string[]): { code: number | null; stdout: string; stderr: string } => {
  const { status, stdout, stderr } = spawnSync(SALLYPORT, args, {
    encoding: 'utf8',
    env: { ...process.env, NO_COLOR: '1' },
  });
  return { code: status, stdout, stderr };
};

async function examplesPass(): Promise<string> {
  const run = sallyport('policy', 'test', EXAMPLES);
  assert.equal(run.code, 0, run.stdout + run.stderr);
  const figure = /(\d+) passed, 0 failed/.exec(run.stdout);
  assert.ok(figure !== null && Number(figure[1]) > 10, run.stdout);
  return `exit 0, ${figure[1]} cases`;
}

interface Spoilt {
  what: string;
  file: string;
  change: readonly [from: RegExp, to: string];
  /** A case that must fail, what it expected and got, and the rule that is named with it. */
  expect: { name: string; expected: RegExp; got: RegExp; rule: RegExp };
}

const SPOILT: readonly Spoilt[] = [
  {
    what: 'a Deny removed',
    file: 'orders/guardrails.yaml',
    change: [/ {4}- name: no-server-files[\s\S]*?out of bounds\.\n/, ''],
    expect: {
      name: 'no files of the server',
      // Nothing else allows it either: what differs is whose word it is.
      expected: /rule database-guardrails\/no-server-files/,
      got: /no rule/,
      rule: /database-guardrails[/ "]+no-server-files/,
    },
  },
  {
    what: 'a Deny that matches less',
    file: 'orders/policy-team.yaml',
    change: [/effects: \[Define, Grant\]/, 'effects: [Grant]'],
    expect: {
      name: 'the schema stays as it is, however it is asked',
      expected: /rule orders-team\/no-ddl/,
      got: /no rule/,
      rule: /orders-team[/ "]+no-ddl/,
    },
  },
  {
    what: 'a Hold turned into Allow',
    file: 'orders/policy-team.yaml',
    change: [
      /action: Hold\n {6}sql:\n {8}unbounded: true\n {6}hold:\n[\s\S]*?timeout: 60s\n/,
      'action: Allow\n      sql:\n        unbounded: true\n',
    ],
    expect: {
      name: 'all orders at once wait for a DBA',
      expected: /Hold/,
      got: /allow|Allow/,
      rule: /orders-team[/ "]+(unbounded-write|write-orders)/,
    },
  },
  {
    what: 'a mask dropped',
    file: 'orders/policy-team.yaml',
    change: [/ {4}- name: card-numbers\n.*\n.*\n/, ''],
    expect: {
      name: 'card numbers and e-mail addresses are masked',
      expected: /cards\.number/,
      got: /it is not/,
      rule: /cards\.number/,
    },
  },
  {
    what: 'an Allow that grew',
    file: 'orders/policy-team.yaml',
    change: [/tables: \[public\.orders, public\.order_items\]/, "tables: ['public.*']"],
    expect: {
      name: 'other tables are not the team',
      expected: /Deny/,
      got: /allow|Allow/,
      rule: /orders-team[/ "]+write-orders/,
    },
  },
];

async function spoiltFail(): Promise<string> {
  const failed: string[] = [];
  for (const { what, file, change, expect } of SPOILT) {
    const copy = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-examples-'));
    try {
      fs.cpSync(EXAMPLES, copy, { recursive: true });
      const target = path.join(copy, file);
      const before = fs.readFileSync(target, 'utf8');
      const after = before.replace(...change);
      assert.notEqual(after, before, `${what}: the example does not hold what was to be changed`);
      fs.writeFileSync(target, after);
      const run = sallyport('policy', 'test', copy);
      assert.equal(run.code, 1, `${what}: exit ${run.code}\n${run.stdout}${run.stderr}`);
      const line = run.stdout.split('\n').find((each) => each.includes('FAIL') && each.includes(expect.name));
      assert.ok(line !== undefined, `${what}: no failed case "${expect.name}"\n${run.stdout}`);
      const [, expected, got] = /expected (.*?), (?:got|and) (.*)$/.exec(line) ?? [];
      assert.match(expected ?? '', expect.expected, `${what}: ${line}`);
      assert.match(got ?? '', expect.got, `${what}: ${line}`);
      assert.match(run.stdout, expect.rule, `${what}: no rule is named\n${run.stdout}`);
      assert.match(run.stdout, /team\.test\.yaml:\d+: /, `${what}: no place is named`);
      failed.push(what);
    } finally {
      fs.rmSync(copy, { recursive: true, force: true });
    }
  }
  return `${failed.length} of ${SPOILT.length} (${failed.join(', ')}): exit 1 with case, expected, got and rule`;
}

/** A policy about orders-db alone that changes nothing for the app; each kind of damage is done to it. */
const GOOD = `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: extra, namespace: payments}
spec:
  connectionSelector: {names: [orders-db]}
  subjects: [{kind: Group, name: nobody}]
  accounts: [app]
  maxDuration: 1h
  rules:
  - name: no-roles
    action: Deny
    sql: {effects: [Grant]}
`;

interface Broken {
  what: string;
  from: string;
  to: string;
  line: number;
  field: RegExp;
  /** What to write instead. */
  hint: RegExp;
}

const BROKEN: readonly Broken[] = [
  {
    what: 'a mistyped field',
    from: 'maxDuration',
    to: 'maxDuraton',
    line: 8,
    field: /maxDuraton/,
    hint: /maxDuration/,
  },
  {
    what: 'a mistyped value',
    from: 'action: Deny',
    to: 'action: Denny',
    line: 11,
    field: /rules\[0\]\.action/,
    hint: /Deny/,
  },
  {
    what: 'a bad duration',
    from: 'maxDuration: 1h',
    to: 'maxDuration: one hour',
    line: 8,
    field: /maxDuration/,
    hint: /1h|30m/,
  },
  {
    what: 'a text where a list belongs',
    from: 'accounts: [app]',
    to: 'accounts: app',
    line: 7,
    field: /accounts/,
    hint: /\[|list/,
  },
  {
    what: 'a number where a text belongs',
    from: 'name: nobody',
    to: 'name: 42',
    line: 6,
    field: /subjects\[0\]\.name/,
    hint: /quot|text/,
  },
  {
    what: 'a missing field',
    from: '  subjects: [{kind: Group, name: nobody}]\n',
    to: '',
    line: 4,
    field: /spec/,
    hint: /subjects/,
  },
  {
    what: 'a mistyped kind of subject',
    from: 'kind: Group,',
    to: 'kind: Grp,',
    line: 6,
    field: /subjects\[0\]\.kind/,
    hint: /Group/,
  },
  {
    what: 'an effect that does not exist',
    from: '[Grant]',
    to: '[Grants]',
    line: 12,
    field: /rules\[0\]\.sql\.effects/,
    hint: /Grant/,
  },
  { what: 'indentation', from: '  maxDuration: 1h', to: '   maxDuration: 1h', line: 8, field: /.?/, hint: /indent/ },
  {
    what: 'a quote that is not closed',
    from: 'name: nobody}',
    to: 'name: "nobody}',
    line: 6,
    field: /.?/,
    hint: /close|quote/,
  },
  { what: 'a tab', from: '  maxDuration', to: '\tmaxDuration', line: 8, field: /.?/, hint: /spaces/ },
];

const works = (client: pg.Client): Promise<true | undefined> =>
  client.query('select 1').then(
    () => true as const,
    () => undefined,
  );
const denied = (client: pg.Client): Promise<string | undefined> =>
  client.query('select 1').then(
    () => undefined,
    (error: pg.DatabaseError) =>
      `${error.severity} ${error.code} ${error.message} ${error.detail ?? ''} ${error.hint ?? ''}`,
  );

async function brokenFiles(): Promise<string> {
  const told: string[] = [];
  const everything: string[] = [];
  for (const { what, from, to, line, field, hint } of BROKEN) {
    assert.ok(GOOD.includes(from), what);
    const heard = local.output().length;
    local.write('extra.yaml', GOOD.replace(from, to));
    const message = await until(`${what}: commands to be denied`, () => denied(orders));
    assert.match(message, /^ERROR 42501/, `${what}: ${message}`);
    assert.match(message, /extra|accepted|file/i, `${what}: ${message}`);
    const place = new RegExp(`extra\\.yaml:${line}(:\\d+)?: .*`);
    const shown = await until(
      `${what}: the daemon to tell\n${local.output().slice(heard)}`,
      () => place.exec(local.output().slice(heard))?.[0],
    );
    const lint = await local.cli(['policy', 'lint', local.directory]);
    assert.equal(lint.code, 78, `${what}: lint exits ${lint.code}`);
    const linted = place.exec(lint.stdout)?.[0];
    assert.ok(linted !== undefined, `${what}: lint says ${lint.stdout}`);
    for (const said of [shown, linted]) {
      assert.match(said, field, `${what}: no field in ${said}`);
      assert.match(said, hint, `${what}: no advice in ${said}`);
    }
    // A document that is no YAML might be a guardrail over every namespace: then nothing runs until it can be read.
    const others = field.source === '.?' ? [] : [stock, elsewhere];
    for (const other of others) if ((await works(other)) === undefined) everything.push(what);
    local.write('extra.yaml', GOOD);
    await until(`${what}: commands to run again after the fix`, () => works(orders));
    await until(`${what}: the other Connections`, async () => (await works(stock)) && works(elsewhere));
    told.push(what);
  }
  assert.deepEqual(everything, [], 'these stopped Connections that the file does not select');
  return `${told.length} kinds: each named with file, line, field and advice by daemon and lint; what it selects denied (everything, where it is no YAML at all), others served, all sessions lived through it`;
}

async function start(): Promise<void> {
  server = await startPostgres({
    database: 'shop',
    setup: `create role ${ACCOUNT.username} login password '${ACCOUNT.password}'`,
  });
  const accounts = { app: ACCOUNT };
  local = await startLocal({
    'orders.yaml': connectionYaml(server, { name: 'orders-db', database: 'shop', accounts }),
    'stock.yaml': connectionYaml(server, { name: 'stock-db', database: 'shop', accounts }),
    'policy.yaml': `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: apps, namespace: payments}
spec:
  connectionSelector: {names: [orders-db, stock-db]}
  subjects: [{kind: User, name: app@corp.example}]
  accounts: [app]
  access: Standing
  rules:
  - {name: read-write, preset: ReadWrite}
`,
    'warehouse.yaml': connectionYaml(server, {
      name: 'parcels-db',
      namespace: 'warehouse',
      database: 'shop',
      accounts,
    }),
    'warehouse-policy.yaml': `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: apps, namespace: warehouse}
spec:
  connectionSelector: {names: [parcels-db]}
  subjects: [{kind: User, name: app@corp.example}]
  accounts: [app]
  access: Standing
  rules:
  - {name: read-write, preset: ReadWrite}
`,
    'extra.yaml': GOOD,
  });
  const open = async (name: string, namespace = 'payments'): Promise<pg.Client> => {
    const held: HeldGrant = await actsOn(local, namespace).request({ username: 'app@corp.example', groups: [] }, name);
    return until(`a session on ${name}`, async () => {
      const client = new pg.Client(held.login());
      client.on('error', () => undefined);
      return client.connect().then(
        () => client,
        () => undefined,
      );
    });
  };
  orders = await open('orders-db');
  stock = await open('stock-db');
  elsewhere = await open('parcels-db', 'warehouse');
}

export const policies: CriteriaGroup = {
  name: 'policies',
  start,
  criteria: [
    { claim: '`policy test` passes on the examples', check: examplesPass },
    { claim: '`policy test` fails when a rule or mask is spoilt, and says which case and rule', check: spoiltFail },
    {
      claim: 'a broken file is explained, denies what it selects or may select, and heals without a restart',
      check: brokenFiles,
    },
  ],
  async stop() {
    await orders?.end().catch(() => undefined);
    await stock?.end().catch(() => undefined);
    await elsewhere?.end().catch(() => undefined);
    await local?.stop();
    await server?.stop();
  },
};
