// `make image`: builds image/out/sallyport-<version>-<architecture>.oci.tar, without root, Docker or another daemon.
//   build.ts [--architecture amd64|arm64|all] [--name REFERENCE] [--lenient]
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type Architecture, writeImage } from './oci.ts';
import { ownArchitecture, root, stage, USER } from './stage.ts';

const { version, description } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as {
  version: string;
  description: string;
};
const { values } = parseArgs({
  options: {
    architecture: { type: 'string', default: ownArchitecture },
    name: { type: 'string', default: `localhost/sallyport:${version}` },
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
  const out = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-image-'));
  try {
    const { base, app } = stage({ out, architecture, lenient: values.lenient });
    const image = writeImage(path.join(root, 'image/out', `sallyport-${version}-${architecture}.oci.tar`), {
      name: values.name,
      architecture,
      layers: [base, app],
      // The date of the sources where a build says it (https://reproducible-builds.org/specs/source-date-epoch/).
      created: Number(process.env['SOURCE_DATE_EPOCH'] ?? 0),
      config: {
        entrypoint: ['/usr/bin/node', '--disable-warning=ExperimentalWarning', '/app/dist/cli/main.js'],
        user: `${USER}:${USER}`,
        workingDirectory: '/app',
        environment: { PATH: '/usr/bin', NODE_ENV: 'production' },
        labels: {
          'org.opencontainers.image.title': 'Sallyport',
          'org.opencontainers.image.description': description,
          'org.opencontainers.image.version': version,
          'org.opencontainers.image.licenses': 'Apache-2.0',
        },
      },
    });
    const [node, code] = image.layers;
    const sum = (part: 'compressed' | 'uncompressed'): number => image.layers.reduce((total, layer) => total + layer[part], 0);
    console.error(
      `${values.name} ${architecture}: ${megabytes(sum('uncompressed'))} (Node and libraries ${megabytes(node?.uncompressed ?? 0)}, ` +
        `Sallyport and packages ${megabytes(code?.uncompressed ?? 0)}), compressed ${megabytes(sum('compressed'))}, ` +
        `${((Date.now() - began) / 1000).toFixed(1)} s\n${image.digest}`,
    );
    console.log(path.relative(process.cwd(), image.file));
  } finally {
    fs.rmSync(out, { recursive: true, force: true });
  }
}
