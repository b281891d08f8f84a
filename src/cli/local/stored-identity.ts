// The keys of issuers over a restart, as they were published: signed, so a file that somebody changed is not believed.
// What can not be read is as if it were not there: the keys are fetched anyway.
import type { StoredIdentity } from '../../controllers/identity-providers/controller.ts';
import { SHARD_LIMIT, type ShardEnvelope } from '../../policy/bundle.ts';
import { type Files, writeFileAtomically } from '../../system/files.ts';

export function storedIdentity(files: Files, path: string): StoredIdentity {
  return {
    read() {
      try {
        const bytes = files.existsSync(path) ? files.readFileSync(path) : undefined;
        if (bytes === undefined || bytes.length > 2 * SHARD_LIMIT + 4096) return Promise.resolve(undefined);
        const envelope = JSON.parse(bytes.toString('utf8')) as Partial<ShardEnvelope> | null;
        const whole = typeof envelope?.payload === 'string' && Array.isArray(envelope.signatures);
        return Promise.resolve(whole ? (envelope as ShardEnvelope) : undefined);
      } catch {
        return Promise.resolve(undefined);
      }
    },
    keep(envelope) {
      writeFileAtomically(files, path, Buffer.from(`${JSON.stringify(envelope)}\n`));
    },
  };
}
