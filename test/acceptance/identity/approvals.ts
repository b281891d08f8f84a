// The approval matrix against its model: the fold alone, the control plane of local mode in this process, and the
// operator on a real API server with people who have uids, none, other names and look-alikes.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { specHash } from '../../../src/api/canonical.ts';
import type { AccessApproval, AccessGrant } from '../../../src/api/grant.ts';
import { API_GROUP_VERSION } from '../../../src/api/schema.ts';
import { connection, person, type World, world } from '../../../src/controllers/test-operator.ts';
import type { Principal } from '../../../src/policy/principal.ts';
import { api, policyOf, type SecurityScene, sleep, startSecurityScene } from '../../hostile/cluster/scene.ts';
import { ok, until } from '../../support/cluster/sallyport.ts';
import { type CriteriaGroup, trials } from '../criterion.ts';
import {
  compare,
  expected,
  type MatrixAct,
  type MatrixCase,
  type MatrixPolicy,
  matrixCases,
  POLICIES,
  subjectsOf,
} from './approval-matrix.ts';

const SEED = 20_260_301;
const DURATION_MS = 3_600_000;

// Local mode: the first three ask. One person by another case, by an alias, by a uid, by the name in the cluster; one
// whose two names tie two others together; a stranger.
const PEOPLE: readonly Principal[] = [
  { ...person('alice', 'dev', 'dba'), uid: 'u-alice' },
  person('corp:bob@corp.example', 'dev', 'leads', 'dba'),
  { ...person('corp:77', 'dev'), kubernetes: 'oidc:cara' },
  person('ALICE', 'dba', 'leads'),
  { ...person('alice-renamed', 'dba'), uid: 'u-alice' },
  { ...person('x', 'dba'), aliases: ['bob@corp.example'] },
  person('oidc:cara', 'leads', 'dba'),
  person('dana', 'dba'),
  person('doris', 'dba'),
  { ...person('link'), aliases: ['dana', 'doris'] },
  person('lea', 'leads'),
  person('leo', 'leads', 'dba'),
  person('eve', 'DBA'),
];
const REQUESTERS = 3;
const UNIT_MS = 1_000;
const TIMEOUT_MS = 10 * UNIT_MS;

const policyYaml = ({ name, steps }: MatrixPolicy): string => `---
apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: ${name}, namespace: payments}
spec:
  connectionSelector: {}
  subjects: [{kind: Group, name: dev}]
  accounts: [writer]
  maxDuration: 2h
${
  steps.length === 0
    ? ''
    : `  approval: {timeout: ${TIMEOUT_MS / 1000}s, steps: [${steps
        .map((each) => `{name: ${each.name}, count: ${each.count}, approvers: [{kind: Group, name: ${each.group}}]}`)
        .join(', ')}]}\n`
}  rules: [{name: all, action: Allow}]
`;

async function create<R>(at: World, who: Principal, kind: 'AccessGrant' | 'AccessApproval', spec: unknown): Promise<R> {
  const result = await at.store.create(
    { kind: 'Person', principal: who },
    { apiVersion: API_GROUP_VERSION, kind, metadata: { name: `${kind.toLowerCase()}-`, namespace: 'payments' }, spec },
  );
  if (result.kind !== 'Ok') throw new Error(JSON.stringify(result));
  return result.value as R;
}

const spellingOf = (act: MatrixAct, grant: AccessGrant): { uid: string; hash: string } => ({
  uid: act.stray === 'Uid' ? '00000000-0000-4000-8000-000000000000' : grant.metadata.uid,
  hash: act.stray === 'Hash' ? 'f'.repeat(64) : specHash(grant.spec),
});

