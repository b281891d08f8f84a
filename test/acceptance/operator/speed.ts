// How soon an approval opens and an end closes, on a real API server with the chart's own rules, the operator and a proxy
// as processes, and a real PostgreSQL that says when a backend is gone.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { ok, until } from '../../support/cluster/sallyport.ts';
import { type CriteriaGroup, trials } from '../criterion.ts';
import { GRANTS, type Held, type HostScene, NAMESPACE, type Session, startHostScene } from './host-scene.ts';

const CUT_LIMIT_MS = 500;
const LOGIN_LIMIT_MS = 1000;
/** Sessions at once. */
const ROUND = 25;
const BLOCKADE = 'no-more-bundles';

let scene: HostScene;

const say = (figures: readonly number[]): string => {
  const at = (part: number): number => percentile(figures, part);
  return `p50 ${at(0.5).toFixed(0)} ms, p99 ${at(0.99).toFixed(0)} ms, most ${at(1).toFixed(0)} ms of ${figures.length}`;
};

/** Nearest rank. */
function percentile(figures: readonly number[], part: number): number {
  const sorted = figures.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? Number.NaN;
}

interface Busy extends Session {
  held: Held;
  /** What its statement ended with. */
  told: Promise<Error | undefined>;
}

/** Sessions in the middle of a statement, each on a grant of its own. */
async function busySessions(count: number): Promise<Busy[]> {
  const made: Busy[] = [];
  for (let index = 0; index < count; index += 1) {
    const held = await scene.held();
    const session = await scene.loginSoon(held);
    const told = session.client.query('select pg_sleep(3600)').then(
      () => undefined,
      (error: Error) => error,
    );
    made.push({ ...session, held, told });
  }
  return made;
}

/** From before the word is sent until PostgreSQL has no such backend; and the client was told why. */
async function cut(session: Busy, kind: 'deleted' | 'revoked'): Promise<number> {
  const { name } = session.held.grant.metadata;
  if (!(await scene.alive(session.backend))) {
    const why = await Promise.race([session.told, sleep(100).then(() => 'nothing was told')]);
    assert.fail(`${name} had no session before it was ${kind}: ${String(why)}`);
  }
  const began = performance.now();
  if (kind === 'deleted') ok(await scene.admin.delete(`${GRANTS}/${name}`));
  else await scene.decide(session.held.grant, 'Revoke');
  await until(
    `the backend of ${name}, ${kind}, to be gone`,
    async () => !(await scene.alive(session.backend)),
    10_000,
    2,
  );
  const took = performance.now() - began;
  assert.match((await session.told)?.message ?? 'nothing', kind === 'deleted' ? /deleted|revoked|ended/ : /revoked/);
  await session.closed;
  return took;
}

type Figures = Record<'deleted' | 'revoked', number[]>;

/** In rounds, for one person may have so many sessions; nothing but the cuts happens between `before` and `after`. */
async function cutAll(count: number, before = async () => {}, after = async () => {}): Promise<Figures> {
  const figures: Figures = { deleted: [], revoked: [] };
  for (let left = count; left > 0; left -= ROUND) {
    const sessions = await busySessions(Math.min(ROUND, left));
    await before();
    try {
      for (const [index, session] of sessions.entries()) {
        const kind = index % 2 === 0 ? 'deleted' : 'revoked';
        figures[kind].push(await cut(session, kind));
      }
    } finally {
      await after();
    }
  }
  return figures;
}

function judge({ deleted, revoked }: Figures): string {
  const all = [...deleted, ...revoked];
  const figure = `${say(all)}; deleted p99 ${percentile(deleted, 0.99).toFixed(0)} ms, revoked p99 ${percentile(revoked, 0.99).toFixed(0)} ms`;
  assert.ok(percentile(all, 0.99) <= CUT_LIMIT_MS, figure);
  return figure;
}

const PROBE = 'blockade-probe';
/** Whether the blockade is in force, told by an object of nobody's: bundles may not be touched by admins anyway. */
async function isBlocked(): Promise<boolean> {
  const probe = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: PROBE } };
  const answer = await scene.admin.create(`/api/v1/namespaces/${NAMESPACE}/configmaps`, probe, { dryRun: true });
  return answer.kind === 'Failed' && /no bundle is written now/.test(answer.message);
}

/** Nobody writes bundles any more, the operator least of all; its heartbeat goes on. */
async function blockBundles(): Promise<void> {
  await scene.plane.apply(
    {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'ValidatingAdmissionPolicy',
      metadata: { name: BLOCKADE },
      spec: {
        failurePolicy: 'Fail',
        matchConstraints: {
          resourceRules: [
            {
              apiGroups: ['sallyport.dev'],
              apiVersions: ['*'],
              operations: ['CREATE', 'UPDATE', 'DELETE'],
              resources: ['enforcementbundles'],
            },
            { apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['configmaps'] },
          ],
        },
        matchConditions: [
          {
            name: 'bundles',
            expression: `request.resource.resource == 'configmaps' ? request.name == '${PROBE}' : request.name != 'heartbeat'`,
          },
        ],
        validations: [{ expression: 'false', message: 'no bundle is written now' }],
      },
    },
    {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'ValidatingAdmissionPolicyBinding',
      metadata: { name: BLOCKADE },
      spec: { policyName: BLOCKADE, validationActions: ['Deny'] },
    },
  );
  await until('bundles to be refused', isBlocked);
}

async function unblockBundles(): Promise<void> {
  const kinds = ['validatingadmissionpolicybindings', 'validatingadmissionpolicies'];
  for (const kind of kinds) await scene.admin.delete(`/apis/admissionregistration.k8s.io/v1/${kind}/${BLOCKADE}`);
  await until('bundles to be taken again', async () => !(await isBlocked()));
}

export const speed: CriteriaGroup = {
  name: 'speed',
  async start() {
    scene = await startHostScene();
  },
  async stop() {
    await scene?.stop();
  },
  criteria: [
    {
      claim: `grant approved -> first login <= ${LOGIN_LIMIT_MS / 1000} s`,
      async check() {
        const figures: number[] = [];
        for (let trial = 0; trial < trials(30); trial += 1) {
          const asked = await scene.request();
          await scene.untilPhase(asked.grant.metadata.name, 'Pending');
          if (trial === 0) await assert.rejects(scene.login(asked), /did not accept/, 'a login before the approval');
          const began = performance.now();
          await scene.decide(asked.grant, 'Approve');
          const session = await scene.loginSoon(asked);
          figures.push(performance.now() - began);
          await session.client.end();
        }
        assert.ok(percentile(figures, 0.99) <= LOGIN_LIMIT_MS, say(figures));
        return say(figures);
      },
    },
    {
      claim: `INV-03: grant deleted or revoked -> cut p99 <= ${CUT_LIMIT_MS} ms, bundle publishing working`,
      async check() {
        return judge(await cutAll(trials(100)));
      },
    },
    {
      claim: `INV-03: grant deleted or revoked -> cut p99 <= ${CUT_LIMIT_MS} ms, bundle publishing blocked`,
      async check() {
        return judge(await cutAll(trials(100), blockBundles, unblockBundles));
      },
    },
  ],
};
