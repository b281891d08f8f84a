// What an API server answers, as values, and what comes instead when it does not, as one typed error.
// Shapes: `metav1.Status` of the Kubernetes API.

/** `Failed` is the server's own word: nothing was changed, unless `status` is 500 or more. */
export type KubeAnswer<T> = { kind: 'Ok'; value: T } | KubeFailure;

export interface KubeFailure {
  kind: 'Failed';
  /** HTTP status: 403, 404, 409, 410, 422, 429, 500 … */
  status: number;
  /** metav1.StatusReason: `NotFound`, `AlreadyExists`, `Conflict`, `Expired`, `Invalid`, `Forbidden` …; `Unknown` if it said none. */
  reason: string;
  message: string;
  /** metav1.StatusDetails as it came: `{causes: [{field, message, reason}], …}`. */
  details?: unknown;
  retryAfterMs?: number;
}

/** One line of a watch. `ERROR` ends it; its object is a Status, as the failure tells. */
export type WatchLine<T = unknown> =
  | { type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK'; object: T }
  | { type: 'ERROR'; failure: KubeFailure };

/**
 * No answer. `Unreachable`: no connection, or it broke; `Timeout`: the deadline passed; `Aborted`: the caller's signal;
 * `TooLarge`: the answer is larger than allowed; `Garbage`: it is no Kubernetes answer; `Closed`: the client is closed.
 * A write may have happened unless it is `Closed`: read before you write again.
 */
export class KubeConnectionError extends Error {
  readonly code: 'Unreachable' | 'Timeout' | 'Aborted' | 'TooLarge' | 'Garbage' | 'Closed';
  constructor(code: KubeConnectionError['code'], message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'KubeConnectionError';
    this.code = code;
  }
}

/** A failure where a caller has no value for it. */
export class KubeFailedError extends Error {
  readonly failure: KubeFailure;
  constructor(what: string, failure: KubeFailure) {
    super(`${what}: ${failure.status} ${failure.reason}: ${failure.message}`);
    this.name = 'KubeFailedError';
    this.failure = failure;
  }
}

const LONGEST_MESSAGE = 4096;

/** Reads a Status out of any JSON value; what is missing is filled from the HTTP status. */
export function failureOf(status: number, body: unknown, retryAfter?: string): KubeFailure {
  const given = typeof body === 'object' && body !== null ? (body as Record<string, unknown>) : {};
  const code = typeof given['code'] === 'number' && given['code'] >= 400 ? given['code'] : status;
  const seconds = retrySeconds(retryAfter, given['details']);
  return {
    kind: 'Failed',
    status: code,
    reason: typeof given['reason'] === 'string' && given['reason'] !== '' ? given['reason'] : reasonOf(code),
    message:
      typeof given['message'] === 'string' && given['message'] !== ''
        ? given['message'].slice(0, LONGEST_MESSAGE)
        : `the API server answered ${code}`,
    ...(given['details'] === undefined || given['details'] === null ? {} : { details: given['details'] }),
    ...(seconds === undefined ? {} : { retryAfterMs: seconds * 1000 }),
  };
}

/** Problems of an `Invalid` answer, field first: `spec.duration: must be …`. */
export function causesOf(failure: KubeFailure): string[] {
  const causes = (failure.details as { causes?: unknown } | undefined)?.causes;
  const problems = (Array.isArray(causes) ? (causes as unknown[]) : []).flatMap((cause) => {
    if (typeof cause !== 'object' || cause === null) return [];
    const { field, message } = cause as { field?: unknown; message?: unknown };
    if (typeof message !== 'string') return [];
    return [typeof field === 'string' && field !== '' ? `${field}: ${message}` : message];
  });
  return problems.length > 0 ? problems : [failure.message];
}

const REASONS: Readonly<Record<number, string>> = {
  400: 'BadRequest',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  405: 'MethodNotAllowed',
  409: 'Conflict',
  410: 'Gone',
  413: 'RequestEntityTooLarge',
  415: 'UnsupportedMediaType',
  422: 'Invalid',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
  504: 'Timeout',
};
const reasonOf = (status: number): string => REASONS[status] ?? 'Unknown';

const LONGEST_RETRY_SECONDS = 60;

function retrySeconds(header: string | undefined, details: unknown): number | undefined {
  const inDetails = (details as { retryAfterSeconds?: unknown } | undefined | null)?.retryAfterSeconds;
  // Kubernetes sends seconds only, never the date that RFC 9110 10.2.3 allows too.
  const seconds = header !== undefined && /^\d{1,9}$/.test(header) ? Number(header) : inDetails;
  if (typeof seconds !== 'number' || !Number.isFinite(seconds) || seconds <= 0) return undefined;
  return Math.min(seconds, LONGEST_RETRY_SECONDS);
}
