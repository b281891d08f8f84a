// The sftp filter in front of OpenSSH's own sftp-server, without any ssh: what a client that is no friend may try.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import fs, { existsSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, afterEach, beforeEach, test } from 'node:test';
import type { FileFacts } from '../../../src/protocols/ssh/facts.ts';
import { createNameLock, type NameLock } from '../../../src/protocols/ssh/files/name-lock.ts';
import { createSftpFilter } from '../../../src/protocols/ssh/files/sftp/filter.ts';
import { ATTR, bytesOf, OPEN_FLAG, packet, STATUS, TYPE } from '../../../src/protocols/ssh/files/sftp/packets.ts';
import {
  below,
  createFakeHost,
  type FakeHost,
  type Ruling,
} from '../../../src/protocols/ssh/files/testing/fake-host.ts';
import {
  at,
  at64,
  createSftpClient,
  handleOf,
  NO_ATTRIBUTES,
  type SftpClient,
} from '../../../src/protocols/ssh/files/testing/sftp-client.ts';
import type { Field } from '../../../src/protocols/ssh/wire/data.ts';
import { systemClock } from '../../../src/system/clock.ts';

const SERVER = ['/usr/lib/openssh/sftp-server', '/usr/libexec/openssh/sftp-server'].find((file) => existsSync(file));
assert.ok(SERVER, 'sftp-server of OpenSSH is not installed');

type Rule = (facts: FileFacts) => Ruling | Promise<Ruling>;

interface Bed {
  client: SftpClient;
  host: FakeHost;
  filter: ReturnType<typeof createSftpFilter>;
  server: ChildProcess;
  exited: Promise<number | null>;
}

const beds: Bed[] = [];
let root: string;
/** What policy permits; what lies beside it in `root` it does not. */
let allowed: string;
let secret: string;

function start(rule: Rule, names: NameLock = createNameLock()): Bed {
  const server = spawn(SERVER!, ['-d', allowed], { stdio: ['pipe', 'pipe', 'ignore'] });
  const client = createSftpClient((data) => filter.fromClient(data));
  const host = createFakeHost({
    toTarget: (data) => server.stdin!.write(data),
    toClient: (data) => client.feed(Buffer.from(data)),
    eofToTarget: () => server.stdin!.end(),
    failed: () => {
      client.ended();
      server.kill();
    },
    rule,
  });
  const filter = createSftpFilter(host, { clock: systemClock, names, targetVersion: 'SSH-2.0-OpenSSH_9.2p1' });
  server.stdout!.on('data', (data: Buffer) => filter.fromTarget(data));
  server.stdout!.on('end', () => {
    filter.targetEof();
    filter.closed();
    client.ended();
  });
  const exited = new Promise<number | null>((resolve) => server.on('exit', resolve));
  const bed = { client, host, filter, server, exited };
  beds.push(bed);
  return bed;
}

async function open(rule: Rule = below(allowed)): Promise<Bed> {
  const bed = start(rule);
  await bed.client.init();
  return bed;
}

beforeEach(() => {
  root = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-sftp-')));
  allowed = path.join(root, 'allowed');
  secret = path.join(root, 'secret');
  fs.mkdirSync(path.join(allowed, 'd'), { recursive: true });
  fs.mkdirSync(secret);
  fs.writeFileSync(path.join(allowed, 'file'), 'permitted');
  fs.writeFileSync(path.join(secret, 'file'), 'hidden');
});
afterEach(async () => {
  for (const { server, exited } of beds.splice(0)) {
    server.kill();
    await exited;
  }
  fs.rmSync(root, { recursive: true, force: true });
});
after(() => assert.equal(beds.length, 0));

const { READ, WRITE, CREAT, TRUNC, EXCL, APPEND } = OPEN_FLAG;
const { PERMISSION_DENIED, FAILURE, OK, NO_SUCH_FILE, OP_UNSUPPORTED, BAD_MESSAGE } = STATUS;

/** Everything below `secret` and its own bits, to prove that nothing of it changed. */
function stateOf(directory: string): string {
  return fs
    .readdirSync(directory, { recursive: true })
    .map((name) => {
      const file = path.join(directory, String(name));
      const stat = fs.lstatSync(file);
      return `${String(name)} ${stat.mode} ${stat.size} ${stat.mtimeMs} ${stat.nlink} ${stat.isFile() ? fs.readFileSync(file, 'latin1') : ''}`;
    })
    .join('\n');
}

