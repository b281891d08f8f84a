import assert from 'node:assert/strict';
import net from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { DialError } from '../protocols/protocol.ts';
import { addressBytes, classifyAddress, clientAddressKey } from './addresses.ts';
import { createDialGuard, hostListed } from './dial-guard.ts';

test('INV-12: addresses are judged by what they reach, in every spelling', () => {
  const cases: Record<string, string[]> = {
    Loopback: [
      '127.0.0.1',
      '127.255.255.254',
      '::1',
      '0:0:0:0:0:0:0:1',
      '::ffff:127.0.0.1',
      '::ffff:7f00:1',
      '::127.0.0.1',
      '64:ff9b::7f00:1',
      '2002:7f00:1::',
      '::ffff:0:127.0.0.1',
    ],
    LinkLocal: ['169.254.1.1', 'fe80::1', 'febf::1', '::ffff:169.254.1.1'],
    Metadata: [
      '169.254.169.254',
      '::ffff:169.254.169.254',
      '::ffff:a9fe:a9fe',
      '64:ff9b::a9fe:a9fe',
      '2002:a9fe:a9fe::1',
      'fd00:ec2::254',
      'fd00:0ec2:0:0::23',
      'fd20:ce::254',
      '100.100.100.200',
      '192.0.0.192',
      '168.63.129.16',
      '169.254.170.2',
    ],
    Unspecified: ['0.0.0.0', '0.1.2.3', '::', '::ffff:0.0.0.0'],
    Multicast: ['224.0.0.1', '239.255.255.255', 'ff02::1', '::ffff:224.0.0.1'],
    Reserved: ['240.0.0.1', '255.255.255.255', '64:ff9b:1::7f00:1', '2001::1'],
    Unreadable: ['', 'localhost', 'fe80::1%eth0', '127.1', '0x7f.0.0.1', '2130706433', '127.0.0.1 ', '[::1]'],
    Public: [
      '10.0.0.1',
      '192.168.1.1',
      '172.16.0.1',
      '100.64.0.1',
      '1.1.1.1',
      'fd00::1',
      '2001:db8::1',
      '::ffff:10.0.0.1',
      '2600:1f18::1',
    ],
  };
  for (const [kind, addresses] of Object.entries(cases)) {
    for (const address of addresses) assert.equal(classifyAddress(address), kind, address);
  }
});

test('INV-12: an IPv6 address has the same bytes in its full and its shortened spelling', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(0, 1, 0xffff, 0xa9fe), { minLength: 8, maxLength: 8 }), (groups) => {
      const full = groups.map((group) => group.toString(16).padStart(4, '0')).join(':');
      const short = new URL(`http://[${full}]`).hostname.slice(1, -1); // the URL parser compresses (RFC 5952)
      const expected = groups.flatMap((group) => [group >> 8, group & 255]);
      assert.deepEqual(addressBytes(full), expected);
      assert.deepEqual(addressBytes(short), expected);
    }),
    { numRuns: 200 },
  );
});

test('clients are counted by IPv4 address or IPv6 /64', () => {
  assert.equal(clientAddressKey('::ffff:10.1.2.3'), '10.1.2.3');
  assert.equal(clientAddressKey('10.1.2.3'), '10.1.2.3');
  assert.equal(clientAddressKey('2001:db8::1'), clientAddressKey('2001:db8::ffff'));
  assert.notEqual(clientAddressKey('2001:db8::1'), clientAddressKey('2001:db8:0:1::1'));
});

test('INV-05: a Secret’s hosts are names, with or without a port, and never patterns', () => {
  const listed = (entry: string, host: string, port = 5432): boolean => hostListed([entry], { host, port });
  assert.ok(listed('db.example', 'db.example'));
  assert.ok(listed('DB.example.', 'db.EXAMPLE'));
  assert.ok(listed('db.example:5432', 'db.example'));
  assert.ok(!listed('db.example:5433', 'db.example'));
  assert.ok(!listed('db.example', 'db.example.evil'));
  assert.ok(!listed('db.example', 'xdb.example'));
  assert.ok(!listed('*', 'db.example') && !listed('*.example', 'db.example') && !listed('', 'db.example'));
  assert.ok(listed('::1', '::1') && listed('[::1]:5432', '::1'));
  assert.ok(!listed('[::1]:5433', '::1'));
  assert.ok(!listed('fd00::1:5432', 'fd00::1'), 'ambiguous: that is an address');
  assert.ok(!hostListed([], { host: 'db.example', port: 1 }));
});

const signal = new AbortController().signal;
const forbidden = (code: DialError['code']) => (error: unknown) => error instanceof DialError && error.code === code;

