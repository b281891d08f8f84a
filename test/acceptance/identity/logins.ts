// Criteria of logging in to a database by tokens: a real Keycloak and a second issuer for workloads, the daemon as people
// run it, a real PostgreSQL, and clients of other people, unmodified.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import { promisify } from 'node:util';
import pg from 'pg';
import { provenName } from '../../../src/identity/acts.ts';
import { int32, message, SSL_REQUEST, startupMessage } from '../../../src/protocols/postgres/wire/messages.ts';
import { type Keycloak, keycloakMissing, startKeycloak } from '../../support/keycloak.ts';
import { connectionYaml, type Local, startLocal } from '../../support/local.ts';
import { type PostgresServer, startPostgres } from '../../support/postgres.ts';
import { PEOPLE, providerYaml } from '../../support/provider-yaml.ts';
import { psql18Missing, ROOT_CERT, runPsql18 } from '../../support/psql18.ts';
import { tools } from '../../support/tools.ts';
import { startIssuer, type WorkloadIssuer } from '../../support/workload-issuer.ts';
import type { CriteriaGroup } from '../criterion.ts';

const run = promisify(execFile);
const ACCOUNT = { username: 'orders_reader', password: 'reader-secret-77c0' };
const ALICE = { as: 'alice', groups: ['corp:/app-team', 'corp:/staff'] };

let keycloak: Keycloak;
let ci: WorkloadIssuer;
let server: PostgresServer;
let local: Local;
/** Of the Connection's listener, from the DSN that people are given. */
let place: { host: string; port: number; ca: string; caFile: string };

const providers = (): string => `${providerYaml(
  'corp',
  keycloak,
  `audiences: [{audience: sallyport, use: Access, clients: [cli, cli-device], marks: {typ: Bearer}}]
${PEOPLE}
login: {clientId: cli, deviceClientId: cli-device, oauthScope: openid}`,
)}---
${providerYaml(
  'ci',
  ci,
  `audiences: [{audience: sallyport-ci, use: Workload}]
claims: {workload: [repository_id, repository, ref, ref_type, environment, event_name]}`,
)}`;
const policy = (session: string): string => `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: readers, namespace: payments}
spec:
  connectionSelector: {names: [orders-db]}
  subjects:
  - {kind: Group, name: "corp:/app-team"}
  - {kind: Claim, provider: ci, claims: {repository_id: "740012345", ref: refs/heads/main, ref_type: branch}}
  accounts: [reader]
  maxDuration: 4h
  session: ${session}
  rules: [{name: all, action: Allow}]
`;

async function until<T>(what: string, look: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const end = Date.now() + 60_000;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}\n${local.output().slice(-2_000)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const ok = async (args: readonly string[]): Promise<string> => {
  const answer = await local.cli(args, ALICE);
  assert.equal(answer.code, 0, `${args.join(' ')}: ${answer.output}`);
  return answer.stdout;
};

/** Asks the daemon, as the CLI does. */
async function call(route: string, body: unknown): Promise<Record<string, unknown>> {
  return await new Promise((resolve, reject) => {
    const request = http.request(
      { socketPath: path.join(local.state, 'api.sock'), method: 'POST', path: route, agent: false },
      (response) => {
        let text = '';
        response.on('data', (part: Buffer) => (text += part.toString()));
        response.on('end', () => resolve(JSON.parse(text) as Record<string, unknown>));
      },
    );
    request.on('error', reject);
    request.end(JSON.stringify(body));
  });
}

const client = (password: string, user = 'reader'): pg.Client =>
  new pg.Client({
    host: place.host,
    port: place.port,
    user,
    password,
    database: 'orders',
    ssl: { ca: place.ca, servername: 'localhost' },
  });

/** One round of OAUTHBEARER without a token: what a client does to learn where to get one. */
async function discover(): Promise<string> {
  const socket = net.connect(place.port, place.host);
  await new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.once('data', resolve);
    socket.write(SSL_REQUEST);
  });
  const stream = tls.connect({ socket, servername: 'localhost', ca: place.ca });
  let text = '';
  const closed = new Promise((resolve) => stream.once('close', resolve));
  stream.on('error', () => undefined);
  stream.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
  const hello = Buffer.from('n,,\x01auth=\x01\x01');
  stream.write(startupMessage({ user: 'reader+oauth', database: 'orders' }));
  stream.write(message(0x70, 'OAUTHBEARER', int32(hello.length), hello));
  stream.write(message(0x70, Buffer.from([1])));
  await closed;
  return text;
}

