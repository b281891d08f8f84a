// Unmodified drivers through the gateway: every suite runs straight to the server first, then through a transparent
// Connection (by ticket and by a token of an identity provider), one with rules, and one with a mask in force elsewhere.
// The outputs must be equal to the letter.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { type Idp, startIdp } from '../support/idp.ts';
import { connectionYaml, type Local, postgresEnvironment, startLocal } from '../support/local.ts';
import { type PostgresServer, startPostgres } from '../support/postgres.ts';
import { missing, tools } from '../support/tools.ts';

const run = promisify(execFile);
const account = { username: 'app', password: 'app-password' };
const clients = path.join(import.meta.dirname, 'clients');

const policy = (connection: string, rules: string, more = ''): string => `---
apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: ${connection}, namespace: drivers}
spec:
  connectionSelector: {names: [${connection}]}
  subjects: [{kind: User, name: driver}]
  accounts: [app]
  access: Standing
  maxDuration: 2h
  session: {ticketUntilExpiry: true}
  rules:
${rules}
${more}`;
const RULED = `  - {name: everything, action: Allow, sql: {effects: [Read, Write, Define, Grant, Execute, Session]}}
  - {name: no-secrets, action: Deny, sql: {statements: ["DROP DATABASE", "ALTER SYSTEM"]}}`;

let server: PostgresServer;
let local: Local;
let idp: Idp;
const ways: { name: string; env: Record<string, string> }[] = [];

before(async () => {
  server = await startPostgres({
    database: 'drivers',
    setup: `create role app login password 'app-password'; alter database drivers owner to app; grant all on schema public to app;
      create table masked_elsewhere (id int, secret text); alter table masked_elsewhere owner to app`,
  });
  const yaml = (name: string): string =>
    connectionYaml(server, { name, namespace: 'drivers', database: 'drivers', accounts: { app: account } });
  idp = await startIdp({ users: { driver: {} } });
  local = await startLocal({
    'corp.yaml': `apiVersion: sallyport.dev/v1alpha1
kind: IdentityProvider
metadata: {name: corp}
spec:
  issuer: ${idp.issuer}
  caBundle: ${JSON.stringify(idp.ca)}
  audiences: [{audience: ${idp.audience}, use: Access, clients: [${idp.clients.cli}]}]
  claims: {username: preferred_username}
  kubernetes: {claim: preferred_username, prefix: ""}
`,
    'plain.yaml': yaml('plain-db') + policy('plain-db', '  - {name: everything, action: Allow}'),
    'ruled.yaml': yaml('ruled-db') + policy('ruled-db', RULED),
    'masked.yaml':
      yaml('masked-db') +
      policy('masked-db', RULED, '  masking:\n  - {name: secrets, columns: ["public.masked_elsewhere.secret"]}\n'),
  });
  const ca = path.join(local.directory, '../direct.pem');
  fs.writeFileSync(ca, server.ca);
  ways.push({
    name: 'direct',
    env: {
      PGHOST: 'localhost',
      PGPORT: String(server.port),
      PGUSER: 'app',
      PGPASSWORD: 'app-password',
      PGDATABASE: 'drivers',
      PGSSLMODE: 'verify-full',
      PGSSLROOTCERT: ca,
    },
  });
  for (const name of ['plain-db', 'ruled-db', 'masked-db']) {
    const answer = await local.cli(['dsn', name, '--until-expiry', '-n', 'drivers'], { as: 'driver' });
    assert.equal(answer.code, 0, answer.stderr);
    const env = postgresEnvironment(/postgres(ql)?:\/\/\S+/.exec(answer.stdout)![0]);
    ways.push({ name, env });
    if (name === 'plain-db') {
      const token = await idp.tokenFor('driver', { expiresIn: 7_200 });
      ways.push({ name: 'plain-db by token', env: { ...env, PGUSER: 'app', PGPASSWORD: token } });
    }
  }
});
after(async () => {
  await local?.stop();
  await idp?.stop();
  await server?.stop();
});

/** `masked`: whether the suite is also to be equal where a mask is in force; DO and NOTIFY payloads are not let through there. */
async function sameEverywhere(suite: (env: Record<string, string>) => Promise<string>, masked: boolean): Promise<void> {
  const expected = await suite(ways[0]!.env);
  assert.ok(expected.split('\n').length > 10, 'the suite itself ran');
  for (const way of ways.slice(1, masked ? undefined : -1)) {
    const got = await suite(way.env);
    assert.equal(got, expected, `through ${way.name}`);
  }
}

test('psycopg 3 behaves through the gateway as it does without', { skip: missing('psycopg') }, () =>
  sameEverywhere(
    async (env) =>
      (await run(tools.psycopg!, [path.join(clients, 'psycopg_suite.py')], { env: { ...process.env, ...env } })).stdout,
    true,
  ),
);

test('pgjdbc behaves through the gateway as it does without', { skip: missing('pgjdbc') }, () =>
  sameEverywhere(
    async (env) =>
      (
        await run('java', [
          '-cp',
          tools.pgjdbc!,
          path.join(clients, 'JdbcSuite.java'),
          `jdbc:postgresql://${env.PGHOST}:${env.PGPORT}/${env.PGDATABASE}`,
          env.PGUSER!,
          env.PGPASSWORD!,
          env.PGSSLROOTCERT!,
        ])
      ).stdout,
    true,
  ),
);

test('node-postgres behaves through the gateway as it does without', () =>
  sameEverywhere(
    async (env) =>
      (await run(process.execPath, [path.join(clients, 'node-postgres-suite.ts')], { env: { ...process.env, ...env } }))
        .stdout,
    false,
  ));

/** A syntax error found at the gateway has no source line of the server's parser, and says that nothing reached it. */
function withoutParserTraces(output: string): string {
  return output.replaceAll(/^(?:LOCATION: {2}scanner_yyerror, .*|DETAIL: {2}Sallyport could not parse it; .*)\n/gm, '');
}

for (const mode of ['simple', 'extended', 'prepared']) {
  test(`pgbench -M ${mode} with 64 clients has no error`, { skip: missing('pgbench') }, async () => {
    await run(tools.pgbench!, ['-i', '-s', '1', '-q'], { env: { ...process.env, ...ways[0]!.env } });
    for (const way of ways.slice(1)) {
      const { stdout, stderr } = await run(tools.pgbench!, ['-n', '-M', mode, '-c', '64', '-j', '2', '-T', '3'], {
        env: { ...process.env, ...way.env },
      });
      assert.match(stdout, /number of failed transactions: 0 /, `${way.name}: ${stderr}`);
      assert.doesNotMatch(stderr, /error|aborted/i);
    }
  });
}

test('psql prints through the gateway what it prints without', { skip: missing('psql') }, () =>
  sameEverywhere(
    async (env) =>
      (
        await run('psql', ['-X', '-e', '-f', path.join(clients, 'psql_suite.sql')], {
          env: { ...process.env, ...env },
        }).then(({ stdout, stderr }) => ({ stdout: withoutParserTraces(stdout + stderr) }))
      ).stdout,
    false,
  ),
);
