// Test support: a directory and a state folder that go away with the test, the store over them, and who writes what there.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Files, systemFiles } from '../../system/files.ts';
import { type ManualClock, manualClock } from '../../system/manual-clock.ts';
import { systemRandom } from '../../system/random.ts';
import type { Actor, KindName, NewObject, StoreResult } from '../resource-store.ts';
import { type DirectoryStore, type DirectoryStoreOptions, openDirectoryStore } from './store.ts';

export interface TestFolders {
  directory: string;
  stateFolder: string;
  write(file: string, text: string): void;
  remove(file: string): void;
}

export function testFolders(t: TestContext): TestFolders {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-store-'));
  t.after(() => fs.rmSync(root, { recursive: true, force: true }));
  const directory = path.join(root, 'access');
  fs.mkdirSync(directory);
  return {
    directory,
    stateFolder: path.join(root, 'state'),
    write(file, text) {
      fs.mkdirSync(path.dirname(path.join(directory, file)), { recursive: true });
      fs.writeFileSync(path.join(directory, file), text);
    },
    remove: (file) => fs.rmSync(path.join(directory, file), { recursive: true }),
  };
}

export function testStore(
  t: TestContext,
  folders: TestFolders,
  options: Partial<DirectoryStoreOptions> & { files?: Files } = {},
): { store: DirectoryStore; clock: ManualClock } {
  const clock = manualClock();
  const store = openDirectoryStore({
    directory: folders.directory,
    stateFolder: folders.stateFolder,
    clock,
    random: systemRandom,
    files: systemFiles,
    seal: (stamp) => `sealed:${stamp.nonce}`,
    watch: false,
    ...options,
  });
  t.after(() => store.close());
  return { store, clock };
}

export const connectionYaml = (name: string, more = ''): string => `apiVersion: sallyport.dev/v1alpha1
kind: Connection
metadata:
  name: ${name}
  namespace: payments
spec:
  type: PostgreSQL
  postgresql:
    host: ${name}.internal
${more}  accounts:
    - name: reader
      secretRef: { name: ${name}-reader }
`;

export const policyYaml = (name: string, selector = '{}', rules = '[]'): string => `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata:
  name: ${name}
  namespace: payments
spec:
  connectionSelector: ${selector}
  subjects: [{ kind: Group, name: payments }]
  accounts: [reader]
  rules: ${rules}
`;

export const secretYaml = (name: string, password = 'hunter2'): string => `apiVersion: v1
kind: Secret
metadata:
  name: ${name}
  namespace: payments
stringData:
  username: svc
  password: ${password}
  sallyport-hosts: |
    a.internal
    b.internal:5432
`;

export const alice: Actor = {
  kind: 'Person',
  principal: { username: 'alice@corp.example', uid: 'u1', groups: ['payments'], aliases: ['a'] },
};
export const operator: Actor = { kind: 'Operator' };
export const proxy: Actor = { kind: 'Proxy', replica: 'p' };
export const newObject = (kind: KindName, name: string, spec: unknown, metadata: object = {}): NewObject => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind,
  metadata: { name, namespace: 'payments', ...metadata },
  spec,
});
export const grantOf = (name = 'orders-db-', spec: object = {}): NewObject =>
  newObject('AccessGrant', name, { connectionRef: { name: 'orders-db' }, reason: 'INC-1', ...spec });
export const hold = newObject('CommandHold', 'h-1', {
  connectionRef: { name: 'orders-db' },
  grantRef: { name: 'g', uid: 'u' },
  sessionId: 's',
  requester: { username: 'alice@corp.example' },
  command: 'delete from orders',
  hiddenLiterals: 0,
  commandHash: 'a'.repeat(64),
  rules: [],
  reason: 'r',
  requirements: [],
  requestedAt: '2026-01-01T00:00:00Z',
  until: '2026-01-01T00:01:00Z',
});

export function ok<T>(result: StoreResult<T>): T {
  assert.equal(result.kind, 'Ok', JSON.stringify(result));
  return (result as { value: T }).value;
}

export async function names(store: DirectoryStore, kind: KindName): Promise<string[]> {
  return (await store.list(kind)).items.map((item) => item.metadata.name);
}

export const settle = (): Promise<void> => sleep(0);
