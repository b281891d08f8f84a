// What SSH lends to policy tests and explanations: its rules, and how what a client asks for is written as a text. A text
// is a command line as `ssh HOST LINE` sends it; what is none begins with `@`:
//   @shell   @subsystem netconf   @read /path   @write /path   @grant /path   @forward db.internal:5432
//   @listen 127.0.0.1:8080   @env NAME   @agent   @x11
// and `@user NAME` before any of these, or before a command line, says as which of the target's users; default: the
// account's first, or the account's name where its Secret has the user. Paths are not resolved: there is no target.
import type { ConnectionSpec } from '../../api/connection.ts';
import type { TestProtocol } from '../../policy/testing/run.ts';
import {
  commandOfEnvironment,
  commandOfExec,
  commandOfFeature,
  commandOfFile,
  commandOfForward,
  commandOfShell,
  commandOfSubsystem,
} from '../../protocols/ssh/commands.ts';
import type { FileAccess, SshCommand } from '../../protocols/ssh/facts.ts';
import { transferOf } from '../../protocols/ssh/files/transfers.ts';
import { parseDestination, socketDestination } from '../../protocols/ssh/forwarding/destination.ts';
import { latin1 } from '../../protocols/ssh/match/path.ts';
import { sshRules } from '../../protocols/ssh/rules.ts';

const DEFAULT_PORT = 22;

export const sshTests: TestProtocol = {
  rules: sshRules,
  classify(text, { connection, account }) {
    const read = readText(text, connection, account);
    if (typeof read === 'string') return { kind: 'NotUnderstood', reason: read };
    return { kind: 'Commands', commands: [read] };
  },
};

/** A sentence where the text is none of the forms. */
function readText(text: string, spec: ConnectionSpec | undefined, account: string | undefined): SshCommand | string {
  const named = /^@user ([^ \t\n]+)[ \t]+([^]*)$/.exec(text);
  const user = named?.[1] ?? defaultUser(spec, account);
  const rest = named?.[2] ?? text;
  if (!rest.startsWith('@')) {
    const line = Buffer.from(rest, 'utf8');
    return commandOfExec(line, { user, loginShell: spec?.ssh?.loginShell, pty: false, transfer: transferOf(line) });
  }
  const [, word = '', argument = ''] = /^@(\S*)[ \t]*([^]*)$/.exec(rest) ?? [];
  const server = { host: spec?.ssh?.host ?? '', port: spec?.ssh?.port ?? DEFAULT_PORT };
  switch (word) {
    case 'shell':
      return commandOfShell({ user, pty: true });
    case 'subsystem':
      return commandOfSubsystem({ user, name: argument });
    case 'read':
    case 'write':
    case 'grant': {
      const action = ({ read: 'Read', write: 'Write', grant: 'Grant' } as const)[word];
      const access: FileAccess = { action, path: latin1(argument), subtree: false };
      return commandOfFile({ user, via: 'sftp', operation: word, access: [access] });
    }
    case 'forward':
    case 'listen': {
      const cut = argument.lastIndexOf(':');
      const destination = argument.startsWith('/')
        ? socketDestination(argument)
        : parseDestination(argument.slice(0, cut), Number(argument.slice(cut + 1) || Number.NaN));
      if (destination === undefined) return `@${word} needs a destination such as db.internal:5432`;
      return commandOfForward({ user, direction: word === 'forward' ? 'Local' : 'Remote', destination, server });
    }
    case 'env':
      return commandOfEnvironment({ user, name: argument });
    case 'agent':
      return commandOfFeature({ user, feature: 'AgentForwarding' });
    case 'x11':
      return commandOfFeature({ user, feature: 'X11Forwarding' });
    default:
      return 'it begins with @ and is none of @shell, @subsystem, @read, @write, @grant, @forward, @listen, @env, @agent, @x11, @user';
  }
}

function defaultUser(spec: ConnectionSpec | undefined, account: string | undefined): string {
  const own = spec?.accounts.find(({ name }) => name === account) ?? spec?.accounts[0];
  return own?.certificate?.users[0] ?? own?.name ?? 'user';
}