test('VERSION offers only extensions that are judged', async () => {
  const { client } = start(() => 'Run');
  const { version, extensions } = await client.init();
  assert.equal(version, 3);
  assert.ok(extensions.has('posix-rename@openssh.com'));
  assert.ok(extensions.has('limits@openssh.com'));
  for (const name of extensions.keys()) assert.doesNotMatch(name, /vendor|newline|acl|check-file/);
  assert.equal(await client.extendedCode('check-file@example.com', at('/etc/passwd')), OP_UNSUPPORTED);
  assert.equal(await client.extendedCode('', at('x')), OP_UNSUPPORTED);
});

test('no spelling of a path gets around what is permitted', async () => {
  fs.symlinkSync(secret, path.join(allowed, 'out'));
  fs.symlinkSync('../secret', path.join(allowed, 'relative'));
  fs.symlinkSync(path.join(secret, 'file'), path.join(allowed, 'd', 'leak'));
  fs.symlinkSync(path.join(secret, 'new'), path.join(allowed, 'dangling'));
  fs.symlinkSync('/', path.join(allowed, 'd', 'everything'));
  const before = stateOf(secret);
  const { client, host } = await open();
  const tricks = [
    `${secret}/file`,
    '../secret/file',
    `${allowed}/../secret/file`,
    `${allowed}/d/../../secret/file`,
    `//${secret}//file`,
    `${allowed}/./../secret/./file`,
    'out/file',
    'out//file',
    './out/../secret/file',
    'relative/file',
    'd/leak',
    `d/everything${secret}/file`,
    'd/everything/etc/passwd',
    'dangling',
    `${allowed}/out/`,
    'out/../../secret/file',
    '/etc/passwd',
    '/proc/self/environ',
    `/proc/self/root${secret}/file`,
    `${allowed}file`,
    `${root}/allowed/../secret`,
  ];
  for (const trick of tricks) {
    const told = (code: number): void =>
      assert.ok([PERMISSION_DENIED, NO_SUCH_FILE, FAILURE].includes(code as 3), `${trick}: ${code}`);
    for (const flags of [READ, WRITE, WRITE | CREAT | TRUNC, READ | WRITE, CREAT, TRUNC, APPEND])
      told(await client.code(TYPE.OPEN, at(trick), { uint32: flags }, NO_ATTRIBUTES));
    told(await client.code(TYPE.STAT, at(trick)));
    told(await client.code(TYPE.OPENDIR, at(trick)));
    told(await client.code(TYPE.REALPATH, at(trick)));
    told(await client.code(TYPE.SETSTAT, at(trick), { uint32: ATTR.SIZE }, at64(0)));
    told(await client.code(TYPE.SETSTAT, at(trick), { uint32: ATTR.PERMISSIONS }, { uint32: 0o777 }));
    told(await client.extendedCode('statvfs@openssh.com', at(trick)));
    told(await client.extendedCode('expand-path@openssh.com', at(trick)));
  }
  assert.equal(stateOf(secret), before);
  for (const { command, ruling } of host.judged)
    if (ruling === 'Run') assert.doesNotMatch(command.text, /secret/, command.text);
});

