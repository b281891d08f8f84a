// Crashes and full disks under load: nothing runs unrecorded, and what was lost is said.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import pg from 'pg';
import { type ChaosBed, CLIENTS, executed, startChaosBed, told, total, unrecorded } from '../hostile/chaos/bed.ts';
import { killTrial } from '../hostile/chaos/kill.ts';
import { sleep, until } from '../support/in-process.ts';
import { type CriteriaGroup, trials } from './criterion.ts';

let bed: ChaosBed;

/** Ends the daemon as a service manager does; its folder stays. */
async function terminate(): Promise<void> {
  const { pid } = bed.local;
  process.kill(pid, 'SIGTERM');
  await until('the daemon to end', () => {
    try {
      process.kill(pid, 0);
      return undefined;
    } catch {
      return true;
    }
  });
}

async function killed(): Promise<string> {
  const modes = ['simple', 'extended', 'prepared'] as const;
  const sum = { executed: 0, recorded: 0, lost: 0 };
  const count = trials(10);
  for (let trial = 0; trial < count; trial += 1) {
    const figure = await killTrial(bed, modes[trial % modes.length]!, 300 + 53 * trial);
    sum.executed += figure.executed;
    sum.recorded += figure.recorded;
    sum.lost += figure.lost;
  }
  return `${count} kills: ${sum.executed} statements in the server's log, 0 without a record, ${sum.recorded} recorded; ${sum.lost} sessions marked Lost, verify clean each time`;
}

async function terminated(): Promise<string> {
  const { server, local, records } = bed;
  const from = server.log().length;
  const since = new Date().toISOString();
  const load = bed.load('simple');
  const client = new pg.Client(bed.held.login());
  client.on('error', () => undefined);
  await client.connect();
  const cut = client.query('select pg_sleep(60)').then(
    () => assert.fail('the statement outlived the daemon'),
    (error: pg.DatabaseError) => error,
  );
  await until('all clients to be at work', () => {
    const live = told(records, since);
    return live.ends.size > CLIENTS && total(live.commands) > 20 * CLIENTS ? true : undefined;
  });
  // pgbench looks at the server with a session of its own, which has ended by then.
  const alive = [...told(records, since).ends].filter(([, reason]) => reason === undefined).map(([id]) => id);
  assert.equal(alive.length, CLIENTS + 1, 'sessions alive');
  const started = performance.now();
  await terminate();
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const error = await cut;
  const output = await load.ended;
  await client.end().catch(() => undefined);
  assert.equal(error.severity, 'FATAL', `a sleeping client heard: ${error.message}`);
  assert.equal(error.code, '57P01');
  assert.match(error.message, /Sallyport/);
  assert.match(output, /FATAL: {2}Sallyport/, `pgbench heard: ${output}`);
  const logged = executed(server.log(), from);
  const recorded = told(records, since);
  assert.deepEqual(unrecorded(logged, recorded.commands), [], 'statements without a record');
  assert.deepEqual(
    alive.filter((id) => recorded.ends.get(id) !== 'Shutdown'),
    [],
    'sessions that ended otherwise',
  );
  const report = await bed.verify();
  assert.deepEqual(report.findings, []);
  assert.equal(report.checked.liveRecords, 0, 'records left unsealed');
  await local.start();
  return `${CLIENTS + 1} clients heard FATAL 57P01, ${total(logged)} statements all recorded, all sealed, verify clean; the daemon took ${seconds} s to end`;
}

async function diskFull(): Promise<string> {
  if (process.getuid?.() !== 0) return 'skipped: only root can mount a small file system';
  const { server, local, records } = bed;
  await terminate();
  const aside = `${records}.aside`;
  fs.renameSync(records, aside);
  fs.mkdirSync(records, { mode: 0o700 });
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m,mode=0700', 'tmpfs', records], { stdio: 'ignore' });
  } catch {
    fs.rmdirSync(records);
    fs.renameSync(aside, records);
    await local.start();
    return 'skipped: no file system can be mounted here';
  }
  const client = new pg.Client(bed.held.login());
  let fatal: Error | undefined;
  client.on('error', (error) => (fatal = error));
  try {
    await local.start();
    const from = server.log().length;
    await client.connect();
    await client.query('select 1 as before');
    const ballast = path.join(records, 'ballast');
    fill(ballast);
    let refused: pg.DatabaseError | undefined;
    let accepted = 0;
    let refusals = 0;
    for (let id = 0; id < 400 && refusals < 20; id += 1) {
      await client.query(`select ${id} as tried, '${'x'.repeat(2000)}'`).then(
        () => (accepted += 1),
        (error: pg.DatabaseError) => {
          refused = error;
          refusals += 1;
          assert.equal(error.code, '53100', error.message);
        },
      );
    }
    assert.ok(refused !== undefined, 'no command was refused on a full disk');
    assert.notEqual(refused.severity, 'FATAL');
    assert.equal(fatal, undefined, 'the session died');
    const seen = [...executed(server.log(), from).keys()].filter((key) => key.includes(' as tried')).length;
    assert.equal(seen, accepted, 'statements that reached the server are not those that were accepted');
    fs.rmSync(ballast);
    const freed = performance.now();
    await until('commands to run again', () =>
      client.query('select 1 as again').then(
        () => true,
        () => undefined,
      ),
    );
    const recoveredMs = Math.round(performance.now() - freed);
    await client.end();
    await sleep(100);
    const report = await bed.verify();
    assert.deepEqual(report.findings, []);
    const { commands, notices } = told(records);
    assert.deepEqual(unrecorded(executed(server.log(), from), commands), []);
    assert.ok(
      notices.some(({ body }) => (body as { notice?: string }).notice === 'RecordsLost'),
      'the records do not say that some could not be written',
    );
    return `${refusals} commands refused with 53100, 0 reached the server, the same session ran again ${recoveredMs} ms after space came; verify clean`;
  } finally {
    await client.end().catch(() => undefined);
    await terminate().catch(() => undefined);
    execFileSync('umount', [records]);
    fs.rmdirSync(records);
    fs.renameSync(aside, records);
    await local.start();
  }
}

/** Takes all the space that is left. */
function fill(file: string): void {
  const fd = fs.openSync(file, 'w');
  try {
    for (let size = 65_536; size >= 1; size = Math.floor(size / 2)) {
      try {
        for (;;) fs.writeSync(fd, Buffer.alloc(size));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      }
    }
  } finally {
    fs.closeSync(fd);
  }
}

export const chaos: CriteriaGroup = {
  name: 'chaos',
  async start() {
    bed = await startChaosBed();
  },
  criteria: [
    {
      claim: 'kill -9 under load: every statement in the server’s own log has its record, sessions are marked Lost',
      check: killed,
    },
    { claim: 'SIGTERM under load: clients get a native FATAL, records are sealed and verify', check: terminated },
    { claim: 'a full record disk refuses commands, keeps the session, and recovers', check: diskFull },
  ],
  async stop() {
    await bed?.stop();
  },
};
