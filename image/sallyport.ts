// Sallyport's image: what is in it and how it is run. See stage.ts for its folders and oci.ts for its file.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type Architecture, type WrittenImage, writeImage } from './oci.ts';
import { root, type StageOptions, stage, USER } from './stage.ts';

const { version, description } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as {
  version: string;
  description: string;
};

export const DEFAULT_NAME = `localhost/sallyport:${version}`;
export const defaultFile = (architecture: Architecture): string =>
  path.join(root, 'image/out', `sallyport-${version}-${architecture}.oci.tar`);

/** Writes `file`. Throws where the compiler finds errors (unless `lenient`) or something is missing. */
export function buildImage(
  options: Omit<StageOptions, 'out'> & { file: string; name?: string; compress?: boolean },
): WrittenImage {
  const out = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-image-'));
  try {
    const { base, app } = stage({ ...options, out });
    return writeImage(options.file, {
      name: options.name ?? DEFAULT_NAME,
      architecture: options.architecture,
      layers: [base, app],
      ...(options.compress === undefined ? {} : { compress: options.compress }),
      // The date of the sources where a build says it (https://reproducible-builds.org/specs/source-date-epoch/).
      created: Number(process.env['SOURCE_DATE_EPOCH'] ?? 0),
      config: {
        // What streams through is garbage at once: a small nursery gives it back before it has grown (by 64 MiB otherwise).
        entrypoint: [
          '/usr/bin/node',
          '--max-semi-space-size=4',
          '--disable-warning=ExperimentalWarning',
          '/app/dist/cli/main.js',
        ],
        user: `${USER}:${USER}`,
        workingDirectory: '/app',
        // glibc keeps a heap a thread otherwise, and gives little of it back.
        environment: { PATH: '/usr/bin', NODE_ENV: 'production', MALLOC_ARENA_MAX: '2' },
        labels: {
          'org.opencontainers.image.title': 'Sallyport',
          'org.opencontainers.image.description': description,
          'org.opencontainers.image.version': version,
          'org.opencontainers.image.licenses': 'Apache-2.0',
        },
      },
    });
  } finally {
    fs.rmSync(out, { recursive: true, force: true });
  }
}
