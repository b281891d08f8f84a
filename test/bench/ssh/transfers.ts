// Large files by scp, sftp and a pipe, both ways, straight and through in turns.

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { median, ratio } from '../statistics.ts';
import { type Cost, measured, type Way, type Ways } from './ways.ts';

export interface Transfer {
  name: string;
  direct: Cost[];
  through: Cost[];
}

const MIB = 1024 * 1024;

/** Each of `kinds` in `rounds` pairs; the way that is first changes from pair to pair. */
export async function measureTransfers(
  ways: Ways,
  { mib, rounds, kinds = Object.keys(KINDS) }: { mib: number; rounds: number; kinds?: readonly string[] },
): Promise<Transfer[]> {
  const from = ways.file('from');
  const descriptor = fs.openSync(from, 'w');
  for (let written = 0; written < mib; written += 1) fs.writeSync(descriptor, randomBytes(MIB));
  fs.closeSync(descriptor);
  const to = ways.file('to');
  const transfers: Transfer[] = [];
  for (const name of kinds) {
    const transfer: Transfer = { name, direct: [], through: [] };
    for (let round = 0; round < rounds; round += 1) {
      const pair = round % 2 === 0 ? [ways.direct, ways.through] : [ways.through, ways.direct];
      for (const way of pair) {
        transfer[way.name].push(await measured(ways, ...KINDS[name]!(ways, way, from, to)));
        const moved = fs.statSync(to).size;
        if (moved !== mib * MIB) throw new Error(`${name} ${way.name} moved ${moved} bytes`);
        fs.rmSync(to);
      }
    }
    transfers.push(transfer);
  }
  fs.rmSync(from);
  return transfers;
}

type Kind = (ways: Ways, way: Way, from: string, to: string) => [string, string[]];

const shell = (line: string): [string, string[]] => ['sh', ['-c', line]];
const ssh = ({ config, host }: Way): string => `ssh ${config.join(' ')} ${host}`;

const KINDS: Readonly<Record<string, Kind>> = {
  'scp up': (_ways, way, from, to) => ['scp', ['-q', ...way.config, from, `${way.host}:${to}`]],
  'scp down': (_ways, way, from, to) => ['scp', ['-q', ...way.config, `${way.host}:${from}`, to]],
  'sftp up': (ways, way, from, to) => sftp(ways, way, `put ${from} ${to}`),
  'sftp down': (ways, way, from, to) => sftp(ways, way, `get ${from} ${to}`),
  'ssh cat up': (_ways, way, from, to) => shell(`${ssh(way)} 'cat > ${to}' < ${from}`),
  'ssh cat down': (_ways, way, from, to) => shell(`${ssh(way)} 'cat ${from}' > ${to}`),
};

function sftp(ways: Ways, way: Way, line: string): [string, string[]] {
  const batch = ways.file('batch');
  fs.writeFileSync(batch, `${line}\n`);
  return ['sftp', ['-q', '-b', batch, ...way.config, way.host]];
}

export interface TransferFigures {
  /** Through ÷ direct: of the speed, pair by pair. */
  speed: { median: number; min: number; max: number };
  /** Megabytes (10^6) a second. */
  direct: number;
  through: number;
  /** CPU seconds a gigabyte (10^9): of the gateway, and of client and sshd together with it and without. */
  gateway: number;
  ends: number;
  endsDirect: number;
  /** How much of the machine was in use, by whomever. */
  busy: number;
}

export function figuresOf({ direct, through }: Transfer, mib: number): TransferFigures {
  const megabytes = (mib * MIB) / 1e6;
  const speed = (costs: readonly Cost[]): number[] => costs.map(({ seconds }) => megabytes / seconds);
  const perGigabyte = (costs: readonly Cost[], of: (cost: Cost) => number): number =>
    median(costs.map(of)) / (megabytes / 1000);
  const ends = ({ client, sshd }: Cost): number => client + sshd;
  return {
    speed: ratio(speed(through), speed(direct)),
    direct: median(speed(direct)),
    through: median(speed(through)),
    gateway: perGigabyte(through, ({ gateway }) => gateway),
    ends: perGigabyte(through, ends),
    endsDirect: perGigabyte(direct, ends),
    busy: median([...direct, ...through].map((cost) => cost.busy)),
  };
}
