// Writes OCI image archives from folders: layers, configuration, manifest and index, in one tar file that containerd,
// Podman, buildah, skopeo and Docker (25 or later) load. Needs GNU tar, no root and no daemon. The same folders give the
// same bytes: entries are sorted, owned by root, and dated `created`. It neither runs nor checks what is in the folders.
// Source: OCI Image Format Specification 1.1 (image-layout, manifest, config).
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';

export type Architecture = 'amd64' | 'arm64';

export interface ImageConfig {
  entrypoint: readonly string[];
  command?: readonly string[];
  /** "uid:gid"; numeric, so that `runAsNonRoot` can be checked without reading the image. */
  user: string;
  workingDirectory?: string;
  environment?: Readonly<Record<string, string>>;
  labels?: Readonly<Record<string, string>>;
}

export interface ImageOptions {
  /** Full reference, such as `localhost/sallyport:0.1.0`. */
  name: string;
  architecture: Architecture;
  /** Root folders, lowest first. */
  layers: readonly string[];
  config: ImageConfig;
  /** Default true. Tests leave it: packing takes longer than all the rest. */
  compress?: boolean;
  /** Seconds since 1970 of all entries and of the image. */
  created?: number;
}

export interface WrittenImage {
  file: string;
  digest: string;
  /** Bytes, compressed and not. */
  layers: readonly { compressed: number; uncompressed: number }[];
}

interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
}

function tar(folder: string, created: number): Buffer {
  const done = spawnSync(
    'tar',
    // posix without times of its own: else every build would differ.
    [
      ['--sort=name', '--format=posix', '--pax-option=delete=atime,delete=ctime', `--mtime=@${created}`],
      ['--owner=0', '--group=0', '--numeric-owner', '-C', folder, '-cf', '-', '.'],
    ].flat(),
    { maxBuffer: 2 ** 31 - 1, env: { ...process.env, LC_ALL: 'C' } },
  );
  if (done.status !== 0) throw new Error(`tar failed: ${done.error?.message ?? done.stderr.toString()}`);
  return done.stdout;
}

const sha256 = (data: Buffer | string): string => `sha256:${createHash('sha256').update(data).digest('hex')}`;

/** Writes `file`. Throws where a folder can not be read or the file not written. */
export function writeImage(file: string, options: ImageOptions): WrittenImage {
  const { created = 0, compress = true, config } = options;
  const layout = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-oci-'));
  try {
    const blobs = path.join(layout, 'blobs', 'sha256');
    fs.mkdirSync(blobs, { recursive: true });
    const blob = (mediaType: string, data: Buffer | string): Descriptor => {
      const digest = sha256(data);
      fs.writeFileSync(path.join(blobs, digest.slice('sha256:'.length)), data);
      return { mediaType, digest, size: Buffer.byteLength(data) };
    };
    const diffIds: string[] = [];
    const sizes: { compressed: number; uncompressed: number }[] = [];
    const layers = options.layers.map((folder) => {
      const plain = tar(folder, created);
      diffIds.push(sha256(plain));
      const packed = compress ? gzipSync(plain, { level: 6 }) : plain;
      sizes.push({ compressed: packed.length, uncompressed: plain.length });
      return blob(`application/vnd.oci.image.layer.v1.tar${compress ? '+gzip' : ''}`, packed);
    });
    const when = new Date(created * 1000).toISOString();
    const configuration = blob(
      'application/vnd.oci.image.config.v1+json',
      JSON.stringify({
        created: when,
        architecture: options.architecture,
        os: 'linux',
        config: {
          User: config.user,
          Entrypoint: config.entrypoint,
          ...(config.command === undefined ? {} : { Cmd: config.command }),
          WorkingDir: config.workingDirectory ?? '/',
          Env: Object.entries(config.environment ?? {}).map(([key, value]) => `${key}=${value}`),
          Labels: config.labels ?? {},
        },
        rootfs: { type: 'layers', diff_ids: diffIds },
        history: layers.map(() => ({ created: when })),
      }),
    );
    const manifest = blob(
      'application/vnd.oci.image.manifest.v1+json',
      JSON.stringify({
        schemaVersion: 2,
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        config: configuration,
        layers,
      }),
    );
    const index = {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: [
        {
          ...manifest,
          platform: { architecture: options.architecture, os: 'linux' },
          annotations: { 'org.opencontainers.image.ref.name': options.name, 'io.containerd.image.name': options.name },
        },
      ],
    };
    fs.writeFileSync(path.join(layout, 'index.json'), JSON.stringify(index));
    fs.writeFileSync(path.join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
    fs.mkdirSync(path.dirname(path.resolve(file)), { recursive: true });
    const partial = `${file}.partial`;
    fs.writeFileSync(partial, tar(layout, created));
    fs.renameSync(partial, file);
    return { file, digest: manifest.digest, layers: sizes };
  } finally {
    fs.rmSync(layout, { recursive: true, force: true });
  }
}
