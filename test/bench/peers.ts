// The other ways to the server that the gateway is measured against: pgbouncer in session mode and the bare relay,
// both with TLS on both legs.
import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { type TestCertificates, testCertificates } from '../support/certificates.ts';
import { freePort, type PostgresServer } from '../support/postgres.ts';

export interface Peer {
  name: string;
  port: number;
  /** PEM of the CA for its certificate. */
  ca: string;
  pid: number;
  stop(): Promise<void>;
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  await exited;
}

export async function startRelay(folder: string, server: PostgresServer): Promise<Peer> {
  const certificates = await writeCertificates(folder, 'relay');
  const port = await freePort();
  const child = fork(
    path.join(import.meta.dirname, 'relay.ts'),
    [
      String(port),
      String(server.port),
      path.join(folder, 'relay.crt'),
      path.join(folder, 'relay.key'),
      path.join(folder, 'relay.log'),
    ],
    { stdio: 'inherit' },
  );
  await new Promise<void>((resolve, reject) => {
    child.once('message', () => resolve());
    child.once('exit', (code) => reject(new Error(`the relay ended with ${code}`)));
  });
  return { name: 'bare relay', port, ca: certificates.ca, pid: child.pid!, stop: () => stopChild(child) };
}

async function writeCertificates(folder: string, name: string): Promise<TestCertificates> {
  const certificates = await testCertificates();
  fs.writeFileSync(path.join(folder, `${name}.crt`), certificates.server.cert);
  fs.writeFileSync(path.join(folder, `${name}.key`), certificates.server.key);
  return certificates;
}

/** undefined where the machine has no pgbouncer. */
export async function startPgbouncer(
  folder: string,
  server: PostgresServer,
  account: { username: string; password: string },
): Promise<Peer | undefined> {
  const binary = ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer'].find((candidate) => fs.existsSync(candidate));
  if (binary === undefined) return undefined;
  const certificates = await writeCertificates(folder, 'pgbouncer');
  const port = await freePort();
  fs.writeFileSync(path.join(folder, 'upstream-ca.crt'), server.ca);
  fs.writeFileSync(path.join(folder, 'users.txt'), `"${account.username}" "${account.password}"\n`);
  fs.writeFileSync(
    path.join(folder, 'pgbouncer.ini'),
    `[databases]
* = host=127.0.0.1 port=${server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = ${folder}/users.txt
pool_mode = session
max_client_conn = 200
default_pool_size = 150
ignore_startup_parameters = extra_float_digits
client_tls_sslmode = require
client_tls_cert_file = ${folder}/pgbouncer.crt
client_tls_key_file = ${folder}/pgbouncer.key
server_tls_sslmode = verify-ca
server_tls_ca_file = ${folder}/upstream-ca.crt
log_connections = 0
log_disconnections = 0
`,
  );
  // pgbouncer refuses to run as root.
  let user: { uid?: number; gid?: number } = {};
  if (process.getuid?.() === 0) {
    const [, , uid, gid] = execFileSync('getent', ['passwd', 'postgres'], { encoding: 'utf8' }).split(':');
    user = { uid: Number(uid), gid: Number(gid) };
    fs.chmodSync(folder, 0o755);
  }
  const child = spawn(binary, ['-q', path.join(folder, 'pgbouncer.ini')], {
    stdio: ['ignore', 'ignore', 'inherit'],
    ...user,
  });
  await new Promise((resolve) => setTimeout(resolve, 500));
  if (child.exitCode !== null) throw new Error('pgbouncer did not start');
  return { name: 'pgbouncer', port, ca: certificates.ca, pid: child.pid!, stop: () => stopChild(child) };
}
