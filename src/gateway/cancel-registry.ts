// Keys by which a client cancels its own statement over a second connection. Looked up by keyed hash, so that neither
// the time a lookup takes nor the table's layout tells how much of a guess was right; bounded.
import { createHmac } from 'node:crypto';
import type { CancelRegistry } from '../protocols/protocol.ts';
import type { Random } from '../system/random.ts';

/** `register` throws RangeError for a key that is taken, shorter than 4 bytes, or one too many; the caller makes another or goes without. */
export function createCancelRegistry(random: Random, most = 65_536): CancelRegistry & { readonly size: number } {
  const secret = random.bytes(32);
  const owners = new Map<string, () => void>();
  const nameOf = (key: Buffer): string => createHmac('sha256', secret).update(key).digest('base64');
  return {
    register(key, cancel) {
      if (key.length < 4) throw new RangeError('a cancel key has at least 4 bytes');
      if (owners.size >= most) throw new RangeError('too many cancel keys');
      const name = nameOf(key);
      if (owners.has(name)) throw new RangeError('this cancel key is taken');
      owners.set(name, cancel);
      return () => {
        if (owners.get(name) === cancel) owners.delete(name);
      };
    },
    cancel(key) {
      const owner = owners.get(nameOf(key));
      owner?.();
      return owner !== undefined;
    },
    get size() {
      return owners.size;
    },
  };
}
