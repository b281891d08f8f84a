// The pure half of the SSH protocol: what controllers, policy and CLI need to know of it.
import type { ProtocolDefinition } from '../protocol.ts';
import { hashedUser, sshCommandHash } from './command-hash.ts';
import { SSH } from './facts.ts';
import { sshOwnKeys } from './own-keys.ts';
import { sshRules } from './rules.ts';

/** SSH's registered port is taken by most machines' own sshd; `exposure.port` says which one the listener has. */
export const LISTENER_PORT = 2222;
/** People type tickets and answer agents' questions; OpenSSH's own LoginGraceTime is the same. */
const HANDSHAKE_MS = 120_000;
/** OpenSSH's MaxAuthTries. */
const PROOFS = 6;

export const sshDefinition: ProtocolDefinition = {
  name: SSH,
  type: 'SSH',
  rules: sshRules,
  proofs: PROOFS,
  handshakeMs: HANDSHAKE_MS,
  ownKeys: sshOwnKeys,
  describe(connection) {
    return {
      ports: [{ name: SSH, port: connection.spec.exposure?.port ?? LISTENER_PORT }],
      capabilities: ['holds', 'cancel', 'channels'],
      connectCommand: 'kubectl access connect {name}',
    };
  },
  commandHash: ({ spec }, account, text) =>
    sshCommandHash({ kind: 'Exec', text, account, user: hashedUser(spec, account) }),
};
