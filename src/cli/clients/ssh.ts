// How an OpenSSH client is told where to go, by what key, and whom to believe there: its command line and its
// configuration (ssh_config(5)). Guarantees: the gateway is believed by the keys in the Connection's status alone, and
// nothing of this ever turns checking off.

export interface SshFiles {
  /** What the gateway's keys must be among. */
  knownHosts: string;
  /** The grant's key, in OpenSSH's form. */
  identity: string;
}

export interface SshTarget {
  host: string;
  port: number;
  user: string;
  /** By what its keys are looked up. */
  alias: string;
}

/** A path or value in a configuration: in quotes where it must be, and without `%` meaning anything. */
function value(text: string): string {
  if (/["\n\r]/.test(text)) throw new Error(`OpenSSH can not be told of a path with quotes or line ends: ${text}`);
  const plain = text.replaceAll('%', '%%');
  return /^[\w@%+=:,./-]+$/.test(plain) ? plain : `"${plain}"`;
}

/** What holds for every way there. */
function trust(alias: string, knownHosts: string): [string, string][] {
  return [
    ['HostKeyAlias', alias],
    ['UserKnownHostsFile', value(knownHosts)],
    ['GlobalKnownHostsFile', '/dev/null'],
    ['StrictHostKeyChecking', 'yes'],
    ['UpdateHostKeys', 'no'],
    ['CheckHostIP', 'no'],
    ['IdentitiesOnly', 'yes'],
  ];
}

/** For `ssh ARGUMENTS [COMMAND]`. A master connection of other days might go elsewhere: none is used. */
export function sshArguments(
  target: SshTarget,
  files: SshFiles,
  proxyCommand: string | undefined,
): [string, ...string[]] {
  const options: [string, string][] = [
    ...trust(target.alias, files.knownHosts),
    ['IdentityFile', value(files.identity)],
    ['PreferredAuthentications', 'publickey'],
    ['ControlPath', 'none'],
    ['ProxyCommand', proxyCommand ?? 'none'],
  ];
  return [
    'ssh',
    ...options.flatMap(([name, text]) => ['-o', `${name}=${text}`]),
    '-p',
    String(target.port),
    '-l',
    target.user,
    target.host,
  ];
}

export interface HostBlock {
  /** Further names beside the alias. */
  names: readonly string[];
  alias: string;
  /** undefined: the one who types it. */
  user: string | undefined;
  files: SshFiles;
  /** Carries the connection over its stdin and stdout. */
  proxyCommand: string;
  /** Writes both files anew; run before each login. */
  prepare: string;
  /** Text above it. */
  comment: string;
}

/** For `~/.ssh/config`: plain `ssh NAME`, and scp, sftp, rsync, git, Ansible and editors with it. */
export function hostBlock({ names, alias, user, files, proxyCommand, prepare, comment }: HostBlock): string {
  const all = [...names, alias];
  const lines: [string, string][] = [
    ...trust(alias, files.knownHosts),
    ...(user === undefined ? [] : ([['User', user]] satisfies [string, string][])),
    ['ProxyCommand', proxyCommand.replaceAll('%', '%%')],
  ];
  return [
    `# ${comment.replace(/[\r\n]/g, ' ')}`,
    // First, so that the files are there when they are looked for. Without a grant there is no key, and it says so.
    `Match originalhost ${all.join(',')} exec ${value(prepare)}`,
    `  IdentityFile ${value(files.identity)}`,
    `Host ${all.join(' ')}`,
    ...lines.map(([name, text]) => `  ${name} ${text}`),
    '',
  ].join('\n');
}
