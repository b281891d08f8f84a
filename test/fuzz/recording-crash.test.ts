// Kills the writer of records, and the recovery after it, at every single file call.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { callsOfALife, killedAt, life, recoveryKilledAt } from '../support/record-life.ts';
import { mortalFiles, recordFolder } from '../support/records.ts';

test('INV-07: killed at any file call, the next start loses nothing, shows nothing twice, and leaves a good folder', async (t) => {
  const calls = await callsOfALife(t);
  assert.ok(calls > 100);
  for (let at = 0; at < calls; at += 1) await killedAt(t, at);
});

test('INV-07: recovery itself may be killed at any file call', async (t) => {
  const folder = recordFolder(t);
  const acknowledged = await life(mortalFiles(95), folder);
  let at = 0;
  while (await recoveryKilledAt(t, { folder, acknowledged }, at)) at += 1;
  assert.ok(at > 50);
});