test('operations on a name act on the name, and only there', async () => {
  fs.symlinkSync(secret, path.join(allowed, 'out'));
  fs.symlinkSync(path.join(secret, 'file'), path.join(allowed, 'leak'));
  const before = stateOf(secret);
  const { client } = await open();
  for (const name of ['out/file', 'out/x', '../secret/file', 'out/../../secret/file']) {
    assert.equal(await client.code(TYPE.REMOVE, at(name)), PERMISSION_DENIED, name);
    assert.equal(await client.code(TYPE.RMDIR, at(name)), PERMISSION_DENIED, name);
    assert.equal(await client.code(TYPE.MKDIR, at(name), NO_ATTRIBUTES), PERMISSION_DENIED, name);
    assert.equal(await client.code(TYPE.LSTAT, at(name)), PERMISSION_DENIED, name);
    assert.equal(await client.code(TYPE.READLINK, at(name)), PERMISSION_DENIED, name);
    for (const [from, to] of [
      [name, 'here'],
      ['file', name],
    ] as const) {
      assert.equal(await client.code(TYPE.RENAME, at(from), at(to)), PERMISSION_DENIED, name);
      assert.equal(await client.extendedCode('posix-rename@openssh.com', at(from), at(to)), PERMISSION_DENIED);
      assert.equal(await client.extendedCode('hardlink@openssh.com', at(from), at(to)), PERMISSION_DENIED);
    }
    assert.equal(
      await client.extendedCode(
        'lsetstat@openssh.com',
        at(name),
        { uint32: ATTR.ACMODTIME },
        { uint32: 1 },
        { uint32: 1 },
      ),
      PERMISSION_DENIED,
    );
  }
  // The link itself lies where it may be looked at and removed; what it leads to does not.
  assert.equal(await client.code(TYPE.LSTAT, at('leak')), OK);
  assert.equal((await client.names(TYPE.READLINK, at('leak')))[0], `${secret}/file`);
  assert.equal(await client.code(TYPE.LSTAT, at('out/')), PERMISSION_DENIED);
  assert.equal(await client.extendedCode('hardlink@openssh.com', at('leak'), at('hard')), PERMISSION_DENIED);
  assert.equal(await client.code(TYPE.REMOVE, at('leak')), OK);
  assert.equal(stateOf(secret), before);
  assert.ok(!existsSync(path.join(allowed, 'leak')));
});

test('a symbolic link is judged by itself and by where it leads', async () => {
  const { client } = await open();
  for (const target of [
    secret,
    '../secret',
    '../../secret',
    `${allowed}/../secret/file`,
    '/',
    '..',
    '/etc/passwd',
    'd/../../secret',
  ])
    assert.equal(await client.code(TYPE.SYMLINK, at(target), at('link')), PERMISSION_DENIED, target);
  assert.equal(await client.code(TYPE.SYMLINK, at('file'), at(`${secret}/link`)), PERMISSION_DENIED);
  assert.equal(await client.code(TYPE.SYMLINK, at(''), at('link')), FAILURE);
  // Relative to the link, not to where the session is.
  assert.equal(await client.code(TYPE.SYMLINK, at('../file'), at('link')), PERMISSION_DENIED);
  assert.equal(await client.code(TYPE.SYMLINK, at('../file'), at('d/link')), OK);
  assert.equal(fs.readlinkSync(path.join(allowed, 'd/link')), '../file');
  assert.equal(await client.code(TYPE.SYMLINK, at('not/there/yet'), at('later')), OK);
  const handle = await client.open('d/link', READ);
  assert.equal(String(await client.read(handle, 0, 100)), 'permitted');
});

test('a hard link or a rename needs what both names would give', async () => {
  const { client, host } = await open();
  assert.equal(await client.extendedCode('hardlink@openssh.com', at('file'), at('hard')), OK);
  assert.equal(await client.code(TYPE.RENAME, at('d'), at('e')), OK);
  assert.equal(await client.extendedCode('posix-rename@openssh.com', at('hard'), at('e/hard')), OK);
  const renamed = host.judged.filter(({ facts }) => /rename/i.test(facts.operation));
  assert.equal(renamed.length, 2);
  for (const { facts } of renamed) {
    assert.ok(facts.access.every(({ subtree }) => subtree));
    assert.deepEqual(
      facts.access.map(({ action }) => action),
      ['Read', 'Write', 'Write'],
    );
  }
});

