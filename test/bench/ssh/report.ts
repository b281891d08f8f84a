// SSH's part of docs/performance.md: the same sshd straight and through Sallyport, with the same algorithms, in turns.
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { formatRatio } from '../statistics.ts';
import { latenciesOf, measureKeystrokes } from './keystrokes.ts';
import { measureCommands, measureIdle, measureLogins, timesOf } from './sessions.ts';
import { figuresOf, measureTransfers } from './transfers.ts';
import { startWays, type Ways } from './ways.ts';

export const SSH_TITLE = '## SSH';

export interface SshBench {
  rounds: number;
  /** Of each file, MiB. */
  mib: number;
  keys: number;
  sessions: number;
}

/** Markdown that begins with `SSH_TITLE`. */
export async function reportSsh(
  bench: SshBench,
  table: (head: readonly string[], rows: readonly (readonly string[])[]) => string,
): Promise<string> {
  const ways = await startWays();
  try {
    // Before any load: what a load leaves behind would hide what an idle session takes.
    const idle = await measureIdle(ways, bench.sessions);
    const keys = latenciesOf(await measureKeystrokes(ways, bench.keys));
    const login = timesOf(await measureLogins(ways, bench.rounds * 5));
    const command = timesOf(await measureCommands(ways, bench.rounds * 10));
    const ms = (value: number, digits = 0): string => value.toFixed(digits);
    return [
      SSH_TITLE,
      `${intro(bench, ways)}`,
      table(
        ['file', 'direct, MB/s', 'sallyport, MB/s', '÷ direct', 'CPU a GB: gateway, s', 'both ends, s', 'direct, s'],
        await transferRows(ways, bench),
      ),
      table(
        ['milliseconds', 'direct', 'sallyport', 'added'],
        [
          ['key to its echo, p50', ms(keys.direct.p50, 2), ms(keys.through.p50, 2), ms(keys.added.p50, 2)],
          ['key to its echo, p99', ms(keys.direct.p99, 2), ms(keys.through.p99, 2), ms(keys.added.p99, 2)],
          ['`ssh HOST true`, a login', ms(login.direct), ms(login.through), ms(login.added)],
          ['`ssh HOST true` over a master', ms(command.direct), ms(command.through), ms(command.added)],
        ],
      ),
      `An idle session takes ${idle.perSession.toFixed(0)} KiB of the gateway (from ${idle.before.toFixed(0)} MiB with 10 sessions to ` +
        `${idle.with.toFixed(0)} MiB with ${idle.sessions}), each with a terminal and a connection to the target.`,
      '',
    ].join('\n\n');
  } finally {
    await ways.stop();
  }
}

function intro({ mib, rounds, keys }: SshBench, ways: Ways): string {
  const load = readFileSync('/proc/loadavg', 'utf8').split(' ', 1)[0]!;
  return `Written by \`BENCH_ONLY=ssh make bench\`, or with all the rest. OpenSSH's own programs and sshd, files of ${mib} MiB in memory,
${rounds} pairs of direct and through in turns, ${keys} keys each way in turns; ${ways.algorithms} on
both ways. The gateway judges each operation and command by five rules, records it, and takes the SHA-256 of what passes. CPU is
that of a process with all its threads and the kernel's work for it, for 10^9 bytes: the steadier figure where a machine has
other work. The load of this one, with ${cpus().length} processors for both ends and the gateway, was ${load} after the sessions and keys.
What the target shows is written to the records (write(2); fsync where the Connection says \`durability: Disk\`) before it
is shown; a key typed on a terminal is not recorded and waits for nothing.`;
}

async function transferRows(ways: Ways, { mib, rounds }: SshBench): Promise<string[][]> {
  const rows: string[][] = [];
  for (const transfer of await measureTransfers(ways, { mib, rounds })) {
    const { speed, direct, through, gateway, ends, endsDirect } = figuresOf(transfer, mib);
    const row = [
      transfer.name,
      direct.toFixed(0),
      through.toFixed(0),
      formatRatio(speed),
      ...[gateway, ends, endsDirect].map((value) => value.toFixed(1)),
    ];
    console.log(row.join('  '));
    rows.push(row);
  }
  return rows;
}
