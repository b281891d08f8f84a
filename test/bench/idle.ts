// Opens N sessions, leaves them idle, prints the resident memory (MiB) of a process while they are open.
// Usage: PG* environment; node idle.ts N PID
import fs from 'node:fs';
import pg from 'pg';

const count = Number(process.argv[2]);
const pid = process.argv[3]!;
const ca = fs.readFileSync(process.env.PGSSLROOTCERT!, 'utf8');
const clients: pg.Client[] = [];
for (let index = 0; index < count; index += 1) {
  const client = new pg.Client({ ssl: { ca, servername: 'localhost' } });
  await client.connect();
  await client.query('select 1');
  clients.push(client);
}
await new Promise((resolve) => setTimeout(resolve, 2000));
console.log(Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024);
await Promise.all(clients.map((client) => client.end()));
