// The image a release is upgraded to: the same sources under the next tag.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ROOT } from './scene.ts';

export const NEXT_TAG = '9.9.9-next';

/** Path of its OCI archive, built in a process of its own (about 5 s). */
export function nextImage(): string {
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-next-')), 'image.tar');
  const options = {
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    name: `localhost/sallyport:${NEXT_TAG}`,
    file,
    compress: false,
  };
  const build = `import { buildImage } from ${JSON.stringify(path.join(ROOT, 'image/sallyport.ts'))}; buildImage(${JSON.stringify(options)});`;
  execFileSync(process.execPath, ['--input-type=module', '-e', build], { stdio: ['ignore', 'ignore', 'inherit'] });
  return file;
}
