// SSH as people use it: a real daemon over a directory of YAML, a real sshd behind it, and OpenSSH's own programs in
// front of it with what `sallyport ssh-config` wrote.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { type CliResult, type Local, SALLYPORT, startLocal } from './local.ts';
import { type Sshd, type SshdOptions, startSshd } from './sshd.ts';

export const alice = { as: 'alice@corp.example', groups: ['ops'] };
export const bob = { as: 'bob@corp.example', groups: ['ops'] };

export interface SshScene {
  local: Local;
  sshd: Sshd;
  /** For `ssh -F`: the names of the Connections are hosts. */
  config: string;
  /** A folder for what a criterion needs. */
  folder: string;
  /** What programs need so that they find `sallyport` and are alice. */
  env: Record<string, string>;
  /** Runs `ssh` with the scene's configuration; `input` is its standard input, which ends behind it. */
  ssh(args: readonly string[], options?: RunOptions): Promise<CliResult>;
  /** Runs any other program in the scene's environment. */
  run(program: string, args: readonly string[], options?: RunOptions): Promise<CliResult>;
  /** Starts `ssh` and lets it run. */
  spawn(args: readonly string[]): ChildProcess;
  /** Asks for a grant on a Connection as alice and waits until it is in force; its name. */
  request(connection: string, duration?: string): Promise<string>;
  stop(): Promise<void>;
}

export interface RunOptions {
  input?: string | Buffer;
  timeoutMs?: number;
  cwd?: string;
}

/** `rules`: YAML of a policy's rules by the Connection's name, each a list in one line or several indented by two. */
export async function startSshScene(
  rules: Readonly<Record<string, string>>,
  options: { sshd?: SshdOptions; spec?: string } = {},
): Promise<SshScene> {
  const sshd = await startSshd(options.sshd);
  const files: Record<string, string> = { 'secret.yaml': sshSecretYaml('web-deploy', sshd) };
  for (const [name, yaml] of Object.entries(rules)) {
    files[`${name}.yaml`] = connectionYaml(name, sshd, options.spec ?? '');
    files[`${name}-policy.yaml`] = policyYaml(name, yaml);
  }
  const local = await startLocal(files);
  const folder = fs.mkdtempSync(path.join(path.dirname(local.state), 'scene-'));
  const bin = path.join(folder, 'bin');
  fs.mkdirSync(bin);
  fs.symlinkSync(SALLYPORT, path.join(bin, 'sallyport'));
  const env = local.environment({
    env: {
      PATH: `${bin}:${process.env['PATH']}`,
      SALLYPORT_AS: alice.as,
      SALLYPORT_GROUPS: alice.groups.join(','),
    },
  });

  const run: SshScene['run'] = (program, args, { input = '', timeoutMs = 60_000, cwd } = {}) =>
    new Promise((resolve, reject) => {
      const child = execFile(
        program,
        args,
        { env, timeout: timeoutMs, cwd, maxBuffer: 64 * 1024 * 1024, encoding: 'utf8' },
        (error, stdout, stderr) => {
          const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
          resolve({ code, stdout, stderr, output: stdout + stderr });
        },
      );
      child.on('error', reject);
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(input);
    });

  const scene: SshScene = {
    local,
    sshd,
    config: '',
    folder,
    env,
    run,
    ssh: (args, given) => run('ssh', ['-F', scene.config, '-l', sshd.user, ...args], given),
    spawn: (args) =>
      spawn('ssh', ['-F', scene.config, '-l', sshd.user, ...args], { env, stdio: ['pipe', 'pipe', 'pipe'] }),
    async request(connection, duration = '1h') {
      const asked = await local.cli(
        ['request', connection, '--for', duration, '--reason', 'test', '--wait', '-o', 'json'],
        alice,
      );
      if (asked.code !== 0) throw new Error(asked.output);
      return (JSON.parse(asked.stdout) as { metadata: { name: string } }).metadata.name;
    },
    async stop() {
      await local.stop();
      await sshd.stop();
    },
  };
  try {
    const written = await local.cli(['ssh-config', '--write'], alice);
    if (written.code !== 0) throw new Error(written.output);
    scene.config = written.stdout.trim();
  } catch (error) {
    await scene.stop();
    throw error;
  }
  return scene;
}

const connectionYaml = (name: string, sshd: Sshd, spec: string): string => `apiVersion: sallyport.dev/v1alpha1
kind: Connection
metadata: {name: ${name}, namespace: payments}
spec:
  type: SSH
  ssh: {host: 127.0.0.1, port: ${sshd.port}, hostKeys: ['${sshd.hostKey}']}
  accounts: [{name: deploy, secretRef: {name: web-deploy}}]
${spec}`;

const policyYaml = (name: string, rules: string): string => `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: ${name}-ops, namespace: payments}
spec:
  connectionSelector: {names: [${name}]}
  subjects: [{kind: Group, name: ops}]
  accounts: [deploy]
  maxDuration: 4h
  rules:
${rules}
`;

/** How the account gets into the target; `name` the Secret's. */
export const sshSecretYaml = (name: string, sshd: Sshd): string => `apiVersion: v1
kind: Secret
metadata: {name: ${name}, namespace: payments}
stringData:
  username: ${sshd.user}
  sallyport-hosts: 127.0.0.1:${sshd.port}
  ssh-privatekey: |
${sshd.privateKey.trim().replace(/^/gm, '    ')}
`;
