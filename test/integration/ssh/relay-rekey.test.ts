// Keys change on both sides of the relay, often and while data passes: by the gateway towards the client and towards the
// target, by OpenSSH's client, by sshd, and by all of them.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { createSshProtocol } from '../../../src/protocols/ssh/protocol.ts';
import { SYSTEM_TOOLS, transportOpener } from '../../../src/protocols/ssh/transport/open-transport.ts';
import { transparentPolicy } from '../../support/session-context.ts';
import { startSshGateway } from '../../support/ssh-context.ts';
import { startSshd } from '../../support/sshd.ts';

const input = randomBytes(12 << 20);
const digest = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

for (const { by, ours, client, target } of [
  { by: 'the gateway', ours: 3_000_000, client: [], target: [] },
  { by: 'the target', ours: undefined, client: [], target: ['RekeyLimit 1M'] },
  { by: 'client and target', ours: undefined, client: ['-o', 'RekeyLimit=1M'], target: ['RekeyLimit 1M'] },
  { by: 'everybody', ours: 2_000_000, client: ['-o', 'RekeyLimit=1M'], target: ['RekeyLimit 1M'] },
] as const)
  test(`keys are changed by ${by} while data passes both ways, up and down`, async () => {
    const sshd = await startSshd({ config: [...target] });
    const limits = ours === undefined ? SYSTEM_TOOLS.limits : { ...SYSTEM_TOOLS.limits, rekeyBytes: ours };
    const open = transportOpener({ ...SYSTEM_TOOLS, limits });
    const gateway = await startSshGateway({ protocol: createSshProtocol({ open }), sshd, policy: transparentPolicy() });
    try {
      const host = `${sshd.user}@127.0.0.1`;
      const through = (line: string, data: Buffer) =>
        gateway.ssh([...client, host, line], { input: data, timeoutMs: 120_000 });
      const both = await through('cat', input);
      assert.equal(digest(both.stdout), digest(input), both.stderr);
      const up = await through('sha256sum', input);
      assert.equal(up.stdout.toString().split(' ')[0], digest(input), up.stderr);
      const down = await through(`head -c ${input.length} /dev/zero`, Buffer.alloc(0));
      assert.equal(digest(down.stdout), digest(Buffer.alloc(input.length)), down.stderr);
    } finally {
      await gateway.close();
      await sshd.stop();
    }
  });
