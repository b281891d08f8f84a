// Runs one query and counts the bytes of its answer without decoding them, so that the client costs next to nothing.
// Usage: PG* environment; node drain.ts QUERY. Prints {"ms":…,"bytes":…,"rssBefore":…}.

import fs from 'node:fs';
import type { Socket } from 'node:net';
import pg from 'pg';

const query = process.argv[2]!;
const ca = process.env.PGSSLROOTCERT;
const client = new pg.Client({
  ssl: ca === undefined ? false : { ca: fs.readFileSync(ca, 'utf8'), servername: 'localhost' },
});
await client.connect();
const stream = (client as unknown as { connection: { stream: Socket } }).connection.stream;
stream.removeAllListeners('data');

const body = Buffer.from(`${query}\0`);
const message = Buffer.alloc(5 + body.length);
message.write('Q', 0, 'latin1');
message.writeUInt32BE(4 + body.length, 1);
body.copy(message, 5);
const READY = Buffer.from([0x5a, 0, 0, 0, 5]);

let bytes = 0;
let tail: Buffer = Buffer.alloc(0);
const started = performance.now();
await new Promise<void>((resolve, reject) => {
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    tail = chunk.length >= 6 ? chunk.subarray(-6) : Buffer.concat([tail, chunk]).subarray(-6);
    if (tail.length === 6 && tail.subarray(0, 5).equals(READY)) resolve();
  });
  stream.once('error', reject);
  stream.once('close', () => reject(new Error('the server closed the connection')));
  stream.write(message);
});
console.log(JSON.stringify({ ms: performance.now() - started, bytes }));
process.exit(0);
