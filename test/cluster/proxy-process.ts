// A proxy as a process of its own, so that it can be killed, told to stop and measured: the command a pod runs, with
// other folders and ports. Loopback may be dialled, for that is where the test's PostgreSQL is.

import { proxyCommand } from '../../src/cli/cluster/proxy.ts';
import { systemIo } from '../../src/cli/io.ts';
import { createDialGuard } from '../../src/gateway/dial-guard.ts';

const [folder = '', healthPort = '0', tunnelPort = '0', ...trust] = process.argv.slice(2);
const interrupted = new AbortController();
process.once('SIGTERM', () => interrupted.abort());
// As the entry of the program does: a warm connection to a target must not keep the process.
process.exit(
  await proxyCommand(
    systemIo(interrupted.signal),
    { trust, operatorNamespace: 'sallyport-system' },
    {
      records: `${folder}/records`,
      credentials: `${folder}/credentials`,
      serviceAccount: `${folder}/serviceaccount`,
      healthPort: Number(healthPort),
      tunnelPort: Number(tunnelPort),
      dialGuard: createDialGuard({ allowLoopback: true }),
    },
  ),
);
