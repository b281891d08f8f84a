// Criteria of tokens: what has been tried against verifiers of JSON Web Tokens, sent as the password to a real gateway in
// front of a real PostgreSQL; and proofs, replayed and altered, at a real API server.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import net from 'node:net';
import path from 'node:path';
import type { TestContext } from 'node:test';
import pg from 'pg';
import { looksLikeToken } from '../../../src/identity/oidc/looks-like-token.ts';
import { verifyToken } from '../../../src/identity/oidc/verify-token.ts';
import { EVERY_CONNECTION, type TrustedProvider } from '../../../src/policy/bundle.ts';
import { loadClassifier } from '../../../src/protocols/postgres/classify/classify.ts';
import { createPostgresProtocol } from '../../../src/protocols/postgres/protocol.ts';
import { ATTACKS } from '../../hostile/identity/attacks.ts';
import { CI, CORP, ci, corp, job, NOW_MS, providers, token } from '../../hostile/identity/scene.ts';
import { type TestCertificates, testCertificates } from '../../support/certificates.ts';
import { skipWithoutCluster } from '../../support/cluster/control-plane.ts';
import { CONNECTION_UID, grantFor, type Harness, rule, startHarness, until } from '../../support/gateway-harness.ts';
import { type PostgresServer, startPostgres } from '../../support/postgres.ts';
import type { CriteriaGroup } from '../criterion.ts';

const ROOT = path.resolve(import.meta.dirname, '../../..');

let server: PostgresServer;
let certificates: TestCertificates;
let relay: net.Server;
let dialled = 0;
let h: Harness;
const undo: (() => unknown)[] = [];

