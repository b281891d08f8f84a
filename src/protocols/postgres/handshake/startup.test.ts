import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cancelRequest, SSL_REQUEST, startupMessage } from '../wire/messages.ts';
import { isClientOnlyEncoding, readStartup, type StartupPacket, splitOptions } from './startup.ts';

const read = (parameters: Record<string, string>, version?: number): StartupPacket =>
  readStartup(startupMessage(parameters, version).subarray(4));

test('what drivers send is accepted and passed on in PostgreSQL’s spelling', () => {
  const packet = read({
    user: 'ana',
    database: 'orders',
    client_encoding: 'UTF8',
    datestyle: 'ISO',
    options: '-c statement_timeout=5s --lock-timeout=1s',
    application_name: 'psql',
  });
  assert.equal(packet.kind, 'Startup');
  if (packet.kind !== 'Startup') return;
  assert.deepEqual(packet.startup, {
    minor: 0,
    negotiate: undefined,
    user: 'ana',
    database: 'orders',
    applicationName: 'psql',
    settings: { client_encoding: 'UTF8', DateStyle: 'ISO', statement_timeout: '5s', lock_timeout: '1s' },
  });
});

test('INV-02: what changes rights or the meaning of SQL is refused at the door', () => {
  for (const parameters of [
    { user: 'a', role: 'postgres' },
    { user: 'a', session_authorization: 'postgres' },
    { user: 'a', search_path: 'evil' },
    { user: 'a', standard_conforming_strings: 'off' },
    { user: 'a', client_encoding: 'SJIS' },
    { user: 'a', client_encoding: 'gb-18030' },
    { user: 'a', replication: 'database' },
    { user: 'a', options: '-c role=postgres' },
    { user: 'a', options: '-c session\\_authorization=postgres' },
    { user: 'a', options: '-d 5' },
    { user: 'a', options: '-c' },
    { user: '' },
    { database: 'x' },
  ] as Record<string, string>[]) {
    assert.equal(read(parameters).kind, 'Refused', JSON.stringify(parameters));
  }
});

test('protocol versions and unknown extensions are negotiated', () => {
  const newer = read({ user: 'a', '_pq_.secret': '1' }, 196608 + 9);
  assert.deepEqual(newer.kind === 'Startup' && newer.startup.negotiate, { minor: 2, unknown: ['_pq_.secret'] });
  const two = read({ user: 'a' }, 196610);
  assert.equal(two.kind === 'Startup' && two.startup.minor === 2 && two.startup.negotiate === undefined, true);
  assert.equal(read({ user: 'a' }, 131072).kind, 'Refused');
});

test('requests are told apart', () => {
  assert.equal(readStartup(SSL_REQUEST.subarray(4)).kind, 'SslRequest');
  const cancel = readStartup(cancelRequest(7, Buffer.from([1, 2, 3, 4])).subarray(4));
  assert.equal(cancel.kind === 'Cancel' && cancel.key.toString('hex'), '0000000701020304');
});

test('INV-11: NULs, trailing bytes, duplicates and bad UTF-8 are refused, and nothing throws', () => {
  const good = startupMessage({ user: 'a' }).subarray(4);
  assert.equal(readStartup(Buffer.concat([good, Buffer.from([0])])).kind, 'Refused');
  assert.equal(readStartup(good.subarray(0, good.length - 1)).kind, 'Refused');
  assert.equal(readStartup(Buffer.concat([good.subarray(0, 4), Buffer.from('user\0a\0user\0b\0\0')])).kind, 'Refused');
  assert.equal(
    readStartup(Buffer.concat([good.subarray(0, 4), Buffer.from('user\0'), Buffer.from([0xff, 0, 0])])).kind,
    'Refused',
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => void readStartup(Buffer.from(bytes))),
    { numRuns: 500 },
  );
});

test('options are split as the server splits them', () => {
  assert.deepEqual(splitOptions('-c a=b  --c-d=e\\ f -cg=h'), [
    ['a', 'b'],
    ['c_d', 'e f'],
    ['g', 'h'],
  ]);
  assert.equal(splitOptions('-x'), undefined);
  assert.equal(isClientOnlyEncoding('Shift_JIS_2004'), true);
  assert.equal(isClientOnlyEncoding('UTF8'), false);
});