test('handles: only live ones, for what they were opened for', async () => {
  const { client, host } = await open();
  const reading = await client.open('file', READ);
  const writing = await client.open('new', WRITE | CREAT, 0o600);
  const listing = await client.openDirectory('d');
  const write = (handle: string, text: string): Promise<number> =>
    client.code(TYPE.WRITE, at(handle), at64(0), { string: text });
  const read = (handle: string): Promise<number> => client.code(TYPE.READ, at(handle), at64(0), { uint32: 9 });
  assert.equal(await write(writing, 'abc'), OK);
  assert.equal(await write(reading, 'abc'), FAILURE);
  assert.equal(await write(listing, 'abc'), FAILURE);
  assert.equal(await read(writing), FAILURE);
  assert.equal(await read(listing), FAILURE);
  assert.equal(await client.code(TYPE.READDIR, at(reading)), FAILURE);
  for (const strange of ['', '\0\0\0\x07', 'x'.repeat(256), '0', `${reading}x`]) {
    assert.equal(await read(strange), FAILURE);
    assert.equal(await write(strange, 'abc'), FAILURE);
    assert.equal(await client.code(TYPE.CLOSE, at(strange)), FAILURE);
    assert.equal(await client.code(TYPE.FSTAT, at(strange)), FAILURE);
    assert.equal(await client.code(TYPE.FSETSTAT, at(strange), NO_ATTRIBUTES), FAILURE);
    assert.equal(await client.extendedCode('fsync@openssh.com', at(strange)), FAILURE);
  }
  assert.equal(await client.code(TYPE.CLOSE, at(reading)), OK);
  assert.equal(await read(reading), FAILURE);
  assert.equal(await client.code(TYPE.CLOSE, at(reading)), FAILURE);
  assert.equal(fs.readFileSync(path.join(allowed, 'file'), 'utf8'), 'permitted');
  assert.equal(await client.extendedCode('fsync@openssh.com', at(writing)), OK);
  // Pipelined behind the CLOSE of its handle: it never reaches the server.
  const closed = client.code(TYPE.CLOSE, at(writing));
  const late = write(writing, 'late');
  assert.equal(await closed, OK);
  assert.equal(await late, FAILURE);
  assert.equal(fs.readFileSync(path.join(allowed, 'new'), 'utf8'), 'abc');
  assert.equal(host.failed, undefined);
});

test('what grants is Grant: setuid, setgid, sticky, owners', async () => {
  const { client, host } = await open((facts) =>
    facts.access.some(({ action }) => action === 'Grant') ? 'Refuse' : 'Run',
  );
  for (const mode of [0o4755, 0o2755, 0o1777]) {
    const permissions: Field[] = [{ uint32: ATTR.PERMISSIONS }, { uint32: mode }];
    assert.equal(
      await client.code(TYPE.OPEN, at('setuid'), { uint32: WRITE | CREAT }, ...permissions),
      PERMISSION_DENIED,
    );
    assert.equal(await client.code(TYPE.MKDIR, at('sticky'), ...permissions), PERMISSION_DENIED);
    assert.equal(await client.code(TYPE.SETSTAT, at('file'), ...permissions), PERMISSION_DENIED);
    assert.equal(await client.extendedCode('lsetstat@openssh.com', at('file'), ...permissions), PERMISSION_DENIED);
    const handle = await client.open('file', READ);
    assert.equal(await client.code(TYPE.FSETSTAT, at(handle), ...permissions), PERMISSION_DENIED);
    await client.code(TYPE.CLOSE, at(handle));
  }
  const owner: Field[] = [{ uint32: ATTR.UIDGID }, { uint32: 0 }, { uint32: 0 }];
  assert.equal(await client.code(TYPE.SETSTAT, at('file'), ...owner), PERMISSION_DENIED);
  assert.equal(await client.code(TYPE.SETSTAT, at('file'), { uint32: ATTR.PERMISSIONS }, { uint32: 0o600 }), OK);
  assert.equal(fs.statSync(path.join(allowed, 'file')).mode & 0o7777, 0o600);
  // OPEN and MKDIR set owners of nothing: what else their attributes say is dropped.
  assert.equal(await client.code(TYPE.MKDIR, at('plain'), ...owner), OK);
  // What no server agrees on is not understood.
  assert.equal(await client.code(TYPE.SETSTAT, at('file'), { uint32: 0x8000_0000 }, { uint32: 0 }), BAD_MESSAGE);
  assert.equal(await client.code(TYPE.OPEN, at('file'), { uint32: READ | 0x40 }, NO_ATTRIBUTES), OP_UNSUPPORTED);
  assert.ok(host.told.length > 0);
});

test('opening without any flag still reads, and truncating still writes', async () => {
  const { client, host } = await open((facts) =>
    facts.access.some(({ action }) => action === 'Write') ? 'Refuse' : 'Run',
  );
  for (const flags of [WRITE, APPEND, CREAT, TRUNC, CREAT | EXCL, READ | TRUNC])
    assert.equal(
      await client.code(TYPE.OPEN, at('file'), { uint32: flags }, NO_ATTRIBUTES),
      PERMISSION_DENIED,
      String(flags),
    );
  assert.equal(await client.code(TYPE.OPEN, at('file'), { uint32: 0 }, NO_ATTRIBUTES), OK);
  assert.deepEqual(
    host.judged.map(({ facts }) => facts.access.map(({ action }) => action).join()),
    ['Write', 'Read,Write', 'Read,Write', 'Read,Write', 'Read,Write', 'Read,Write', 'Read'],
  );
});

