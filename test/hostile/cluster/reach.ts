// What a Connection's author may have a proxy reach, and with which Secret; and that namespaces end at their borders.
// INV-05, INV-12.
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { specHash } from '../../../src/api/canonical.ts';
import type { AccessGrant } from '../../../src/api/grant.ts';
import { createDialGuard } from '../../../src/gateway/dial-guard.ts';
import { DialError } from '../../../src/protocols/protocol.ts';
import { dialRules } from '../../../src/proxy/dial-rules.ts';
import { systemClock } from '../../../src/system/clock.ts';
import type { Criterion } from '../../acceptance/criterion.ts';
import { ok, until } from '../../support/cluster/sallyport.ts';
import { api, connectionOf, OTHER, policyOf, refused, type SecurityScene, SHOP } from './scene.ts';

/** Targets that their spelling gives away. */
const FORBIDDEN = [
  'localhost',
  'LOCALHOST.',
  'db.localhost',
  '127.0.0.1',
  '127.1',
  '0x7f000001',
  '2130706433',
  '017700000001',
  '::1',
  '[::1]',
  '::ffff:127.0.0.1',
  '0.0.0.0',
  '::',
  '169.254.169.254',
  '::ffff:169.254.169.254',
  'fd00:ec2::254',
  'fe80::1',
  '100.100.100.200',
  'metadata.google.internal',
  'kubernetes',
  'kubernetes.default',
  'kubernetes.default.svc',
  'kubernetes.default.svc.cluster.local.',
  'payroll.other.svc',
  'payroll.other.svc.cluster.local',
  'sallyport-webhook.sallyport-system.svc',
];

const API_SERVER = '10.96.0.1';
/** What a cluster's DNS says of names, and of addresses. */
const NAMES: Readonly<Record<string, readonly string[]>> = {
  'rebind.example.com': ['203.0.113.7', '127.0.0.1'],
  'loop.example.com': ['127.0.0.1'],
  'loop6.example.com': ['::1'],
  'mapped.example.com': ['::ffff:127.0.0.1'],
  'zero.example.com': ['0.0.0.0'],
  'link.example.com': ['fe80::1'],
  // An ExternalName Service of the own namespace, resolved to where it leads.
  'external.shop.svc': ['169.254.169.254'],
  'external6.shop.svc': ['fd00:ec2::254'],
  'nat64.example.com': ['64:ff9b::a9fe:a9fe'],
  'api.example.com': [API_SERVER],
  'api6.example.com': [`::ffff:${API_SERVER}`],
  'foreign.example.com': ['10.96.7.7'],
  'operator.example.com': ['10.96.8.8'],
  'unknown.example.com': ['10.96.9.9'],
};
const ADDRESSES: Readonly<Record<string, readonly string[]>> = {
  [API_SERVER]: ['kubernetes.default.svc.cluster.local'],
  '10.96.7.7': ['payroll.other.svc.cluster.local'],
  '10.96.8.8': ['sallyport-webhook.sallyport-system.svc.cluster.local'],
};

