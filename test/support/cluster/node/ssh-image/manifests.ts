// The objects of an SSH machine and of a client pod in a test cluster. Pure.
import { SSH_CLIENT_USER, SSH_IMAGE, SSH_USERS } from './images.ts';

export interface SshMachine {
  namespace: string;
  /** Of the Service, the Deployment, and the Secret with its configuration. */
  name: string;
  /** Private key in OpenSSH's form: the machine's own. */
  hostKey: string;
  /** Lines of TrustedUserCAKeys; none: it trusts no authority. */
  authorities?: readonly string[];
  /** Users to lines of their authorized_keys; none: no key is good. */
  authorizedKeys?: Readonly<Record<string, string>>;
  /** Users to hashes of crypt(5); none: no password is asked for. */
  passwords?: Readonly<Record<string, string>>;
}

/** What its owner writes into /etc/ssh/sshd_config. */
function configuration({ authorities, authorizedKeys, passwords }: SshMachine): string {
  return [
    'Port 22',
    'HostKey /config/host-key',
    ...(authorities === undefined ? [] : ['TrustedUserCAKeys /config/authorities']),
    `AuthorizedKeysFile ${authorizedKeys === undefined ? 'none' : '/config/keys-%u'}`,
    `PasswordAuthentication ${passwords === undefined ? 'no' : 'yes'}`,
    'KbdInteractiveAuthentication no',
    'StrictModes no',
    'UsePAM no',
    'PermitRootLogin no',
    'PrintMotd no',
    'PidFile none',
    'LogLevel VERBOSE',
    'Subsystem sftp internal-sftp',
    '',
  ].join('\n');
}

export function sshMachine(machine: SshMachine): object[] {
  const { name, namespace, authorities, authorizedKeys = {}, passwords = {} } = machine;
  const labels = { app: name };
  const metadata = { name, namespace, labels };
  const shadow = ['root', 'sshd', ...Object.keys(SSH_USERS)].map(
    (user) => `${user}:${passwords[user] ?? '*'}:20000::::::`,
  );
  const keys = Object.entries(authorizedKeys).map(([user, line]) => [`keys-${user}`, `${line}\n`] as const);
  const files: Record<string, string> = {
    'host-key': machine.hostKey,
    shadow: `${shadow.join('\n')}\n`,
    sshd_config: configuration(machine),
    ...(authorities === undefined ? {} : { authorities: `${authorities.join('\n')}\n` }),
    ...Object.fromEntries(keys),
  };
  const secret = {
    secretName: name,
    // sshd reads somebody's authorized_keys as that user.
    items: Object.keys(files).map((key) => ({
      key,
      path: key,
      mode: ['host-key', 'shadow'].includes(key) ? 0o400 : 0o444,
    })),
  };
  return [
    { apiVersion: 'v1', kind: 'Secret', metadata, stringData: files },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata,
      spec: { selector: labels, ports: [{ name: 'ssh', port: 22 }] },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata,
      spec: {
        replicas: 1,
        strategy: { type: 'Recreate' },
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            automountServiceAccountToken: false,
            terminationGracePeriodSeconds: 1,
            containers: [
              {
                name: 'sshd',
                image: SSH_IMAGE,
                imagePullPolicy: 'Never',
                args: Object.keys(SSH_USERS),
                ports: [{ name: 'ssh', containerPort: 22 }],
                readinessProbe: { tcpSocket: { port: 22 }, periodSeconds: 1 },
                volumeMounts: [
                  { name: 'config', mountPath: '/config', readOnly: true },
                  { name: 'config', mountPath: '/etc/shadow', subPath: 'shadow', readOnly: true },
                  { name: 'home', mountPath: '/home' },
                ],
              },
            ],
            volumes: [
              { name: 'config', secret },
              { name: 'home', emptyDir: {} },
            ],
          },
        },
      },
    },
  ];
}

/** A pod that sleeps, with OpenSSH's clients, and a home that can be written. */
export const sshClientPod = (options: { namespace: string; name: string }): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { ...options, labels: { app: options.name } },
  spec: {
    automountServiceAccountToken: false,
    terminationGracePeriodSeconds: 0,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: SSH_CLIENT_USER,
      runAsGroup: SSH_CLIENT_USER,
      fsGroup: SSH_CLIENT_USER,
      seccompProfile: { type: 'RuntimeDefault' },
    },
    containers: [
      {
        name: 'client',
        image: SSH_IMAGE,
        imagePullPolicy: 'Never',
        command: ['/bin/sleep', 'infinity'],
        volumeMounts: [{ name: 'home', mountPath: '/home/client' }],
      },
    ],
    volumes: [{ name: 'home', emptyDir: {} }],
  },
});
