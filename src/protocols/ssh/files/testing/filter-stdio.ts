// `sftp -D 'node filter-stdio.ts RECORDS ROOT...'`: the filter between standard input and output and a real sftp-server,
// everything below the roots permitted. What was judged is written to RECORDS as JSON at the end.
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { systemClock } from '../../../../system/clock.ts';
import { createNameLock } from '../name-lock.ts';
import { createSftpFilter } from '../sftp/filter.ts';
import { below, createFakeHost } from './fake-host.ts';

const [records, ...roots] = process.argv.slice(2);
const server = spawn('/usr/lib/openssh/sftp-server', { stdio: ['pipe', 'pipe', 'inherit'] });
const host = createFakeHost({
  toTarget: (data) => {
    if (!server.stdin.write(data)) process.stdin.pause();
  },
  toClient: (data) => {
    if (!process.stdout.write(data)) server.stdout.pause();
  },
  eofToTarget: () => server.stdin.end(),
  failed: (side, text) => {
    process.stderr.write(`${side}: ${text}\n`);
    server.kill();
    process.exitCode = 1;
  },
  rule: roots.length === 0 ? () => 'Run' : below(...roots),
});
server.stdin.on('drain', () => process.stdin.resume());
process.stdout.on('drain', () => server.stdout.resume());
const filter = createSftpFilter(host, {
  clock: systemClock,
  names: createNameLock(),
  targetVersion: 'SSH-2.0-OpenSSH_9.2p1',
});
process.stdin.on('data', (data: Buffer) => filter.fromClient(data));
process.stdin.on('end', () => filter.clientEof());
server.stdout.on('data', (data: Buffer) => filter.fromTarget(data));
server.stdout.on('end', () => {
  filter.targetEof();
  filter.closed();
  setImmediate(() => {
    if (records)
      writeFileSync(
        records,
        JSON.stringify(
          host.judged.map(({ id, command, ruling }) => ({
            ruling,
            text: command.text,
            facts: command.facts,
            result: host.results.get(id),
          })),
        ),
      );
    process.exit();
  });
});
