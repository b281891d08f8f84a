// A process that contends for a lease and says on stdout when it leads, for tests that stop it with signals.
// Arguments: server, token, file of the CA, name. Lines: `acquired EPOCH`, `lost`, and each 20 ms while it holds: `held`.
import fs from 'node:fs';
import { tokenAccess } from '../../../src/kube/access.ts';
import { createKubeClient } from '../../../src/kube/client.ts';
import { startLeaderElection } from '../../../src/kube/lease.ts';
import { systemClock } from '../../../src/system/clock.ts';
import { systemRandom } from '../../../src/system/random.ts';

const [server = '', token = '', caFile = '', name = ''] = process.argv.slice(2);
const client = createKubeClient(tokenAccess(server, token, fs.readFileSync(caFile, 'utf8')));
// The machine's monotonic time is the same in all processes, so the lines of two can be put in order.
const say = (text: string): void => {
  fs.writeSync(1, `${process.hrtime.bigint()} ${text}\n`);
};
const election = startLeaderElection({
  client,
  namespace: 'default',
  name: 'sallyport',
  identity: name,
  clock: systemClock,
  random: systemRandom,
  log: () => undefined,
  durationMs: 3000,
  renewDeadlineMs: 2000,
  retryMs: 400,
  onAcquired: (epoch) => say(`acquired ${epoch}`),
  onLost: () => say('lost'),
});
const ticker = setInterval(() => {
  if (election.held()) say('held');
}, 20);
process.once('SIGTERM', () => {
  election
    .stop()
    .then(() => {
      clearInterval(ticker);
      return client.close();
    })
    .then(
      () => process.exit(0),
      () => process.exit(1),
    );
});
// Nobody reads any more: the test is over.
process.stdin.resume().once('end', () => process.exit(0));
