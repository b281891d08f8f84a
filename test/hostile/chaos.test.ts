// The daemon killed under load; `make accept-slice` does it ten times and fills a disk.
import { after, before, test } from 'node:test';
import { missing } from '../support/tools.ts';
import { type ChaosBed, startChaosBed } from './chaos/bed.ts';
import { killTrial } from './chaos/kill.ts';

const skip = missing('pgbench');
let bed: ChaosBed;
before(async () => {
  if (skip === false) bed = await startChaosBed();
});
after(() => bed?.stop());

test('INV-01, INV-07: kill -9 under load leaves no executed statement without its record, and says what was lost', {
  skip,
}, async () => {
  await killTrial(bed, 'extended', 300);
});
