// Criteria of logging in from a terminal and of pipelines: a real OpenID provider, issuers in the shape of two CI systems,
// the daemon and the portal as people run them, a real PostgreSQL, real psql.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { logInBy, loginFileOf } from '../../support/cli-login.ts';
import { type Idp, startIdp } from '../../support/idp.ts';
import { type Local, SALLYPORT } from '../../support/local.ts';
import { type Orders, startOrders } from '../../support/orders.ts';
import { exampleAccess, type Pipelines, startPipelines } from '../../support/pipelines.ts';
import type { PostgresServer } from '../../support/postgres.ts';
import { CLI_LOGIN, PEOPLE, providerYaml } from '../../support/provider-yaml.ts';
import { startIssuer, type WorkloadIssuer } from '../../support/workload-issuer.ts';
import type { CriteriaGroup } from '../criterion.ts';

const PASSWORD = 'orders-secret-4410';
const REAUTHENTICATE_S = 75;
const alice = { as: 'alice', groups: ['corp:app-team'] };
const dana = { as: 'dana@corp.example', groups: ['dba'] };

let idp: Idp;
let github: WorkloadIssuer;
let gitlab: WorkloadIssuer;
let orders: Orders;
let server: PostgresServer;
let local: Local;
let ci: Pipelines;
let home: string;

const ACCESS = (): string => `${providerYaml(
  'corp',
  idp,
  `audiences: [{audience: ${idp.audience}, use: Access, clients: [cli, cli-device]}]
${PEOPLE}
${CLI_LOGIN}`,
)}---
apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: readers, namespace: payments}
spec:
  connectionSelector: {names: [orders-db]}
  subjects: [{kind: Group, name: "corp:app-team"}]
  accounts: [migrator]
  session: {reauthenticate: ${REAUTHENTICATE_S}s}
  rules: [{name: read-only, preset: ReadOnly}]
`;

