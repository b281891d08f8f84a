// Noise at both sides of the sftp and scp filters: nothing throws, nothing reaches the target that was not permitted,
// memory stays where it is. SALLYPORT_FUZZ_RUNS says how long.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createNameLock } from '../../src/protocols/ssh/files/name-lock.ts';
import { createScpFilter } from '../../src/protocols/ssh/files/scp/filter.ts';
import { createSftpFilter } from '../../src/protocols/ssh/files/sftp/filter.ts';
import { packet, TYPE } from '../../src/protocols/ssh/files/sftp/packets.ts';
import { createFakeHost, type Ruling } from '../../src/protocols/ssh/files/testing/fake-host.ts';
import { createFakeTarget } from '../../src/protocols/ssh/files/testing/fake-target.ts';
import { at } from '../../src/protocols/ssh/files/testing/sftp-client.ts';
import type { Field } from '../../src/protocols/ssh/wire/data.ts';
import { systemClock } from '../../src/system/clock.ts';

const numRuns = Number(process.env.SALLYPORT_FUZZ_RUNS ?? 300);
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const path = fc.constantFrom(
  '/ok/a',
  '/ok/b',
  '/no/a',
  '../no/b',
  'x/../../no',
  '/ok/../no',
  '',
  '.',
  '/',
  '/ok/\0',
  '/ok//a/',
);
const handle = fc.constantFrom('h1', 'h2', 'h3', 'h9', '');
const attributes = fc.constantFrom<Field[]>(
  [{ uint32: 0 }],
  [{ uint32: 4 }, { uint32: 0o4755 }],
  [{ uint32: 1 }, { uint64: 9n }],
  [{ uint32: 0x80000000 }],
);
const name = fc.constantFrom(
  'posix-rename@openssh.com',
  'hardlink@openssh.com',
  'copy-data',
  'expand-path@openssh.com',
  'lsetstat@openssh.com',
  'nonsense',
);
const u32 = fc.nat({ max: 40 });

/** Well formed, odd, or noise. */
const request = fc.oneof(
  fc
    .tuple(path, u32, attributes)
    .map(([p, flags, a]) => packet(TYPE.OPEN, { uint32: 1 }, at(p), { uint32: flags }, ...a)),
  fc
    .tuple(
      fc.constantFrom(TYPE.STAT, TYPE.LSTAT, TYPE.OPENDIR, TYPE.REMOVE, TYPE.RMDIR, TYPE.REALPATH, TYPE.READLINK),
      path,
    )
    .map(([type, p]) => packet(type, { uint32: 2 }, at(p))),
  fc
    .tuple(fc.constantFrom(TYPE.RENAME, TYPE.SYMLINK), path, path)
    .map(([type, p, q]) => packet(type, { uint32: 3 }, at(p), at(q))),
  fc
    .tuple(fc.constantFrom(TYPE.SETSTAT, TYPE.MKDIR), path, attributes)
    .map(([type, p, a]) => packet(type, { uint32: 4 }, at(p), ...a)),
  fc
    .tuple(fc.constantFrom(TYPE.CLOSE, TYPE.FSTAT, TYPE.READDIR), handle)
    .map(([type, h]) => packet(type, { uint32: 5 }, at(h))),
  fc
    .tuple(handle, u32, u32)
    .map(([h, offset, length]) =>
      packet(TYPE.READ, { uint32: 6 }, at(h), { uint64: BigInt(offset) }, { uint32: length }),
    ),
  fc
    .tuple(handle, u32, fc.uint8Array({ maxLength: 50 }))
    .map(([h, offset, data]) =>
      packet(TYPE.WRITE, { uint32: 7 }, at(h), { uint64: BigInt(offset) }, { string: Buffer.from(data) }),
    ),
  fc.tuple(name, path, path).map(([n, p, q]) => packet(TYPE.EXTENDED, { uint32: 8 }, { string: n }, at(p), at(q))),
  fc
    .tuple(fc.nat({ max: 255 }), fc.uint8Array({ maxLength: 40 }))
    .map(([type, data]) => packet(type, { uint32: 9 }, { raw: Buffer.from(data) })),
);

function allowed(p: string): boolean {
  return p === '/ok' || p.startsWith('/ok/');
}

