// `catalog export`: the schema of a Connection's target as policy tests read it, asked for with one of its accounts.
import type { LocalServices } from './api.ts';

export const exportCatalog: LocalServices['catalog'] = async () => {
  throw new Error('not yet');
};
