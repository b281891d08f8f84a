// The pure half of the SSH protocol: what controllers, policy and CLI need to know of it.
import type { ProtocolDefinition } from '../protocol.ts';
import { hashedUser, sshCommandHash } from './command-hash.ts';
import { SSH } from './facts.ts';
import { sshOwnKeys } from './own-keys.ts';
import { sshRules } from './rules.ts';

/** SSH's registered port, of the Service and of the target, where nothing else is said. */
export const SSH_PORT = 22;
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
  describe() {
    return {
      ports: [{ name: SSH, port: SSH_PORT }],
      capabilities: ['holds', 'cancel', 'channels'],
      connectCommand: 'kubectl access connect {name}',
    };
  },
  commandHash: ({ spec }, account, text) =>
    sshCommandHash({ kind: 'Exec', text, account, user: hashedUser(spec, account) }),
};
