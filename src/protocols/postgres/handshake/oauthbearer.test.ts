import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { int32 } from '../wire/messages.ts';
import { isDummyResponse, LONGEST_SASL, readBearer, readInitialResponse, refusalJson } from './oauthbearer.ts';

const read = (text: string) => readBearer(Buffer.from(text, 'latin1'));
const initial = (data: Buffer | undefined, mechanism = 'OAUTHBEARER'): Buffer =>
  Buffer.concat([Buffer.from(`${mechanism}\0`), int32(data?.length ?? -1), data ?? Buffer.alloc(0)]);

test('what libpq sends is read: the question where to get a token, and the token', () => {
  assert.deepEqual(read('n,,\x01auth=\x01\x01'), { kind: 'Discovery' });
  assert.deepEqual(read('n,,\x01auth=Bearer abc.DEF-_~+/09==\x01\x01'), { kind: 'Token', token: 'abc.DEF-_~+/09==' });
  assert.deepEqual(read('y,,\x01host=db\x01port=5432\x01auth=bEaReR   x\x01unknown=\x01\x01'), {
    kind: 'Token',
    token: 'x',
  });
  assert.deepEqual(readInitialResponse(initial(Buffer.from('n,,\x01auth=\x01\x01'))), { kind: 'Discovery' });
  assert.deepEqual(readInitialResponse(initial(undefined)), { kind: 'Later' });
});

test('INV-11: everything that could be read in two ways is refused', () => {
  const good = 'n,,\x01auth=Bearer x\x01\x01';
  for (const text of [
    '',
    'n',
    'n,,',
    'n,,\x01',
    'n,,\x01\x01',
    good.slice(0, -1),
    `${good}\x01`,
    `${good}x`,
    'p=tls-unique,,\x01auth=Bearer x\x01\x01',
    'n,a=admin,\x01auth=Bearer x\x01\x01',
    'n,\x01auth=Bearer x\x01\x01',
    'x,,\x01auth=Bearer x\x01\x01',
    'nn,,\x01auth=Bearer x\x01\x01',
    'n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01',
    'n,,\x01auth=\x01auth=Bearer y\x01\x01',
    'n,,\x01host=x\x01\x01',
    'n,,\x01auth=Bearer \x01\x01',
    'n,,\x01auth=Bearer\x01\x01',
    'n,,\x01auth=Bearerx\x01\x01',
    'n,,\x01auth=Basic eDp5\x01\x01',
    'n,,\x01auth=Bearer x y\x01\x01',
    'n,,\x01auth=Bearer x=y\x01\x01',
    'n,,\x01auth=Bearer \tx\x01\x01',
    'n,,\x01auth=Bearer x,\x01\x01',
    'n,,\x01auth= Bearer x\x01\x01',
    'n,,\x01AUTH=Bearer x\x01\x01',
    'n,,\x01a1=x\x01auth=Bearer x\x01\x01',
    'n,,\x01=x\x01auth=Bearer x\x01\x01',
    'n,,\x01auth\x01\x01',
    'n,,\x01auth=Bearer x\0\x01\x01',
    'n,,\x01k=\x7f\x01auth=Bearer x\x01\x01',
    'n,,\x01k=\xff\x01auth=Bearer x\x01\x01',
    ` ${good}`,
    `n,,\x01auth=Bearer ${'x'.repeat(LONGEST_SASL)}\x01\x01`,
  ]) {
    assert.equal(read(text).kind, 'Malformed', JSON.stringify(text.slice(0, 60)));
  }
});

test('INV-11: SASLInitialResponse names this mechanism and holds just what it says it holds', () => {
  const data = Buffer.from('n,,\x01auth=Bearer x\x01\x01');
  const good = initial(data);
  assert.equal(readInitialResponse(good).kind, 'Token');
  for (const body of [
    initial(data, 'SCRAM-SHA-256'),
    initial(data, 'oauthbearer'),
    initial(data, ''),
    Buffer.concat([good, Buffer.from([0])]),
    good.subarray(0, -1),
    Buffer.concat([initial(undefined), Buffer.from([1])]),
    Buffer.concat([Buffer.from('OAUTHBEARER\0'), int32(-2)]),
    Buffer.concat([Buffer.from('OAUTHBEARER\0'), int32(0x7fffffff), data]),
    Buffer.from('OAUTHBEARER'),
    Buffer.alloc(0),
  ]) {
    assert.equal(readInitialResponse(body).kind, 'Malformed', body.toString('latin1'));
  }
});

const TOKEN = /^[A-Za-z0-9\-._~+/]+=*$/;
const key = fc.stringMatching(/^[A-Za-z]{1,8}$/).filter((name) => name !== 'auth');
const value = fc.stringMatching(/^[\x20-\x7e\t\r\n]{0,40}$/);
const pair = fc.tuple(key, value).map(([name, text]) => `${name}=${text}\x01`);

test('any well-formed message yields just its token, whatever stands beside it', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('n', 'y'),
      fc.array(pair, { maxLength: 4 }),
      fc.array(pair, { maxLength: 4 }),
      fc.stringMatching(TOKEN),
      (flag, before, after, token) => {
        const said = read(`${flag},,\x01${before.join('')}auth=Bearer ${token}\x01${after.join('')}\x01`);
        assert.deepEqual(said, { kind: 'Token', token });
      },
    ),
    { numRuns: 300 },
  );
});

test('INV-11: no bytes make the reader throw, and a token it finds is one, and stands in them', () => {
  const mutated = fc
    .tuple(fc.stringMatching(TOKEN), fc.array(pair, { maxLength: 3 }), fc.nat(200), fc.integer({ min: 0, max: 255 }))
    .map(([token, pairs, at, byte]) => {
      const bytes = Buffer.from(`n,,\x01${pairs.join('')}auth=Bearer ${token}\x01\x01`, 'latin1');
      bytes[at % bytes.length] = byte;
      return bytes;
    });
  const noise = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(fc.oneof(mutated, noise), (bytes) => {
      const said = readBearer(bytes);
      if (said.kind === 'Token') {
        assert.match(said.token, TOKEN);
        assert.ok(bytes.includes(`earer ${said.token}\x01`) || /bearer +/i.test(bytes.toString('latin1')));
        assert.equal(bytes.at(-1), 1);
        assert.equal(bytes.at(-2), 1);
      }
      void readInitialResponse(bytes);
    }),
    { numRuns: 500 },
  );
});

test('a refusal tells where tokens are to be had, in a word that lets libpq show what follows', () => {
  assert.deepEqual(
    JSON.parse(refusalJson({ discovery: 'https://i/.well-known/openid-configuration', scope: 'a "b"' })),
    {
      status: 'invalid_token',
      'openid-configuration': 'https://i/.well-known/openid-configuration',
      scope: 'a "b"',
    },
  );
  assert.deepEqual(JSON.parse(refusalJson(undefined)), { status: 'invalid_token' });
  assert.ok(isDummyResponse(Buffer.from([1])));
  for (const body of [[], [0], [1, 1]]) assert.ok(!isDummyResponse(Buffer.from(body)));
});