test('an exclusive open does not follow a link that leads nowhere', async () => {
  fs.symlinkSync(path.join(allowed, 'made-by-link'), path.join(allowed, 'trap'));
  const { client } = await open();
  assert.equal(await client.code(TYPE.OPEN, at('trap'), { uint32: WRITE | CREAT | EXCL }, NO_ATTRIBUTES), FAILURE);
  assert.ok(!existsSync(path.join(allowed, 'made-by-link')));
});

test('paths are bytes: no UTF-8, control characters, long ones, NUL', async () => {
  const { client, host } = await open();
  const odd = 'caf\xe9\xff\n\x1b[31m';
  const handle = await client.open(odd, WRITE | CREAT, 0o600);
  await client.code(TYPE.CLOSE, at(handle));
  assert.ok(fs.readdirSync(allowed, { encoding: 'latin1' }).includes(odd));
  const listing = await client.openDirectory('.');
  assert.ok((await client.names(TYPE.READDIR, at(listing))).includes(odd));
  const opened = host.judged.find(({ facts }) => facts.operation === 'OPEN');
  assert.equal(opened?.facts.access[0]?.path, `${allowed}/${odd}`);
  assert.match(opened.command.text, /caf\\xe9\\xff\\x0a\\x1b\[31m/);
  assert.equal(await client.code(TYPE.STAT, at('file\0/../../secret')), BAD_MESSAGE);
  assert.equal(await client.code(TYPE.STAT, at(`${'a/'.repeat(3000)}b`)), BAD_MESSAGE);
  assert.equal(
    await client.code(TYPE.OPEN, at('n'.repeat(256)), { uint32: WRITE | CREAT }, NO_ATTRIBUTES),
    BAD_MESSAGE,
  );
  assert.equal(host.failed, undefined);
});

test('answers keep the order of requests, whoever answers them', async () => {
  const { client } = await open();
  const handle = await client.open('file', READ);
  const kinds: Promise<number>[] = [];
  for (let round = 0; round < 60; round += 1) {
    kinds.push(client.code(TYPE.STAT, at('file')));
    kinds.push(client.code(TYPE.STAT, at(secret)));
    kinds.push(client.code(TYPE.READ, at(handle), at64(0), { uint32: 4 }));
    kinds.push(client.code(TYPE.READ, at('none'), at64(0), { uint32: 4 }));
    kinds.push(client.code(TYPE.STAT, at('missing')));
    kinds.push(client.code(TYPE.REALPATH, at('.')));
  }
  const codes = await Promise.all(kinds);
  for (let round = 0; round < 60; round += 1)
    assert.deepEqual(codes.slice(round * 6, round * 6 + 6), [OK, PERMISSION_DENIED, OK, FAILURE, NO_SUCH_FILE, OK]);
});

test('requests that were sent together mean what they mean one after another', async () => {
  const { client } = await open();
  const codes = await Promise.all([
    client.code(TYPE.STAT, at('x')),
    client.code(TYPE.MKDIR, at('x'), NO_ATTRIBUTES),
    client.code(TYPE.STAT, at('x')),
    client.code(TYPE.REALPATH, at('x/y')),
    client.code(TYPE.RENAME, at('x'), at('z')),
    client.code(TYPE.STAT, at('x')),
    client.code(TYPE.STAT, at('z')),
    client.code(TYPE.RMDIR, at('z')),
    client.code(TYPE.STAT, at('z')),
  ]);
  assert.deepEqual(codes, [NO_SUCH_FILE, OK, OK, OK, OK, NO_SUCH_FILE, OK, OK, NO_SUCH_FILE]);
});

test('a path that leads elsewhere by the time it is permitted is judged again', async () => {
  let consent: (() => void) | undefined;
  const asked = new Promise<void>((resolve) => {
    const rule = below(allowed);
    const bed = start(async (facts) => {
      if (facts.operation === 'OPEN' && consent === undefined) {
        resolve();
        await new Promise<void>((release) => {
          consent = release;
        });
      }
      return rule(facts);
    });
    beds.length = 0;
    beds.push(bed);
  });
  const [bed] = beds;
  await bed!.client.init();
  const opened = bed!.client.code(TYPE.OPEN, at('file'), { uint32: READ }, NO_ATTRIBUTES);
  await asked;
  // Somebody else at the target, while an approver thinks.
  fs.rmSync(path.join(allowed, 'file'));
  fs.symlinkSync(path.join(secret, 'file'), path.join(allowed, 'file'));
  await new Promise((resolve) => setTimeout(resolve, 1100));
  consent!();
  assert.equal(await opened, PERMISSION_DENIED);
  const rulings = bed!.host.judged.map(({ ruling, facts }) => `${ruling} ${facts.access[0]?.resolved}`);
  assert.deepEqual(rulings, [`Run ${allowed}/file`, `Refuse ${secret}/file`]);
  assert.equal(bed!.host.results.get(1)?.error?.code, 'PathChanged');
});

test('another channel of the connection can not rename between a decision and its use', async () => {
  const names = createNameLock();
  fs.mkdirSync(path.join(allowed, 'inner'));
  fs.writeFileSync(path.join(allowed, 'inner', 'file'), 'permitted');
  const rule = below(allowed);
  // The decision takes a moment, as a record on a disk does.
  const one = start(async (facts) => {
    await new Promise((resolve) => setTimeout(resolve, 2));
    return rule(facts);
  }, names);
  // This one may do everything: it swaps a directory for a link to the secret one, and back, as fast as it can.
  const other = start(() => 'Run', names);
  await Promise.all([one.client.init(), other.client.init()]);
  fs.symlinkSync(secret, path.join(root, 'swap'));
  let stop = false;
  const swapping = (async () => {
    const inner = at(path.join(allowed, 'inner'));
    while (!stop) {
      await other.client.extended('posix-rename@openssh.com', inner, at(path.join(root, 'away')));
      await other.client.extended('posix-rename@openssh.com', at(path.join(root, 'swap')), inner);
      await other.client.extended('posix-rename@openssh.com', inner, at(path.join(root, 'swap')));
      await other.client.extended('posix-rename@openssh.com', at(path.join(root, 'away')), inner);
    }
  })();
  let read = 0;
  for (let round = 0; round < 150; round += 1) {
    const answer = await one.client.request(TYPE.OPEN, at('inner/file'), { uint32: READ }, NO_ATTRIBUTES);
    if (answer.type !== TYPE.HANDLE) continue;
    const handle = handleOf(answer);
    const data = String(await one.client.read(handle, 0, 100));
    assert.equal(data, 'permitted');
    read += 1;
    await one.client.code(TYPE.CLOSE, at(handle));
  }
  stop = true;
  await swapping;
  assert.ok(read > 0, 'it was never there');
});

test('a held operation holds up what comes behind it, and nothing is lost', async () => {
  let release: ((ruling: Ruling) => void) | undefined;
  const { client, host } = await open((facts) =>
    facts.operation === 'MKDIR' ? new Promise<Ruling>((resolve) => (release = resolve)) : 'Run',
  );
  const handle = await client.open('w', WRITE | CREAT, 0o600);
  const order: string[] = [];
  const made = client.code(TYPE.MKDIR, at('held'), NO_ATTRIBUTES).then((code) => order.push(`mkdir ${code}`));
  const wrote = client
    .code(TYPE.WRITE, at(handle), at64(0), { string: 'behind' })
    .then((code) => order.push(`write ${code}`));
  const looked = client.code(TYPE.STAT, at('held')).then((code) => order.push(`stat ${code}`));
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.deepEqual(order, []);
  assert.equal(fs.statSync(path.join(allowed, 'w')).size, 0);
  release!('Run');
  await Promise.all([made, wrote, looked]);
  assert.deepEqual(order, ['mkdir 0', 'write 0', 'stat 0']);
  assert.equal(host.failed, undefined);
});

test('a refused operation leaves the session usable; end of input ends the server', async () => {
  const { client, host, filter, exited } = await open();
  assert.equal(await client.code(TYPE.REMOVE, at(`${secret}/file`)), PERMISSION_DENIED);
  assert.equal(await client.code(TYPE.STAT, at('file')), OK);
  const last = client.code(TYPE.STAT, at('d'));
  filter.clientEof();
  assert.equal(await last, OK);
  assert.equal(await exited, 0);
  assert.ok(host.targetEof);
  assert.match(host.told.join(), /refused sftp REMOVE/);
});

test('copy-data goes from a handle that reads to one that writes', async () => {
  const { client, host } = await open();
  const from = await client.open('file', READ);
  const to = await client.open('copy', WRITE | CREAT, 0o600);
  const copy = (a: string, b: string): Promise<number> =>
    client.extendedCode('copy-data', at(a), at64(0), at64(0), at(b), at64(0));
  assert.equal(await copy(to, from), FAILURE);
  assert.equal(await copy(from, 'none'), FAILURE);
  const supported = (await copy(from, to)) === OK;
  if (supported) assert.equal(fs.readFileSync(path.join(allowed, 'copy'), 'utf8'), 'permitted');
  const judged = host.judged.find(({ facts }) => facts.operation === 'copy-data');
  assert.deepEqual(
    judged?.facts.access.map(({ action, path: at }) => `${action} ${at}`),
    [`Read ${allowed}/file`, `Write ${allowed}/copy`],
  );
});

test('digests: of what came in order, from where it began; none of what did not', async () => {
  const { client, host } = await open();
  const data = randomBytes(200_000);
  const write = (handle: string, from: number, to: number): Promise<number> =>
    client.code(TYPE.WRITE, at(handle), at64(from), { string: data.subarray(from, to) });
  const first = await client.open('one', WRITE | CREAT, 0o600);
  await Promise.all([write(first, 0, 70_000), write(first, 70_000, 140_000), write(first, 140_000, 200_000)]);
  await client.code(TYPE.CLOSE, at(first));
  const second = await client.open('two', WRITE | CREAT, 0o600);
  await Promise.all([write(second, 100, 70_000), write(second, 70_000, 70_100)]);
  await client.code(TYPE.CLOSE, at(second));
  const third = await client.open('three', WRITE | CREAT, 0o600);
  await Promise.all([write(third, 0, 10), write(third, 20, 30)]);
  await client.code(TYPE.CLOSE, at(third));
  const fourth = await client.open('one', READ);
  const reads = [0, 60_000, 120_000, 180_000].map((offset) => client.read(fourth, offset, 60_000));
  assert.deepEqual(Buffer.concat(await Promise.all(reads)), data);
  await client.code(TYPE.CLOSE, at(fourth));
  await new Promise((resolve) => setTimeout(resolve, 200));
  const facts = [...host.results.values()].map((result) => (result.facts as { ssh: Record<string, unknown> }).ssh);
  const sha = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
  assert.deepEqual(facts[0], { written: { bytes: 200_000, sha256: sha(data) }, closed: 'Client' });
  assert.deepEqual(facts[1], {
    written: { bytes: 70_000, sha256: sha(data.subarray(100, 70_100)), from: 100 },
    closed: 'Client',
  });
  assert.deepEqual(facts[2], { written: { bytes: 20, scattered: true }, closed: 'Client' });
  assert.deepEqual(facts[3], { read: { bytes: 200_000, sha256: sha(data) }, closed: 'Client' });
});

test('INV-11: packets that are none end the client that sent them', async () => {
  const bad: [string, Buffer][] = [
    ['too long', Buffer.from('7fffffff0300000001', 'hex')],
    ['a byte too long', Buffer.from('000400010300000001', 'hex')],
    ['too short', Buffer.from('0000000103', 'hex')],
    ['WRITE without data', packet(TYPE.WRITE, { uint32: 1 }, { string: bytesOf('h') })],
    [
      'WRITE of another length',
      packet(TYPE.WRITE, { uint32: 1 }, { string: bytesOf('h') }, at64(0), { uint32: 9 }, { raw: Buffer.alloc(8) }),
    ],
    [
      'WRITE with a long handle',
      packet(TYPE.WRITE, { uint32: 1 }, { string: Buffer.alloc(300) }, at64(0), { string: '' }),
    ],
  ];
  for (const [name, bytes] of bad) {
    const { client, host } = await open();
    client.raw(bytes);
    assert.equal(host.failed?.side, 'Client', name);
  }
  const early = start(() => 'Run');
  early.client.raw(packet(TYPE.OPEN, { uint32: 1 }, at('x'), { uint32: 1 }, NO_ATTRIBUTES));
  assert.equal(early.host.failed?.side, 'Client');
  const old = start(() => 'Run');
  old.client.raw(packet(TYPE.INIT, { uint32: 2 }));
  assert.equal(old.host.failed?.side, 'Client');
});
