// Clients that are not OpenSSH's through the gateway to a real sshd: they order their messages in ways of their own.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before, test } from 'node:test';
import { createSshProtocol } from '../../../src/protocols/ssh/protocol.ts';
import { transparentPolicy } from '../../support/session-context.ts';
import { collect, type SshGateway, startSshGateway } from '../../support/ssh-context.ts';
import { type Sshd, startSshd } from '../../support/sshd.ts';
import { missing, tools } from '../../support/tools.ts';

let sshd: Sshd;
let gateway: SshGateway;

before(async () => {
  sshd = await startSshd();
  gateway = await startSshGateway({ protocol: createSshProtocol(), sshd, policy: transparentPolicy() });
});
after(async () => {
  await gateway?.close();
  await sshd?.stop();
});

async function python(script: string): Promise<unknown> {
  const args = ['-c', script, String(gateway.port), sshd.user, gateway.keyFile];
  const ran = await collect(spawn(tools.sshPython!, args, { stdio: 'pipe' }), undefined, 60_000);
  assert.equal(ran.code, 0, ran.stderr);
  return JSON.parse(ran.stdout.toString());
}

test('paramiko: exec with input, a shell, variables, sftp', { skip: missing('sshPython') }, async () => {
  const result = await python(`
import json, paramiko, sys
port, user, key = int(sys.argv[1]), sys.argv[2], sys.argv[3]
client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect('127.0.0.1', port, user, key_filename=key, look_for_keys=False, allow_agent=False)
i, o, e = client.exec_command('cat; echo err >&2; exit 3')
i.write('abc')
i.channel.shutdown_write()
first = [o.read().decode(), e.read().decode(), o.channel.recv_exit_status()]
shell = client.invoke_shell()
shell.send('echo shell$((1+1))\\nexit\\n')
screen = b''
while True:
    data = shell.recv(4096)
    if not data:
        break
    screen += data
_, o, _ = client.exec_command('echo "$LANG"', environment={'LANG': 'C.sally'})
language = o.read().decode()
sftp = client.open_sftp()
size = sftp.stat('/etc/passwd').st_size
client.close()
print(json.dumps([first, b'shell2' in screen, language, size > 0]))
`);
  assert.deepEqual(result, [['abc', 'err\n', 3], true, 'C.sally\n', true]);
});

test('asyncssh: many sessions on one connection, input and its end, a terminal', {
  skip: missing('sshPython'),
}, async () => {
  const result = await python(`
import asyncio, asyncssh, json, sys
port, user, key = int(sys.argv[1]), sys.argv[2], sys.argv[3]
async def main():
    async with asyncssh.connect('127.0.0.1', port, username=user, client_keys=[key], known_hosts=None) as c:
        one = await c.run('cat; exit 4', input='hello')
        many = await asyncio.gather(*[c.run(f'echo {at}') for at in range(8)])
        tty = await c.run('stty size', term_type='xterm', term_size=(77, 22))
        big = await c.run('wc -c', input='x' * 3000000)
        print(json.dumps([one.stdout, one.exit_status, [m.stdout for m in many], tty.stdout, big.stdout.strip()]))
asyncio.run(main())
`);
  assert.deepEqual(result, ['hello', 4, Array.from({ length: 8 }, (_, at) => `${at}\n`), '22 77\r\n', '3000000']);
});
