// What watchers are told, and how changes of files get there.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../system/clock.ts';
import { systemFiles } from '../../system/files.ts';
import type { WatchEvent } from '../resource-store.ts';
import { openDirectoryStore } from './store.ts';
import { alice, connectionYaml, grantOf, ok, policyYaml, settle, testFolders, testStore } from './test-store.ts';

test('watchers see each change once and in order, from where they ask', async (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', policyYaml('a'));
  const { store } = testStore(t, folders);
  const seen: string[] = [];
  const record = (event: WatchEvent): void => {
    seen.push(`${event.type} ${event.object.metadata.name} ${event.object.metadata.resourceVersion}`);
  };
  const { resourceVersion } = await store.list('AccessPolicy');
  const fail = (): void => assert.fail('gone');
  const stop = store.watch('AccessPolicy', resourceVersion, record, fail);
  folders.write('b.yaml', `${policyYaml('b')}---\n${connectionYaml('c')}`);
  store.reload();
  folders.write('a.yaml', policyYaml('a', '{ names: [x] }'));
  store.reload();
  folders.remove('b.yaml');
  store.reload();
  await settle();
  assert.deepEqual(
    seen.map((line) => line.slice(0, -2)),
    ['Added b', 'Modified a', 'Deleted b'],
  );
  const versions = seen.map((line) => Number(line.split(' ')[2]));
  assert.deepEqual(
    versions,
    [...versions].sort((a, b) => a - b),
  );
  // A watcher that comes late is given what it missed.
  const late: string[] = [];
  store.watch(
    'AccessPolicy',
    resourceVersion,
    (event) => late.push(`${event.type} ${event.object.metadata.name}`),
    fail,
  );
  await settle();
  assert.deepEqual(late, ['Added b', 'Modified a', 'Deleted b']);
  stop();
  folders.write('a.yaml', policyYaml('a'));
  store.reload();
  await settle();
  assert.equal(seen.length, 3);
});

test('a watcher from before a restart, or from the future, lists again', async (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', policyYaml('a'));
  const opened = testStore(t, folders).store;
  ok(await opened.create(alice, grantOf()));
  opened.close();
  const { store } = testStore(t, folders);
  for (const from of ['0', '1', '999']) {
    let gone = 0;
    store.watch(
      'AccessPolicy',
      from,
      () => assert.fail('event'),
      () => gone++,
    );
    await settle();
    assert.equal(gone, 1, from);
  }
});

test('changes of files arrive by themselves, by watch and by the slow look', async (t) => {
  for (const pollMs of [600_000, 50]) {
    const folders = testFolders(t);
    folders.write('sub/a.yaml', policyYaml('a'));
    const store = openDirectoryStore({
      directory: folders.directory,
      stateFolder: folders.stateFolder,
      clock: systemClock,
      random: { bytes: (length) => Buffer.from(crypto.getRandomValues(new Uint8Array(length))) },
      files: systemFiles,
      seal: () => 's',
      debounceMs: pollMs === 50 ? 600_000 : 10,
      pollMs,
    });
    t.after(() => store.close());
    const { resourceVersion } = await store.list('AccessPolicy');
    const seen: string[] = [];
    store.watch(
      'AccessPolicy',
      resourceVersion,
      (event) => seen.push(`${event.type} ${event.object.metadata.name}`),
      () => {},
    );
    const until = async (expected: string): Promise<void> => {
      for (let waited = 0; !seen.includes(expected); waited += 10) {
        assert.ok(waited < 20_000, `${expected} of ${seen.join(', ')}`);
        await sleep(10);
      }
    };
    folders.write('sub/a.yaml', policyYaml('a', '{ names: [x] }'));
    await until('Modified a');
    folders.write('new/folder/b.yaml', policyYaml('b'));
    await until('Added b');
    folders.remove('new');
    await until('Deleted b');
    store.close();
  }
});
