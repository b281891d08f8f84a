import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allowed, held } from '../../../test/support/ssh-command-lines/allowed.ts';
import { denied } from '../../../test/support/ssh-command-lines/denied.ts';
import { notUnderstood } from '../../../test/support/ssh-command-lines/not-understood.ts';
import { LINE_RULES } from '../../../test/support/ssh-command-lines/rules.ts';
import { KINDS } from '../../api/kinds.ts';
import type { Rule } from '../../api/policy.ts';
import { validateValue } from '../../api/validate.ts';
import type { CompiledRule } from '../../policy/bundle.ts';
import type { Command } from '../../policy/command.ts';
import { compilePolicies } from '../../policy/compile.ts';
import { conditionsFor } from '../../policy/conditions.ts';
import { decide } from '../../policy/decide.ts';
import { explain } from '../../policy/explain.ts';
import { prepareSessionPolicy } from '../../policy/prepare-session.ts';
import type { SessionPolicy } from '../../policy/session-policy.ts';
import { alice, connection, policy } from '../../policy/test-resources.ts';
import {
  commandOfEnvironment,
  commandOfExec,
  commandOfFeature,
  commandOfFile,
  commandOfForward,
  commandOfShell,
  commandOfSubsystem,
} from './commands.ts';
import { parseDestination, socketDestination } from './forwarding/destination.ts';
import { sshRules } from './rules.ts';

const target = {
  ...connection('web'),
  spec: { type: 'SSH' as const, ssh: { host: 'web.internal' }, accounts: [{ name: 'reader' }] },
};

function under(rules: readonly Rule[], enforcement: 'Enforce' | 'Warn' = 'Enforce'): SessionPolicy {
  const own = policy('team', { rules: [...rules], enforcement } as never);
  const shard = compilePolicies({
    connection: target,
    policies: [own],
    clusterPolicies: [],
    broken: [],
    protocol: sshRules,
  });
  assert.deepEqual(
    shard.policies.map(({ problem }) => problem),
    [undefined],
  );
  return prepareSessionPolicy(shard, { policy: 'payments/team', principal: alice, generation: 1 }, sshRules);
}

const exec = (line: string | Buffer, more: { loginShell?: 'Other'; transfer?: 'scp'; user?: string } = {}): Command =>
  commandOfExec(line, { user: 'deploy', pty: false, ...more });
const got = (session: SessionPolicy, command: Command): string => {
  const decision = decide(session, command);
  return decision.kind === 'Deny' ? `Deny ${decision.code}` : decision.kind;
};
const allow = (ssh: Rule['ssh'], name = 'a'): Rule => ({
  name,
  action: 'Allow',
  ...(ssh === undefined ? {} : { ssh }),
});
const deny = (ssh: Rule['ssh'], name = 'd'): Rule => ({ name, action: 'Deny', ...(ssh === undefined ? {} : { ssh }) });

test('INV-01: command lines of the corpus are decided as they must be', () => {
  const session = under(LINE_RULES);
  assert.ok(allowed.length + held.length + denied.length + notUnderstood.length >= 200);
  for (const line of allowed) assert.equal(got(session, exec(line)), 'Allow', JSON.stringify(line));
  for (const line of held) assert.equal(got(session, exec(line)), 'Hold', JSON.stringify(line));
  for (const line of denied)
    assert.match(got(session, exec(line)), /^Deny (RuleDenied|NoRuleAllows)$/, JSON.stringify(line));
});

test('INV-02: what is not understood is denied wherever a rule applies, and passes under one plain Allow', () => {
  const session = under(LINE_RULES);
  const plain = under([allow(undefined)]);
  const warned = prepareWarned();
  for (const line of notUnderstood) {
    assert.equal(got(session, exec(line)), 'Deny NotUnderstood', JSON.stringify(line));
    assert.equal(got(plain, exec(line)), 'Allow', JSON.stringify(line));
    assert.equal(got(warned, exec(line)), 'Deny NotUnderstood', JSON.stringify(line));
  }
});

function prepareWarned(): SessionPolicy {
  const own = policy('team', { rules: [allow(undefined)] } as never);
  const trial = policy('trial', { rules: [deny({ commands: ['x'] })], enforcement: 'Warn' } as never);
  const shard = compilePolicies({
    connection: target,
    policies: [own, trial],
    clusterPolicies: [],
    broken: [],
    protocol: sshRules,
  });
  return prepareSessionPolicy(shard, { policy: 'payments/team', principal: alice, generation: 1 }, sshRules);
}

