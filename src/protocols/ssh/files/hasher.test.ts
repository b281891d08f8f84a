import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { createHasher } from './hasher.ts';

const sha = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

test('streams of every length have their digest, many at once', async () => {
  const lengths = [0, 1, 1000, 262_144, 524_287, 524_288, 524_289, 1_048_576, 3_000_001];
  await Promise.all(
    lengths.map(async (length) => {
      const data = randomBytes(length);
      const hasher = createHasher();
      for (let at = 0; at < length; at += 32_768) {
        const piece = Buffer.from(data.subarray(at, at + 32_768));
        hasher.update(piece);
        // It was copied: what becomes of the piece is nobody's business.
        piece.fill(0);
        if (at % 262_144 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      assert.equal(await hasher.digest(), sha(data));
    }),
  );
});

test('INV-11: blocks are bounded; who begins without one hashes on the spot, who runs out has no digest', async () => {
  const data = randomBytes(600_000);
  const many = Array.from({ length: 200 }, () => createHasher());
  for (const hasher of many) hasher.update(data.subarray(0, 1000));
  for (const hasher of many) hasher.update(data.subarray(1000));
  const digests = await Promise.all(many.map((hasher) => hasher.digest()));
  const right = digests.filter((digest) => digest === sha(data)).length;
  assert.equal(right + digests.filter((digest) => digest === undefined).length, 200);
  assert.ok(right >= 152, String(right));
  const dropped = createHasher();
  dropped.update(data);
  dropped.drop();
  const after = createHasher();
  after.update(data);
  assert.equal(await after.digest(), sha(data));
});

test('a stream whose digest nobody asked for keeps no process', () => {
  const program = `import { createHasher } from ${JSON.stringify(new URL('hasher.ts', import.meta.url).href)};
    createHasher().update(Buffer.alloc(3_000_000));`;
  const ran = spawnSync(process.execPath, ['--input-type=module', '-e', program], { timeout: 30_000 });
  assert.equal(ran.status, 0, String(ran.error ?? ran.stderr));
});
