// Stands in for psql on a machine that has none: runs the statements of its -c options in one session through
// node-postgres and prints what a person needs to see.
import fs from 'node:fs';
import pg from 'pg';

const statements = process.argv.flatMap((word, index, all) => (word === '-c' ? [all[index + 1]!] : []));
const root = process.env.PGSSLROOTCERT;
const client = new pg.Client({
  ssl:
    root === undefined ? false : { ca: fs.readFileSync(root, 'utf8'), servername: process.env.PGHOST ?? 'localhost' },
});
client.on('notice', (notice) => console.error(`NOTICE:  ${notice.message}`));
client.on('error', () => undefined);

function tell(error: unknown): void {
  const fields = error as { severity?: string; message: string; detail?: string; hint?: string };
  console.error(`${fields.severity ?? 'ERROR'}:  ${fields.message}`);
  if (fields.detail !== undefined) console.error(`DETAIL:  ${fields.detail}`);
  if (fields.hint !== undefined) console.error(`HINT:  ${fields.hint}`);
}

try {
  await client.connect();
} catch (error) {
  tell(error);
  process.exit(2);
}
let code = 0;
for (const statement of statements) {
  try {
    const result = await client.query({ text: statement, rowMode: 'array' });
    code = 0;
    if (result.fields.length === 0) console.log(`${result.command} ${result.rowCount ?? ''}`);
    else {
      console.log(result.fields.map((field) => field.name).join(' | '));
      for (const row of result.rows as unknown[][]) console.log(row.map(String).join(' | '));
    }
  } catch (error) {
    tell(error);
    code = (error as { severity?: string }).severity === 'FATAL' ? 2 : 1;
    if (code === 2) break;
  }
}
await client.end().catch(() => undefined);
process.exit(code);
