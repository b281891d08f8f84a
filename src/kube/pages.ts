// A whole list in pages. Guarantees: all pages are of one moment (the resource version given); nothing but a page is in
// memory at a time. Pages shrink where objects are large.
import { KubeConnectionError, type KubeFailure } from './answer.ts';
import type { KubeClient, KubeList } from './client.ts';
import { isKubeObject, type KubeObject, withoutManagedFields } from './object.ts';

export interface Selection {
  fieldSelector?: string | undefined;
  labelSelector?: string | undefined;
}

export type ListEnd = { kind: 'Listed'; resourceVersion: string } | KubeFailure;

const PAGE = 500;
const LARGEST_PAGE_BYTES = 64 * 2 ** 20;
const MOST_STARTS = 3;

/**
 * Calls `onPage` for each page. `restarted` means that the list began anew (the server forgot its moment): what came
 * before may be of another. Throws KubeConnectionError.
 */
export async function listPages<T extends KubeObject>(
  client: KubeClient,
  path: string,
  options: Selection & { signal?: AbortSignal | undefined; pageSize?: number; maxBytes?: number; deadlineMs?: number },
  onPage: (items: T[], page: { restarted: boolean; remaining: number | undefined }) => void | Promise<void>,
): Promise<ListEnd> {
  const { fieldSelector, labelSelector, signal } = options;
  let limit = options.pageSize ?? PAGE;
  let next: string | undefined;
  let starts = 1;
  let restarted = false;
  for (;;) {
    let page: KubeList<T> & { apiVersion?: string; kind?: string };
    try {
      const answer = await client.list<T>(path, {
        fieldSelector,
        labelSelector,
        limit,
        continue: next,
        signal,
        maxBytes: options.maxBytes ?? LARGEST_PAGE_BYTES,
        deadlineMs: options.deadlineMs ?? 60_000,
      });
      if (answer.kind === 'Failed') {
        if (answer.status !== 410 || next === undefined || starts >= MOST_STARTS) return answer;
        // The token outlived etcd's compaction (5 minutes).
        next = undefined;
        starts++;
        restarted = true;
        continue;
      }
      page = answer.value;
    } catch (error) {
      if (!(error instanceof KubeConnectionError) || error.code !== 'TooLarge' || limit <= 1) throw error;
      limit = Math.max(1, limit >> 2);
      continue;
    }
    if (!Array.isArray(page.items) || typeof page.metadata?.resourceVersion !== 'string') {
      throw new KubeConnectionError('Garbage', `${path}: the answer is no list`);
    }
    // Items of built-in kinds come without what the list says once.
    const kind = page.kind?.replace(/List$/, '');
    for (const item of page.items) {
      if (!isKubeObject(item)) throw new KubeConnectionError('Garbage', `${path}: an item has no name or version`);
      withoutManagedFields(item);
      if (item.kind === undefined && kind !== undefined) item.kind = kind;
      if (item.apiVersion === undefined && page.apiVersion !== undefined) item.apiVersion = page.apiVersion;
    }
    const { resourceVersion, continue: token, remainingItemCount: remaining } = page.metadata;
    await onPage(page.items, { restarted, remaining });
    restarted = false;
    if (token === undefined || token === '') return { kind: 'Listed', resourceVersion };
    next = token;
  }
}