export const logins: CriteriaGroup = {
  name: 'logins',
  async start() {
    for (const why of [keycloakMissing(), psql18Missing()]) if (why !== false) throw new Error(why);
    [keycloak, ci, server] = await Promise.all([
      startKeycloak(),
      startIssuer(),
      startPostgres({
        database: 'orders',
        setup: `create role ${ACCOUNT.username} login password '${ACCOUNT.password}';
          create table orders (id int primary key); insert into orders select generate_series(1, 20);
          grant select on orders to ${ACCOUNT.username}; grant all on schema public to ${ACCOUNT.username}`,
      }),
    ]);
    local = await startLocal({
      'providers.yaml': providers(),
      'connection.yaml': connectionYaml(server, { database: 'orders', accounts: { reader: ACCOUNT } }),
      'policy.yaml': policy('{}'),
    });
    await ok(['request', 'orders-db', '--reason', 'INC-1', '--wait']);
    const dsn = await until('a DSN for OAuth', async () => {
      const answer = await local.cli(['dsn', 'orders-db', '--oauth'], ALICE);
      return answer.code === 0 ? new URL(answer.stdout.trim()) : undefined;
    });
    const caFile = dsn.searchParams.get('sslrootcert')!;
    place = { host: dsn.hostname, port: Number(dsn.port), caFile, ca: fs.readFileSync(caFile, 'utf8') };
  },
  criteria: [
    {
      claim: 'psql 18, unmodified, logs in by OAUTHBEARER: the person types a code at Keycloak, and the query runs',
      async check() {
        const dsn = new URL((await ok(['dsn', 'orders-db', '--oauth'])).trim());
        dsn.searchParams.set('sslrootcert', ROOT_CERT);
        const psql = runPsql18({
          args: ['-XAt', '-c', 'select count(*) from orders', dsn.href],
          systemCa: keycloak.ca,
          serverCa: place.ca,
        });
        try {
          const [, url, code] = await psql.output(/Visit (https:\S+) and enter the code: (\S+)/);
          assert.equal((await local.json<{ items: unknown[] }>(['sessions'])).items.length, 0, 'none waits');
          const page = new URL(url!);
          page.searchParams.set('user_code', code!);
          await keycloak.approveDevice(page.href, 'alice');
          const approved = performance.now();
          const ended = await psql.ended;
          assert.equal(ended.code, 0, ended.stderr);
          assert.equal(ended.stdout, '20\n');
          return `in ${((performance.now() - approved) / 1000).toFixed(1)} s after the approval`;
        } finally {
          psql.stop();
        }
      },
    },
    {
      claim: 'The same token serves as the password in psql 15, node-postgres and pgjdbc',
      async check() {
        const { access_token: token } = await keycloak.login('alice');
        const psql = await run(
          'psql',
          [
            '-XAt',
            '-c',
            'select count(*) from orders',
            `host=${place.host} port=${place.port} dbname=orders user=reader sslmode=verify-full sslrootcert=${place.caFile}`,
          ],
          { env: { ...process.env, PGPASSWORD: token } },
        );
        assert.equal(psql.stdout, '20\n');
        const node = client(token);
        await node.connect();
        assert.equal((await node.query('select count(*)::int n from orders')).rows[0].n, 20);
        await node.end();
        if (tools.pgjdbc === undefined) throw new Error('pgjdbc is not there: scripts/tools.sh conformance');
        const jdbc = await run('java', [
          '-cp',
          tools.pgjdbc,
          path.join(import.meta.dirname, '../../conformance/clients/JdbcSuite.java'),
          `jdbc:postgresql://${place.host}:${place.port}/orders`,
          'reader',
          token,
          place.caFile,
        ]);
        const lines = jdbc.stdout.trim().split('\n').length;
        assert.ok(lines > 10, jdbc.stdout);
        return `a token of ${token.length} bytes; pgjdbc's suite said ${lines} lines`;
      },
    },
    {
      claim: 'Asking where to get a token is no failed login; sending bad ones is, whoever has a grant gets in still',
      async check() {
        const rounds = 40;
        for (let i = 0; i < rounds; i++) {
          const said = await discover();
          assert.ok(
            said.includes(`"openid-configuration":"${keycloak.issuer}/.well-known/openid-configuration"`),
            said,
          );
          assert.ok(said.includes('28000'));
        }
        let limited = 0;
        for (let i = 0; i < 30; i++) {
          await client('not-a-ticket')
            .connect()
            .catch((error: pg.DatabaseError) => {
              if (error.code === '53300') limited += 1;
            });
        }
        assert.ok(limited > 0, 'guesses are limited');
        const node = client((await keycloak.login('alice')).access_token);
        await node.connect();
        await node.end();
        return `${rounds} rounds of discovery; ${limited} of 30 guesses were not looked at`;
      },
    },
    {
      claim: 'A job’s token opens the grant that a job of the same branch asked for, and from another branch nothing',
      async check() {
        const job = await ci.github('sallyport-ci');
        const signed = job.split('.').slice(0, 2).join('.');
        const made = await call('/v1/prove', {
          object: {
            apiVersion: 'sallyport.dev/v1alpha1',
            kind: 'AccessGrant',
            metadata: {
              name: provenName('job', createHash('sha256').update(signed).digest('hex')),
              namespace: 'payments',
            },
            spec: {
              connectionRef: { name: 'orders-db' },
              reason: 'migration',
              requester: { via: 'Pipeline', proof: job },
            },
          },
        });
        assert.equal(made['kind'], 'Ok', JSON.stringify(made));
        const enter = async (token: string): Promise<string> => {
          const node = client(token);
          try {
            await node.connect();
            return String((await node.query('select count(*) n from orders')).rows[0].n);
          } catch (error) {
            return (error as Error).message;
          } finally {
            await node.end().catch(() => undefined);
          }
        };
        await until('the job to be in', async () => ((await enter(job)) === '20' ? true : undefined));
        const other = await enter(await ci.github('sallyport-ci', { ref: 'refs/heads/feature' }));
        assert.match(other, /^(You have no grant|Policy payments\/readers does not name)/);
        return `from another branch: "${other}"`;
      },
    },
    {
      claim: 'A live session whose person lost the group at Keycloak ends when the refreshed token is handed over',
      async check() {
        local.write('policy.yaml', policy('{reauthenticate: 30m}'));
        const tokens = await keycloak.login('alice');
        const node = client(tokens.access_token);
        let cut = '';
        node.on('error', (error) => (cut ||= error.message));
        await node.connect();
        const running = node.query('select pg_sleep(60)').catch((error: Error) => (cut ||= error.message));
        const [session] = await until('the session', async () => {
          const { items } = await local.json<{ items: { id: string }[] }>(['sessions']);
          return items.length === 1 ? items : undefined;
        });
        await new Promise((resolve) => setTimeout(resolve, 1_100)); // `iat` has whole seconds
        const kept = await keycloak.refresh(tokens.refresh_token);
        const renewed = await call('/v1/renew', { session: session!.id, token: kept.access_token });
        assert.equal(renewed['kind'], 'Renewed', JSON.stringify(renewed));
        await keycloak.removeFromGroup('alice', 'app-team');
        await new Promise((resolve) => setTimeout(resolve, 1_100));
        const without = await keycloak.refresh(kept.refresh_token);
        const began = performance.now();
        const answer = await call('/v1/renew', { session: session!.id, token: without.access_token });
        assert.equal(answer['kind'], 'Cut', JSON.stringify(answer));
        await running;
        const took = performance.now() - began;
        assert.match(cut, /does not name alice or a group of theirs any more/);
        await until('nothing to run at the server', async () => {
          const { rows } = await server.query("select 1 from pg_stat_activity where query like 'select pg_sleep(60)%'");
          return rows.length === 0 ? true : undefined;
        });
        return `${took.toFixed(0)} ms from the token to the client's error`;
      },
    },
    {
      claim: 'A session that nobody renews is told a minute before, and ends at its token’s time and no later',
      async check() {
        local.write('policy.yaml', policy('{reauthenticate: 62s}').replace('"corp:/app-team"', '"corp:/staff"'));
        const { access_token: token } = await keycloak.login('alice');
        const issuedMs =
          (JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()) as { iat: number }).iat * 1000;
        const node = await until('the policy', async () => {
          const trying = client(token);
          trying.on('error', () => undefined);
          return await trying.connect().then(
            () => trying,
            () => undefined,
          );
        });
        const notice = new Promise<{ at: number; text: string }>((resolve) =>
          node.once('notice', ({ message: text }) => resolve({ at: Date.now(), text: text ?? '' })),
        );
        const error = new Promise<{ at: number; text: string }>((resolve) =>
          node.once('error', ({ message: text }) => resolve({ at: Date.now(), text })),
        );
        const told = await notice;
        assert.match(told.text, /this session ends within a minute: it must prove again who it is/);
        const ended = await error;
        assert.match(ended.text, /must prove who it is again/);
        const late = ended.at - (issuedMs + 62_000);
        assert.ok(late > -1_500 && late < 5_000, `${late} ms after it was due`);
        return `told ${((ended.at - told.at) / 1000).toFixed(1)} s before; ${late} ms after it was due`;
      },
    },
  ],
  async stop() {
    await local?.stop();
    await server?.stop();
    await ci?.stop();
    await keycloak?.stop();
  },
};
