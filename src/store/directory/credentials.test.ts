import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { connectionYaml, policyYaml, secretYaml, testFolders, testStore } from './test-store.ts';

test('INV-05: credentials are read anew, and appear nowhere else', async (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', `${connectionYaml('db')}---\n${secretYaml('db-reader', 'hunter2')}`);
  const { store } = testStore(t, folders);
  const read = () => store.credentials.read({ namespace: 'payments', name: 'db' }, 'db-reader');
  assert.deepEqual(await read(), {
    kind: 'Password',
    username: 'svc',
    password: 'hunter2',
    hosts: ['a.internal', 'b.internal:5432'],
  });
  folders.write('a.yaml', `${connectionYaml('db')}---\n${secretYaml('db-reader', 'hunter3')}`);
  assert.partialDeepStrictEqual(await read(), { password: 'hunter3' });
  store.reload();
  const everything = JSON.stringify([await store.list('Connection'), store.problems(), store.broken()]);
  for (const file of fs.readdirSync(folders.stateFolder)) {
    assert.ok(!/hunter/.test(fs.readFileSync(path.join(folders.stateFolder, file), 'utf8') + everything), file);
  }
});

test('INV-05: a Secret with ssh-privatekey is a key; what is wrong with it is said without its value', async (t) => {
  const folders = testFolders(t);
  const secret = (extra: string): string =>
    `apiVersion: v1\nkind: Secret\nmetadata: {name: k, namespace: payments}\nstringData:\n  username: deploy\n  sallyport-hosts: web1\n${extra}`;
  const { store } = testStore(t, folders);
  const read = () => store.credentials.read({ namespace: 'payments', name: 'web1' }, 'k');
  folders.write('a.yaml', secret('  ssh-privatekey: |\n    hunter2\n'));
  assert.deepEqual(await read(), { kind: 'Key', username: 'deploy', privateKey: 'hunter2\n', hosts: ['web1'] });
  for (const [extra, why] of [
    ['  ssh-privatekey: hunter2\n  password: hunter3\n', /\(a\.yaml\) has both password and ssh-privatekey/],
    ['  ssh-privatekey: " "\n', /has an empty ssh-privatekey/],
    ['', /has no key "password"; .*ssh-privatekey/],
  ] as const) {
    folders.write('a.yaml', secret(extra));
    await assert.rejects(read(), (error: Error) => why.test(error.message) && !error.message.includes('hunter'));
  }
});

test('INV-05: a Secret is found again wherever it moves, and reading it touches no other file', async (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', connectionYaml('db'));
  const others = Array.from({ length: 5 }, (_, index) => `# ${index}\n${secretYaml(`other-${index}`)}`).join('---\n');
  folders.write('secrets.yaml', `${others}---\n# Secret db-reader\n${secretYaml('db-reader', 'one')}`);
  const { store } = testStore(t, folders);
  const changed: string[][] = [];
  store.onSecretsChanged((secrets) => changed.push([...secrets].sort()));
  const read = async (): Promise<string | undefined> => {
    const credential = await store.credentials.read({ namespace: 'payments', name: 'db' }, 'db-reader');
    return credential.kind === 'Password' ? credential.password : undefined;
  };
  assert.equal(await read(), 'one');
  const opened: string[] = [];
  const { readFileSync } = fs;
  const mocked = t.mock.method(fs, 'readFileSync', (file: string) => {
    opened.push(path.basename(file));
    return readFileSync(file);
  });
  assert.equal(await read(), 'one');
  mocked.mock.restore();
  assert.deepEqual(opened, ['secrets.yaml']);
  // The same lines hold another Secret now.
  folders.write('secrets.yaml', `${secretYaml('db-reader', 'two')}---\n${others}`);
  assert.equal(await read(), 'two');
  folders.write('secrets.yaml', others);
  folders.write('new.yaml', secretYaml('db-reader', 'three'));
  assert.equal(await read(), 'three');
  store.reload();
  assert.ok(changed.flat().includes('payments/db-reader'));
  changed.length = 0;
  folders.write('b.yaml', policyYaml('p'));
  store.reload();
  assert.deepEqual(changed, []);
  folders.write('new.yaml', secretYaml('db-reader', 'four'));
  store.reload();
  assert.deepEqual(changed, [['payments/db-reader']]);
  // A twin in another file is seen once the directory is looked at.
  folders.write('twin.yaml', secretYaml('db-reader', 'five'));
  store.reload();
  await assert.rejects(read(), /is written twice, in new\.yaml and twin\.yaml/);
  folders.remove('twin.yaml');
  folders.remove('new.yaml');
  await assert.rejects(read(), /is not in the directory/);
});

test('INV-05: a doubtful Secret is refused in words that hold no secret', async (t) => {
  const folders = testFolders(t);
  const base = 'apiVersion: v1\nkind: Secret\nmetadata: { name: s, namespace: payments }\n';
  const encoded = (text: string): string => Buffer.from(text).toString('base64');
  const cases: [string, RegExp][] = [
    ['# nothing', /is not in the directory/],
    [`${base}stringData: { username: u, sallyport-hosts: h }`, /has no key "password"/],
    [`${base}stringData: { username: u, password: 1234567, sallyport-hosts: h }`, /password that is no text/],
    [`${base}data: { username: dQ==, password: hunter2, sallyport-hosts: aA== }`, /password in data that is no base64/],
    [
      `${base}data: { username: dQ==, password: ${Buffer.from([0xff, 0xfe]).toString('base64')}, sallyport-hosts: aA== }`,
      /not UTF-8/,
    ],
    [`${base}stringData: { username: u, password: "hunter2 }`, /may be in a document that is no YAML/],
    [`${base}stringData: { username: u, password: hunter2, sallyport-hosts: h }\n---\n${base}`, /written twice/],
  ];
  const { store } = testStore(t, folders);
  for (const [text, message] of cases) {
    folders.write('s.yaml', text);
    await assert.rejects(store.credentials.read({ namespace: 'payments', name: 'db' }, 's'), (error: Error) => {
      assert.match(error.message, message);
      assert.ok(!/hunter2|1234567/.test(error.message));
      return true;
    });
  }
  folders.write(
    's.yaml',
    `${base}data: { username: ${encoded('u')}, password: ${encoded('old')}, sallyport-hosts: '' }\nstringData: { password: new }`,
  );
  assert.deepEqual(await store.credentials.read({ namespace: 'payments', name: 'db' }, 's'), {
    kind: 'Password',
    username: 'u',
    password: 'new',
    hosts: [],
  });
  // INV-12: a namespace reaches its own Secrets only.
  await assert.rejects(store.credentials.read({ namespace: 'billing', name: 'db' }, 's'), /is not in the directory/);
});
