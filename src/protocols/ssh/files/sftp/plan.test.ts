import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Field, MalformedData, readData, writeData } from '../../wire/data.ts';
import { ATTR, type Attributes, bytesOf, packet, readAttributes, readVersion, TYPE } from './packets.ts';
import { attributeActions, openActions, planOf } from './plan.ts';
import { readReply } from './replies.ts';
import { readRequest } from './requests.ts';

const attributes = fc
  .record({ flags: fc.integer({ min: 0, max: 15 }), numbers: fc.array(fc.nat(), { minLength: 7, maxLength: 7 }) })
  .map(({ flags, numbers }) => {
    const fields: Field[] = [{ uint32: flags }];
    if (flags & ATTR.SIZE) fields.push({ uint64: BigInt(numbers[0]!) });
    if (flags & ATTR.UIDGID) fields.push({ uint32: numbers[1]! }, { uint32: numbers[2]! });
    if (flags & ATTR.PERMISSIONS) fields.push({ uint32: numbers[3]! });
    if (flags & ATTR.ACMODTIME) fields.push({ uint32: numbers[4]! }, { uint32: numbers[5]! });
    return { flags, permissions: numbers[3]!, bytes: writeData(...fields) };
  });

test('attributes are read as they are and written back byte for byte', () => {
  fc.assert(
    fc.property(attributes, ({ flags, permissions, bytes }) => {
      const read = readAttributes(readData(bytes));
      assert.deepEqual(read.bytes, bytes);
      assert.equal(read.permissions, flags & ATTR.PERMISSIONS ? permissions : undefined);
      const actions = attributeActions(read);
      assert.ok(actions.length > 0);
      assert.equal(
        actions.includes('Grant'),
        (flags & ATTR.UIDGID) !== 0 || ((flags & ATTR.PERMISSIONS) !== 0 && (permissions & 0o7000) !== 0),
      );
      if (flags & ATTR.SIZE) assert.ok(actions.includes('Write'));
      assert.throws(() => readAttributes(readData(Buffer.concat([bytes, Buffer.alloc(1)]))), MalformedData);
    }),
  );
});

test('every OPEN asks for something, and for Write where anything may change', () => {
  const none: Attributes = {
    size: false,
    owner: false,
    permissions: undefined,
    times: false,
    bytes: writeData({ uint32: 0 }),
  };
  for (let flags = 0; flags < 64; flags += 1) {
    const actions = openActions(flags, none);
    assert.ok(actions.length > 0);
    assert.equal(actions.includes('Write'), (flags & (2 | 4 | 8 | 16)) !== 0, String(flags));
    assert.equal(actions.includes('Read'), (flags & 1) !== 0 || (flags & 2) === 0, String(flags));
  }
});

test('what is sent is the resolved path, nothing of the client but its flags and attributes', () => {
  const path = fc.constantFrom('a', '../b', '/c/./d', 'x/../../y', '/e/');
  fc.assert(
    fc.property(
      path,
      path,
      fc.constantFrom<number>(
        TYPE.OPEN,
        TYPE.OPENDIR,
        TYPE.STAT,
        TYPE.LSTAT,
        TYPE.SETSTAT,
        TYPE.REMOVE,
        TYPE.MKDIR,
        TYPE.RMDIR,
        TYPE.RENAME,
        TYPE.READLINK,
      ),
      (one, two, type) => {
        const fields: Field[] = [{ string: bytesOf(one) }];
        if (type === TYPE.OPEN) fields.push({ uint32: 1 });
        if (type === TYPE.RENAME) fields.push({ string: bytesOf(two) });
        if (type === TYPE.OPEN || type === TYPE.SETSTAT || type === TYPE.MKDIR) fields.push({ uint32: 0 });
        const request = readRequest(type, writeData(...fields));
        assert.ok('path' in request || request.kind === 'Rename');
        const plan = planOf(request as Parameters<typeof planOf>[0], { directory: '/home', symlinkOrderKnown: true });
        assert.ok(!('problem' in plan) && plan.build);
        const built = plan.build(plan.places.map((_, index) => `/resolved${index}`));
        assert.equal(built.type, type);
        const text = writeData(...built.fields).toString('latin1');
        assert.match(text, /\/resolved0/);
        for (const { lexical, spelled } of plan.places) {
          assert.ok(lexical.startsWith('/') && !lexical.includes('..'));
          assert.ok(spelled.startsWith('/'));
          assert.ok(!text.includes(spelled));
        }
      },
    ),
  );
});

test('whatever bytes come, reading them answers or says that they are malformed', () => {
  const safely = (read: () => unknown): void => {
    try {
      read();
    } catch (error) {
      assert.ok(error instanceof MalformedData, String(error));
    }
  };
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 255 }), fc.uint8Array({ maxLength: 80 }), (type, data) => {
      const body = Buffer.from(data);
      safely(() => readRequest(type, body));
      safely(() => readReply(type, body));
      safely(() => readVersion(body));
    }),
    { numRuns: 500 },
  );
});

test('a packet says its own length', () => {
  const whole = packet(TYPE.STAT, { uint32: 1 }, { string: 'x' });
  assert.equal(whole.readUInt32BE(0), whole.length - 4);
});
