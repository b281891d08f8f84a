// The token that says which job this is, by whatever way the CI system gives it. Read anew for every use: jobs outlast
// their tokens, and a token makes one grant. Nothing of it is ever printed.
import { readFileSync } from 'node:fs';
import { decodeJwt } from 'jose';
import { CliError, EXIT, type Io } from '../io.ts';
import { line } from '../render.ts';
import { deepest, pinnedFetch } from './https.ts';

export interface WorkloadTokenOptions {
  tokenFile?: string;
  /** For CI systems that make tokens on demand. */
  audience?: string;
}

export interface WorkloadTokenSource {
  /** `another`: not the one of before, where the system can make more than one. */
  token(another?: boolean): Promise<string>;
}

const DEFAULT_AUDIENCE = 'sallyport';
const DEADLINE_MS = 20_000;
/** A token that ends sooner is not used any more. */
const ENOUGH_MS = 30_000;
const SHAPE = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;

/** `--token-file`, SALLYPORT_TOKEN_FILE, SALLYPORT_ID_TOKEN (GitLab's `id_tokens`), or GitHub's service for tokens. */
export function workloadToken(
  options: WorkloadTokenOptions,
  io: Pick<Io, 'env'>,
  nowMs: () => number,
): WorkloadTokenSource {
  const { env } = io;
  const audience = options.audience ?? env['SALLYPORT_AUDIENCE'] ?? DEFAULT_AUDIENCE;
  const file = options.tokenFile ?? env['SALLYPORT_TOKEN_FILE'];
  const url = env['ACTIONS_ID_TOKEN_REQUEST_URL'];
  const bearer = env['ACTIONS_ID_TOKEN_REQUEST_TOKEN'];
  if (file !== undefined && file !== '') return { token: () => Promise.resolve(checked(fromFile(file), `${file}`)) };
  const given = env['SALLYPORT_ID_TOKEN'];
  if (given !== undefined && given !== '') {
    return { token: () => Promise.resolve(checked(given.trim(), 'SALLYPORT_ID_TOKEN')) };
  }
  if (url !== undefined && bearer !== undefined) {
    let last: string | undefined;
    return {
      async token(another = false) {
        if (another || last === undefined || endsMs(last) - nowMs() < ENOUGH_MS) {
          last = checked(await fromService(url, bearer, audience), 'the CI system’s token service');
        }
        return last;
      },
    };
  }
  throw new CliError(
    EXIT.misconfigured,
    'There is no token that says which job this is',
    'GitHub: give the job `permissions: id-token: write`. GitLab: `id_tokens: {SALLYPORT_ID_TOKEN: {aud: sallyport}}`. Elsewhere: --token-file FILE.',
  );
}

function fromFile(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw new CliError(
      EXIT.misconfigured,
      `The token file ${file} can not be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`,
    );
  }
}

function checked(token: string, where: string): string {
  if (!SHAPE.test(token)) throw new CliError(EXIT.misconfigured, `${where} holds no token (JWT)`);
  return token;
}

function endsMs(token: string): number {
  try {
    return (decodeJwt(token).exp ?? 0) * 1000;
  } catch {
    return 0;
  }
}

async function fromService(url: string, bearer: string, audience: string): Promise<string> {
  const asked = new URL(url);
  asked.searchParams.set('audience', audience);
  try {
    const answer = await (await pinnedFetch(undefined, true))(asked, {
      headers: { authorization: `Bearer ${bearer}`, accept: 'application/json' },
      redirect: 'error',
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
    if (!answer.ok) throw new Error(`it answered ${answer.status}`);
    const { value } = (await answer.json()) as { value?: unknown };
    return typeof value === 'string' ? value : '';
  } catch (error) {
    throw new CliError(
      EXIT.unavailable,
      `The CI system gives no token: ${line(deepest(error).message)}`,
      'Try again; GitHub wants `permissions: id-token: write`.',
    );
  }
}