test('INV-01, INV-11: whatever a client sends, only what was permitted reaches the target', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(request, { maxLength: 30 }),
      fc.array(fc.nat({ max: 60 }), { minLength: 1, maxLength: 10 }),
      fc.option(fc.tuple(fc.nat({ max: 400 }), fc.nat({ max: 255 })), { nil: undefined }),
      async (requests, cuts, flip) => {
        let answered = 0;
        const host = createFakeHost({
          toTarget: (data) => target.feed(Buffer.from(data)),
          toClient: (data) => {
            answered += data.length;
          },
          rule: (facts): Ruling =>
            facts.access.every((one) => allowed(one.path) && (one.resolved === undefined || allowed(one.resolved)))
              ? 'Run'
              : 'Refuse',
        });
        const target = createFakeTarget((data) => setImmediate(() => filter.fromTarget(data)));
        const filter = createSftpFilter(host, { clock: systemClock, names: createNameLock() });
        const all = Buffer.concat([packet(TYPE.INIT, { uint32: 3 }), ...requests]);
        if (flip && flip[0] < all.length) all[flip[0]] = flip[1];
        for (let from = 0, index = 0; from < all.length; index += 1) {
          const size = 1 + cuts[index % cuts.length]!;
          filter.fromClient(Buffer.from(all.subarray(from, from + size)));
          from += size;
          if (index % 5 === 0) await turn();
        }
        for (let rounds = 0; rounds < 60; rounds += 1) await turn();
        for (const { type, whole } of target.asked) {
          if (type === TYPE.REALPATH || ![3, 9, 10, 11, 13, 14, 15, 17, 18, 20].includes(type)) continue;
          if (type === TYPE.FSETSTAT || type === TYPE.SYMLINK) continue;
          const length = whole.readUInt32BE(9);
          assert.ok(allowed(whole.toString('latin1', 13, 13 + length)), `${type} ${whole.toString('latin1', 13)}`);
        }
        assert.notEqual(host.failed?.side, 'Target');
        if (!flip && !host.failed) assert.ok(answered > 0);
        filter.closed();
        await turn();
        for (const { id, ruling } of host.judged) if (ruling === 'Run') assert.ok(host.results.has(id));
      },
    ),
    { numRuns },
  );
});

test('INV-11: whatever a target sends, it costs that connection and nothing else', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 12 }),
      fc.boolean(),
      async (noise, greeted) => {
        const host = createFakeHost({ toTarget: () => {}, toClient: () => {} });
        const filter = createSftpFilter(host, { clock: systemClock, names: createNameLock() });
        filter.fromClient(packet(TYPE.INIT, { uint32: 3 }));
        if (greeted) filter.fromTarget(packet(TYPE.VERSION, { uint32: 3 }));
        await turn();
        filter.fromClient(packet(TYPE.STAT, { uint32: 1 }, at('/x')));
        for (const data of noise) filter.fromTarget(Buffer.from(data));
        await turn();
        assert.ok(filter.heldBytes.target < 1024 * 1024);
        filter.targetEof();
        filter.closed();
        await turn();
        assert.notEqual(host.failed?.side, 'Client');
      },
    ),
    { numRuns },
  );
});

const line = fc.oneof(
  fc.constantFrom(
    'C0644 3 a\n',
    'C0644 3 ../a\n',
    'D0755 0 d\n',
    'E\n',
    'T1 0 1 0\n',
    '\x01x\n',
    '\x02x\n',
    'abc\0',
    '\0',
    'C4755 0 s\n',
    'C0644 3 no\n',
  ),
  fc.uint8Array({ maxLength: 20 }).map((data) => Buffer.from(data).toString('latin1')),
);

test('INV-11: noise in the old scp protocol, at both sides and in both directions', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.boolean(), line), { maxLength: 30 }),
      fc.constantFrom('Read', 'Write'),
      fc.boolean(),
      async (lines, mode, recursive) => {
        let toTarget = '';
        const host = createFakeHost({
          toTarget: (data) => {
            toTarget += data.toString('latin1');
          },
          toClient: () => {},
          rule: (facts): Ruling => (facts.access.some((one) => one.path.endsWith('no')) ? 'Refuse' : 'Run'),
        });
        const filter = createScpFilter(host, {
          mode,
          paths: ['/srv/a'],
          recursive,
          directory: true,
          clock: systemClock,
          names: createNameLock(),
          askTarget: async () => undefined,
        });
        for (const [client, text] of lines) {
          if (client) filter.fromClient(Buffer.from(text, 'latin1'));
          else filter.fromTarget(Buffer.from(text, 'latin1'));
          await turn();
        }
        assert.doesNotMatch(toTarget, /^C0644 3 (\.\.\/a|no)$/m);
        filter.closed();
        await turn();
        for (const { id, ruling } of host.judged) if (ruling === 'Run') assert.ok(host.results.has(id));
      },
    ),
    { numRuns },
  );
});
