// Two machines in pods that run Debian's sshd, and what a team commits for them: `web1` trusts the Connection's authority
// and nothing else; `old1` lets in by a key and by a password, which only its proxies know.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Connection } from '../../src/api/connection.ts';
import { buildSshImage } from '../support/cluster/node/ssh-image/images.ts';
import { sshClientPod, sshMachine } from '../support/cluster/node/ssh-image/manifests.ts';
import { NAMESPACE, type Scene, startScene } from './scene.ts';

const API = 'sallyport.dev/v1alpha1';

export interface Machines {
  scene: Scene;
  /** Lines `ssh-ed25519 AAAA…` of the machines' own keys. */
  hostKeys: { web1: string; old1: string };
  /** Never to be seen by anybody but the proxies: the body of a private key, and a password. */
  secrets: readonly string[];
}

export async function startMachines(progress: (text: string) => void): Promise<Machines> {
  let machines: Omit<Machines, 'scene'> | undefined;
  const scene = await startScene(
    progress,
    (folder) => [buildSshImage(folder)],
    async (made) => {
      machines = await prepare(made);
    },
  );
  return { scene, ...machines! };
}

interface KeyPair {
  /** The file's text. */
  secret: string;
  /** Without its comment. */
  line: string;
}

function makeKey(scene: Scene, name: string): KeyPair {
  const file = path.join(scene.folder, name);
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', file], { stdio: 'pipe' });
  const read = (at: string): string => fs.readFileSync(at, 'utf8');
  const pair = { secret: read(file), line: read(`${file}.pub`).trim().split(' ').slice(0, 2).join(' ') };
  fs.rmSync(file);
  return pair;
}

async function prepare(scene: Scene): Promise<Omit<Machines, 'scene'>> {
  const [web1, old1, login] = ['web1', 'old1', 'login'].map((name) => makeKey(scene, name)) as [
    KeyPair,
    KeyPair,
    KeyPair,
  ];
  const password = 'pw-legacy-c41f7e';
  const hash = execFileSync('openssl', ['passwd', '-6', '-stdin'], { input: password, encoding: 'utf8' }).trim();
  const where = { 'sallyport-hosts': `old1.${NAMESPACE}.svc:22` };
  const secret = (name: string, stringData: Record<string, string>): object => ({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, namespace: NAMESPACE },
    stringData: { ...stringData, ...where },
  });
  await scene.apply(
    secret('old1-backup', { username: 'backup', 'ssh-privatekey': login.secret }),
    secret('old1-legacy', { username: 'legacy', password }),
    ...sshMachine({
      namespace: NAMESPACE,
      name: 'old1',
      hostKey: old1.secret,
      authorizedKeys: { backup: login.line },
      passwords: { legacy: hash },
    }),
    sshClientPod({ namespace: NAMESPACE, name: 'client' }),
    ...access(web1.line, old1.line),
  );
  // The machine's owner takes one line from the Connection.
  const authority = await scene.until('the authority of web1', async () => {
    const seen = await scene.read<Connection>('connection', 'web1');
    return seen.status?.ssh?.userAuthority;
  });
  await scene.apply(
    ...sshMachine({ namespace: NAMESPACE, name: 'web1', hostKey: web1.secret, authorities: [authority] }),
  );
  for (const name of ['web1', 'old1'])
    await scene.inNamespace('rollout', 'status', `deployment/${name}`, '--timeout=60s');
  const body = login.secret.split('\n').slice(1, 4).join('');
  return { hostKeys: { web1: web1.line, old1: old1.line }, secrets: [body.slice(70, 170), password] };
}

/** A Connection to the machine `web1`, by certificates. */
export const webConnection = (name: string, hostKey: string): object => ({
  apiVersion: API,
  kind: 'Connection',
  metadata: { name, namespace: NAMESPACE },
  spec: {
    type: 'SSH',
    ssh: { host: `web1.${NAMESPACE}.svc`, hostKeys: [hostKey] },
    accounts: [{ name: 'deploy', certificate: { users: ['deploy'] } }],
  },
});

function access(web1: string, old1: string): object[] {
  const dba = [{ kind: 'Group', name: 'dba' }];
  const policy = (name: string, spec: object): object => ({
    apiVersion: API,
    kind: 'AccessPolicy',
    metadata: { name: `${name}-team`, namespace: NAMESPACE },
    spec: {
      connectionSelector: { names: [name] },
      subjects: [{ kind: 'Group', name: 'payments' }],
      access: 'Grant',
      maxDuration: '8h',
      approval: { timeout: '1h', steps: [{ name: 'second', approvers: dba }] },
      ...spec,
    },
  });
  return [
    webConnection('web1', web1),
    policy('web1', {
      accounts: ['deploy'],
      rules: [
        {
          name: 'look',
          action: 'Allow',
          ssh: { commands: ['echo **', 'id', 'cat **', 'exit *', 'sleep *', 'touch **', 'sh -c **'] },
        },
        { name: 'shell', action: 'Allow', ssh: { shell: true } },
        { name: 'releases', action: 'Allow', ssh: { paths: ['/home/deploy/**'] } },
        {
          name: 'ask',
          action: 'Hold',
          ssh: { commands: ['touch /home/deploy/restart'] },
          hold: { approvers: dba, timeout: '60s' },
        },
        { name: 'no-secrets', action: 'Deny', ssh: { paths: ['/home/deploy/secrets/**'] } },
      ],
    }),
    {
      apiVersion: API,
      kind: 'Connection',
      metadata: { name: 'old1', namespace: NAMESPACE },
      spec: {
        type: 'SSH',
        ssh: { host: `old1.${NAMESPACE}.svc`, hostKeys: [old1] },
        accounts: [
          { name: 'backup', secretRef: { name: 'old1-backup' } },
          { name: 'legacy', secretRef: { name: 'old1-legacy' } },
        ],
      },
    },
    policy('old1', { accounts: ['backup', 'legacy'], rules: [{ name: 'all', action: 'Allow' }] }),
  ];
}
