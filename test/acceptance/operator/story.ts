// The first access, end to end on a cluster with a node: chart, Connection and policy, request, approval, psql through
// the API server and through the Service, masks, denials, holds, expiry, and records that outlive their Connection.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { askPsql, PASSWORDS, startOrdersScene } from '../../e2e/orders.ts';
import { claimOf, trustedRoot, verifyRecords } from '../../e2e/records.ts';
import { NAMESPACE, type Ran, type Scene, say, succeeded } from '../../e2e/scene.ts';
import type { CriteriaGroup } from '../criterion.ts';

let scene: Scene;
let grant = '';
/** What people saw, to look for passwords in. */
let seen = '';

function ok(ran: Ran, what: string): Ran {
  seen += ran.stdout + ran.stderr;
  return succeeded(ran, what);
}
const psql = (user: string, sql: string, extra: readonly string[] = []): Promise<Ran> =>
  askPsql(scene, user, 'orders-db', sql, extra);

export const story: CriteriaGroup = {
  name: 'story',
  async start() {
    scene = await startOrdersScene(say);
  },
  async stop() {
    await scene?.stop();
  },
  criteria: [
    {
      claim: 'helm install without values is ready within 90 s',
      async check() {
        assert.ok(scene.installMs < 90_000, `${scene.installMs} ms`);
        return `${(scene.installMs / 1000).toFixed(1)} s`;
      },
    },
    {
      claim: 'a Connection and a policy that are committed make a proxy that is ready',
      async check() {
        const began = performance.now();
        await scene.ready('orders-db');
        return `Ready after ${((performance.now() - began) / 1000).toFixed(1)} s more`;
      },
    },
    {
      claim: 'one requests with --wait, approving one’s own request is refused, another approves, the first connects',
      async check() {
        const request = await scene.requested('alice', 'orders-db', ['--for', '1h']);
        grant = request.name;
        const own = await scene.access('alice', ['approve', grant, '--yes']);
        seen += own.stdout + own.stderr;
        assert.notEqual(own.code, 0);
        const pending = ok(await scene.access('carol', ['pending']), 'pending');
        assert.match(pending.stdout, new RegExp(grant));
        ok(await scene.access('carol', ['approve', grant, '--yes', '--reason', 'fine']), 'approve');
        const approvedAt = performance.now();
        ok(await request.done, 'request --wait');
        const row = ok(await psql('alice', 'select 40 + 2'), 'connect');
        assert.match(row.stdout, /42/);
        return `grant ${grant}; approval to the first answer of psql, CLI starts included: ${((performance.now() - approvedAt) / 1000).toFixed(1)} s`;
      },
    },
    {
      claim: 'INV-06: the masked column is masked, through the tunnel and through the Service',
      async check() {
        const row = ok(await psql('alice', 'select holder, number from cards order by id'), 'select');
        assert.match(row.stdout, /\*+1111/);
        assert.doesNotMatch(row.stdout, /4111111111111111/);
        const dsn = ok(await scene.access('alice', ['dsn', 'orders-db']), 'dsn').stdout.trim();
        seen = seen.replaceAll(dsn, '');
        const ca = await scene.inNamespace('get', 'connection', 'orders-db', '-o', 'jsonpath={.status.caBundle}');
        const inside = dsn.replace(/sslrootcert=[^&\s]+/, 'sslrootcert=/tmp/ca.crt');
        await scene.cluster.kubectl(['-n', NAMESPACE, 'exec', '-i', 'client', '--', 'sh', '-c', 'cat > /tmp/ca.crt'], {
          input: ca,
        });
        const through = await scene.inNamespace(
          'exec',
          'client',
          '--',
          'psql',
          inside,
          '-X',
          '-A',
          '-t',
          '-c',
          'select number from cards order by id',
        );
        assert.match(through, /\*+1111/);
        assert.doesNotMatch(through, /4111111111111111/);
        return row.stdout.trim().split('\n')[0] ?? '';
      },
    },
    {
      claim: 'INV-09: DDL is denied natively and the session goes on',
      async check() {
        const ran = await scene.access('alice', ['connect', 'orders-db', '--', 'psql', '-X', '-A', '-t'], {
          input: 'drop table orders;\nselect count(*) from orders;\n',
        });
        seen += ran.stdout + ran.stderr;
        assert.match(ran.stderr, /Sallyport refused DROP TABLE/);
        assert.match(ran.stdout, /1000/);
        return ran.stderr.split('\n').find((line) => line.includes('refused')) ?? '';
      },
    },
    {
      claim: 'a held statement waits in the live session until an approver consents',
      async check() {
        const update = scene.start('alice', [
          'connect',
          'orders-db',
          '--',
          'psql',
          '-X',
          '-A',
          '-t',
          '-c',
          "update orders set state = 'seen'",
        ]);
        const hold = await scene.until('the hold', async () => {
          const names = await scene.inNamespace('get', 'hold', '-o', 'name');
          return names.trim().split('\n')[0]?.split('/')[1];
        });
        const began = performance.now();
        ok(await scene.access('carol', ['approve', hold, '--yes']), 'approve');
        const ran = ok(await update.done, 'update');
        assert.match(ran.stdout, /UPDATE 1000/);
        return `${hold} released ${((performance.now() - began) / 1000).toFixed(1)} s after the approver pressed enter`;
      },
    },
    {
      claim: 'INV-03: expiry cuts the session',
      async check() {
        const request = await scene.requested('alice', 'orders-db', ['--for', '15s']);
        const short = request.name;
        ok(await scene.access('carol', ['approve', short, '--yes']), 'approve');
        ok(await request.done, 'request');
        const began = performance.now();
        const ran = await psql('alice', 'select pg_sleep(60)', ['--grant', short]);
        const took = performance.now() - began;
        seen += ran.stdout + ran.stderr;
        assert.match(ran.stderr, /FATAL:.*expired/);
        assert.ok(took < 20_000, `${took} ms`);
        return `after ${(took / 1000).toFixed(1)} s of 15`;
      },
    },
    {
      claim: 'INV-07: the records verify after the Connection was deleted',
      async check() {
        const workload = 'sallyport-orders-db';
        const root = await trustedRoot(scene, workload);
        await scene.inNamespace('delete', 'connection', 'orders-db', '--timeout=30s');
        await scene.until('the proxy to be gone', async () => {
          const pods = await scene.inNamespace('get', 'pods', '-o', 'name');
          return pods.includes(workload) ? undefined : true;
        });
        return verifyRecords(scene, await claimOf(scene, workload), root);
      },
    },
    {
      claim: 'INV-05: the target’s passwords were seen nowhere',
      async check() {
        await pause(0);
        const objects = await scene.cluster.kubectl([
          'get',
          'connections,accesspolicies,accessgrants,accessapprovals,commandholds,accesssessions,enforcementbundles,proxyreplicas,events,statefulsets,configmaps,pods',
          '-A',
          '-o',
          'json',
        ]);
        for (const password of Object.values(PASSWORDS)) {
          assert.ok(!objects.includes(password), 'in an object');
          assert.ok(!objects.includes(Buffer.from(password).toString('base64').replace(/=+$/, '')), 'in an object');
          assert.ok(!seen.includes(password), 'in an answer');
        }
        return `${(objects.length / 1e6).toFixed(1)} MB of objects, ${seen.length} characters of answers`;
      },
    },
  ],
};
