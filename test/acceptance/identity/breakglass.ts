// Emergencies: with whoever is to be told out of reach, with the operator dead, with the API server dead too; and the
// review that stays due until somebody has done it. A real API server, PostgreSQL, operator and proxy as processes.
import assert from 'node:assert/strict';
import type { AccessGrant } from '../../../src/api/grant.ts';
import { API_GROUP_VERSION } from '../../../src/api/schema.ts';
import { generateClientKey } from '../../../src/identity/keys.ts';
import { type Asked, api, policyOf, type SecurityScene, startSecurityScene } from '../../hostile/cluster/scene.ts';
import { ok, until } from '../../support/cluster/sallyport.ts';
import type { CriteriaGroup } from '../criterion.ts';

/** The product's is 5 minutes; ACCEPT_FULL waits for that, otherwise the proxy is given a shorter one. */
const LIMIT_MS = process.env['ACCEPT_FULL'] === '1' ? 300_000 : 45_000;

let scene: SecurityScene;
let sealed: Asked;
let emergency: Asked;

async function ask(spec: object): Promise<Asked> {
  const key = generateClientKey();
  const grant = ok(
    await scene.as('alice').create<AccessGrant>(api('accessgrants'), {
      apiVersion: API_GROUP_VERSION,
      kind: 'AccessGrant',
      metadata: { generateName: 'e-' },
      spec: { connectionRef: { name: 'orders' }, reason: 'INC-7', clientKey: key.publicKey, ...spec },
    }),
  );
  return { grant, key };
}

const signOff = async ({ grant }: Asked): Promise<string | undefined> =>
  (await scene.grant(grant.metadata.name)).status?.conditions?.find(({ type }) => type === 'SignedOff')?.status;

const pendingReviews = async (): Promise<string> => {
  const { items } = ok(await scene.admin.list<AccessGrant>(api('accessgrants')));
  return items
    .filter(({ status }) => status?.conditions?.some(({ reason }) => reason === 'ReviewDue'))
    .map(({ metadata }) => metadata.name)
    .join(' ');
};

