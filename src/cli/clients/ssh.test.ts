import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { hostBlock, sshArguments } from './ssh.ts';

const files = { knownHosts: '/home/a b/100%/known_hosts', identity: '/home/a b/100%/identity' };
const target = { host: '127.0.0.1', port: 4022, user: 'deploy', alias: 'web1.payments.sallyport' };

/** What OpenSSH makes of a configuration, by its own words. */
function understood(args: readonly string[]): Map<string, string> {
  const text = execFileSync('ssh', ['-G', ...args], { encoding: 'utf8' });
  return new Map(text.split('\n').map((line) => [line.split(' ', 1)[0]!, line.slice(line.indexOf(' ') + 1)]));
}

test('INV-01: whatever the person’s own configuration says, the gateway is believed by its published keys alone', (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-ssh-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  const own = path.join(folder, 'config');
  fs.writeFileSync(
    own,
    'Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  HostKeyAlias evil\n  ControlPath /tmp/%C\n  ProxyCommand nc evil 22\n  User root\n',
  );
  const [, ...args] = sshArguments(target, files, undefined);
  const told = understood(['-F', own, ...args]);
  assert.equal(told.get('stricthostkeychecking'), 'true');
  assert.equal(told.get('userknownhostsfile'), files.knownHosts);
  assert.equal(told.get('hostkeyalias'), target.alias);
  assert.equal(told.get('user'), 'deploy');
  assert.equal(told.get('controlpath') ?? 'none', 'none');
  assert.equal(told.get('proxycommand') ?? 'none', 'none');
  assert.equal(told.get('identitiesonly'), 'yes');
});

test('a block holds for its names, runs what prepares it first, and never turns checking off', (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-ssh-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  const config = path.join(folder, 'config');
  const mark = path.join(folder, 'prepared');
  const block = (prepare: string): string =>
    hostBlock({
      names: ['web1'],
      alias: target.alias,
      user: 'deploy',
      files,
      proxyCommand: 'sallyport proxy-command payments/web1',
      prepare,
      comment: 'Connection payments/web1',
    });
  fs.writeFileSync(config, `${block(`touch ${mark}`)}\nHost *\n  StrictHostKeyChecking no\n`);
  for (const name of ['web1', target.alias]) {
    const told = understood(['-F', config, name]);
    assert.ok(fs.existsSync(mark), 'prepared');
    fs.rmSync(mark);
    assert.equal(told.get('stricthostkeychecking'), 'true');
    assert.equal(told.get('proxycommand'), 'sallyport proxy-command payments/web1');
    assert.equal(told.get('hostkeyalias'), target.alias);
    assert.equal(told.get('user'), 'deploy');
    assert.match(told.get('identityfile') ?? '', /identity$/);
  }
  const other = understood(['-F', config, 'web2']);
  assert.ok(!fs.existsSync(mark));
  assert.equal(other.get('stricthostkeychecking'), 'false');
  fs.writeFileSync(config, block('false'));
  assert.doesNotMatch(understood(['-F', config, 'web1']).get('identityfile') ?? '', /100%/);
  assert.throws(() =>
    hostBlock({
      names: [],
      alias: 'a',
      user: undefined,
      files: { ...files, identity: '/a"b' },
      proxyCommand: '',
      prepare: '',
      comment: '',
    }),
  );
});
