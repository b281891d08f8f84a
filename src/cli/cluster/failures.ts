// What an API server's refusal means for the person: what is missing, whether anything was changed, what to type next,
// and the exit code. Pure. Messages of admission are passed on as they are; RBAC's are said in fewer words with the line
// that mends them.
import { causesOf, type KubeConnectionError, type KubeFailure } from '../../kube/answer.ts';
import type { Principal } from '../../policy/principal.ts';
import type { KindName } from '../../store/resource-store.ts';
import { CliError, EXIT } from '../io.ts';
import { PLURALS } from './plurals.ts';

/** What was tried. */
export interface Attempt {
  verb: 'get' | 'list' | 'watch' | 'create' | 'delete' | 'patch';
  /** `accessgrants`, `services/proxy`. */
  resource: string;
  /** Absent for all namespaces and for what has none. */
  namespace?: string | undefined;
  name?: string | undefined;
}

/** For messages: which cluster, and who asked. */
export interface Place {
  contextName: string;
  server: string;
  /** Undefined while it is not known yet. */
  who: Pick<Principal, 'username'> | undefined;
}

/** RBAC refused; a verb that can do without catches it. */
export class ForbiddenError extends CliError {
  readonly attempt: Attempt;
  constructor(message: string, hint: string, attempt: Attempt) {
    super(EXIT.denied, message, hint);
    this.name = 'ForbiddenError';
    this.attempt = attempt;
  }
}

export function failureError(failure: KubeFailure, attempt: Attempt, place: Place): CliError {
  const writes = attempt.verb === 'create' || attempt.verb === 'delete' || attempt.verb === 'patch';
  const nothing = writes ? ' Nothing was changed.' : '';
  const { status, reason, message } = failure;
  if (status === 401) {
    return new CliError(
      EXIT.denied,
      `Cluster ${place.contextName} does not accept your credentials.${nothing}`,
      'Log in again as you do for kubectl; kubectl auth whoami tells who you are.',
    );
  }
  const refused = admissionText(message);
  if (refused !== undefined) return new CliError(EXIT.denied, `${refused}${nothing}`);
  if (status === 403) return forbidden(message, attempt, place, nothing);
  if (status === 404 && !namesObject(failure)) {
    return new CliError(
      EXIT.misconfigured,
      `Sallyport is not installed in cluster ${place.contextName}: it serves no ${attempt.resource}.${nothing}`,
      'An admin installs it: helm install sallyport charts/sallyport -n sallyport-system --create-namespace. Another cluster: --context NAME.',
    );
  }
  if (/failed calling webhook/.test(message)) {
    return new CliError(
      EXIT.unavailable,
      'Sallyport’s operator did not answer, and nothing is admitted that it has not stamped. Nothing was created.',
      `Try again in a few seconds. If it stays: kubectl access doctor\n${firstLine(message)}`,
    );
  }
  if (status === 429 || status === 503 || status === 504) {
    return new CliError(
      EXIT.unavailable,
      `The API server of ${place.contextName} is busy: ${firstLine(message)}`,
      'Try again.',
    );
  }
  if (status === 422) return new CliError(EXIT.misconfigured, `It is not valid: ${causesOf(failure).join('; ')}`);
  return new CliError(
    EXIT.failed,
    `${attempt.verb} ${attempt.resource}${attempt.name ? ` ${attempt.name}` : ''}: ${firstLine(message)} (${reason})`,
  );
}

/** What a webhook or a ValidatingAdmissionPolicy said, without Kubernetes' frame around it. */
export function admissionText(message: string): string | undefined {
  const found =
    /admission webhook "[^"]*" denied the request: (.*)/s.exec(message) ??
    /ValidatingAdmissionPolicy '[^']*' with binding '[^']*' denied request: (.*)/s.exec(message);
  return found?.[1]?.trim();
}

/** A missing object is named in the details; a missing kind is not. */
export function namesObject(failure: KubeFailure): boolean {
  const name = (failure.details as { name?: unknown } | undefined)?.name;
  return typeof name === 'string' && name !== '';
}

