// `make accept-ssh`: every acceptance criterion of SSH that a machine can check, against real servers. Arguments: names
// of groups to run; none: all.
import { runCriteria } from './runner.ts';
import { auth } from './ssh/auth.ts';
import { clients } from './ssh/clients.ts';
import { cluster } from './ssh/cluster.ts';
import { commands } from './ssh/commands.ts';
import { cuts } from './ssh/cuts.ts';
import { forwarding } from './ssh/forwarding.ts';
import { openssh } from './ssh/openssh.ts';
import { replay } from './ssh/replay.ts';
import { speed } from './ssh/speed.ts';

await runCriteria('accept-ssh', [openssh, clients, auth, commands, cuts, forwarding, replay, speed, cluster]);
