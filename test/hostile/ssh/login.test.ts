// Attempts to get in at a real daemon with a real target behind it: raw clients, other people's grants, used tickets. What is
// refused never reaches the target.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { after, before, test } from 'node:test';
import { issueTicket } from '../../../src/identity/tickets.ts';
import type { Signer } from '../../../src/protocols/ssh/keys/key.ts';
import { ed25519Signer, signerOf } from '../../../src/protocols/ssh/keys/signer.ts';
import { readData, writeData } from '../../../src/protocols/ssh/wire/data.ts';
import { MSG } from '../../../src/protocols/ssh/wire/message-numbers.ts';
import { systemRandom } from '../../../src/system/random.ts';
import { opensshPrivateKeyObject } from '../../support/ssh-keys.ts';
import {
  certificateSigner,
  promptAnswer,
  promptRequest,
  keyRequest as rightRequest,
  serviceRequest,
} from '../../support/ssh-login-messages.ts';
import { echo, type RawClient as Raw, rawConnection } from '../../support/ssh-raw-client.ts';
import { alice, bob, type SshScene, startSshScene } from '../../support/ssh-scene.ts';

let scene: SshScene;
const ports: Record<string, number> = {};
const uids: Record<string, string> = {};

interface Grant {
  name: string;
  uid: string;
  signer: Signer;
  /** OpenSSH's form. */
  text: string;
}
let web1: Grant;
let web2: Grant;
let bobs: Grant;

async function grantOf(connection: string, who: typeof alice): Promise<Grant> {
  const { local, sshd } = scene;
  const asked = await local.cli(
    ['request', connection, '--for', '1h', '--reason', 'test', '--wait', '-o', 'json'],
    who,
  );
  assert.equal(asked.code, 0, asked.output);
  const { metadata } = JSON.parse(asked.stdout) as { metadata: { name: string; uid: string } };
  const { stdout, stderr } = await local.cli(['dsn', connection, '--user', sshd.user], who);
  const file = /IdentityFile=(\S+)/.exec(stdout)?.[1];
  assert.ok(file, stdout + stderr);
  const text = fs.readFileSync(file, 'utf8');
  return { ...metadata, signer: signerOf(text), text };
}

before(async () => {
  const all = '  - {name: all, action: Allow}';
  scene = await startSshScene({ web1: all, web2: all });
  web1 = await grantOf('web1', alice);
  web2 = await grantOf('web2', alice);
  bobs = await grantOf('web1', bob);
  type Listed = { metadata: { name: string; uid: string }; status: { endpoint: { port: number } } };
  const { items } = await scene.local.json<{ items: Listed[] }>(['ls', '-A'], alice);
  for (const { metadata, status } of items) {
    ports[metadata.name] = status.endpoint.port;
    uids[metadata.name] = metadata.uid;
  }
});
after(() => scene?.stop());

const ANSWERS = [MSG.USERAUTH_SUCCESS, MSG.USERAUTH_FAILURE, MSG.USERAUTH_PK_OK];

const connect = async (name = 'web1'): Promise<Raw> => {
  const raw = await rawConnection(ports[name]!);
  raw.transport.send(serviceRequest());
  return raw;
};

function keyRequest(raw: Raw, signer: Signer, options: { user?: string; sign?: boolean } = {}): Buffer {
  return rightRequest(raw.transport, {
    user: options.user ?? scene.sshd.user,
    signer,
    ...(options.sign === false ? { hasSignature: 0 } : {}),
  });
}

async function ask(raw: Raw, payload: Buffer): Promise<number | undefined> {
  raw.transport.send(payload);
  return (await raw.next(...ANSWERS))?.[0];
}

async function withTicket(raw: Raw, ticket: string): Promise<number | undefined> {
  raw.transport.send(promptRequest(scene.sshd.user));
  assert.ok(await raw.next(MSG.USERAUTH_INFO_REQUEST));
  return await ask(raw, promptAnswer(ticket));
}

const bannerOf = async (raw: Raw): Promise<string> => readData((await raw.next(MSG.USERAUTH_BANNER))!, 1).text();

const connections = (): number => scene.sshd.log().match(/^Connection from/gm)?.length ?? 0;
/** Runs attacks; the target must not have heard of them. */
async function unheard(attacks: () => Promise<void>): Promise<void> {
  const before = connections();
  await attacks();
  assert.equal(connections(), before, 'INV-01: something reached the target');
}

test('the key of a grant gets in; what a client sends of a login behind that is nothing', async () => {
  const raw = await connect();
  assert.equal(await ask(raw, keyRequest(raw, web1.signer)), MSG.USERAUTH_SUCCESS);
  raw.transport.send(keyRequest(raw, bobs.signer));
  raw.transport.send(keyRequest(raw, web1.signer, { user: 'root2' }));
  raw.transport.send(Buffer.from([MSG.USERAUTH_REQUEST]));
  assert.equal(await echo(raw, 'still alice'), 'still alice');
  assert.ok(raw.seen.every((payload) => !ANSWERS.some((number) => number === payload[0])));
  raw.transport.destroy();
});

