import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { CredentialUnavailable, mountedCredentials } from './credentials.ts';

const CONNECTION = { namespace: 'payments', name: 'orders-db' };
const GOOD = { username: 'reader', password: 'correct-horse', 'sallyport-hosts': 'db:5432\n db2:5432 ' };

function folder(t: TestContext): string {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-credentials-'));
  t.after(() => fs.rmSync(made, { recursive: true, force: true }));
  return made;
}

/** As a kubelet mounts a Secret, and swaps it. */
function mount(root: string, version: string, values: Readonly<Record<string, string | Buffer>>): void {
  const secret = path.join(root, 'orders-db-reader');
  fs.mkdirSync(path.join(secret, version), { recursive: true });
  for (const [key, value] of Object.entries(values)) fs.writeFileSync(path.join(secret, version, key), value);
  fs.symlinkSync(version, path.join(secret, '..data_tmp'));
  fs.renameSync(path.join(secret, '..data_tmp'), path.join(secret, '..data'));
}

test('a mounted Secret is read at each use, and its version changes with it', async (t) => {
  const root = folder(t);
  const source = mountedCredentials(root);
  mount(root, '..1', GOOD);
  assert.deepEqual(await source.read(CONNECTION, 'orders-db-reader'), {
    kind: 'Password',
    username: 'reader',
    password: 'correct-horse',
    hosts: ['db:5432', 'db2:5432'],
  });
  const version = await source.version('orders-db-reader');
  assert.equal(await source.version('orders-db-reader'), version);
  mount(root, '..2', { ...GOOD, password: 'battery-staple' });
  assert.partialDeepStrictEqual(await source.read(CONNECTION, 'orders-db-reader'), { password: 'battery-staple' });
  assert.notEqual(await source.version('orders-db-reader'), version);
});

test('plain files without a swapped folder do as well', async (t) => {
  const root = folder(t);
  fs.mkdirSync(path.join(root, 'plain'));
  for (const [key, value] of Object.entries(GOOD)) fs.writeFileSync(path.join(root, 'plain', key), value);
  const source = mountedCredentials(root);
  assert.partialDeepStrictEqual(await source.read(CONNECTION, 'plain'), { username: 'reader' });
  const version = await source.version('plain');
  fs.writeFileSync(path.join(root, 'plain', 'password'), 'another-one');
  assert.notEqual(await source.version('plain'), version);
});

test('INV-05: what is wrong with a Secret is said with its name and key, and without its value', async (t) => {
  const root = folder(t);
  const source = mountedCredentials(root);
  const cases: [Readonly<Record<string, string | Buffer>> | undefined, RegExp][] = [
    [undefined, /is not mounted: create it/],
    [{ ...GOOD, password: '' }, /has an empty password/],
    [{ username: 'reader', password: 'correct-horse' }, /has no key "sallyport-hosts"/],
    [{ ...GOOD, password: 'correct-horse\n' }, /has a password that ends with a line break/],
    [{ ...GOOD, password: Buffer.from([0x63, 0xff, 0xfe]) }, /has a password that is not UTF-8/],
    [{ ...GOOD, password: 'x'.repeat(70_000) }, /has a password of more than/],
    [{ ...GOOD, 'ssh-privatekey': 'correct-horse' }, /has both password and ssh-privatekey/],
    [{ username: 'deploy', 'ssh-privatekey': '\n', 'sallyport-hosts': 'web1' }, /has an empty ssh-privatekey/],
    [{ username: 'deploy', 'sallyport-hosts': 'web1' }, /has no key "password"; .*ssh-privatekey/],
  ];
  for (const [index, [values, why]] of cases.entries()) {
    if (values !== undefined) mount(root, `..${index}`, values);
    await assert.rejects(source.read(CONNECTION, 'orders-db-reader'), (error: Error) => {
      assert.ok(error instanceof CredentialUnavailable);
      assert.match(error.message, why);
      assert.match(error.message, /^Secret payments\/orders-db-reader of Connection payments\/orders-db /);
      assert.doesNotMatch(error.message, /correct-horse|xxx/);
      return true;
    });
  }
});

test('a Secret with ssh-privatekey is a key', async (t) => {
  const root = folder(t);
  mount(root, '..1', { username: 'deploy', 'ssh-privatekey': 'KEY\n', 'sallyport-hosts': 'web1' });
  assert.deepEqual(await mountedCredentials(root).read(CONNECTION, 'orders-db-reader'), {
    kind: 'Key',
    username: 'deploy',
    privateKey: 'KEY\n',
    hosts: ['web1'],
  });
});

test('INV-12: no name of a Secret leads out of its folder', async (t) => {
  const root = folder(t);
  fs.mkdirSync(path.join(root, 'inside'));
  for (const [key, value] of Object.entries(GOOD)) fs.writeFileSync(path.join(root, key), value);
  const source = mountedCredentials(path.join(root, 'inside'));
  for (const name of ['..', '.', '../', '', 'a/b', '..data', 'A', 'a\0b', `${'a'.repeat(254)}`]) {
    await assert.rejects(source.read(CONNECTION, name), /has a name that no Secret can have/);
    assert.equal(await source.version(name), name.length > 253 ? '- - - -' : '-');
  }
});
