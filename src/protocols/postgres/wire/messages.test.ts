import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { serialize } from 'pg-protocol';
import {
  cancelRequest,
  decodeBind,
  decodeDataRow,
  decodeErrorFields,
  decodeExecute,
  decodeNamed,
  decodeParse,
  decodeRowDescription,
  decodeText,
  describePortal,
  errorResponse,
  parse,
  query,
  readyForQuery,
  SSL_REQUEST,
  SYNC,
  startupMessage,
  WireError,
} from './messages.ts';

test('messages are the bytes of the manual', () => {
  assert.equal(query('select 1').toString('latin1'), 'Q\0\0\0\rselect 1\0');
  assert.equal(SYNC.toString('hex'), '5300000004');
  assert.equal(readyForQuery('T').toString('hex'), '5a0000000554');
  assert.equal(SSL_REQUEST.toString('hex'), '0000000804d2162f');
  assert.equal(cancelRequest(1, Buffer.from([0, 0, 0, 2])).toString('hex'), '0000001004d2162e0000000100000002');
  assert.equal(startupMessage({ user: 'a' }).toString('hex'), '0000001000030000757365720061000' + '0');
  assert.equal(errorResponse({ S: 'ERROR', C: '42501' }).toString('latin1'), 'E\0\0\0\x13SERROR\0C42501\0\0');
  assert.equal(errorResponse({ M: 'a\0Cfaked' }).toString('latin1'), 'E\0\0\0\x0eMaCfaked\0\0');
});

test('what another implementation writes is read, and the other way round', () => {
  assert.deepEqual(parse('n', 'select $1'), serialize.parse({ name: 'n', text: 'select $1', types: [] }));
  assert.deepEqual(describePortal('p'), serialize.describe({ type: 'P', name: 'p' }));
  const bind = serialize.bind({ portal: 'p', statement: 's', values: ['x', null, Buffer.from([1, 2])] });
  const decoded = decodeBind(bind, 5, bind.length);
  assert.equal(decoded.portal, 'p');
  assert.equal(decoded.statement, 's');
  assert.deepEqual(decoded.formats, [0, 0, 1]);
  assert.deepEqual(
    decoded.values.map((value) => value?.toString('hex')),
    ['78', undefined, '0102'],
  );
  const execute = serialize.execute({ portal: 'p', rows: 5 });
  assert.deepEqual(decodeExecute(execute, 5, execute.length), { portal: 'p', rows: 5 });
  const close = serialize.close({ type: 'S', name: 'x' });
  assert.deepEqual(decodeNamed(close, 5, close.length), { kind: 'Statement', name: 'x' });
  const parsed = serialize.parse({ name: 'n', text: 'select $1', types: [23] });
  assert.deepEqual(decodeParse(parsed, 5, parsed.length), {
    name: 'n',
    text: Buffer.from('select $1'),
    parameterTypes: [23],
  });
});

test('INV-11: decoders throw WireError on anything malformed and never read past the end', () => {
  const decoders = [
    decodeParse,
    decodeBind,
    decodeExecute,
    decodeNamed,
    decodeText,
    decodeErrorFields,
    decodeRowDescription,
    decodeDataRow,
  ];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.constantFrom(...decoders), (bytes, decode) => {
      // Sound bytes behind the message must not be taken for part of it.
      const buffer = Buffer.concat([Buffer.from(bytes), Buffer.alloc(64)]);
      try {
        decode(buffer, 0, bytes.length);
      } catch (error) {
        assert.ok(error instanceof WireError, String(error));
      }
    }),
    { numRuns: 500 },
  );
});

test('INV-11: trailing bytes, missing ends and wrong counts are refused', () => {
  const good = query('x');
  assert.throws(() => decodeText(Buffer.concat([good, Buffer.from([0])]), 5, good.length + 1), WireError);
  assert.throws(() => decodeText(good, 5, good.length - 1), WireError);
  const bind = serialize.bind({ values: ['x'] });
  for (let end = 5; end < bind.length; end += 1) assert.throws(() => decodeBind(bind, 5, end), WireError);
});
