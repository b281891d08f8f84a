import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '../../system/manual-clock.ts';
import { createSidePool } from './side-pool.ts';

const PLACE = { connectionUid: 'c-1', account: 'reader', database: 'orders' };

test('names that can not be read are told to the session that came last', async () => {
  const clock = manualClock();
  const pool = createSidePool({ openCatalog: () => assert.fail('no masks here') });
  const told: string[] = [];
  const open = async (): Promise<never> => {
    throw new Error('the database is away');
  };
  const join = (session: string) =>
    pool.acquire(PLACE, clock, open, (error) => told.push(`${session}: ${(error as Error).message}`));
  const first = join('first');
  await first.names().refresh();
  assert.deepEqual(told, ['first: the database is away']);
  const second = join('second');
  await second.names().refresh();
  assert.equal(told.length, 1, 'not tried again at once');
  clock.advance(60_000);
  await first.names().refresh();
  assert.deepEqual(told.slice(1), ['second: the database is away']);
  first.release();
  second.release();
});
