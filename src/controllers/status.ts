// How controllers write status: only when it differs, under the version that was looked at. A conflict means that
// somebody was faster; the watch brings the news and the key comes round again.
import { isDeepStrictEqual } from 'node:util';
import type { Resource } from '../api/resource.ts';
import type { KindName } from '../store/resource-store.ts';
import type { ControllerContext } from './ports.ts';

export function sameStatus(a: unknown, b: unknown): boolean {
  const [left, right] = [JSON.stringify(a ?? null), JSON.stringify(b ?? null)];
  // Mostly nothing changed, members in the same order.
  return left === right || isDeepStrictEqual(JSON.parse(left), JSON.parse(right));
}

/** Throws on anything but Ok and NotFound, so that the queue tries again. */
export async function writeStatus(
  context: Pick<ControllerContext, 'store' | 'cache'>,
  object: Resource,
  status: unknown,
): Promise<void> {
  if (sameStatus(object.status, status)) return;
  const { namespace, name, resourceVersion } = object.metadata;
  const result = await context.store.applyStatus(
    { kind: 'Operator' },
    { kind: object.kind as KindName, ...(namespace ? { namespace } : {}), name },
    resourceVersion,
    status,
  );
  switch (result.kind) {
    case 'Ok':
      context.cache.remember(result.value);
      return;
    case 'NotFound':
      return;
    case 'Invalid':
      throw new Error(`status of ${object.kind} ${name} was refused: ${result.problems.join('; ')}`);
    case 'Conflict':
    case 'Forbidden':
      throw new Error(`status of ${object.kind} ${name} was refused: ${result.message}`);
    case 'AlreadyExists':
      throw new Error(`status of ${object.kind} ${name} was refused`);
  }
}