test('INV-11: NUL, bytes that are no text and lines without end are refused by every policy', () => {
  const plain = under([allow(undefined)]);
  for (const line of [
    Buffer.from('echo a\0b'),
    Buffer.from([0x65, 0xff, 0xfe]),
    Buffer.alloc(64 * 1024 + 1, 0x61),
    '\ud800',
  ])
    assert.equal(got(plain, exec(line)), 'Deny NotUnderstood');
  assert.equal(got(plain, exec(Buffer.alloc(64 * 1024, 0x61))), 'Allow');
});

test('where a Deny or Hold is in force, only an Allow that names a program permits it', () => {
  const any = under([allow(undefined), deny({ commands: ['reboot'] })]);
  assert.equal(got(any, exec('ls')), 'Deny NoRuleAllows');
  assert.equal(got(any, commandOfShell({ user: 'deploy', pty: true })), 'Deny NoRuleAllows');
  assert.equal(got(any, commandOfSubsystem({ user: 'deploy', name: 'netconf' })), 'Deny NoRuleAllows');
  assert.equal(got(any, commandOfSubsystem({ user: 'deploy', name: 'sftp' })), 'Allow');
  const refused = decide(any, exec('ls'));
  assert.ok(refused.kind === 'Deny');
  assert.equal(refused.message, 'Sallyport refused exec ls: no rule allows Execute on ls');
  assert.match(refused.hint ?? '', /allows it only in general, and it needs an Allow rule that names it/);
  assert.match(explain(any, exec('ls'), sshRules).rules.at(-1)!.why, /does not name it/);
  const star = under([allow({ commands: ['*'] }), deny({ commands: ['reboot'] })]);
  assert.equal(got(star, exec('ls')), 'Deny NoRuleAllows');
  const named = under([allow({ commands: ['ls **'] }), deny({ commands: ['reboot'] })]);
  assert.equal(got(named, exec('ls -l')), 'Allow');
  // Without a Deny the same Allow is enough, and a warning is no Deny.
  assert.equal(got(under([allow({ commands: ['**'] })]), exec('ls; cat x')), 'Allow');
  assert.equal(got(prepareWarned(), exec('ls')), 'Allow');
});

test('an Allow is exact in its words', () => {
  const session = under([
    allow({ commands: ['svc restart nginx-*', 'show **', 'get /srv/*/x', 'all /srv/**', 'one *', 'two * b'] }),
  ]);
  for (const line of [
    'svc restart nginx-a',
    'svc restart nginx-',
    'show',
    'show a "b c" $x *',
    'get /srv/a/x',
    'all /srv/a/b',
    'one a',
    'two a b',
  ])
    assert.equal(got(session, exec(line)), 'Allow', line);
  for (const line of [
    'svc',
    'svc restart',
    'svc restart nginx-a b',
    'svc restart nginx-a/b',
    'svc restart nginx-$x',
    'svc restart "nginx-$x"',
    'svc restart nginx-*',
    'svc  stop nginx-a',
    'Svc restart nginx-a',
    '/bin/svc restart nginx-a',
    'svc restart -f nginx-a',
    'shows',
    'get /srv/a/b/x',
    'get /srv/../x',
    'all /srv/../etc',
    'all /srv/a/..',
    'one -a',
    'one --a',
    'one a/b',
    'one',
    'one a b',
    'one $x',
    'one "$x"',
    'two a',
    'two a c',
    'two b',
  ])
    assert.equal(got(session, exec(line)), 'Deny NoRuleAllows', line);
});

test('a Deny is generous in its words', () => {
  const session = under([
    allow({ commands: ['svc **', '/bin/svc **', 'env **', 'rm **', 'sh **'] }),
    deny({ commands: ['svc stop', 'rm * /data'] }),
  ]);
  for (const line of [
    'svc stop',
    'svc stop a',
    'svc -q stop a',
    'svc -H host stop',
    'svc --now stop a',
    '/bin/svc stop',
    'svc $x',
    'svc * a',
    'svc -q $x',
    'svc STOP',
    'rm -r /data',
    'rm -r -f /data',
    'rm x /data',
    'rm -rf "$x"',
    'svc "$x" a',
    'env svc stop',
    "sh -c 'svc stop'",
  ])
    assert.equal(got(session, exec(line)), 'Deny RuleDenied', line);
  for (const line of ['svc start', 'svc start stop', 'svc start $x', 'rm x'])
    assert.equal(got(session, exec(line)), 'Allow', line);
});

