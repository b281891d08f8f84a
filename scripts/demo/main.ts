// `make demo`: the whole story on one machine, with a real PostgreSQL and real clients. Every line of output is what the
// command printed; every ✓ was checked, and a claim that does not hold ends the demo with an error.
import fs from 'node:fs';
import path from 'node:path';
import { type CliResult, hasProgram, type Local, startLocal } from '../../test/support/local.ts';
import { type PostgresServer, startPostgres } from '../../test/support/postgres.ts';
import { access, setupSql } from './scene.ts';
import { check, heading, indented, run, say, typed } from './story.ts';

const ALICE = { as: 'alice@example.com', groups: ['orders-team'] };
const DANA = { as: 'dana@example.com', groups: ['dba'] };
const ERIN = { as: 'erin@example.com', groups: ['auditors'] };

const client = hasProgram('psql') ? ['psql', '-X'] : ['node', path.resolve(import.meta.dirname, 'client.ts')];
const sql = (...statements: string[]): string[] => [
  '--',
  ...client,
  ...statements.flatMap((statement) => ['-c', statement]),
];
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function until<T>(what: string, look: () => Promise<T | undefined> | T | undefined, ms = 10_000): Promise<T> {
  const deadline = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await sleep(40);
  }
}

async function heldName(local: Local): Promise<string> {
  return until('a hold', async () => {
    const holds = await local.json<{ items: { metadata: { name: string }; status?: { phase: string } }[] }>(['holds']);
    return holds.items.find((hold) => (hold.status?.phase ?? 'Waiting') === 'Waiting')?.metadata.name;
  });
}

/** Starts a client that is going to be held, lets `decide` act on the hold, and shows what the client printed. */
async function held(local: Local, statement: string, decide: (hold: string) => Promise<void>): Promise<CliResult> {
  const args = ['connect', 'orders-db', ...sql(statement)];
  typed(`sallyport connect orders-db --as ${ALICE.as} -- psql -c "${statement}"`);
  const running = local.cli(args, { ...ALICE, together: true });
  await decide(await heldName(local));
  const result = await running;
  say('   Meanwhile, on her screen:');
  say(indented(result.output));
  return result;
}

