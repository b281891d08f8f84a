// The operator killed, stopped and continued at bad moments, on a real API server with live psql-like sessions through a
// proxy. What should be in force is kept by a model of every word that was said and taken; the API and the bundles that
// proxies are given must agree with it in the end, and no session may ever notice.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EnforcementBundle } from '../../../src/api/bundle-object.ts';
import type { AccessGrant } from '../../../src/api/grant.ts';
import type { GrantsShard } from '../../../src/policy/bundle.ts';
import { ok, type Program, until } from '../../support/cluster/sallyport.ts';
import { type CriteriaGroup, trials } from '../criterion.ts';
import { GRANTS, type Held, type HostScene, NAMESPACE, type Session, startHostScene } from './host-scene.ts';

const FAILOVER_MS = 20_000;
const COLLECTOR = 'system:serviceaccount:kube-system:generic-garbage-collector';
const SHORT = '20s';
const SHORT_MS = 20_000;
const LONG_MS = 3_600_000;
/** A decision's time is one of a second's beginning in some fields. */
const ROUNDING_MS = 1_500;

let scene: HostScene;

/** As many as one shard of a bundle takes: what comes and goes beside them makes it need a second and do without again. */
const CROWD = 60;

/** Between when something was said and when it was known to be taken; its stamp is of some moment in it. */
interface Span {
  from: number;
  to: number;
}

/** What was said of one grant, and when. */
interface Story {
  held: Held;
  lifeMs: number;
  approvedMs?: Span;
  revokedMs?: Span;
  /** Which no word undoes, however late it comes. */
  deleted?: true;
  /** Status when it was first seen in force: it must stay so. */
  first?: { notBefore: string; expiresAt: string };
}

/** Two may say the same of a grant at the same time: the first counts, and nobody knows which that is. */
const earliest = (known: Span | undefined, now: Span): Span =>
  known === undefined ? now : { from: Math.min(known.from, now.from), to: Math.min(known.to, now.to) };

/** Says a word until it is taken: nobody may answer for admission while operators are killed. */
async function insist<T>(say: () => Promise<T>): Promise<T> {
  return until('the API to take it', async () => ({ value: await say() }), 60_000, 100).then(({ value }) => value);
}

/** Asks, approves and takes back at random, until told to stop. */
async function churn(stories: Story[], signal: AbortSignal): Promise<void> {
  const pick = <T>(items: readonly T[]): T => items[Math.floor(Math.random() * items.length)]!;
  while (!signal.aborted) {
    const dice = Math.random();
    const open = stories.filter(({ revokedMs, deleted }) => revokedMs === undefined && deleted === undefined);
    if (dice < 0.45 || open.length < 3) {
      const short = Math.random() < 0.3;
      const held = await insist(() => scene.request(short ? { duration: SHORT } : {}));
      stories.push({ held, lifeMs: short ? SHORT_MS : LONG_MS });
    } else if (dice < 0.8) {
      const waiting = open.filter(({ approvedMs }) => approvedMs === undefined);
      if (waiting.length === 0) continue;
      const story = pick(waiting);
      const from = Date.now();
      await insist(() => scene.decide(story.held.grant, 'Approve'));
      story.approvedMs = earliest(story.approvedMs, { from, to: Date.now() });
    } else {
      const story = pick(open);
      if (dice < 0.9) {
        const from = Date.now();
        await insist(() => scene.decide(story.held.grant, 'Revoke'));
        story.revokedMs = earliest(story.revokedMs, { from, to: Date.now() });
      } else {
        await insist(async () => {
          const answer = await scene.admin.delete(`${GRANTS}/${story.held.grant.metadata.name}`);
          if (answer.kind === 'Failed' && answer.status !== 404) throw new Error(answer.message);
        });
        story.deleted = true;
      }
    }
    for (const story of stories) if (story.first === undefined && story.approvedMs !== undefined) await look(story);
    await sleep(Math.random() * 150);
  }
}

