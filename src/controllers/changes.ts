// Which changes of an object others have to look at. Pure.
import { isDeepStrictEqual } from 'node:util';
import type { CacheEvent } from './runtime.ts';

/**
 * Whether a Connection or policy says something else than before. Its status, which the controllers themselves write, is
 * nobody else's business: acting on it would make every write a reason to look at everything in the namespace again.
 * Labels count: policies select by them, and they do not raise the generation.
 */
export function saysSomethingElse({ type, object, previous }: CacheEvent): boolean {
  if (type !== 'Modified' || previous === undefined) return true;
  const [before, now] = [previous.metadata, object.metadata];
  return (
    before.uid !== now.uid || before.generation !== now.generation || !isDeepStrictEqual(before.labels, now.labels)
  );
}
