// What a check of the doctor says, and how it looks at the cluster: what may not be seen is `Unknown`, never `Ok`.
import { KubeConnectionError } from '../../../kube/answer.ts';
import type { KubeClient, KubeList } from '../../../kube/client.ts';
import { connectionFailure, failureError, type Place } from '../failures.ts';

export type CheckState = 'Ok' | 'Warn' | 'Fail' | 'Unknown';

export interface Check {
  area: 'Install' | 'You' | 'Connection' | 'Bypass';
  /** What was looked at. */
  subject: string;
  state: CheckState;
  /** One sentence. */
  message: string;
  /** What to do about it. */
  fix?: string;
}

export type Seen<T> = { kind: 'Seen'; value: T } | { kind: 'Hidden' } | { kind: 'Absent' };

export interface Looker {
  get<T>(path: string): Promise<Seen<T>>;
  /** All pages. */
  list<T>(path: string, labelSelector?: string): Promise<Seen<T[]>>;
  /** A review: its status. */
  review<T>(path: string, body: unknown): Promise<Seen<T>>;
}

const PAGE = 500;

/** Rejects with CliError where the cluster can not be asked at all. */
export function createLooker(kube: KubeClient, place: Place, signal: AbortSignal): Looker {
  type Answer<T> = Awaited<ReturnType<typeof kube.get<T>>>;
  const seen = async <T>(
    path: string,
    verb: 'get' | 'list' | 'create',
    asked: Promise<Answer<T>>,
  ): Promise<Seen<T>> => {
    const attempt = { verb, resource: path };
    let answer: Answer<T>;
    try {
      answer = await asked;
    } catch (error) {
      if (error instanceof KubeConnectionError) throw connectionFailure(error, attempt, place);
      throw error;
    }
    if (answer.kind === 'Ok') return { kind: 'Seen', value: answer.value };
    if (answer.status === 403) return { kind: 'Hidden' };
    if (answer.status === 404) return { kind: 'Absent' };
    throw failureError(answer, attempt, place);
  };
  return {
    get: (path) => seen(path, 'get', kube.get(path, { signal })),
    review: (path, body) => seen(path, 'create', kube.create(path, body, { signal })),
    async list<T>(path: string, labelSelector?: string) {
      const items: T[] = [];
      let next: string | undefined;
      do {
        const page = await seen<KubeList<T>>(
          path,
          'list',
          kube.list<T>(path, { limit: PAGE, continue: next, labelSelector, signal }),
        );
        if (page.kind !== 'Seen') return page;
        items.push(...page.value.items);
        next = page.value.metadata.continue;
      } while (next);
      return { kind: 'Seen', value: items };
    },
  };
}
