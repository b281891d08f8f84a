// `make cluster`: starts a Kubernetes on this machine that outlives this command, and says how to use it.
//   up.ts [--size node|control] [--folder FOLDER] [--image OCI-ARCHIVE]...
import path from 'node:path';
import { parseArgs, styleText } from 'node:util';
import { type ClusterPlan, files } from '../../test/support/cluster/node/plan.ts';
import { cacheFolder, runningCluster, startNodeCluster } from '../../test/support/cluster/node/start.ts';

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: 'node' },
    folder: { type: 'string', default: path.join(cacheFolder(), 'cluster') },
    image: { type: 'string', multiple: true, default: [] },
  },
});
const { size } = values;
const folder = path.resolve(values.folder);
if (size !== 'node' && size !== 'control') {
  console.error(`SIZE is node or control, not ${size}`);
  process.exit(2);
}
const useIt = (plan: ClusterPlan): void =>
  console.log(`export KUBECONFIG=${files(plan.folder).kubeconfig} PATH=${plan.binaries}:$PATH`);
const running = runningCluster(folder)?.plan;
if (running !== undefined) {
  console.error(`A cluster (SIZE=${running.size}) runs already in ${folder}; "make cluster-down" ends it.`);
  if (running.size === size) useIt(running);
  process.exit(running.size === size ? 0 : 1);
}
if (size === 'node' && process.getuid?.() !== 0) {
  console.error(
    'A cluster with a node needs root. "make cluster SIZE=control" does not: it has an API server, but runs no pods.',
  );
  process.exit(1);
}
const began = Date.now();
const seconds = (): string => `${((Date.now() - began) / 1000).toFixed(1)} s`.padStart(8);
const say = (text: string): void => console.error(`${styleText('dim', seconds())}  ${text}`);
try {
  const cluster = await startNodeCluster({ size, folder, images: values.image, detached: true, progress: say });
  say(
    `Ready: ${cluster.server}, users ${cluster.plan.users.map(({ name }) => name).join(', ')} (kubectl --context NAME)`,
  );
  useIt(cluster.plan);
  process.exit(0);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  console.error(`Logs are in ${folder}/logs; "make cluster-down" cleans up.`);
  process.exit(1);
}