/** What the client heard; undefined: it was let in. */
async function refusal(password: string, user = 'reader'): Promise<pg.DatabaseError | undefined> {
  const client = new pg.Client({
    host: 'localhost',
    port: h.gateway.endpoints().get(CONNECTION_UID)!.port,
    user,
    password,
    database: 'postgres',
    ssl: { ca: certificates.ca },
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('select 1');
    await client.end();
    return undefined;
  } catch (error) {
    await client.end().catch(() => undefined);
    return error as pg.DatabaseError;
  }
}

const trust = (set: readonly TrustedProvider[]): void =>
  void h.publish('identity', { providers: set }, { connectionUid: EVERY_CONNECTION });

const causes = (): string[] =>
  h.logged.filter(({ message }) => message === 'a login was refused').map(({ fields }) => String(fields['cause']));

const withoutId = (text: string): string => text.replace(/\bs-[a-z0-9]+/g, 's-…').replace(/\d+ bytes/, '… bytes');

/** Of TAP: each test that failed with its cause, else the end. */
function failuresIn(tap: string): string {
  const failed = tap.split(/\n(?=\s*# Subtest: )/).filter((each) => /\n\s*not ok \d/.test(each));
  return failed.map((each) => each.slice(0, 1500)).join('\n') || tap.slice(-2000);
}

export const tokens: CriteriaGroup = {
  name: 'tokens',
  async start() {
    await loadClassifier();
    certificates = await testCertificates();
    server = await startPostgres({ setup: `create role reader login password 'svc-secret'` });
    undo.push(() => server.stop());
    relay = net.createServer((socket) => {
      dialled += 1;
      const onward = net.connect(server.port, '127.0.0.1');
      for (const each of [socket, onward]) each.on('error', () => void [socket, onward].map((one) => one.destroy()));
      socket.pipe(onward).pipe(socket);
    });
    await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
    undo.push(() => relay.close());
    const { port } = relay.address() as net.AddressInfo;
    // What it starts it stops by this; nothing else of a test's context is asked for.
    const context = { after: (step: () => unknown) => void undo.push(step) } as unknown as TestContext;
    h = await startHarness(context, {
      bare: true,
      protocols: [createPostgresProtocol()],
      tlsFor: () => ({ current: () => certificates.server }),
      limits: { failureBurst: 10_000 },
    });
    h.clock.setWall(NOW_MS);
    Object.assign(h.credential, { username: 'reader', password: 'svc-secret', hosts: [`127.0.0.1:${port}`] });
    const postgresql = { host: '127.0.0.1', port, tls: { mode: 'VerifyFull', ca: server.ca } };
    h.policy(
      {
        rules: [rule('all', 'Allow')],
        subjects: [
          { kind: 'Group', name: 'corp:dba' },
          {
            kind: 'Claim',
            provider: 'ci',
            claims: { repository_id: '74', ref: 'refs/heads/main', ref_type: 'branch' },
          },
        ],
      },
      { type: 'PostgreSQL', postgresql },
    );
    const alice = { username: 'corp:alice', uid: `${CORP} u-alice`, groups: ['corp:dba'], aliases: [] };
    const runner = { username: 'ci:job', uid: `${CI} 74`, groups: [], aliases: [] };
    h.grants(
      grantFor(h.clock, { principal: alice, via: 'Portal' }),
      grantFor(h.clock, {
        name: 'job-1',
        uid: 'aaaaaaaa-0000-4000-8000-000000000002',
        principal: runner,
        via: 'Pipeline',
      }),
    );
    h.overlay();
    trust(providers());
    h.heartbeat();
    await until(() => h.gateway.endpoints().size === 1, 'listening');
  },
  criteria: [
    {
      claim: 'The tokens that the attacks begin from are good: as password they open their own person’s grant',
      async check() {
        const begin = dialled;
        const goods = [
          token(),
          token({ key: 'RS256' }),
          token({ key: 'RS256', alg: 'PS256' }),
          token({ key: 'EdDSA' }),
          token({ header: { kid: 'e1', typ: 'application/at+jwt' }, claims: { aud: ['wiki', 'sallyport'] } }),
          job({}),
        ];
        for (const good of [...goods, goods[0]!]) assert.equal(await refusal(good), undefined);
        assert.ok(dialled > begin);
        return `${goods.length} tokens, one of them twice`;
      },
    },
    {
      claim: 'The JWT attack suite, sent as password: refused, the cause in the log and not on the wire',
      async check() {
        const begin = dialled;
        const heard = new Set<string>();
        const told = new Set<string>();
        const sent = ATTACKS.filter(({ uses, nonce }) => uses === undefined && nonce === undefined);
        for (const { name, fault, attack, providers: set } of sent) {
          trust(set?.() ?? providers());
          const before = causes().length;
          const text = attack();
          const error = await refusal(text);
          assert.ok(error !== undefined, `let in: ${name}`);
          const words = `${error.message} ${error.hint ?? ''} ${error.detail ?? ''}`;
          heard.add(withoutId(words));
          assert.ok(!words.includes(fault), `${name}: ${words}`);
          for (const piece of text.split('.').filter((each) => each.length > 12))
            assert.ok(!words.includes(piece), name);
          const cause = causes().slice(before).join();
          // What has no token's header is no token to the gateway, and what is too long no password.
          if (looksLikeToken(text) && fault !== 'TooLarge') {
            assert.match(cause, new RegExp(`\\(${fault}\\)`), name);
            told.add(fault);
          }
        }
        trust(providers());
        assert.equal(dialled, begin, 'the target was dialled');
        assert.ok(heard.size <= 3, [...heard].join('\n'));
        assert.ok(!JSON.stringify(h.logged).includes('eyJ'), 'a token is in the log');
        return `${sent.length} attacks, ${told.size} causes told apart in the log, ${heard.size} sentences on the wire, target dialled 0 times`;
      },
    },
    {
      claim: 'ID tokens, other acts’ nonces and jobs of forks: each refused by the name of its cause',
      async check() {
        const rest = ATTACKS.filter(({ uses, nonce }) => uses !== undefined || nonce !== undefined);
        for (const { name, fault, attack, uses, providers: set, nonce } of rest) {
          const verdict = await verifyToken(attack(), {
            providers: set?.() ?? providers(),
            uses: uses ?? ['Access'],
            nowMs: NOW_MS,
            ...(nonce === undefined ? {} : { nonce }),
          });
          assert.equal(verdict.kind === 'Bad' ? verdict.fault : 'let in', fault, name);
        }
        return `${rest.length} attacks`;
      },
    },
    {
      claim: 'Missing groups are none: absent, no list, overage; the policy’s group is not met',
      async check() {
        const cases = [
          { groups: undefined },
          { groups: 'dba' },
          { groups: { 0: 'dba' } },
          { groups: ['/tenant/dba'] },
          { groups: ['DBA'] },
          { _claim_names: { groups: 'src1' } },
          { hasgroups: true },
        ];
        for (const claims of cases) {
          const error = await refusal(token({ claims }));
          assert.ok(error !== undefined, `let in: ${JSON.stringify(claims)}`);
          assert.doesNotMatch(error.message, /does not take this token/);
        }
        assert.equal(await refusal(token({ claims: { groups: ['dba'] } })), undefined);
        return `${cases.length} shapes`;
      },
    },
    {
      claim: 'A job is let in from its branch, and not under an event that runs the code of others',
      async check() {
        const strangers = [
          { event_name: 'pull_request_target' },
          { event_name: 'workflow_run' },
          { event_name: 'issue_comment' },
          { ref: 'refs/heads/feature' },
          { ref_type: 'tag' },
        ];
        for (const claims of strangers) assert.ok((await refusal(job(claims))) !== undefined, JSON.stringify(claims));
        assert.equal(await refusal(job({})), undefined);
        return `${strangers.length} refused, push to main let in`;
      },
    },
    {
      claim: 'Once a login was ended its tokens open nothing, and those of a later login do',
      async check() {
        const ended = [corp({ void: [{ uid: `${CORP} u-alice`, beforeMs: NOW_MS - 30_000 }] }), ci()];
        trust(ended);
        assert.ok((await refusal(token())) !== undefined);
        assert.match(causes().at(-1)!, /\(Void\)/);
        assert.equal(await refusal(token({ claims: { iat: NOW_MS / 1000 - 10 } })), undefined);
        trust(providers());
        return 'one before, one after';
      },
    },
    {
      claim:
        'INV-08: proofs replayed, altered, brought by others: refused by webhook and policies of a real API server',
      async check() {
        const why = await skipWithoutCluster();
        if (why !== false) throw new Error(why);
        const { stdout } = await new Promise<{ stdout: string }>((resolve, reject) => {
          execFile(
            process.execPath,
            ['--test', '--test-reporter=tap', 'test/cluster/admission-proofs.test.ts'],
            { cwd: ROOT, maxBuffer: 1 << 24, timeout: 240_000 },
            (error, out) => (error === null ? resolve({ stdout: out }) : reject(new Error(failuresIn(out)))),
          );
        });
        const passed = Number(/^# pass (\d+)/m.exec(stdout)?.[1]);
        assert.ok(passed >= 9 && /^# skipped 0/m.test(stdout), stdout.slice(-500));
        return `${passed} trials`;
      },
    },
  ],
  async stop() {
    for (const step of undo.splice(0).reverse()) await step();
  },
};
