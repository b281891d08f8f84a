// How soon a sleeping session is over after the act that ends it: from the moment the API accepted the act (the CLI's
// call returned is later still, so the act is made through the local API directly) to the client's FATAL.

import { type CutKind, cutTrial } from '../support/cut-trial.ts';
import type { Local } from '../support/local.ts';
import type { PostgresServer } from '../support/postgres.ts';
import { percentile } from './statistics.ts';

export async function measureCuts(
  local: Local,
  server: PostgresServer,
  trials: number,
  tell: (line: string) => void,
): Promise<string[][]> {
  const rows: string[][] = [];
  for (const kind of ['expiry', 'revoke', 'kill', 'lock'] satisfies CutKind[]) {
    const delays: number[] = [];
    for (let trial = 0; trial < trials; trial += 1)
      delays.push((await cutTrial(local, server, kind, { namespace: 'bench', connection: 'cut-db' })).ms);
    const row = [
      kind,
      String(trials),
      percentile(delays, 50).toFixed(0),
      percentile(delays, 99).toFixed(0),
      Math.max(...delays).toFixed(0),
    ];
    tell(row.join('  '));
    rows.push(row);
  }
  return rows;
}
