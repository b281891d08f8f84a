// OpenSSH's ssh through the gateway to a real sshd: exec, exit status, streams in both directions.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createSshProtocol } from '../../../src/protocols/ssh/protocol.ts';
import { transparentPolicy } from '../../support/session-context.ts';
import { type SshGateway, startSshGateway } from '../../support/ssh-context.ts';
import { type Sshd, startSshd } from '../../support/sshd.ts';

let sshd: Sshd;
let gateway: SshGateway;
let host: string;

before(async () => {
  sshd = await startSshd();
  gateway = await startSshGateway({ protocol: createSshProtocol(), sshd, policy: transparentPolicy() });
  host = `${sshd.user}@127.0.0.1`;
});
after(async () => {
  await gateway?.close();
  await sshd?.stop();
});

test('a command runs at the target; its output and exit status come back', async () => {
  const ran = await gateway.ssh([host, 'echo out; echo err >&2; exit 7']);
  assert.equal(ran.stdout.toString(), 'out\n');
  assert.equal(ran.stderr, 'err\n');
  assert.equal(ran.code, 7);
});
