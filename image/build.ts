// `make image`: builds image/out/sallyport-<version>-<architecture>.oci.tar, without root, Docker or another daemon.
//   build.ts [--architecture amd64|arm64|all] [--name REFERENCE] [--lenient]
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Architecture } from './oci.ts';
import { buildImage, DEFAULT_NAME, defaultFile } from './sallyport.ts';
import { ownArchitecture } from './stage.ts';

const { values } = parseArgs({
  options: {
    architecture: { type: 'string', default: ownArchitecture },
    name: { type: 'string', default: DEFAULT_NAME },
    lenient: { type: 'boolean', default: false },
  },
});
const all: readonly Architecture[] = ['amd64', 'arm64'];
const chosen = all.filter((known) => values.architecture === 'all' || values.architecture === known);
if (chosen.length === 0) {
  console.error(`ARCH is amd64, arm64 or all, not ${values.architecture}`);
  process.exit(2);
}
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

for (const architecture of chosen) {
  const began = Date.now();
  try {
    const { name, lenient } = values;
    const image = buildImage({ architecture, name, lenient, file: defaultFile(architecture) });
    const [node, code] = image.layers;
    const sum = (part: 'compressed' | 'uncompressed'): number =>
      image.layers.reduce((total, layer) => total + layer[part], 0);
    console.error(
      `${name} ${architecture}: ${megabytes(sum('uncompressed'))} (Node and libraries ${megabytes(node?.uncompressed ?? 0)}, ` +
        `Sallyport and packages ${megabytes(code?.uncompressed ?? 0)}), compressed ${megabytes(sum('compressed'))}, ` +
        `${((Date.now() - began) / 1000).toFixed(1)} s\n${image.digest}`,
    );
    console.log(path.relative(process.cwd(), image.file));
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  }
}
