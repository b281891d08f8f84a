// Credentials by a program that the kubeconfig names (kubernetes.io, "client-go credential plugins", v1 and v1beta1).
// Guarantees: it is run when a credential is wanted and none is fresh, once for all who want it at the same time; what
// it prints is never shown. It has the terminal's input and messages, for those that ask people something.
import { spawn } from 'node:child_process';
import path from 'node:path';
import type { KubeHeaders } from '../../kube/access.ts';
import { CliError, EXIT, type Io } from '../io.ts';

export interface ExecSpec {
  apiVersion?: string;
  command?: string;
  args?: readonly string[];
  env?: readonly { name: string; value: string }[];
  installHint?: string;
  provideClusterInfo?: boolean;
  interactiveMode?: string;
}

export interface ExecCredential {
  headers(): Promise<KubeHeaders>;
  clientCert(): { cert: string; key: string } | undefined;
}

interface Status {
  token?: string;
  clientCertificateData?: string;
  clientKeyData?: string;
  expirationTimestamp?: string;
}

const LONGEST_RUN_MS = 300_000; // somebody may be asked to log in with a browser
const LARGEST_OUTPUT = 1024 * 1024;
/** A credential is renewed so long before its end. */
const EARLY_MS = 10_000;

export async function openExecCredential(
  spec: ExecSpec,
  folder: string,
  given: { io: Pick<Io, 'env' | 'inTty'>; cluster: Readonly<Record<string, unknown>> },
): Promise<ExecCredential> {
  let known: Status | undefined;
  let running: Promise<Status> | undefined;
  let first = true;
  const fresh = async (): Promise<Status> => {
    if (known !== undefined && !(Date.parse(known.expirationTimestamp ?? '') - EARLY_MS < Date.now())) return known;
    // Later the terminal is the client's that was started meanwhile.
    const { io, cluster } = given;
    running ??= run(spec, folder, { io: first ? io : { ...io, inTty: false }, cluster }).finally(() => {
      running = undefined;
    });
    first = false;
    known = await running;
    return known;
  };
  await fresh();
  return {
    async headers() {
      const { token } = await fresh();
      return token === undefined ? {} : { authorization: `Bearer ${token}` };
    },
    clientCert: () =>
      known?.clientCertificateData !== undefined && known.clientKeyData !== undefined
        ? { cert: known.clientCertificateData, key: known.clientKeyData }
        : undefined,
  };
}

function run(
  spec: ExecSpec,
  folder: string,
  { io, cluster }: { io: Pick<Io, 'env' | 'inTty'>; cluster: Readonly<Record<string, unknown>> },
): Promise<Status> {
  const { command, apiVersion = 'client.authentication.k8s.io/v1' } = spec;
  if (command === undefined) throw new CliError(EXIT.misconfigured, 'The kubeconfig’s exec plugin names no command');
  const interactive = spec.interactiveMode === 'Never' ? false : io.inTty;
  if (spec.interactiveMode === 'Always' && !interactive) {
    throw new CliError(
      EXIT.misconfigured,
      `The kubeconfig’s plugin ${command} needs a terminal, and there is none`,
      'Use a token or another user of the kubeconfig for scripts.',
    );
  }
  const info = {
    kind: 'ExecCredential',
    apiVersion,
    spec: { interactive, ...(spec.provideClusterInfo === true ? { cluster } : {}) },
  };
  // A path with a slash is relative to the kubeconfig, a bare name is looked up.
  const program = command.includes('/') ? path.resolve(folder, command) : command;
  return new Promise((resolve, reject) => {
    const fail = (message: string, hint?: string): void => reject(new CliError(EXIT.misconfigured, message, hint));
    const child = spawn(program, [...(spec.args ?? [])], {
      stdio: [interactive ? 'inherit' : 'ignore', 'pipe', 'inherit'],
      env: {
        ...io.env,
        ...Object.fromEntries((spec.env ?? []).map(({ name, value }) => [name, value])),
        KUBERNETES_EXEC_INFO: JSON.stringify(info),
      },
      // No signal: an interrupt from the keyboard reaches it as well, and one meant for psql must not end it for good.
    });
    const overdue = setTimeout(() => child.kill(), LONGEST_RUN_MS);
    const parts: Buffer[] = [];
    let size = 0;
    child.stdout!.on('data', (part: Buffer) => {
      size += part.length;
      if (size > LARGEST_OUTPUT) child.kill();
      else parts.push(part);
    });
    child.once('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(overdue);
      if (error.code === 'ENOENT') {
        return fail(`The kubeconfig’s plugin ${command} is not installed`, spec.installHint?.trim());
      }
      fail(`The kubeconfig’s plugin ${command} could not be run: ${error.message}`);
    });
    child.once('close', (code) => {
      clearTimeout(overdue);
      if (code !== 0)
        return fail(
          `The kubeconfig’s plugin ${command} failed${code === null ? '' : ` with exit code ${code}`}`,
          'Log in again as you do for kubectl.',
        );
      try {
        const answer = JSON.parse(Buffer.concat(parts).toString('utf8')) as { kind?: unknown; status?: Status };
        const status = answer.status;
        if (answer.kind !== 'ExecCredential' || typeof status !== 'object' || status === null) throw new Error('shape');
        if (status.token === undefined && status.clientCertificateData === undefined) throw new Error('empty');
        resolve(status);
      } catch {
        fail(`The kubeconfig’s plugin ${command} printed no credential`);
      }
    });
  });
}