async function playLocally(at: World, given: MatrixCase): Promise<string> {
  const policy = POLICIES[given.policy]!;
  at.clock.advance(1);
  const grant = await create<AccessGrant>(at, PEOPLE[given.requester]!, 'AccessGrant', {
    connectionRef: { name: 'orders-db' },
    policyRef: { name: policy.name },
    duration: '1h',
  });
  const votes: AccessApproval[] = [];
  for (const [index, act] of given.acts.entries()) {
    if (act.gap > 0) {
      at.clock.advance(act.gap * UNIT_MS);
      if ((given.looks >> index) % 2 === 1) await at.settle();
    }
    const { uid, hash } = spellingOf(act, grant);
    const made = await create<AccessApproval>(at, PEOPLE[act.who]!, 'AccessApproval', {
      targetRef: { kind: 'AccessGrant', name: grant.metadata.name, uid },
      specHash: hash,
      decision: act.decision,
    });
    if (act.stray === 'No') votes.push(made);
  }
  if (given.rest > 0) at.clock.advance(given.rest * UNIT_MS);
  await at.settle();
  const seen = await at.see(grant);
  const times = {
    timeoutMs: policy.steps.length === 0 ? DURATION_MS : TIMEOUT_MS,
    durationMs: DURATION_MS,
    nowMs: at.clock.now(),
  };
  compare(seen, expected(seen, votes, policy, times), given);
  return seen.status!.phase;
}

async function local(): Promise<string> {
  const runs = trials(600);
  const undo: (() => Promise<void>)[] = [];
  const phases = new Map<string, number>();
  try {
    const at = await world(
      { after: (stop) => void undo.push(stop) },
      connection('payments') + POLICIES.map(policyYaml).join(''),
    );
    let done = 0;
    await fc.assert(
      fc.asyncProperty(matrixCases(PEOPLE.length, REQUESTERS), async (given) => {
        const phase = await playLocally(at, given);
        phases.set(phase, (phases.get(phase) ?? 0) + 1);
        done += 1;
        if (done % 100 === 0) await at.restart(); // killed and started anew in between
      }),
      { numRuns: runs, seed: SEED },
    );
  } finally {
    for (const stop of undo) await stop();
  }
  for (const phase of ['Active', 'Denied', 'Expired', 'Pending', 'Revoked'])
    assert.ok(runs < 200 || (phases.get(phase) ?? 0) > 0, `no case ended ${phase}`);
  return `${runs} cases: ${[...phases].map(([phase, count]) => `${count} ${phase}`).join(', ')}`;
}

// The real API server: people of the scene. alice, bob and nora ask; carol2 is carol by uid, Ｃarol looks like her,
// bob-renamed is bob by uid, nora has no uid.
const USERS = ['alice', 'bob', 'nora', 'bob-renamed', 'carol', 'carol2', 'Ｃarol', 'dan', 'nora'] as const;
const ASKERS = 3;
const REAL_TIMEOUT_MS = 20_000;
const REAL_GAP_MS = 40;
/** The leads of the scene are those who ask as well: oneself is tried all the more often. */
const REAL_POLICIES: readonly MatrixPolicy[] = POLICIES.map(({ name, steps }) => ({
  name: `m-${name}`,
  steps: steps.map((each) => ({ ...each, group: each.group === 'leads' ? 'payments' : each.group })),
}));
let scene: SecurityScene | undefined;
const at = (): SecurityScene => {
  if (scene === undefined) throw new Error('the cluster is not there');
  return scene;
};

async function playForReal(given: MatrixCase): Promise<{ grant: AccessGrant; votes: AccessApproval[] }> {
  const policy = REAL_POLICIES[given.policy]!;
  const grant = ok(
    await at()
      .as(USERS[given.requester]!)
      .create<AccessGrant>(api('accessgrants'), {
        apiVersion: API_GROUP_VERSION,
        kind: 'AccessGrant',
        metadata: { generateName: 'm-' },
        spec: { connectionRef: { name: 'vault' }, policyRef: { name: policy.name }, duration: '1h', reason: 'x' },
      }),
  );
  const votes: AccessApproval[] = [];
  const cast = async (act: MatrixAct): Promise<void> => {
    const { uid, hash } = spellingOf(act, grant);
    const user = USERS[act.who]!;
    const answer = await at()
      .as(user)
      .create<AccessApproval>(api('accessapprovals'), {
        apiVersion: API_GROUP_VERSION,
        kind: 'AccessApproval',
        metadata: { generateName: 'v-' },
        spec: {
          targetRef: { kind: 'AccessGrant', name: grant.metadata.name, uid },
          specHash: hash,
          decision: act.decision,
        },
      });
    if (act.stray === 'No') votes.push(ok(answer));
    else ok(answer);
  };
  // What has no gap goes out together: who is first, admission says.
  let together: MatrixAct[] = [];
  for (const act of given.acts) {
    if (act.gap > 0 && together.length > 0) {
      await Promise.all(together.map(cast));
      together = [];
      await sleep(act.gap * REAL_GAP_MS);
    }
    together.push(act);
  }
  await Promise.all(together.map(cast));
  return { grant, votes };
}