const laptop = (): Record<string, string> => ({
  ...local.environment(),
  SALLYPORT_HOME: home,
  SALLYPORT_TOKEN_STORE: 'file',
  SALLYPORT_AS: 'alice',
  XDG_RUNTIME_DIR: '',
});
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function psql(): Promise<{
  send(sql: string): void;
  says(pattern: RegExp, ms?: number): Promise<void>;
  end(): void;
}> {
  const child = spawn(SALLYPORT, ['connect', 'orders-db', '--token', '--', 'psql', '-XAt'], {
    env: laptop(),
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let said = '';
  child.stdout.on('data', (part: Buffer) => (said += part.toString()));
  child.stderr.on('data', (part: Buffer) => (said += part.toString()));
  const timer = setTimeout(() => child.kill('SIGTERM'), 240_000);
  child.once('close', () => clearTimeout(timer));
  const session = {
    send: (sql: string) => void child.stdin.write(`${sql}\n`),
    async says(pattern: RegExp, ms = 40_000) {
      for (const until = Date.now() + ms; !pattern.test(said); await pause(50)) {
        if (Date.now() > until) throw new Error(`psql never said ${pattern}\n${said}\n${local.output()}`);
      }
    },
    end: () => void child.stdin.end(),
  };
  session.send("select 'in ' || count(*) from orders;");
  await session.says(/in 20/);
  return session;
}

async function granted(): Promise<void> {
  const asked = await local.cli(['request', 'orders-db', '--policy', 'readers', '--reason', 'INC-1', '--wait'], alice);
  assert.equal(asked.code, 0, asked.output);
}

export const cli: CriteriaGroup = {
  name: 'cli',
  async start() {
    [idp, github, gitlab] = await Promise.all([startIdp(), startIssuer(), startIssuer()]);
    orders = await startOrders({
      account: 'migrator',
      role: 'migrator',
      password: PASSWORD,
      setup: 'alter table orders owner to migrator;',
      files: { 'people.yaml': ACCESS(), 'jobs.yaml': exampleAccess(github, gitlab) },
    });
    ({ server, local } = orders);
    home = path.join(local.home, '../laptop');
    ci = await startPipelines(local, idp, { github, gitlab });
  },
  criteria: [
    {
      claim: 'login by browser and by device; tokens are in no output and in a file that only their owner reads',
      async check() {
        for (const device of [true, false]) {
          const said = await logInBy(laptop(), idp, 'alice', { device });
          const { file, tokens } = loginFileOf(home);
          for (const secret of [tokens.access, tokens.refresh, tokens.id]) assert.ok(!said.includes(secret));
          assert.equal(fs.statSync(file).mode & 0o777, 0o600);
          assert.equal(fs.statSync(path.dirname(file)).mode & 0o777, 0o700);
        }
        return '2 flows, 3 tokens each';
      },
    },
    {
      claim: 'psql gets the token by a file: it is in no argument and no environment',
      async check() {
        await granted();
        const child = await local.cli(
          // biome-ignore format: one command
          ['connect', 'orders-db', '--token', '--', 'sh', '-c', 'cat /proc/$$/environ /proc/$PPID/environ /proc/$PPID/cmdline | tr "\\0" "\\n"; psql -XAtc "select 20 from orders limit 1"'],
          { env: laptop() },
        );
        assert.equal(child.code, 0, child.output);
        assert.match(child.stdout, /^20$/m);
        assert.ok(!child.output.includes(loginFileOf(home).tokens.access));
        assert.deepEqual(fs.readdirSync(path.join(home, 'run')), []);
        return 'environ and cmdline of client and connect read';
      },
    },
    {
      claim: 'a session lives on over session.reauthenticate while connect hands it newer tokens',
      async check() {
        await logInBy(laptop(), idp, 'alice');
        const began = Date.now();
        const session = await psql();
        while (Date.now() - began < (REAUTHENTICATE_S + 12) * 1000) await pause(500);
        session.send("select 'still ' || 'in';");
        await session.says(/still in/);
        const lived = Math.round((Date.now() - began) / 1000);
        session.end();
        return `${lived} s with reauthenticate ${REAUTHENTICATE_S} s`;
      },
    },
    {
      claim: 'a removed group’s live session ends at its refresh',
      async check() {
        await logInBy(laptop(), idp, 'alice');
        await pause(1_100);
        loginFileOf(home).age(61_000);
        idp.removeFromGroup('alice', 'app-team');
        try {
          const began = Date.now();
          const session = await psql();
          for (; Date.now() - began < 100_000; await pause(100)) {
            const { items } = await local.json<{ items: unknown[] }>(['sessions']);
            if (items.length === 0) break;
          }
          session.send('select 1;');
          await session.says(/does not name .*alice or a group of theirs any more/);
          return `${((Date.now() - began) / 1000).toFixed(1)} s after login`;
        } finally {
          idp.setUser('alice', { groups: ['app-team', 'staff'] });
        }
      },
    },
    {
      claim: 'logout ends the login at the provider',
      async check() {
        await logInBy(laptop(), idp, 'alice');
        const { refresh } = loginFileOf(home).tokens;
        const out = await local.cli(['logout'], { env: laptop() });
        assert.equal(out.code, 0, out.output);
        await assert.rejects(idp.refresh(refresh), /invalid_grant/);
        return 'refresh refused: invalid_grant';
      },
    },
    {
      claim: 'a pipeline runs its approved migration from the right branch, and gets nothing from another',
      async check() {
        for (const claims of [{ ref: 'refs/heads/feature' }, { event_name: 'pull_request_target' }]) {
          const refused = await ci.github({ claims, only: [0] });
          assert.equal(refused.code, 77, refused.output);
        }
        let approved: Promise<{ code: number; output: string }> | undefined;
        const ran = await ci.github({
          onOutput(output) {
            const name = /Grant (\S+) is Pending/.exec(output)?.[1];
            if (name !== undefined) approved ??= local.cli(['approve', name, '--yes'], dana);
          },
        });
        assert.equal(ran.code, 0, `${ran.output}\n${(await approved)?.output}\n${ci.said()}`);
        const { rows } = await server.query('select count(*)::int n from orders where note is not null', [], {
          database: 'orders',
        });
        assert.deepEqual(rows, [{ n: 10 }]);
        return '2 refused with 77, 2 statements ran';
      },
    },
    {
      claim: 'a held statement ends the job with 75 and a link; a later run finds what was approved',
      async check() {
        const ask = 'sallyport request payments/orders-db --server "$SALLYPORT_SERVER" --for 30m --reason release';
        const first = await ci.gitlab({ script: [ask] });
        assert.equal(first.code, 75, first.output);
        const name = /Grant (\S+) is/.exec(first.output)![1]!;
        assert.equal((await local.cli(['approve', name, '--yes'], dana)).code, 0);
        const second = await ci.gitlab({
          script: [
            `${ask} --wait`,
            'sallyport connect payments/orders-db --server "$SALLYPORT_SERVER" -- psql -X -v ON_ERROR_STOP=1 -c "alter table orders add column other text"',
          ],
        });
        assert.equal(second.code, 75, second.output);
        assert.ok(second.output.includes(`Grant ${name} is Active`), second.output);
        const link = /nobody has approved it \([^)]*\): (http\S+)/.exec(second.output)?.[1];
        assert.ok(link, second.output);
        return new URL(link).pathname;
      },
    },
  ],
  async stop() {
    await ci?.stop();
    await orders?.stop();
    await Promise.all([idp, github, gitlab].map((each) => each?.stop()));
  },
};
