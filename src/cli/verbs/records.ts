// What the verbs about records are given: the folder beside the state, the operator's public key to trust, and a way to
// note the reading itself, which is access too.
import { createPublicKey } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { keyIdOf, type TrustedKey } from '../../policy/bundle-signing.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../io.ts';
import { OPERATOR_PUBLIC_KEY, RECORDS } from '../local/folders.ts';
import type { RecordsDeps } from '../records/source.ts';

export function recordsDeps(context: Context): RecordsDeps {
  const roots = operatorKeys(context.state);
  return {
    folder: path.join(context.state, RECORDS),
    now: context.now,
    ...(roots.length > 0 ? { roots } : {}),
    noteRead: async (note) => {
      try {
        await context.client.note(context.actor, note);
      } catch (error) {
        // Nobody is there to write it down; whoever may read the folder may read it.
        if (!(error instanceof CliError && error.exitCode === EXIT.misconfigured)) throw error;
        context.io.err('No Sallyport is running here, so this reading is not recorded.\n');
      }
    },
  };
}

function operatorKeys(state: string): TrustedKey[] {
  const file = path.join(state, OPERATOR_PUBLIC_KEY);
  if (!fs.existsSync(file)) return [];
  const publicKey = createPublicKey(fs.readFileSync(file));
  return [{ keyId: keyIdOf(publicKey), publicKey }];
}