async function story(server: PostgresServer, local: Local): Promise<void> {
  heading('1. What is there');
  await run(local, ['ls'], ALICE);

  heading('2. Alice asks for an hour on the orders database');
  const requested = await run(
    local,
    ['request', 'orders-db', '--for', '1h', '--reason', 'INC-1234 refunds look wrong'],
    { ...ALICE, expect: 75 },
  );
  const grant = /orders-db-[a-z0-9]+/.exec(requested.output)![0];

  heading('3. She can not approve herself; Dana of group dba can');
  await run(local, ['approve', grant, '--yes'], { ...ALICE, expect: 77 });
  await run(local, ['approve', grant, '--yes', '--reason', 'go ahead'], DANA);

  heading('4. The same row, straight from the server and through Sallyport');
  const query = 'select holder, number, email from cards order by id limit 1';
  const direct = await server.query(query);
  say(` straight:   ${Object.values(direct.rows[0] as object).join(' | ')}`);
  const masked = await run(local, ['connect', 'orders-db', ...sql(query)], ALICE);
  check(
    !masked.output.includes('4111111111111111') && masked.output.includes('1111'),
    'the card number and the address came masked',
  );
  await run(local, ['connect', 'orders-db', ...sql('select upper(number) from cards')], { ...ALICE, expect: 1 });

  heading('5. DROP is refused, and her session goes on');
  const dropped = await run(
    local,
    ['connect', 'orders-db', ...sql('drop table orders', 'select count(*) from orders')],
    ALICE,
  );
  check(dropped.output.includes('1000'), 'the table is there and the same session answered the next query');
  const denial = /d-[0-9a-z]{4,}/.exec(dropped.output)![0];
  await run(local, ['why', denial], { lines: 14 });

  heading('6. A DELETE without WHERE waits for somebody of group dba');
  const before = Number((await server.query('select count(*)::int as n from orders')).rows[0].n);
  await held(local, 'delete from orders', async (hold) => {
    await run(local, ['holds']);
    await run(local, ['deny', hold, '--yes', '--reason', 'add a WHERE'], DANA);
  });
  const after = Number((await server.query('select count(*)::int as n from orders')).rows[0].n);
  check(before === after, `all ${after} orders are still there`);

  heading('7. Another one is approved, and runs in the session that waited');
  await held(local, "update orders set state = 'reviewed'", (hold) =>
    run(local, ['approve', hold, '--yes'], DANA).then(() => undefined),
  );
  const reviewed = Number(
    (await server.query("select count(*)::int as n from orders where state = 'reviewed'")).rows[0].n,
  );
  check(reviewed === before, `${reviewed} orders are reviewed`);

  heading('8. A grant ends by itself, and takes the running statement along');
  const short = await run(local, ['request', 'orders-db', '--for', '4s', '--reason', 'a quick look'], {
    ...ALICE,
    expect: 75,
  });
  const shortName = /orders-db-[a-z0-9]+/.exec(short.output)![0];
  await local.cli(['approve', shortName, '--yes'], DANA);
  const cut = await run(local, ['connect', 'orders-db', '--grant', shortName, ...sql('select pg_sleep(3600)')], {
    ...ALICE,
    expect: 2,
  });
  const ended = Date.now();
  const status = await local.json<{ status: { expiresAt: string } }>(['status', shortName]);
  check(
    /FATAL/.test(cut.output) && /expired/.test(cut.output),
    `her client heard why, ${ended - Date.parse(status.status.expiresAt)} ms after the end (its own exit included)`,
  );
  const sleepers = await until('the backend to go', async () => {
    const rows = (
      await server.query(
        "select count(*)::int as n from pg_stat_activity where query like '%pg_sleep(3600)%' and pid <> pg_backend_pid()",
      )
    ).rows;
    return rows[0].n === 0 ? 0 : undefined;
  });
  check(sleepers === 0, 'the server has no such statement running any more');

  heading('9. What was recorded');
  await run(local, ['records', 'ls'], ERIN);
  const listed = await local.json<{ items: { session: string; held: number }[] }>(['records', 'ls'], ERIN);
  await run(local, ['replay', listed.items.find((each) => each.held > 0)!.session], { ...ERIN, lines: 30 });
  await run(local, ['audit', 'columns', 'orders-db/public.cards.number'], ERIN);

  heading('10. Proof: the records verify, and one flipped byte is found');
  await run(local, ['verify'], ERIN);
  const copy = path.join(local.directory, '..', 'records-copy');
  const flipped = flipOneByte(path.join(local.state, 'records'), copy);
  say(` (one byte flipped in a copy: ${path.basename(flipped.file)} at ${flipped.offset})`);
  await run(local, ['verify', copy], { ...ERIN, expect: 1 });
}

/** Copies a folder of records and flips one byte in the middle of its largest sealed segment. */
function flipOneByte(from: string, to: string): { file: string; offset: number } {
  fs.cpSync(from, to, { recursive: true });
  const segments = fs
    .readdirSync(to, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.seg'))
    .map((name) => path.join(to, name))
    .sort((a, b) => fs.statSync(b).size - fs.statSync(a).size);
  const file = segments[0]!;
  const bytes = fs.readFileSync(file);
  const offset = bytes.length >> 1;
  bytes[offset]! ^= 1;
  fs.writeFileSync(file, bytes);
  return { file, offset };
}

async function main(): Promise<void> {
  const keep = process.env.KEEP === '1';
  say('Starting a PostgreSQL 18 of its own and Sallyport beside it ...');
  const server = await startPostgres({ database: 'orders', setup: setupSql, leaveNothing: true });
  let local: Local | undefined;
  const stop = async (): Promise<void> => {
    await local?.stop();
    await server.stop();
  };
  process.once('SIGINT', () => void stop().then(() => process.exit(130)));
  process.once('SIGTERM', () => void stop().then(() => process.exit(143)));
  try {
    local = await startLocal(access(server));
    await story(server, local);
    heading('Try it by hand');
    const asAlice = `--as ${ALICE.as} --groups ${ALICE.groups.join(',')}`;
    if (keep) {
      say(` It stays up until Ctrl-C. In another terminal:\n`);
      say(`   export SALLYPORT_STATE=${local.state} SALLYPORT_HOME=${local.home}`);
      say(`   ./bin/sallyport connect orders-db ${asAlice}\n`);
      await new Promise(() => setInterval(() => undefined, 60_000));
    }
    say('   make demo KEEP=1     # stays up; then connect with your own psql as it says');
  } finally {
    await stop();
  }
}

try {
  await main();
} catch (error) {
  console.error(`\ndemo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
