import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { systemClock } from '../../../../system/clock.ts';
import type { ChannelFilter } from '../../channels/filter.ts';
import { createNameLock } from '../name-lock.ts';
import { createFakeHost, type FakeHost, type Ruling } from '../testing/fake-host.ts';
import { createFakeTarget, type FakeTarget } from '../testing/fake-target.ts';
import { at, at64, createSftpClient, NO_ATTRIBUTES, type SftpClient } from '../testing/sftp-client.ts';
import { createSftpFilter } from './filter.ts';
import { namePacket, OPEN_FLAG, packet, STATUS, statusPacket, TYPE } from './packets.ts';

interface Bed {
  client: SftpClient;
  host: FakeHost;
  target: FakeTarget;
  filter: ChannelFilter;
  /** As the target. */
  say(data: Buffer): void;
}

/** `cut` is handed every buffer of both directions and says how it arrives. */
function bed(options: { cut?: (data: Buffer) => Buffer[]; rule?: () => Ruling; version?: string } = {}): Bed {
  const cut = options.cut ?? ((data) => [data]);
  // Of its own bytes: the filter changes what it is handed, and what it is done with is gone.
  const pieces = (data: Buffer): Buffer[] => cut(data).map((piece) => Buffer.from(piece));
  const client = createSftpClient((data) => {
    for (const piece of pieces(data)) {
      filter.fromClient(piece);
      if (filter.needs?.client === false) piece.fill(0xaa);
    }
  });
  const say = (data: Buffer): void => {
    for (const piece of pieces(data)) {
      filter.fromTarget(piece);
      if (filter.needs?.target === false) piece.fill(0xaa);
    }
  };
  const target = createFakeTarget((data) => setImmediate(say, data));
  const host = createFakeHost({
    toTarget: (data) => target.feed(Buffer.from(data)),
    toClient: (data) => client.feed(Buffer.from(data)),
    failed: () => client.ended(),
    ...(options.rule ? { rule: options.rule } : {}),
  });
  const filter = createSftpFilter(host, {
    clock: systemClock,
    names: createNameLock(),
    targetVersion: options.version ?? 'SSH-2.0-OpenSSH_9.2p1',
  });
  return { client, host, target, filter, say };
}

const { READ, WRITE, CREAT } = OPEN_FLAG;

test('whatever pieces the bytes come in, the same passes', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 70 }), { minLength: 1, maxLength: 8 }),
      fc.uint8Array({ minLength: 1, maxLength: 600 }),
      fc.integer({ min: 1, max: 200 }),
      async (sizes, content, step) => {
        let turn = 0;
        const cut = (data: Buffer): Buffer[] => {
          const pieces: Buffer[] = [];
          for (let from = 0; from < data.length; ) {
            const size = sizes[(turn += 1) % sizes.length]!;
            pieces.push(data.subarray(from, from + size));
            from += size;
          }
          return pieces;
        };
        const { client, target, host, filter } = bed({ cut });
        await client.init();
        const data = Buffer.from(content);
        const handle = await client.open('/f', READ | WRITE | CREAT);
        const asked: Promise<unknown>[] = [];
        for (let from = 0; from < data.length; from += step)
          asked.push(client.code(TYPE.WRITE, at(handle), at64(from), { string: data.subarray(from, from + step) }));
        for (const code of await Promise.all(asked)) assert.equal(code, STATUS.OK);
        assert.deepEqual(target.files.get('/f'), data);
        const reads: Promise<Buffer>[] = [];
        for (let from = 0; from < data.length; from += step) reads.push(client.read(handle, from, step));
        assert.deepEqual(Buffer.concat(await Promise.all(reads)), data);
        assert.equal(await client.code(TYPE.CLOSE, at(handle)), STATUS.OK);
        filter.clientEof();
        assert.ok(host.targetEof);
        assert.equal(host.failed, undefined);
        assert.deepEqual(filter.heldBytes, { client: 0, target: 0 });
      },
    ),
    { numRuns: 40 },
  );
});

test('answers that come out of order reach the client in order', async () => {
  const { client, target, say } = bed();
  await client.init();
  target.files.set('/f', Buffer.from('abcdefgh'));
  const handle = await client.open('/f', READ);
  target.keep = ({ type }) => type === TYPE.READ;
  const reads = [0, 1, 2, 3].map((offset) => client.read(handle, offset, 1).then(String));
  while (target.kept.length < 4) await new Promise((resolve) => setImmediate(resolve));
  for (const index of [2, 0, 3, 1]) say(target.kept[index]!);
  assert.deepEqual(await Promise.all(reads), ['a', 'b', 'c', 'd']);
});

