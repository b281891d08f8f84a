// Secrets in a session's statements, names and errors; `make accept-slice` also breaks the target, the files and the password.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  CANARIES,
  CARDS,
  filesBelow,
  hits,
  login,
  PASSWORDS,
  type Place,
  place,
  type SecretsBed,
  startSecretsBed,
  unpackedRecords,
} from './secrets/bed.ts';
import { provoke, rotate } from './secrets/provoke.ts';

let bed: SecretsBed;
const told: Place[] = [];
let clear: Place[] = [];
before(async () => {
  bed = await startSecretsBed();
  const masked = await login(bed.alice);
  told.push(...(await provoke(masked, 'alice')).errors);
  await masked.end();
  const exempt = await login(bed.exempt);
  clear = (await provoke(exempt, 'the exempt')).rows;
  await exempt.end();
  told.push(...(await rotate(bed)));
});
after(() => bed?.stop());

const everywhere = (): Place[] => [
  ...filesBelow(bed.local.state),
  ...unpackedRecords(`${bed.local.state}/records`),
  place('the daemon’s output', bed.local.output()),
];

test('INV-05: the account’s password is nowhere, not even when it is changed through the gateway', () => {
  assert.deepEqual(hits([...told, ...everywhere()], PASSWORDS), []);
});

test('INV-06: masked values are in no error, notice, record or log, whoever provoked them', () => {
  assert.ok(hits(clear, CARDS).length > 0, 'the exempt person did not see the clear values');
  assert.deepEqual(hits([...told, ...everywhere()], CANARIES), []);
});

test('tickets are in no record and no log', () => {
  assert.deepEqual(hits(everywhere(), [bed.alice.login().password.split('.')[0]!]), []);
});