async function look(story: Story): Promise<AccessGrant | undefined> {
  const seen = await scene.grant(story.held.grant.metadata.name).catch(() => undefined);
  const { phase, notBefore, expiresAt } = seen?.status ?? {};
  if (phase === 'Active' && notBefore !== undefined && expiresAt !== undefined) {
    const now = { notBefore, expiresAt };
    if (story.first === undefined) story.first = now;
    else assert.deepEqual(now, story.first, `${seen!.metadata.name} changed its life`);
  }
  return seen;
}

/** What its phase may be. */
function phasesOf({ approvedMs, revokedMs, deleted, lifeMs }: Story): readonly string[] {
  if (deleted) return ['gone'];
  if (revokedMs === undefined) {
    if (approvedMs === undefined) return ['Pending'];
    return Date.now() > approvedMs.from + lifeMs ? ['Expired'] : ['Active'];
  }
  if (approvedMs === undefined || revokedMs.to < approvedMs.from) return ['Denied'];
  return [
    'Revoked',
    ...(revokedMs.from > approvedMs.to ? [] : ['Denied']),
    ...(revokedMs.to > approvedMs.from + lifeMs ? ['Expired'] : []),
  ];
}

/** What is wrong with this grant; undefined: it is as the model says. */
async function deviation(story: Story): Promise<string | undefined> {
  const seen = await look(story);
  const name = story.held.grant.metadata.name;
  const phase = seen === undefined ? 'gone' : (seen.status?.phase ?? 'undecided');
  const wanted = phasesOf(story);
  if (!wanted.includes(phase)) {
    const { held: _held, ...said } = story;
    return `${name} is ${phase}, not ${wanted.join(' or ')}: ${JSON.stringify(said)}`;
  }
  const { notBefore, expiresAt } = seen?.status ?? {};
  if ((phase === 'Active' || phase === 'Expired') && notBefore !== undefined && expiresAt !== undefined) {
    const from = Date.parse(notBefore);
    if (Date.parse(expiresAt) - from !== story.lifeMs) return `${name} lives ${Date.parse(expiresAt) - from} ms`;
    // However long nobody was there to decide: its time begins when it was approved, or when that was decided.
    if (from < story.approvedMs!.from - ROUNDING_MS) return `${name} begins before it was approved`;
  }
  return undefined;
}

/** Uids of the grants that proxies are told of. */
async function published(): Promise<string[]> {
  const path = `/apis/sallyport.dev/v1alpha1/namespaces/${NAMESPACE}/enforcementbundles`;
  return ok(await scene.admin.list<EnforcementBundle>(path)).items.flatMap(({ spec }) =>
    spec.shard.startsWith('grants-') ? (JSON.parse(spec.payload) as GrantsShard).grants.map(({ uid }) => uid) : [],
  );
}

/** Resolves once API and bundles are as the model says, and both stay so for a moment. */
async function converged(stories: readonly Story[]): Promise<void> {
  const check = async (): Promise<true> => {
    for (const story of stories) {
      const problem = await deviation(story);
      if (problem !== undefined) throw new Error(problem);
    }
    const now = Date.now();
    const wanted = stories.filter(
      ({ revokedMs, deleted, first }) =>
        revokedMs === undefined && !deleted && first !== undefined && Date.parse(first.expiresAt) > now,
    );
    const told = new Set(await published());
    for (const { held } of wanted)
      if (!told.delete(held.grant.metadata.uid)) throw new Error(`${held.grant.metadata.name} is not published`);
    for (const { held } of steady) told.delete(held.grant.metadata.uid);
    for (const { grant } of crowd)
      if (!told.delete(grant.metadata.uid)) throw new Error(`${grant.metadata.name} is not published`);
    if (told.size > 0) throw new Error(`published although not in force: ${[...told].join(', ')}`);
    return true;
  };
  await until('everything to be as it was said', check, 90_000, 500);
  await sleep(2_000);
  await until('it to stay so', check, 15_000, 500);
}

/** Sessions that ask again and again, and what befell them. */
let steady: { held: Held; session: Session; polls: number; slowestMs: number; problem?: string }[] = [];
/** In force all the while, and used by nobody. */
let crowd: Held[] = [];
const polling = new AbortController();

