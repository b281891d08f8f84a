// People who may write some objects but not others, up to a cluster-admin who passes himself off as the operator: what
// none of them gets, each against the real API server, the operator and a proxy with their own rights.
import { bundleCriteria } from '../../hostile/cluster/bundles.ts';
import { holdCriteria } from '../../hostile/cluster/holds.ts';
import { policyCriteria } from '../../hostile/cluster/policies.ts';
import { reachCriteria } from '../../hostile/cluster/reach.ts';
import { type SecurityScene, startSecurityScene } from '../../hostile/cluster/scene.ts';
import { stampCriteria } from '../../hostile/cluster/stamps.ts';
import { statusCriteria } from '../../hostile/cluster/status.ts';
import type { CriteriaGroup } from '../criterion.ts';

let scene: SecurityScene | undefined;
const ours = (): SecurityScene => {
  if (scene === undefined) throw new Error('the scene is not there');
  return scene;
};

export const security: CriteriaGroup = {
  name: 'security',
  async start() {
    scene = await startSecurityScene();
  },
  criteria: [
    ...stampCriteria(ours),
    ...statusCriteria(ours),
    ...bundleCriteria(ours),
    ...holdCriteria(ours),
    ...reachCriteria(ours),
    ...policyCriteria(ours),
  ],
  async stop() {
    await scene?.stop();
  },
};
