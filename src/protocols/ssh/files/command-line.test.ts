import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type FileCommand, fileCommandOf, rsyncPlaces } from './command-line.ts';

const of = (line: string): FileCommand | undefined => fileCommandOf(line.split(' '));

test('the server sides of sftp and scp', () => {
  assert.deepEqual(of('/usr/lib/openssh/sftp-server'), { kind: 'SftpServer' });
  assert.deepEqual(of('/usr/libexec/openssh/sftp-server -l INFO -u 0002'), { kind: 'SftpServer' });
  assert.equal(of('/tmp/sftp-server'), undefined);
  assert.equal(of('/usr/lib/openssh/sftp-server -Q requests'), undefined);
  assert.deepEqual(of('scp -t /srv/x'), {
    kind: 'Scp',
    mode: 'Write',
    paths: ['/srv/x'],
    recursive: false,
    directory: false,
  });
  assert.deepEqual(of('scp -v -r -p -d -t -- -x'), {
    kind: 'Scp',
    mode: 'Write',
    paths: ['-x'],
    recursive: true,
    directory: true,
  });
  assert.deepEqual(of('scp -rf /a /b'), {
    kind: 'Scp',
    mode: 'Read',
    paths: ['/a', '/b'],
    recursive: true,
    directory: false,
  });
  for (const no of [
    'scp',
    'scp -t',
    'scp -t -f /x',
    'scp -t /a /b',
    'scp /a b:/c',
    'scp -S /tmp/x -t /y',
    'scp -t /x -r',
    'scp -oProxyCommand=x -f /y',
    '/tmp/scp -t /x',
    'scpx -t /x',
  ])
    assert.equal(of(no), undefined, no);
  assert.deepEqual(fileCommandOf(['scp', '-f', '/häuser']), {
    kind: 'Scp',
    mode: 'Read',
    paths: [Buffer.from('/häuser').toString('latin1')],
    recursive: false,
    directory: false,
  });
});

// Lines as rsync 3.5 sends them.
test('rsync tells what it may touch', () => {
  const pull = of('rsync --server --sender -logDtpre.iLsfxCIvu . /src/dir');
  assert.deepEqual(pull, {
    kind: 'Rsync',
    direction: 'Read',
    paths: ['/src/dir'],
    hidden: undefined,
    grants: false,
    deletes: false,
    others: [],
  });
  const push = of('rsync --server -vlogDtprze.iLsfxCIvu --delete --partial . /dst');
  assert.ok(push?.kind === 'Rsync' && push.direction === 'Write' && push.grants && push.deletes);
  assert.deepEqual(
    rsyncPlaces(push).map(({ action, spelled }) => `${action} ${spelled}`),
    ['Read /dst', 'Write /dst', 'Grant /dst'],
  );
  const plain = of('rsync --server -vltre.iLsfxCIvu . backup/../here');
  assert.ok(plain?.kind === 'Rsync' && !plain.grants);
  assert.deepEqual(
    rsyncPlaces(plain).map(({ spelled }) => spelled),
    ['backup/../here', 'backup/../here'],
  );
  const backup = of('rsync --server -blogDtpre.LsfxCIvu --backup-dir /etc/x --link-dest ../old . /dst/new');
  assert.ok(backup?.kind === 'Rsync');
  assert.deepEqual(
    rsyncPlaces(backup).map(({ action, spelled }) => `${action} ${spelled}`),
    ['Read /dst/new', 'Write /dst/new', 'Grant /dst/new', 'Write /etc/x', 'Grant /etc/x', 'Read /dst/new/../old'],
  );
  const moving = of('rsync --server --sender -logDtpre.iLsfxCIvu --remove-source-files . /src');
  assert.ok(moving?.kind === 'Rsync');
  assert.deepEqual(
    rsyncPlaces(moving).map(({ action }) => action),
    ['Read', 'Write'],
  );
});

test('rsync that hides its paths says why', () => {
  const hidden = (line: string): string | undefined => {
    const command = of(line);
    assert.ok(command?.kind === 'Rsync', line);
    return command.hidden;
  };
  assert.match(hidden('rsync --server --sender -slogDtpre.iLsfxCIvu') ?? '', /secluded/);
  assert.match(hidden('rsync --server -s') ?? '', /secluded/);
  assert.match(hidden('rsync --server --sender -unlLkWogDtprcxSe.iLsfxCIvu . /src') ?? '', /links/);
  assert.match(hidden('rsync --server --sender -logDtpre.iLsfxCIvu --copy-unsafe-links . /src') ?? '', /links/);
  assert.match(hidden('rsync --server --sender -logDtpRe.LsfxCIvu --files-from=- --from0 . /src') ?? '', /list/);
  assert.match(hidden('rsync --server -logDtpRe.LsfxCIvu . /dst') ?? '', /relative/);
  assert.equal(
    hidden('rsync --server -nlogDtpre.iLsfxCIvu --log-format=%i --timeout=3 --max-size=10485760 --size-only . /dst'),
    undefined,
  );
});

test('rsync with anything else is a command like any other', () => {
  for (const no of [
    'rsync -a /a /b',
    'rsync --server',
    'rsync --server /a /b',
    'rsync --server . /a /b',
    'rsync --server -logDtpr --rsh=x . /a',
    'rsync --server -logDtpr --log-file=/etc/x . /a',
    'rsync --server --daemon .',
    'rsync --server --config=/tmp/x --daemon .',
    'rsync --server -logDtpre.iLsfxCIvu --write-devices . /a',
    'rsync --server -logDtpre.iLsfxCIvu --suffix=/../x . /a',
    'rsync --server -logDtpre.iLsfxCIvu --partial-dir',
    'rsync --server -Z . /a',
    'rsync --server -ex . /a',
    '/tmp/rsync --server -l . /a',
  ])
    assert.equal(of(no), undefined, no);
});
