// `make accept-identity`: every acceptance criterion of identity and approvals that a machine can check, against real
// servers. Arguments: names of groups to run; none: all.
import { approvals } from './identity/approvals.ts';
import { breakglass } from './identity/breakglass.ts';
import { cli } from './identity/cli.ts';
import { cluster } from './identity/cluster.ts';
import { idp } from './identity/idp.ts';
import { logins } from './identity/logins.ts';
import { notify } from './identity/notify.ts';
import { page } from './identity/page.ts';
import { tokens } from './identity/tokens.ts';
import { runCriteria } from './runner.ts';

await runCriteria('accept-identity', [idp, cli, notify, logins, page, tokens, approvals, breakglass, cluster]);
