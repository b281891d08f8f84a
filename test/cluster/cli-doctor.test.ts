// `kubectl access doctor` on a real API server: what is missing is found, who could go around is named, and what may not
// be seen is called unknown.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { KINDS } from '../../src/api/kinds.ts';
import type { Check } from '../../src/cli/cluster/doctor/check.ts';
import { ADMISSION_POLICIES } from '../../src/cli/cluster/doctor/install.ts';
import { PLURALS } from '../../src/cli/cluster/plurals.ts';
import { skipWithoutCluster } from '../support/cluster/control-plane.ts';
import { type Bed, openBed, type Run } from './cli-bed.ts';

const skip = await skipWithoutCluster();
let bed: Bed;
before(async () => {
  if (skip === false) bed = await openBed();
});
after(() => bed?.close());

const checksOf = ({ out }: Run): Check[] => (JSON.parse(out) as { checks: Check[] }).checks;
const found = (checks: readonly Check[], subject: string): Check =>
  checks.find((each) => each.subject === subject) ?? assert.fail(`no check ${subject}`);

test('what the doctor expects is what the chart installs', () => {
  const manifests = fs.readFileSync(path.resolve(import.meta.dirname, '../../manifests/install.yaml'), 'utf8');
  const there = [...manifests.matchAll(/kind: ValidatingAdmissionPolicy\nmetadata:\n {2}name: (\S+)/g)].map(
    (each) => each[1],
  );
  assert.deepEqual(new Set<string | undefined>(ADMISSION_POLICIES), new Set(there));
  assert.deepEqual(PLURALS, Object.fromEntries(Object.entries(KINDS).map(([kind, { plural }]) => [kind, plural])));
});

test('an admin sees what is missing and who could go around, with exit code 1', { skip }, async () => {
  await bed.plane.kubectl(['create', 'role', 'peek', '--verb=get', '--resource=secrets', '-n', 'payments']);
  await bed.plane.kubectl(['create', 'rolebinding', 'peek', '--role=peek', '--user=mallory', '-n', 'payments']);
  await bed.plane.kubectl(['create', 'clusterrolebinding', 'root', '--clusterrole=cluster-admin', '--user=oscar']);
  const run = await bed.as('admin', ['doctor', 'orders-db', '-o', 'json']);
  assert.equal(run.code, 1, run.err);
  const checks = checksOf(run);
  assert.equal(found(checks, 'kinds sallyport.dev/v1alpha1').state, 'Ok');
  assert.equal(found(checks, 'admission policies').state, 'Fail');
  assert.equal(found(checks, 'operator').state, 'Fail');
  assert.equal(found(checks, 'clock').state, 'Ok');
  assert.equal(found(checks, 'payments/orders-db').state, 'Ok');
  assert.match(found(checks, 'proxies of payments/orders-db').message, /No proxy serves it/);
  const credentials = found(checks, 'credentials');
  assert.equal(credentials.state, 'Warn');
  assert.match(credentials.message, /user mallory \(RoleBinding payments\/peek\).*orders-writer/);
  assert.match(found(checks, 'admins').message, /user oscar \(ClusterRoleBinding root\)/);
  assert.equal(found(checks, 'impersonation').state, 'Ok');
  const table = await bed.as('admin', ['doctor']);
  assert.match(table.out, /^STATE +AREA +CHECK +WHAT IS SEEN/);
});

test('who may not look is told what is not known, and what they could do themselves', { skip }, async () => {
  const checks = checksOf(await bed.as('alice', ['doctor', '-o', 'json']));
  assert.equal(found(checks, 'who could').state, 'Unknown');
  assert.equal(found(checks, 'admission policies').state, 'Unknown');
  assert.equal(found(checks, 'request, connect, status').state, 'Ok');
  const mallory = checksOf(await bed.as('mallory', ['doctor', '-o', 'json']));
  assert.match(found(mallory, 'request, connect, status').fix ?? '', /--user=mallory -n payments/);
});
