// `make accept-operator`: every acceptance criterion of the operator that a machine can check, on real clusters.
// Arguments: names of groups to run; none: all. `make e2e` is the group `story`.
import { chaos } from './operator/chaos.ts';
import { chart, gitops } from './operator/gitops.ts';
import { life } from './operator/life.ts';
import { outage } from './operator/outage.ts';
import { scale } from './operator/scale.ts';
import { security } from './operator/security.ts';
import { speed } from './operator/speed.ts';
import { story } from './operator/story.ts';
import { runCriteria } from './runner.ts';

await runCriteria('accept-operator', [story, gitops, chart, security, speed, chaos, outage, life, scale]);