test('users: an Allow without them is about the session’s own, a Deny about all', () => {
  const session = under([allow({ commands: ['id'] }), allow({ commands: ['ls **'], users: ['app', 'root'] }, 'b')]);
  for (const line of [
    'id',
    'sudo -u deploy id',
    'sudo -u app ls',
    'sudo ls -l',
    "su -c 'ls'",
    "sudo sh -c 'ls; ls'",
    'doas ls',
  ])
    assert.equal(got(session, exec(line)), 'Allow', line);
  for (const line of [
    'ls',
    'sudo id',
    'sudo -u app id',
    'sudo -u bob ls',
    "sudo -u app sh -c 'ls; id'",
    'sudo -u app ls; ls',
  ])
    assert.equal(got(session, exec(line)), 'Deny NoRuleAllows', line);
  const noRoot = under([allow({ commands: ['id', 'sudo id'], users: ['*'] }), deny({ users: ['root'] })]);
  assert.equal(got(noRoot, exec('sudo -u app id')), 'Allow');
  for (const line of ['sudo id', 'doas id', 'sudo -u \\#0 id', 'sudo -u \\#1 id'])
    assert.equal(got(noRoot, exec(line)), 'Deny RuleDenied', line);
  assert.equal(got(noRoot, exec('id', { user: 'root' })), 'Deny RuleDenied');
});

test('a pattern may spell a wrapper out, down to the name of what it runs', () => {
  const session = under([
    allow({
      commands: ['sudo systemctl restart nginx-*', "sh -c 'a; b'", 'env **', 'sudo -u app nice run **', 'sudo * x'],
    }),
    deny({ commands: ['never'] }),
  ]);
  for (const line of ['sudo systemctl restart nginx-a', "sh -c 'a; b'", 'sudo -u app nice run x y'])
    assert.equal(got(session, exec(line)), 'Allow', line);
  for (const line of [
    'systemctl restart nginx-a',
    'sudo systemctl stop nginx-a',
    'sudo -u app systemctl restart nginx-a',
    'env ls',
    'env sudo ls',
    "sh -c 'a; c'",
    'sudo ls x',
  ])
    assert.equal(got(session, exec(line)), 'Deny NoRuleAllows', line);
});

test('a shell, and an interpreter that reads what comes, need `shell`', () => {
  const without = under([
    allow({ commands: ['sh', 'bash **', 'python3 **', 'cat **'] }),
    deny({ commands: ['never'] }),
  ]);
  for (const line of ['sh', 'bash', 'bash -s', 'python3', 'python3 -u', 'cat x | sh'])
    assert.equal(got(without, exec(line)), 'Deny NoRuleAllows', line);
  for (const line of ['python3 x.py', 'python3 -c 1', 'bash x.sh'])
    assert.equal(got(without, exec(line)), 'Allow', line);
  const shell = under([allow({ shell: true }), deny({ commands: ['never'] })]);
  for (const line of ['sh', 'bash -l', 'python3']) assert.equal(got(shell, exec(line)), 'Allow', line);
  assert.equal(got(shell, commandOfShell({ user: 'deploy', pty: true })), 'Allow');
  for (const line of ['ls', 'bash x.sh', 'sudo -i', 'cat x | sh'])
    assert.equal(got(shell, exec(line)), 'Deny NoRuleAllows', line);
  const root = under([allow({ shell: true, users: ['root'] })]);
  assert.equal(got(root, exec('sudo -i')), 'Allow');
  assert.equal(got(root, commandOfShell({ user: 'deploy', pty: true })), 'Deny NoRuleAllows');
  const denied = under([allow(undefined), deny({ shell: true })]);
  for (const line of ['sh', 'echo x | python3', 'sudo -s'])
    assert.equal(got(denied, exec(line)), 'Deny RuleDenied', line);
});

