// What records of SSH say, read with suspicion: facts that people are told, and that questions are answered from. Pure.

export type Facts = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Facts =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const word = (value: unknown): string => (typeof value === 'string' || typeof value === 'number' ? String(value) : '');

/** `facts.ssh`; empty if there is none. */
export function sshFactsOf(facts: unknown): Facts {
  return isObject(facts) && isObject(facts['ssh']) ? facts['ssh'] : {};
}

export interface RunProgram {
  name: string;
  /** Wrappers it was found in, the outermost first: `sudo`, `sh -c`. */
  within: readonly string[];
  /** Whom it runs as, where a wrapper says so. */
  user?: string;
}

/** The programs that an exec was understood to run. */
export function programsOf(ssh: Facts): RunProgram[] {
  return list(ssh['commands'])
    .filter(isObject)
    .map(({ name, within, user }) => ({
      name: word(name),
      within: list(within).map(word),
      ...(typeof user === 'string' ? { user } : {}),
    }));
}

export interface FilePath {
  action: string;
  path: string;
  /** Where links led. */
  resolved?: string;
  /** Everything below it, too. */
  subtree: boolean;
}

/** Files of one operation of sftp, scp or rsync. */
export function filesOf(ssh: Facts): FilePath[] {
  return list(ssh['access'])
    .filter(isObject)
    .map(({ action, path, resolved, subtree }) => ({
      action: word(action),
      path: word(path),
      ...(typeof resolved === 'string' ? { resolved } : {}),
      subtree: subtree === true,
    }));
}

/** `10.0.0.5:443`, `db.internal:5432`, `/run/x.sock`; undefined: it is no forward. */
export function destinationOf(ssh: Facts): string | undefined {
  const { kind, destination } = ssh;
  if (kind !== 'Forward' || !isObject(destination)) return undefined;
  const { path, port, address, host } = destination;
  if (path !== undefined) return word(path);
  const name = word(address ?? host);
  return `${name.includes(':') ? `[${name}]` : name}:${word(port)}`;
}

export interface StreamBytes {
  name: string;
  bytes: number;
  sha256?: string;
  masked?: number;
}

/** What a result says of each stream. */
export function streamsOf(ssh: Facts): StreamBytes[] {
  if (!isObject(ssh['streams'])) return [];
  return Object.entries(ssh['streams']).flatMap(([name, sum]) => {
    if (!isObject(sum) || typeof sum['bytes'] !== 'number') return [];
    const { bytes, sha256, masked } = sum;
    return [
      {
        name,
        bytes,
        ...(typeof sha256 === 'string' ? { sha256 } : {}),
        ...(typeof masked === 'number' ? { masked } : {}),
      },
    ];
  });
}

/** Lines for people; whoever shows them makes them harmless. */
export function commandFacts(facts: unknown): string[] {
  const ssh = sshFactsOf(facts);
  const lines: string[] = [];
  const { terminal } = ssh;
  if (isObject(terminal))
    lines.push(`terminal ${word(terminal['term'])}, ${word(terminal['columns'])}x${word(terminal['rows'])}`);
  const others = programsOf(ssh).filter(({ user, within }) => user !== undefined || within.length > 0);
  for (const { name, within, user } of others) {
    lines.push(
      `runs ${name}${within.length > 0 ? ` within ${within.join(', ')}` : ''}${user === undefined ? '' : ` as ${user}`}`,
    );
  }
  for (const { action, path, resolved, subtree } of filesOf(ssh))
    lines.push(
      `${action} ${path}${subtree ? ' and below' : ''}${resolved === undefined || resolved === path ? '' : `, which is ${resolved}`}`,
    );
  return lines;
}

export function resultFacts(facts: unknown): string[] {
  return streamsOf(sshFactsOf(facts))
    .filter(({ name }) => name !== 'terminal')
    .map(
      ({ name, bytes, sha256, masked }) =>
        `${name}: ${bytes} bytes${masked === undefined ? '' : `, ${masked} values masked`}${sha256 === undefined ? '' : `, SHA-256 ${sha256}`}`,
    );
}
