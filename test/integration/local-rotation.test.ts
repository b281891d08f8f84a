// A password that is rotated at the server and in its Secret: the Connection's state follows the file, at once.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from '../../src/api/connection.ts';
import { connectionYaml, startLocal } from '../support/local.ts';
import { startPostgres } from '../support/postgres.ts';

/** Far less than the five minutes for which a good probe holds, or the 15 seconds of a failed one. */
const SOON_MS = 8000;

test('an edit of a Secret is followed by a new look at the target', async (t) => {
  const server = await startPostgres({ setup: "create role reader login password 'one'" });
  t.after(() => server.stop());
  const yaml = (password: string): string =>
    connectionYaml(server, { accounts: { reader: { username: 'reader', password } } });
  const local = await startLocal({ 'a.yaml': yaml('one') });
  t.after(() => local.stop());
  const ready = async (): Promise<string | undefined> => {
    const { items } = await local.json<{ items: Connection[] }>(['ls', '-o', 'json']);
    return items[0]?.status?.conditions?.find(({ type }) => type === 'Ready')?.reason;
  };
  const until = async (wanted: string): Promise<void> => {
    let seen: string | undefined;
    for (const end = Date.now() + SOON_MS; Date.now() < end; await sleep(100)) {
      seen = await ready();
      if (seen === wanted) return;
    }
    assert.equal(seen, wanted);
  };
  await until('Ready');
  local.write('a.yaml', yaml('two'));
  await until('TargetUnreachable');
  local.write('a.yaml', yaml('one'));
  await until('Ready');
});
