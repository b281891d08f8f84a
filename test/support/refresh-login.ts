// A process that wants a fresh token of the only login in a folder: argv[2]. Prints the token's SHA-256.
import { createHash } from 'node:crypto';
import { loginStore } from '../../src/cli/identity/store.ts';
import { freshLogin } from '../../src/cli/identity/tokens.ts';

const store = loginStore(process.argv[2]!, { env: process.env, err: (text) => void process.stderr.write(text) });
try {
  const id =
    store.list()[0]?.id ??
    (await import('node:fs'))
      .readdirSync(store.folder)
      .find((each) => each.endsWith('.json'))!
      .slice(0, -5);
  const login = await freshLogin(store, id, { signal: AbortSignal.timeout(60_000), nowMs: () => Date.now() });
  console.log(createHash('sha256').update(login.tokens.access).digest('hex'));
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
