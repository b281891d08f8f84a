// What records keep of a command's facts, and of the streams it has. Pure.
import { ALL_DETECTORS, maskDetectedText } from '../../../policy/detectors/detectors.ts';
import type { FileAccess, ForwardDestination, SshCommand, SshFacts } from '../facts.ts';
import type { ShellRedirection } from '../shell/facts.ts';
import type { Keeping } from './channel-recorder.ts';
import { redactLine } from './redaction.ts';

/** Not in names, which people search by: somebody's address is a name, too. */
const IN_NAMES = ALL_DETECTORS.filter((kind) => kind !== 'Email' && kind !== 'Phone');

/** What records keep of the facts: never words, which may be anything; and names of files and hosts, masked. */
export function recordedFacts(facts: SshFacts): object {
  if (facts.kind === 'File') return { ...facts, access: facts.access.map(recordedAccess) };
  if (facts.kind === 'Forward') return { ...facts, destination: recordedDestination(facts.destination) };
  if (facts.kind !== 'Exec' || facts.shell === undefined) return facts;
  const { shell, ...rest } = facts;
  return {
    ...rest,
    commands: shell.commands.map(({ words, within, user }) => ({
      name: name(words[0].text),
      ...(within.length === 0 ? {} : { within }),
      ...(user === undefined ? {} : { user }),
    })),
    redirections: shell.redirections.map(recordedRedirection),
    assignments: shell.assignments,
    interactive: shell.interactive,
  };
}

const name = (text: string): string => maskDetectedText(text, IN_NAMES);

function recordedAccess(access: FileAccess): FileAccess {
  const { path, resolved } = access;
  return { ...access, path: name(path), ...(resolved === undefined ? {} : { resolved: name(resolved) }) };
}

function recordedDestination(destination: ForwardDestination): ForwardDestination {
  switch (destination.kind) {
    case 'Name':
      return { ...destination, host: name(destination.host) };
    case 'Socket':
      return { ...destination, path: name(destination.path) };
    case 'Address':
      return destination;
  }
}

function recordedRedirection({ action, target }: ShellRedirection): { action: string; target: string } {
  return { action, target: target.kind === 'Literal' ? redactLine(target.text).text : '*' };
}

/** Their streams are files and packs, not text for people. */
const DATA_MOVERS = new Set([
  'rsync',
  'scp',
  'sftp-server',
  'git-upload-pack',
  'git-receive-pack',
  'git-upload-archive',
  'tar',
  'dd',
]);
/** What they read from stdin may be a password. */
const ASKS_FOR_SECRETS =
  /\b(?:sudo|su|doas|passwd|chpasswd|smbpasswd|htpasswd|cryptsetup|openssl|gpg|ssh-keygen|kinit|login|mount|vault)\b|passw|secret|token/i;

export function keepingOf({ facts, text }: SshCommand): Keeping {
  // Each file has a digest of its own; one of all packets would cost as much again, and prove nothing that anybody asks.
  if (facts.kind === 'Subsystem' && facts.name === 'sftp') return { output: 'Length', input: 'Length' };
  if (facts.kind === 'Subsystem') return { output: 'Digest', input: 'Digest' };
  if ((facts.kind === 'Exec' || facts.kind === 'Shell') && facts.pty) return { output: 'Terminal', input: 'Length' };
  if (facts.kind === 'Shell') return { output: 'Text', input: 'Text' };
  const input = ASKS_FOR_SECRETS.test(text) ? 'Length' : undefined;
  const name = /^\s*(?:\S*\/)?([A-Za-z0-9_.-]+)(?=\s|$)/.exec(text)?.[1];
  if (name !== undefined && DATA_MOVERS.has(name)) return { output: 'Digest', input: input ?? 'Digest' };
  return { output: 'Text', input: input ?? 'Text' };
}
