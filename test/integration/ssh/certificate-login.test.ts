// A person's certificate from their identity provider's authority, all the way: made by ssh-keygen, shown by ssh, judged by a
// real gateway, and a real sshd behind it that sees our certificate, never theirs.
import assert from 'node:assert/strict';
import { after, before, type TestContext, test } from 'node:test';
import { EVERY_CONNECTION } from '../../../src/policy/bundle.ts';
import { userAuthorityOf } from '../../../src/protocols/ssh/keys/derive.ts';
import { publicKeyLine } from '../../../src/protocols/ssh/keys/known-hosts.ts';
import { createSshProtocol } from '../../../src/protocols/ssh/protocol.ts';
import { CONNECTION_UID, grantFor, type Harness, rule, startHarness, until } from '../../support/gateway-harness.ts';
import {
  certificateClient,
  type Ran,
  rightCertificate,
  wrongCertificates,
} from '../../support/ssh-certificate-client.ts';
import { newSeed, type Sshd, startSshd } from '../../support/sshd.ts';
import { tokenIssuer } from '../../support/token-issuer.ts';

const seed = newSeed();
const client = certificateClient();
let sshd: Sshd;

before(async () => {
  sshd = await startSshd({ userAuthority: publicKeyLine(userAuthorityOf({ seed }).blob) });
});
after(async () => {
  await sshd?.stop();
  client.remove();
});

async function start(t: TestContext): Promise<Harness> {
  const h = await startHarness(t, {
    bare: true,
    protocols: [createSshProtocol()],
    keysFor: () => ({ seed, certificates: () => [] }),
  });
  h.clock.setWall(Date.now());
  h.policy(
    { rules: [rule('all', 'Allow')] },
    {
      type: 'SSH',
      ssh: { host: '127.0.0.1', port: sshd.port, hostKeys: [sshd.hostKey] },
      accounts: [{ name: 'reader', certificate: { users: [sshd.user] } }],
    },
  );
  const ssh = {
    userAuthorities: [client.authorityKey],
    principals: 'Username' as const,
  };
  h.publish('identity', { providers: [tokenIssuer(h.clock).provider({ ssh })] }, { connectionUid: EVERY_CONNECTION });
  h.grants(grantFor(h.clock, { principal: { username: 'corp:ana', groups: ['payments'], aliases: [] } }));
  h.overlay();
  h.heartbeat();
  await until(() => h.gateway.endpoints().size > 0, 'it listens');
  return h;
}

/** Where `ssh` goes. */
const to = (h: Harness): { port: number; user: string; seed: Buffer } => ({
  port: h.gateway.endpoints().get(CONNECTION_UID)!.port,
  user: sshd.user,
  seed,
});
const ssh = (h: Harness, certificate: readonly string[], command = 'echo in'): Promise<Ran> =>
  client.ssh(to(h), { certificate, command });

const GOOD = rightCertificate('ana');

test('a certificate of the provider’s authority opens the grant of the person it names', async (t) => {
  const h = await start(t);
  const ran = await ssh(h, GOOD);
  assert.equal(ran.stdout, 'in\n', ran.stderr);
  assert.match(sshd.log(), /Accepted publickey for \S+ .* ID sallyport session=\S+ grant=\S+ user=corp:ana /);
  assert.doesNotMatch(sshd.log(), /@laptop/);
  const several = await ssh(h, ['-n', 'somebody,ana', '-V', '-1m:+5m', '-z', '77']);
  assert.equal(several.stdout, 'in\n', several.stderr);
});

test('INV-01: a certificate that is not quite that opens nothing, and the target never hears of it', async (t) => {
  const h = await start(t);
  const heard = (): number => sshd.log().match(/^Connection from/gm)?.length ?? 0;
  const before = heard();
  for (const run of wrongCertificates('ana')) {
    const ran = await client.ssh(to(h), run);
    assert.equal(ran.code, 255, `${run.certificate.join(' ')}: ${ran.stderr}`);
    assert.equal(ran.stdout, '');
    assert.match(ran.stderr, /Permission denied|Too many/);
  }
  assert.equal(heard(), before);
});

test('a certificate that permits no terminal gets none, here and at the target; what policy allows still runs', async (t) => {
  const h = await start(t);
  const onTerminal = (certificate: string[]): Promise<Ran> =>
    client.ssh(to(h), { certificate, command: 'tty || true', options: { RequestTTY: 'force' } });
  const without = await onTerminal([...GOOD, '-O', 'clear']);
  assert.match(without.stderr, /PTY allocation request failed/);
  assert.equal(without.stdout, '', 'a client that insists gives up then');
  const plain = await ssh(h, [...GOOD, '-O', 'clear'], 'tty || true');
  assert.match(plain.stdout, /not a tty/, plain.stderr);
  const permitted = await onTerminal(GOOD);
  assert.match(permitted.stdout, /\/dev\/pts/, permitted.stderr);
});

test('a certificate that is bound to an address opens from there', async (t) => {
  const h = await start(t);
  const ran = await ssh(h, [...GOOD, '-O', 'source-address=127.0.0.0/8']);
  assert.equal(ran.stdout, 'in\n', ran.stderr);
});