test('ids of the client never reach the target, and need not differ', async () => {
  const { client, target, host } = bed();
  await client.init();
  const answers = [1, 2, 3].map(() => client.next());
  const same = (path: string): Buffer => packet(TYPE.STAT, { uint32: 7 }, at(path));
  client.raw(Buffer.concat([same('/a'), same('/b'), same('/c')]));
  assert.deepEqual(
    (await Promise.all(answers)).map(({ id }) => id),
    [7, 7, 7],
  );
  assert.equal(new Set(target.asked.map(({ id }) => id)).size, target.asked.length);
  assert.equal(host.failed, undefined);
});

test('a target that breaks the protocol ends the connection, and none of it passes', async () => {
  const stat = (id: number): Buffer => packet(TYPE.ATTRS, { uint32: id }, { uint32: 0 });
  const cases: [string, (id: number) => Buffer][] = [
    ['an id that nobody asked for', (id) => stat(id + 1000)],
    ['two answers', (id) => Buffer.concat([stat(id), stat(id)])],
    ['DATA for STAT', (id) => packet(TYPE.DATA, { uint32: id }, { string: 'x' })],
    ['HANDLE for STAT', (id) => packet(TYPE.HANDLE, { uint32: id }, { string: 'x' })],
    ['STATUS OK for STAT', (id) => statusPacket(id, STATUS.OK, '')],
    ['a packet too long', () => Buffer.from('0004000166', 'hex')],
    ['a packet too short', () => Buffer.from('0000000166', 'hex')],
    ['another VERSION', () => packet(TYPE.VERSION, { uint32: 3 })],
    ['a request', (id) => packet(TYPE.OPEN, { uint32: id }, { string: 'x' })],
    ['attributes cut short', (id) => packet(TYPE.ATTRS, { uint32: id }, { uint32: 5 })],
    ['bytes after the end', (id) => packet(TYPE.ATTRS, { uint32: id }, { uint32: 0 }, { byte: 1 })],
  ];
  for (const [name, answer] of cases) {
    const { client, target, host, say } = bed();
    await client.init();
    await client.realpath('.');
    target.keep = ({ type }) => type === TYPE.STAT;
    const asked = client.request(TYPE.STAT, at('/f'));
    asked.catch(() => {});
    while (target.kept.length < 1) await new Promise((resolve) => setImmediate(resolve));
    say(answer(target.asked.at(-1)!.id));
    assert.equal(host.failed?.side, 'Target', name);
    if (name !== 'two answers') await assert.rejects(asked, name);
  }
});

test('more data than was asked for, listed names that are paths, a handle twice: the target broke the protocol', async () => {
  const cases: [number, (id: number) => Buffer][] = [
    [TYPE.READ, (id) => packet(TYPE.DATA, { uint32: id }, { string: 'five.' })],
    [TYPE.READ, (id) => packet(TYPE.DATA, { uint32: id }, { string: 'abc' }, { byte: 0 })],
    [TYPE.READ, (id) => statusPacket(id, STATUS.OK, '')],
    [TYPE.READDIR, (id) => namePacket(id, '../../.ssh/authorized_keys')],
    [TYPE.READDIR, (id) => namePacket(id, '')],
    [TYPE.READDIR, (id) => packet(TYPE.NAME, { uint32: id }, { uint32: 0xffff_ffff })],
    [TYPE.OPEN, (id) => packet(TYPE.HANDLE, { uint32: id }, { string: 'h1' })],
    [TYPE.OPEN, (id) => packet(TYPE.HANDLE, { uint32: id }, { string: '' })],
    [TYPE.OPEN, (id) => packet(TYPE.HANDLE, { uint32: id }, { string: Buffer.alloc(257) })],
  ];
  for (const [type, answer] of cases) {
    const { client, target, host, say } = bed();
    await client.init();
    const file = await client.open('/f', READ);
    assert.equal(file, 'h1');
    const directory = await client.openDirectory('/d');
    target.keep = (asked) => asked.type === type;
    const asked =
      type === TYPE.OPEN
        ? client.request(TYPE.OPEN, at('/g'), { uint32: READ }, NO_ATTRIBUTES)
        : type === TYPE.READ
          ? client.request(TYPE.READ, at(file), at64(0), { uint32: 4 })
          : client.request(TYPE.READDIR, at(directory));
    asked.catch(() => {});
    while (target.kept.length < 1) await new Promise((resolve) => setImmediate(resolve));
    say(answer(target.asked.at(-1)!.id));
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(host.failed?.side, 'Target');
  }
});

