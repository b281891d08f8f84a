import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CompiledMask } from '../../../policy/bundle.ts';
import { manualClock } from '../../../system/manual-clock.ts';
import { openMaskingCatalog } from './catalog.ts';

const mask: CompiledMask = {
  ref: { policy: 'a/b', rule: 'c' },
  columns: ['*.cards.number'],
  detectors: [],
  with: 'Redact',
  predicates: 'Deny',
  exempt: [],
};
const statement = {
  command: { protocol: 'postgresql', verb: 'SELECT', effects: [], text: 'select 1', facts: {} },
  tree: {},
} as never;
/** An empty database, as the snapshot's query spells it. */
const SECTIONS = [
  'relation',
  'column',
  'inherits',
  'view',
  'reads',
  'rule',
  'function',
  'aggregate',
  'builtin',
  'operator',
  'cast',
  'type',
  'trigger',
  'expression',
  'cascade',
];

function fakeServer() {
  const state = { token: 'a', loads: 0, fail: false, hang: false };
  const query = async (sql: string): Promise<(string | null)[][]> => {
    if (state.hang) return new Promise(() => undefined);
    if (state.fail) throw new Error('the side connection is gone');
    if (sql.includes('server_version_num')) return [['180004']];
    if (sql.includes('md5(')) return [[state.token]];
    if (sql.startsWith('set ')) return [];
    state.loads += 1;
    return SECTIONS.map((section) => [section, '[]']);
  };
  return { state, query, describe: async () => [] };
}

test('INV-04: before the first reading, and with none, everything is refused', async () => {
  const { state, query, describe } = fakeServer();
  const catalog = openMaskingCatalog({ query, describe, clock: manualClock() });
  assert.equal(catalog.stale, true);
  assert.equal(catalog.resolve([mask], []).review(statement).kind, 'Refused');
  state.fail = true;
  await assert.rejects(catalog.refresh(false), /side connection is gone/);
  assert.equal(catalog.stale, true);
  assert.equal(catalog.resolve([mask], []).plan({ kind: 'Clear' }, []).kind, 'Refused');
});

test('a reading is trusted for two seconds, and read again in full only after a change', async () => {
  const { state, query, describe } = fakeServer();
  const clock = manualClock();
  const catalog = openMaskingCatalog({ query, describe, clock });
  await catalog.refresh(false);
  assert.equal(catalog.stale, false);
  const { catalogVersion } = catalog.resolve([mask], []);
  clock.advance(1999);
  assert.equal(catalog.stale, false);
  clock.advance(1);
  assert.equal(catalog.stale, true);
  await catalog.refresh(false);
  assert.equal(state.loads, 1);
  assert.equal(catalog.resolve([mask], []).catalogVersion, catalogVersion);
  state.token = 'b';
  await catalog.refresh(true);
  assert.equal(state.loads, 2);
  assert.ok(catalog.resolve([mask], []).catalogVersion > catalogVersion);
});

test('INV-06: DDL seen while a refresh runs makes its answer stale', async () => {
  const { query, describe } = fakeServer();
  const catalog = openMaskingCatalog({ query, describe, clock: manualClock() });
  const running = catalog.refresh(true);
  catalog.invalidate();
  await running;
  assert.equal(catalog.stale, true);
  await catalog.refresh(false);
  assert.equal(catalog.stale, false);
});

test('INV-04: a failed refresh leaves the catalog stale', async () => {
  const { state, query, describe } = fakeServer();
  const catalog = openMaskingCatalog({ query, describe, clock: manualClock() });
  await catalog.refresh(true);
  state.fail = true;
  await assert.rejects(catalog.refresh(true));
  assert.equal(catalog.stale, true);
});

test('INV-04: a side connection that hangs is given up', async () => {
  const { state, query, describe } = fakeServer();
  const clock = manualClock();
  const catalog = openMaskingCatalog({ query, describe, clock });
  await catalog.refresh(true);
  state.hang = true;
  const hung = assert.rejects(catalog.refresh(true), /did not answer/);
  await new Promise((resolve) => setImmediate(resolve));
  clock.advance(20_000);
  await hung;
  assert.equal(catalog.stale, true);
});

test('INV-06: a review of another catalog plans nothing', async () => {
  const { query, describe } = fakeServer();
  const catalog = openMaskingCatalog({ query, describe, clock: manualClock() });
  await catalog.refresh(true);
  assert.equal(catalog.resolve([mask], []).plan({ kind: 'Masked', relations: [] }, []).kind, 'Refused');
});
