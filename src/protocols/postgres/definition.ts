// The pure half of the PostgreSQL protocol: what controllers, policy and CLI need to know of it.
import type { ProtocolDefinition } from '../protocol.ts';
import { commandHash } from './command-hash.ts';
import { postgresRules } from './rules.ts';

/** PostgreSQL's registered port, of the Service and of the target, where nothing else is said. */
export const POSTGRES_PORT = 5432;

/** Opened where neither client nor Connection names one. */
const DEFAULT_DATABASE = 'postgres';

export const postgresDefinition: ProtocolDefinition = {
  name: 'postgresql',
  type: 'PostgreSQL',
  rules: postgresRules,
  describe() {
    return {
      ports: [{ name: 'postgresql', port: POSTGRES_PORT }],
      capabilities: ['holds', 'masking', 'cancel'],
      connectCommand: 'kubectl access connect {name}',
    };
  },
  commandHash: ({ spec }, account, text) =>
    commandHash({ text, parameters: [], database: spec.postgresql?.databases?.[0] ?? DEFAULT_DATABASE, account }),
};