async function poll(each: (typeof steady)[number]): Promise<void> {
  while (!polling.signal.aborted) {
    const began = performance.now();
    try {
      const { rows } = await each.session.client.query<{ n: number }>('select count(*)::int as n from orders');
      if (rows[0]?.n !== 20) throw new Error(`it saw ${rows[0]?.n} rows`);
      each.polls += 1;
      each.slowestMs = Math.max(each.slowestMs, performance.now() - began);
    } catch (error) {
      each.problem ??= String(error);
      return;
    }
    await sleep(100);
  }
}

function unnoticed(): string {
  assert.deepEqual(
    steady.flatMap(({ problem, session }) => [
      ...(problem === undefined ? [] : [problem]),
      ...session.errors.map(String),
    ]),
    [],
    'a session noticed',
  );
  const polls = steady.reduce((sum, each) => sum + each.polls, 0);
  return `${steady.length} sessions asked ${polls} times, slowest ${Math.max(...steady.map((each) => each.slowestMs)).toFixed(0)} ms`;
}

const restart = async (program: Program): Promise<void> => {
  if (program.running) return;
  program.spawn();
};

/** Of whoever was the last to say that they lead. */
const epochNow = async (): Promise<number> =>
  ok(
    await scene.admin.get<EnforcementBundle>(
      '/apis/sallyport.dev/v1alpha1/namespaces/sallyport-system/enforcementbundles/heartbeat',
    ),
  ).spec.epoch;

/** Somebody decides on a new request. */
async function decides(): Promise<void> {
  const { grant } = await insist(() => scene.request());
  await scene.untilPhase(grant.metadata.name, 'Pending', 60_000);
  ok(await scene.admin.delete(`${GRANTS}/${grant.metadata.name}`));
}