const file = (
  action: 'Read' | 'Write' | 'Grant',
  path: string,
  more: { resolved?: string; subtree?: boolean } = {},
): Command =>
  commandOfFile({
    user: 'deploy',
    via: 'sftp',
    operation: 'OPEN',
    access: [{ action, path, subtree: false, ...more }],
  });

test('paths: lexical and resolved form must both pass, and either is denied', () => {
  const session = under([allow({ paths: ['/srv/**', '/var/log/*.log'] }), deny({ paths: ['/srv/secret/**'] })]);
  for (const command of [
    file('Read', '/srv/a'),
    file('Write', '/srv'),
    file('Read', '/srv/a', { resolved: '/srv/b' }),
    file('Read', '/var/log/x.log'),
  ])
    assert.equal(got(session, command), 'Allow', command.text);
  for (const command of [
    file('Read', '/etc/x'),
    file('Read', '/srv/a', { resolved: '/etc/shadow' }),
    file('Read', '/var/log/a/x.log'),
    file('Read', '/srvx'),
    file('Read', '/var/log/x.log', { subtree: true }),
    file('Read', '/srv/../etc'),
    file('Read', 'srv/a'),
    file('Read', ''),
  ])
    assert.match(got(session, command), /^Deny/, command.text);
  for (const command of [
    file('Read', '/srv/secret/a'),
    file('Read', '/srv/secret'),
    file('Read', '/srv/a', { resolved: '/srv/secret/a' }),
    file('Write', '/srv', { subtree: true }),
  ])
    assert.equal(got(session, command), 'Deny RuleDenied', command.text);
});

test('writes to hidden files and directories of programs must be spelled out', () => {
  const wide = under([allow({ paths: ['/**'] })]);
  const paths = [
    '/home/d/.bashrc',
    '/home/d/.ssh/authorized_keys',
    '/home/d/.ssh',
    '/usr/local/bin/ls',
    '/home/d/bin/x',
    '/etc/profile',
    '/etc/profile.d/x.sh',
    '/etc/cron.d/x',
    '/etc/sudoers.d/x',
    '/home/d/.config/fish/config.fish',
    '/etc/ld.so.preload',
    '/home/d/.zshenv',
    '/usr/lib/x.so',
    '/home/d/.profile',
  ];
  for (const path of paths) {
    assert.equal(got(wide, file('Write', path)), 'Deny NoRuleAllows', path);
    assert.equal(got(wide, file('Read', path)), 'Allow', path);
    assert.equal(got(wide, file('Write', '/srv/x', { resolved: path })), 'Deny NoRuleAllows', path);
  }
  const listed = under([allow({ paths: ['/home/*/.ssh/**', '/usr/local/bin/deploy-*'] })]);
  assert.equal(got(listed, file('Write', '/home/d/.ssh/authorized_keys')), 'Allow');
  assert.equal(got(listed, file('Write', '/usr/local/bin/deploy-x')), 'Allow');
  assert.equal(got(listed, file('Write', '/usr/local/bin/x')), 'Deny NoRuleAllows');
  // Even a plain Allow, once anything is denied.
  assert.equal(
    got(under([allow(undefined), deny({ commands: ['x'] })]), file('Write', '/home/d/.bashrc')),
    'Deny NoRuleAllows',
  );
});

test('effects narrow paths; a Deny of paths is about words of programs too', () => {
  const session = under([allow({ paths: ['/srv/**'], effects: ['Read'] })]);
  assert.equal(got(session, file('Read', '/srv/a')), 'Allow');
  for (const action of ['Write', 'Grant'] as const)
    assert.equal(got(session, file(action, '/srv/a')), 'Deny NoRuleAllows');
  const words = under([allow({ commands: ['cat **', 'dd **'] }), deny({ paths: ['/etc/shadow'] })]);
  assert.equal(got(words, exec('cat /etc/passwd')), 'Allow');
  for (const line of [
    'cat /etc/shadow',
    'cat /etc//shadow',
    'dd if=/etc/./shadow',
    'cat </etc/shadow',
    'cat <../etc/shadow',
  ])
    assert.equal(got(words, exec(line)), 'Deny RuleDenied', line);
});

