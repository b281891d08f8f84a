// Programs of other people that some tests need; where they are and what to say when they are not there.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { hasProgram } from './local.ts';

const cache =
  process.env.SALLYPORT_CACHE ??
  path.join(process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), '.cache'), 'sallyport');

const existing = (file: string): string | undefined => (fs.existsSync(file) ? file : undefined);

export const tools = {
  psql: hasProgram('psql') ? 'psql' : undefined,
  pgbench: hasProgram('pgbench') ? 'pgbench' : existing('/usr/lib/postgresql/15/bin/pgbench'),
  postgres15: existing('/usr/lib/postgresql/15/bin/postgres'),
  psycopg: existing(path.join(cache, 'python/bin/python')),
  /** A Python that has paramiko, asyncssh and Ansible. */
  sshPython: existing(path.join(cache, 'ssh-python/bin/python')),
  pgjdbc: hasProgram('javac') ? existing(path.join(cache, 'java/postgresql-42.7.8.jar')) : undefined,
};

/** For `test(name, { skip })`: false if it is there, else why the test is skipped and how to get the program. */
export function missing(name: keyof typeof tools): string | false {
  return tools[name] === undefined
    ? `${name} is not installed; \`scripts/tools.sh ${name === 'sshPython' ? 'ssh' : 'conformance'}\` as root brings it`
    : false;
}
