// Sallyport's image for tests: of the sources as they are, built when they changed (about 5 s), else taken from the cache.
// SALLYPORT_IMAGE_TAR names one that was built before.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { DEFAULT_NAME } from '../../../../image/sallyport.ts';
import { ownArchitecture, root } from '../../../../image/stage.ts';
import { cacheFolder } from './start.ts';

/** The image's reference in a test cluster. */
export const SALLYPORT_IMAGE: string = DEFAULT_NAME;

const KEPT = 3;

function sourcesHash(): string {
  const hash = createHash('sha256');
  const inputs = ['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json', 'image', 'src'];
  for (const input of inputs) {
    const files = fs.statSync(path.join(root, input)).isDirectory()
      ? fs
          .readdirSync(path.join(root, input), { recursive: true, encoding: 'utf8' })
          .map((name) => path.join(input, name))
      : [input];
    for (const file of files.toSorted()) {
      const at = path.join(root, file);
      if (file.startsWith('image/out') || !fs.statSync(at).isFile()) continue;
      hash.update(`${file}\0`).update(fs.readFileSync(at));
    }
  }
  return hash.digest('hex').slice(0, 16);
}

/** Path of an OCI archive for `startNodeCluster({ images })`. */
export function sallyportImage(): string {
  const given = process.env['SALLYPORT_IMAGE_TAR'];
  if (given !== undefined) return given;
  const folder = path.join(cacheFolder(), 'images');
  const file = path.join(folder, `sallyport-${sourcesHash()}.oci.tar`);
  if (!fs.existsSync(file)) {
    fs.mkdirSync(folder, { recursive: true });
    // In a process of its own: a build needs half a gigabyte that the test would keep.
    const build = `import { buildImage } from ${JSON.stringify(path.join(root, 'image/sallyport.ts'))};
      buildImage({ architecture: ${JSON.stringify(ownArchitecture)}, file: ${JSON.stringify(file)}, compress: false, lenient: true });`;
    execFileSync(process.execPath, ['--input-type=module', '-e', build], { stdio: ['ignore', 'ignore', 'inherit'] });
  }
  const others = fs
    .readdirSync(folder)
    .filter((name) => name.startsWith('sallyport-') && name.endsWith('.oci.tar'))
    .map((name) => ({ name, used: fs.statSync(path.join(folder, name)).mtimeMs }))
    .toSorted((one, two) => two.used - one.used);
  for (const { name } of others.slice(KEPT)) fs.rmSync(path.join(folder, name), { force: true });
  return file;
}