export function reachCriteria(scene: () => SecurityScene): Criterion[] {
  return [
    {
      claim: 'INV-05: an author has no proxy use a Secret he may not read, on his own Connection or on another’s',
      async check() {
        const { as, admin } = scene();
        const no = /may not read (?:each )?Secret/;
        let tries = 0;
        const fails = async (answer: Promise<Parameters<typeof refused>[0]>): Promise<void> => {
          refused(await answer, no);
          tries += 1;
        };
        const mallory = as('mallory');
        await fails(mallory.create(api('connections'), connectionOf('stolen', 'mallory.example.com')));
        await fails(
          mallory.create(api('connections'), connectionOf('stolen', 'mallory.example.com'), { dryRun: true }),
        );
        await fails(
          mallory.patch(api('connections', 'stolen'), connectionOf('stolen', 'mallory.example.com'), 'apply', {
            fieldManager: 'm',
            force: true,
          }),
        );
        const theirs = api('connections', 'orders');
        const stolen = ok(await admin.get<{ metadata: object; spec: { accounts: unknown[] } }>(theirs));
        for (const spec of [
          { postgresql: { host: 'mallory.example.com' } },
          { postgresql: { tls: { mode: 'InsecureDisable' } } },
          { accounts: [...stolen.spec.accounts, { name: 'more', secretRef: { name: 'payroll' } }] },
          { proxy: { group: 'mine' } },
        ])
          await fails(mallory.patch(theirs, { spec }, 'merge'));
        await fails(
          mallory.replace(theirs, {
            ...stolen,
            spec: { ...stolen.spec, type: 'PostgreSQL', postgresql: { host: 'mallory.example.com' } },
          }),
        );
        await fails(
          mallory.patch(
            theirs,
            [{ op: 'replace', path: '/spec/postgresql/host', value: 'mallory.example.com' }],
            'json',
          ),
        );
        // Ann may read one of the two.
        await fails(
          as('ann').create(
            api('connections'),
            connectionOf('stolen', 'x.example.com', {
              accounts: [
                { name: 'a', secretRef: { name: 'orders' } },
                { name: 'b', secretRef: { name: 'payroll' } },
              ],
            }),
          ),
        );
        ok(await as('ann').create(api('connections'), connectionOf('hers', 'x.example.com')));
        ok(await as('ann').delete(api('connections', 'hers')));
        // Writing policies is another matter than writing Connections; both are the author's, the Secret is not.
        const answer = await admin.get<object>(theirs);
        assert.deepEqual((ok(answer) as { spec: object }).spec, stolen.spec);
        return `${tries} attempts refused`;
      },
    },
    {
      claim: 'INV-05: a Connection moved to a host that the Secret does not list sends nothing there',
      async check() {
        const { as, proxy, target } = scene();
        const asked = await scene().held();
        const before = await scene().loginSoon(asked);
        await before.end();
        const hosts = (host: string): Promise<unknown> =>
          as('ann')
            .patch(api('connections', 'orders'), { spec: { postgresql: { host } } }, 'merge')
            .then(ok);
        await hosts('elsewhere.example.com');
        try {
          const told = await until('the proxy to say so', async () => {
            try {
              const client = await scene().login(asked);
              await client.end();
              return undefined;
            } catch (error) {
              const { message, ...rest } = error as Error & { detail?: string; hint?: string };
              const text = [message, rest.detail, rest.hint].join(' ');
              return /sallyport-hosts/.test(text) ? text : undefined;
            }
          });
          assert.ok(!told.includes(target.superuser.password));
          const condition = await until('the Connection to say so', async () => {
            const reach = await scene().condition('connections', 'orders', 'Ready');
            return reach.status === 'False' && /sallyport-hosts/.test(reach.message) && reach;
          });
          assert.match(condition.message, /elsewhere\.example\.com/);
        } finally {
          await hosts(`orders.${SHOP}.svc`);
        }
        await until(
          'the Connection to be Ready again',
          async () => (await scene().condition('connections', 'orders', 'Ready')).status === 'True',
          60_000,
        );
        await (await scene().loginSoon(asked)).end();
        assert.ok(!proxy.log().includes('pw-orders'));
        return 'refused with the key’s name; back at the listed host it works';
      },
    },
    {
      claim:
        'INV-12: targets that are or resolve to loopback, metadata, the API server or another namespace are not dialled',
      async check() {
        const { as } = scene();
        for (const [index, host] of FORBIDDEN.entries()) {
          const name = `bad-${index}`;
          ok(await as('ann').create(api('connections'), connectionOf(name, host)));
          const { status, reason, message } = await until(`a word on ${host}`, async () => {
            const programmed = await scene().condition('connections', name, 'Programmed');
            return programmed.reason !== 'Starting' && programmed.reason !== 'NotPublished' && programmed;
          });
          assert.deepEqual([status, reason], ['False', 'TargetForbidden'], `${host}: ${message}`);
          const set = await scene().admin.get(`/apis/apps/v1/namespaces/${SHOP}/statefulsets/sallyport-${name}`);
          assert.ok(set.kind === 'Failed' && set.status === 404, `a proxy was made for ${host}`);
          ok(await as('ann').delete(api('connections', name)));
        }
        // What no spelling gives away: the guard of a pod, over a DNS that lies.
        let dialled = 0;
        const missing = Object.assign(new Error('no such name'), { code: 'ENOTFOUND' });
        const guard = createDialGuard({
          ...dialRules({
            namespace: SHOP,
            apiServer: API_SERVER,
            domain: 'cluster.local',
            reverse: async (address) => {
              const names = ADDRESSES[address];
              if (names === undefined) throw missing;
              return names;
            },
            clock: systemClock,
          }),
          resolve: async (host) => NAMES[host] ?? [],
          connect: (): Socket => {
            dialled += 1;
            throw new Error('dialled');
          },
        });
        const asked = AbortSignal.timeout(10_000);
        const dial = (host: string): Promise<unknown> => guard.dial({ host, port: 5432 }, [host], asked);
        for (const host of Object.keys(NAMES)) {
          if (host === 'unknown.example.com') continue;
          await assert.rejects(dial(host), (error) => error instanceof DialError && error.code === 'Forbidden', host);
        }
        assert.equal(dialled, 0);
        // The one that is nobody's is dialled: it is the places that are refused, not everything.
        await assert.rejects(dial('unknown.example.com'), /could not be reached/);
        assert.equal(dialled, 1);
        return `${FORBIDDEN.length} spellings refused by the operator, ${Object.keys(NAMES).length - 1} resolutions by the proxy`;
      },
    },
    {
      claim: 'INV-12: namespace B selects, requests and approves nothing of namespace A, and takes nothing of it',
      async check() {
        const { as, admin, ask, connection } = scene();
        const eve = as('eve');
        const policyName = `${connection.metadata.uid}.policy`;
        const bundle = async (): Promise<string> =>
          ok(await admin.get<{ spec: { payload: string } }>(api('enforcementbundles', policyName))).spec.payload;
        const before = await bundle();
        const wide = policyOf('wide', ['orders'], { subjects: [{ kind: 'User', name: 'eve' }], access: 'Standing' });
        ok(await eve.create(api('accesspolicies', '', OTHER), { ...wide, metadata: { name: 'wide' } }));
        const deny = policyOf('deny', ['orders'], { rules: [{ name: 'none', action: 'Deny' }] });
        ok(await eve.create(api('accesspolicies', '', OTHER), { ...deny, metadata: { name: 'deny' } }));
        const everything = policyOf('all', [], {
          connectionSelector: { matchLabels: {} },
          access: 'Standing',
          subjects: [{ kind: 'Group', name: 'others' }],
        });
        ok(await eve.create(api('accesspolicies', '', OTHER), { ...everything, metadata: { name: 'all' } }));
        // A lock, a request for it, and a vote on A's request, all from B.
        ok(
          await eve.create(api('accesslocks', '', OTHER), {
            apiVersion: 'sallyport.dev/v1alpha1',
            kind: 'AccessLock',
            metadata: { name: 'all' },
            spec: { target: { everything: true }, reason: 'mine' },
          }),
        );
        const wanted = ok(
          await eve.create<AccessGrant>(api('accessgrants', '', OTHER), {
            apiVersion: 'sallyport.dev/v1alpha1',
            kind: 'AccessGrant',
            metadata: { name: 'mine' },
            spec: { connectionRef: { name: 'orders' }, duration: '1h', policyRef: { name: 'wide' } },
          }),
        );
        const { status } = await until('a word on the request from B', async () => {
          const seen = await scene().grant('mine', OTHER);
          return seen.status?.phase !== undefined && seen;
        });
        assert.notEqual(status?.phase, 'Active');
        assert.match(status?.waitingFor ?? status?.message ?? '', /There is no Connection orders/);
        const asked = await ask('alice');
        await scene().untilPhase(asked.grant, 'Pending');
        const { metadata, spec } = asked.grant;
        ok(
          await eve.create(api('accessapprovals', '', OTHER), {
            apiVersion: 'sallyport.dev/v1alpha1',
            kind: 'AccessApproval',
            metadata: { name: 'mine' },
            spec: {
              targetRef: { kind: 'AccessGrant', name: metadata.name, uid: metadata.uid },
              specHash: specHash(spec),
              decision: 'Approve',
            },
          }),
        );
        let tries = 0;
        const no = async (answer: Promise<Parameters<typeof refused>[0]>): Promise<void> => {
          refused(await answer, /is forbidden/);
          tries += 1;
        };
        for (const plural of [
          'connections',
          'accesspolicies',
          'accessgrants',
          'accessapprovals',
          'accesslocks',
          'commandholds',
          'accesssessions',
          'enforcementbundles',
          'proxyreplicas',
        ]) {
          await no(eve.list(api(plural)));
          await no(eve.delete(api(plural, 'x')));
        }
        await no(
          eve.create(api('accessapprovals'), {
            apiVersion: 'sallyport.dev/v1alpha1',
            kind: 'AccessApproval',
            metadata: { name: 'x' },
            spec: {},
          }),
        );
        // A Connection of B with A's name and A's Secret's name is B's own.
        ok(
          await eve.create('/api/v1/namespaces/other/secrets', {
            apiVersion: 'v1',
            kind: 'Secret',
            metadata: { name: 'orders' },
            stringData: { username: 'x', password: 'x', 'sallyport-hosts': 'x' },
          }),
        );
        const twin = connectionOf('orders', 'twin.example.com');
        const made = ok(
          await eve.create<{ metadata: { uid: string } }>(api('connections', '', OTHER), {
            ...twin,
            metadata: { name: 'orders' },
          }),
        );
        await until(
          'B’s own proxy',
          async () =>
            (await admin.get(`/apis/apps/v1/namespaces/${OTHER}/statefulsets/sallyport-orders`)).kind === 'Ok',
        );
        await until(
          'B’s own request to be granted',
          async () => (await scene().grant(wanted.metadata.name, OTHER)).status?.phase === 'Active',
        );
        assert.notEqual(made.metadata.uid, connection.metadata.uid);
        assert.equal(await bundle(), before, 'the bundle of A’s Connection changed');
        assert.equal((await scene().grant(metadata.name)).status?.phase, 'Pending');
        const good = await scene().held();
        const client = await scene().loginSoon(good);
        assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
        await client.end();
        ok(await eve.delete(api('connections', 'orders', OTHER)));
        return `${tries} attempts refused; A’s bundle is byte for byte the same`;
      },
    },
  ];
}
