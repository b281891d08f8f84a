// Life on a whole cluster: replicas that come and go, credentials that change, groups, upgrades, deletions. One cluster
// with a node; the criteria build on each other, from what disturbs least to the end of everything.
import assert from 'node:assert/strict';
import { startOrdersScene } from '../../e2e/orders.ts';
import { type Scene, say } from '../../e2e/scene.ts';
import type { CriteriaGroup, Criterion } from '../criterion.ts';
import { lifeBed } from './life-bed.ts';
import { connectionCriteria } from './life-connections.ts';
import { endCriteria } from './life-ends.ts';
import { replicaCriteria } from './life-replicas.ts';

function lifeCriteria(given: () => Scene): Criterion[] {
  const bed = lifeBed(given);
  return [...replicaCriteria(given, bed), ...connectionCriteria(given, bed), ...endCriteria(given, bed)];
}

let scene: Scene | undefined;
const theScene = (): Scene => {
  assert.ok(scene !== undefined, 'the scene was not started');
  return scene;
};

export const life: CriteriaGroup = {
  name: 'life',
  async start() {
    scene = await startOrdersScene(say);
  },
  async stop() {
    await scene?.stop();
  },
  criteria: lifeCriteria(theScene),
};
