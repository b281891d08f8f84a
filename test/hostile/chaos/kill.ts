// One kill -9 of the daemon in the middle of pgbench, the restart after it, and what must hold then.
import assert from 'node:assert/strict';
import { sleep, until } from '../../support/in-process.ts';
import { type ChaosBed, CLIENTS, executed, type LoadMode, told, total, unrecorded } from './bed.ts';

export interface KillFigure {
  /** Statements in the server's log. */
  executed: number;
  /** Records of allowed commands; those beyond `executed` had been written and not yet sent. */
  recorded: number;
  lost: number;
}

/** Throws where a statement has no record, a piece does not verify, or a session has no end. */
export async function killTrial(bed: ChaosBed, mode: LoadMode, afterMs: number): Promise<KillFigure> {
  const { server, local, records } = bed;
  const from = server.log().length;
  const since = new Date().toISOString();
  const load = bed.load(mode);
  await until('all clients to be at work', () => {
    const live = told(records, since);
    return live.ends.size >= CLIENTS && total(live.commands) > 20 * CLIENTS ? true : undefined;
  });
  await sleep(afterMs);
  await local.kill();
  const output = await load.ended;
  assert.match(output, /server closed the connection|SSL|aborted/, `pgbench did not notice the kill: ${output}`);
  // Backends finish what had reached them before their sockets' end does.
  await until('the backends to go', async () => {
    const { rows } = await server.query(
      "select 1 from pg_stat_activity where usename = 'chaos_writer' and pid <> pg_backend_pid()",
    );
    return rows.length === 0 ? true : undefined;
  });
  // pgbench looks at the server with a session of its own, which has ended by then.
  const alive = [...told(records, since).ends].filter(([, reason]) => reason === undefined).map(([id]) => id);
  assert.equal(alive.length, CLIENTS, 'sessions alive at the kill');
  const broken = await bed.verify();
  assert.deepEqual(broken.findings, [], 'verify after the kill, before the restart');

  await local.start();
  const logged = executed(server.log(), from);
  const recorded = told(records, since);
  assert.ok(total(logged) > 20 * CLIENTS, `the server logged only ${total(logged)} statements`);
  assert.deepEqual(unrecorded(logged, recorded.commands), [], 'statements without a record');
  assert.deepEqual(
    alive.filter((id) => recorded.ends.get(id) !== 'Lost'),
    [],
    'sessions not marked Lost',
  );
  const report = await bed.verify();
  assert.deepEqual(report.findings, [], 'verify after the restart');
  for (const session of alive) {
    assert.ok(
      report.notes.some((note) => note.includes(session)),
      `verify does not say that ${session} lost something: ${report.notes.join('; ')}`,
    );
  }
  return { executed: total(logged), recorded: total(recorded.commands), lost: alive.length };
}
