// `make accept-slice`: every acceptance criterion of the PostgreSQL slice that a machine can check, one line each with
// the figure it measured. Arguments: names of groups to run; none: all.
import { chaos } from './chaos.ts';
import { clients } from './clients.ts';
import { cuts } from './cuts.ts';
import { denials } from './denials.ts';
import { holds } from './holds.ts';
import { leaks } from './leaks.ts';
import { policies } from './policies.ts';
import { project } from './project.ts';
import { records } from './records.ts';
import { runCriteria } from './runner.ts';
import { secrets } from './secrets.ts';

await runCriteria('accept-slice', [clients, denials, holds, cuts, chaos, records, secrets, leaks, policies, project]);