test('a transfer starts where paths are permitted, and only by itself', () => {
  const session = under([allow({ paths: ['/srv/**'] }), deny({ commands: ['never'] })]);
  assert.equal(got(session, exec('scp -t /srv', { transfer: 'scp' })), 'Allow');
  assert.equal(got(session, exec('scp -t /srv')), 'Deny NoRuleAllows');
  assert.equal(got(session, exec('scp -t /srv; ls', { transfer: 'scp' })), 'Deny NoRuleAllows');
  assert.equal(got(session, exec('sudo scp -t /srv', { transfer: 'scp' })), 'Deny NoRuleAllows');
  assert.equal(got(session, commandOfSubsystem({ user: 'deploy', name: 'sftp' })), 'Allow');
});

const server = { host: 'web.internal', port: 22 };
const forward = (host: string, port: number, direction: 'Local' | 'Remote' = 'Local'): Command => {
  const destination = parseDestination(host, port);
  assert.ok(destination, host);
  return commandOfForward({ user: 'deploy', direction, destination, server });
};

test('forwards: a range never permits a name, and always may deny one', () => {
  const session = under([
    allow({ forwarding: ['10.0.0.0/8:5432', 'db.internal:5432', '*.svc:80-89', '[fd00::/8]:443', '/run/app.sock'] }),
  ]);
  for (const command of [
    forward('10.1.2.3', 5432),
    forward('0x0a010203', 5432),
    forward('167838211', 5432),
    forward('10.66051', 5432),
    forward('::ffff:10.1.2.3', 5432),
    forward('012.1.2.3', 5432),
    forward('DB.internal.', 5432),
    forward('a.svc', 85),
    forward('fd00::1', 443),
    forward('[FD00:0:0::1]', 443),
    commandOfForward({ user: 'deploy', direction: 'Local', destination: socketDestination('/run/app.sock'), server }),
  ])
    assert.equal(got(session, command), 'Allow', command.text);
  for (const command of [
    forward('11.1.2.3', 5432),
    forward('ten.internal', 5432),
    forward('10.1.2.3', 5433),
    forward('a.svc', 90),
    forward('fe00::1', 443),
    forward('10.1.2.3', 5432, 'Remote'),
    forward('1.2.3.4', 80),
    forward('db.internal.evil', 5432),
    commandOfForward({
      user: 'deploy',
      direction: 'Local',
      destination: socketDestination('/run/../run/app.sock'),
      server,
    }),
  ])
    assert.equal(got(session, command), 'Deny NoRuleAllows', command.text);
  const range = under([
    allow({ forwarding: ['*:*', 'listen:127.0.0.1:8000-8999'] }),
    deny({ forwarding: ['10.0.0.0/8:*'] }),
  ]);
  assert.equal(got(range, forward('11.0.0.1', 80)), 'Allow');
  assert.equal(got(range, forward('127.0.0.1', 8080, 'Remote')), 'Allow');
  assert.match(got(range, forward('', 8080, 'Remote')), /^Deny/);
  for (const command of [forward('10.0.0.1', 80), forward('any.example', 80), forward('::ffff:a00:1', 80)])
    assert.equal(got(range, command), 'Deny RuleDenied', command.text);
  const name = under([allow({ forwarding: ['*:*'] }), deny({ forwarding: ['db.internal:5432'] })]);
  for (const command of [
    forward('db.internal', 5432),
    forward('db', 5432),
    forward('10.0.0.1', 5432),
    forward('DB.INTERNAL.', 5432),
  ])
    assert.equal(got(name, command), 'Deny RuleDenied', command.text);
  assert.equal(got(name, forward('db.internal', 80)), 'Allow');
});

test('metadata and sshds are forwarded to only where a rule spells them out', () => {
  const plain = under([allow(undefined)]);
  const wide = under([allow({ forwarding: ['*:*', '0.0.0.0/0:*', '*:22'] })]);
  const guarded = [
    forward('169.254.169.254', 80),
    forward('0xa9fea9fe', 80),
    forward('2852039166', 80),
    forward('::ffff:169.254.169.254', 80),
    forward('metadata.google.internal', 80),
    forward('169.254.169.254.nip.io', 80),
    forward('fd00:ec2::254', 80),
    forward('64:ff9b::a9fe:a9fe', 80),
    forward('localhost', 22),
    forward('127.1', 22),
    forward('::1', 22),
    forward('other', 22),
  ];
  for (const command of guarded) {
    assert.equal(got(plain, command), 'Deny NoRuleAllows', command.text);
    assert.equal(got(wide, command), 'Deny NoRuleAllows', command.text);
  }
  const listed = under([allow({ forwarding: ['169.254.169.254:80', 'other:22'] })]);
  assert.equal(got(listed, forward('169.254.169.254', 80)), 'Allow');
  assert.equal(got(listed, forward('other', 22)), 'Allow');
  assert.equal(got(plain, forward('db.internal', 5432)), 'Allow');
});