test('REALPATH that answers no canonical path resolves nothing', async () => {
  for (const strange of ['relative', '/a/../b', '/a//b', '/a/./b', '', '/a\0b', `/${'x'.repeat(5000)}`]) {
    const { client, target, say } = bed();
    await client.init();
    await client.realpath('.');
    target.keep = ({ type }) => type === TYPE.REALPATH;
    const asked = client.code(TYPE.STAT, at('/f'));
    while (target.kept.length < 1) await new Promise((resolve) => setImmediate(resolve));
    say(namePacket(target.asked.at(-1)!.id, strange));
    assert.equal(await asked, STATUS.FAILURE, strange);
    assert.ok(!target.asked.some(({ type }) => type === TYPE.STAT));
  }
});

test('a target of another version, or without a beginning of paths, is not used', async () => {
  for (const first of [
    packet(TYPE.VERSION, { uint32: 6 }),
    packet(TYPE.STATUS, { uint32: 0 }),
    Buffer.alloc(9, 0xff),
  ]) {
    const host = createFakeHost({ toTarget: () => {}, toClient: () => assert.fail('it passed') });
    const filter = createSftpFilter(host, { clock: systemClock, names: createNameLock() });
    filter.fromClient(packet(TYPE.INIT, { uint32: 3 }));
    filter.fromTarget(Buffer.from(first));
    assert.equal(host.failed?.side, 'Target');
  }
});

test('relative links are refused where the order of SYMLINK is not known', async () => {
  const { client, target } = bed({ version: 'SSH-2.0-mod_sftp' });
  await client.init();
  assert.equal(await client.code(TYPE.SYMLINK, at('target'), at('/link')), STATUS.OP_UNSUPPORTED);
  assert.equal(await client.code(TYPE.SYMLINK, at('/target'), at('/link')), STATUS.OK);
  assert.equal(target.asked.filter(({ type }) => type === TYPE.SYMLINK).length, 1);
});

test('INV-11: what a client sends ahead is bounded, and counted as held', async () => {
  const never = new Promise<Ruling>(() => {});
  const host = createFakeHost({
    toTarget: (data) => target.feed(Buffer.from(data)),
    toClient: () => {},
    rule: () => never,
  });
  const target = createFakeTarget((data) => setImmediate(() => filter.fromTarget(data)));
  const filter = createSftpFilter(host, { clock: systemClock, names: createNameLock() });
  filter.fromClient(packet(TYPE.INIT, { uint32: 3 }));
  await new Promise((resolve) => setTimeout(resolve, 20));
  const stat = packet(TYPE.STAT, { uint32: 1 }, at('/f'));
  let sent = 0;
  for (let round = 0; round < 5000; round += 1) {
    filter.fromClient(Buffer.from(stat));
    sent += stat.length;
  }
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(target.asked.length < 40, String(target.asked.length));
  assert.ok(filter.heldBytes.client >= sent - 256 * stat.length && filter.heldBytes.client <= sent);
  filter.closed();
});

test('when the channel is gone, every command has its result', async () => {
  const { client, host, target, filter } = bed();
  await client.init();
  const handle = await client.open('/f', WRITE | CREAT);
  await client.code(TYPE.WRITE, at(handle), at64(0), { string: 'abc' });
  target.keep = () => true;
  const pending = [
    client.code(TYPE.STAT, at('/a')),
    client.code(TYPE.REMOVE, at('/b')),
    client.code(TYPE.CLOSE, at(handle)),
  ];
  for (const one of pending) one.catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 20));
  filter.closed();
  client.ended();
  await new Promise((resolve) => setTimeout(resolve, 20));
  for (const { id, ruling } of host.judged) if (ruling === 'Run') assert.ok(host.results.has(id), String(id));
});

test('a session that ends while it is judged sends nothing more', async () => {
  const { client, target, host } = bed({ rule: () => 'Gone' });
  await client.init();
  const asked = client.code(TYPE.REMOVE, at('/f'));
  asked.catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(!target.asked.some(({ type }) => type === TYPE.REMOVE));
  assert.equal(host.failed, undefined);
});

test('where the session begins costs no decision; anywhere else does', async () => {
  const { client, host } = bed();
  await client.init();
  assert.equal(await client.realpath('.'), '/home');
  assert.equal(await client.realpath(''), '/home');
  assert.equal(host.judged.length, 0);
  assert.equal(await client.realpath('..'), '/');
  assert.deepEqual(await client.names(TYPE.REALPATH, at('/x/../y')), ['/y']);
  assert.deepEqual(
    host.judged.map(({ facts }) => facts.access[0]?.path),
    ['/', '/y'],
  );
  assert.equal(await client.code(99, at('x')), STATUS.OP_UNSUPPORTED);
});
