// Side connections and masking catalogs, one of each per (connection, account, database), shared by the sessions that
// need them and closed a while after the last one has gone.
import type { Clock } from '../../system/clock.ts';
import type { CatalogDescribe, CatalogQuery, MaskingCatalog } from './masking/masking.ts';
import { createNamesCatalog, type NamesCatalog } from './names/catalog.ts';
import { createSideConnection, type SideConnection } from './side.ts';
import type { Upstream } from './upstream/connect.ts';

export interface CatalogOptions {
  query: CatalogQuery;
  describe: CatalogDescribe;
  clock: Clock;
}

export interface Side {
  connection: SideConnection;
  /** Made at the first call. */
  catalog(): MaskingCatalog;
  /** Made at the first call. */
  names(): NamesCatalog;
  /** Names may have changed: told to every account's of the same Connection and database. */
  namesChanged(): void;
  release(): void;
}

export interface SidePlace {
  connectionUid: string;
  account: string;
  database: string;
}

export interface SidePool {
  /** `open` and `failed` of the newest session are used from then on. */
  acquire(
    place: SidePlace,
    clock: Clock,
    open: (signal: AbortSignal) => Promise<Upstream>,
    /** The names could not be read; not again before a while has passed. */
    failed: (error: unknown) => void,
  ): Side;
}

interface Pooled {
  place: SidePlace;
  users: number;
  open: (signal: AbortSignal) => Promise<Upstream>;
  failed: (error: unknown) => void;
  connection: SideConnection;
  catalog: MaskingCatalog | undefined;
  names: NamesCatalog | undefined;
  stopLinger: (() => void) | undefined;
}

/** A person who reconnects finds the connection still warm. */
const LINGER_MS = 60_000;
/** Reading a catalog of tens of thousands of relations takes seconds. */
const TIMEOUT_MS = 30_000;

export function createSidePool(options: { openCatalog: (options: CatalogOptions) => MaskingCatalog }): SidePool {
  const pool = new Map<string, Pooled>();
  return {
    acquire(place, clock, open, failed) {
      const key = [place.connectionUid, place.account, place.database].join('\0');
      let pooled = pool.get(key);
      if (pooled === undefined) {
        const made: Pooled = {
          place,
          users: 0,
          open,
          failed,
          connection: createSideConnection({ open: (signal) => made.open(signal), clock, timeoutMs: TIMEOUT_MS }),
          catalog: undefined,
          names: undefined,
          stopLinger: undefined,
        };
        pooled = made;
        pool.set(key, made);
      }
      const mine = pooled;
      mine.users += 1;
      mine.open = open;
      mine.failed = failed;
      mine.stopLinger?.();
      mine.stopLinger = undefined;
      let released = false;
      return {
        connection: mine.connection,
        catalog() {
          mine.catalog ??= options.openCatalog({
            query: (sql) => mine.connection.query(sql),
            describe: (sql) => mine.connection.describe(sql),
            clock,
          });
          return mine.catalog;
        },
        names() {
          mine.names ??= createNamesCatalog({
            query: (sql) => mine.connection.query(sql),
            clock,
            failed: (error) => mine.failed(error),
          });
          return mine.names;
        },
        namesChanged() {
          for (const other of pool.values()) {
            if (other.place.connectionUid !== place.connectionUid || other.place.database !== place.database) continue;
            other.names?.invalidate();
          }
        },
        release() {
          if (released) return;
          released = true;
          mine.users -= 1;
          if (mine.users > 0) return;
          mine.stopLinger = clock.after(LINGER_MS, () => {
            if (mine.users > 0) return;
            pool.delete(key);
            mine.connection.close();
          });
        },
      };
    },
  };
}