export const chaos: CriteriaGroup = {
  name: 'chaos',
  async start() {
    scene = await startHostScene({ operators: 2 });
    for (let index = 0; index < 4; index += 1) {
      const held = await scene.held({ duration: '4h' });
      steady.push({ held, session: await scene.loginSoon(held), polls: 0, slowestMs: 0 });
    }
    for (let index = 0; index < CROWD; index += 10)
      crowd.push(...(await Promise.all(Array.from({ length: 10 }, () => scene.held({ duration: '4h' })))));
    for (const each of steady) void poll(each);
  },
  async stop() {
    polling.abort();
    await Promise.all(steady.map(({ session }) => session.client.end().catch(() => undefined)));
    steady = [];
    crowd = [];
    await scene?.stop();
  },
  criteria: [
    {
      claim:
        'INV-10: kill -9 of the controller in the middle of grant churn: converges, no session noticed, no grant lost or extended',
      async check() {
        const stories: Story[] = [];
        const ending = new AbortController();
        const churning = Promise.all([churn(stories, ending.signal), churn(stories, ending.signal)]);
        churning.catch(() => undefined);
        const kills = trials(50);
        for (let kill = 0; kill < kills; kill += 1) {
          await sleep(Math.random() * 2_000);
          const leader = await scene.sallyport.untilLed();
          await leader.end('SIGKILL');
          // Now and then the lease has to run out; mostly it is freed, or this would take half an hour.
          if (kill % 10 !== 9) await scene.sallyport.freeLease();
          await restart(leader);
          await scene.sallyport.untilLed(undefined, 60_000);
        }
        ending.abort();
        await churning;
        for (const operator of scene.sallyport.operators) await restart(operator);
        const began = performance.now();
        await converged(stories);
        const ended = stories.filter(({ revokedMs, deleted }) => revokedMs !== undefined || deleted).length;
        return `${kills} kills, ${stories.length} grants, ${ended} of them taken back, in step ${((performance.now() - began) / 1000).toFixed(1)} s after the last; ${unnoticed()}`;
      },
    },
    {
      claim: `two controllers: failover <= ${FAILOVER_MS / 1000} s, killed or frozen`,
      async check() {
        const figures: string[] = [];
        for (const how of ['killed', 'frozen'] as const) {
          const leader = await scene.sallyport.untilLed();
          const before = await epochNow();
          const began = performance.now();
          if (how === 'killed') await leader.end('SIGKILL');
          else leader.pause();
          try {
            await until('another to lead', async () => (await epochNow()) > before, 60_000);
            const took = performance.now() - began;
            figures.push(`${how}: another acted after ${(took / 1000).toFixed(1)} s`);
            assert.notEqual((await scene.sallyport.untilLed()).pod, leader.pod);
            assert.ok(took <= FAILOVER_MS, figures.join(', '));
            await decides();
          } finally {
            if (how === 'frozen') await leader.end('SIGKILL');
            await leader.start();
          }
        }
        return `${figures.join(', ')}; ${unnoticed()}`;
      },
    },
    {
      claim: 'INV-10: late writes of an old leader that was frozen change nothing',
      async check() {
        const leader = await scene.sallyport.untilLed();
        // It freezes with its hands full.
        const asked = await Promise.all(Array.from({ length: 10 }, () => scene.request()));
        await Promise.all(asked.slice(0, 5).map(({ grant }) => insist(() => scene.decide(grant, 'Approve'))));
        leader.pause();
        const rest = Promise.all(asked.slice(5).map(({ grant }) => insist(() => scene.decide(grant, 'Approve'))));
        await scene.sallyport.untilLed(leader);
        await rest;
        for (const { grant } of asked) await scene.untilPhase(grant.metadata.name, 'Active', 60_000);
        // What it held for true when it froze is no longer so.
        for (const { grant } of asked.slice(0, 8)) await insist(() => scene.decide(grant, 'Revoke'));
        for (const { grant } of asked.slice(0, 8)) await scene.untilPhase(grant.metadata.name, 'Revoked', 60_000);
        await sleep(1_000);
        const state = async (): Promise<object> => ({
          grants: await Promise.all(asked.map(async ({ grant }) => (await scene.grant(grant.metadata.name))?.status)),
          bundles: ok(
            await scene.admin.list<EnforcementBundle>(
              `/apis/sallyport.dev/v1alpha1/namespaces/${NAMESPACE}/enforcementbundles`,
            ),
          ).items.map(({ metadata, spec }) => [metadata.name, spec.epoch, spec.sequence, spec.payloadHash]),
        });
        const before = await state();
        leader.resume();
        const began = performance.now();
        await until('the old leader to end', () => !leader.running, 30_000);
        const ended = performance.now() - began;
        await sleep(2_000);
        assert.deepEqual(await state(), before);
        await leader.start();
        for (const { grant } of asked) ok(await scene.admin.delete(`${GRANTS}/${grant.metadata.name}`));
        return `it ended ${ended.toFixed(0)} ms after it went on; 10 grants and every bundle as the new leader left them; ${unnoticed()}`;
      },
    },
    {
      claim:
        'INV-08: nobody but the operator and Kubernetes itself deletes a bundle; one that is gone is there again within a minute, by itself',
      async check() {
        // These sessions may notice: what nobody signed for is not allowed.
        polling.abort();
        const path = `/apis/sallyport.dev/v1alpha1/namespaces/${NAMESPACE}/enforcementbundles`;
        const names = async (): Promise<string> =>
          ok(await scene.admin.list<EnforcementBundle>(path))
            .items.map(({ metadata }) => metadata.name)
            .sort()
            .join(' ');
        const before = await names();
        const began = performance.now();
        // Not even an admin may; Kubernetes' own collector has to, as after a Connection of long ago was restored.
        const collector = scene.plane.clientFor(COLLECTOR);
        for (const name of before.split(' ')) {
          const refused = await scene.admin.delete(`${path}/${name}`);
          assert.equal(refused.kind === 'Failed' && refused.status, 403, `an admin deletes ${name}`);
          ok(await collector.delete(`${path}/${name}`));
        }
        await until('the bundles to be there again', async () => (await names()) === before, 60_000);
        const there = performance.now() - began;
        const session = await scene.loginSoon(steady[0]!.held, 60_000);
        await until('a command to run', async () => (await session.client.query('select 1')).rowCount === 1, 60_000);
        const took = performance.now() - began;
        assert.ok(took < 60_000, `${took} ms`);
        await session.client.end();
        return `${before.split(' ').length} bundles written again after ${there.toFixed(0)} ms, a login and a command after ${took.toFixed(0)} ms`;
      },
    },
  ],
};