async function refusedLogin(asked: Asked): Promise<string> {
  try {
    const client = await scene.login(asked);
    await client.end();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('the proxy let somebody in');
}

export const breakglass: CriteriaGroup = {
  name: 'breakglass',
  async start() {
    scene = await startSecurityScene({ proxyLimits: { heartbeatMs: LIMIT_MS } });
    await scene.plane.apply(
      policyOf('orders-team', ['orders'], {
        approval: { timeout: '1h', steps: [{ name: 'dba', approvers: [{ kind: 'Group', name: 'dba' }] }] },
        breakGlass: {
          subjects: [{ kind: 'User', name: 'alice' }],
          maxDuration: '10m',
          reviewers: [{ kind: 'User', name: 'dan' }],
        },
      }),
      {
        apiVersion: API_GROUP_VERSION,
        kind: 'ClusterNotifier',
        metadata: { name: 'out-of-reach' },
        spec: { type: 'Webhook', webhook: { url: 'https://192.0.2.1/hook' }, events: ['BreakGlass', 'SignOffDue'] },
      },
    );
  },
  async stop() {
    await scene?.stop();
  },
  criteria: [
    {
      claim: 'break-glass with the notifier out of reach: in at once, short, recorded, its review due',
      async check() {
        const started = performance.now();
        emergency = await ask({ breakGlass: true });
        const { status } = await scene.untilPhase(emergency.grant, 'Active');
        const client = await scene.loginSoon(emergency);
        const tookMs = Math.round(performance.now() - started);
        await client.query('select 1');
        await client.end();
        assert.equal(Date.parse(status!.expiresAt!) - Date.parse(status!.notBefore!), 600_000);
        assert.equal(await signOff(emergency), 'False');
        const without = await scene.as('alice').create(api('accessgrants'), {
          apiVersion: API_GROUP_VERSION,
          kind: 'AccessGrant',
          metadata: { generateName: 'e-' },
          spec: { connectionRef: { name: 'orders' }, breakGlass: true, clientKey: generateClientKey().publicKey },
        });
        assert.ok(without.kind === 'Failed' && without.status === 422, 'no reason, no emergency');
        return `${tookMs} ms from the request to a query; for 10 min`;
      },
    },
    {
      claim: 'the review stays due until an unrelated reviewer signs it off, and only that counts',
      async check() {
        const { grant } = emergency;
        assert.equal(await scene.verdict(await scene.vote('alice', grant, 'SignOff')), 'Requester');
        assert.equal(await scene.verdict(await scene.vote('carol', grant, 'SignOff')), 'NotApprover');
        await scene.vote('alice', grant, 'Withdraw');
        await scene.untilPhase(grant, 'Revoked');
        assert.match(await pendingReviews(), new RegExp(grant.metadata.name));
        assert.equal(await scene.verdict(await scene.vote('dan', grant, 'SignOff')), 'Counted');
        await until('the condition', async () => ((await signOff(emergency)) === 'True' ? true : undefined));
        assert.doesNotMatch(await pendingReviews(), new RegExp(grant.metadata.name));
        return `signed off by ${(await scene.grant(grant.metadata.name)).status?.signOff?.by}`;
      },
    },
    {
      claim: 'a sealed grant is refused while the operator can be heard',
      async check() {
        sealed = await ask({ duration: '2m', sealed: { validFor: '24h', uses: 1 } });
        await scene.vote('carol', sealed.grant);
        await scene.untilPhase(sealed.grant, 'Active');
        return await until(
          'a refusal by the seal',
          async () => {
            const message = await refusedLogin(sealed);
            if (!/is sealed/.test(message)) throw new Error(message);
            return message;
          },
          20_000,
          200,
        );
      },
    },
    {
      claim: `operator and API server dead, past the heartbeat limit (${LIMIT_MS / 1000} s here): the sealed grant opens, nothing else does, rules and records hold`,
      async check() {
        const plain = await scene.held();
        await scene.loginSoon(plain).then((client) => client.end());
        for (const operator of scene.sallyport.operators) await operator.end('SIGKILL');
        await scene.plane.killApiServer();
        const dead = performance.now();
        const client = await until('the sealed grant to open', () => scene.login(sealed), LIMIT_MS + 60_000, 500);
        const afterMs = performance.now() - dead;
        const { rows } = await client.query<{ n: number }>('select count(*)::int as n from cards');
        assert.equal(rows[0]?.n, 1);
        await client.end();
        assert.match(await refusedLogin(plain), /can not hear its controller/);
        const again = await scene.login(sealed);
        await again.end();
        return `opened ${Math.round(afterMs / 1000)} s after both were killed; an ordinary grant did not`;
      },
    },
    {
      claim: 'once both are back the use is told, its review is due, and the seal is closed again',
      async check() {
        await scene.plane.startApiServer();
        await scene.sallyport.freeLease().catch(() => undefined);
        for (const operator of scene.sallyport.operators) operator.spawn();
        const seen = await until(
          'the use to be told',
          async () => {
            const { status } = await scene.grant(sealed.grant.metadata.name);
            return status?.sealedUses === undefined ? undefined : status;
          },
          120_000,
          500,
        );
        assert.equal(seen.sealedUses?.length, 1, 'two logins in one window are one use');
        assert.equal(await signOff(sealed), 'False');
        assert.match(await pendingReviews(), new RegExp(sealed.grant.metadata.name));
        await until(
          'the seal to be closed',
          async () => (/is sealed/.test(await refusedLogin(sealed)) ? true : undefined),
          60_000,
          500,
        );
        await scene.vote('dan', sealed.grant, 'SignOff');
        await until('the review', async () => ((await signOff(sealed)) === 'True' ? true : undefined));
        return `1 use by ${seen.sealedUses![0]!.replica}, signed off`;
      },
    },
  ],
};
