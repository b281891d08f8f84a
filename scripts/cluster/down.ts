// `make cluster-down`: ends the cluster that up.ts started, with all its pods, and deletes its folder.
//   down.ts [--folder FOLDER]
import path from 'node:path';
import { parseArgs } from 'node:util';
import { cacheFolder, stopCluster } from '../../test/support/cluster/node/start.ts';

const { values } = parseArgs({ options: { folder: { type: 'string', default: path.join(cacheFolder(), 'cluster') } } });
const folder = path.resolve(values.folder);
console.error((await stopCluster(folder)) ? `The cluster in ${folder} has ended.` : `No cluster in ${folder}.`);
