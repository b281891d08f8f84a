// Sealed grants at the gateway: open while the controller is away, closed while it is there.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { openSealedUses, type SealedUses } from '../../src/gateway/sealed-grants.ts';
import type { BundleGrant } from '../../src/policy/bundle.ts';
import { type Files, systemFiles } from '../../src/system/files.ts';
import { grantFor, type Harness, startHarness, until } from '../support/gateway-harness.ts';

const LONG = 301_000;
const folderOf = (t: TestContext): string => {
  const folder = mkdtempSync(path.join(tmpdir(), 'sallyport-sealed-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
};

async function scene(t: TestContext, uses?: SealedUses, change: Partial<BundleGrant> = {}) {
  const file = path.join(folderOf(t), 'sealed-uses.json');
  const counted = uses ?? openSealedUses(systemFiles, file);
  const h = await startHarness(t, { sealedUses: counted });
  const grant = grantFor(h.clock, { sealed: { durationMs: 600_000, uses: 2 }, ...change });
  h.publish('grants-0', { grants: [], sealed: [grant] });
  return { h, grant, file, counted };
}
const attempt = async (h: Harness, grant: BundleGrant): Promise<string> => {
  const client = await h.connect();
  client.send(`TICKET ${h.ticket(grant)}`);
  return client.next();
};

test('INV-04: a sealed grant opens only while the controller can not be heard; others never do then', async (t) => {
  const { h, grant, counted } = await scene(t);
  const plain = grantFor(h.clock, { uid: 'aaaaaaaa-0000-4000-8000-00000000000f', name: 'plain' });
  h.publish('grants-1', { grants: [plain] });
  assert.match(await attempt(h, grant), /^ERROR NotActive .*is sealed/);
  assert.deepEqual(counted.all(), []);
  h.clock.advance(LONG);
  assert.match(await attempt(h, plain), /^ERROR Unavailable /);
  const client = await h.login(grant);
  assert.equal(await client.ask('PUT a 1'), 'OK');
  assert.match(await client.ask('DROP a'), /^DENIED RuleDenied /, 'rules hold');
  assert.equal(counted.of(grant.uid).length, 1, 'the use was written before the answer');
  // The controller is back: what is open goes on, nothing else is opened.
  h.heartbeat();
  assert.equal(await client.ask('GET a'), 'VALUE 1');
  assert.match(await attempt(h, grant), /^ERROR NotActive .*is sealed/);
});

test('INV-03: a use ends with its time, and a login within it is no other use', async (t) => {
  const { h, grant, counted } = await scene(t);
  h.clock.advance(LONG);
  const first = await h.login(grant);
  h.clock.advance(300_000);
  const second = await h.login(grant);
  assert.equal(counted.of(grant.uid).length, 1);
  h.clock.advance(300_001);
  await until(() => h.gateway.sessions().length === 0, 'both are cut');
  await Promise.all([first.closed, second.closed]);
  await h.login(grant);
  assert.equal(counted.of(grant.uid).length, 2);
  h.clock.advance(600_001);
  assert.match(await attempt(h, grant), /^ERROR NotActive .*was used 2 times/);
});

test('INV-03: the last locks hold, and one that comes while it is open cuts it', async (t) => {
  const { h, grant } = await scene(t);
  h.clock.advance(LONG);
  const client = await h.login(grant);
  h.overlay({ locks: [{ name: 'l', target: { user: 'ALICE@corp.example' }, reason: 'left' }] });
  await client.closed;
  assert.match(await attempt(h, grant), /^ERROR Locked /);
});

test('INV-04: uses outlive the process; what can not be read or written opens nothing', async (t) => {
  const { h, grant, file } = await scene(t, undefined, { sealed: { durationMs: 60_000, uses: 1 } });
  h.clock.advance(LONG);
  await h.login(grant);
  assert.equal(openSealedUses(systemFiles, file).of(grant.uid).length, 1);
  writeFileSync(file, '{"uses": [{"grant": 3}]}');
  assert.throws(() => openSealedUses(systemFiles, file));
  writeFileSync(file, 'cut o');
  assert.throws(() => openSealedUses(systemFiles, file));

  const failing: Files = {
    ...systemFiles,
    fsyncSync: () => {
      throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
    },
  };
  const other = await scene(t, openSealedUses(failing, path.join(folderOf(t), 'u.json')));
  other.h.clock.advance(LONG);
  assert.match(await attempt(other.h, other.grant), /^ERROR NotActive .*can not be written/);
  assert.deepEqual(other.h.target.received, []);
  const none = await startHarness(t);
  none.publish('grants-0', { grants: [], sealed: [grant] });
  none.clock.advance(LONG);
  assert.match(await attempt(none, grant), /^ERROR NotActive .*can not count/);
});

test('INV-04: every use is synced before the login is answered', async (t) => {
  let synced = 0;
  const watching: Files = {
    ...systemFiles,
    fsyncSync: (fd) => {
      systemFiles.fsyncSync(fd);
      synced += 1;
    },
  };
  const { h, grant } = await scene(t, openSealedUses(watching, path.join(folderOf(t), 'u.json')));
  h.clock.advance(LONG);
  const client = await h.connect();
  client.send(`TICKET ${h.ticket(grant)}`);
  assert.match(await client.next(), /^WELCOME/);
  assert.equal(synced, 2, 'the file and its folder');
});

test('a sealed grant of a shard that says it among the others is none, and an end that was told holds', async (t) => {
  const { h, grant } = await scene(t);
  h.publish('grants-0', { grants: [grant] });
  h.clock.advance(LONG);
  assert.match(await attempt(h, grant), /^ERROR NotActive .*was revoked/);
  h.publish('grants-0', { grants: [], sealed: [grant] });
  h.deliver({ kind: 'GrantEnded', grantUid: grant.uid, phase: 'Revoked', by: 'dana' });
  assert.match(await attempt(h, grant), /^ERROR NotActive .*revoked by dana/);
});