async function real(): Promise<string> {
  const runs = trials(60);
  const cases = fc.sample(matrixCases(USERS.length, ASKERS), { numRuns: runs, seed: SEED });
  const phases = new Map<string, number>();
  const played: { given: MatrixCase; grant: AccessGrant; votes: AccessApproval[] }[] = [];
  for (let from = 0; from < cases.length; from += 6)
    played.push(
      ...(await Promise.all(
        cases.slice(from, from + 6).map(async (given) => ({ given, ...(await playForReal(given)) })),
      )),
    );
  // After the last deadline nothing moves any more, so that the moment of the look does not matter.
  const last = Math.max(...played.map(({ grant }) => Date.parse(grant.spec.requester!.at!)));
  await sleep(Math.max(0, last + REAL_TIMEOUT_MS + 1_000 - Date.now()));
  for (const { given, grant, votes } of played) {
    const policy = REAL_POLICIES[given.policy]!;
    const seen = await until(`grant ${grant.metadata.name} to be decided`, async () => {
      const now = await at().grant(grant.metadata.name);
      if (now.status === undefined || (now.status.phase === 'Pending' && now.status.expiresAt === undefined))
        throw new Error(now.status?.phase ?? 'not looked at');
      return now;
    });
    const times = {
      timeoutMs: policy.steps.length === 0 ? DURATION_MS : REAL_TIMEOUT_MS,
      durationMs: DURATION_MS,
      nowMs: Date.now(),
    };
    compare(seen, expected(grant, votes, policy, times), given);
    phases.set(seen.status!.phase, (phases.get(seen.status!.phase) ?? 0) + 1);
  }
  return `${runs} cases, ${played.reduce((sum, { votes }) => sum + votes.length, 0)} votes: ${[...phases].map(([phase, count]) => `${count} ${phase}`).join(', ')}`;
}

/** A vote on a grant that was deleted and made again under its name is about neither. */
async function madeAnew(): Promise<string> {
  const ask = { name: 'm-anew' };
  const first = (await at().ask('alice', ask)).grant;
  ok(await at().admin.delete(api('accessgrants', 'm-anew')));
  const second = (await at().ask('alice', ask)).grant;
  const stale = await at().vote('carol', first);
  assert.equal(await at().verdict(stale), 'Invalid');
  assert.equal((await at().grant('m-anew')).status?.phase, 'Pending');
  await at().vote('carol', second);
  await at().untilPhase(second, 'Active');
  return 'the vote for the first did not count for the second';
}

export const approvals: CriteriaGroup = {
  name: 'approvals',
  async start() {
    scene = await startSecurityScene();
    await scene.plane.apply(
      ...REAL_POLICIES.map(({ name, steps }) =>
        policyOf(name, ['vault'], {
          subjects: [
            { kind: 'User', name: 'alice' },
            { kind: 'User', name: 'bob' },
            { kind: 'User', name: 'nora' },
          ],
          ...(steps.length === 0
            ? {}
            : {
                approval: {
                  timeout: `${REAL_TIMEOUT_MS / 1000}s`,
                  steps: steps.map((each) => ({
                    name: each.name,
                    count: each.count,
                    approvers: subjectsOf(each),
                  })),
                },
              }),
        }),
      ),
    );
  },
  criteria: [
    { claim: 'local mode decides the approval matrix as its model does', check: local },
    { claim: 'the operator on a real API server decides the approval matrix as its model does', check: real },
    { claim: 'a vote for a grant that was deleted does not count for one made anew under its name', check: madeAnew },
  ],
  async stop() {
    await scene?.stop();
  },
};