function forbidden(message: string, attempt: Attempt, place: Place, nothing: string): CliError {
  // `User "bob" cannot …`: RBAC names who it means, which impersonation may have changed.
  const who = /User "([^"]*)" cannot/.exec(message)?.[1] ?? place.who?.username;
  if (/cannot impersonate resource/.test(message)) {
    return new CliError(
      EXIT.denied,
      `${who ?? 'You'} may not act as somebody else in cluster ${place.contextName}.${nothing}`,
      'Leave --as out, or ask an admin for the verb impersonate.',
    );
  }
  const where = attempt.namespace === undefined ? 'in all namespaces' : `in namespace ${attempt.namespace}`;
  const what = `${attempt.verb} ${attempt.resource}${attempt.name ? ` ${attempt.name}` : ''}`;
  return new ForbiddenError(
    `${who ?? 'You'} may not ${what} ${where}.${nothing}`,
    `An admin types: ${bindingCommand(who ?? 'USER', attempt)}`,
    attempt,
  );
}

/** The ClusterRole of the chart that has what was missing. */
export function roleFor(attempt: Pick<Attempt, 'verb' | 'resource'>): string {
  const { verb, resource } = attempt;
  if (resource === 'services/proxy') return 'sallyport-requester';
  const writes = verb !== 'get' && verb !== 'list' && verb !== 'watch';
  if (writes && (resource === PLURALS.AccessLock || resource === PLURALS.AccessSession)) return 'sallyport-security';
  if (writes && resource === PLURALS.AccessApproval) return 'sallyport-approver';
  if (writes && (resource === PLURALS.Connection || resource === PLURALS.AccessPolicy)) return 'sallyport-author';
  const rare = [PLURALS.ClusterAccessPolicy, PLURALS.RecordingStore, PLURALS.ProxyReplica, PLURALS.EnforcementBundle];
  return rare.includes(resource) ? 'sallyport-auditor' : 'sallyport-requester';
}

/** Who, as `kubectl create rolebinding` takes it. */
export function subjectFlag(who: string): string {
  const account = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(who);
  return account ? `--serviceaccount=${account[1]}:${account[2]}` : `--user=${quoted(who)}`;
}

export function bindingCommand(who: string, attempt: Attempt): string {
  const role = roleFor(attempt);
  const subject = subjectFlag(who);
  const name = `${role}-${bindingSuffix(who)}`;
  return attempt.namespace === undefined
    ? `kubectl create clusterrolebinding ${name} --clusterrole=${role} ${subject}`
    : `kubectl create rolebinding ${name} --clusterrole=${role} ${subject} -n ${attempt.namespace}`;
}

export const bindingSuffix = (who: string): string =>
  who
    .toLowerCase()
    .replace(/^system:serviceaccount:/, '')
    .replace(/[^a-z0-9.-]+/g, '-')
    .slice(0, 40)
    .replace(/^[-.]+|[-.]+$/g, '') || 'user';

const quoted = (word: string): string => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);

export function connectionFailure(error: KubeConnectionError, attempt: Attempt, place: Place): CliError {
  const writes = attempt.verb === 'create' || attempt.verb === 'delete' || attempt.verb === 'patch';
  const cause = rootCause(error);
  const certificate = /certificate|self.signed|UNABLE_TO_|CERT_|altnames/i.test(cause);
  if (error.code === 'Aborted') return new CliError(130, 'Given up.');
  if (certificate) {
    return new CliError(
      EXIT.misconfigured,
      `The certificate of ${place.server} is not the cluster’s: ${cause}`,
      'Look at certificate-authority in your kubeconfig; somebody may stand between you and the cluster.',
      { cause: error },
    );
  }
  return new CliError(
    EXIT.unavailable,
    `Cluster ${place.contextName} at ${place.server} can not be reached: ${cause}`,
    writes && error.code !== 'Unreachable'
      ? 'It may have been done or not: look before you do it again.'
      : 'Look at your network or VPN, or choose another cluster with --context NAME.',
    { cause: error },
  );
}

function rootCause(error: Error): string {
  let deepest: Error = error;
  while (deepest.cause instanceof Error) deepest = deepest.cause;
  // Several addresses were tried: each failure is in `errors`, the message is empty.
  const first = deepest instanceof AggregateError ? (deepest.errors[0] as Error) : deepest;
  return firstLine(first.message || String((first as { code?: unknown }).code ?? first.name));
}

const firstLine = (text: string): string => text.split('\n', 1)[0]!.slice(0, 400);

/** For tables that can be drawn without it: undefined where RBAC does not allow to look. */
export async function unlessForbidden<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ForbiddenError) return undefined;
    throw error;
  }
}

/** The kind's resource name, for attempts. */
export const resourceOf = (kind: KindName): string => PLURALS[kind];
