// The filter of the old scp protocol in front of the real `scp -t` and `scp -f`, without any ssh: whole trees both ways
// with a client of our own that obeys, and one that does not.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import type { FileFacts } from '../../../src/protocols/ssh/facts.ts';
import { type AskTarget, LookupError, leads } from '../../../src/protocols/ssh/files/lookup.ts';
import { createNameLock } from '../../../src/protocols/ssh/files/name-lock.ts';
import { createOutlet } from '../../../src/protocols/ssh/files/outlet.ts';
import { createScpFilter, type ScpOptions } from '../../../src/protocols/ssh/files/scp/filter.ts';
import { createUpstream } from '../../../src/protocols/ssh/files/sftp/upstream.ts';
import {
  below,
  createFakeHost,
  type FakeHost,
  type Ruling,
} from '../../../src/protocols/ssh/files/testing/fake-host.ts';
import { systemClock } from '../../../src/system/clock.ts';

interface Bed {
  host: FakeHost;
  /** What the client was sent and has not read. */
  got: () => Buffer;
  send(data: Buffer | string): void;
  /** The next so many bytes of the target. */
  read(count: number): Promise<Buffer>;
  line(): Promise<string>;
  eof(): void;
  exited: Promise<number | null>;
}

let root: string;
let allowed: string;
let secret: string;
const children: ChildProcess[] = [];

beforeEach(() => {
  root = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-scp-')));
  allowed = path.join(root, 'allowed');
  secret = path.join(root, 'secret');
  fs.mkdirSync(allowed);
  fs.mkdirSync(secret);
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill();
  fs.rmSync(root, { recursive: true, force: true });
});

type Asked = Omit<ScpOptions, 'clock' | 'names' | 'askTarget'> & { askTarget?: AskTarget };

