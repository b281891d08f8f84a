// Builds the Command that policy decides, from what a client asks for: exec, shell, subsystem, one operation on files, a
// forward, a variable, a feature. Pure. `decide` does the rest: what could not be understood carries its reason
// (`Command.notUnderstood`), and what only an Allow that names it permits is marked so on its effect.
//
// Effects: exec -> Execute [name] per program, besides Read and Write ['file', path], Connect ['tcp', host:port], Session
// ['env', NAME] and Session ['shell'] of a bare interpreter; shell -> Session ['shell']; subsystem -> Session ['subsystem',
// name]; files -> Read, Write, Grant ['file', path]; forward -> Connect [tcp | listen | socket, destination]; variable ->
// Session ['env', NAME]; feature -> Session [agent | x11 | tun].
import type { FileFacts, ForwardFacts, SshCommand, SshFacts } from './facts.ts';
import { SSH } from './facts.ts';
import { destinationText, guardOf, type TargetServer } from './forwarding/destination.ts';
import { effectOf, thingsOf } from './match/thing.ts';
import { execFacts } from './shell/exec.ts';

export interface ExecContext {
  /** The target's user. */
  user: string;
  /** `spec.ssh.loginShell`; default Posix. */
  loginShell?: 'Posix' | 'Other' | undefined;
  pty: boolean;
  /** The line is just this program's server side, and each of its file operations will be judged by itself. */
  transfer?: FileFacts['via'] | undefined;
}

/**
 * `line` as it came: bytes that are no UTF-8, NUL, or more than 64 KiB are never let through. Never throws. Its facts
 * say with `facts.shell` what would be run.
 */
export function commandOfExec(line: Buffer | string, context: ExecContext): SshCommand {
  const { text, facts, refused } = execFacts(line, context);
  return build('exec', text, { user: context.user, ...facts }, refused);
}

export function commandOfShell({ user, pty }: { user: string; pty: boolean }): SshCommand {
  return build('shell', '', { user, kind: 'Shell', pty });
}

export function commandOfSubsystem({ user, name }: { user: string; name: string }): SshCommand {
  return build('subsystem', name, { user, kind: 'Subsystem', name });
}

/** `text`: the operation for people, e.g. `rename /a /b`. Default: operation and paths. */
export function commandOfFile(file: { user: string; text?: string } & Omit<FileFacts, 'kind'>): SshCommand {
  const { user, via, operation, access } = file;
  const text = file.text ?? [operation, ...access.map(({ path }) => path)].join(' ');
  return build(`${via} ${operation}`, text, { user, kind: 'File', via, operation, access });
}

/** `server`: the target as it is dialled, so that a forward to its own sshd is known. */
export function commandOfForward(forward: {
  user: string;
  direction: ForwardFacts['direction'];
  destination: ForwardFacts['destination'];
  server: TargetServer;
}): SshCommand {
  const { user, direction, destination } = forward;
  const guarded = guardOf(direction, destination, forward.server);
  return build(direction === 'Local' ? 'forward' : 'listen', destinationText(destination), {
    user,
    kind: 'Forward',
    direction,
    destination,
    ...(guarded === undefined ? {} : { guarded }),
  });
}

/** LANG, LC_*, TERM and GIT_PROTOCOL are permitted wherever anything is; what changes what a program is, never. */
export function commandOfEnvironment({ user, name }: { user: string; name: string }): SshCommand {
  return build('env', name, { user, kind: 'Environment', name });
}

/** Permitted by `forwarding: [agent]` and `forwarding: [x11]` alone; a tunnel by nothing. */
export function commandOfFeature({
  user,
  feature,
}: {
  user: string;
  feature: 'AgentForwarding' | 'X11Forwarding' | 'Tunnel';
}): SshCommand {
  const verb = { AgentForwarding: 'agent forwarding', X11Forwarding: 'x11 forwarding', Tunnel: 'tun forwarding' };
  return build(verb[feature], verb[feature], { user, kind: 'Feature', feature });
}

function build(verb: string, text: string, facts: SshFacts, refused = false): SshCommand {
  const effects = thingsOf(facts, refused).map(effectOf);
  const problem = facts.kind === 'Exec' ? facts.problem : undefined;
  return { protocol: SSH, verb, effects, text, facts, ...(problem === undefined ? {} : { notUnderstood: problem }) };
}
