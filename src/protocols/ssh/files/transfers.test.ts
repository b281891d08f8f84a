import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../../system/clock.ts';
import { commandOfExec, commandOfSubsystem } from '../commands.ts';
import type { SshCommand } from '../facts.ts';
import { createNameLock } from './name-lock.ts';
import { createFakeHost, type FakeHost, type Ruling } from './testing/fake-host.ts';
import { fileFilterFor, transferOf } from './transfers.ts';

const of = (line: string): string | undefined => transferOf(Buffer.from(line));
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function filterOf(command: SshCommand, rule: Ruling = 'Run') {
  const sent = { target: '', client: '' };
  const host: FakeHost = createFakeHost({
    toTarget: (data) => (sent.target += data.toString('latin1')),
    toClient: (data) => (sent.client += data.toString('latin1')),
    rule: () => rule,
  });
  return {
    sent,
    host,
    filter: fileFilterFor(command, host, {
      clock: systemClock,
      names: createNameLock(),
      askTarget: async () => undefined,
    }),
  };
}
const exec = (line: string): SshCommand =>
  commandOfExec(line, { user: 'deploy', pty: false, transfer: transferOf(Buffer.from(line)) });

test('only a line that is nothing but a transfer is one', () => {
  assert.equal(of('scp -t /srv/x'), 'scp');
  assert.equal(of("scp -f 'a b'"), 'scp');
  assert.equal(of('/usr/lib/openssh/sftp-server'), 'sftp');
  assert.equal(of('rsync --server --sender -ltre.iLsfxCIvu . /srv'), 'rsync');
  for (const line of [
    'scp -t /srv/x; id',
    'scp -t /srv/x && id',
    'scp -t $(id)',
    'scp -t /srv/*',
    'scp -t ~/x',
    'scp -t /srv/x > /etc/passwd',
    'PATH=/tmp scp -t /srv/x',
    'sudo scp -t /srv/x',
    'scp -t /srv/x | sh',
    'echo scp -t /srv/x',
    'scp -t "unclosed',
    '',
  ])
    assert.equal(of(line), undefined, line);
});

test('each transfer has its filter, and nothing else has one', () => {
  assert.ok(filterOf(commandOfSubsystem({ user: 'deploy', name: 'sftp' })).filter);
  assert.equal(filterOf(commandOfSubsystem({ user: 'deploy', name: 'netconf' })).filter, undefined);
  assert.equal(filterOf(exec('id')).filter, undefined);
  assert.equal(filterOf(exec('scp -t /srv/x; id')).filter, undefined);
  for (const line of ['scp -t /srv/x', '/usr/lib/openssh/sftp-server', 'rsync --server -ltre.iLsfxCIvu . /srv'])
    assert.ok(filterOf(exec(line)).filter, line);
});

test('rsync passes nothing either way before it is judged, and then everything', async () => {
  const { filter, sent, host } = filterOf(exec('rsync --server -ltre.iLsfxCIvu . /srv'));
  assert.ok(filter);
  filter.fromClient(Buffer.from('hello'));
  filter.fromTarget(Buffer.from('world'));
  filter.clientEof();
  assert.deepEqual(sent, { target: '', client: '' });
  assert.equal(filter.heldBytes.client, 5);
  await turn();
  assert.deepEqual(sent, { target: 'hello', client: 'world' });
  assert.ok(host.targetEof);
  filter.closed();
  assert.deepEqual(host.results.get(1), { bytes: 10, facts: { ssh: { fromTarget: 5, toTarget: 5 } } });
});

test('rsync that is refused ends with the status of a refusal; what it hides counts as everything', async () => {
  const { filter, sent, host } = filterOf(exec('rsync --server -s -lDtre.iLsfxCIvu'), 'Refuse');
  assert.ok(filter);
  filter.fromClient(Buffer.from('hello'));
  await turn();
  assert.equal(host.finished, 77);
  assert.deepEqual(sent, { target: '', client: '' });
  assert.deepEqual(
    host.judged[0]?.facts.access.map(({ action, path, subtree }) => `${action} ${path} ${subtree}`),
    ['Read / true', 'Write / true', 'Grant / true'],
  );
  assert.match(host.told.join('\n'), /secluded/);
});
