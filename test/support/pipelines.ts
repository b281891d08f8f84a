// The pipelines of examples/ci as a CI system runs them: their own steps, with the environment and the token service such
// a system gives a job; and a portal beside a daemon for them to talk to.
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { parse } from 'yaml';
import type { Idp } from './idp.ts';
import { type Local, SALLYPORT } from './local.ts';
import type { WorkloadIssuer } from './workload-issuer.ts';

const EXAMPLES = path.resolve(import.meta.dirname, '../../examples/ci');

/** access.yaml with issuers of this machine in place of the public ones, and little patience with held statements. */
export function exampleAccess(github: WorkloadIssuer, gitlab: WorkloadIssuer): string {
  const spec = ({ issuer, ca }: WorkloadIssuer): string =>
    `issuer: ${issuer}\n  caBundle: |\n    ${ca.trim().replaceAll('\n', '\n    ')}`;
  return fs
    .readFileSync(path.join(EXAMPLES, 'access/access.yaml'), 'utf8')
    .replace('issuer: https://token.actions.githubusercontent.com', () => spec(github))
    .replace('issuer: https://gitlab.com', () => spec(gitlab))
    .replace('timeout: 60s', 'timeout: 12s');
}

export interface Ran {
  code: number;
  output: string;
}

export interface JobOptions {
  claims?: Record<string, unknown>;
  /** Steps to run, by their place; default all. */
  only?: readonly number[];
  /** What stays from an earlier step of the same job. */
  folder?: string;
  /** Other commands in place of the example's. */
  script?: readonly string[];
  /** Called with what the job says so far. */
  onOutput?: (text: string) => void;
}

export interface Pipelines {
  server: string;
  /** A fresh checkout with nothing of any earlier job. */
  checkout(): string;
  github(options?: JobOptions): Promise<Ran>;
  gitlab(options?: JobOptions): Promise<Ran>;
  /** What the portal has logged. */
  said(): string;
  stop(): Promise<void>;
}

export async function startPipelines(
  local: Local,
  people: Idp,
  issuers: { github: WorkloadIssuer; gitlab: WorkloadIssuer },
): Promise<Pipelines> {
  const port = await freePort();
  const server = `http://localhost:${port}`;
  let said = '';
  const folders: string[] = [];
  const { NODE_OPTIONS: _options, ...env } = local.environment();
  const portal: ChildProcess = spawn(
    SALLYPORT,
    // biome-ignore format: flags and their values
    ['portal', '--state', local.state, '--issuer', people.issuer, '--client-id', 'cli', '--ca-file', people.caFile, '--port', String(port), '--log-level', 'info'],
    { env, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  portal.stdout!.on('data', (bytes: Buffer) => (said += bytes.toString()));
  portal.stderr!.on('data', (bytes: Buffer) => (said += bytes.toString()));
  for (const until = Date.now() + 60_000; ; ) {
    if ((await fetch(`${server}/readyz`).catch(() => undefined))?.ok) break;
    if (portal.exitCode !== null || Date.now() > until) throw new Error(`the portal did not get ready:\n${said}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  // GitHub's token service: a bearer that the job was given, an audience that it chooses.
  let claims: Record<string, unknown> = {};
  const service = http.createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://service');
    if (request.headers.authorization !== 'Bearer job-bearer') return void response.writeHead(401).end();
    void issuers.github.github(url.searchParams.get('audience') ?? 'nobody', claims).then((value) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ count: 1, value }));
    });
  });
  await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve));

  const checkout = (): string => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'job-'));
    folders.push(folder);
    fs.copyFileSync(path.join(EXAMPLES, 'migration.sql'), path.join(folder, 'migration.sql'));
    return folder;
  };
  const shell = (script: string, folder: string, job: Record<string, string>, options: JobOptions): Promise<Ran> =>
    new Promise((resolve, reject) => {
      const child = spawn('bash', ['-e', '-o', 'pipefail', '-c', script], {
        cwd: folder,
        env: {
          PATH: `${path.dirname(SALLYPORT)}:${process.env['PATH']}`,
          HOME: path.join(folder, 'home'),
          CI: 'true',
          SALLYPORT_SERVER: server,
          ...job,
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let output = '';
      const take = (part: Buffer): void => {
        output += part.toString();
        options.onOutput?.(output);
      };
      child.stdout.on('data', take);
      child.stderr.on('data', take);
      const timer = setTimeout(() => child.kill('SIGKILL'), 120_000);
      child.once('error', reject);
      child.once('close', (code) => {
        clearTimeout(timer);
        resolve({ code: code ?? -1, output });
      });
    });
  const all = async (scripts: readonly string[], folder: string, job: Record<string, string>, options: JobOptions) => {
    let output = '';
    for (const [index, script] of scripts.entries()) {
      if (options.only !== undefined && !options.only.includes(index)) continue;
      const ran = await shell(script, folder, job, options);
      output += ran.output;
      if (ran.code !== 0) return { code: ran.code, output };
    }
    return { code: 0, output };
  };

  return {
    server,
    checkout,
    async github(options = {}) {
      const workflow = parse(fs.readFileSync(path.join(EXAMPLES, 'github/migrate.yml'), 'utf8')) as {
        permissions: Record<string, string>;
        jobs: Record<string, { steps: { run?: string }[] }>;
      };
      if (workflow.permissions['id-token'] !== 'write') throw new Error('the job could ask for no token');
      const steps = Object.values(workflow.jobs).flatMap((each) => each.steps.flatMap(({ run }) => run ?? []));
      claims = options.claims ?? {};
      return all(
        options.script ?? steps,
        options.folder ?? checkout(),
        {
          GITHUB_SHA: '5d41402abc4b2a76b9719d911017c592ae2f0e8b',
          ACTIONS_ID_TOKEN_REQUEST_URL: `http://127.0.0.1:${(service.address() as AddressInfo).port}/token?api-version=2.0`,
          ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'job-bearer',
        },
        options,
      );
    },
    async gitlab(options = {}) {
      const { migrate } = parse(fs.readFileSync(path.join(EXAMPLES, 'gitlab/.gitlab-ci.yml'), 'utf8')) as {
        migrate: { script: string[]; id_tokens: Record<string, { aud: string }> };
      };
      const job: Record<string, string> = { CI_COMMIT_SHA: '5d41402abc4b2a76b9719d911017c592ae2f0e8b' };
      for (const [name, { aud }] of Object.entries(migrate.id_tokens))
        job[name] = await issuers.gitlab.gitlab(aud, options.claims);
      return all(options.script ?? migrate.script, options.folder ?? checkout(), job, options);
    },
    said: () => said,
    async stop() {
      service.closeAllConnections();
      service.close();
      if (portal.exitCode === null) {
        const gone = new Promise((resolve) => portal.once('exit', resolve));
        portal.kill('SIGTERM');
        await gone;
      }
      for (const folder of folders) fs.rmSync(folder, { recursive: true, force: true });
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = net.createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}