test('INV-12: the address dialled is the one that was checked; the name is resolved once', async () => {
  const dialled: string[] = [];
  let resolved = 0;
  const guard = createDialGuard({
    resolve: () => Promise.resolve(resolved++ === 0 ? ['10.0.0.1'] : ['169.254.169.254']),
    connect(address) {
      dialled.push(address);
      const socket = new net.Socket();
      setImmediate(() => socket.emit('connect'));
      return socket;
    },
  });
  const socket = await guard.dial({ host: 'rebind.example', port: 1 }, ['rebind.example'], signal);
  socket.destroy();
  assert.deepEqual(dialled, ['10.0.0.1']);
  assert.equal(resolved, 1);
  await assert.rejects(
    guard.dial({ host: 'rebind.example', port: 1 }, ['rebind.example'], signal),
    forbidden('Forbidden'),
  );
  assert.equal(dialled.length, 1);
});

test('INV-12: a name with one forbidden address, a denied block, an odd spelling: refused before any packet', async () => {
  const dial = (addresses: string[], options: object = {}, host = 'db.example'): Promise<unknown> =>
    createDialGuard({
      resolve: () => Promise.resolve(addresses),
      connect: () => assert.fail('dialled'),
      ...options,
    }).dial({ host, port: 5432 }, [host], signal);
  await assert.rejects(dial(['10.0.0.1', '127.0.0.1']), forbidden('Forbidden'));
  await assert.rejects(dial(['::ffff:169.254.169.254']), forbidden('Forbidden'));
  await assert.rejects(dial(['169.254.169.254'], { allowLoopback: true }), forbidden('Forbidden'));
  await assert.rejects(dial(['0.0.0.0'], { allowLoopback: true }), forbidden('Forbidden'));
  await assert.rejects(dial(['10.96.0.1'], { deny: ['10.96.0.0/12'] }), forbidden('Forbidden'));
  await assert.rejects(dial(['::ffff:10.96.0.1'], { deny: ['10.96.0.0/12'] }), forbidden('Forbidden'));
  await assert.rejects(dial(['127.0.0.1'], { allowLoopback: true, deny: ['127.0.0.1'] }), forbidden('Forbidden'));
  await assert.rejects(dial(['fd00::5'], { deny: ['fd00::/8'] }), forbidden('Forbidden'));
  await assert.rejects(dial(['not-an-address']), forbidden('Forbidden'));
  await assert.rejects(dial([]), forbidden('Unreachable'));
  await assert.rejects(dial([], {}, 'fe80::1%lo'), forbidden('Forbidden'));
  for (const block of ['x', '10.0.0.0/33', '10.0.0.0/-1', '10.0.0.0/8x']) {
    assert.throws(() => createDialGuard({ deny: [block] }), TypeError);
  }
});

test('a target that refuses, is unknown or does not answer is told apart', async () => {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  const local = createDialGuard({ allowLoopback: true });
  await assert.rejects(local.dial({ host: '127.0.0.1', port }, ['127.0.0.1'], signal), forbidden('Refused'));
  const unknown = createDialGuard({
    resolve: () => Promise.reject(Object.assign(new Error('x'), { code: 'ENOTFOUND' })),
  });
  await assert.rejects(unknown.dial({ host: 'db.example', port }, ['db.example'], signal), forbidden('Unreachable'));
  const silent = createDialGuard({
    resolve: () => Promise.resolve(['10.0.0.1']),
    connect: () => new net.Socket(),
    deadlineMs: 20,
  });
  await assert.rejects(silent.dial({ host: 'db.example', port }, ['db.example'], signal), forbidden('TimedOut'));
  const never = createDialGuard({ resolve: () => new Promise(() => {}), deadlineMs: 20 });
  await assert.rejects(never.dial({ host: 'db.example', port }, ['db.example'], signal), forbidden('TimedOut'));
  await assert.rejects(
    never.dial({ host: 'db.example', port }, ['db.example'], AbortSignal.abort()),
    forbidden('TimedOut'),
  );
});

test('the next address is tried where one refuses', async () => {
  const tried: string[] = [];
  const guard = createDialGuard({
    resolve: () => Promise.resolve(['10.0.0.1', '10.0.0.2']),
    connect(address) {
      tried.push(address);
      const socket = new net.Socket();
      setImmediate(() =>
        address === '10.0.0.1'
          ? socket.emit('error', Object.assign(new Error('x'), { code: 'ECONNREFUSED' }))
          : socket.emit('connect'),
      );
      return socket;
    },
  });
  (await guard.dial({ host: 'db.example', port: 1 }, ['db.example'], signal)).destroy();
  assert.deepEqual(tried, ['10.0.0.1', '10.0.0.2']);
});