test('agent and x11 are let through by name alone, a tunnel never', () => {
  const plain = under([allow(undefined)]);
  const listed = under([allow({ forwarding: ['agent', 'x11'] })]);
  const feature = (name: 'AgentForwarding' | 'X11Forwarding' | 'Tunnel') =>
    commandOfFeature({ user: 'deploy', feature: name });
  for (const name of ['AgentForwarding', 'X11Forwarding', 'Tunnel'] as const) {
    assert.equal(got(plain, feature(name)), 'Deny NoRuleAllows');
    assert.equal(got(listed, feature(name)), name === 'Tunnel' ? 'Deny NoRuleAllows' : 'Allow');
  }
});

test('variables: four by any Allow, some by none, others by name', () => {
  const session = under([allow({ env: ['APP_*', '*'] })]);
  const set = (name: string) => commandOfEnvironment({ user: 'deploy', name });
  for (const name of ['LANG', 'LC_ALL', 'TERM', 'GIT_PROTOCOL', 'APP_X', 'FOO'])
    assert.equal(got(session, set(name)), 'Allow', name);
  for (const session2 of [session, under([allow(undefined)])])
    for (const name of ['PATH', 'LD_PRELOAD', 'BASH_ENV', 'IFS', 'GIT_SSH_COMMAND', 'path', '', 'A=B', 'BASH_FUNC_x%%'])
      assert.equal(got(session2, set(name)), 'Deny NoRuleAllows', name);
  assert.equal(got(under([allow({ commands: ['x'] })]), set('LANG')), 'Allow');
  assert.equal(got(under([allow({ commands: ['x'] })]), set('FOO')), 'Deny NoRuleAllows');
});

test('a shell that is not known: whole lines only', () => {
  const session = under([allow({ commands: ['show **', 'request "x; y"', 'ping *'] })]);
  const line = (text: string) => exec(text, { loginShell: 'Other' });
  for (const text of ['show version', 'show', 'ping 10.0.0.1', 'request "x; y"'])
    assert.equal(got(session, line(text)), 'Allow', text);
  for (const text of [
    'show version; reboot',
    'show a | x',
    'show (reboot)',
    'show $x',
    'ping a b',
    'reboot',
    ' show a',
    'show  a',
    'show a\nreboot',
  ])
    assert.equal(got(session, line(text)), 'Deny NoRuleAllows', text);
  const guarded = under([allow({ commands: ['show **', 'show "a b"'] }), deny({ commands: ['reboot'] })]);
  assert.equal(got(guarded, line('show x')), 'Allow');
  for (const text of ['reboot', 'show reboot', 'show "a b"', 'and reboot now'])
    assert.match(got(guarded, line(text)), /^Deny/, text);
});

test('the condition of a policy says where a rule about files is advisory', () => {
  const messageOf = (rules: readonly Rule[]): string => {
    const own = policy('team', { rules: [...rules] } as never);
    const input = { connection: target, policies: [own], clusterPolicies: [], broken: [], protocol: sshRules };
    const [compiled] = compilePolicies(input).policies;
    return conditionsFor([{ on: 'web', policy: compiled! }])[0]!.message;
  };
  const secrets = deny({ paths: ['/secret/**'] }, 'secrets');
  for (const other of [allow(undefined), allow({ commands: ['cat **'] }), allow({ shell: true })])
    assert.match(messageOf([other, secrets]), /Advisory beside programs and shells.*rule "secrets"/);
  assert.doesNotMatch(messageOf([allow({ paths: ['/srv/**'] }), secrets]), /Advisory/);
  assert.doesNotMatch(messageOf([allow({ commands: ['cat **'] })]), /Advisory/);
});