test('INV-01: a key opens its own grant’s Connection alone; a stranger’s is not even asked for', async () => {
  await unheard(async () => {
    const raw = await connect('web1');
    for (const signer of [web2.signer, ed25519Signer(randomBytes(32))]) {
      assert.equal(await ask(raw, keyRequest(raw, signer, { sign: false })), MSG.USERAUTH_FAILURE);
      assert.equal(await ask(raw, keyRequest(raw, signer)), MSG.USERAUTH_FAILURE);
    }
    // An offer of a key that would open it changes nothing about the next one.
    assert.equal(await ask(raw, keyRequest(raw, web1.signer, { sign: false })), MSG.USERAUTH_PK_OK);
    assert.equal(await ask(raw, keyRequest(raw, web2.signer)), MSG.USERAUTH_FAILURE);
    assert.deepEqual(
      raw.seen.filter((payload) => payload[0] === MSG.USERAUTH_BANNER),
      [],
    );
    raw.transport.destroy();
  });
});

test('INV-01: what one connection signed opens no other', async () => {
  await unheard(async () => {
    const first = await connect();
    const second = await connect();
    const signed = keyRequest(first, web1.signer);
    assert.equal(await ask(second, signed), MSG.USERAUTH_FAILURE);
    assert.equal(await ask(first, signed), MSG.USERAUTH_SUCCESS);
    for (const raw of [first, second]) raw.transport.destroy();
  });
});

test('INV-01: a ticket opens one login at its own Connection, and is used up', async () => {
  const make = (grant: Grant, connection: string): string =>
    issueTicket({
      privateKey: opensshPrivateKeyObject(grant.text),
      grantUid: grant.uid,
      connectionUid: uids[connection]!,
      nowMs: Date.now(),
      random: systemRandom,
    });
  await unheard(async () => {
    const raw = await connect('web1');
    assert.equal(await withTicket(raw, make(web2, 'web2')), MSG.USERAUTH_FAILURE);
    assert.equal(await withTicket(raw, make(web2, 'web1')), MSG.USERAUTH_FAILURE);
    assert.equal(await withTicket(raw, ''), MSG.USERAUTH_FAILURE);
    raw.transport.destroy();
  });
  const ticket = make(web1, 'web1');
  const raw = await connect('web1');
  assert.equal(await withTicket(raw, ticket), MSG.USERAUTH_SUCCESS);
  assert.equal(await echo(raw, 'by ticket'), 'by ticket');
  raw.transport.destroy();
  await unheard(async () => {
    const again = await connect('web1');
    assert.equal(await withTicket(again, ticket), MSG.USERAUTH_FAILURE);
    again.transport.destroy();
  });
});

test('INV-01: a certificate of an authority that nobody trusts, for whomever', async () => {
  const authority = ed25519Signer(randomBytes(32));
  for (const principals of [[alice.as], ['*'], ['root']]) {
    const signer = certificateSigner(web1.signer, { authority, principals });
    await unheard(async () => {
      const raw = await connect();
      assert.equal(await ask(raw, keyRequest(raw, signer, { sign: false })), MSG.USERAUTH_FAILURE);
      assert.equal(await ask(raw, keyRequest(raw, signer)), MSG.USERAUTH_FAILURE);
      raw.transport.destroy();
    });
  }
});

test('a user that the account has not is refused with those it has, and nothing was dialled', async () => {
  await unheard(async () => {
    const raw = await connect();
    assert.equal(await ask(raw, keyRequest(raw, web1.signer, { user: 'nobody-here' })), MSG.USERAUTH_FAILURE);
    assert.ok((await bannerOf(raw)).includes(scene.sshd.user));
    await raw.closed;
  });
});

test('INV-01: no channel before the login, whatever was proven or promised', async () => {
  const open = writeData({ byte: 90 }, { string: 'session' }, { uint32: 0 }, { uint32: 1 << 20 }, { uint32: 32_768 });
  await unheard(async () => {
    for (const first of [
      () => [open],
      (raw: Raw) => [keyRequest(raw, web1.signer, { sign: false }), open],
      (raw: Raw) => [keyRequest(raw, web2.signer), open],
      () => [writeData({ byte: 80 }, { string: 'tcpip-forward' }, { boolean: true }, { string: '' }, { uint32: 0 })],
      () => [Buffer.from([MSG.USERAUTH_SUCCESS]), open],
    ]) {
      const raw = await connect();
      for (const payload of first(raw)) raw.transport.send(payload);
      assert.notEqual(await raw.closed, '');
      assert.ok(raw.seen.every((payload) => payload[0]! < MSG.GLOBAL_REQUEST && payload[0] !== MSG.USERAUTH_SUCCESS));
    }
  });
});

test('INV-03: a grant that was given up opens nothing more, and its owner hears so once the key is proven', async () => {
  const own = await connect();
  assert.equal(await ask(own, keyRequest(own, bobs.signer)), MSG.USERAUTH_SUCCESS);
  const given = await scene.local.cli(['withdraw', bobs.name, '--yes'], bob);
  assert.equal(given.code, 0, given.output);
  assert.match(await own.closed, new RegExp(bobs.name), 'the session that was open ended with it');
  await unheard(async () => {
    const raw = await connect();
    const offered = await ask(raw, keyRequest(raw, bobs.signer, { sign: false }));
    assert.equal(offered, MSG.USERAUTH_PK_OK, 'or clients would not sign, and nobody could be told');
    raw.transport.send(keyRequest(raw, bobs.signer));
    assert.match(await bannerOf(raw), new RegExp(bobs.name));
    assert.equal((await raw.next(MSG.USERAUTH_SUCCESS, MSG.USERAUTH_FAILURE))?.[0], MSG.USERAUTH_FAILURE);
    raw.transport.destroy();
  });
});
