// The target's door, which all users of a gateway share: many who come at once, a session that ends while it is being opened,
// and an account that is refused. sshd counts what it does not like against the one address they all come from.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import { type TestContext, test } from 'node:test';
import type { Credential } from '../../../src/protocols/credential.ts';
import { signerOf } from '../../../src/protocols/ssh/keys/signer.ts';
import { createSshProtocol } from '../../../src/protocols/ssh/protocol.ts';
import { connectUpstream } from '../../../src/protocols/ssh/upstream/connect.ts';
import { UpstreamError } from '../../../src/protocols/ssh/upstream/error.ts';
import { MSG } from '../../../src/protocols/ssh/wire/message-numbers.ts';
import { systemClock } from '../../../src/system/clock.ts';
import { systemRandom } from '../../../src/system/random.ts';
import { upstreamLogin } from '../../support/ssh-auth.ts';
import { type SshGateway, startSshGateway } from '../../support/ssh-context.ts';
import { keyRequest, serviceRequest } from '../../support/ssh-login-messages.ts';
import { echo, type RawClient, rawConnection } from '../../support/ssh-raw-client.ts';
import { sshPolicy } from '../../support/ssh-rules.ts';
import { type Sshd, type SshdOptions, startSshd } from '../../support/sshd.ts';

interface Bed {
  sshd: Sshd;
  gateway: SshGateway;
  /** Somebody who has logged in at the gateway, and asked for nothing yet. */
  login(): Promise<RawClient>;
}

async function start(
  t: TestContext,
  config: SshdOptions['config'],
  credential?: (sshd: Sshd) => Credential,
): Promise<Bed> {
  const sshd = await startSshd({ config: config ?? [] });
  t.after(() => sshd.stop());
  const gateway = await startSshGateway({
    protocol: createSshProtocol(),
    sshd,
    policy: sshPolicy({ all: { action: 'Allow' } }),
    ...(credential === undefined ? {} : { credential: credential(sshd) }),
  });
  t.after(() => gateway.close());
  const signer = signerOf(fs.readFileSync(gateway.keyFile, 'utf8'));
  return {
    sshd,
    gateway,
    async login() {
      const raw = await rawConnection(gateway.port);
      t.after(() => raw.transport.destroy());
      raw.transport.send(serviceRequest());
      raw.transport.send(keyRequest(raw.transport, { user: sshd.user, signer }));
      assert.ok(await raw.next(MSG.USERAUTH_SUCCESS));
      return raw;
    },
  };
}

const count = (sshd: Sshd, what: RegExp): number => sshd.log().match(what)?.length ?? 0;

test('a hundred who come at once all get in where sshd takes ten (MaxStartups 10:30:100)', async (t) => {
  const { sshd, login } = await start(t, ['MaxStartups 10:30:100', 'LogLevel DEBUG1']);
  const everybody: RawClient[] = [];
  for (let at = 0; at < 100; at += 1) everybody.push(await login());
  const said = await Promise.all(everybody.map((raw, at) => echo(raw, `in ${at}`)));
  assert.deepEqual(
    said,
    everybody.map((_, at) => `in ${at}`),
  );
  assert.equal(count(sshd, /MaxStartups/g), 0);
});

test('who is turned away at the target’s door knocks again', async (t) => {
  const { sshd, login } = await start(t, ['MaxStartups 2:100:2', 'LogLevel DEBUG1']);
  const everybody: RawClient[] = [];
  for (let at = 0; at < 16; at += 1) everybody.push(await login());
  const said = await Promise.all(everybody.map((raw, at) => echo(raw, `in ${at}`)));
  assert.deepEqual(
    said,
    everybody.map((_, at) => `in ${at}`),
  );
  assert.ok(count(sshd, /MaxStartups/g) > 0, 'some were turned away');
});

test('an account that is refused is tried by a few, not by all who wait', async (t) => {
  const stranger = await startSshd();
  t.after(() => stranger.stop());
  const { sshd, login } = await start(t, [], ({ user, port }) => ({
    kind: 'Key',
    username: user,
    privateKey: stranger.privateKey,
    hosts: [`127.0.0.1:${port}`],
  }));
  const everybody: RawClient[] = [];
  for (let at = 0; at < 40; at += 1) everybody.push(await login());
  await Promise.all(everybody.map((raw) => echo(raw, 'in')));
  const tried = count(sshd, /^Connection from/gm);
  assert.ok(tried > 0 && tried <= 16, `${tried} logins`);
});

test('INV-03: a session that ends while the target is being reached leaves no login half-way', async (t) => {
  const sshd = await startSshd();
  t.after(() => sshd.stop());
  const reach = (signal: AbortSignal, dialled: () => void, stop?: AbortSignal): Promise<unknown> =>
    connectUpstream({
      target: { host: '127.0.0.1', port: sshd.port, hostKeys: [sshd.hostKey] },
      dial: ({ host, port }) =>
        new Promise((resolve, reject) => {
          const socket = net.connect({ host, port });
          socket.once('error', reject);
          socket.once('connect', () => {
            resolve(socket);
            // The key exchange has begun by then, and is not over.
            socket.once('data', dialled);
          });
        }),
      clock: systemClock,
      random: systemRandom,
      signal,
      ...(stop === undefined ? {} : { stop }),
      login: upstreamLogin(
        { kind: 'Key', username: sshd.user, privateKey: sshd.privateKey, hosts: [] },
        { user: sshd.user },
      ),
    });
  const session = new AbortController();
  await assert.rejects(
    reach(session.signal, () => session.abort()),
    (error) => error instanceof UpstreamError && error.code === 'Ended',
  );
  const until = async (what: RegExp): Promise<void> => {
    const deadline = Date.now() + 10_000;
    while (count(sshd, what) === 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
    assert.ok(count(sshd, what) > 0, sshd.log());
  };
  await until(/Accepted publickey/g);
  assert.equal(count(sshd, /\[preauth\]/g), 0, 'or sshd would count it against the gateway’s address');
  // Where the gateway itself is stopped nothing is waited for, and sshd does write that down.
  const gateway = new AbortController();
  await assert.rejects(
    reach(session.signal, () => undefined, gateway.signal),
    UpstreamError,
  );
  await assert.rejects(
    reach(new AbortController().signal, () => gateway.abort(), gateway.signal),
    UpstreamError,
  );
  await until(/\[preauth\]/g);
});