test('presets are what their names say', () => {
  const readOnly = under([{ name: 'p', preset: 'ReadOnly' }]);
  assert.equal(got(readOnly, file('Read', '/etc/hosts')), 'Allow');
  assert.equal(got(readOnly, file('Write', '/tmp/x')), 'Deny NoRuleAllows');
  assert.equal(got(readOnly, exec('ls')), 'Deny NoRuleAllows');
  const readWrite = under([{ name: 'p', preset: 'ReadWrite' }]);
  assert.equal(got(readWrite, file('Write', '/tmp/x')), 'Allow');
  assert.equal(got(readWrite, file('Grant', '/tmp/x')), 'Deny NoRuleAllows');
  const holds = under([
    allow({ commands: ['id', 'ls **'], users: ['*'] }),
    allow({ paths: ['/**'] }, 'b'),
    { name: 'p', preset: 'HoldSchemaAndPrivilegeChanges', hold: { approvers: [] } },
  ]);
  assert.equal(got(holds, exec('ls')), 'Allow');
  for (const line of ['sudo id', 'sudo -u app ls', 'doas id', 'su -c id'])
    assert.equal(got(holds, exec(line)), 'Hold', line);
  assert.equal(got(holds, file('Grant', '/srv/x')), 'Hold');
});

test('lint: what can never match is told with what to write', () => {
  const cases: [NonNullable<Rule['ssh']>, RegExp][] = [
    [{ commands: ['a'], shell: true }, /a rule for each/],
    [{ effects: ['Read'] }, /write paths/],
    [{ shell: false }, /write true/],
    [{ commands: ['a ** b'] }, /last word/],
    [{ commands: ['a; b'] }, /one by one/],
    [{ commands: ["a 'b"] }, /quote/],
    [{ commands: [' '] }, /no word/],
    [{ paths: ['srv'] }, /absolute/],
    [{ paths: ['/a/../b'] }, /never match/],
    [{ paths: ['/a/b**'] }, /part of its own/],
    [{ forwarding: ['db'] }, /port/],
    [{ forwarding: ['10.*:80'] }, /ranges/],
    [{ forwarding: ['fd00::1:80'] }, /brackets/],
    [{ forwarding: ['10.0.0.0/33:80'] }, /range/],
    [{ forwarding: ['a:70000'] }, /port/],
    [{ env: ['PATH'] }, /never set/],
    [{ env: ['A-B'] }, /name/],
    [{ users: ['a b'] }, /user/],
  ];
  for (const [matcher, expected] of cases)
    assert.match(sshRules.lint(matcher).join('\n'), expected, JSON.stringify(matcher));
  assert.deepEqual(sshRules.lint({ commands: ['a "b; c" **', '/x/y *'], users: ['root'] }), []);
  assert.ok(validateValue(KINDS.AccessPolicy.spec as never, { connectionSelector: {}, subjects: [], accounts: ['a'] }));
});

test('advice: what rules can not keep', () => {
  const advice = (rules: readonly Rule[]): string =>
    sshRules.advise!(
      rules.map(({ name, action, ssh }) => ({
        name,
        action: action as CompiledRule['action'],
        enforce: true,
        matcher: ssh,
      })),
    )
      .map(({ rule, message }) => `${rule}: ${message}`)
      .join('\n');
  assert.match(
    advice([allow(undefined), deny({ commands: ['rm -rf'] })]),
    /d: .*names options.*[^]*d: .*permits no program/,
  );
  assert.match(advice([allow({ shell: true }), deny({ commands: ['rm'] })]), /d: .*opens shells/);
  assert.match(advice([allow({ commands: ['cat **'] }), deny({ paths: ['/x'] })]), /d: .*advisory/);
  assert.match(advice([allow({ commands: ['vi **'] })]), /a: .*whatever vi/);
  assert.match(advice([allow({ commands: ['*'] }), deny({ commands: ['x'] })]), /a: .*names no program/);
  assert.match(advice([allow({ commands: ['x'] }), deny({ forwarding: ['db.internal:1'] })]), /d: .*by a name/);
  assert.equal(advice([allow({ commands: ['ls', 'cat /srv/*'] }), deny({ forwarding: ['10.0.0.0/8:*'] })]), '');
});