function start(options: Asked, rule: (facts: FileFacts) => Ruling | Promise<Ruling>): Bed {
  const flags = [
    options.recursive ? ['-r'] : [],
    options.directory ? ['-d'] : [],
    options.mode === 'Read' ? ['-f'] : ['-t'],
  ];
  const server = spawn('scp', [...flags.flat(), ...options.paths], { stdio: ['pipe', 'pipe', 'ignore'], cwd: allowed });
  children.push(server);
  let got = Buffer.alloc(0);
  let wake = (): void => {};
  const host = createFakeHost({
    toTarget: (data) => server.stdin.write(data),
    toClient(data) {
      got = Buffer.concat([got, data]);
      wake();
    },
    eofToTarget: () => server.stdin.end(),
    failed() {
      server.kill();
      wake();
    },
    rule,
  });
  const filter = createScpFilter(host, { ...unaided(), ...options });
  server.stdin.on('error', () => {});
  server.stdout.on('data', (data: Buffer) => filter.fromTarget(data));
  const exited = new Promise<number | null>((resolve) =>
    server.on('close', (code) => {
      filter.targetEof();
      filter.closed();
      resolve(code);
      wake();
    }),
  );
  const read = async (count: number): Promise<Buffer> => {
    while (got.length < count) {
      assert.equal(host.failed, undefined);
      assert.equal(server.exitCode, null, 'the target is gone');
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    const taken = got.subarray(0, count);
    got = got.subarray(count);
    return taken;
  };
  return {
    host,
    got: () => got,
    send: (data) => filter.fromClient(Buffer.from(data)),
    read,
    async line() {
      let line = '';
      for (;;) {
        const byte = (await read(1)).toString('latin1');
        if (byte === '\n' || (byte === '\0' && line === '')) return line + byte;
        line += byte;
      }
    },
    eof: () => filter.clientEof(),
    exited,
  };
}

/** A target without sftp. */
const unaided = () => ({ clock: systemClock, names: createNameLock(), askTarget: () => Promise.resolve(undefined) });

/** The real sftp-server tells where paths lead, from the directory that scp begins in. */
const aided: AskTarget = async () => {
  const server = spawn('/usr/lib/openssh/sftp-server', { stdio: ['pipe', 'pipe', 'ignore'], cwd: allowed });
  children.push(server);
  const upstream = createUpstream(
    createOutlet((data) => server.stdin.write(data)),
    (text) => assert.fail(text),
  );
  server.stdout.on('data', (data: Buffer) => upstream.feed(data));
  upstream.start();
  await upstream.version;
  const start = await leads(upstream, '.');
  assert.ok(start.kind === 'Path');
  return { home: start.path, leads: (spelled) => leads(upstream, spelled), done: () => server.kill() };
};

const sha = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
const writing = (more: Partial<Asked> = {}): Asked => ({
  mode: 'Write',
  paths: [allowed],
  recursive: true,
  directory: true,
  ...more,
});

test('a tree goes to the target: each file judged, counted, hashed', async () => {
  const bed = start(writing(), below(allowed));
  const data = randomBytes(300_000);
  assert.equal(await bed.line(), '\0');
  for (const line of ['T1000000000 0 1000000000 0\n', 'D0755 0 tree\n']) {
    bed.send(line);
    assert.equal(await bed.line(), '\0');
  }
  bed.send(`C0640 ${data.length} deep\n`);
  assert.equal(await bed.line(), '\0');
  bed.send(data.subarray(0, 1000));
  bed.send(Buffer.concat([data.subarray(1000), Buffer.from([0])]));
  assert.equal(await bed.line(), '\0');
  bed.send('C0644 0 empty\n');
  assert.equal(await bed.line(), '\0');
  bed.send('\0');
  assert.equal(await bed.line(), '\0');
  bed.send('E\n');
  assert.equal(await bed.line(), '\0');
  bed.eof();
  assert.equal(await bed.exited, 0);
  assert.deepEqual(fs.readFileSync(path.join(allowed, 'tree/deep')), data);
  assert.equal(fs.statSync(path.join(allowed, 'tree/empty')).size, 0);
  assert.deepEqual(
    bed.host.judged.map(
      ({ facts }) => `${facts.operation} ${facts.access.map((one) => `${one.action} ${one.path}`).join()}`,
    ),
    [`MKDIR Write ${allowed}/tree`, `WRITE Write ${allowed}/tree/deep`, `WRITE Write ${allowed}/tree/empty`],
  );
  const facts = bed.host.results.get(2)?.facts as { ssh: { written: unknown } };
  assert.deepEqual(facts.ssh.written, { bytes: data.length, sha256: sha(data) });
  assert.equal(bed.host.results.size, 3);
});

test('a refused file is skipped, told to the client, and the next one goes through', async () => {
  const bed = start(writing(), (facts) => (facts.access[0]!.path.endsWith('no') ? 'Refuse' : 'Run'));
  assert.equal(await bed.line(), '\0');
  bed.send('C0644 3 no\n');
  assert.match(await bed.line(), /^\x01scp: Sallyport refused scp WRITE\.\n$/);
  bed.send('D0755 0 also-no\n');
  assert.match(await bed.line(), /^\x01scp: Sallyport refused scp MKDIR\.\n$/);
  bed.send('C0644 3 yes\n');
  assert.equal(await bed.line(), '\0');
  bed.send('abc\0');
  assert.equal(await bed.line(), '\0');
  bed.eof();
  assert.equal(await bed.exited, 0);
  assert.deepEqual(fs.readdirSync(allowed), ['yes']);
  assert.equal(bed.host.told.length, 2);
});

test('without -d both the path and a name below it must be permitted', async () => {
  const bed = start(writing({ directory: false, recursive: false, paths: [path.join(allowed, 'x')] }), () => 'Run');
  assert.equal(await bed.line(), '\0');
  bed.send('C4755 1 y\n');
  assert.equal(await bed.line(), '\0');
  assert.deepEqual(
    bed.host.judged[0]?.facts.access.map(({ action, path: at }) => `${action} ${at}`),
    [`Write ${allowed}/x`, `Grant ${allowed}/x`, `Write ${allowed}/x/y`, `Grant ${allowed}/x/y`],
  );
});

test('names that lead elsewhere, lines that are none, directories without -r end the client', async () => {
  const bad = [
    'C0644 1 ../x\n',
    'C0644 1 ..\n',
    'C0644 1 /etc/x\n',
    'C0644 1 a/b\n',
    'C0644 1 .\n',
    'C0644 1 a\x1b[2J\n',
    'D0755 0 ..\n',
    'E\n',
    'Z\n',
    '\0\n',
    `C0644 1 ${'x'.repeat(300)}\n`,
    'x'.repeat(9000),
  ];
  for (const line of bad) {
    const bed = start(writing(), () => 'Run');
    assert.equal(await bed.line(), '\0');
    bed.send(line);
    assert.equal(bed.host.failed?.side, 'Client', JSON.stringify(line));
    await bed.exited;
  }
  const flat = start(writing({ recursive: false, directory: true }), () => 'Run');
  assert.equal(await flat.line(), '\0');
  flat.send('D0755 0 d\n');
  assert.equal(flat.host.failed?.side, 'Client');
  await flat.exited;
  assert.deepEqual(fs.readdirSync(allowed), []);
});

test('nothing of a file goes out before it is judged, however early it is sent', async () => {
  let release: ((ruling: Ruling) => void) | undefined;
  const bed = start(writing(), () => new Promise<Ruling>((resolve) => (release = resolve)));
  bed.send('C0644 3 early\nabc\0C0644 2 next\nxy\0');
  assert.equal(await bed.line(), '\0');
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.deepEqual(fs.readdirSync(allowed), []);
  release!('Run');
  assert.equal(await bed.line(), '\0');
  assert.equal(await bed.line(), '\0');
  assert.equal(fs.readFileSync(path.join(allowed, 'early'), 'utf8'), 'abc');
  while (bed.host.judged.length < 2) {
    release!('Refuse');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.match(await bed.line(), /^\x01scp: Sallyport refused/);
  // The data of the refused file is no record: a sender that did not wait has lost its place.
  bed.send('C0644 1 third\n');
  assert.equal(bed.host.failed?.side, 'Client');
  await bed.exited;
  assert.deepEqual(fs.readdirSync(allowed), ['early']);
});

test('a tree comes from the target; what is refused in it is skipped', async () => {
  fs.mkdirSync(path.join(allowed, 'tree/sub'), { recursive: true });
  fs.writeFileSync(path.join(allowed, 'tree/keep'), 'kept');
  fs.writeFileSync(path.join(allowed, 'tree/sub/hide'), 'hidden');
  fs.writeFileSync(path.join(allowed, 'tree/sub/show'), 'shown');
  const bed = start({ mode: 'Read', paths: [`${allowed}/tree`], recursive: true }, (facts) =>
    facts.access.some((one) => one.path.endsWith('hide')) ? 'Refuse' : 'Run',
  );
  const files: Record<string, string> = {};
  const troubles: string[] = [];
  bed.send('\0');
  for (let depth = 0; ; ) {
    const line = await bed.line();
    const record = /^C\d+ (\d+) (.*)\n$/.exec(line);
    if (line.startsWith('\x01')) {
      troubles.push(line);
      continue;
    }
    if (record) {
      bed.send('\0');
      files[record[2]!] = (await bed.read(Number(record[1]))).toString();
      assert.equal(await bed.line(), '\0');
    } else depth += line.startsWith('D') ? 1 : -1;
    bed.send('\0');
    if (depth === 0) break;
  }
  bed.eof();
  await bed.exited;
  assert.deepEqual(files, { keep: 'kept', show: 'shown' });
  assert.equal(troubles.length, 1);
  const read = bed.host.judged.find(({ facts }) => facts.access[0]?.path.endsWith('/keep'));
  assert.deepEqual((bed.host.results.get(read!.id)!.facts as { ssh: { read: unknown } }).ssh.read, {
    bytes: 4,
    sha256: sha(Buffer.from('kept')),
  });
});

test('a path that may not be read is refused before the target is told to begin', async () => {
  fs.writeFileSync(path.join(secret, 'file'), 'hidden');
  const bed = start({ mode: 'Read', paths: [`${allowed}/../secret/file`], recursive: false }, below(allowed));
  bed.send('\0');
  assert.match(await bed.line(), /^\x01scp: Sallyport refused scp READ\.\n$/);
  assert.equal(bed.host.finished, 1);
  assert.equal(bed.got().length, 0);
  assert.equal(bed.host.judged[0]?.facts.access[0]?.path, `${secret}/file`);
});

test('a target that sends what nobody asked for is stopped', () => {
  const sent: Buffer[] = [];
  for (const line of ['C0644 3 other\n', 'D0755 0 file\n', 'C0644 3 ../file\n', 'E\n', 'nonsense\n']) {
    const host = createFakeHost({ toTarget: () => {}, toClient: (data) => sent.push(data) });
    const filter = createScpFilter(host, { ...unaided(), mode: 'Read', paths: ['/srv/file'], recursive: false });
    filter.fromClient(Buffer.from('\0'));
    setImmediate(() => {
      filter.fromTarget(Buffer.from(line));
      assert.equal(host.failed?.side, 'Target', line);
    });
  }
  assert.deepEqual(sent, []);
});

/** Sends each record and answers what came back. */
async function records(bed: Bed, lines: readonly string[]): Promise<string[]> {
  const answers = [await bed.line()];
  for (const line of lines) {
    bed.send(line);
    answers.push(await bed.line());
  }
  return answers;
}

test('INV-09: links that lead out of what is permitted are not written through, at the top, within a tree, or to nothing', async () => {
  fs.mkdirSync(path.join(allowed, 'tree'));
  fs.symlinkSync(secret, path.join(allowed, 'tree/down'));
  fs.symlinkSync(path.join(secret, 'made'), path.join(allowed, 'tree/dangling'));
  fs.writeFileSync(path.join(secret, 'file'), 'untouched');
  fs.symlinkSync(path.join(secret, 'file'), path.join(allowed, 'tree/file'));
  fs.symlinkSync(secret, path.join(allowed, 'top'));
  const tree = start(writing({ askTarget: aided }), below(allowed));
  const answers = await records(tree, [
    'D0755 0 tree\n',
    'D0755 0 down\n',
    'C0644 0 dangling\n',
    'C0644 0 file\n',
    'D0755 0 fresh\n',
  ]);
  assert.deepEqual(
    answers.map((answer) => (answer === '\0' ? 'taken' : 'refused')),
    ['taken', 'taken', 'refused', 'refused', 'refused', 'taken'],
  );
  for (const paths of [[`${allowed}/top`], [`${allowed}/top/new`], [`${allowed}/top/../secret/new`], ['top']]) {
    const bed = start(writing({ paths, directory: false, askTarget: aided }), below(allowed));
    const [, refusal] = await records(bed, ['C0644 0 name\n']);
    assert.match(refusal!, /^\x01scp: Sallyport refused/, paths[0]);
    bed.eof();
    await bed.exited;
  }
  assert.deepEqual(fs.readdirSync(secret), ['file']);
  assert.equal(fs.readFileSync(path.join(secret, 'file'), 'utf8'), 'untouched');
});

test('INV-09: what a link makes readable is not read, at the top or within a tree', async () => {
  fs.writeFileSync(path.join(secret, 'file'), 'hidden');
  fs.symlinkSync(path.join(secret, 'file'), path.join(allowed, 'one'));
  const top = start({ mode: 'Read', paths: ['one'], recursive: false, askTarget: aided }, below(allowed));
  top.send('\0');
  assert.match(await top.line(), /^\x01scp: Sallyport refused/);
  const tree = start({ mode: 'Read', paths: ['.'], recursive: true, askTarget: aided }, below(allowed));
  tree.send('\0');
  assert.match(await tree.line(), /^D/);
  tree.send('\0');
  assert.match(await tree.line(), /^\x01scp: Sallyport refused/);
  assert.equal(await tree.line(), 'E\n');
});

test('relative paths begin where the target says, and are judged there', async () => {
  const bed = start(writing({ paths: ['sub/../new'], directory: false, askTarget: aided }), below(allowed));
  fs.mkdirSync(path.join(allowed, 'sub'));
  assert.deepEqual(await records(bed, ['D0755 0 any\n', 'D0755 0 deep\n', 'C0644 0 file\n']), ['\0', '\0', '\0', '\0']);
  bed.send('\0');
  assert.equal(await bed.line(), '\0');
  assert.deepEqual(fs.readdirSync(path.join(allowed, 'new/deep')), ['file']);
  const places = bed.host.judged.flatMap(({ facts }) => facts.access.map(({ path: at, resolved }) => [at, resolved]));
  assert.deepEqual(places[0], [`${allowed}/new`, `${allowed}/new`]);
  assert.deepEqual(places.at(-1), [`${allowed}/new/any/deep/file`, `${allowed}/new/any/deep/file`]);
  // Without a target that tells, no rule's path is theirs.
  const unknown = start(writing({ paths: ['new'], directory: false }), below(allowed));
  assert.match((await records(unknown, ['C0644 0 any\n']))[1]!, /refused/);
});

test('a target that can not be asked now takes nothing', async () => {
  const askTarget: AskTarget = () => Promise.reject(new LookupError('the target opens no further session'));
  const bed = start(writing({ askTarget }), () => 'Run');
  assert.match(await bed.line(), /^\x01scp: Sallyport: the target opens no further session\n$/);
  assert.equal(bed.host.finished, 1);
});
