// An image for tests in a cluster: Debian's sshd as a machine's owner runs it, with what Ansible needs at its end, and
// OpenSSH's clients. Made of this machine's programs. For tests only.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { writeImage } from '../../../../../image/oci.ts';
import { findProgram, put, putLibraries, putProgram, stageBase } from '../host-programs.ts';

export const SSH_IMAGE = 'localhost/sallyport-test-ssh:1';
/** Users that may be logged in to; each has a home and a group of its own. */
export const SSH_USERS: Readonly<Record<string, number>> = { deploy: 1000, backup: 1001, legacy: 1002 };
/** For client pods: nobody in particular. */
export const SSH_CLIENT_USER = 1010;

const PROGRAMS = ['chown', 'env', 'grep', 'kill', 'ps', 'readlink', 'stat', 'tty', 'uname', 'whoami'];
const PYTHON = ['/usr/lib/python3.11', '/usr/lib/python3.12', '/usr/lib/python3.13'];
/** Of Python's library, and of no use on a machine. */
const LEFT_OUT = /\/(?:__pycache__|dist-packages|test|idlelib|lib2to3|ensurepip|tkinter|config-[^/]+)(?:\/|$)/;

function stagePython(stage: string): void {
  const library = PYTHON.find((folder) => fs.existsSync(folder));
  if (library === undefined) throw new Error('Ansible’s end needs a Python of Debian on this machine');
  putProgram(findProgram(path.basename(library)), stage, 'usr/bin/python3');
  const to = path.join(stage, library);
  fs.cpSync(library, to, { recursive: true, dereference: true, filter: (from) => !LEFT_OUT.test(from) });
  const binaries = path.join(to, 'lib-dynload');
  for (const name of fs.readdirSync(binaries)) putLibraries(path.join(binaries, name), stage);
}

function stageMachine(stage: string): void {
  const users = Object.entries({ ...SSH_USERS, client: SSH_CLIENT_USER });
  stageBase(stage, {
    passwd: [
      'sshd:x:100:65534:sshd:/run/sshd:/bin/false',
      ...users.map(([name, id]) => `${name}:x:${id}:${id}:${name}:/home/${name}:/bin/bash`),
    ],
    group: ['tty:x:5:', 'nogroup:x:65534:', ...users.map(([name, id]) => `${name}:x:${id}:`)],
  });
  putProgram(findProgram('bash'), stage, 'bin/bash');
  for (const name of PROGRAMS) putProgram(findProgram(name), stage, `usr/bin/${name}`);
  for (const name of ['ssh', 'scp', 'sftp', 'ssh-keygen']) putProgram(findProgram(name), stage, `usr/bin/${name}`);
  putProgram(findProgram('sshd'), stage, 'usr/sbin/sshd');
  stagePython(stage);
  for (const name of ['home', 'run', 'config']) fs.mkdirSync(path.join(stage, name));
  put(path.join(import.meta.dirname, 'entrypoint.sh'), path.join(stage, 'usr/bin/entrypoint'));
}

/** Writes the archive into `folder`, for `loadImage`; its path. */
export function buildSshImage(folder: string): string {
  const stage = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-test-image-'));
  try {
    fs.chmodSync(stage, 0o755);
    stageMachine(stage);
    const file = path.join(folder, 'sallyport-test-ssh.oci.tar');
    writeImage(file, {
      name: SSH_IMAGE,
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      layers: [stage],
      compress: false,
      config: {
        entrypoint: ['/usr/bin/entrypoint'],
        user: '0:0',
        environment: { PATH: '/usr/sbin:/usr/bin:/bin', LC_ALL: 'C.UTF-8' },
      },
    });
    return file;
  } finally {
    fs.rmSync(stage, { recursive: true, force: true });
  }
}
